//! What a running cell may see and touch.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::store::record::Note;

use crate::{
    error::{Error, Result},
    progress::{Cancel, Progress},
    store::{
        Store,
        artifact::{Artifact, ArtifactType, FileRef},
        record::Outputs,
        source::SourceIndex,
    },
    train::{
        Session,
        collective::{Alone, Collective},
    },
};

/// An artifact that another cell made, as this cell sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// The node that made it, for table names in reports. Not part of the key unless a kind writes it out.
    pub node: String,
    /// Which of the node's outputs it is.
    pub output: String,
    /// The kind of the node.
    pub kind: String,
    /// Axis values of the cell that made it, outermost first.
    pub axes: Vec<(String, Value)>,
    pub artifact: Artifact,
}

impl Input {
    /// What pipeline files call it: the node, and the output where that is not what a bare node name means.
    pub fn name(&self) -> String {
        match self.output.as_str() {
            "metrics" | "table" => self.node.clone(),
            output => format!("{}.{output}", self.node),
        }
    }
}

/// Seconds between two checkpoints of a training, where `SCALESHOT_CHECKPOINT_S` does not say otherwise.
const CHECKPOINT_EVERY_S: u64 = 60;

/// The file of an artifact that holds what its cell wrote down; absent where there was nothing.
pub const NOTES: &str = "notes.json";

/// The world of one running cell.
pub struct Cell<'a> {
    /// Input artifacts by parameter field.
    pub inputs: &'a BTreeMap<String, Vec<Input>>,
    pub store: &'a Store,
    pub sources: &'a SourceIndex,
    /// An empty folder for files on their way into the store; gone when the cell ends.
    pub work: &'a Path,
    /// A folder that survives an interruption of this very cell: checkpoints.
    pub scratch: &'a Path,
    /// An earlier attempt at this very cell came to no end that is known.
    pub begun_before: bool,
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
    /// Threads that are the cell's own; code on its rayon pool need not ask.
    pub threads: usize,
    /// Numbers of the GPUs that are the cell's own.
    pub gpus: &'a [u32],
    /// The other ranks that compute this cell.
    pub collective: &'a dyn Collective,
    outputs: Mutex<Outputs>,
    notes: Mutex<Vec<Note>>,
    measured: Mutex<BTreeMap<String, Value>>,
    outside: Mutex<Outside>,
}

/// What processes outside this one took for a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// There was one.
    pub ran: bool,
    pub cpu: Duration,
    /// 0 where they ended before anybody looked.
    pub peak_rss_bytes: u64,
}

impl Outside {
    /// Another look at the same processes.
    pub fn rise(&mut self, now: Outside) {
        self.ran |= now.ran;
        self.cpu = self.cpu.max(now.cpu);
        self.peak_rss_bytes = self.peak_rss_bytes.max(now.peak_rss_bytes);
    }
}

impl<'a> Cell<'a> {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        inputs: &'a BTreeMap<String, Vec<Input>>,
        store: &'a Store,
        sources: &'a SourceIndex,
        work: &'a Path,
        scratch: &'a Path,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Self {
        Cell {
            inputs,
            store,
            sources,
            work,
            scratch,
            begun_before: false,
            progress,
            cancel,
            threads: 1,
            gpus: &[],
            collective: &Alone,
            outputs: Mutex::default(),
            notes: Mutex::default(),
            measured: Mutex::default(),
            outside: Mutex::default(),
        }
    }

    /// With what it holds of the machine.
    pub fn with_share(self, threads: usize, gpus: &'a [u32]) -> Self {
        Cell { threads, gpus, ..self }
    }

    /// With whether its scratch folder is from an earlier attempt.
    pub fn with_past(self, begun_before: bool) -> Self {
        Cell { begun_before, ..self }
    }

    /// As one rank of several. All compute, the first alone publishes.
    pub fn on(self, collective: &'a dyn Collective) -> Self {
        Cell { collective, ..self }
    }

    /// Adds what an outside process took.
    pub fn add_outside(&self, more: Outside) {
        let mut outside = self.outside.lock().unwrap_or_else(|e| e.into_inner());
        outside.ran |= more.ran;
        outside.cpu += more.cpu;
        outside.peak_rss_bytes = outside.peak_rss_bytes.max(more.peak_rss_bytes);
    }

    pub fn outside(&self) -> Outside {
        *self.outside.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The artifacts of a field, in declared order; empty where the field was left out.
    pub fn many(&self, field: &str) -> &[Input] {
        self.inputs.get(field).map_or(&[], Vec::as_slice)
    }

    pub fn optional(&self, field: &str) -> Option<&Input> {
        self.many(field).first()
    }

    pub fn one(&self, field: &str) -> Result<&Input> {
        self.optional(field).ok_or_else(|| Error::invalid(format!("input {field} is missing")))
    }

    /// A local file with the content of one file of an input.
    pub fn file(&self, input: &Input, name: &str) -> Result<PathBuf> {
        let file = input.artifact.file(name).ok_or_else(|| {
            Error::store(format!("{} of node {} has no file {name}", input.artifact.kind.name(), input.node))
        })?;
        self.store.local(&file.digest)
    }

    /// Publishes files of the work folder as one output: (name in the artifact, path).
    ///
    /// The files are moved into the store; read them again through [`Cell::file`] or [`Store::local`].
    pub fn publish(&self, output: &str, kind: ArtifactType, files: &[(String, PathBuf)]) -> Result<()> {
        if self.collective.rank() > 0 {
            return Ok(());
        }
        let refs = files
            .iter()
            .map(|(name, path)| {
                let (digest, bytes) = self.store.put_file(path)?;
                Ok(FileRef { name: name.clone(), digest, bytes })
            })
            .collect::<Result<Vec<_>>>()?;
        self.publish_refs(output, kind, refs)
    }

    /// Publishes files that are in the store already: shards shared with an input.
    pub fn publish_refs(&self, output: &str, kind: ArtifactType, files: Vec<FileRef>) -> Result<()> {
        self.outputs.lock().unwrap_or_else(|e| e.into_inner()).insert(output.into(), Artifact::new(kind, files));
        Ok(())
    }

    pub fn note(&self, what: &str, count: u64, detail: impl Into<String>) {
        let note = Note { what: what.into(), count, detail: detail.into() };
        self.progress.log(&format!("{}: {} ({})", note.what, note.count, note.detail));
        self.notes.lock().unwrap_or_else(|e| e.into_inner()).push(note);
    }

    /// Writes down how the cell computed: kernels, waiting times. Only the record holds it, never an artifact.
    pub fn measure(&self, name: &str, value: impl Into<Value>) {
        self.measured.lock().unwrap_or_else(|e| e.into_inner()).insert(name.into(), value.into());
    }

    /// What was written down with [`Cell::measure`].
    pub fn measured(&self) -> BTreeMap<String, Value> {
        self.measured.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// The surroundings of a training or an inference in this cell.
    pub fn session(&self) -> Session<'_> {
        Session {
            progress: self.progress,
            cancel: self.cancel,
            checkpoint: (self.collective.rank() == 0).then_some(self.scratch),
            checkpoint_every_s: std::env::var("SCALESHOT_CHECKPOINT_S")
                .ok()
                .and_then(|seconds| seconds.parse().ok())
                .unwrap_or(CHECKPOINT_EVERY_S),
            collective: self.collective,
        }
    }

    /// Outputs and notes, once the kind has returned. Notes travel in every output too, so that a report that is
    /// made of the artifacts can tell them.
    pub fn finish(self) -> Result<(Outputs, Vec<Note>)> {
        let mut outputs = self.outputs.into_inner().unwrap_or_else(|e| e.into_inner());
        let notes = self.notes.into_inner().unwrap_or_else(|e| e.into_inner());
        if !notes.is_empty() {
            let (digest, bytes) = self.store.put_bytes(&serde_json::to_vec_pretty(&notes)?)?;
            for artifact in outputs.values_mut() {
                let mut files = std::mem::take(&mut artifact.files);
                files.retain(|f| f.name != NOTES);
                files.push(FileRef { name: NOTES.into(), digest, bytes });
                *artifact = Artifact::new(artifact.kind, files);
            }
        }
        Ok((outputs, notes))
    }
}
