//! Which measurements stand against which: levels of one axis, paired within each combination of the others.

use serde_json::Value;

use crate::{
    digest::canonical,
    error::{Error, Result},
    kind::measurements::Point,
    report::frame::natural_order,
};

/// The measurements of one level within one combination of the other axes.
pub struct Level {
    pub others: Vec<(String, Value)>,
    pub level: Value,
    /// In the order of the pairing axis.
    pub runs: Vec<Run>,
}

/// One measurement: its value, what it is paired by, and its place among the points.
#[derive(Clone)]
pub struct Run {
    pub pair: Value,
    pub value: Option<f64>,
    pub point: usize,
}

/// Two levels within one combination of the other axes.
pub struct Contrast<'a> {
    pub from: &'a Level,
    pub to: &'a Level,
    /// Runs of both sides that have a value: (before, after).
    pub pairs: Vec<(Run, Run)>,
    /// Pairs without a value on one side.
    pub dropped: usize,
}

impl Level {
    pub fn values(&self) -> Vec<f64> {
        self.runs.iter().filter_map(|r| r.value).collect()
    }
}

impl Contrast<'_> {
    pub fn before(&self) -> Vec<f64> {
        self.pairs.iter().filter_map(|(a, _)| a.value).collect()
    }

    pub fn after(&self) -> Vec<f64> {
        self.pairs.iter().filter_map(|(_, b)| b.value).collect()
    }

    /// After − before, pair by pair.
    pub fn differences(&self) -> Vec<f64> {
        self.after().iter().zip(self.before()).map(|(b, a)| b - a).collect()
    }
}

/// Every level of every combination of the other axes, in the order that points come in.
///
/// # Errors
/// Two measurements with the same axes and the same value of the pairing axis.
pub fn levels(points: &[Point], across: &str, paired_by: &str) -> Result<Vec<Level>> {
    let mut out: Vec<Level> = Vec::new();
    for (at, point) in points.iter().enumerate() {
        let others = point.others(&[across, paired_by]);
        let level = point.axis(across).cloned().unwrap_or(Value::Null);
        let place = out.iter().position(|l| l.others == others && l.level == level).unwrap_or_else(|| {
            out.push(Level { others, level, runs: Vec::new() });
            out.len() - 1
        });
        let pair = point.axis(paired_by).cloned().unwrap_or(Value::Null);
        let runs = &mut out[place].runs;
        if runs.iter().any(|r| canonical(&r.pair) == canonical(&pair)) {
            return Err(Error::invalid(format!(
                "two measurements have the same axes and the same {paired_by}; which one belongs to the pair?"
            )));
        }
        runs.push(Run { pair, value: point.value, point: at });
    }
    for level in &mut out {
        level.runs.sort_by(|a, b| natural_order(&a.pair, &b.pair));
    }
    Ok(out)
}

/// The level that others are compared with: the one asked for, or the first.
pub fn baseline(levels: &[Level], asked: Option<&Value>, across: &str) -> Result<Value> {
    let mut known: Vec<&Value> = Vec::new();
    for level in levels {
        if !known.contains(&&level.level) {
            known.push(&level.level);
        }
    }
    match asked {
        None => known.first().copied().cloned().ok_or_else(|| Error::invalid("there are no measurements")),
        Some(value) if known.contains(&value) => Ok(value.clone()),
        Some(value) => {
            let known: Vec<String> = known.iter().map(|v| crate::report::frame::label(v)).collect();
            Err(Error::invalid(format!("axis {across} has no value {value}"))
                .with_hint(format!("its values are {}", known.join(", "))))
        }
    }
}

/// Every other level against the baseline, within each combination of the other axes that has both.
pub fn contrasts<'a>(levels: &'a [Level], baseline: &Value) -> Vec<Contrast<'a>> {
    let mut out = Vec::new();
    for to in levels.iter().filter(|l| l.level != *baseline) {
        let Some(from) = levels.iter().find(|l| l.level == *baseline && l.others == to.others) else { continue };
        let mut keys: Vec<&Value> = from.runs.iter().chain(&to.runs).map(|r| &r.pair).collect();
        keys.sort_by(|a, b| natural_order(a, b));
        keys.dedup_by_key(|k| canonical(k));
        let side = |level: &Level, key: &Value| {
            level.runs.iter().find(|r| canonical(&r.pair) == canonical(key) && r.value.is_some()).cloned()
        };
        let pairs: Vec<(Run, Run)> = keys.iter().filter_map(|k| Some((side(from, k)?, side(to, k)?))).collect();
        out.push(Contrast { from, to, dropped: keys.len() - pairs.len(), pairs });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn point(fraction: f64, seed: u64, value: Option<f64>) -> Point {
        let axes =
            vec![("fraction".into(), json!(fraction)), ("target".into(), json!("tb")), ("seed".into(), json!(seed))];
        Point { axes, facts: Vec::new(), value }
    }

    #[test]
    fn pairs_are_by_seed_and_a_null_drops_its_pair() {
        let points = [
            point(0.1, 0, Some(0.5)),
            point(0.1, 1, Some(0.6)),
            point(0.1, 2, None),
            point(1.0, 2, Some(0.9)),
            point(1.0, 10, Some(0.7)),
            point(1.0, 1, Some(0.7)),
            point(1.0, 0, Some(0.7)),
        ];
        let levels = levels(&points, "fraction", "seed").unwrap();
        let base = baseline(&levels, None, "fraction").unwrap();
        let found = contrasts(&levels, &base);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].before(), found[0].after(), found[0].dropped), (vec![0.5, 0.6], vec![0.7, 0.7], 2));
        assert_eq!(baseline(&levels, Some(&json!(2)), "fraction").unwrap_err().hint(), Some("its values are 0.1, 1.0"));
    }

    #[test]
    fn two_measurements_of_one_pair_are_refused() {
        let points = [point(0.1, 0, Some(0.5)), point(0.1, 0, Some(0.6))];
        assert!(levels(&points, "fraction", "seed").is_err());
    }
}
