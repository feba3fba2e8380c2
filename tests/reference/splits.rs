//! The published split of the tuberculosis sets by file name: `tuberculosis_split.json`.
//!
//! The reader sees only names, so empty files in the published layout are enough.

use std::path::Path;

use scaleshot::data::{
    format::{Format, Read, Skipped},
    labels,
};
use serde_json::{Value, json};

/// Whether `json` has this form.
pub fn knows(json: &Value) -> bool {
    json["ChinaSet"]["train_files"].is_array() && json["Montgomery"]["train_files"].is_array()
}

/// Holds the reader against the split; one line for each set. Needs no tables.
pub fn check(json: &Value, _tables: Option<&Path>) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let sets = [
        ("ChinaSet", "ChinaSet_AllFiles/ChinaSet_AllFiles/CXR_png"),
        ("Montgomery", "Montgomery/MontgomerySet/CXR_png"),
    ];
    for (set, folder) in sets {
        let folder = dir.path().join(folder);
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        for file in files(&json[set], "train").chain(files(&json[set], "test")) {
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
        for split in ["train", "test"] {
            let side = part.split(split).map_err(|e| e.to_string())?;
            let images = side.images().map_err(|e| e.to_string())?;
            let ours: Vec<String> = images.iter().flatten().map(|i| i.replace(&format!("{folder}/"), "")).collect();
            let theirs: Vec<&str> = files(expected, split).collect();
            if ours != theirs {
                return Err(format!("{set} {split}: {} files differ from the published ones", ours.len()));
            }
            for (class, count) in labels::counts(&side).iter().enumerate() {
                let theirs = expected[format!("{split}_classes")][class.to_string()].as_u64();
                if Some(count.positives) != theirs {
                    return Err(format!("{set} {split} class {class}: {}, expected {theirs:?}", count.positives));
                }
            }
        }
        lines.push(format!("{set}: {rows} files, train and test in the published order"));
    }
    Ok(lines)
}

fn files<'a>(set: &'a Value, split: &str) -> impl Iterator<Item = &'a str> {
    set[format!("{split}_files")].as_array().into_iter().flatten().filter_map(Value::as_str)
}
