//! Numbers of the published code, and of NumPy, SciPy, scikit-learn and PyTorch, held against this program.
//!
//! Every `*.json` of `tests/reference/` is checked by its form. `SCALESHOT_REFERENCE=DIR` reads DIR instead, so
//! that the same checks run on numbers that nobody has seen; a file of unknown form, or no file, fails.

#[path = "reference/classifiers.rs"]
mod classifiers;
#[path = "reference/label_tables.rs"]
mod label_tables;
#[path = "reference/model.rs"]
mod model;
#[path = "reference/protocol_draws.rs"]
mod protocol_draws;
#[path = "reference/protocol_metrics.rs"]
mod protocol_metrics;
#[path = "reference/protocol_train.rs"]
mod protocol_train;
#[path = "reference/scaling.rs"]
mod scaling;
#[path = "reference/splits.rs"]
mod splits;
#[path = "reference/statistics.rs"]
mod statistics;
#[path = "reference/torch_images.rs"]
mod torch_images;
#[path = "reference/torch_train.rs"]
mod torch_train;

use std::path::{Path, PathBuf};

use serde_json::Value;

type Knows = fn(&Value) -> bool;
type Check = fn(&Value, Option<&Path>) -> Result<Vec<String>, String>;

/// Name, how a file of the form is known, and what is held against it.
const FORMS: &[(&str, Knows, Check)] = &[
    ("model", |j| j["runs"].is_array() && j["parameters"].is_array(), |j, _| model::check(j, None)),
    ("draws", protocol_draws::knows, protocol_draws::check),
    ("schedules", |j| j["hyperrule"].is_array(), |j, _| protocol_train::check(j)),
    ("metrics", |j| j["metrics"].is_array(), |j, _| protocol_metrics::check(j)),
    ("statistics", |j| j["paired"].is_object() && j["auc"].is_object(), |j, _| statistics::check(j)),
    ("classifiers", |j| j["classifiers"].is_array(), |j, _| classifiers::check(j)),
    ("scaling laws", |j| j["scaling"].is_array(), |j, _| scaling::check(j)),
    ("label tables", label_tables::knows, label_tables::check),
    ("splits", splits::knows, splits::check),
    ("optimisers and heads", |j| j["adamw"].is_array(), |j, _| torch_train::check(j)),
    ("images", |j| j["rand_augment"].is_array(), |j, _| torch_images::check(j)),
];

fn folder() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    std::env::var_os("SCALESHOT_REFERENCE").filter(|v| !v.is_empty()).map_or(own, PathBuf::from)
}

#[test]
fn every_reference_number_is_met() {
    let folder = folder();
    let tables = std::env::var_os("SCALESHOT_REAL_TABLES").filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}: no *.json to check", folder.display());
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let json: Value = match serde_json::from_slice(&std::fs::read(file).unwrap()) {
            Ok(json) => json,
            Err(e) => {
                wrong.push(format!("{name}: not JSON: {e}"));
                continue;
            }
        };
        let known: Vec<_> = FORMS.iter().filter(|(_, knows, _)| knows(&json)).collect();
        if known.is_empty() {
            wrong.push(format!("{name}: its form is unknown"));
        }
        for (form, _, check) in known {
            match check(&json, tables.as_deref()) {
                Ok(lines) => {
                    assert!(!lines.is_empty(), "{name}: {form} checked nothing");
                    lines.iter().for_each(|line| println!("{name}: {form}: {line}"));
                }
                Err(problem) => wrong.push(format!("{name}: {form}: {problem}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
