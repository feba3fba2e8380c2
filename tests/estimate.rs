//! `plan --executor slurm --estimate`: what smaller runs say of a larger one, held against that one.

mod study;

use serde_json::Value;
use study::Study;

/// A training whose length follows `patients`.
const GROWING: &str = r#"pipeline: growing
params: { patients: 40 }
nodes:
  set: { dataset: { format: phantom, layout: nih, patients: "${params.patients}", seed: 2, size_px: 24 } }
  pixels: { images: { data: set, size_px: 24, unreadable: skip } }
  pretrain:
    matrix: { seed: [0, 1] }
    pretrain:
      data: pixels
      model: bit-r14x0.25
      epochs: 12
      batch: 8
      seed: "${seed}"
      optimizer: { sgd_agc: { lr: 0.1 } }
"#;

fn estimate(study: &Study, more: &[&str]) -> Value {
    let words = [&["plan", "x.yaml", "--executor", "slurm", "--estimate", "--json"], more].concat();
    serde_json::from_str(&study.must(&words)).unwrap()
}

/// Seconds of a core that the pre-trainings of these seeds took, by their records.
fn took(study: &Study) -> f64 {
    let cell = |seed: u32| -> f64 {
        let name = format!("pretrain[seed={seed}]");
        let record: Value = serde_json::from_str(&study.must(&["show", &name, "--json"])).unwrap();
        record["wall_ms"].as_f64().unwrap() / 1000.0 * record["threads"].as_f64().unwrap()
    };
    cell(0) + cell(1)
}

#[test]
fn a_run_of_twice_the_size_takes_what_smaller_ones_say() {
    let study = Study::new(GROWING);
    std::fs::write(study.path("p.yaml"), "kinds: { pretrain: { cpus: 4, gpus: 1 } }\n").unwrap();
    let profile = ["--profile", "./p.yaml"];
    // Nothing is known yet, and that is said.
    let nothing = estimate(&study, &profile);
    assert_eq!((nothing["unknown"].as_array().unwrap().len(), nothing["cells"].as_u64()), (4, Some(4)), "{nothing}");
    assert_eq!(nothing["core_hours"]["expected"], 0.0);
    // One cell after the other, so that none waits for another's processors.
    for patients in ["20", "40"] {
        study.ran(&["-p", &format!("patients={patients}"), "--jobs", "1"]);
    }
    let twice = ["-p", "patients=80"];
    let found = estimate(&study, &[&profile[..], &twice[..]].concat());
    assert!(found["unknown"].as_array().unwrap().is_empty(), "{found}");
    let nodes = found["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|n| n["node"] == "pretrain").unwrap();
    assert_eq!((node["cells"].as_u64(), node["records"].as_u64()), (Some(2), Some(4)), "{found}");
    let of = |interval: &Value, field: &str| interval[field].as_f64().unwrap();
    let ratio = node["images"].as_f64().unwrap() / 2.0 / node["seen_images"].as_f64().unwrap();
    assert!((1.7..2.3).contains(&ratio), "{found}");
    let (low, high) = (of(&node["core_hours"], "low") * 3600.0, of(&node["core_hours"], "high") * 3600.0);
    assert!(0.0 < low && low < high && high < 30.0 * low, "{found}");
    // Both at one time, each on four processors, four GPU-seconds for sixteen of the processors.
    let gpu = of(&found["gpu_hours"], "expected") * 4.0;
    assert!((gpu / of(&node["core_hours"], "expected") - 1.0).abs() < 1e-6, "{found}");
    // Two data cells and an array of two.
    assert_eq!(found["jobs"].as_u64(), Some(3), "{found}");
    let one = estimate(&study, &[&profile[..], &twice[..], &["--at-once", "1"]].concat());
    assert!(of(&one["wall_s"], "expected") > of(&found["wall_s"], "expected"), "{one}");
    study.ran(&[&twice[..], &["--jobs", "1"]].concat());
    let took = took(&study);
    // A machine that others use too is slower than itself at times: half as much again on both sides.
    assert!(took > low / 1.5 && took < high * 1.5, "took {took} s, expected {low} to {high} s: {found}");
    // From another store, and for people.
    let laptop = study.path(".scaleshot").display().to_string();
    let other = Study::new(GROWING);
    let text = other.must(&["plan", "x.yaml", "--executor", "slurm", "--estimate", "--records", &laptop]);
    assert!(text.contains("core-hours") && text.contains("pretrain") && text.contains("wall time"), "{text}");
    let local = other.output(&["plan", "x.yaml", "--estimate"]);
    assert_eq!(local.status.code(), Some(2));
}
