//! Lines with error bars: over categories (the shots curve) or over a number (the scale curve).

use serde_json::Value;

use super::{Marks, PanelSvg, Plot, Scale, WIDTH, axis, fit, marker, number, text_width, whisker};
use crate::{
    error::{Error, Result},
    report::{
        frame::label,
        html::escape,
        summary::{Panel, Summary},
    },
};

/// What the horizontal axis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Horizontal {
    /// Values in their natural order (1, 5, 10, full), equally spaced.
    Categories,
    Linear,
    /// Numbers above zero at distances of their ratios.
    Logarithmic,
}

/// Means with error bars over x in its natural order (1, 5, 10, full), equally spaced.
pub fn shots_curve(summary: &Summary, title: &str) -> Result<Plot> {
    curve(summary, Horizontal::Categories, title)
}

/// Means with error bars over x.
///
/// # Errors
/// A value of x that is no number, or that has no logarithm.
pub fn curve(summary: &Summary, across: Horizontal, title: &str) -> Result<Plot> {
    if across != Horizontal::Categories {
        for x in &summary.xs {
            numeric(x, across, &summary.spec.x)?;
        }
    }
    let values: Vec<Vec<_>> = summary
        .panels
        .iter()
        .map(|p| p.series.iter().flat_map(|s| &s.points).map(|p| (p.mean, p.bar)).collect())
        .collect();
    let ranges = axis::ranges(&values);
    let panels: Vec<PanelSvg> =
        summary.panels.iter().zip(&ranges).map(|(p, r)| panel(summary, p, *r, across)).collect();
    let mut caption = summary.caption();
    if across == Horizontal::Logarithmic {
        caption.push_str(&format!(" Logarithmic scale of {}.", summary.spec.x));
    }
    if ranges.iter().any(|r| *r != ranges[0]) {
        caption.push_str(" Vertical scales differ.");
    }
    let cut = values.iter().zip(&ranges).any(|(v, r)| v.iter().any(|(_, b)| b.is_some_and(|b| b.0 < r.0 || b.1 > r.1)));
    if cut {
        caption.push_str(" Bars that end in an arrow go on beyond the axis.");
    }
    Ok(Plot {
        title: title.into(),
        caption,
        panels,
        legend: summary.legend(),
        legend_title: summary.spec.color.join(" · "),
        data: Some(summary.data()?),
        marks: Marks::Points,
    })
}

/// A number of the horizontal axis, also where it is written as text.
pub(super) fn numeric(x: &Value, across: Horizontal, name: &str) -> Result<f64> {
    let number = x.as_f64().or_else(|| x.as_str().and_then(|s| s.parse().ok())).filter(|v: &f64| v.is_finite());
    match number {
        None => Err(Error::invalid(format!("{name} is {}, which is no number to place on an axis", label(x)))
            .with_hint("use shots_curve for categories, or leave these rows out with where")),
        Some(v) if v <= 0.0 && across == Horizontal::Logarithmic => {
            Err(Error::invalid(format!("{name} is {v}, which has no place on a logarithmic axis"))
                .with_hint("say log_x: false"))
        }
        Some(v) => Ok(v),
    }
}

/// The scale of a numeric axis whose ends are a little outside the data.
pub(super) fn scale(xs: &[f64], across: Horizontal, f: &axis::Frame) -> Scale {
    let (low, high) = xs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
    let log = across == Horizontal::Logarithmic;
    let (low, high) = match (low < high, log) {
        (true, _) => (low, high),
        (false, true) => (low / 2.0, high * 2.0),
        (false, false) => (low - 1.0, high + 1.0),
    };
    Scale { low, high, from: f.left + 14.0, to: f.right - 14.0, log }
}

fn panel(summary: &Summary, panel: &Panel, range: (f64, f64), across: Horizontal) -> PanelSvg {
    let labels: Vec<String> = summary.xs.iter().map(label).collect();
    let widest = labels.iter().map(|l| text_width(l)).fold(0.0, f64::max);
    let categories = across == Horizontal::Categories;
    let tilted = categories && widest > 330.0 / labels.len().max(1) as f64 - 6.0;
    let below = if tilted { 34.0 + 0.55 * widest.min(120.0) } else { 42.0 };
    let height = 218.0 + below;
    let mut f = axis::Frame::new(range, &summary.spec.y, WIDTH, height, below);
    let band = (f.right - f.left) / labels.len().max(1) as f64;
    // Series stand side by side within a band, so that their bars can be told apart; on a scale of numbers
    // the shift is small, since it is a falsehood there.
    let many = summary.series.len().max(1) as f64;
    let apart = if categories { (band * 0.55 / many).min(9.0) } else { (10.0 / many).min(2.5) };
    let place_of: Vec<f64> = if categories {
        (0..labels.len()).map(|i| f.left + (i as f64 + 0.5) * band).collect()
    } else {
        let xs: Vec<f64> = summary.xs.iter().map(|x| numeric(x, across, &summary.spec.x).unwrap_or_default()).collect();
        let scale = scale(&xs, across, &f);
        f.numeric_x(&scale, &summary.spec.x, height);
        xs.iter().map(|x| scale.at(*x)).collect()
    };
    if categories {
        for (x, l) in place_of.iter().zip(&labels) {
            let y = f.bottom + 17.0;
            let text = if tilted {
                format!(
                    "<text class=\"tick end\" transform=\"translate({},{}) rotate(-33)\">{}</text>",
                    number(x + 4.0),
                    number(y - 4.0),
                    escape(&fit(l, 120.0))
                )
            } else {
                format!("<text class=\"tick mid\" x=\"{}\" y=\"{}\">{}</text>", number(*x), number(y), escape(l))
            };
            f.body.push_str(&text);
        }
        f.x_name(&summary.spec.x, height);
    }
    let mut body = std::mem::take(&mut f.body);
    for series in &panel.series {
        let order = summary.series.iter().position(|n| *n == series.name).unwrap_or(0);
        let shift = (order as f64 - (summary.series.len() as f64 - 1.0) / 2.0) * apart;
        let place: Vec<(f64, f64)> = series
            .points
            .iter()
            .map(|p| {
                let i = summary.xs.iter().position(|x| *x == p.x).unwrap_or(0);
                (place_of[i] + shift, f.clip(p.mean).0)
            })
            .collect();
        let path: Vec<String> = place.iter().map(|(x, y)| format!("{} {}", number(*x), number(*y))).collect();
        let look = summary.look(&series.name);
        body.push_str(&format!("<g class=\"{}\"><path class=\"line\" d=\"M{}\"/>", look.class(), path.join("L")));
        for (p, (x, y)) in series.points.iter().zip(&place) {
            let mut told = format!("{}: {} {}, mean {:.4}", series.name, summary.spec.x, label(&p.x), p.mean);
            body.push_str("<g>");
            if let Some((low, high)) = p.bar {
                body.push_str(&whisker(*x, f.clip(low), f.clip(high), true));
                told.push_str(&format!(" ({low:.4} to {high:.4})"));
            }
            body.push_str(&format!(
                "{}<title>{}, {} runs</title></g>",
                marker(look.order, *x, *y),
                escape(told.trim_start_matches(": ")),
                p.n
            ));
        }
        body.push_str("</g>");
    }
    PanelSvg { title: panel.name.clone(), height, body, description: describe(summary, panel) }
}

/// One sentence a series: where it starts and ends.
pub(super) fn describe(summary: &Summary, panel: &Panel) -> String {
    let mut out = format!("{} over {}.", summary.spec.y, summary.spec.x);
    for s in &panel.series {
        if let (Some(first), Some(last)) = (s.points.first(), s.points.last()) {
            let name = if s.name.is_empty() { "all" } else { &s.name };
            out.push_str(&format!(
                " {name}: {:.3} at {}, {:.3} at {}.",
                first.mean,
                label(&first.x),
                last.mean,
                label(&last.x)
            ));
        }
    }
    out
}
