//! `scaleshot why`: one cell's state, reasons, key and what the key is made of.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{
    Failure, Outcome, layout,
    output::{Colour, print},
    session::{PipelineArguments, Session, StoreArguments},
};
use crate::{
    pipeline::Pipeline,
    plan::{PlanOptions, State, Why, why},
    store::part::Part,
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub pipeline: PipelineArguments,
    /// The node or cell: report, transfer[shots=5,seed=0]
    #[arg(value_name = "CELL", required = true)]
    pub cells: Vec<String>,
    #[command(flatten)]
    pub store: StoreArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// More cells than this are too many to explain in one go.
const MOST: usize = 50;

pub fn run(arguments: &Arguments) -> Outcome {
    let session = Session::open(&arguments.pipeline, &arguments.store)?;
    let cells = session.pipeline.select(&arguments.cells).map_err(Failure::Words)?;
    if cells.len() > MOST {
        let hint = cells.first().map(|&i| format!("name some of them, as {}", session.pipeline.cells[i].id));
        return Err(Failure::words(format!("{} cells are too many to explain", cells.len()), hint));
    }
    let mut texts = Vec::new();
    let mut values = Vec::new();
    for cell in cells {
        let why = why(&session.pipeline, &session.store, &session.sources, &PlanOptions::default(), cell)?;
        if arguments.json {
            values.push(value(&session.pipeline, &why));
        } else {
            texts.push(text(&session.pipeline, &why, Colour::stdout()));
        }
    }
    print(&if arguments.json { json!({ "cells": values }).to_string() + "\n" } else { texts.join("\n") });
    Ok(ExitCode::SUCCESS)
}

fn value(pipeline: &Pipeline, why: &Why) -> Value {
    let planned = &why.planned;
    let reasons: Vec<String> = planned.reasons.iter().map(|r| r.to_string()).collect();
    let last =
        why.last.as_ref().map(|r| json!({"key": r.key, "finished_unix_ms": r.finished_unix_ms, "wall_ms": r.wall_ms}));
    json!({
        "cell": planned.cell, "kind": planned.kind, "state": planned.state, "reasons": reasons, "key": planned.key,
        "parts": why.parts, "inputs": inputs(pipeline, planned.index), "last": last,
    })
}

/// (field, output of a cell).
fn inputs(pipeline: &Pipeline, cell: usize) -> Vec<(String, String)> {
    let fields = pipeline.cells[cell].inputs.iter();
    fields
        .flat_map(|(field, inputs)| {
            inputs.iter().map(move |i| (field.clone(), format!("{}.{}", pipeline.cells[i.cell].id, i.output)))
        })
        .collect()
}

fn text(pipeline: &Pipeline, why: &Why, colour: Colour) -> String {
    let planned = &why.planned;
    let state = match planned.state {
        State::Fresh => colour.green("fresh: nothing to do"),
        State::Run => colour.yellow("has to run"),
        State::Blocked => colour.red("blocked"),
    };
    let mut out = format!("{} ({}) {state}\n", colour.bold(&planned.cell), planned.kind);
    for reason in &planned.reasons {
        out.push_str(&format!("  {reason}\n"));
    }
    match &planned.key {
        Some(key) => out.push_str(&format!("key {key}, made of\n")),
        None => out.push_str("key not known before its inputs are; made of\n"),
    }
    let rows: Vec<Vec<String>> = why.parts.iter().map(row).collect();
    for line in layout::columns(&rows, &[]).lines() {
        out.push_str(&format!("  {line}\n"));
    }
    let inputs = inputs(pipeline, planned.index);
    if !inputs.is_empty() {
        out.push_str("takes\n");
        const SHOWN: usize = 40;
        let rows: Vec<Vec<String>> = inputs.iter().take(SHOWN).map(|(f, i)| vec![f.clone(), i.clone()]).collect();
        for line in layout::columns(&rows, &[]).lines() {
            out.push_str(&format!("  {line}\n"));
        }
        if inputs.len() > SHOWN {
            out.push_str(&format!("  and {} more\n", inputs.len() - SHOWN));
        }
    }
    if let Some(last) = &why.last {
        out.push_str(&format!(
            "last computed {} UTC in {} by {}, key {}\n",
            layout::time(last.finished_unix_ms),
            crate::run::duration(last.wall_ms),
            last.program,
            last.key.short()
        ));
    }
    out
}

/// One part of a key in columns: what, name, value.
fn row(part: &Part) -> Vec<String> {
    match part {
        Part::Kind { name, version } => vec!["kind".into(), name.clone(), format!("version {version}")],
        Part::Param { path, value } => vec!["param".into(), path.clone(), layout::cut(&value.to_string(), 100)],
        Part::Input { field, node, axes, digest, files, .. } => {
            let axes = axes.iter().flatten().map(|(n, v)| format!(" {n}={}", crate::pipeline::axis_text(v)));
            let node = node.as_ref().map(|n| format!(" {n}")).unwrap_or_default();
            let text = format!("{} ({} files){node}{}", digest.short(), files.len(), axes.collect::<String>());
            vec!["input".into(), field.clone(), text]
        }
        Part::Source { field, digest, files, bytes } => {
            let text = format!("{} ({files} files, {})", digest.short(), layout::bytes(*bytes));
            vec!["source".into(), field.clone(), text]
        }
    }
}
