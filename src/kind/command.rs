//! `command`: an outside program with declared inputs, outputs, environment and version.
//!
//! It runs in an empty folder of its own and sees nothing that was not declared: its environment is empty but for
//! the table below, its inputs are links into the store. What it leaves at the declared places is published; the
//! rest goes with the folder. What it prints goes to the cell's log.
//!
//! | variable | holds |
//! |---|---|
//! | `PATH`, `HOME`, and those of `pass` | as in scaleshot's own environment; not part of the key |
//! | those of `env` | what is declared; part of the key |
//! | `SCALESHOT_ROOT` | the absolute path of `root` |
//! | `SCALESHOT_INPUTS` | the folder `inputs`: `NODE/…`, or `NODE/AXIS=VALUE,…/…` for a cell of a matrix, and `inputs.json` |
//! | `SCALESHOT_SCRATCH` | a folder that survives an interruption, for checkpoints of its own |
//! | `SCALESHOT_THREADS`, `OMP_NUM_THREADS`, `CUDA_VISIBLE_DEVICES` | its share of the machine |
//! | `TMPDIR`, `LC_ALL=C.UTF-8`, `TZ=UTC` | the same everywhere |
//!
//! What the program itself is made of is not looked at: `root` holds what should count by content, `version` what
//! should count by name.

mod family;
mod process;

pub use family::ended_cpu;
pub use process::{ended, kill_all};

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Cell, InputSpec, Kind, Nodes, Resources, SourcePath, frames};
use crate::{
    error::{Error, Result},
    report::frame,
    store::artifact::ArtifactType,
};

pub struct Command;

/// A program with its arguments, or a line for `sh -c`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Run {
    /// A line for `sh -c`.
    Shell(String),
    /// The program and its arguments; `{root}`, `{inputs}`, `{scratch}` and `{threads}` are filled in.
    Program(Vec<String>),
}

/// A value that stands for its text.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    Text(String),
    Whole(i64),
    Number(f64),
    Flag(bool),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Scalar::Text(text) => f.write_str(text),
            Scalar::Whole(n) => write!(f, "{n}"),
            Scalar::Number(x) => write!(f, "{x}"),
            Scalar::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// One thing that the program makes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// What its files are; other nodes take it as that.
    #[serde(rename = "type")]
    pub of: OutputType,
    /// The file or folder, below the folder that the program runs in. A table is one `.csv` or `.parquet` file.
    pub path: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    Dataset,
    Images,
    Model,
    Features,
    Table,
    Report,
    Files,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The program and its arguments, as a list, or one line for `sh -c`.
    pub run: Run,
    /// Nodes whose artifacts it reads.
    #[serde(default)]
    pub inputs: Option<Nodes>,
    /// By name.
    pub outputs: BTreeMap<String, Output>,
    /// A file or folder that it reads, as its scripts: its content is part of the key.
    #[serde(default)]
    pub root: Option<PathBuf>,
    /// Raised when the program gives other results.
    #[serde(default)]
    pub version: Option<Scalar>,
    /// Variables with their values.
    #[serde(default)]
    pub env: BTreeMap<String, Scalar>,
    /// Names of variables that it sees as scaleshot does; their values are not part of the key.
    #[serde(default)]
    pub pass: Vec<String>,
}

impl OutputType {
    fn artifact(self) -> ArtifactType {
        match self {
            OutputType::Dataset => ArtifactType::Dataset,
            OutputType::Images => ArtifactType::Images,
            OutputType::Model => ArtifactType::Model,
            OutputType::Features => ArtifactType::Features,
            OutputType::Table => ArtifactType::Table,
            OutputType::Report => ArtifactType::Report,
            OutputType::Files => ArtifactType::Files,
        }
    }
}

impl Kind for Command {
    const NAME: &'static str = "command";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Runs an outside program with declared inputs, outputs, environment and version.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        // Node names are folders that the program sees.
        const { &[InputSpec::maybe_cells("inputs", &[]).named()] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[]
    }

    const OWN_OUTPUTS: bool = true;

    fn outputs_of(params: &Params) -> Vec<(String, ArtifactType)> {
        params.outputs.iter().map(|(name, output)| (name.clone(), output.of.artifact())).collect()
    }

    fn sources(params: &Params) -> Vec<SourcePath> {
        let source = |path: &PathBuf| SourcePath {
            field: "root",
            path: path.clone(),
            obtain: "the scripts of the command".into(),
        };
        params.root.iter().map(source).collect()
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let empty = match &params.run {
            Run::Shell(line) => line.trim().is_empty(),
            Run::Program(words) => words.first().is_none_or(|program| program.is_empty()),
        };
        if empty {
            wrong.push(("run".into(), "there is nothing to run".into()));
        }
        if params.outputs.is_empty() {
            wrong.push(("outputs".into(), "a command without outputs leaves nothing to keep".into()));
        }
        for (name, output) in &params.outputs {
            let inside =
                |c: std::path::Component| matches!(c, std::path::Component::Normal(_) | std::path::Component::CurDir);
            if output.path.is_empty() || !Path::new(&output.path).components().all(inside) {
                wrong.push((
                    format!("outputs.{name}.path"),
                    format!("{:?} does not stay in the command's folder", output.path),
                ));
            }
        }
        for name in params.env.keys().chain(&params.pass) {
            if name.is_empty() || name.contains(['=', '\0']) {
                wrong.push(("env".into(), format!("{name:?} is no name for a variable")));
            }
        }
        wrong
    }

    fn resources(_: &Params) -> Resources {
        Resources { threads: 1, memory_bytes: 0 }
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let home = cell.work.join("command");
        std::fs::create_dir(&home).map_err(Error::io(&home))?;
        let inputs = link_inputs(cell)?;
        let temporary = cell.work.join("tmp");
        std::fs::create_dir(&temporary).map_err(Error::io(&temporary))?;
        let root = params.root.as_ref().map(|root| root.canonicalize().map_err(Error::io(root))).transpose()?;
        let root = root.map(|path| path.display().to_string()).unwrap_or_default();
        let fill = |text: &String| {
            text.replace("{root}", &root)
                .replace("{inputs}", &inputs.display().to_string())
                .replace("{scratch}", &cell.scratch.display().to_string())
                .replace("{threads}", &cell.threads.to_string())
        };
        let words: Vec<String> = match &params.run {
            Run::Shell(line) => vec!["sh".into(), "-c".into(), line.clone()],
            Run::Program(words) => words.iter().map(fill).collect(),
        };
        let gpus: Vec<String> = cell.gpus.iter().map(u32::to_string).collect();
        let mut environment: Vec<(String, String)> = Vec::new();
        for name in ["PATH", "HOME"].iter().copied().chain(params.pass.iter().map(String::as_str)) {
            environment.extend(std::env::var(name).ok().map(|value| (name.to_string(), value)));
        }
        environment.extend(
            [
                ("LC_ALL", "C.UTF-8".to_string()),
                ("TZ", "UTC".into()),
                ("TMPDIR", temporary.display().to_string()),
                ("SCALESHOT_ROOT", root.clone()),
                ("SCALESHOT_INPUTS", inputs.display().to_string()),
                (family::MARK, cell.scratch.display().to_string()),
                ("SCALESHOT_THREADS", cell.threads.to_string()),
                ("OMP_NUM_THREADS", cell.threads.to_string()),
                ("CUDA_VISIBLE_DEVICES", gpus.join(",")),
            ]
            .map(|(name, value)| (name.to_string(), value)),
        );
        environment.extend(params.env.iter().map(|(name, value)| (name.clone(), value.to_string())));
        process::run(&words, &home, &environment, cell)?;
        for (name, output) in &params.outputs {
            publish(cell, name, output, &home)?;
        }
        Ok(())
    }
}

/// Lays the inputs out below a folder of the work folder, as links, and lists them in `inputs.json`.
fn link_inputs(cell: &Cell) -> Result<PathBuf> {
    let folder = cell.work.join("inputs");
    std::fs::create_dir(&folder).map_err(Error::io(&folder))?;
    let mut list = Vec::new();
    for input in cell.many("inputs") {
        let axes: Vec<String> = input.axes.iter().map(|(name, value)| format!("{name}={}", axis_text(value))).collect();
        let place = if axes.is_empty() { input.node.clone() } else { format!("{}/{}", input.node, axes.join(",")) };
        // Two outputs of one cell are told apart by their order, which is part of the key as their names are not.
        let taken = |place: &str| list.iter().any(|item: &serde_json::Value| item["path"] == place);
        let place = match (2..).map(|n| format!("{place}-{n}")).find(|p| !taken(p)) {
            Some(other) if taken(&place) => other,
            _ => place,
        };
        for file in &input.artifact.files {
            let path = folder.join(&place).join(&file.name);
            let parent = path.parent().unwrap_or(&folder);
            std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
            let blob = cell.store.local(&file.digest)?;
            std::os::unix::fs::symlink(&blob, &path).map_err(Error::io(&path))?;
        }
        let axes: serde_json::Map<String, serde_json::Value> = input.axes.iter().cloned().collect();
        list.push(json!({"node": input.node, "type": input.artifact.kind.name(), "axes": axes, "path": place}));
    }
    let path = folder.join("inputs.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&list)?).map_err(Error::io(&path))?;
    Ok(folder)
}

/// An axis value as part of a file name.
fn axis_text(value: &serde_json::Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), String::from);
    text.chars().map(|c| if c.is_alphanumeric() || "._+-".contains(c) { c } else { '_' }).collect()
}

fn publish(cell: &Cell, name: &str, output: &Output, home: &Path) -> Result<()> {
    let path = home.join(&output.path);
    let missing = || {
        let mut there: Vec<String> =
            files_below(home).unwrap_or_default().into_iter().map(|(name, _)| name).take(10).collect();
        there.sort();
        let there = if there.is_empty() { "nothing".to_string() } else { there.join(", ") };
        Error::invalid(format!("the command ended well and left no {} for output {name}", output.path))
            .with_hint(format!("its folder holds {there}"))
    };
    let meta = std::fs::symlink_metadata(&path).map_err(|_| missing())?;
    if meta.is_symlink() {
        return Err(
            Error::invalid(format!("output {name}: {} is a link", output.path)).with_hint("copy what it leads to")
        );
    }
    if let OutputType::Table = output.of {
        let table = match path.extension().and_then(|e| e.to_str()) {
            Some("parquet") => frame::read_parquet(&path)?,
            Some("csv") => frame::read_csv(&path)?,
            _ => {
                return Err(Error::invalid(format!("output {name}: {} is no table", output.path))
                    .with_hint("a table is one .csv or .parquet file"));
            }
        };
        return frames::publish(cell, name, &table);
    }
    let files = if meta.is_dir() {
        files_below(&path)?
    } else {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        vec![(file, path.clone())]
    };
    if files.is_empty() {
        return Err(missing());
    }
    cell.publish(name, output.of.artifact(), &files)
}

/// Every file below a folder: (name with forward slashes, path), sorted.
fn files_below(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(&here).map_err(Error::io(&here))? {
            let path = entry.map_err(Error::io(&here))?.path();
            let meta = std::fs::symlink_metadata(&path).map_err(Error::io(&path))?;
            let name = path.strip_prefix(folder).unwrap_or(&path).to_str().map(String::from);
            let name = name.ok_or_else(|| Error::invalid(format!("{}: file name is not UTF-8", path.display())))?;
            if meta.is_symlink() {
                return Err(Error::invalid(format!("{name} is a link")).with_hint("copy what it leads to"));
            }
            if meta.is_dir() { open.push(path) } else { found.push((name, path)) }
        }
    }
    found.sort();
    Ok(found)
}
