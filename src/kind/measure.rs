//! From scores to the frames that every evaluation leaves.
//!
//! | output | one row |
//! |---|---|
//! | `metrics` | a metric, over all classes or of one |
//! | `predictions` | a test image: its truth and scores, from which every metric can be made again |
//! | `confusion` | a cell of the confusion matrix that is not empty |
//! | `thresholds` | a class and a rule: where to cut its score, and what that does on these very rows |

use arrow::array::Array;
use polars::prelude::{Column, DataType};
use serde_json::Value;

use super::{Cell, frames};
use crate::{
    data::{dataset::Dataset, loader::Labels},
    error::Result,
    eval::metric::{
        Scores,
        confusion::Confusion,
        probability::{sigmoid, softmax},
        threshold::{Rule, operating_points},
    },
    report::{
        frame::{self, Frame, Rows},
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

/// Where scores are cut in `thresholds`.
const RULES: [Rule; 5] =
    [Rule::Youden, Rule::Sensitivity(0.9), Rule::Sensitivity(0.95), Rule::Specificity(0.9), Rule::Specificity(0.95)];

/// Publishes `metrics`, `predictions`, `confusion` and `thresholds` of scores (row-major) on labelled rows.
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
    note_undefined(cell, &scores, &predictions);
    let mut metrics = frame::metrics(&scores, &predictions.names)?;
    for (name, value) in facts {
        metrics.with_column(Column::new((*name).into(), vec![*value as i64; metrics.height()]))?;
    }
    frames::publish(cell, "metrics", &metrics)?;
    frames::publish(cell, "predictions", &predictions.frame()?)?;
    frames::publish(cell, "confusion", &confusion(&scores, &predictions)?)?;
    frames::publish(cell, "thresholds", &thresholds(&predictions, scale)?)
}

/// Writes down which classes the test rows do not bear, with counts, and which are scored alike everywhere.
fn note_undefined(cell: &Cell, scores: &Scores, predictions: &Predictions) {
    let undefined = scores.measurements.iter().filter(|m| m.value.is_none()).count();
    if undefined > 0 {
        let without = scores.measurements.iter().filter(|m| m.metric == "auc" && m.value.is_none());
        let classes: Vec<String> = without
            .filter_map(|m| {
                let positives = m.positives.unwrap_or(0);
                let kind = if positives == 0 { "positives" } else { "negatives" };
                let bears = positives > 0 && positives < m.rows;
                let name = &predictions.names[m.class?];
                (!bears).then(|| format!("class {name} has no {kind} in {} test rows", m.rows))
            })
            .collect();
        let detail = match classes.as_slice() {
            [] => "metrics without a value, such as the precision of a class that is never predicted".to_string(),
            few if few.len() <= MOST_NAMED => few.join("; "),
            many => format!("{}; and {} classes more", many[..MOST_NAMED].join("; "), many.len() - MOST_NAMED),
        };
        cell.note("undefined_metrics", undefined as u64, detail);
    }
    let constant: Vec<&str> = (0..predictions.names.len())
        .filter(|&c| {
            let of = predictions.logit(c);
            of.len() > 1 && of.iter().all(|v| *v == of[0])
        })
        .map(|c| predictions.names[c].as_str())
        .collect();
    if let Some(first) = constant.first() {
        let detail =
            format!("class {first} has the same score on all {} test rows: it ranks nothing", predictions.image.len());
        cell.note("constant_scores", constant.len() as u64, detail);
    }
}

/// Classes that a note names.
const MOST_NAMED: usize = 5;

/// `label, class, predicted, rows`: of one class an image, classes against classes (`label` null); of several labels,
/// each label's presence against what probability ½ says.
fn confusion(scores: &Scores, predictions: &Predictions) -> Result<Frame> {
    let text = |rows: Rows, name: &str| rows.declare(name, DataType::String);
    let mut rows = ["label", "class", "predicted"].iter().fold(Rows::new(), |rows, name| text(rows, name));
    rows = rows.declare("rows", DataType::Int64);
    let mut push = |label: Value, names: &[String], matrix: &Confusion| {
        for (class, name) in names.iter().enumerate() {
            for (predicted, other) in names.iter().enumerate().filter(|(p, _)| matrix.count(class, *p) > 0) {
                rows.push([
                    ("label", label.clone()),
                    ("class", Value::from(name.as_str())),
                    ("predicted", Value::from(other.as_str())),
                    ("rows", Value::from(matrix.count(class, predicted))),
                ]);
            }
        }
    };
    match (&scores.confusion, &predictions.truth) {
        (Some(matrix), _) => push(Value::Null, &predictions.names, matrix),
        (None, Truths::Labels(y)) => {
            let width = predictions.names.len();
            let names = ["absent".to_string(), "present".to_string()];
            for (l, label) in predictions.names.iter().enumerate() {
                let said: Vec<Option<usize>> = predictions
                    .logit(l)
                    .iter()
                    .map(|&x| (!x.is_nan()).then_some(usize::from(sigmoid(x.into()) > 0.5)))
                    .collect();
                let truth: Vec<i32> = y.iter().skip(l).step_by(width).map(|&y| i32::from(y)).collect();
                push(Value::from(label.as_str()), &names, &Confusion::new(&said, &truth, 2));
            }
        }
        (None, Truths::Class(_)) => {}
    }
    rows.frame()
}

/// One row a class and rule. Scores are probabilities, or what the classifier says where it has none.
fn thresholds(predictions: &Predictions, scale: Scale) -> Result<Frame> {
    let width = predictions.names.len();
    let values: Vec<f64> = match (&predictions.truth, scale) {
        (_, Scale::Rank) => predictions.logits.iter().map(|&x| x.into()).collect(),
        (Truths::Class(_), Scale::Logit) => softmax(&predictions.logits, width),
        (Truths::Labels(_), Scale::Logit) => predictions.logits.iter().map(|&x| sigmoid(x.into())).collect(),
    };
    let number = |v: Option<f64>| v.map_or(Value::Null, Value::from);
    let numbers =
        ["asked", "threshold", "sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value"];
    let mut rows = Rows::new().declare("class", DataType::String).declare("rule", DataType::String);
    rows = numbers.iter().fold(rows, |rows, name| rows.declare(name, DataType::Float64));
    rows = rows.declare("rows", DataType::Int64).declare("positives", DataType::Int64);
    for (class, name) in predictions.names.iter().enumerate() {
        let truth: Vec<Option<bool>> = match &predictions.truth {
            Truths::Class(y) => y.iter().map(|&y| (y >= 0).then_some(y as usize == class)).collect(),
            Truths::Labels(y) => y.iter().skip(class).step_by(width).map(|&y| (y >= 0).then_some(y > 0)).collect(),
        };
        let of_class = values.iter().skip(class).step_by(width);
        let (scores, positive): (Vec<f64>, Vec<bool>) =
            of_class.zip(&truth).filter_map(|(s, t)| t.map(|t| (*s, t))).unzip();
        for (rule, point) in RULES.iter().zip(operating_points(&scores, &positive, &RULES)) {
            rows.push([
                ("class", Value::from(name.as_str())),
                ("rule", Value::from(rule.name())),
                ("asked", number(rule.asked())),
                ("threshold", number(point.map(|p| p.threshold))),
                ("sensitivity", number(point.map(|p| p.sensitivity()))),
                ("specificity", number(point.map(|p| p.specificity()))),
                ("positive_predictive_value", number(point.map(|p| p.positive_predictive_value()))),
                ("negative_predictive_value", number(point.and_then(|p| p.negative_predictive_value()))),
                ("rows", Value::from(positive.len())),
                ("positives", Value::from(positive.iter().filter(|p| **p).count())),
            ]);
        }
    }
    rows.frame()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::frame::values;
    use serde_json::json;

    fn multi() -> Predictions {
        Predictions {
            image: (0..4).map(|i| i.to_string()).collect(),
            patient: None,
            names: vec!["Edema".into(), "Hernia".into()],
            logits: vec![2.0, 0.5, 1.0, 0.5, -1.0, 0.5, -2.0, 0.5],
            truth: Truths::Labels(vec![1, 0, 0, 0, 1, 0, 0, -1]),
        }
    }

    #[test]
    fn every_class_has_its_operating_points_or_nulls() {
        let table = thresholds(&multi(), Scale::Rank).unwrap();
        assert_eq!(table.height(), 2 * RULES.len());
        let column = |name: &str| values(&table, name).unwrap();
        assert_eq!(column("threshold")[..2], [json!(2.0), json!(-1.0)]);
        assert_eq!((column("sensitivity")[1].clone(), column("specificity")[1].clone()), (json!(1.0), json!(0.5)));
        assert!(column("threshold")[5..].iter().all(Value::is_null), "Hernia has no positives");
        assert_eq!((column("rows")[5].clone(), column("positives")[5].clone()), (json!(3), json!(0)));
    }

    #[test]
    fn labels_are_confused_one_by_one_without_their_unknowns() {
        let p = multi();
        let table = confusion(&p.score(), &p).unwrap();
        let column = |name: &str| values(&table, name).unwrap();
        assert_eq!(column("rows").iter().map(|v| v.as_i64().unwrap()).sum::<i64>(), 7);
        let hernia = column("label").iter().position(|l| l == "Hernia").unwrap();
        assert_eq!((&column("class")[hernia], &column("predicted")[hernia]), (&json!("absent"), &json!("present")));
    }
}
