//! `scaleshot cell`: one cell, as a job of a queue or any other launcher computes it.

use std::{process::ExitCode, time::Duration};

use clap::Args;

use super::{Failure, Outcome, executor::RanksArguments, output::complain, session::StoreArguments};
use crate::{
    digest::Digest,
    kind::KINDS,
    progress::{Cancel, Silent},
    run::{
        cluster::{Ended, SavedPlan, Site, requeue_self, run_cell, slurm_job},
        cores, observer, run_saved, stop_on_signals,
    },
    store::source::SourceIndex,
};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Digest of a saved plan (`run --executor slurm` prints and saves it), or the key of a saved task
    #[arg(value_name = "PLAN")]
    pub plan: String,
    /// Number of the cell in the plan, from 0
    #[arg(value_name = "INDEX")]
    pub index: Option<usize>,
    #[command(flatten)]
    pub store: StoreArguments,
    /// Threads to compute with [default: all of this machine]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    #[command(flatten)]
    pub ranks: RanksArguments,
    /// Only look whether this machine sees the plan and has the same program
    #[arg(long, conflicts_with = "index")]
    pub check: bool,
    /// Print one JSON line an event
    #[arg(long)]
    pub json: bool,
}

/// Exit codes: 0 done, 1 failed, 3 inputs missing, 75 stopped at a checkpoint (start it again).
pub fn run(arguments: &Arguments) -> Outcome {
    let digest: Digest = arguments.plan.parse().map_err(|_| {
        Failure::words(format!("{} is no digest of a plan: 64 hexadecimal digits", arguments.plan), None)
    })?;
    let store = arguments.store.open_existing()?;
    let sources = SourceIndex::open(&store)?;
    let threads = arguments.threads.map_or_else(cores, |n| n as usize);
    let cancel = Cancel::default();
    let Some(index) = arguments.index else {
        if arguments.check {
            let plan = SavedPlan::load(&store, &digest, KINDS)?;
            // A node that can only read would fail in every cell.
            drop(store.work_folder()?);
            complain(&format!("this node sees plan {} of {} cells\n", digest.short(), plan.pipeline.cells.len()));
            return Ok(ExitCode::SUCCESS);
        }
        stop_on_signals(&cancel)?;
        run_saved(&store, &sources, &digest, threads, &Silent, &cancel)?;
        return Ok(ExitCode::SUCCESS);
    };
    let plan = SavedPlan::load(&store, &digest, KINDS)?;
    if index >= plan.pipeline.cells.len() {
        let told =
            format!("plan {} has {} cells, and none with number {index}", digest.short(), plan.pipeline.cells.len());
        return Err(Failure::words(told, None));
    }
    stop_on_signals(&cancel)?;
    let observer = observer(arguments.json);
    let executor = arguments.ranks.executor()?;
    let mut site = Site::new(&store, &sources, threads, observer.as_ref(), &cancel);
    site.executor = &*executor;
    let ended = run_cell(&plan, index, &site)?;
    let name = &plan.pipeline.cells[index].id;
    match &ended {
        Ended::Current { key, ran } => {
            complain(&format!("{name}: {} as {}\n", if *ran { "computed" } else { "found" }, key.short()));
        }
        Ended::InputsMissing(cells) => complain(&format!("error: {name}: no result of {}\n", cells.join(", "))),
        Ended::Failed(e) => complain(&super::output::Colour::stderr().error(&format!("{name}: {e}"), e.hint())),
        Ended::Stopped => {
            complain(&format!("{name}: stopped at a checkpoint\n"));
            if slurm_job().is_some() {
                match requeue_self() {
                    // The queue ends this process; were it first to exit, the job would count as failed.
                    Ok(()) => std::thread::sleep(Duration::from_secs(120)),
                    Err(e) => complain(&format!("not put back into the queue: {e}\n")),
                }
            }
        }
    }
    Ok(ExitCode::from(ended.exit_code()))
}
