//! From scores to the two frames that every evaluation leaves: metrics, and predictions to recompute them from.

use arrow::array::Array;
use polars::prelude::Column;

use super::{Cell, frames};
use crate::{
    data::{dataset::Dataset, loader::Labels},
    error::Result,
    report::{
        frame,
        predictions::{Predictions, Truths},
    },
};

/// What the scores of a classifier mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Softmax or sigmoid turns them into probabilities.
    Logit,
    /// Larger is more likely, and no more: metrics of probabilities are not defined on them.
    Rank,
}

/// Metrics that need probabilities.
const OF_PROBABILITIES: [&str; 3] = ["log_loss", "brier", "ece"];

/// Publishes `metrics` and `predictions` of scores (row-major) on labelled rows.
///
/// `facts` are constant columns of the metrics frame, such as the number of training images.
pub fn publish(cell: &Cell, rows: &Dataset, scores: Vec<f32>, scale: Scale, facts: &[(&str, u64)]) -> Result<()> {
    let predictions = Predictions {
        image: image_names(rows)?,
        patient: rows.text("patient").map(|p| p.iter().map(|p| p.map(str::to_string)).collect()),
        names: rows.task().names().to_vec(),
        logits: scores,
        truth: match Labels::of(rows)? {
            Labels::Class { y, .. } => Truths::Class(y),
            Labels::Multi { y, .. } => Truths::Labels(y),
        },
    };
    let mut scores = predictions.score();
    if scale == Scale::Rank {
        scores.measurements.retain(|m| !OF_PROBABILITIES.contains(&m.metric));
    }
    let undefined: Vec<_> = scores.measurements.iter().filter(|m| m.value.is_none()).collect();
    if let Some(first) = undefined.first() {
        let class = first.class.map_or(String::new(), |c| format!(" of {}", predictions.names[c]));
        let detail = format!("{}{class} among them: the test rows do not bear it", first.metric);
        cell.note("undefined_metrics", undefined.len() as u64, detail);
    }
    let mut metrics = frame::metrics(&scores, &predictions.names)?;
    for (name, value) in facts {
        metrics.with_column(Column::new((*name).into(), vec![*value as i64; metrics.height()]))?;
    }
    frames::publish(cell, "metrics", &metrics)?;
    frames::publish(cell, "predictions", &predictions.frame()?)
}

/// The image's path, with its number where the file holds many.
pub fn image_names(rows: &Dataset) -> Result<Vec<String>> {
    let records = rows.integers("record");
    let name = |(i, path): (usize, Option<&str>)| match records.filter(|r| r.is_valid(i)) {
        Some(r) => format!("{}#{}", path.unwrap_or_default(), r.value(i)),
        None => path.unwrap_or_default().to_string(),
    };
    Ok(rows.images()?.iter().enumerate().map(name).collect())
}
