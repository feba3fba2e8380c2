//! Options of training and fine-tuning from the file to the record, and what stops a cell.

mod study;

use serde_json::Value;
use study::Study;

const OPTIONS: &str = r#"pipeline: options
params: { precision: f32, lr: 0.01 }
nodes:
  padchest: { dataset: { format: phantom, layout: padchest, patients: 120, seed: 1, size_px: 24 } }
  split: { merge: { from: padchest, split: { patient: { train: 0.7 } } } }
  pixels: { images: { data: split, size_px: 16, unreadable: skip } }
  pretrain:
    pretrain:
      data: pixels
      model: bit-r14x0.25
      precision: "${params.precision}"
      checkpoint: blocks
      steps: 3
      batch: 8
      micro_batch: auto
      optimizer: { adamw: { lr: 0.001, weight_decay: 0.05 } }
      rand_augment: { n: 1, m: 9 }
      schedule: { cosine: {} }
  tuned:
    transfer:
      model: pretrain
      data: pixels
      single_label: true
      valid_ratio: 0.25
      evaluate_every: { steps: 2 }
      keep: best
      steps: 6
      batch: 8
      precision: "${params.precision}"
      head_init: pytorch
      layer_decay: 0.7
      ema: 0.9
      label_smoothing: 0.1
      oversample: true
      augment: flip
      optimizer: { sgd_agc: { lr: "${params.lr}" } }
  features: { embed: { model: pretrain, data: pixels, precision: "${params.precision}" } }
  judged: { evaluate: { model: pretrain, data: pixels, precision: "${params.precision}" } }
"#;

fn record(study: &Study, cell: &str) -> Value {
    serde_json::from_str(&study.must(&["show", cell, "--json"])).unwrap()
}

#[test]
fn every_option_runs_and_the_record_says_how_it_computed() {
    let study = Study::new(OPTIONS);
    study.must(&["run", "x.yaml"]);
    for cell in ["pretrain", "tuned", "features", "judged"] {
        let measured = &record(&study, cell)["measured"];
        assert_eq!(measured["precision"], "f32", "{cell}");
        assert!(measured["kernels"].as_str().is_some_and(|k| !k.is_empty()), "{cell}: {measured}");
        let waits = measured["input_wait_share"].as_f64();
        assert_eq!(waits.is_some(), ["pretrain", "tuned"].contains(&cell), "{cell}: {measured}");
        assert!(waits.is_none_or(|w| (0.0..=1.0).contains(&w)), "{cell}: {measured}");
    }
    let curve = study.must(&["show", "tuned", "curve"]);
    assert!(curve.contains("valid_loss") && curve.contains("(6 rows"), "{curve}");
    let notes = record(&study, "tuned")["notes"].to_string();
    assert!(notes.contains("not_single_label"), "{notes}");
    assert!(!notes.contains("wait"), "what a clock says must not reach an artifact: {notes}");

    let before = ["pretrain", "features", "judged"].map(|cell| record(&study, cell)["outputs"].clone());
    assert!(study.plan(&[]).iter().all(|(_, state, _)| state == "fresh"), "{:?}", study.plan(&[]));
    let plan = study.plan(&["-p", "precision=bf16"]);
    let reasons = |cell: &str| plan.iter().find(|(c, ..)| c == cell).map(|(_, _, r)| r.join("; ")).unwrap();
    assert_eq!(reasons("pretrain"), "precision changed (f32 => bf16)");
    study.must(&["run", "x.yaml", "-p", "precision=bf16"]);
    let after = ["pretrain", "features", "judged"].map(|cell| record(&study, cell));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after["measured"]["precision"], "bf16");
        assert_ne!(*before, after["outputs"], "{}", after["cell"]);
    }
}

#[test]
fn a_loss_that_is_no_number_names_step_rate_norms_and_checkpoint() {
    let study = Study::new(OPTIONS);
    let out = study.output(&["run", "x.yaml", "tuned", "-p", "lr=1e30"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    for part in ["at step ", "learning rate ", "largest gradient norms: ", "the checkpoint of step ", "hint: lower"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
}

#[test]
fn too_small_a_share_names_node_field_and_count() {
    let study = Study::new(&OPTIONS.replace("valid_ratio: 0.25", "valid_ratio: 0.001"));
    let out = study.output(&["run", "x.yaml", "tuned"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("pixels: valid_ratio of 0.001 leaves none of "), "{said}");
}

#[test]
fn a_model_leaves_under_timms_names_and_comes_back() {
    let more = "  out: { export: { from: pretrain, to: out, names: timm } }\n  wrong: { export: { from: judged, to: w, names: timm } }\n";
    let study = Study::new(&(OPTIONS.to_string() + more));
    study.must(&["run", "x.yaml", "out"]);
    let bytes = std::fs::read(study.path("out/weights.safetensors")).unwrap();
    let text = String::from_utf8_lossy(&bytes[..40_000.min(bytes.len())]).into_owned();
    assert!(text.contains("stages.0.blocks.0.conv1.weight") && text.contains("head.fc.bias"), "{}", &text[..300]);
    let back = "pipeline: back\nnodes:\n  again: { import_model: { root: out/weights.safetensors, single_label: false } }\n  \
                own: { export: { from: again, to: again } }\n";
    std::fs::write(study.path("back.yaml"), back).unwrap();
    study.must(&["run", "back.yaml"]);
    let own = study.must(&["show", "pretrain", "--json"]);
    let digest = |artifact: &Value| {
        let files = artifact["files"].as_array().unwrap();
        files.iter().find(|f| f["name"] == "weights.safetensors").unwrap()["digest"].clone()
    };
    let own: Value = serde_json::from_str(&own).unwrap();
    assert_eq!(digest(&own["outputs"]["model"]), digest(&record(&study, "again")["outputs"]["model"]));
    let said = study.output(&["run", "x.yaml", "wrong"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("names are of a model's weights"));
}

#[test]
fn a_model_keeps_the_scaling_that_it_was_trained_with() {
    let more = r#"  scaled:
    pretrain: { data: pixels, model: bit-r14x0.25, normalise: imagenet, steps: 3, batch: 8, optimizer: { sgd_agc: { lr: 0.1 } } }
  own: { evaluate: { model: scaled, data: pixels } }
  same: { evaluate: { model: scaled, data: pixels, normalise: imagenet } }
  other: { evaluate: { model: scaled, data: pixels, normalise: symmetric } }
"#;
    let study = Study::new(&(OPTIONS.to_string() + more));
    study.must(&["run", "x.yaml", "own", "same", "other"]);
    let predictions = ["own", "same", "other"].map(|cell| record(&study, cell)["outputs"]["predictions"].clone());
    assert_eq!(predictions[0], predictions[1], "what is not said is the model's own");
    assert_ne!(predictions[0], predictions[2]);

    let wrong = more.replace("normalise: symmetric", "normalise: { mean: [0, 0, 0], std: [1, 0, 1] }");
    std::fs::write(study.path("x.yaml"), OPTIONS.to_string() + &wrong).unwrap();
    let out = study.output(&["plan", "x.yaml"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(2) && said.contains("normalise.std") && said.contains("above 0"), "{said}");
}
