//! Lines with error bars over a categorical x: the shots curve.

use super::{Marks, PanelSvg, Plot, WIDTH, axis, fit, marker, number, style, text_width};
use crate::{
    error::Result,
    report::{
        frame::Frame,
        frame::label,
        html::escape,
        summary::{Panel, Spec, Summary, summarise},
    },
};

/// Means with error bars over x in its natural order (1, 5, 10, full), equally spaced.
pub fn shots_curve(frame: &Frame, spec: &Spec, title: &str) -> Result<Plot> {
    let summary = summarise(frame, spec)?;
    let values: Vec<Vec<_>> = summary
        .panels
        .iter()
        .map(|p| p.series.iter().flat_map(|s| &s.points).map(|p| (p.mean, p.bar)).collect())
        .collect();
    let ranges = axis::ranges(&values);
    let panels: Vec<PanelSvg> = summary.panels.iter().zip(&ranges).map(|(p, r)| panel(&summary, p, *r)).collect();
    let mut caption = summary.caption();
    if ranges.iter().any(|r| *r != ranges[0]) {
        caption.push_str(" Vertical scales differ.");
    }
    let cut = values.iter().zip(&ranges).any(|(v, r)| v.iter().any(|(_, b)| b.is_some_and(|b| b.0 < r.0 || b.1 > r.1)));
    if cut {
        caption.push_str(" Bars that end in an arrow go on beyond the axis.");
    }
    let legend = if summary.series.len() > 1 { summary.series.clone() } else { Vec::new() };
    Ok(Plot {
        title: title.into(),
        caption,
        panels,
        legend,
        legend_title: summary.spec.color.join(" · "),
        data: Some(summary.data()?),
        marks: Marks::Points,
    })
}

fn panel(summary: &Summary, panel: &Panel, range: (f64, f64)) -> PanelSvg {
    let labels: Vec<String> = summary.xs.iter().map(label).collect();
    let widest = labels.iter().map(|l| text_width(l)).fold(0.0, f64::max);
    let tilted = widest > 330.0 / labels.len().max(1) as f64 - 6.0;
    let below = if tilted { 34.0 + 0.55 * widest.min(120.0) } else { 42.0 };
    let height = 218.0 + below;
    let mut f = axis::Frame::new(range, &summary.spec.y, WIDTH, height, below);
    let band = (f.right - f.left) / labels.len().max(1) as f64;
    let centre = |i: usize| f.left + (i as f64 + 0.5) * band;
    let mut body = std::mem::take(&mut f.body);
    for (i, l) in labels.iter().enumerate() {
        let (x, y) = (centre(i), f.bottom + 17.0);
        if tilted {
            body.push_str(&format!(
                "<text class=\"tick end\" transform=\"translate({},{}) rotate(-33)\">{}</text>",
                number(x + 4.0),
                number(y - 4.0),
                escape(&fit(l, 120.0))
            ));
        } else {
            body.push_str(&format!(
                "<text class=\"tick mid\" x=\"{}\" y=\"{}\">{}</text>",
                number(x),
                number(y),
                escape(l)
            ));
        }
    }
    body.push_str(&format!(
        "<text class=\"mid\" x=\"{}\" y=\"{}\">{}</text>",
        number((f.left + f.right) / 2.0),
        number(height - 6.0),
        escape(&summary.spec.x)
    ));
    // Series stand side by side within a band, so that their bars can be told apart.
    let apart = (band * 0.55 / summary.series.len().max(1) as f64).min(9.0);
    for series in &panel.series {
        let order = summary.series.iter().position(|n| *n == series.name).unwrap_or(0);
        let shift = (order as f64 - (summary.series.len() as f64 - 1.0) / 2.0) * apart;
        let place: Vec<(f64, f64)> = series
            .points
            .iter()
            .map(|p| {
                let i = summary.xs.iter().position(|x| *x == p.x).unwrap_or(0);
                (centre(i) + shift, f.clip(p.mean).0)
            })
            .collect();
        let path: Vec<String> = place.iter().map(|(x, y)| format!("{} {}", number(*x), number(*y))).collect();
        body.push_str(&format!("<g class=\"{}\"><path class=\"line\" d=\"M{}\"/>", style(order), path.join("L")));
        for (p, (x, y)) in series.points.iter().zip(&place) {
            let mut told = format!("{}: {} {}, mean {:.4}", series.name, summary.spec.x, label(&p.x), p.mean);
            body.push_str("<g>");
            if let Some((low, high)) = p.bar {
                body.push_str(&whisker(*x, f.clip(low), f.clip(high)));
                told.push_str(&format!(" ({low:.4} to {high:.4})"));
            }
            body.push_str(&format!(
                "{}<title>{}, {} runs</title></g>",
                marker(order, *x, *y),
                escape(told.trim_start_matches(": ")),
                p.n
            ));
        }
        body.push_str("</g>");
    }
    PanelSvg { title: panel.name.clone(), height, body, description: describe(summary, panel) }
}

/// A bar with caps, or an arrow head at an end that was cut.
fn whisker(x: f64, low: (f64, bool), high: (f64, bool)) -> String {
    let end = |(y, cut): (f64, bool), inward: f64| {
        let d = if cut { 4.0 * inward } else { 0.0 };
        format!(
            "M{} {}L{} {}L{} {}",
            number(x - 3.0),
            number(y + d),
            number(x),
            number(y),
            number(x + 3.0),
            number(y + d)
        )
    };
    format!(
        "<path class=\"whisker\" d=\"M{x} {}V{}{}{}\"/>",
        number(low.0),
        number(high.0),
        end(low, -1.0),
        end(high, 1.0),
        x = number(x)
    )
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
