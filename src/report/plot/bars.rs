//! Grouped horizontal bars from zero: one group an x (a target), one bar a series (a source).
//!
//! Horizontal, since names of sources and targets are long and phones are narrow.

use super::{Marks, PanelSvg, Plot, Scale, WIDTH, axis, fit, lines::describe, number, text_width};
use crate::{
    error::Result,
    report::{
        frame::label,
        html::escape,
        summary::{Panel, Summary},
    },
};

const BAR: f64 = 15.0;
const GAP: f64 = 3.0;

/// Means as bars with error bars, grouped by x.
pub fn bars(summary: &Summary, title: &str) -> Result<Plot> {
    let panels = summary.panels.iter().map(|p| panel(summary, p)).collect();
    let legend = summary.legend();
    Ok(Plot {
        title: title.into(),
        caption: summary.caption(),
        panels,
        legend,
        legend_title: summary.spec.color.join(" · "),
        data: Some(summary.data()?),
        marks: Marks::Bars,
    })
}

fn panel(summary: &Summary, panel: &Panel) -> PanelSvg {
    let points: Vec<(f64, Option<(f64, f64)>)> =
        summary.panels.iter().flat_map(|p| &p.series).flat_map(|s| &s.points).map(|p| (p.mean, p.bar)).collect();
    let mut with_zero = points;
    with_zero.push((0.0, None));
    let (low, high) = axis::range(&with_zero);
    let (left, right, top) = (12.0, WIDTH - 20.0 - text_width("0.000"), 8.0);
    let x = Scale::linear(low, high, left, right);
    let mut groups = String::new();
    let mut y = top;
    for value in &summary.xs {
        let rows: Vec<_> =
            panel.series.iter().filter_map(|s| s.points.iter().find(|p| p.x == *value).map(|p| (s, p))).collect();
        if rows.is_empty() {
            continue;
        }
        groups.push_str(&format!(
            "<text x=\"{}\" y=\"{}\">{}</text>",
            number(left + 4.0),
            number(y + 12.0),
            escape(&fit(&label(value), right - left))
        ));
        y += 18.0;
        for (series, p) in rows {
            let (zero, end) = (x.at(0.0), x.at(p.mean));
            let mut told = format!("{}: {}, mean {:.4}", series.name, label(value), p.mean);
            groups.push_str(&format!(
                "<g><rect class=\"bar {}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{BAR}\" rx=\"1.5\"/>",
                summary.look(&series.name).class(),
                number(zero.min(end)),
                number(y),
                number((end - zero).abs())
            ));
            let mut label_at = end.max(zero);
            if let Some((a, b)) = p.bar {
                let (a, b) = (x.at(a).clamp(left, right), x.at(b).clamp(left, right));
                let middle = y + BAR / 2.0;
                let w = format!(
                    "M{a} {m}H{b}M{a} {t}V{u}M{b} {t}V{u}",
                    a = number(a),
                    b = number(b),
                    m = number(middle),
                    t = number(middle - 3.0),
                    u = number(middle + 3.0)
                );
                groups.push_str(&format!("<path class=\"halo\" d=\"{w}\"/><path class=\"over\" d=\"{w}\"/>",));
                told.push_str(&format!(" ({:.4} to {:.4})", p.bar.map_or(0.0, |b| b.0), p.bar.map_or(0.0, |b| b.1)));
                label_at = label_at.max(b);
            }
            groups.push_str(&format!(
                "<text class=\"tick\" x=\"{}\" y=\"{}\">{:.3}</text><title>{}, {} runs</title></g>",
                number(label_at + 5.0),
                number(y + BAR - 3.5),
                p.mean,
                escape(told.trim_start_matches(": ")),
                p.n
            ));
            y += BAR + GAP;
        }
        y += 8.0;
    }
    let bottom = y;
    let all: Vec<f64> =
        axis::ticks(low, high, 5).into_iter().filter(|t| *t >= low - 1e-9 && *t <= high + 1e-9).collect();
    let mut body = String::new();
    for (t, text) in all.iter().zip(axis::tick_labels(&all)) {
        let at = number(x.at(*t));
        body.push_str(&format!("<path class=\"grid\" d=\"M{at} {}V{}\"/>", number(top), number(bottom)));
        body.push_str(&format!("<text class=\"tick mid\" x=\"{at}\" y=\"{}\">{text}</text>", number(bottom + 16.0)));
    }
    body.push_str(&groups);
    let zero = number(x.at(0.0));
    body.push_str(&format!("<path class=\"base\" d=\"M{zero} {}V{}\"/>", number(top), number(bottom)));
    body.push_str(&format!(
        "<text class=\"mid\" x=\"{}\" y=\"{}\">{}</text>",
        number((left + right) / 2.0),
        number(bottom + 34.0),
        escape(&summary.spec.y)
    ));
    PanelSvg { title: panel.name.clone(), height: bottom + 42.0, body, description: describe(summary, panel) }
}
