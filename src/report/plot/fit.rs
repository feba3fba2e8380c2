//! A fitted law beside what it was fitted to: points with error bars, the curve, and its interval as a band.

use serde_json::Value;

use super::{
    Horizontal, Marks, PanelSvg, Plot, Scale, WIDTH, axis,
    lines::{numeric, scale},
    marker, number, whisker,
};
use crate::{
    error::{Error, Result},
    report::{
        frame::{Frame, label, values},
        html::escape,
        summary::{Panel, Spec, Summary},
    },
};

/// Names of the column that holds what a law says, in the order in which they are looked for.
const SAID: [&str; 4] = ["predicted", "fit", "fitted", "value"];

/// One fitted curve: x, what it says there, and the ends of its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Law {
    pub panel: String,
    pub series: String,
    pub points: Vec<axis::Placed>,
}

impl Law {
    /// The curves of a table with the columns of `spec.x`, one of `predicted`, `fit`, `fitted` and `value`, and,
    /// where there is an interval, `low` and `high`. Panels and series are told apart as those of the points are.
    ///
    /// # Errors
    /// Columns that are missing; an x that is no number.
    pub fn read(frame: &Frame, summary: &Summary) -> Result<Vec<Law>> {
        let spec = &summary.spec;
        let said = SAID
            .iter()
            .copied()
            .chain([spec.y.as_str()])
            .find(|c| frame.column(c).is_ok())
            .ok_or_else(|| Error::invalid(format!("the fit has no column {} or {}", SAID.join(", "), spec.y)))?;
        let (x, y) = (values(frame, &spec.x)?, values(frame, said)?);
        let end = |name: &str| values(frame, name).unwrap_or_else(|_| vec![Value::Null; x.len()]);
        let (low, high) = (end("low"), end("high"));
        let named = |columns: &[String]| -> Result<Vec<String>> {
            let held: Vec<(&String, Vec<Value>)> = columns
                .iter()
                .filter(|c| frame.column(c).is_ok())
                .map(|c| Ok((c, values(frame, c)?)))
                .collect::<Result<_>>()?;
            Ok((0..x.len()).map(|row| Spec::name(held.iter().map(|(c, v)| (c.as_str(), &v[row])))).collect())
        };
        let (panels, series) = (named(&spec.panel)?, named(&spec.color)?);
        let mut laws: Vec<Law> = Vec::new();
        for row in 0..x.len() {
            let Some(said) = y[row].as_f64() else { continue };
            let at = numeric(&x[row], Horizontal::Linear, &spec.x)?;
            let band = low[row].as_f64().zip(high[row].as_f64());
            let place = laws.iter().position(|l| l.panel == panels[row] && l.series == series[row]);
            let place = place.unwrap_or_else(|| {
                laws.push(Law { panel: panels[row].clone(), series: series[row].clone(), points: Vec::new() });
                laws.len() - 1
            });
            laws[place].points.push((at, said, band));
        }
        laws.iter_mut().for_each(|l| l.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        Ok(laws)
    }
}

/// Points of a summary with the laws that were fitted to them, over a logarithmic x unless said otherwise.
///
/// # Errors
/// A value of x that has no place on the axis; a law of a series that has no points.
pub fn scaling_fit(summary: &Summary, laws: &[Law], across: Horizontal, title: &str) -> Result<Plot> {
    for x in &summary.xs {
        numeric(x, across, &summary.spec.x)?;
    }
    let no_place = |p: &axis::Placed| across == Horizontal::Logarithmic && p.0 <= 0.0;
    if let Some(law) = laws.iter().find(|l| l.points.iter().any(no_place)) {
        return Err(Error::invalid(format!("the fit of {} reaches {} 0", law.series, summary.spec.x))
            .with_hint("say log_x: false"));
    }
    let panels: Vec<PanelSvg> = summary
        .panels
        .iter()
        .map(|p| {
            let own: Vec<&Law> = laws.iter().filter(|l| l.panel == p.name || l.panel.is_empty()).collect();
            panel(summary, p, &own, across)
        })
        .collect();
    let shown: usize =
        laws.iter().filter(|l| summary.panels.iter().any(|p| p.name == l.panel || l.panel.is_empty())).count();
    if shown == 0 {
        let known: Vec<&str> = summary.panels.iter().map(|p| p.name.as_str()).collect();
        return Err(Error::invalid("no fitted curve belongs to the points of this plot")
            .with_hint(format!("the points are of {}", known.join(", "))));
    }
    let mut caption = summary.caption();
    caption.push_str(" Lines: the fitted law; bands: its 95 % interval where the fit has one.");
    if across == Horizontal::Logarithmic {
        caption.push_str(&format!(" Logarithmic scale of {}.", summary.spec.x));
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

fn panel(summary: &Summary, panel: &Panel, laws: &[&Law], across: Horizontal) -> PanelSvg {
    let height = 260.0;
    let measured = panel.series.iter().flat_map(|s| &s.points).map(|p| (p.mean, p.bar));
    let said = laws.iter().flat_map(|l| &l.points).map(|p| (p.1, p.2));
    let range = axis::range(&measured.chain(said).collect::<Vec<_>>());
    let mut f = axis::Frame::new(range, &summary.spec.y, WIDTH, height, 42.0);
    let of_points = panel.series.iter().flat_map(|s| &s.points);
    let mut xs: Vec<f64> = of_points.map(|p| numeric(&p.x, across, &summary.spec.x).unwrap_or_default()).collect();
    xs.extend(laws.iter().flat_map(|l| &l.points).map(|p| p.0));
    let x = scale(&xs, across, &f);
    f.numeric_x(&x, &summary.spec.x, height);
    let mut body = std::mem::take(&mut f.body);
    let mut description = super::lines::describe(summary, panel);
    for law in laws {
        body.push_str(&curve(law, summary, &x, &f));
        if let Some(last) = law.points.last() {
            description.push_str(&format!(" The law of {} says {:.3} at {}.", law.series, last.1, axis::short(last.0)));
        }
    }
    for series in &panel.series {
        let look = summary.look(&series.name);
        body.push_str(&format!("<g class=\"{}\">", look.class()));
        for p in &series.points {
            let (at, y) = (x.at(numeric(&p.x, across, &summary.spec.x).unwrap_or_default()), f.clip(p.mean).0);
            let bar = p.bar.map(|(l, h)| whisker(at, f.clip(l), f.clip(h), true)).unwrap_or_default();
            body.push_str(&format!(
                "<g>{bar}{}<title>{}</title></g>",
                marker(look.order, at, y),
                escape(&format!(
                    "{} {} {}, mean {:.4}, {} runs",
                    series.name,
                    summary.spec.x,
                    label(&p.x),
                    p.mean,
                    p.n
                ))
            ));
        }
        body.push_str("</g>");
    }
    PanelSvg { title: panel.name.clone(), height, body, description }
}

fn curve(law: &Law, summary: &Summary, x: &Scale, f: &axis::Frame) -> String {
    let point = |at: f64, y: f64| format!("{} {}", number(x.at(at)), number(f.clip(y).0));
    let path: Vec<String> = law.points.iter().map(|p| point(p.0, p.1)).collect();
    let held: Vec<(f64, (f64, f64))> = law.points.iter().filter_map(|p| Some((p.0, p.2?))).collect();
    let mut out = format!("<g class=\"{}\">", summary.look(&law.series).class());
    if held.len() > 1 {
        let upper = held.iter().map(|(at, b)| point(*at, b.1));
        let lower = held.iter().rev().map(|(at, b)| point(*at, b.0));
        out.push_str(&format!("<path class=\"band\" d=\"M{}Z\"/>", upper.chain(lower).collect::<Vec<_>>().join("L")));
    }
    out.push_str(&format!("<path class=\"line\" d=\"M{}\"/></g>", path.join("L")));
    out
}
