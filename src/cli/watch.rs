//! `scaleshot watch`: follows a run of another process.

use std::{process::ExitCode, time::Instant};

use clap::Args;

use super::{
    Failure, Outcome,
    executor::{Executor, ExecutorArguments, queue},
    layout,
    output::{Colour, complain, print},
    session::StoreArguments,
};
use crate::{
    digest::Digest,
    kind::KINDS,
    run::{
        Event, Latecomer, Lines, latecomer,
        news::Told,
        watch::{Ending, QueueOf, Sight, sights},
    },
    store::Store,
};

/// What `--help` says of the command.
pub const ABOUT: &str = "\
Follow a run of another process: what it has done, what it is at, what is left.

Of a run on this machine everything is seen that its own terminal shows. Of a plan whose jobs run on a cluster,
cells that start, end and fail are seen, with --executor slurm also those that wait and where others run; and of
a run on another machine those that it computes now.

Ends with the run, and as it does: 0 done, 1 a node failed or the run was killed, 130 interrupted. Where nothing
runs it says so, and ends with 0.";

#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline whose run to follow, or the first digits of a plan [default: the latest run]
    #[arg(value_name = "PIPELINE|PLAN")]
    pub word: Option<String>,
    #[command(flatten)]
    pub store: StoreArguments,
    /// With slurm: ask the queue as well
    #[command(flatten)]
    pub executor: ExecutorArguments,
    /// Tell how it stands and do not wait
    #[arg(long)]
    pub once: bool,
    /// Print one JSON line an event, those before included
    #[arg(long)]
    pub json: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let store = arguments.store.open_existing()?;
    let word = arguments.word.as_deref().unwrap_or("");
    let profile = match arguments.executor.executor {
        Executor::Slurm => Some(arguments.executor.slurm(&store)?),
        Executor::Local => None,
    };
    let of = profile.as_ref().map(|profile| |digest: &Digest| queue(digest, &store, profile));
    let mut found = sights(&store, KINDS, word, of.as_ref().map(|of| of as QueueOf<'_>))?.into_iter();
    let Some(mut sight) = found.next() else { return nothing(&store, word) };
    if !arguments.json {
        complain(&format!("{}\n", Colour::stderr().bold(&sight.name())));
    }
    for other in found {
        complain(&format!("not shown: {}\n", other.name()));
    }
    let view: Box<dyn Latecomer> = if arguments.once { Box::new(Lines::new(std::io::stderr())) } else { latecomer() };
    let mut ending = told(&mut sight, &*view, arguments.json, true)?;
    while ending == Ending::Open && !arguments.once {
        std::thread::sleep(sight.pause());
        ending = told(&mut sight, &*view, arguments.json, false)?;
    }
    Ok(ExitCode::from(match ending {
        Ending::Open => 0,
        Ending::Finished(summary) => summary.exit_code(),
        Ending::Over => {
            complain(&format!("nobody computes in {} any more\n", store.url()));
            0
        }
        Ending::Lost => {
            complain(&format!("{}: its process is gone and told of no end\n", sight.name()));
            1
        }
    }))
}

/// Looks once, and passes on what is seen.
fn told(sight: &mut Sight, view: &dyn Latecomer, json: bool, first: bool) -> Result<Ending, Failure> {
    let (told, ending) = sight.look()?;
    if json {
        let lines: Vec<String> = told.iter().filter_map(|told| serde_json::to_string(told).ok()).collect();
        print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    } else if first {
        // What the queue says of a plan is how it stands now.
        let of_plan = matches!(sight, Sight::Plan(_));
        let (now, past): (Vec<Told>, Vec<Told>) =
            told.into_iter().partition(|told| of_plan && matches!(told.event, Event::Queued { .. }));
        let past: Vec<(Event, Instant)> = past.into_iter().map(|told| (told.event.clone(), told.at())).collect();
        view.catch_up(&past);
        now.iter().for_each(|told| view.event(&told.event));
    } else {
        for Told { event, .. } in &told {
            view.event(event);
        }
    }
    Ok(ending)
}

/// Nothing is to be seen: what was seen last.
fn nothing(store: &Store, word: &str) -> Outcome {
    let of = if word.is_empty() { String::new() } else { format!(" of {word}") };
    let mut text = format!("no run{of} goes on in {}", store.url());
    for name in store.run_names()? {
        let Some(entry) = store.run_entry(&name)? else { continue };
        if entry.pipeline.contains(word) {
            let ended = layout::time(entry.finished_unix_ms);
            text.push_str(&format!("; the last one, of {}, ended {ended} UTC", entry.pipeline));
            break;
        }
    }
    complain(&(text + "\n"));
    Ok(ExitCode::SUCCESS)
}
