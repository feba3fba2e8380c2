//! `compare`: what changes along one axis: intervals, paired tests, corrections, and what the design cannot show.
//!
//! Every other level of the axis is compared with a baseline within each combination of the remaining axes, paired
//! over seeds. Nothing here decides what is significant. Four things are asked of four sources of chance, and kept
//! apart:
//!
//! | output | one row | says |
//! |---|---|---|
//! | `table` | a contrast | the mean difference, its t interval over seeds, bootstrap intervals over patients (percentile, BCa) and over seeds and patients at once, p of every test over seeds |
//! | `tests` | a contrast and a test | statistic, p, and p after Holm and after Benjamini and Hochberg over all contrasts of that test |
//! | `delong` | a pair and a class | areas under the curve on the same images, where the metric is one |
//! | `levels` | a level | mean, both standard deviations, the same intervals |
//! | `overall` | a level | over targets: interquartile mean and probability of improvement |
//!
//! Metrics that are null on either side drop their pair, which is counted. Tests over seeds treat runs as
//! independent; with `overlap` the corrected test of Nadeau and Bengio says what is left where their training sets
//! overlap.

mod cases;
mod contrast;
mod overall;
mod tables;

use polars::prelude::DataType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cell, InputSpec, Kind, Nodes, Resources, frames, measurements};
use crate::{error::Result, eval::statistic::paired, report::frame::Rows, store::artifact::ArtifactType};

use cases::{Cases, Plan, Unit};

pub struct Compare;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The node, or list of nodes, whose `metrics` are compared; tables of a `query` hold a measurement a row.
    pub metrics: Nodes,
    /// The axis whose values are compared with each other.
    pub across: String,
    /// The axis over which measurements are paired: the same seed on both sides.
    #[serde(default = "seed")]
    pub paired_by: String,
    /// The metric that is compared; null: accuracy where there is one, else mean_auc.
    #[serde(default)]
    pub metric: Option<String>,
    /// The class or label whose metric it is; null: the number over all classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The value of the axis that others are compared with; null: the first one.
    #[serde(default)]
    pub baseline: Option<Value>,
    /// Level of all intervals.
    #[serde(default = "level")]
    #[schemars(range(min = 0.5, max = 0.9999))]
    pub level: f64,
    /// The same nodes' `predictions`, for intervals over cases and DeLong's test; null: none of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<Nodes>,
    /// What a resample of cases draws.
    #[serde(default)]
    pub unit: Unit,
    /// Resamples of every bootstrap.
    #[serde(default = "resamples")]
    #[schemars(range(min = 100, max = 100000))]
    pub resamples: u32,
    /// Seed of the resamples.
    #[serde(default)]
    pub resample_seed: u64,
    /// Test images / training images of the runs, for the test of Nadeau and Bengio; null: it is not made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<f64>,
    /// The axis whose values are targets that `overall` takes together; null: it stays empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
}

fn seed() -> String {
    "seed".into()
}

fn level() -> f64 {
    0.95
}

fn resamples() -> u32 {
    2000
}

impl Kind for Compare {
    const NAME: &'static str = "compare";
    const VERSION: u32 = 2;
    const ABOUT: &'static str =
        "Differences along one axis: intervals over seeds and cases, paired tests, corrections, targets together.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const {
            &[
                InputSpec::cells("metrics", &[ArtifactType::Table]).prefer("metrics"),
                InputSpec::maybe_cells("predictions", &[ArtifactType::Table]).prefer("predictions"),
            ]
        }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        const {
            &[
                ("table", ArtifactType::Table),
                ("tests", ArtifactType::Table),
                ("delong", ArtifactType::Table),
                ("levels", ArtifactType::Table),
                ("overall", ArtifactType::Table),
            ]
        }
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut say = |wrong: bool, field: &str, text: &str| {
            if wrong {
                problems.push((field.to_string(), text.to_string()));
            }
        };
        say(!(0.5..1.0).contains(&params.level), "level", "must be at least 0.5 and below 1");
        say(!(100..=100_000).contains(&params.resamples), "resamples", "must be 100 to 100000");
        say(params.overlap.is_some_and(|v| !(v > 0.0 && v.is_finite())), "overlap", "must be above 0");
        say(params.across == params.paired_by, "paired_by", "is the axis that is compared across");
        let taken = params.targets.as_ref().is_some_and(|t| *t == params.across || *t == params.paired_by);
        say(taken, "targets", "must be another axis than across and paired_by");
        problems
    }

    fn resources(params: &Params) -> Resources {
        Resources { threads: usize::from(params.predictions.is_none()), memory_bytes: 0 }
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let mut axes = vec![params.across.as_str()];
        axes.extend(params.targets.as_deref());
        let (metric, points) =
            measurements::read(cell, "metrics", params.metric.as_deref(), params.class.as_deref(), &axes)?;
        let cases = Cases::read(cell, cell.many("predictions"))?;
        cell.cancel.check()?;
        let tables = tables::make(&points, &cases, params, &metric)?;
        for (what, count, sentence) in &tables.notes {
            cell.note(what, *count, sentence.as_str());
        }
        frames::publish(cell, "table", &tables.table)?;
        frames::publish(cell, "tests", &tables.tests)?;
        frames::publish(cell, "delong", &tables.delong)?;
        frames::publish(cell, "levels", &tables.levels)?;
        frames::publish(cell, "overall", &tables.overall)
    }
}

impl Params {
    fn plan<'a>(&'a self, metric: &'a str) -> Plan<'a> {
        Plan {
            metric,
            class: self.class.as_deref(),
            level: self.level,
            unit: self.unit,
            resamples: self.resamples as usize,
            seed: self.resample_seed,
        }
    }
}

fn number(v: Option<f64>) -> Value {
    v.map_or(Value::Null, Value::from)
}

/// Rows with these columns even where there is no row, so that queries and reports find them.
fn declared(texts: &[&str], counts: &[&str], numbers: &[&str]) -> Rows {
    let with = |rows: Rows, names: &[&str], of: DataType| names.iter().fold(rows, |r, n| r.declare(n, of.clone()));
    let rows = with(Rows::new(), texts, DataType::String);
    with(with(rows, counts, DataType::Int64), numbers, DataType::Float64)
}

/// What so many runs or pairs cannot show.
fn limits(pairs: usize) -> Option<String> {
    match pairs {
        0 => Some("no pair has a value on both sides".into()),
        1 => Some("one pair: no interval and no test".into()),
        n if n < 6 => {
            Some(format!("with {n} pairs no two-sided sign-flip or Wilcoxon p is below {}", paired::smallest_p(n)))
        }
        n if n > 24 => Some(format!("{n} pairs are too many for the exact sign-flip test")),
        _ => None,
    }
}
