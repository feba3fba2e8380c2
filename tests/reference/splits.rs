//! The published split of the tuberculosis sets: by file name in `tuberculosis_split.json`, by count in
//! `metadata_counts.json`.
//!
//! The reader sees only names, so empty files in the published layout are enough.

use std::path::Path;

use scaleshot::data::{
    dataset::Dataset,
    format::{Format, Read, Skipped},
    labels,
};
use serde_json::{Value, json};

/// The names of both sets' files.
const NAMED: &str = include_str!("tuberculosis_split.json");

/// Whether `json` has one of the two forms.
pub fn knows(json: &Value) -> bool {
    is_named(json) || json["tuberculosis"]["ChinaSet"]["files"].is_u64()
}

fn is_named(json: &Value) -> bool {
    json["ChinaSet"]["train_files"].is_array() && json["Montgomery"]["train_files"].is_array()
}

/// Holds the reader against the split; one line for each set. Needs no tables.
pub fn check(json: &Value, _tables: Option<&Path>) -> Result<Vec<String>, String> {
    let named: Value = serde_json::from_str(NAMED).map_err(|e| e.to_string())?;
    let (named, json) = if is_named(json) { (json, json) } else { (&named, &json["tuberculosis"]) };
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let sets = [
        ("ChinaSet", "ChinaSet_AllFiles/ChinaSet_AllFiles/CXR_png"),
        ("Montgomery", "Montgomery/MontgomerySet/CXR_png"),
    ];
    for (set, folder) in sets {
        let folder = dir.path().join(folder);
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        for file in files(&named[set], "train").chain(files(&named[set], "test")) {
            std::fs::write(folder.join(file), "").map_err(|e| e.to_string())?;
        }
    }
    let options = json!({"format": "tuberculosis", "root": dir.path()});
    let format: Format = serde_json::from_value(options).map_err(|e| e.to_string())?;
    let d = format.read(&mut Skipped::default()).map_err(|e| e.to_string())?;
    let mut lines = Vec::new();
    let mut before = 0;
    for (set, folder) in sets {
        let expected = &json[set];
        let rows = expected["files"].as_u64().ok_or_else(|| format!("{set}: no files"))?;
        let here: Vec<u32> = (before..before + rows as u32).collect();
        before += rows as u32;
        let part = d.take(&here).map_err(|e| e.to_string())?;
        let classes = |d: &Dataset, key: &str| -> Result<(), String> {
            let ours = labels::counts(d).into_iter().enumerate().map(|(k, c)| (k.to_string(), c.positives.into()));
            let ours = Value::Object(ours.collect());
            let wrong = || format!("{set} {key}: {ours}, expected {}", expected[key]);
            if ours == expected[key] { Ok(()) } else { Err(wrong()) }
        };
        classes(&part, "classes")?;
        for split in ["train", "test"] {
            let side = part.split(split).map_err(|e| e.to_string())?;
            let images = side.images().map_err(|e| e.to_string())?;
            let ours: Vec<String> = images.iter().flatten().map(|i| i.replace(&format!("{folder}/"), "")).collect();
            if expected[split].as_u64() != Some(ours.len() as u64) {
                return Err(format!("{set} {split}: {} files, expected {}", ours.len(), expected[split]));
            }
            let theirs: Vec<&str> = files(&named[set], split).collect();
            if ours != theirs {
                return Err(format!("{set} {split}: {} files differ from the published ones", ours.len()));
            }
            classes(&side, &format!("{split}_classes"))?;
        }
        lines.push(format!("{set}: {rows} files, train and test in the published order"));
    }
    Ok(lines)
}

fn files<'a>(set: &'a Value, split: &str) -> impl Iterator<Item = &'a str> {
    set[format!("{split}_files")].as_array().into_iter().flatten().filter_map(Value::as_str)
}
