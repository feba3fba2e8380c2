//! A study in a temporary folder: a pipeline file, a store, and the real program run on them.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

/// Small enough for a second or two, and whole: generate, merge, decode, pre-train, transfer, compare, report.
pub const TINY: &str = r#"pipeline: tiny
params: { lr: 0.1, epochs: 1, seeds: [0, 1] }
nodes:
  chexpert: { dataset: { format: phantom, layout: chexpert, patients: 24, seed: 1, size_px: 24 } }
  nih: { dataset: { format: phantom, layout: nih, patients: 24, seed: 2, size_px: 24 } }
  merged: { merge: { from: [chexpert, nih], labels: intersection, views: [PA, AP] } }
  pixels: { images: { data: merged, size_px: 16, unreadable: skip } }
  target: { dataset: { format: fractal, categories: 2, per_category: 8, test_per_category: 4, seed: 3, size_px: 16 } }
  target_pixels: { images: { data: target, size_px: 16 } }
  source:
    matrix: { fraction: [0.5, 1.0] }
    subset: { data: pixels, fraction: "${fraction}" }
  pretrain:
    matrix: { data: { cells: source } }
    pretrain:
      data: "${data}"
      model: bit-r14x0.25
      epochs: "${params.epochs}"
      batch: 8
      optimizer: { sgd_agc: { lr: 0.1 } }
  transfer:
    matrix: { model: { cells: pretrain }, shots: [1, full], seed: "${params.seeds}" }
    transfer:
      model: "${model}"
      data: target_pixels
      shots: "${shots}"
      seed: "${seed}"
      steps: 4
      batch: 8
      optimizer: { sgd_agc: { lr: "${params.lr}" } }
  effect: { compare: { metrics: transfer, across: fraction } }
  report:
    report:
      tables: [transfer, effect, merged.sources]
      plots: [ { kind: shots_curve, x: shots, y: accuracy, color: fraction } ]
      predictions: transfer
      images: target_pixels
"#;

pub struct Study {
    pub folder: tempfile::TempDir,
}

impl Study {
    pub fn new(pipeline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.yaml"), pipeline).unwrap();
        Study { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scaleshot"));
        command.args(words).current_dir(self.folder.path()).env_remove("SCALESHOT_STORE");
        command
    }

    pub fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs a command that must end well, and returns its stdout.
    pub fn must(&self, words: &[&str]) -> String {
        let out = self.output(words);
        assert!(out.status.success(), "{words:?}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// `plan --json`: (cell, state, reasons) of every cell.
    pub fn plan(&self, words: &[&str]) -> Vec<(String, String, Vec<String>)> {
        let text = self.must(&[&["plan", "x.yaml", "--json"], words].concat());
        let json: Value = serde_json::from_str(&text).unwrap();
        let cells = json["cells"].as_array().unwrap().iter().map(|c| {
            let reasons = c["reasons"].as_array().unwrap().iter().map(|r| r.as_str().unwrap().to_string());
            let text = |name: &str| c[name].as_str().unwrap().to_string();
            (text("cell"), text("state"), reasons.collect())
        });
        cells.collect()
    }

    /// Cells that a run computed, by its events.
    pub fn ran(&self, words: &[&str]) -> Vec<String> {
        let text = self.must(&[&["run", "x.yaml", "--json"], words].concat());
        let events = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        let done = events.filter(|e| e["event"] == "done").map(|e| e["cell"].as_str().unwrap().to_string());
        let mut cells: Vec<String> = done.collect();
        cells.sort();
        cells
    }

    /// Every file of the delivered report but those about the run (which hold clocks), with its bytes.
    pub fn report(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let mut open = vec![self.path("reports")];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else if !["run.html", "summary.json"].iter().any(|n| path.ends_with(n))
                    && !path.ends_with("reports/index.html")
                {
                    let name = path.strip_prefix(self.folder.path()).unwrap().display().to_string();
                    files.push((name, std::fs::read(&path).unwrap()));
                }
            }
        }
        files.sort();
        assert!(!files.is_empty(), "no report was delivered");
        files
    }
}
