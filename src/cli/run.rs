//! `scaleshot run`: computes what is not there yet.

use std::process::ExitCode;

use clap::Args;

use super::{
    Outcome,
    output::{Colour, print},
    plan::{forced, json_text, text},
    session::{PipelineArguments, Session, StoreArguments},
};
use crate::{
    plan::{PlanOptions, plan},
    progress::Cancel,
    run::{RunOptions, observer, stop_on_signals},
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub pipeline: PipelineArguments,
    /// Limit to these nodes or cells and what they need: transfer, transfer[shots=5]
    #[arg(value_name = "CELL")]
    pub cells: Vec<String>,
    #[command(flatten)]
    pub store: StoreArguments,
    /// Cells at one time [default: as many as fit]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
    /// Threads for all cells together [default: all of this machine]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// After a failure, go on with what does not need the failed cell
    #[arg(short, long)]
    pub keep_going: bool,
    /// Compute again what is there: the cells named, or all
    #[arg(long)]
    pub force: bool,
    /// Show the plan and run nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Print one JSON line an event
    #[arg(long)]
    pub json: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let session = Session::open(&arguments.pipeline, &arguments.store)?;
    let options = options(arguments, &session)?;
    if arguments.dry_run {
        let plan = plan(&session.pipeline, &session.store, &session.sources, &options.plan)?;
        print(&if arguments.json { json_text(&plan) } else { text(&plan, false, Colour::stdout()) });
        return Ok(ExitCode::SUCCESS);
    }
    stop_on_signals(&options.cancel)?;
    let observer = observer(arguments.json);
    let summary = crate::run::run(&session.pipeline, &session.store, &session.sources, &options, observer.as_ref())?;
    Ok(ExitCode::from(summary.exit_code()))
}

/// What the words of the command mean.
fn options(arguments: &Arguments, session: &Session) -> Result<RunOptions, super::Failure> {
    let only = session.only(&arguments.cells)?;
    let force = forced(arguments.force, only.as_deref());
    Ok(RunOptions {
        plan: PlanOptions { only, force },
        // Zero is the runner's word for "all that there are".
        threads: arguments.threads.unwrap_or(0) as usize,
        jobs: arguments.jobs.unwrap_or(0) as usize,
        keep_going: arguments.keep_going,
        cancel: Cancel::default(),
        ..RunOptions::default()
    })
}
