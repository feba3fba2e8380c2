//! Runs the checks of `tests/reference/` as unit tests.

use std::path::Path;

use serde_json::Value;

#[path = "../../tests/reference/classifiers.rs"]
mod classifiers;
#[path = "../../tests/reference/protocol_metrics.rs"]
mod protocol_metrics;
#[path = "../../tests/reference/scaling.rs"]
mod scaling;
#[path = "../../tests/reference/statistics.rs"]
mod statistics;

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn metrics_are_the_published_ones() {
    let checked = protocol_metrics::check(&read("protocol.json")).unwrap();
    assert_eq!(checked.len(), 4, "{checked:?}");
}

#[test]
fn statistics_are_scipys() {
    let checked = statistics::check(&read("statistics.json")).unwrap();
    assert!(checked.len() >= 15, "{checked:?}");
}

#[test]
fn metrics_thresholds_and_probes_are_scikit_learns() {
    let checked = classifiers::check(&read("classifiers.json")).unwrap();
    assert_eq!(checked.len(), 6, "{checked:?}");
}

#[test]
fn scaling_laws_are_scipys() {
    let checked = scaling::check(&read("scaling.json")).unwrap();
    assert_eq!(checked.len(), 7, "{checked:?}");
}

#[test]
fn a_changed_number_fails_the_check() {
    let mut json = read("statistics.json");
    json["auc"]["delong_z"] = Value::from(2.6557);
    assert!(statistics::check(&json).unwrap_err().contains("delong_z"));
    let mut json = read("protocol.json");
    json["metrics"][1]["per_class"][0]["ap"] = Value::from(0.5818);
    assert!(protocol_metrics::check(&json).unwrap_err().contains("ap"));
    let mut json = read("scaling.json");
    json["scaling"][0]["huber"]["parameters"]["b"] = Value::from(0.5);
    assert!(scaling::check(&json).unwrap_err().contains("b is"));
    let mut json = read("classifiers.json");
    json["classifiers"][0]["per_class"][0]["points"]["youden"][0] = Value::from(0.5);
    assert!(classifiers::check(&json).unwrap_err().contains("youden 0 is"));
}
