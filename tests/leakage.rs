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

/// Two folders of photographs, the second a turned and brightened copy of some of the first.
const NEAR: &str = r#"pipeline: near
nodes:
  photos: { dataset: { format: image_folder, root: photos } }
  pixels: { images: { data: photos, size_px: 64 } }
  merged: { merge: { from: pixels } }
"#;

#[test]
fn a_near_duplicate_between_splits_is_an_error_that_names_both() {
    use scaleshot::data::image::{ImageSize, Pixels, encode};
    let study = Study::new(NEAR);
    // Another picture for every seed; `turn` in degrees about the middle, `gain` in brightness.
    let write = |split: &str, name: &str, seed: f64, turn: f64, gain: f64| {
        let size = ImageSize { height: 120, width: 120, channels: 1 };
        let (sin, cos) = turn.to_radians().sin_cos();
        let pixel = |i: usize| {
            let (y, x) = ((i / 120) as f64 / 120.0 - 0.5, (i % 120) as f64 / 120.0 - 0.5);
            let (y, x) = (sin * x + cos * y, cos * x - sin * y);
            let wave = |k: f64| (k * 1.7 * x + seed * k).sin() * (k * 1.3 * y - seed * 2.0).cos() * 90.0 / k.sqrt();
            ((110.0 + wave(3.0) + wave(5.0 + seed % 3.0) + wave(9.0) + wave(14.0)) * gain).clamp(0.0, 255.0) as u8
        };
        let image = Pixels { size, data: (0..size.bytes()).map(pixel).collect() };
        let folder = study.path("photos").join(split).join("cat");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), encode::jpeg(&image, 85).unwrap()).unwrap();
    };
    for i in 0..12 {
        write("train", &format!("train{i}.jpg"), f64::from(i) * 1.1, 0.0, 1.0);
    }
    for i in 0..4 {
        write("test", &format!("test{i}.jpg"), 20.0 + f64::from(i) * 1.1, 0.0, 1.0);
    }
    study.must(&["run", "x.yaml"]);
    write("test", "again.jpg", 3.3, 4.0, 0.85);
    let out = study.output(&["run", "x.yaml"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("1 near-duplicates") && said.contains("again.jpg like"), "{said}");
    assert!(said.contains("train3.jpg"), "{said}");

    let reported = NEAR.replace("from: pixels", "from: pixels, leakage: report");
    let subset = "  part: { subset: { data: merged, fraction: 1.0, leakage: LEAK } }\n";
    std::fs::write(study.path("x.yaml"), reported.clone() + &subset.replace("LEAK", "report")).unwrap();
    study.must(&["run", "x.yaml"]);
    for node in ["merged", "part"] {
        let record: serde_json::Value = serde_json::from_str(&study.must(&["show", node, "--json"])).unwrap();
        assert!(record["notes"].to_string().contains("1 near-duplicates"), "{node}: {}", record["notes"]);
    }
    std::fs::write(study.path("x.yaml"), reported.clone() + &subset.replace("LEAK", "deny")).unwrap();
    assert_eq!(study.output(&["run", "x.yaml"]).status.code(), Some(1));
    // Without the copy there is nothing to deny.
    let only = "  part: { subset: { data: merged, where: \"split = 'train'\" } }\n";
    std::fs::write(study.path("x.yaml"), reported + only).unwrap();
    study.must(&["run", "x.yaml"]);
}
