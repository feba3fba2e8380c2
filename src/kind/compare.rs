//! `compare`: what changes along one axis, paired over seeds, with interval and exact tests.
//!
//! Every pair of levels (a baseline and another) is compared within each combination of the remaining axes.
//! Metrics that are null on either side drop their pair, which is counted. Nothing here decides what is
//! significant; where the number of pairs cannot show anything, the remark says so.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cell, Input, InputSpec, Kind, frames};
use crate::{
    digest::canonical,
    error::{Error, Result},
    eval::statistic::{correction, interval, mean, paired},
    report::frame::{Frame, Rows},
    store::artifact::ArtifactType,
};

pub struct Compare;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The node, or list of nodes, whose `metrics` are compared.
    pub metrics: super::Nodes,
    /// The axis whose values are compared with each other.
    pub across: String,
    /// The axis over which measurements are paired: the same seed on both sides.
    #[serde(default = "seed")]
    pub paired_by: String,
    /// The metric that is compared; null: accuracy where there is one, else mean_auc.
    #[serde(default)]
    pub metric: Option<String>,
    /// The value of the axis that others are compared with; null: the first one.
    #[serde(default)]
    pub baseline: Option<Value>,
    /// Level of the interval of the mean difference.
    #[serde(default = "level")]
    #[schemars(range(min = 0.5, max = 0.9999))]
    pub level: f64,
}

fn seed() -> String {
    "seed".into()
}

fn level() -> f64 {
    0.95
}

/// One measurement and the axes that it was made under.
struct Point {
    axes: Vec<(String, Value)>,
    value: Option<f64>,
}

impl Point {
    fn axis(&self, name: &str) -> Option<&Value> {
        self.axes.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}

impl Kind for Compare {
    const NAME: &'static str = "compare";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Paired differences along one axis, with interval, t, Wilcoxon and sign-flip tests.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::cells("metrics", &[ArtifactType::Table]).prefer("metrics")] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("table", ArtifactType::Table)]
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let inputs = cell.many("metrics");
        let metric = match &params.metric {
            Some(name) => name.clone(),
            None => default_metric(cell, inputs)?,
        };
        let points = inputs
            .iter()
            .map(|input| Ok(Point { axes: input.axes.clone(), value: frames::overall(cell, input, &metric)? }))
            .collect::<Result<Vec<_>>>()?;
        if let Some(lacks) = points.iter().find(|p| p.axis(&params.across).is_none()) {
            let known: Vec<&str> = lacks.axes.iter().map(|(n, _)| n.as_str()).collect();
            return Err(Error::invalid(format!("the measurements have no axis {}", params.across))
                .with_hint(format!("their axes are {}", known.join(", "))));
        }
        let table = compare(&points, params, &metric)?;
        frames::publish(cell, "table", &table)
    }
}

fn default_metric(cell: &Cell, inputs: &[Input]) -> Result<String> {
    for name in ["accuracy", "mean_auc"] {
        for input in inputs {
            if frames::overall(cell, input, name)?.is_some() {
                return Ok(name.into());
            }
        }
    }
    Err(Error::invalid("the measurements hold neither accuracy nor mean_auc").with_hint("name a metric"))
}

/// One comparison of two levels within one combination of the other axes.
struct Contrast {
    others: Vec<(String, Value)>,
    from: Value,
    to: Value,
    before: Vec<f64>,
    after: Vec<f64>,
    dropped: u32,
}

fn contrasts(points: &[Point], params: &Params) -> Result<Vec<Contrast>> {
    let mut levels: Vec<Value> = Vec::new();
    for point in points {
        let level = point.axis(&params.across).cloned().unwrap_or(Value::Null);
        if !levels.contains(&level) {
            levels.push(level);
        }
    }
    let baseline = match &params.baseline {
        Some(value) => levels
            .iter()
            .find(|l| *l == value)
            .cloned()
            .ok_or_else(|| Error::invalid(format!("axis {} has no value {value}", params.across)))?,
        None => levels.first().cloned().ok_or_else(|| Error::invalid("there are no measurements"))?,
    };
    // By the other axes, then by the pairing axis: one value a level.
    type Paired<'a> = BTreeMap<String, Vec<(&'a Value, Option<f64>)>>;
    let mut groups: Vec<(Vec<(String, Value)>, Paired)> = Vec::new();
    for point in points {
        let others: Vec<(String, Value)> =
            point.axes.iter().filter(|(n, _)| *n != params.across && *n != params.paired_by).cloned().collect();
        let at = groups.iter().position(|(o, _)| *o == others).unwrap_or_else(|| {
            groups.push((others, BTreeMap::new()));
            groups.len() - 1
        });
        let pair = point.axis(&params.paired_by).map_or(String::new(), canonical);
        let level = point.axis(&params.across).unwrap_or(&Value::Null);
        let side = groups[at].1.entry(pair).or_default();
        if side.iter().any(|(l, _)| *l == level) {
            return Err(Error::invalid(format!(
                "two measurements have the same axes and the same {}; which one belongs to the pair?",
                params.paired_by
            )));
        }
        side.push((level, point.value));
    }
    let mut out = Vec::new();
    for (others, pairs) in &groups {
        for level in levels.iter().filter(|l| **l != baseline) {
            let mut contrast = Contrast {
                others: others.clone(),
                from: baseline.clone(),
                to: level.clone(),
                before: Vec::new(),
                after: Vec::new(),
                dropped: 0,
            };
            for sides in pairs.values() {
                let value = |l: &Value| sides.iter().find(|(s, _)| *s == l).and_then(|(_, v)| *v);
                match (value(&baseline), value(level)) {
                    (Some(a), Some(b)) => {
                        contrast.before.push(a);
                        contrast.after.push(b);
                    }
                    _ => contrast.dropped += 1,
                }
            }
            out.push(contrast);
        }
    }
    Ok(out)
}

fn compare(points: &[Point], params: &Params, metric: &str) -> Result<Frame> {
    let contrasts = contrasts(points, params)?;
    let differences: Vec<Vec<f64>> =
        contrasts.iter().map(|c| c.after.iter().zip(&c.before).map(|(b, a)| b - a).collect()).collect();
    let holm = adjusted(&differences.iter().map(|d| paired::t_test(d).map(|t| t.p)).collect::<Vec<_>>());
    let number = |v: Option<f64>| v.map_or(Value::Null, Value::from);
    let mut rows = Rows::new();
    for ((contrast, d), p_holm) in contrasts.iter().zip(&differences).zip(holm) {
        let interval = interval::t_interval(d, params.level);
        rows.push(contrast.others.iter().map(|(n, v)| (n.as_str(), v.clone())).chain([
            ("across", Value::from(params.across.as_str())),
            ("from", contrast.from.clone()),
            ("to", contrast.to.clone()),
            ("metric", Value::from(metric)),
            ("pairs", Value::from(d.len())),
            ("dropped", Value::from(contrast.dropped)),
            ("mean_from", number(mean(&contrast.before))),
            ("mean_to", number(mean(&contrast.after))),
            ("difference", number(mean(d))),
            ("low", number(interval.map(|i| i.low))),
            ("high", number(interval.map(|i| i.high))),
            ("p_t", number(paired::t_test(d).map(|t| t.p))),
            ("p_wilcoxon", number(paired::wilcoxon(d).map(|t| t.p))),
            ("p_sign_flip", number(paired::sign_flip(d).map(|t| t.p))),
            ("p_t_holm", number(p_holm)),
            ("remark", Value::from(remark(d.len()))),
        ]));
    }
    rows.frame()
}

/// Holm's correction over the tests that are defined.
fn adjusted(p: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut corrected = correction::holm(&p.iter().flatten().copied().collect::<Vec<_>>()).into_iter();
    p.iter().map(|p| p.and_then(|_| corrected.next())).collect()
}

/// What so many pairs cannot show.
fn remark(pairs: usize) -> String {
    match pairs {
        0 => "no pair has a value on both sides".into(),
        1 => "one pair: no interval and no test".into(),
        n if n < 6 => format!("with {n} pairs no two-sided sign-flip p is below {}", paired::smallest_p(n)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn points(values: &[(f64, u64, Option<f64>)]) -> Vec<Point> {
        values
            .iter()
            .map(|(fraction, seed, value)| Point {
                axes: vec![
                    ("fraction".into(), json!(fraction)),
                    ("target".into(), json!("tb")),
                    ("seed".into(), json!(seed)),
                ],
                value: *value,
            })
            .collect()
    }

    fn params() -> Params {
        serde_json::from_value(json!({"metrics": "transfer", "across": "fraction"})).unwrap()
    }

    #[test]
    fn pairs_are_by_seed_and_a_null_drops_its_pair() {
        let p = points(&[
            (0.1, 0, Some(0.5)),
            (0.1, 1, Some(0.6)),
            (0.1, 2, None),
            (1.0, 2, Some(0.9)),
            (1.0, 1, Some(0.7)),
            (1.0, 0, Some(0.7)),
        ]);
        let table = compare(&p, &params(), "accuracy").unwrap();
        let first = |name: &str| crate::report::frame::values(&table, name).unwrap()[0].clone();
        assert!((first("difference").as_f64().unwrap() - 0.15).abs() < 1e-12);
        assert_eq!((first("pairs"), first("dropped")), (json!(2), json!(1)));
        assert_eq!(first("remark"), json!("with 2 pairs no two-sided sign-flip p is below 0.5"));
    }

    #[test]
    fn two_measurements_of_one_pair_are_refused() {
        let p = points(&[(0.1, 0, Some(0.5)), (0.1, 0, Some(0.6)), (1.0, 0, Some(0.7))]);
        assert!(compare(&p, &params(), "accuracy").is_err());
    }

    #[test]
    fn one_level_gives_no_comparison() {
        assert_eq!(compare(&points(&[(0.1, 0, Some(0.5))]), &params(), "accuracy").unwrap().height(), 0);
    }
}
