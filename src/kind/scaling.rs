//! `scaling`: laws of the error over data size, model size or both, what they say at sizes that were not run, and why
//! some cannot be fitted.
//!
//! | output | one row | says |
//! |---|---|---|
//! | `table` | a group and a law | parameters with bootstrap intervals, AICc, error on the largest sizes left out, which law is chosen; or why there is none |
//! | `predicted` | a group, a law and a size of `predict_at` | error and score there, with interval, and how far beyond the runs it is |
//! | `points` | a group, a law and a size that was run | mean error of the runs, and what the law says |
//!
//! A group is a combination of the axes that are neither sizes nor repeats. The error is 1 − score for shares such as
//! accuracy, and the score itself for losses.

mod tables;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Cell, InputSpec, Kind, Nodes, Resources, frames,
    measurements::{self, Point},
};
use crate::{
    error::{Error, Result},
    eval::scaling::{Law, Loss, Observation, refusal::Demand},
    model::BitConfig,
    report::frame::label,
    store::artifact::ArtifactType,
};

pub struct Scaling;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The node, or list of nodes, whose `metrics` are fitted; tables of a `query` hold a measurement a row.
    pub metrics: Nodes,
    /// The metric; null: accuracy where there is one, else mean_auc.
    #[serde(default)]
    pub metric: Option<String>,
    /// The class or label whose metric it is; null: the number over all classes.
    #[serde(default)]
    pub class: Option<String>,
    /// The axis, or column of the metrics such as `train_images`, that holds the data size.
    #[serde(default)]
    pub data_size: Option<String>,
    /// The axis that holds the model: a number, or a model's name, which means its parameters without the head.
    #[serde(default)]
    pub model_size: Option<String>,
    /// What values of these columns mean in numbers: `{ full: 50000 }`.
    #[serde(default)]
    pub sizes: BTreeMap<String, f64>,
    /// Axes whose runs repeat one size. With `data_size: train_images` also the axis that makes it, such as shots.
    #[serde(default = "seed")]
    pub repeats: Vec<String>,
    /// The laws that are fitted; null: all over one size, or all over both.
    #[serde(default)]
    pub laws: Option<Vec<Law>>,
    /// What fits minimise.
    #[serde(default)]
    pub loss: LossSpec,
    /// Whether the score is an error itself or the error is 1 − score; null: by the metric's name.
    #[serde(default)]
    pub error: Option<ErrorIs>,
    /// Sizes that a law over one size needs.
    #[serde(default = "least_sizes")]
    #[schemars(range(min = 3, max = 100))]
    pub least_sizes: u32,
    /// Largest size / smallest size that a law needs.
    #[serde(default = "least_span")]
    pub least_span: f64,
    /// How many of the largest sizes are left out and asked for.
    #[serde(default = "hold_out")]
    #[schemars(range(min = 1, max = 100))]
    pub hold_out: u32,
    /// What decides between laws that can be fitted.
    #[serde(default)]
    pub choose: Choose,
    /// Sizes at which the score is foretold: `1e6` over one size, `{ data: 1e6, model: 2.5e7 }` over both.
    #[serde(default)]
    pub predict_at: Vec<At>,
    /// Level of all intervals.
    #[serde(default = "level")]
    #[schemars(range(min = 0.5, max = 0.9999))]
    pub level: f64,
    /// Resamples of the bootstrap.
    #[serde(default = "resamples")]
    #[schemars(range(min = 100, max = 100000))]
    pub resamples: u32,
    /// Seed of the resamples.
    #[serde(default)]
    pub resample_seed: u64,
}

/// What fits minimise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum LossSpec {
    /// Huber's loss of the logarithms. `delta` is its width; null: 1.345 robust deviations of the residuals.
    Huber {
        #[serde(default)]
        delta: Option<f64>,
    },
    /// The sum of squared errors.
    LeastSquares,
}

impl Default for LossSpec {
    fn default() -> Self {
        LossSpec::Huber { delta: None }
    }
}

/// How a score becomes an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorIs {
    /// 1 − score.
    OneMinus,
    /// The score is an error or a loss.
    Score,
}

/// What decides between laws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Choose {
    /// The smallest error on the largest sizes left out, where every law has one; else AICc.
    #[default]
    Extrapolation,
    /// The smallest AICc.
    Aicc,
}

/// A size that was not run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum At {
    One(f64),
    Both { data: f64, model: f64 },
}

fn seed() -> Vec<String> {
    vec!["seed".into()]
}

fn least_sizes() -> u32 {
    4
}

fn least_span() -> f64 {
    4.0
}

fn hold_out() -> u32 {
    1
}

fn level() -> f64 {
    0.95
}

fn resamples() -> u32 {
    1000
}

/// Metrics of which less is better.
const ERRORS: [&str; 3] = ["log_loss", "brier", "ece"];
/// Metrics between 0 and 1 of which more is better.
const SHARES: [&str; 15] = [
    "accuracy",
    "top5_accuracy",
    "balanced_accuracy",
    "auc",
    "mean_auc",
    "ap",
    "mean_ap",
    "precision",
    "recall",
    "f1",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "sensitivity",
    "specificity",
];

impl Kind for Scaling {
    const NAME: &'static str = "scaling";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Fits laws of the error over data and model size, with intervals, and foretells sizes that were not run.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::cells("metrics", &[ArtifactType::Table]).prefer("metrics")] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        const { &[("table", ArtifactType::Table), ("predicted", ArtifactType::Table), ("points", ArtifactType::Table)] }
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut say = |wrong: bool, field: &str, text: &str| {
            if wrong {
                problems.push((field.to_string(), text.to_string()));
            }
        };
        let both = params.both();
        say(
            params.data_size.is_none() && params.model_size.is_none(),
            "data_size",
            "give data_size, model_size or both",
        );
        say(!(0.5..1.0).contains(&params.level), "level", "must be at least 0.5 and below 1");
        say(!(100..=100_000).contains(&params.resamples), "resamples", "must be 100 to 100000");
        say(params.least_sizes < 3, "least_sizes", "must be at least 3");
        say(!(params.least_span > 1.0 && params.least_span.is_finite()), "least_span", "must be above 1");
        say(params.hold_out == 0, "hold_out", "must be at least 1");
        if let LossSpec::Huber { delta: Some(delta) } = params.loss {
            say(!(delta > 0.0 && delta.is_finite()), "loss.huber.delta", "must be above 0");
        }
        for (value, size) in &params.sizes {
            say(!(*size > 0.0 && size.is_finite()), "sizes", &format!("{value} must mean a size above 0"));
        }
        for law in params.laws.iter().flatten() {
            let needs =
                if law.over_both() { "needs data_size and model_size" } else { "is over one size, and two are given" };
            say(law.over_both() != both, "laws", &format!("{} {needs}", law.name()));
        }
        say(params.laws.as_ref().is_some_and(Vec::is_empty), "laws", "name at least one law");
        for at in &params.predict_at {
            let (fits, above) = match at {
                At::One(n) => (!both, *n > 0.0 && n.is_finite()),
                At::Both { data, model } => (both, *data > 0.0 && *model > 0.0 && (data * model).is_finite()),
            };
            let form = if both { "give { data: …, model: … }" } else { "give a number" };
            say(!fits, "predict_at", form);
            say(!above, "predict_at", "sizes must be above 0");
        }
        problems
    }

    fn resources(_: &Params) -> Resources {
        Resources { threads: 0, memory_bytes: 0 }
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let (metric, points) =
            measurements::read(cell, "metrics", params.metric.as_deref(), params.class.as_deref(), &[])?;
        let tables = tables::make(&params.groups(&points, &metric)?, params, &metric, cell.cancel)?;
        for (what, count, sentence) in &tables.notes {
            cell.note(what, *count, sentence.as_str());
        }
        frames::publish(cell, "table", &tables.table)?;
        frames::publish(cell, "predicted", &tables.predicted)?;
        frames::publish(cell, "points", &tables.points)
    }
}

/// The runs of one combination of the other axes.
pub struct Group {
    pub others: Vec<(String, Value)>,
    pub points: Vec<Observation>,
    /// Runs whose metric is undefined.
    pub undefined: usize,
}

impl Params {
    fn both(&self) -> bool {
        self.data_size.is_some() && self.model_size.is_some()
    }

    fn laws(&self) -> Vec<Law> {
        match &self.laws {
            Some(laws) => laws.clone(),
            None if self.both() => Law::TWO_SIZES.to_vec(),
            None => Law::ONE_SIZE.to_vec(),
        }
    }

    fn loss(&self) -> Loss {
        match self.loss {
            LossSpec::Huber { delta } => Loss::Huber(delta),
            LossSpec::LeastSquares => Loss::LeastSquares,
        }
    }

    fn demand(&self) -> Demand {
        Demand { sizes: self.least_sizes as usize, span: self.least_span }
    }

    /// Whether errors are 1 − score.
    fn one_minus(&self, metric: &str) -> Result<bool> {
        match self.error {
            Some(is) => Ok(is == ErrorIs::OneMinus),
            None if SHARES.contains(&metric) => Ok(true),
            None if ERRORS.contains(&metric) => Ok(false),
            None => Err(Error::invalid(format!("it is not known whether more or less of {metric} is better"))
                .with_hint("say error: one_minus, or error: score")),
        }
    }

    fn groups(&self, points: &[Point], metric: &str) -> Result<Vec<Group>> {
        let one_minus = self.one_minus(metric)?;
        let columns = [self.data_size.as_deref(), self.model_size.as_deref()];
        let mut without: Vec<&str> = self.repeats.iter().map(String::as_str).collect();
        without.extend(columns.iter().flatten());
        let mut groups: Vec<Group> = Vec::new();
        for point in points {
            let size = |column: Option<&str>| column.map(|c| self.size(point, c)).transpose();
            // A law over the model alone takes it for its one size.
            let (data, model) = match (size(columns[0])?, size(columns[1])?) {
                (Some(data), model) => (data, model.unwrap_or(1.0)),
                (None, model) => (model.unwrap_or(1.0), 1.0),
            };
            let others = point.others(&without);
            let at = groups.iter().position(|g| g.others == others).unwrap_or_else(|| {
                groups.push(Group { others, points: Vec::new(), undefined: 0 });
                groups.len() - 1
            });
            match point.value {
                None => groups[at].undefined += 1,
                Some(value) => {
                    let error = if one_minus { 1.0 - value } else { value };
                    groups[at].points.push(Observation { data, model, error });
                }
            }
        }
        Ok(groups)
    }

    fn size(&self, point: &Point, column: &str) -> Result<f64> {
        let value = point.column(column).ok_or_else(|| {
            let known: Vec<&str> = point.axes.iter().chain(&point.facts).map(|(n, _)| n.as_str()).collect();
            Error::invalid(format!("the measurements have no column {column}"))
                .with_hint(format!("there are {}", known.join(", ")))
        })?;
        let text = label(value);
        let number = || value.as_f64().or_else(|| text.parse().ok());
        let model = || BitConfig::parse(&text, 1).ok().map(|config| config.body_parameters() as f64);
        self.sizes.get(&text).copied().or_else(number).or_else(model).ok_or_else(|| {
            Error::invalid(format!("{column} {text} is no size in numbers"))
                .with_hint(format!("say what it means: sizes: {{ {text}: 1000 }}"))
        })
    }
}
