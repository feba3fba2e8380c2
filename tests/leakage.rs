//! Test images that were trained on are an error unless declared; what leaves the store is watched.

mod study;

use study::Study;

const HELD_OUT: &str = r#"pipeline: held
nodes:
  nih: { dataset: { format: phantom, layout: nih, patients: 60, seed: 2, size_px: 24 } }
  pixels: { images: { data: nih, size_px: 16, unreadable: skip } }
  pretrain: { pretrain: { data: pixels, model: bit-r14x0.25, epochs: 1, batch: 8, optimizer: { sgd_agc: { lr: 0.1 } } } }
  held: { evaluate: { model: pretrain, data: pixels } }
  seen: { evaluate: { model: pretrain, data: pixels, split: train, leakage: report } }
  out: { export: { from: held, to: out } }
  top: { query: { tables: held, sql: "SELECT metric, value FROM held WHERE class IS NULL ORDER BY metric" } }
"#;

#[test]
fn images_that_were_trained_on_are_reported_or_refused() {
    let study = Study::new(HELD_OUT);
    study.must(&["run", "x.yaml"]);
    let record =
        |cell: &str| serde_json::from_str::<serde_json::Value>(&study.must(&["show", cell, "--json"])).unwrap();
    let notes = record("seen")["notes"].to_string();
    assert!(notes.contains("\"what\":\"leakage\"") && notes.contains("patients of pixels are in training"), "{notes}");
    assert!(!record("held")["notes"].to_string().contains("leakage"), "held-out patients are not in training");
    let top = study.must(&["show", "top"]);
    assert!(top.contains("mean_auc") && top.contains("accuracy"), "{top}");

    std::fs::write(study.path("x.yaml"), HELD_OUT.replace(", leakage: report", "")).unwrap();
    assert_eq!(study.plan(&[])[4].2, ["leakage changed (report => deny)"]);
    let out = study.output(&["run", "x.yaml"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1));
    assert!(said.contains("leakage: ") && said.contains("hint: split by patient"), "{said}");
}

#[test]
fn an_exported_file_that_is_gone_is_written_again() {
    let study = Study::new(HELD_OUT);
    study.must(&["run", "x.yaml"]);
    let before = std::fs::read(study.path("out/table.parquet")).unwrap();
    std::fs::remove_file(study.path("out/table.parquet")).unwrap();
    assert_eq!(study.ran(&[]), ["out"]);
    assert_eq!(std::fs::read(study.path("out/table.parquet")).unwrap(), before);
    assert_eq!(study.ran(&[]), Vec::<String>::new());
}
