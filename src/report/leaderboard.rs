//! The result table as public leaderboards keep it: Task, Dataset, Metric, Value, Model.

use std::path::Path;

use polars::prelude::DataType;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::frame::{self, Frame, Rows};
use crate::error::{Error, Result};

/// One entry. The value is in the metric's own unit: percent where the metric says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    pub task: String,
    pub dataset: String,
    pub metric: String,
    pub value: Option<f64>,
    pub model: String,
}

/// Columns in the order of the leaderboards.
const COLUMNS: [&str; 5] = ["Task", "Dataset", "Metric", "Value", "Model"];

pub fn frame(entries: &[Entry]) -> Result<Frame> {
    let mut rows = COLUMNS
        .iter()
        .fold(Rows::new(), |rows, c| rows.declare(c, if *c == "Value" { DataType::Float64 } else { DataType::String }));
    for e in entries {
        rows.push([
            ("Task", Value::from(e.task.as_str())),
            ("Dataset", Value::from(e.dataset.as_str())),
            ("Metric", Value::from(e.metric.as_str())),
            ("Value", e.value.map_or(Value::Null, Value::from)),
            ("Model", Value::from(e.model.as_str())),
        ]);
    }
    rows.frame()
}

/// Entries out of a table that has the five columns already; others are left out.
///
/// # Errors
/// A column that is missing, or a value that is no number.
pub fn entries(table: &Frame) -> Result<Vec<Entry>> {
    let columns = COLUMNS.iter().map(|c| frame::values(table, c)).collect::<Result<Vec<_>>>()?;
    let text = |column: usize, row: usize| frame::label(&columns[column][row]);
    (0..table.height())
        .map(|row| {
            let value = &columns[3][row];
            if !value.is_null() && !value.is_number() {
                return Err(Error::invalid(format!("leaderboard row {}: Value {value} is no number", row + 1)));
            }
            Ok(Entry {
                task: text(0, row),
                dataset: text(1, row),
                metric: text(2, row),
                value: value.as_f64(),
                model: text(4, row),
            })
        })
        .collect()
}

/// Whether a table has the five columns of a leaderboard.
pub fn is_leaderboard(table: &Frame) -> bool {
    COLUMNS.iter().all(|c| table.column(c).is_ok())
}

pub fn csv(entries: &[Entry]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |e: csv::Error| Error::invalid(format!("bug: leaderboard: {e}"));
    if entries.is_empty() {
        writer.write_record(COLUMNS).map_err(failed)?;
    }
    for entry in entries {
        writer.serialize(entry).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|e| Error::invalid(format!("bug: leaderboard: {e}")))?;
    String::from_utf8(bytes).map_err(|e| Error::invalid(format!("bug: leaderboard: {e}")))
}

pub fn json(entries: &[Entry]) -> Result<String> {
    Ok(serde_json::to_string_pretty(entries)? + "\n")
}

/// A GitHub table, with values of up to four digits after the point.
pub fn markdown(entries: &[Entry]) -> String {
    let cell = |s: &str| s.replace('\\', "\\\\").replace('|', "\\|").replace('\n', " ");
    let mut out = String::from("| Task | Dataset | Metric | Value | Model |\n|---|---|---|---:|---|\n");
    for e in entries {
        let value = e.value.map(|v| ((v * 1e4).round() / 1e4).to_string()).unwrap_or_default();
        let row = [&cell(&e.task), &cell(&e.dataset), &cell(&e.metric), &value, &cell(&e.model)];
        out.push_str(&format!("| {} |\n", row.map(String::as_str).join(" | ")));
    }
    out
}

/// `leaderboard.parquet`, `.csv`, `.json` and `.md` in a folder; their names, sorted.
pub fn write_all(entries: &[Entry], folder: &Path) -> Result<Vec<String>> {
    frame::write_parquet(&frame(entries)?, &folder.join("leaderboard.parquet"))?;
    for (name, text) in [
        ("leaderboard.csv", csv(entries)?),
        ("leaderboard.json", json(entries)?),
        ("leaderboard.md", markdown(entries)),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(Error::io(&path))?;
    }
    Ok(["leaderboard.csv", "leaderboard.json", "leaderboard.md", "leaderboard.parquet"].map(String::from).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let entry = |dataset: &str, value, model: &str| Entry {
            task: "Image Classification".into(),
            dataset: dataset.into(),
            metric: "Percentage correct".into(),
            value,
            model: model.into(),
        };
        vec![entry("CIFAR-10", Some(97.82), "ResNet-152x4 | IN-21k"), entry("Pets, 37", None, "\"R50\"")]
    }

    #[test]
    fn every_format_holds_every_entry() {
        let all = entries();
        let text = csv(&all).unwrap();
        let back: Vec<Entry> = csv::Reader::from_reader(text.as_bytes()).deserialize().map(|e| e.unwrap()).collect();
        assert_eq!(back, all);
        assert_eq!(serde_json::from_str::<Vec<Entry>>(&json(&all).unwrap()).unwrap(), all);
        assert!(markdown(&all).contains("| CIFAR-10 | Percentage correct | 97.82 | ResNet-152x4 \\| IN-21k |"));
        assert_eq!(csv(&[]).unwrap(), "Task,Dataset,Metric,Value,Model\n");
        assert_eq!(super::entries(&frame(&all).unwrap()).unwrap(), all);
        let e = super::entries(&Rows::new().declare("Task", DataType::String).frame().unwrap()).unwrap_err();
        assert!(e.to_string().starts_with("no column Dataset"), "{e}");
        let dir = tempfile::tempdir().unwrap();
        write_all(&all, dir.path()).unwrap();
        let frame = frame::read_parquet(&dir.path().join("leaderboard.parquet")).unwrap();
        assert_eq!(frame::values(&frame, "Value").unwrap(), [serde_json::json!(97.82), Value::Null]);
    }
}
