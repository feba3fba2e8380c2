//! Executors: what runs a cell, here or elsewhere.
//!
//! A [`Task`] is a cell's whole input. Saved in the store, it can be run by any process that reaches the store
//! ([`run_saved`], behind `scaleshot cell KEY`); an executor for a cluster saves it, submits that command, and
//! waits for the record. Executors take no leases and no slots: their caller does.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::meter::{self, Meter};
use crate::{
    digest::Digest,
    error::{Error, Result},
    kind::{self, AnyKind, Cell, Input},
    progress::{Cancel, Progress},
    store::{
        Lease, Log, Store,
        part::Part,
        record::{Note, Outputs, Record},
        source::SourceIndex,
    },
    thread,
    train::collective::{Alone, Collective},
};

/// A cell with everything it depends on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub key: Digest,
    pub kind: String,
    pub kind_version: u32,
    pub pipeline: String,
    pub cell: String,
    pub params: Value,
    pub parts: Vec<Part>,
    pub inputs: BTreeMap<String, Vec<Input>>,
}

/// What an executor may use.
pub struct World<'a> {
    pub store: &'a Store,
    pub sources: &'a SourceIndex,
    /// Of the cell, for publishing its record.
    pub lease: &'a Lease,
    pub log: &'a Log,
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
    pub threads: usize,
    /// Numbers of the GPUs that are its own.
    pub gpus: &'a [u32],
}

/// Runs a cell to its published record.
pub trait Executor: Send + Sync {
    /// # Errors
    /// What the kind said; [`Error::Interrupted`] where it stopped at a checkpoint.
    fn execute(&self, kind: &'static dyn AnyKind, task: &Task, world: &World) -> Result<Record>;
}

/// Runs cells in this process, each on threads of its own.
pub struct InProcess;

impl Executor for InProcess {
    fn execute(&self, kind: &'static dyn AnyKind, task: &Task, world: &World) -> Result<Record> {
        let meter = Meter::start();
        let World { store, sources, progress, cancel, threads, gpus, .. } = *world;
        let means = Means { store, sources, progress, cancel, threads, gpus, collective: &Alone };
        let made = compute(kind, task, &means)?;
        publish(kind, task, world, made, meter)
    }
}

/// What a cell made, and what that took; its files are in the store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Made {
    pub outputs: Outputs,
    pub notes: Vec<Note>,
    pub measured: BTreeMap<String, Value>,
    pub cpu_ms: Option<u64>,
    /// The largest of other processes that it started.
    pub peak_rss_bytes: u64,
    /// Processes outside this program computed it, so that this one's own memory says nothing of it.
    #[serde(default)]
    pub outside: bool,
}

/// What computing a cell takes, without the right to publish it.
pub struct Means<'a> {
    pub store: &'a Store,
    pub sources: &'a SourceIndex,
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
    pub threads: usize,
    pub gpus: &'a [u32],
    pub collective: &'a dyn Collective,
}

/// Runs a kind on threads of its own, as one rank of its cell.
pub fn compute(kind: &'static dyn AnyKind, task: &Task, means: &Means) -> Result<Made> {
    let Means { store, sources, .. } = *means;
    let work = store.work_folder()?;
    let begun_before = store.was_begun(&task.key);
    let scratch = store.scratch(&task.key)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(means.threads)
        .stack_size(thread::STACK_BYTES)
        .thread_name(|i| format!("cell-{i}"))
        .build()
        .map_err(|e| Error::invalid(format!("cannot start {} threads: {e}", means.threads)))?;
    let cell = Cell::new(&task.inputs, store, sources, work.path(), &scratch, means.progress, means.cancel)
        .with_share(means.threads, means.gpus)
        .with_past(begun_before)
        .on(means.collective);
    let ran = pool.install(|| catch_unwind(AssertUnwindSafe(|| kind.run(&task.params, &cell))));
    match ran {
        Ok(done) => done?,
        Err(panic) => {
            return Err(Error::Invalid {
                message: format!("bug: kind {} panicked: {}", kind.name(), panic_text(&*panic)),
                hint: Some("please report it, with the log and the pipeline".into()),
            });
        }
    }
    // A kind that did not look while it worked. What Ctrl-C came too late for is whole, and kept; ranks agree on
    // their end themselves.
    if means.cancel.expired() && means.collective.ranks() == 1 {
        return Err(Error::Interrupted);
    }
    let (measured, outside) = (cell.measured(), cell.outside());
    let (outputs, notes) = cell.finish()?;
    let cpu: Option<Duration> = pool.broadcast(|_| thread::cpu()).into_iter().sum();
    let cpu_ms = cpu.map(|d| (d + outside.cpu).as_millis() as u64);
    Ok(Made { outputs, notes, measured, cpu_ms, peak_rss_bytes: outside.peak_rss_bytes, outside: outside.ran })
}

/// Writes the record of what a cell made, under its lease.
pub fn publish(kind: &'static dyn AnyKind, task: &Task, world: &World, made: Made, meter: Meter) -> Result<Record> {
    let World { store, sources, log, .. } = *world;
    let declared = kind.outputs_of(&task.params)?;
    for (name, artifact) in &made.outputs {
        if !declared.iter().any(|(declared, of)| declared == name && *of == artifact.kind) {
            return Err(Error::invalid(format!(
                "bug: kind {} published {name} ({}), which it does not declare",
                kind.name(),
                artifact.kind.name()
            )));
        }
    }
    for source in kind.sources(&task.params)? {
        sources.check(&source.path)?;
        // The listing is what a later reason counts changed files against.
        store.put_bytes(sources.digest_tree(&source.path)?.listing().as_bytes())?;
    }
    let measured = meter.stop();
    let record = Record {
        key: task.key,
        kind: task.kind.clone(),
        kind_version: task.kind_version,
        pipeline: task.pipeline.clone(),
        cell: task.cell.clone(),
        parts: task.parts.clone(),
        outputs: made.outputs,
        notes: made.notes,
        measured: made.measured,
        wall_ms: measured.wall_ms,
        cpu_ms: made.cpu_ms,
        peak_rss_bytes: match made.outside {
            true => Some(made.peak_rss_bytes).filter(|bytes| *bytes > 0),
            false => measured.peak_rss_bytes.map(|own| own.max(made.peak_rss_bytes)),
        },
        threads: world.threads,
        machine: meter::machine(),
        program: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into(),
        finished_unix_ms: meter::unix_ms(),
        log: Some(log.name().into()),
        accepted: None,
    };
    store.finish_log(log)?;
    let record = world.lease.publish(&record)?;
    store.clear_scratch(&task.key)?;
    Ok(record)
}

/// Runs a task that was saved in the store, in this process: `scaleshot cell KEY`.
///
/// # Errors
/// Where there is no such task, or this program's kind has another version. A cell that another process computes
/// is waited for, and its record returned.
pub fn run_saved(
    store: &Store,
    sources: &SourceIndex,
    key: &Digest,
    threads: usize,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Record> {
    let task: Task = store.task(key)?.ok_or_else(|| Error::store(format!("no task {}", key.short())))?;
    let kind = kind::find(&task.kind)
        .filter(|kind| kind.version() == task.kind_version)
        .ok_or_else(|| Error::invalid(format!("this program has no kind {} {}", task.kind, task.kind_version)))?;
    let lease = store.lease(key, cancel)?;
    if lease.found()
        && let Ok(Some(record)) = store.record(key)
        && store.first_missing(&record.outputs)?.is_none()
    {
        return Ok(record);
    }
    let log = store.log(key)?;
    // Content is found by digest only once its folder has been looked at in this process.
    for source in kind.sources(&task.params)? {
        sources.digest_tree(&source.path)?;
    }
    let world = World { store, sources, lease: &lease, log: &log, progress, cancel, threads, gpus: &[] };
    InProcess.execute(kind, &task, &world)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}
