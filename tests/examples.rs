//! The example pipelines run to their reports at a small size, and the paper's study plans as published.

mod study;

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::Value;
use study::Study;

/// Values that make every example small; each takes those it declares.
const SMALL: [(&str, &str); 9] = [
    ("px", "16"),
    ("patients", "40"),
    ("epochs", "1"),
    ("steps", "3"),
    ("seeds", "[0, 1]"),
    ("shots", "[1, 2, full]"),
    ("fractions", "[0.5, 1.0]"),
    ("target", "{ format: phantom, layout: tuberculosis, patients: 40, seed: 3, size_px: 24 }"),
    ("mine", "{ format: phantom, layout: padchest, patients: 40, seed: 4, size_px: 24 }"),
];

fn pipelines() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

/// Runs an example in small with other values on top, and returns its report as (file, bytes).
fn small(name: &str, values: &[(&str, &str)]) -> (Study, Vec<(String, Vec<u8>)>) {
    let text = std::fs::read_to_string(pipelines().join("examples").join(name)).unwrap();
    let study = Study::new(&text);
    let mut words = vec!["run".to_string(), "x.yaml".to_string()];
    let params = text.split("\nnodes:").next().unwrap();
    let declared = |name: &str| params.lines().any(|l| l.starts_with(&format!("  {name}:")));
    let values = SMALL.iter().filter(|(n, _)| !values.iter().any(|(m, _)| m == n)).chain(values);
    for (name, value) in values.filter(|(n, _)| declared(n)) {
        words.extend(["-p".into(), format!("{name}={value}")]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    study.must(&words);
    let report = study.report();
    (study, report)
}

#[test]
fn which_model_ranks_every_way_of_every_candidate() {
    let (_study, report) = small("which_model.yaml", &[]);
    let html = report.iter().find(|(n, _)| n.ends_with(".html")).map(|(_, b)| String::from_utf8_lossy(b).into_owned());
    let html = html.expect("a page");
    for part in ["fine-tuned", "probed", "fractals", "xray"] {
        assert!(html.contains(part), "{part} is not in the page");
    }
    assert!(report.iter().any(|(n, _)| n.ends_with("ranking.parquet")), "{:?}", names(&report));
}

#[test]
fn how_many_labels_makes_a_curve_over_shots() {
    let (_study, report) = small("how_many_labels.yaml", &[("shots", "[1, 2, 3, 4]")]);
    assert!(report.iter().any(|(n, _)| n.ends_with("tune.parquet")), "{:?}", names(&report));
}

#[test]
fn more_data_compares_nested_parts() {
    let (_study, report) = small("more_data.yaml", &[]);
    assert!(report.iter().any(|(n, _)| n.ends_with("effect.parquet")), "{:?}", names(&report));
}

#[test]
fn leaking_finds_shared_patients_in_a_split_of_images_alone() {
    let (study, _) = small("leaking.yaml", &[]);
    let notes = |cell: &str| {
        serde_json::from_str::<Value>(&study.must(&["show", cell, "--json"])).unwrap()["notes"].to_string()
    };
    assert!(notes("split[by=image]").contains("leakage"), "{}", notes("split[by=image]"));
    assert!(!notes("split[by=patient]").contains("patients"), "{}", notes("split[by=patient]"));
}

fn names(report: &[(String, Vec<u8>)]) -> Vec<&str> {
    report.iter().map(|(n, _)| n.as_str()).collect()
}

/// `plan --json` of the paper's study.
fn paper(words: &[&str]) -> Vec<Value> {
    let study = Study::new("");
    let file = pipelines().join("paper/paper.yaml");
    let text = study.must(&[&["plan", file.to_str().unwrap(), "--json"], words].concat());
    serde_json::from_str::<Value>(&text).unwrap()["cells"].as_array().unwrap().clone()
}

fn axes(cells: &[Value], node: &str) -> BTreeSet<String> {
    let cells = cells.iter().map(|c| c["cell"].as_str().unwrap());
    cells.filter(|c| c.starts_with(&format!("{node}["))).map(String::from).collect()
}

#[test]
fn the_papers_study_plans_without_its_data_and_says_how_to_obtain_it() {
    let cells = paper(&["-p", "root=nowhere"]);
    let state = |cell: &Value| cell["state"].as_str().unwrap().to_string();
    let blocked = cells.iter().find(|c| c["cell"] == "chexpert").unwrap();
    assert_eq!(state(blocked), "blocked");
    assert!(blocked["reasons"].to_string().contains("nowhere/CheXpert-v1.0"), "{blocked}");
    assert!(blocked.to_string().contains("stanford"), "how to obtain it: {blocked}");
    assert!(cells.iter().all(|c| state(c) == "blocked"), "nothing can run without data");
    assert_eq!(axes(&cells, "source_images").len(), 10);
    assert_eq!(axes(&cells, "pretrain").len(), 20);
    let transfers = axes(&cells, "transfer");
    let of = |target: &str| transfers.iter().filter(|c| c.contains(&format!("target={target},"))).count();
    // Sources x networks x shots x seeds.
    assert_eq!(of("cifar10"), 2 * 2 * 6 * 5);
    assert_eq!(of("pets"), 2 * 2 * 4 * 5);
    assert_eq!(of("covidx"), 10 * 2 * 6 * 5);
    assert_eq!(of("tuberculosis"), 10 * 2 * 5 * 5);
    assert_eq!(of("padchest_target"), 7 * 2 * 5 * 5);
    assert_eq!(of("padchest_multi"), 7 * 2 * 5);
}

#[test]
fn the_papers_study_in_small_has_every_node_and_axis_and_needs_no_data() {
    let (large, small) = (paper(&["-p", "root=nowhere"]), paper(&["-p", "scale=mini"]));
    let nodes = |cells: &[Value]| -> BTreeSet<String> {
        let name = |c: &Value| c["cell"].as_str().unwrap().split('[').next().unwrap().to_string();
        cells.iter().map(name).collect()
    };
    assert_eq!(nodes(&large), nodes(&small));
    assert!(small.iter().all(|c| c["state"] != "blocked"), "generated data is never missing");
    for target in
        ["cifar10", "cifar100", "pets", "flowers102", "covidx", "tuberculosis", "padchest_target", "padchest_multi"]
    {
        assert!(axes(&small, "transfer").iter().any(|c| c.contains(&format!("target={target},"))), "{target}");
    }
}
