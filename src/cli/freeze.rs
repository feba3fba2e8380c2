//! `scaleshot freeze` and `thaw`: cells that stay as they are although their inputs or version changed.

use std::process::ExitCode;

use clap::Args;

use super::{
    Failure, Outcome,
    output::print,
    session::{PipelineArguments, Session, StoreArguments},
};
use crate::{run::unix_ms, store::Frozen};

/// What `--help` says of the command.
pub const ABOUT: &str = "\
Let cells stay as they are, although their inputs, parameters or version change.

A frozen cell is not computed, not even by --force: what follows takes the result that it has now. The store
remembers it by pipeline and cell, with the time and the note; `plan` shows it and what it would run for.
`scaleshot thaw` ends it.";

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub pipeline: PipelineArguments,
    /// Nodes or cells: pretrain, pretrain[fraction=1.0], +pretrain for what it needs too
    #[arg(value_name = "CELL", required = true)]
    pub cells: Vec<String>,
    /// Why, for whoever reads the plan
    #[arg(short, long, value_name = "TEXT")]
    pub note: Option<String>,
    #[command(flatten)]
    pub store: StoreArguments,
}

/// What `--help` says of the command.
pub const THAW_ABOUT: &str = "\
Let frozen cells follow their inputs again.";

#[derive(Debug, Args)]
pub struct ThawArguments {
    #[command(flatten)]
    pub pipeline: PipelineArguments,
    /// Nodes or cells; all frozen ones without
    #[arg(value_name = "CELL")]
    pub cells: Vec<String>,
    #[command(flatten)]
    pub store: StoreArguments,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let session = Session::open(&arguments.pipeline, &arguments.store)?;
    let cells = session.pipeline.select(&arguments.cells).map_err(Failure::Words)?;
    let last = session.store.last(&session.pipeline.name)?;
    let mut wrong = Vec::new();
    let mut pins = Vec::new();
    for cell in cells {
        let id = &session.pipeline.cells[cell].id;
        let record = match last.get(id) {
            Some(last) => session.store.record(&last.key)?,
            None => None,
        };
        match record {
            Some(record) if session.store.first_missing(&record.outputs)?.is_none() => {
                pins.push((id.clone(), record.key))
            }
            _ => wrong.push((
                format!("{id} has no result to stay at"),
                Some(format!("run it first: scaleshot run {} {id}", arguments.pipeline.file.display())),
            )),
        }
    }
    if !wrong.is_empty() {
        return Err(Failure::Words(wrong));
    }
    session.store.update_frozen(&session.pipeline.name, |frozen| {
        for (id, key) in &pins {
            // Frozen twice stays at what it was frozen at.
            let pin = frozen.entry(id.clone()).or_insert(Frozen { key: *key, since_unix_ms: unix_ms(), note: None });
            pin.note = arguments.note.clone().or(pin.note.take());
        }
    })?;
    let lines: String = pins.iter().map(|(id, key)| format!("frozen {id} at {}\n", key.short())).collect();
    print(&lines);
    Ok(ExitCode::SUCCESS)
}

pub fn thaw(arguments: &ThawArguments) -> Outcome {
    let session = Session::open(&arguments.pipeline, &arguments.store)?;
    let name = &session.pipeline.name;
    let frozen = session.store.frozen(name)?;
    // Without words all, those of cells that the pipeline lost among them.
    let ids: Vec<String> = if arguments.cells.is_empty() {
        frozen.keys().cloned().collect()
    } else {
        let cells = session.pipeline.select(&arguments.cells).map_err(Failure::Words)?;
        let ids: Vec<String> = cells
            .into_iter()
            .map(|i| session.pipeline.cells[i].id.clone())
            .filter(|id| frozen.contains_key(id))
            .collect();
        if ids.is_empty() {
            let known = frozen.keys().cloned().collect::<Vec<_>>().join(", ");
            let hint = if known.is_empty() { "nothing is frozen".to_string() } else { format!("frozen are {known}") };
            return Err(Failure::words(format!("{} is not frozen", arguments.cells.join(", ")), Some(hint)));
        }
        ids
    };
    session.store.update_frozen(name, |frozen| frozen.retain(|id, _| !ids.contains(id)))?;
    print(&ids.iter().map(|id| format!("thawed {id}\n")).collect::<String>());
    Ok(ExitCode::SUCCESS)
}
