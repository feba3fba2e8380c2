//! Hand-made pipelines and kinds for the tests of planner and runner.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    kind::{AnyKind, Cell, Erased, InputSpec, Kind, Resources, SourcePath},
    pipeline::{CellInput, CellSpec, Limits, Pipeline},
    store::artifact::{Artifact, ArtifactType},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Writes its parameters and the contents of its inputs.
    #[default]
    Text,
    /// Writes how long that text is, so that many changes come to nothing.
    Length,
    Fail,
    Panic,
    /// Counts to `steps`, with a checkpoint where it is stopped.
    Count,
    /// Waits until [`open_gate`].
    Gate,
    /// Publishes what it does not declare.
    Undeclared,
    /// Changes its own source.
    Meddle,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    #[serde(default)]
    pub text: String,
    #[serde(default = "lr")]
    pub lr: f64,
    #[serde(default)]
    pub option: Option<String>,
    #[serde(default)]
    pub optimizer: BTreeMap<String, f64>,
    #[serde(default)]
    pub mode: Mode,
    #[serde(default)]
    pub steps: u64,
    #[serde(default)]
    pub root: Option<PathBuf>,
    /// A file outside the store that must stay there.
    #[serde(default)]
    pub deliver: Option<PathBuf>,
    #[serde(default)]
    pub data: Option<Value>,
    #[serde(default)]
    pub all: Option<Value>,
    #[serde(default)]
    pub named: Option<Value>,
}

fn lr() -> f64 {
    0.003
}

static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

pub fn open_gate() {
    *GATE.0.lock().unwrap() = true;
    GATE.1.notify_all();
}

/// A kind whose version is a parameter of the type.
pub struct Write<const VERSION: u32>;

impl<const V: u32> Kind for Write<V> {
    const NAME: &'static str = "write";
    const VERSION: u32 = V;
    const ABOUT: &'static str = "Writes a text";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const {
            &[
                InputSpec::optional("data", &[ArtifactType::Table]),
                InputSpec::cells("all", &[ArtifactType::Table]),
                InputSpec::cells("named", &[ArtifactType::Table]).named(),
            ]
        }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("table", ArtifactType::Table), ("extra", ArtifactType::Table)]
    }

    fn sources(params: &Params) -> Vec<SourcePath> {
        let path = |path: &PathBuf| SourcePath { field: "root", path: path.clone(), obtain: "run make data".into() };
        params.root.iter().map(path).collect()
    }

    fn resources(params: &Params) -> Resources {
        Resources { threads: params.optimizer.get("threads").map_or(1, |n| *n as usize), memory_bytes: 0 }
    }

    fn undelivered(params: &Params, _: &BTreeMap<String, Artifact>) -> Option<String> {
        let path = params.deliver.as_ref()?;
        (!path.exists()).then(|| format!("{} is gone", path.display()))
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let mut text = format!("{} {}\n", params.text, params.lr);
        for field in ["data", "all", "named"] {
            for input in cell.many(field) {
                text.push_str(&std::fs::read_to_string(cell.file(input, "t.txt")?).map_err(Error::io("t.txt"))?);
                if field == "named" {
                    text.push_str(&input.node);
                }
            }
        }
        if let Some(root) = &params.root {
            for file in &cell.sources.digest_tree(root)?.files {
                text.push_str(&format!("{} {}\n", file.name, file.digest));
            }
        }
        match params.mode {
            Mode::Text | Mode::Undeclared => {}
            Mode::Length => text = text.len().to_string(),
            Mode::Fail => return Err(Error::invalid("no rows").with_hint("check the filter")),
            Mode::Panic => panic!("index out of range"),
            Mode::Count => text = count(params.steps, cell)?,
            Mode::Gate => {
                let mut open = GATE.0.lock().unwrap();
                while !*open {
                    open = GATE.1.wait(open).unwrap();
                }
            }
            Mode::Meddle => {
                let path = params.root.as_ref().unwrap().join("meddled");
                std::fs::write(&path, "x").map_err(Error::io(&path))?;
            }
        }
        if let Some(path) = &params.deliver {
            std::fs::write(path, &text).map_err(Error::io(path))?;
        }
        cell.note("lines", text.lines().count() as u64, "written");
        let path = cell.work.join("t.txt");
        std::fs::write(&path, text).map_err(Error::io(&path))?;
        let output = if params.mode == Mode::Undeclared { "other" } else { "table" };
        cell.publish(output, ArtifactType::Table, &[("t.txt".into(), path)])
    }
}

/// A chain of digests, so that a lost or repeated step shows.
fn count(steps: u64, cell: &Cell) -> Result<String> {
    let saved = cell.scratch.join("state");
    let (mut step, mut state) = match std::fs::read_to_string(&saved) {
        Ok(text) => {
            let (step, state) = text.split_once(' ').unwrap();
            (step.parse().unwrap(), state.to_string())
        }
        Err(_) => (0, String::new()),
    };
    cell.progress.begin(steps, "steps");
    while step < steps {
        state = crate::digest::Digest::of(format!("{step} {state}").as_bytes()).hex();
        step += 1;
        cell.progress.advance(1);
        if cell.cancel.requested() {
            std::fs::write(&saved, format!("{step} {state}")).map_err(Error::io(&saved))?;
            return Err(Error::Interrupted);
        }
    }
    Ok(state)
}

pub static WRITE: Erased<Write<1>> = Erased::NEW;
pub static WRITE_2: Erased<Write<2>> = Erased::NEW;

/// A pipeline under construction.
pub struct Builder(pub Pipeline);

impl Builder {
    pub fn new() -> Self {
        Builder(Pipeline { name: "test".into(), path: PathBuf::new(), cells: Vec::new() })
    }

    /// Adds a cell of a node of its own.
    pub fn cell(self, id: &str, params: Value, inputs: &[(&str, &[usize])]) -> Self {
        self.matrix_cell(id, id, &[], params, inputs)
    }

    pub fn matrix_cell(
        mut self,
        id: &str,
        node: &str,
        axes: &[(&str, Value)],
        params: Value,
        inputs: &[(&str, &[usize])],
    ) -> Self {
        let input = |&cell: &usize| CellInput { cell, output: "table".into() };
        let inputs: BTreeMap<String, Vec<CellInput>> =
            inputs.iter().map(|(field, cells)| (field.to_string(), cells.iter().map(input).collect())).collect();
        let mut params = params;
        for field in inputs.keys() {
            // As the parser leaves it: what was written there.
            params[field] = json!("a node");
        }
        self.0.cells.push(CellSpec {
            id: id.into(),
            node: node.into(),
            kind: &WRITE,
            axes: axes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
            params,
            inputs,
            limits: Limits::default(),
        });
        self
    }

    pub fn kind(mut self, kind: &'static dyn AnyKind) -> Self {
        self.0.cells.last_mut().unwrap().kind = kind;
        self
    }

    pub fn build(self) -> Pipeline {
        self.0
    }
}

/// A folder with some files.
pub fn tree(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}
