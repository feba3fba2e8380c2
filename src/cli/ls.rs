//! `scaleshot ls`: the finished cells of a store, newest first.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{
    Outcome,
    executor::{Executor, ExecutorArguments, queue},
    layout,
    output::{complain, print},
    plan::standing_text,
    session::StoreArguments,
};
use crate::{
    error::{Error, Result},
    kind::KINDS,
    run::cluster::{SavedPlan, standings},
    store::{Mark, Store, record::Record},
};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Only cells, kinds or pipelines whose name holds this
    #[arg(value_name = "WORD")]
    pub word: Option<String>,
    #[command(flatten)]
    pub store: StoreArguments,
    /// With slurm: cells of submitted plans that are pending, running or failed
    #[command(flatten)]
    pub executor: ExecutorArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let store = arguments.store.open_existing()?;
    if arguments.executor.executor == Executor::Slurm {
        return in_queue(arguments, &store);
    }
    let word = arguments.word.as_deref().unwrap_or("");
    let held = |r: &Record| r.cell.contains(word) || r.kind.contains(word) || r.pipeline.contains(word);
    let records: Vec<Record> = records(&store)?.into_iter().filter(held).collect();
    print(&if arguments.json { json_text(&records) } else { text(&records) });
    Ok(ExitCode::SUCCESS)
}

/// What the plans of this store have in the queue, or failed.
fn in_queue(arguments: &Arguments, store: &Store) -> Outcome {
    let profile = arguments.executor.slurm(store)?;
    let word = arguments.word.as_deref().unwrap_or("");
    let mut found = Vec::new();
    for digest in store.plans()? {
        // One of another program has no jobs that this one could tell of.
        let Ok(plan) = SavedPlan::load(store, &digest, KINDS) else { continue };
        let done = store.marked(&digest, Mark::Done)?;
        let open: Vec<usize> = (0..plan.pipeline.cells.len()).filter(|c| !done.contains(c)).collect();
        let standing = standings(&plan.pipeline, store, &digest, &*queue(&digest, store, &profile), &open)?;
        found.extend(standing.into_iter().filter(|s| s.state != "absent" && s.cell.contains(word)));
    }
    print(&if arguments.json { json!({ "cells": found }).to_string() + "\n" } else { standing_text(&found) });
    Ok(ExitCode::SUCCESS)
}

/// All records that can be read, newest first; of damaged ones stderr is told.
pub fn records(store: &Store) -> Result<Vec<Record>> {
    let mut out = Vec::new();
    for key in store.records()? {
        match store.record(&key) {
            Ok(Some(record)) => out.push(record),
            // Deleted between listing and reading.
            Ok(None) => {}
            Err(Error::Store { message, .. }) => complain(&format!("warning: {message}\n")),
            Err(e) => return Err(e),
        }
    }
    out.sort_by(|a, b| b.finished_unix_ms.cmp(&a.finished_unix_ms).then_with(|| a.cell.cmp(&b.cell)));
    Ok(out)
}

fn bytes(record: &Record) -> u64 {
    record.outputs.values().map(|a| a.bytes()).sum()
}

fn text(records: &[Record]) -> String {
    let head = ["key", "cell", "kind", "pipeline", "finished (UTC)", "time", "size"].map(String::from).to_vec();
    let rows = records.iter().map(|r| {
        vec![
            r.key.short(),
            r.cell.clone(),
            r.kind.clone(),
            r.pipeline.clone(),
            layout::time(r.finished_unix_ms),
            crate::run::duration(r.wall_ms),
            layout::bytes(bytes(r)),
        ]
    });
    layout::columns(&[head].into_iter().chain(rows).collect::<Vec<_>>(), &[5, 6])
}

fn json_text(records: &[Record]) -> String {
    let cells: Vec<Value> = records
        .iter()
        .map(|r| {
            json!({
                "key": r.key, "cell": r.cell, "kind": r.kind, "pipeline": r.pipeline,
                "finished_unix_ms": r.finished_unix_ms, "wall_ms": r.wall_ms, "bytes": bytes(r),
            })
        })
        .collect();
    json!({ "cells": cells }).to_string() + "\n"
}
