//! `scaleshot run`: computes what is not there yet.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use clap::{Args, ValueEnum};

use super::{
    Failure, Outcome,
    executor::{self, Executor, ExecutorArguments, RanksArguments},
    output::{Colour, complain, print},
    plan::{forced, json_text, text},
    session::{PipelineArguments, Session, StoreArguments},
};
use crate::{
    digest::Digest,
    error::nearest,
    nn::{cuda::Device, kernel},
    pipeline::{Pipeline, memory_bytes, parse_value},
    plan::{PlanOptions, plan},
    progress::Cancel,
    report::runpage::RunInfo,
    run::{
        Observer, RunOptions, Summary,
        cluster::{self, OnInterrupt},
        history::History,
        machine,
        news::Herald,
        observer, reports, stop_on_signals, study,
    },
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub pipeline: PipelineArguments,
    /// Limit to these nodes or cells and what they need: transfer, transfer[shots=5], pretrain+ for all that
    /// follows it, +report for all that it needs (which --force then computes again)
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
    /// Memory for all cells together: 8GiB [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// Numbers of the GPUs that cells may take: 0,1 [default: all of this machine]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub gpus: Option<Vec<u32>>,
    /// Where models train and compute, over what the pipeline says: auto, cpu, cuda, cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Over a node's resources: pretrain.threads=4, transfer.gpus=1, fit.timeout_s=600, fit.retries=0
    #[arg(long = "resource", value_name = "NODE.FIELD=VALUE")]
    pub resources: Vec<String>,
    /// After a failure, go on with what does not need the failed cell
    #[arg(short, long)]
    pub keep_going: bool,
    /// Compute again what is there: the cells named, or all
    #[arg(long)]
    pub force: bool,
    /// Show the plan and run nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Where reports are written [default: reports]
    #[arg(long, value_name = "FOLDER")]
    pub reports: Option<PathBuf>,
    #[command(flatten)]
    pub executor: ExecutorArguments,
    #[command(flatten)]
    pub ranks: RanksArguments,
    /// Submit the jobs and return; `run` again follows them
    #[arg(long)]
    pub detach: bool,
    /// What Ctrl-C does to jobs in the queue
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub on_interrupt: Interrupted,
    /// Print one JSON line an event
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Interrupted {
    /// They go on; `run` again follows them
    #[default]
    Leave,
    /// All are cancelled
    Cancel,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut session = Session::open(&arguments.pipeline, &arguments.store)?;
    limit(&mut session.pipeline, &arguments.resources)?;
    place(&mut session.pipeline, arguments.device);
    let options = options(arguments, &session)?;
    if arguments.dry_run {
        let plan = plan(&session.pipeline, &session.store, &session.sources, &options.plan)?;
        print(&if arguments.json { json_text(&plan) } else { text(&plan, false, Colour::stdout()) });
        return Ok(ExitCode::SUCCESS);
    }
    stop_on_signals(&options.cancel)?;
    complain_of_kernels();
    let observer = observer(arguments.json);
    let herald = Herald::new(observer.as_ref(), &session.store, &session.pipeline.name);
    let history = History::new(&herald);
    let started = SystemTime::now();
    let summary = match arguments.executor.executor {
        Executor::Local => crate::run::run(&session.pipeline, &session.store, &session.sources, &options, &history)?,
        Executor::Slurm => by_jobs(arguments, &session, &options, &history)?,
    };
    let folder = arguments.reports.as_deref().unwrap_or(Path::new("reports"));
    let pages = reports::deliver(&session.pipeline, &session.store, folder)?;
    if summary.ran + summary.failed > 0 && !pages.is_empty() {
        let info = RunInfo {
            pipeline: session.pipeline.name.clone(),
            started: reports::utc(started),
            wall_ms: summary.wall_ms,
            facts: facts(),
        };
        let last = session.store.last(&session.pipeline.name)?;
        reports::write_run_page(&session.pipeline, &last, &history.courses(), &info, folder)?;
        study::note_run(&session.pipeline, &last, &summary, &info, &pages, folder)?;
    }
    for page in pages {
        complain(&format!("report: {}\n", page.display()));
    }
    // Leaving is what was asked for.
    let left = arguments.detach && summary.failed + summary.skipped + summary.blocked == 0;
    Ok(ExitCode::from(if left { 0 } else { summary.exit_code() }))
}

fn by_jobs(
    arguments: &Arguments,
    session: &Session,
    options: &RunOptions,
    observer: &dyn Observer,
) -> Result<Summary, Failure> {
    let Session { pipeline, store, sources, .. } = session;
    let profile = arguments.executor.slurm(store)?;
    let cluster = cluster::Options {
        plan: options.plan.clone(),
        profile: &profile,
        detach: arguments.detach,
        on_interrupt: match arguments.on_interrupt {
            Interrupted::Leave => OnInterrupt::Leave,
            Interrupted::Cancel => OnInterrupt::Cancel,
        },
        keep_going: options.keep_going,
        cancel: options.cancel.clone(),
    };
    let queue = |plan: &Digest| {
        complain(&format!("plan {plan}\n"));
        executor::queue(plan, store, &profile)
    };
    let summary = cluster::run(pipeline, store, sources, &cluster, &queue, observer)?;
    if summary.unfinished > 0 && !(summary.interrupted && arguments.on_interrupt == Interrupted::Cancel) {
        complain("jobs go on in the queue; run again to follow them\n");
    }
    Ok(summary)
}

/// Says once where this machine has to do with slower kernels than asked for or usual.
pub fn complain_of_kernels() {
    if let Some(note) = kernel::note() {
        complain(&format!("note: {note}\n"));
    }
}

/// Command, machine and versions, for the run page.
fn facts() -> Vec<(String, String)> {
    let machine = machine();
    let command: Vec<String> = std::env::args().collect();
    [
        ("command", command.join(" ")),
        ("program", format!("scaleshot {}", env!("CARGO_PKG_VERSION"))),
        ("kernels", kernel::name().to_string()),
        ("host", machine.host),
        ("system", machine.os),
        ("processor", machine.cpu),
        ("cores", machine.cores.to_string()),
        ("memory", format!("{:.1} GiB", machine.memory_bytes as f64 / (1u64 << 30) as f64)),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .to_vec()
}

fn size(text: &str) -> Result<u64, String> {
    memory_bytes(text).filter(|&n| n > 0).ok_or_else(|| "expected a size, as 8GiB or 512MiB".into())
}

/// Puts `--resource NODE.FIELD=VALUE` over what the pipeline says of its nodes.
fn limit(pipeline: &mut Pipeline, words: &[String]) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for word in words {
        let parts = word.split_once('=').and_then(|(name, value)| Some((name.rsplit_once('.')?, value)));
        let Some(((node, field), text)) = parts else {
            wrong.push((format!("--resource {word}: expected NODE.FIELD=VALUE"), Some("as pretrain.threads=4".into())));
            continue;
        };
        let value = match parse_value(text) {
            Ok(value) => value,
            Err(e) => {
                wrong.push((format!("--resource {word}: {e}"), None));
                continue;
            }
        };
        let mut any = false;
        let mut refused = None;
        for cell in pipeline.cells.iter_mut().filter(|c| c.node == node) {
            any = true;
            refused = cell.limits.set(field, &value).err().or(refused);
        }
        if let Some(expected) = refused {
            wrong.push((format!("--resource {word}: {field}: expected {expected}"), None));
        } else if !any {
            let near = nearest(node, pipeline.cells.iter().map(|c| c.node.as_str()));
            wrong.push((format!("--resource {word}: unknown node {node}"), near.map(|n| format!("did you mean {n}?"))));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Words(wrong)) }
}

/// Puts `--device` into every cell whose kind computes on one. No key changes: a device is in none.
fn place(pipeline: &mut Pipeline, device: Option<Device>) {
    let Some(device) = device else { return };
    for cell in pipeline.cells.iter_mut().filter(|cell| cell.kind.has_device()) {
        if let Some(params) = cell.params.as_object_mut() {
            params.insert("device".into(), device.to_string().into());
        }
    }
}

/// What the words of the command mean.
fn options(arguments: &Arguments, session: &Session) -> Result<RunOptions, Failure> {
    let only = session.only(&arguments.cells)?;
    let force = forced(arguments.force, only.as_deref());
    Ok(RunOptions {
        plan: PlanOptions { only, force },
        // Zero is the runner's word for "all that there are".
        threads: arguments.threads.unwrap_or(0) as usize,
        jobs: arguments.jobs.unwrap_or(0) as usize,
        memory_bytes: arguments.memory.unwrap_or(0),
        gpus: arguments.gpus.clone(),
        keep_going: arguments.keep_going,
        cancel: Cancel::default(),
        executor: arguments.ranks.executor()?,
    })
}
