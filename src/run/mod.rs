//! Running a plan.
//!
//! ```text
//! run ── plan ──> cells that run ──> graph (dagrs)   one node a cell: ready, skipped
//!                                       │ ready
//!                                    dispatch         slots: threads, memory; starts a thread a cell
//!                                       │
//!                                    attempt          judge again (early cut-off), lease, log
//!                                       │
//!                                    executor         own rayon pool, work and scratch folders, record
//! ```
//!
//! Invariants: a cell runs once all its parents are current and never before; what `plan` calls fresh is not
//! touched; compute never runs on an async worker; a cell that fails takes down only what needs it; whatever
//! stops the run, the store is valid and the next run continues.

mod attempt;
pub mod cluster;
mod dispatch;
mod estimate;
mod event;
mod executor;
mod graph;
pub mod history;
mod interrupt;
mod meter;
pub mod news;
mod progress;
mod ranks;
pub mod reports;
mod slots;
pub mod study;
mod tally;
pub mod watch;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, RwLock, mpsc},
    time::Instant,
};

use self::{
    attempt::Shared,
    dispatch::{Dispatcher, Job, Message},
    graph::Spec,
    slots::{Need, Room, Slots},
};
pub use self::{
    event::{Event, Failure, Nobody, Observer, Skip, Summary, Todo, duration},
    executor::{Executor, InProcess, Task, World, run_saved},
    interrupt::stop_on_signals,
    meter::{cores, gpus, machine, unix_ms},
    progress::{Bars, JsonLines, Latecomer, Lines, latecomer, observer},
    ranks::{Launched, run_rank},
};
use crate::{
    error::{Error, Result},
    pipeline::{CellSpec, Pipeline},
    plan::{PlanOptions, Planner, State},
    progress::Cancel,
    store::{RunEntry, Store, source::SourceIndex},
};

/// What to run and with how much of the machine.
pub struct RunOptions {
    pub plan: PlanOptions,
    /// Threads for all cells together, 0 for all that there are.
    pub threads: usize,
    /// Cells at one time, 0 for as many as fit.
    pub jobs: usize,
    /// Memory for all cells together, 0 for what is free.
    pub memory_bytes: u64,
    /// Numbers of the GPUs that cells may take; `None` for all that there are.
    pub gpus: Option<Vec<u32>>,
    /// After a failure, run whatever does not need the failed cell; also run beside blocked cells.
    pub keep_going: bool,
    pub cancel: Cancel,
    pub executor: Box<dyn Executor>,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            plan: PlanOptions::default(),
            threads: 0,
            jobs: 0,
            memory_bytes: 0,
            gpus: None,
            keep_going: false,
            cancel: Cancel::default(),
            executor: Box::new(InProcess),
        }
    }
}

/// Makes the cells that the options ask for current.
///
/// Without `keep_going` nothing runs where a cell is blocked: what is missing should be known before hours of
/// computing, not after. Failures of cells are in the summary, not in the error.
///
/// # Errors
/// The store or the pipeline itself cannot be used.
pub fn run(
    pipeline: &Pipeline,
    store: &Store,
    sources: &SourceIndex,
    options: &RunOptions,
    observer: &dyn Observer,
) -> Result<Summary> {
    let began = Instant::now();
    // A store that can only be read serves a run that has nothing to do.
    let registered = store.live().and_then(|live| Ok((live, store.hold()?)));
    let planner = Planner::new(pipeline, store, sources, &options.plan)?;
    let plan = planner.plan()?;
    let threads = if options.threads == 0 { meter::cores() } else { options.threads };
    let gpus = options.gpus.clone().unwrap_or_else(meter::gpus);
    let to_run = || plan.cells.iter().filter(|c| c.state == State::Run);
    // Before the run is told to begin: what is told has an end.
    let goes = options.keep_going || !plan.cells.iter().any(|c| c.state == State::Blocked);
    for planned in to_run().filter(|_| goes) {
        let wanted = need(&pipeline.cells[planned.index])?.gpus as usize;
        if wanted > gpus.len() {
            let message = format!("{} needs {wanted} GPUs, and there are {}", planned.cell, gpus.len());
            return Err(Error::invalid(message).with_hint(
                "--gpus names those of this machine; resources: { gpus: … } of the node says how many it takes",
            ));
        }
    }
    let mut summary = Summary::before(&plan, threads, observer);

    let returned = planner.returned(&plan);
    if summary.blocked > 0 && !options.keep_going {
        summary.unfinished = to_run().count();
        store.update_last(&pipeline.name, &returned)?;
    } else if to_run().next().is_none() {
        store.update_last(&pipeline.name, &returned)?;
        if !returned.is_empty() {
            let keys = plan.cells.iter().filter_map(|c| c.key).collect();
            store.note_run(&RunEntry { pipeline: pipeline.name.clone(), finished_unix_ms: unix_ms(), keys })?;
        }
    } else {
        let place: HashMap<usize, usize> = to_run().enumerate().map(|(place, c)| (c.index, place)).collect();
        let mut jobs = Vec::with_capacity(place.len());
        for planned in to_run() {
            let cell = &pipeline.cells[planned.index];
            let mut parents: Vec<usize> =
                cell.inputs.values().flatten().filter_map(|input| place.get(&input.cell).copied()).collect();
            parents.sort_unstable();
            parents.dedup();
            jobs.push(Job { planned, need: need(cell)?, limits: &cell.limits, parents });
        }
        let specs: Vec<Spec> =
            jobs.iter().map(|job| Spec { name: job.planned.cell.clone(), parents: job.parents.clone() }).collect();
        let memory_bytes = if options.memory_bytes == 0 { meter::free_memory_bytes() } else { options.memory_bytes };
        let slots = Slots::new(Room { threads, memory_bytes, gpus, jobs: options.jobs });
        let fresh = plan.cells.iter().filter_map(|c| Some((c.index, c.current.clone()?)));
        let shared = Shared {
            pipeline,
            store,
            sources,
            planner: &planner,
            executor: &*options.executor,
            observer,
            cancel: &options.cancel,
            current: RwLock::new(fresh.collect()),
            logs: Mutex::default(),
            computing: Mutex::default(),
        };
        let (_live, hold) = registered?;
        store.rely_on(plan.cells.iter().filter_map(|c| c.key))?;
        drop(hold);
        let (tell, heard) = mpsc::channel();
        let to_graph = tell.clone();
        std::thread::scope(|scope| {
            let body = || {
                let drive = AssertUnwindSafe(|| graph::drive(&specs, to_graph.clone()));
                let over = catch_unwind(drive).unwrap_or_else(|_| Err(Error::invalid("bug: the graph panicked")));
                // Heard only where cells are left, which a graph that went well leaves none of.
                let _ = to_graph.send(Message::GraphOver(over));
            };
            std::thread::Builder::new()
                .name("graph".into())
                .spawn_scoped(scope, body)
                .map_err(|e| Error::invalid(format!("cannot start a thread: {e}")))?;
            Dispatcher::new(scope, &shared, &jobs, options.keep_going, slots, tell).run(heard, &mut summary, returned)
        })?;
        let current = shared.current.into_inner().unwrap_or_else(|e| e.into_inner());
        let keys = current.values().map(|last| last.key).collect();
        store.note_run(&RunEntry { pipeline: pipeline.name.clone(), finished_unix_ms: unix_ms(), keys })?;
    }
    summary.interrupted = options.cancel.requested() && !summary.complete();
    summary.wall_ms = began.elapsed().as_millis() as u64;
    observer.event(&Event::Finished(summary.clone()));
    Ok(summary)
}

/// What a cell takes: its kind's own word, and over it the node's.
fn need(cell: &CellSpec) -> Result<Need> {
    let own = cell.kind.resources(&cell.params)?;
    Ok(Need {
        threads: cell.limits.threads.unwrap_or(own.threads),
        memory_bytes: cell.limits.memory_bytes.unwrap_or(own.memory_bytes),
        gpus: match cell.limits.gpus {
            Some(gpus) => gpus,
            None => cell.kind.gpus(&cell.params)?,
        },
    })
}

#[cfg(test)]
mod tests;
