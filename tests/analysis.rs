//! Statistics through the real program: cases and seeds, laws, probes, and data that cannot bear what is asked.

mod study;

use scaleshot::{
    report::frame::{self, Frame, values},
    store::Store,
};
use serde_json::Value;
use study::{Study, TINY};

fn table(study: &Study, pipeline: &str, cell: &str, output: &str) -> Frame {
    let store = Store::open(study.path(".scaleshot")).unwrap();
    let last = store.last(pipeline).unwrap();
    let artifact = &last[cell].outputs[output];
    frame::read_parquet(&store.local(&artifact.file("table.parquet").unwrap().digest).unwrap()).unwrap()
}

fn column(frame: &Frame, name: &str) -> Vec<Value> {
    values(frame, name).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The tiny study with its comparison replaced, and nodes added.
fn tiny(effect: &str, more: &str) -> String {
    let effect = format!("  effect: {effect}\n");
    TINY.replace("  effect: { compare: { metrics: transfer, across: fraction } }\n", &effect) + more
}

#[test]
fn cases_laws_and_probes_are_read_from_what_cells_left() {
    let study = Study::new(&tiny(
        "{ compare: { metrics: transfer, predictions: transfer, across: fraction, metric: mean_auc, resamples: 200, overlap: 0.5 } }",
        "  law: { scaling: { metrics: transfer, data_size: fraction, predict_at: [10] } }
  features:
    matrix: { model: { cells: pretrain } }
    embed: { model: \"${model}\", data: target_pixels }
  probe:
    matrix: { features: { cells: features } }
    probe: { features: \"${features}\", method: { logistic: { l2: [10, 1, 0.1] } }, validation: { part: 0.25 }, seed: 3 }
",
    ));
    study.must(&["run", "x.yaml"]);

    let effect = table(&study, "tiny", "effect", "table");
    assert_eq!(effect.height(), 2, "one contrast of fractions for each number of shots");
    assert!(column(&effect, "unit").iter().all(|u| u == "image") && column(&effect, "units").iter().all(|u| *u == 8));
    assert!(column(&effect, "remark").iter().all(|r| text(r).contains("with 2 pairs no two-sided sign-flip")));
    let delong = table(&study, "tiny", "effect", "delong");
    assert_eq!(delong.height(), 4, "two numbers of shots, two seeds, one of two classes");
    let tests = table(&study, "tiny", "effect", "tests");
    assert_eq!(tests.height(), 4 * 2);
    // The mean of a level is that of its cells' metrics.
    let levels = table(&study, "tiny", "effect", "levels");
    let level = (0..4).find(|&r| column(&levels, "shots")[r] == "full" && column(&levels, "level")[r] == 0.5);
    let mut cells = Vec::new();
    for seed in [0, 1] {
        let cell = format!("transfer[fraction=0.5,shots=full,seed={seed}]");
        let metrics = table(&study, "tiny", &cell, "metrics");
        let at = column(&metrics, "metric").iter().position(|m| m == "mean_auc").unwrap();
        cells.push(column(&metrics, "value")[at].as_f64().unwrap());
        let confusion = table(&study, "tiny", &cell, "confusion");
        assert_eq!(column(&confusion, "rows").iter().filter_map(Value::as_i64).sum::<i64>(), 8);
        assert_eq!(table(&study, "tiny", &cell, "thresholds").height(), 2 * 5);
    }
    let mean = column(&levels, "mean")[level.unwrap()].as_f64().unwrap();
    assert!((mean - (cells[0] + cells[1]) / 2.0).abs() < 1e-12);

    let law = table(&study, "tiny", "law", "table");
    assert!(column(&law, "remark").iter().all(|r| text(r) == "2 sizes, 4 are needed"));
    assert!(column(&law, "b").iter().all(Value::is_null) && column(&law, "chosen").iter().all(|c| *c == false));
    assert!(column(&table(&study, "tiny", "law", "predicted"), "score").iter().all(Value::is_null));

    let path = table(&study, "tiny", "probe[fraction=0.5]", "path");
    assert_eq!(column(&path, "l2").len(), 3);
    assert_eq!(column(&path, "chosen").iter().filter(|c| **c == true).count(), 1);
    assert!(column(&path, "valid_log_loss").iter().all(Value::is_f64));
    let shown = study.must(&["show", "effect"]);
    assert!(shown.contains("design_limits"), "{shown}");
    assert_eq!(study.ran(&[]), Vec::<String>::new());
}

/// Accuracy of a made-up study: 1 − (0.1 + 2·n^(−0.5)), three seeds, and a second group that does not fall.
fn scores() -> String {
    let mut text = String::from("source,images,seed,accuracy\n");
    for n in [50.0, 150.0, 500.0, 1500.0, 5000.0f64] {
        for seed in 0..3 {
            let error = (0.1 + 2.0 * n.powf(-0.5)) * (1.0 + 0.004 * f64::from(seed - 1));
            text += &format!("natural,{n},{seed},{}\nflat,{n},{seed},0.5\n", 1.0 - error);
        }
    }
    text
}

#[test]
fn a_law_of_a_table_from_outside_foretells_a_size_that_was_not_run() {
    let study = Study::new(
        "pipeline: laws
nodes:
  scores: { table: { root: scores.csv } }
  runs:
    query:
      tables: scores
      sql: SELECT source, images, seed, 'accuracy' AS metric, CAST(NULL AS VARCHAR) AS class, accuracy AS value FROM scores
  law: { scaling: { metrics: runs, data_size: images, predict_at: [50000], resamples: 200 } }
  report: { report: { tables: [law, law.predicted, law.points] } }
",
    );
    std::fs::write(study.path("scores.csv"), scores()).unwrap();
    study.must(&["run", "x.yaml"]);
    let (law, predicted) = (table(&study, "laws", "law", "table"), table(&study, "laws", "law", "predicted"));
    let at = |frame: &Frame, source: &str, law: &str| {
        (0..frame.height()).find(|&r| column(frame, "source")[r] == source && column(frame, "law")[r] == law).unwrap()
    };
    let row = at(&law, "natural", "power_law");
    assert_eq!(column(&law, "chosen")[row], true);
    let b = column(&law, "b")[row].as_f64().unwrap();
    assert!((b - 0.5).abs() < 0.02, "{b}");
    let row = at(&predicted, "natural", "power_law");
    let score = column(&predicted, "score")[row].as_f64().unwrap();
    assert!((score - (0.9 - 2.0 * 50_000f64.powf(-0.5))).abs() < 0.005, "{score}");
    assert_eq!(text(&column(&predicted, "remark")[row]), "10.000 times the largest size that was run");
    let row = at(&law, "flat", "power_law");
    assert_eq!(text(&column(&law, "remark")[row]), "the error is 0.5000 at every size");
    assert_eq!(column(&law, "c")[row], Value::Null);
}

#[test]
fn too_few_examples_of_a_class_name_node_class_and_count() {
    let study = Study::new(&TINY.replace("shots: [1, full]", "shots: [50]"));
    let out = study.output(&["run", "x.yaml"]);
    assert_eq!(out.status.code(), Some(1));
    let error = String::from_utf8_lossy(&out.stderr).into_owned();
    let wanted = "has 8 training images, 50 shots were asked for";
    let line = error.lines().find(|l| l.contains(wanted)).unwrap_or_else(|| panic!("{error}"));
    assert!(line.contains("target_pixels: class "), "{line}");
}

#[test]
fn a_finding_absent_from_the_test_rows_is_null_and_named_with_its_count() {
    let study = Study::new(&tiny(
        "{ compare: { metrics: transfer, across: fraction } }",
        "  rare: { dataset: { format: phantom, layout: nih, patients: 24, seed: 9, size_px: 24 } }
  rare_px: { images: { data: rare, size_px: 16, unreadable: skip } }
  rare_features: { matrix: { model: { cells: pretrain } }, embed: { model: \"${model}\", data: rare_px } }
  rare_probe: { matrix: { features: { cells: rare_features } }, probe: { features: \"${features}\", leakage: report } }
",
    ));
    study.must(&["run", "x.yaml", "rare_probe"]);
    let metrics = table(&study, "tiny", "rare_probe[fraction=0.5]", "metrics");
    let (names, classes) = (column(&metrics, "metric"), column(&metrics, "class"));
    let (positives, found) = (column(&metrics, "positives"), column(&metrics, "value"));
    let absent: Vec<usize> = (0..names.len()).filter(|&r| names[r] == "auc" && positives[r] == 0).collect();
    assert!(!absent.is_empty(), "24 patients must leave some finding out of the test rows");
    assert!(absent.iter().all(|&r| found[r].is_null()));
    let shown = study.must(&["show", "rare_probe[fraction=0.5]"]);
    let sentence = format!("class {} has no positives in", text(&classes[absent[0]]));
    assert!(shown.contains(&sentence), "{sentence}\n{shown}");
}
