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

/// Names of the column that holds what a law says, after `fitted_Y` and `Y`, in the order in which they are looked for.
const SAID: [&str; 4] = ["predicted", "fit", "fitted", "value"];

/// One fitted curve: x, what it says there, and the ends of its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Law {
    pub panel: String,
    pub series: String,
    pub points: Vec<axis::Placed>,
}

impl Law {
    /// The curves of a table with the column of `spec.x`, one that says what the law does (`fitted_Y`, `Y`, `predicted`,
    /// `fit`, `fitted`, `value`), and, where there is an interval, `NAME_low` and `NAME_high` or `low` and `high`. Panels and series are told apart as those of the points are.
    ///
    /// # Errors
    /// Columns that are missing; an x that is no number.
    pub fn read(frame: &Frame, summary: &Summary) -> Result<Vec<Law>> {
        let spec = &summary.spec;
        let fitted = format!("fitted_{}", spec.y);
        let said =
            [fitted.as_str(), spec.y.as_str()].into_iter().chain(SAID).find(|c| frame.column(c).is_ok()).ok_or_else(
                || Error::invalid(format!("the fit has no column {fitted}, {} or {}", spec.y, SAID.join(", "))),
            )?;
        let (x, y) = (values(frame, &spec.x)?, values(frame, said)?);
        let end = |name: &str| {
            let own = values(frame, &format!("{said}_{name}")).or_else(|_| values(frame, name));
            own.unwrap_or_else(|_| vec![Value::Null; x.len()])
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{frame::Rows, summary::summarise};
    use serde_json::json;

    fn points() -> Summary {
        let mut rows = Rows::new();
        for (size, score) in [(100, 0.5), (100, 0.52), (1000, 0.7), (1000, 0.72)] {
            rows.push([("size", json!(size)), ("score", json!(score)), ("law", json!("power"))]);
        }
        summarise(&rows.frame().unwrap(), &Spec::new("size", "score").color(&["law"])).unwrap()
    }

    fn law(last: f64) -> Frame {
        let mut rows = Rows::new();
        for (size, score) in [(1000, 0.71), (100, 0.51), (10_000, last)] {
            rows.push([
                ("law", json!("power")),
                ("size", json!(size)),
                ("score", json!(score)),
                ("score_low", json!(score - 0.05)),
                ("score_high", json!(score + 0.05)),
            ]);
        }
        rows.frame().unwrap()
    }

    #[test]
    fn the_law_reaches_beyond_the_points_with_its_band() {
        let summary = points();
        let laws = Law::read(&law(0.8), &summary).unwrap();
        assert_eq!(laws.len(), 1);
        let sizes: Vec<f64> = laws[0].points.iter().map(|p| p.0).collect();
        assert_eq!(sizes, [100.0, 1000.0, 10_000.0], "in the order of x");
        let plot = scaling_fit(&summary, &laws, Horizontal::Logarithmic, "t").unwrap();
        let body = &plot.panels[0].body;
        assert_eq!((body.matches("class=\"band\"").count(), body.matches("class=\"line\"").count()), (1, 1));
        assert!(body.contains(">10k<"), "{body}");
        assert!(plot.panels[0].description.contains("says 0.800 at 10k"), "{}", plot.panels[0].description);
        plot.drawing().png().unwrap();
    }

    #[test]
    fn a_law_of_other_points_or_without_a_column_is_refused() {
        let summary = points();
        let mut laws = Law::read(&law(0.8), &summary).unwrap();
        laws[0].panel = "elsewhere".into();
        let e = scaling_fit(&summary, &laws, Horizontal::Logarithmic, "t").unwrap_err();
        assert!(e.to_string().contains("no fitted curve belongs"), "{e}");
        let mut rows = Rows::new();
        rows.push([("size", json!(1)), ("law", json!("power"))]);
        let e = Law::read(&rows.frame().unwrap(), &summary).unwrap_err();
        assert!(e.to_string().starts_with("the fit has no column fitted_score, score or predicted"), "{e}");
    }
}
