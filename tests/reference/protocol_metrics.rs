//! `protocol.json`, field `metrics`: the published code's metrics on given logits and labels.
//!
//! The numbers were made with the published `log_eval` (scikit-learn 1.9): probabilities by
//! `exp(x) / Σ exp(x)` or the sigmoid, unknown labels masked, precision, recall and F1 with
//! `zero_division=0`, means by `nanmean`.

use scaleshot::eval::metric::{Scores, Truth, score};
use serde_json::Value;

const TOLERANCE: f64 = 1e-12;

/// What was checked, one line a case; or the first number that differs.
pub fn check(json: &Value) -> Result<Vec<String>, String> {
    let cases = json["metrics"].as_array().filter(|c| !c.is_empty()).ok_or("protocol: no field metrics")?;
    cases.iter().enumerate().map(|(i, case)| one(case).map_err(|e| format!("metrics[{i}]: {e}"))).collect()
}

fn one(case: &Value) -> Result<String, String> {
    let width = case["classes"].as_u64().ok_or("no classes")? as usize;
    let rows = case["logits"].as_array().ok_or("no logits")?;
    let logits: Vec<f64> =
        rows.iter().flat_map(|r| r.as_array().into_iter().flatten()).filter_map(Value::as_f64).collect();
    let labels = case["labels"].as_array().ok_or("no labels")?;
    let task = case["task"].as_str().ok_or("no task")?;
    let scores = match task {
        "multiclass" => {
            let class: Vec<i32> = labels.iter().map(|v| v.as_i64().map_or(-1, |c| c as i32)).collect();
            score(&logits, width, Truth::Class(&class))
        }
        "multilabel" => {
            let cells: Vec<i8> = labels
                .iter()
                .flat_map(|r| r.as_array().into_iter().flatten())
                .map(|v| v.as_i64().map_or(-1, |c| c as i8))
                .collect();
            score(&logits, width, Truth::Labels(&cells))
        }
        other => return Err(format!("unknown task {other}")),
    };
    let per_class = case["per_class"].as_array().ok_or("no per_class")?;
    for (class, want) in per_class.iter().enumerate() {
        for (name, want) in want.as_object().ok_or("per_class is not an object")? {
            let found = found(&scores, name, class)?;
            same(&format!("class {class} {name}"), found, want)?;
        }
    }
    for name in ["accuracy", "mean_ap", "mean_auc"] {
        if let Some(want) = case.get(name) {
            same(name, scores.value(name), want)?;
        }
    }
    Ok(format!("{task}: {} rows of {width}, {} classes", rows.len(), per_class.len()))
}

fn found(scores: &Scores, name: &str, class: usize) -> Result<Option<f64>, String> {
    let of = |metric: &str| scores.measurements.iter().find(|m| m.metric == metric && m.class == Some(class));
    let auc = of("auc").ok_or("no auc")?;
    let positives = auc.positives.unwrap_or(0);
    Ok(match name {
        "support_pos" => Some(positives as f64),
        "support_neg" => Some((auc.rows - positives) as f64),
        // Published with zero_division=0.
        "precision" | "recall" | "f1" => Some(scores.class_value(name, class).unwrap_or(0.0)),
        "auc" | "ap" => scores.class_value(name, class),
        other => return Err(format!("unknown metric {other}")),
    })
}

fn same(name: &str, found: Option<f64>, want: &Value) -> Result<(), String> {
    match (found, want.as_f64()) {
        (None, None) if want.is_null() => Ok(()),
        (Some(a), Some(b)) if (a - b).abs() <= TOLERANCE => Ok(()),
        (found, _) => Err(format!("{name} is {found:?}, published {want}")),
    }
}
