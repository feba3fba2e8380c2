//! One cell from ready to current: judge again, take the lease, run, publish.
//!
//! Runs on a thread of its own, blocks where it must, and decides nothing about other cells.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    event::{By, Event, Observer},
    executor::{Executor, Task, World},
    slots::Share,
};
use crate::{
    digest::Digest,
    error::{Error, Result},
    pipeline::Pipeline,
    plan::{self, Parent, Planner, State},
    progress::{Cancel, Progress},
    store::{Last, Log, Store, source::SourceIndex},
};

/// What running cells share.
pub struct Shared<'a> {
    pub pipeline: &'a Pipeline,
    pub store: &'a Store,
    pub sources: &'a SourceIndex,
    pub planner: &'a Planner<'a>,
    pub executor: &'a dyn Executor,
    pub observer: &'a dyn Observer,
    pub cancel: &'a Cancel,
    /// What is current by now, by index of the cell.
    pub current: RwLock<HashMap<usize, Arc<Last>>>,
    /// Names of the logs of cells that were started, by index.
    pub logs: Mutex<HashMap<usize, String>>,
    /// Keys that cells of this run were to compute, and which cells: several may have the same.
    pub computing: Mutex<HashMap<Digest, Vec<usize>>>,
}

/// How an attempt at a cell ended well.
pub enum Attempt {
    /// It need not run; who computed it, unless its inputs came out as they were.
    Spared(Arc<Last>, Option<By>),
    Ran(Arc<Last>),
    /// Its key is being computed.
    Busy(By),
}

impl Shared<'_> {
    pub fn log_of(&self, index: usize) -> Option<String> {
        self.logs.lock().unwrap_or_else(|e| e.into_inner()).get(&index).cloned()
    }

    fn computing(&self) -> MutexGuard<'_, HashMap<Digest, Vec<usize>>> {
        self.computing.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Another cell of this run that computes the key, has computed it, or waits for it too.
    fn twin(&self, index: usize, key: &Digest) -> Option<By> {
        let other = self.computing().get(key)?.iter().copied().find(|other| *other != index)?;
        Some(By::Cell(self.pipeline.cells[other].id.clone()))
    }

    /// Makes a cell current, whose parents all are.
    pub fn attempt(&self, index: usize, share: &Share) -> Result<Attempt> {
        let cell = &self.pipeline.cells[index];
        let threads = share.threads;
        let parents: HashMap<usize, Arc<Last>> = {
            let current = self.current.read().unwrap_or_else(|e| e.into_inner());
            let inputs = cell.inputs.values().flatten();
            inputs.filter_map(|input| Some((input.cell, current.get(&input.cell)?.clone()))).collect()
        };
        let known = |parent: usize| parents.get(&parent).map_or(Parent::Waits, |last| Parent::Known(&last.outputs));
        // What is found fresh is noted before a collection could take it.
        let judge = || {
            let _hold = self.store.hold()?;
            let verdict = self.planner.judge(index, &known)?;
            self.store.rely_on(verdict.key)?;
            Ok::<_, Error>(verdict)
        };
        let mut verdict = judge()?;
        let mut lease = None;
        // The second round finds the record of whoever held the lease before.
        while verdict.state == State::Run && lease.is_none() {
            let Some(key) = &verdict.key else { return Err(unexpected(&verdict.reasons)) };
            // Before its lease, so that whoever finds that taken knows by whom.
            let mut computing = self.computing();
            let cells = computing.entry(*key).or_default();
            if !cells.contains(&index) {
                cells.push(index);
            }
            drop(computing);
            let Some(taken) = self.store.try_lease(key)? else {
                return Ok(Attempt::Busy(self.twin(index, key).unwrap_or(By::Process)));
            };
            let look_again = taken.found();
            lease = Some(taken);
            if look_again {
                verdict = judge()?;
            }
        }
        let (key, lease) = match (verdict.state, verdict.key, verdict.current, lease) {
            (State::Fresh, _, Some(last), lease) => {
                let found = lease.map(|_| By::Process);
                return Ok(Attempt::Spared(last.clone(), self.twin(index, &last.key).or(found)));
            }
            (State::Run, Some(key), _, Some(lease)) => (key, lease),
            _ => return Err(unexpected(&verdict.reasons)),
        };
        let task = Task {
            key,
            kind: cell.kind.name().into(),
            kind_version: cell.kind.version(),
            pipeline: self.pipeline.name.clone(),
            cell: cell.id.clone(),
            params: cell.params.clone(),
            parts: verdict.parts,
            inputs: plan::inputs(self.pipeline, index, &|parent| parents.get(&parent).map(|last| &last.outputs))?,
        };
        let log = self.store.log(&key)?;
        self.logs.lock().unwrap_or_else(|e| e.into_inner()).insert(index, log.name().into());
        let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
        log.line(&format!("{}: {}; {threads} threads", cell.id, reasons.join("; ")));
        self.observer.event(&Event::Started {
            cell: cell.id.clone(),
            key,
            reasons,
            threads,
            resumes: self.store.has_scratch(&key),
            log: log.name().into(),
        });
        let progress = CellProgress::new(&cell.id, &log, self.observer);
        let limit = cell.limits.timeout_s.map(Duration::from_secs_f64);
        let cancel = self.cancel.by(limit.and_then(|limit| Instant::now().checked_add(limit)));
        let world = World {
            store: self.store,
            sources: self.sources,
            lease: &lease,
            log: &log,
            progress: &progress,
            cancel: &cancel,
            threads,
            gpus: &share.gpus,
        };
        let record = match self.executor.execute(cell.kind, &task, &world) {
            Ok(record) => record,
            // Stopped by its own time and not by a word from outside.
            Err(Error::Interrupted) if limit.is_some() && !self.cancel.requested() => {
                let limit_s = limit.unwrap_or_default().as_secs_f64();
                let e = Error::invalid(format!("took longer than {limit_s} s"))
                    .with_hint("raise resources: { timeout_s: … } of its node; a checkpoint is continued from");
                log.line(&told(&e));
                let _ = self.store.finish_log(&log);
                return Err(e);
            }
            Err(e) => {
                log.line(&told(&e));
                // Where others can read why; the error itself is what counts.
                let _ = self.store.finish_log(&log);
                // Stopped for long, this process was taken for dead and its scratch folder with it; whoever took
                // the cell is computing it or has done so.
                if !matches!(e, Error::Interrupted) && lease.lost() {
                    return Ok(Attempt::Busy(By::Process));
                }
                return Err(e);
            }
        };
        log.line("done");
        let stamp = self.store.record_stamp(&key)?.ok_or_else(|| Error::store("the record just written is gone"))?;
        let bytes = record.outputs.values().map(|artifact| artifact.bytes()).sum();
        self.observer.event(&Event::Done {
            cell: cell.id.clone(),
            key,
            wall_ms: record.wall_ms,
            cpu_ms: record.cpu_ms,
            peak_rss_bytes: record.peak_rss_bytes,
            bytes,
        });
        Ok(Attempt::Ran(Arc::new(Last::new(record, stamp))))
    }
}

/// A cell that could run when the run was planned and cannot now.
fn unexpected(reasons: &[plan::Reason]) -> Error {
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    Error::invalid(reasons.join("; "))
}

fn told(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

/// Passes a cell's progress on, a few times a second at most, and its lines to its log.
struct CellProgress<'a> {
    cell: &'a str,
    log: &'a Log,
    observer: &'a dyn Observer,
    done: AtomicU64,
    state: Mutex<(u64, &'static str, Instant)>,
}

/// Between two progress events of a cell.
const EVERY: Duration = Duration::from_millis(200);

impl<'a> CellProgress<'a> {
    fn new(cell: &'a str, log: &'a Log, observer: &'a dyn Observer) -> Self {
        CellProgress { cell, log, observer, done: AtomicU64::new(0), state: Mutex::new((0, "", Instant::now())) }
    }

    fn tell(&self, total: u64, unit: &str) {
        let done = self.done.load(Ordering::Relaxed);
        self.observer.event(&Event::Progress { cell: self.cell.into(), done, total, unit: unit.into() });
    }
}

impl Progress for CellProgress<'_> {
    fn begin(&self, total: u64, unit: &'static str) {
        self.done.store(0, Ordering::Relaxed);
        *self.state.lock().unwrap_or_else(|e| e.into_inner()) = (total, unit, Instant::now());
        self.tell(total, unit);
    }

    fn advance(&self, by: u64) {
        self.done.fetch_add(by, Ordering::Relaxed);
        // A thread that finds another one telling has nothing to add.
        let Ok(mut state) = self.state.try_lock() else { return };
        if state.2.elapsed() >= EVERY {
            state.2 = Instant::now();
            let (total, unit, _) = *state;
            drop(state);
            self.tell(total, unit);
        }
    }

    fn log(&self, line: &str) {
        self.log.line(line);
    }
}
