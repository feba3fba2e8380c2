//! Mean and spread over repeats, by series and panel: what plots and summary tables show.
//!
//! Nothing is averaged silently: of a metrics frame, only the repeat columns (`seed`) are; every other
//! axis that varies becomes the colour, the x, or a panel of its own.

use serde_json::Value;

use super::{
    frame::{Frame, Rows, label, natural_order, values},
    html::Table,
    plot::Look,
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
    /// One standard error of the mean to each side.
    Error,
    /// From the least to the greatest value.
    Range,
}

impl Spread {
    /// As a caption names it.
    pub fn name(self) -> &'static str {
        match self {
            Spread::Interval => "95 % t interval of the mean",
            Spread::Deviation => "one standard deviation (n − 1)",
            Spread::Error => "one standard error of the mean",
            Spread::Range => "least to greatest value",
        }
    }

    /// The ends of the bar around a mean; `None` with fewer than two values.
    pub fn bar(self, y: &[f64]) -> Option<(f64, f64)> {
        let (mean, deviation) = (mean(y)?, variance(y)?.sqrt());
        Some(match self {
            Spread::Interval => t_interval(y, 0.95).map(|i| (i.low, i.high))?,
            Spread::Deviation => (mean - deviation, mean + deviation),
            Spread::Error => {
                let error = deviation / (y.len() as f64).sqrt();
                (mean - error, mean + error)
            }
            Spread::Range => y.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v))),
        })
    }
}

/// The column that tells one's own rows from rows of elsewhere in [`beside`].
pub const ORIGIN: &str = "origin";

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
    /// The value of the last colour column, [`ORIGIN`], that marks results from elsewhere.
    pub other: Option<String>,
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
            other: None,
        }
    }

    /// `bit-r50x1 · 0.1`; numbers alone would say nothing, so they carry their column's name.
    pub fn name<'a>(key: impl Iterator<Item = (&'a str, &'a Value)>) -> String {
        let parts: Vec<String> = key
            .filter(|(_, v)| !v.is_null())
            .map(|(n, v)| if v.is_string() { label(v) } else { format!("{n} {}", label(v)) })
            .collect();
        parts.join(" · ")
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
    /// What each of them looks like: results from elsewhere take the colour of one's own of the same name.
    pub(crate) looks: Vec<Look>,
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

    fn name(&self, key: &[Value]) -> String {
        Spec::name(self.0.iter().map(|(n, _)| n.as_str()).zip(key))
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
    let mut colors = sorted_keys(rows.iter().map(|&r| color.at(r)).collect());
    if let Some(other) = &spec.other {
        // One's own stands before what it is compared with, whatever the two are called.
        let is_other = |c: &Vec<Value>| c.last().is_some_and(|o| o == other);
        for pair in 1..colors.len() {
            let (a, b) = (&colors[pair - 1], &colors[pair]);
            if a[..a.len() - 1] == b[..b.len() - 1] && is_other(a) {
                colors.swap(pair - 1, pair);
            }
        }
    }
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
    let shown = |name: &String| out.iter().any(|p| p.series.iter().any(|s| s.name == *name));
    let shown: Vec<&Vec<Value>> = colors.iter().filter(|c| shown(&color.name(c))).collect();
    let series = shown.iter().map(|c| color.name(c)).collect();
    let looks = match &spec.other {
        None => (0..shown.len()).map(Look::of).collect(),
        Some(other) => {
            let stem = |c: &Vec<Value>| c[..c.len() - 1].to_vec();
            let mut stems: Vec<Vec<Value>> = shown.iter().map(|c| stem(c)).collect();
            stems.dedup();
            let order = |c: &Vec<Value>| stems.iter().position(|s| *s == stem(c)).unwrap_or(0);
            shown.iter().map(|c| Look { order: order(c), other: c.last().is_some_and(|o| o == other) }).collect()
        }
    };
    Ok(Summary { spec, panels: out, series, looks, xs })
}

/// Groups one's own results with those of another table (as a publication's), which share columns of these names.
///
/// # Errors
/// As [`summarise`], for either table.
pub fn beside(own: (&Frame, &str), other: (&Frame, &str), spec: &Spec) -> Result<Summary> {
    let mut spec = spec.clone();
    spec.repeat.retain(|r| own.0.column(r).is_ok() && *r != spec.x && !spec.color.contains(r));
    let mut rows = Rows::new();
    for (frame, origin) in [own, other] {
        let (measured, y) = measured(frame, &spec.y)?;
        let keys = [std::slice::from_ref(&spec.x), &spec.color, &spec.panel].concat();
        let mut columns: Vec<(&String, Vec<Value>)> =
            keys.iter().map(|k| Ok((k, values(frame, k)?))).collect::<Result<_>>()?;
        // Repeats may be counted otherwise elsewhere, or be gone into a mean.
        for repeat in spec.repeat.iter().filter(|r| frame.column(r).is_ok()) {
            columns.push((repeat, values(frame, repeat)?));
        }
        for row in measured {
            let named = columns.iter().map(|(name, values)| (name.as_str(), values[row].clone()));
            let number = y[row].map_or(Value::Null, Value::from);
            rows.push(named.chain([(ORIGIN, Value::from(origin)), (spec.y.as_str(), number)]));
        }
    }
    spec.color.push(ORIGIN.into());
    spec.other = Some(other.1.into());
    summarise(&rows.frame()?, &spec)
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
    let bar = spread.bar(&y);
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
            let other = self.spec.other.as_ref();
            let other = other.map(|o| format!(" Dashed lines, hollow marks and pale bars: {o}.")).unwrap_or_default();
            return format!("One run each, so there are no error bars.{other}");
        }
        let over = if self.spec.repeat.is_empty() { "rows".into() } else { self.spec.repeat.join(", ") };
        let mut out = format!("Mean over {over} ({each} runs each); error bars: {}.", self.spec.spread.name());
        if let Some(other) = &self.spec.other {
            out.push_str(&format!(" Dashed lines, hollow marks and pale bars: {other}."));
        }
        out
    }

    /// The look of a series by its name.
    pub(crate) fn look(&self, name: &str) -> Look {
        self.series.iter().position(|n| n == name).map_or(Look::of(0), |at| self.looks[at])
    }

    /// Looks and names for a legend; nothing where there is one series.
    pub(crate) fn legend(&self) -> Vec<(Look, String)> {
        if self.series.len() < 2 {
            return Vec::new();
        }
        self.looks.iter().copied().zip(self.series.iter().cloned()).collect()
    }

    fn half(&self) -> &'static str {
        match self.spec.spread {
            Spread::Interval => "half of its 95 % t interval",
            Spread::Deviation => "one standard deviation",
            Spread::Error => "one standard error",
            Spread::Range => "half of the range",
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
    fn every_spread_is_what_its_name_says() {
        let y = [1.0, 2.0, 3.0, 6.0];
        let half = |s: Spread| s.bar(&y).map(|(l, h)| (h - l) / 2.0).unwrap();
        assert!((half(Spread::Deviation) - 2.160_246_899_469_287).abs() < 1e-12);
        assert!((half(Spread::Error) - 1.080_123_449_734_643_4).abs() < 1e-12);
        // scipy.stats.t.ppf(0.975, 3) = 3.182446305284263
        assert!((half(Spread::Interval) - 3.182_446_305_284_263 * 1.080_123_449_734_643_4).abs() < 1e-9);
        assert_eq!(Spread::Range.bar(&y), Some((1.0, 6.0)));
        assert!([Spread::Range, Spread::Error].iter().all(|s| s.bar(&[1.0]).is_none()), "one value has no spread");
    }

    #[test]
    fn results_from_elsewhere_take_the_colour_of_their_own_counterpart() {
        let mut paper = Rows::new();
        for (target, shots, accuracy) in [("cifar", "1", 0.25), ("cifar", "full", 0.9), ("pets", "1", 0.6)] {
            paper.push([("target", json!(target)), ("shots", json!(shots)), ("accuracy", json!(accuracy))]);
        }
        let spec = Spec::new("shots", "accuracy").color(&["target"]);
        let s = beside((&results(), "own"), (&paper.frame().unwrap(), "published"), &spec).unwrap();
        assert_eq!(s.series, ["cifar · own", "cifar · published", "pets · own", "pets · published"]);
        let looks: Vec<(usize, bool)> = s.looks.iter().map(|l| (l.order, l.other)).collect();
        assert_eq!(looks, [(0, false), (0, true), (1, false), (1, true)]);
        assert_eq!(s.panels[0].series[1].points[0].mean, 0.25);
        assert!(s.caption().contains("pale bars: published"), "{}", s.caption());
    }

    #[test]
    fn the_table_has_shots_across() {
        let s = summarise(&results(), &Spec { spread: Spread::Deviation, ..Spec::new("shots", "accuracy") }).unwrap();
        let html = s.table("Accuracy").unwrap().render("t");
        assert!(html.contains("0.300 ± 0.141") && html.contains("shots full"), "{html}");
    }
}
