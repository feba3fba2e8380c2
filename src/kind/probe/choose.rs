//! Which candidate: by rows that it has not learned from and that are not the test's.

use polars::prelude::DataType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::candidate::{self, Candidate, Learned, Scored};
use crate::{
    data::{
        dataset::{Dataset, Task},
        loader::Labels,
        split::{self, Ratio, SplitRule},
    },
    error::{Error, Result},
    eval::metric::{Scores, Truth, score},
    kind::{embed::Features, measure::Scale},
    progress::Cancel,
    report::frame::{Frame, Rows},
};

/// Where validation rows come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Validation {
    /// A split of the data: `valid`.
    Split(String),
    /// A part of the training rows, by patient; the chosen candidate is then fitted on all of them.
    Part(f64),
}

/// What was learned of the candidates.
pub struct Choice {
    pub candidate: Candidate,
    /// `l2` or `k`, `valid_accuracy`, `valid_mean_auc`, `valid_log_loss`, `converged`, `chosen`.
    pub path: Frame,
}

/// The training rows to fit on while choosing, and the rows to choose by.
fn sides(train: &Dataset, all: &Dataset, validation: &Validation, seed: u32, node: &str) -> Result<(Dataset, Dataset)> {
    match validation {
        Validation::Split(name) => {
            let valid = all.split(name)?;
            if valid.rows() == 0 {
                return Err(Error::invalid(format!("{node} has no rows in split {name}"))
                    .with_hint("give validation: { part: 0.2 } to take them from the training rows"));
            }
            Ok((train.clone(), valid))
        }
        Validation::Part(part) => {
            let ratio = Ratio { train: 1.0 - part, valid: *part, seed };
            let drawn = split::split(train, &SplitRule::Patient(ratio))?;
            let (fit, valid) = (drawn.split("train")?, drawn.split("valid")?);
            enough(train, &fit, *part, node)?;
            if valid.rows() == 0 {
                return Err(Error::invalid(format!(
                    "{node}: {part} of {} training rows leaves none to choose by",
                    train.rows()
                ))
                .with_hint("raise the part, or name one value instead of several"));
            }
            Ok((fit, valid))
        }
    }
}

/// Every class that is learned must be left in the part that is fitted.
fn enough(train: &Dataset, fit: &Dataset, part: f64, node: &str) -> Result<()> {
    let Task::Single(names) = train.task() else { return Ok(()) };
    let count = |rows: &Dataset, class: usize| {
        rows.classes().map_or(0, |c| c.iter().flatten().filter(|&c| c == class as i32).count())
    };
    for (class, name) in names.iter().enumerate() {
        let (have, left) = (count(train, class), count(fit, class));
        if have > 0 && left == 0 {
            return Err(Error::invalid(format!(
                "{node}: class {name} has {have} training images, none of which is left when {part} of them are for validation"
            ))
            .with_hint("use more shots, a smaller part, or a split of its own: validation: { split: valid }"));
        }
    }
    Ok(())
}

/// Fits every candidate without the validation rows and takes the one that does best on them: the least log loss
/// where scores are logits, else the largest accuracy, or mean AUROC of several labels. The first of equals.
#[allow(clippy::too_many_arguments)]
pub fn choose(
    candidates: &[Candidate],
    features: &Features,
    train: &Dataset,
    known: &Dataset,
    validation: &Validation,
    seed: u32,
    node: &str,
    cancel: &Cancel,
) -> Result<Choice> {
    let (fit, valid) = sides(train, known, validation, seed, node)?;
    let (x, held_out) = (features.of(&fit)?, features.of(&valid)?);
    let labels = Labels::of(&fit)?;
    let learned = Learned { x: &x, width: features.width, labels: &labels, cancel };
    let truth = Labels::of(&valid)?;
    let scored = candidate::fit(candidates, &learned, &held_out)?;
    let judged: Vec<Scores> = scored.iter().map(|s| judge(s, &truth)).collect();
    let worth = |i: usize| -> Option<f64> {
        if scored[i].converged == Some(false) {
            return None;
        }
        match (scored[i].candidate.scale(), &truth) {
            (Scale::Logit, _) => judged[i].value("log_loss").map(|v| -v),
            (Scale::Rank, Labels::Class { .. }) => judged[i].value("accuracy"),
            (Scale::Rank, Labels::Multi { .. }) => judged[i].value("mean_auc"),
        }
    };
    let mut best: Option<(usize, f64)> = None;
    for i in 0..scored.len() {
        if let Some(v) = worth(i).filter(|v| best.is_none_or(|(_, b)| *v > b)) {
            best = Some((i, v));
        }
    }
    let Some((chosen, _)) = best else {
        return Err(Error::invalid(format!(
            "no candidate of the probe on {node} could be judged on its validation rows"
        ))
        .with_hint("raise l2, or use more validation rows"));
    };
    let mut rows = Rows::new();
    for (i, (s, j)) in scored.iter().zip(&judged).enumerate() {
        let number = |metric: &str| j.value(metric).map_or(Value::Null, Value::from);
        let log_loss = if s.candidate.scale() == Scale::Logit { number("log_loss") } else { Value::Null };
        rows.push([
            s.candidate.setting(),
            ("valid_rows", Value::from(valid.rows())),
            ("valid_accuracy", number("accuracy")),
            ("valid_mean_auc", number("mean_auc")),
            ("valid_log_loss", log_loss),
            ("converged", s.converged.map_or(Value::Null, Value::from)),
            ("chosen", Value::from(i == chosen)),
        ]);
    }
    Ok(Choice { candidate: scored[chosen].candidate, path: rows.frame()? })
}

fn judge(scored: &Scored, truth: &Labels) -> Scores {
    match truth {
        Labels::Class { classes, y } => score(&scored.scores, *classes, Truth::Class(y)),
        Labels::Multi { labels, y } => score(&scored.scores, *labels, Truth::Labels(y)),
    }
}

/// The table of a probe that had nothing to choose.
pub fn nothing(candidate: Candidate, converged: Option<bool>) -> Result<Frame> {
    let mut rows = Rows::new();
    for name in ["valid_accuracy", "valid_mean_auc", "valid_log_loss"] {
        rows = rows.declare(name, DataType::Float64);
    }
    rows.push([
        candidate.setting(),
        ("converged", converged.map_or(Value::Null, Value::from)),
        ("chosen", Value::from(true)),
    ]);
    rows.frame()
}
