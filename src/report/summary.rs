//! Mean and spread over repeats, by series and panel: what plots and summary tables show.
//!
//! Nothing is averaged silently: of a metrics frame, only the repeat columns (`seed`) are; every other
//! axis that varies becomes the colour, the x, or a panel of its own.

use serde_json::Value;

use super::{
    frame::{Frame, Rows, label, natural_order, values},
    html::Table,
};
use crate::{
    error::{Error, Result, nearest},
    eval::statistic::{interval::t_interval, mean, variance},
};

/// Columns of a metrics frame that are no axes: the measurement itself, and facts that follow from the axes.
const MEASUREMENT: [&str; 7] = ["metric", "class", "value", "rows", "positives", "train_images", "steps"];

/// What the bars around a mean are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// 95 % Student's t interval of the mean.
    #[default]
    Interval,
    /// One standard deviation (n − 1) to each side.
    Deviation,
}

/// What to summarise.
#[derive(Clone, Debug)]
pub struct Spec {
    pub x: String,
    /// A metric of a metrics frame, or a numeric column.
    pub y: String,
    /// Columns whose values together name a series.
    pub color: Vec<String>,
    /// Columns whose values together name a panel; other axes that vary are added.
    pub panel: Vec<String>,
    /// Columns that are averaged over.
    pub repeat: Vec<String>,
    pub spread: Spread,
}

impl Spec {
    pub fn new(x: &str, y: &str) -> Self {
        Spec {
            x: x.into(),
            y: y.into(),
            color: Vec::new(),
            panel: Vec::new(),
            repeat: vec!["seed".into()],
            spread: Spread::default(),
        }
    }

    pub fn color(mut self, names: &[&str]) -> Self {
        self.color = names.iter().map(|n| n.to_string()).collect();
        self
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub x: Value,
    /// Repeats with a value, and without.
    pub n: usize,
    pub undefined: usize,
    pub mean: f64,
    /// `None` with one repeat.
    pub bar: Option<(f64, f64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    /// In the natural order of x.
    pub points: Vec<Point>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    pub name: String,
    pub series: Vec<Series>,
}

#[derive(Clone, Debug)]
pub struct Summary {
    pub spec: Spec,
    pub panels: Vec<Panel>,
    /// Every series name of every panel, in one order, so that colours agree across panels.
    pub series: Vec<String>,
    /// Every x in natural order.
    pub xs: Vec<Value>,
}

/// The values of the named columns, row by row.
struct Keys(Vec<(String, Vec<Value>)>);

impl Keys {
    fn new(frame: &Frame, names: &[String]) -> Result<Self> {
        Ok(Keys(names.iter().map(|n| Ok((n.clone(), values(frame, n)?))).collect::<Result<_>>()?))
    }

    fn at(&self, row: usize) -> Vec<Value> {
        self.0.iter().map(|(_, v)| v[row].clone()).collect()
    }

    /// `bit-r50x1 · 0.1`; numbers alone would say nothing, so they carry their column's name.
    fn name(&self, key: &[Value]) -> String {
        let parts: Vec<String> = self
            .0
            .iter()
            .zip(key)
            .filter(|(_, v)| !v.is_null())
            .map(|((n, _), v)| if v.is_string() { label(v) } else { format!("{n} {}", label(v)) })
            .collect();
        parts.join(" · ")
    }
}

fn sorted_keys(mut keys: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    keys.sort_by(|a, b| {
        a.iter().zip(b).map(|(a, b)| natural_order(a, b)).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
    keys.dedup();
    keys
}

/// Groups a frame.
///
/// # Errors
/// Unknown columns and metrics, with those that there are; nothing left to show.
pub fn summarise(frame: &Frame, spec: &Spec) -> Result<Summary> {
    let (rows, y) = measured(frame, &spec.y)?;
    let mut spec = spec.clone();
    spec.repeat.retain(|r| frame.column(r).is_ok() && *r != spec.x && !spec.color.contains(r));
    if frame.column("metric").is_ok() && frame.column("value").is_ok() {
        for c in frame.columns() {
            let name = c.name().to_string();
            let used = MEASUREMENT.contains(&name.as_str())
                || name == spec.x
                || [&spec.color, &spec.panel, &spec.repeat].iter().any(|l| l.contains(&name));
            if !used {
                let all = values(frame, &name)?;
                if rows.iter().any(|&r| all[r] != all[rows[0]]) {
                    spec.panel.push(name);
                }
            }
        }
    }
    let x = values(frame, &spec.x)?;
    let (color, panel) = (Keys::new(frame, &spec.color)?, Keys::new(frame, &spec.panel)?);
    let mut xs: Vec<Value> = rows.iter().map(|&r| x[r].clone()).collect();
    xs.sort_by(natural_order);
    xs.dedup();
    let colors = sorted_keys(rows.iter().map(|&r| color.at(r)).collect());
    let panels = sorted_keys(rows.iter().map(|&r| panel.at(r)).collect());
    let mut out = Vec::new();
    for p in &panels {
        let mut series = Vec::new();
        for c in &colors {
            let of: Vec<usize> = rows.iter().copied().filter(|&r| panel.at(r) == *p && color.at(r) == *c).collect();
            let points: Vec<Point> = xs
                .iter()
                .filter_map(|at| point(at, of.iter().filter(|&&r| x[r] == *at).map(|&r| y[r]), spec.spread))
                .collect();
            if !points.is_empty() {
                series.push(Series { name: color.name(c), points });
            }
        }
        if !series.is_empty() {
            out.push(Panel { name: panel.name(p), series });
        }
    }
    if out.is_empty() {
        return Err(Error::invalid(format!("{} has no defined value to show", spec.y)));
    }
    let series: Vec<String> = colors
        .iter()
        .map(|c| color.name(c))
        .filter(|n| out.iter().any(|p| p.series.iter().any(|s| s.name == *n)))
        .collect();
    Ok(Summary { spec, panels: out, series, xs })
}

/// Rows that hold the measure (about all classes), and its value in every row of the frame.
fn measured(frame: &Frame, name: &str) -> Result<(Vec<usize>, Vec<Option<f64>>)> {
    let numbers =
        |column: &str| -> Result<Vec<Option<f64>>> { Ok(values(frame, column)?.iter().map(Value::as_f64).collect()) };
    let long = frame.column("metric").is_ok() && frame.column("value").is_ok();
    if long {
        let metric = values(frame, "metric")?;
        let class = values(frame, "class").unwrap_or_else(|_| vec![Value::Null; metric.len()]);
        let rows: Vec<usize> = (0..metric.len()).filter(|&r| metric[r] == *name && class[r].is_null()).collect();
        if !rows.is_empty() {
            return Ok((rows, numbers("value")?));
        }
        if frame.column(name).is_err() {
            let mut known: Vec<String> = metric.iter().map(label).collect();
            known.sort();
            known.dedup();
            let error = Error::invalid(format!("no metric {name}; there are {}", known.join(", ")));
            return Err(match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => error.with_hint(format!("did you mean {near}?")),
                None => error,
            });
        }
    }
    Ok(((0..frame.height()).collect(), numbers(name)?))
}

fn point(x: &Value, all: impl Iterator<Item = Option<f64>>, spread: Spread) -> Option<Point> {
    let all: Vec<Option<f64>> = all.collect();
    let y: Vec<f64> = all.iter().flatten().copied().collect();
    let mean = mean(&y)?;
    let bar = match spread {
        Spread::Interval => t_interval(&y, 0.95).map(|i| (i.low, i.high)),
        Spread::Deviation => variance(&y).map(|v| (mean - v.sqrt(), mean + v.sqrt())),
    };
    Some(Point { x: x.clone(), n: y.len(), undefined: all.len() - y.len(), mean, bar })
}

impl Summary {
    /// One sentence on what marks and bars are: `Mean over seed (3 each); bars: 95 % t interval.`
    pub fn caption(&self) -> String {
        let counts: Vec<usize> =
            self.panels.iter().flat_map(|p| &p.series).flat_map(|s| &s.points).map(|p| p.n).collect();
        let (low, high) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
        let each = if low == high { format!("{low}") } else { format!("{low} to {high}") };
        if high <= 1 {
            return "One run each, so there are no error bars.".into();
        }
        let bars = match self.spec.spread {
            Spread::Interval => "95 % t interval of the mean",
            Spread::Deviation => "one standard deviation",
        };
        format!("Mean over {} ({each} runs each); error bars: {bars}.", self.spec.repeat.join(", "))
    }

    fn half(&self) -> &'static str {
        match self.spec.spread {
            Spread::Interval => "half of its 95 % t interval",
            Spread::Deviation => "one standard deviation",
        }
    }

    /// Mean ± half the bar, panels and series down, x across.
    pub fn table(&self, caption: &str) -> Result<Table> {
        let mut rows = Rows::new();
        for panel in &self.panels {
            for series in &panel.series {
                let mut row: Vec<(String, Value)> = Vec::new();
                if self.panels.iter().any(|p| !p.name.is_empty()) {
                    row.push((self.spec.panel.join(" · "), Value::from(panel.name.as_str())));
                }
                if !self.spec.color.is_empty() {
                    row.push((self.spec.color.join(" · "), Value::from(series.name.as_str())));
                }
                for x in &self.xs {
                    let cell = series.points.iter().find(|p| p.x == *x).map(|p| match p.bar {
                        Some((low, high)) => format!("{:.3} ± {:.3}", p.mean, (high - low) / 2.0),
                        None => format!("{:.3}", p.mean),
                    });
                    row.push((format!("{} {}", self.spec.x, label(x)), cell.map_or(Value::Null, Value::from)));
                }
                rows.push(row.iter().map(|(n, v)| (n.as_str(), v.clone())));
            }
        }
        let most = self.panels.iter().flat_map(|p| &p.series).flat_map(|s| &s.points).map(|p| p.n).max();
        let note = if most.unwrap_or(0) > 1 {
            format!("Mean {} over {} ± {}.", self.spec.y, self.spec.repeat.join(", "), self.half())
        } else {
            format!("{}; one run each.", self.spec.y)
        };
        Ok(Table::from_frame(caption, &rows.frame()?)?.note(&note))
    }

    /// The numbers of a plot: panel, series, x, mean, low, high, n.
    pub fn data(&self) -> Result<Frame> {
        let mut rows = Rows::new();
        for panel in &self.panels {
            for series in &panel.series {
                for p in &series.points {
                    let mut row: Vec<(&str, Value)> = Vec::new();
                    if self.panels.len() > 1 {
                        row.push(("panel", Value::from(panel.name.as_str())));
                    }
                    if self.series.len() > 1 {
                        row.push(("series", Value::from(series.name.as_str())));
                    }
                    row.push((&self.spec.x, p.x.clone()));
                    row.push(("mean", Value::from(p.mean)));
                    row.push(("low", p.bar.map_or(Value::Null, |b| Value::from(b.0))));
                    row.push(("high", p.bar.map_or(Value::Null, |b| Value::from(b.1))));
                    row.push(("runs", Value::from(p.n as i64)));
                    rows.push(row);
                }
            }
        }
        rows.frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn results() -> Frame {
        let mut rows = Rows::new();
        for (target, shots, seed, value) in [
            ("cifar", json!("1"), 0, json!(0.2)),
            ("cifar", json!("1"), 1, json!(0.4)),
            ("cifar", json!("full"), 0, json!(0.8)),
            ("cifar", json!("10"), 0, json!(null)),
            ("pets", json!("1"), 0, json!(0.5)),
        ] {
            for (class, value) in [(json!(null), value), (json!("cat"), json!(0.0))] {
                rows.push([
                    ("target", json!(target)),
                    ("shots", shots.clone()),
                    ("seed", json!(seed)),
                    ("metric", json!("accuracy")),
                    ("class", class),
                    ("value", value),
                ]);
            }
        }
        rows.frame().unwrap()
    }

    #[test]
    fn an_axis_that_is_not_named_becomes_a_panel_and_is_not_averaged() {
        let s = summarise(&results(), &Spec::new("shots", "accuracy")).unwrap();
        assert_eq!(s.panels.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["cifar", "pets"]);
        let points = &s.panels[0].series[0].points;
        assert_eq!(points.len(), 2, "an x without a defined value is left out");
        assert!((points[0].mean - 0.3).abs() < 1e-12 && points[0].n == 2);
        let (low, high) = points[0].bar.unwrap();
        assert!((high - low - 2.0 * 12.706_204_736_174_707 * 0.1).abs() < 1e-9);
        assert_eq!((points[1].x.clone(), points[1].bar), (json!("full"), None));
        assert_eq!(s.caption(), "Mean over seed (1 to 2 runs each); error bars: 95 % t interval of the mean.");
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let e = summarise(&results(), &Spec::new("shots", "acuracy")).unwrap_err();
        assert_eq!(
            (e.to_string().as_str(), e.hint()),
            ("no metric acuracy; there are accuracy", Some("did you mean accuracy?"))
        );
        let e = summarise(&results(), &Spec::new("shot", "accuracy")).unwrap_err();
        assert!(e.to_string().starts_with("no column shot; there are target"), "{e}");
    }

    #[test]
    fn the_table_has_shots_across() {
        let s = summarise(&results(), &Spec { spread: Spread::Deviation, ..Spec::new("shots", "accuracy") }).unwrap();
        let html = s.table("Accuracy").unwrap().render("t");
        assert!(html.contains("0.300 ± 0.141") && html.contains("shots full"), "{html}");
    }
}
