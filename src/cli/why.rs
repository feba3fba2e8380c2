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
    kind::Arity,
    pipeline::{CellSpec, Pipeline},
    plan::{PlanOptions, State, Why, why},
    store::{
        part::Part,
        record::{Accepted, Record},
    },
};

/// What `--help` says of the command.
pub const ABOUT: &str = "\
Explain cells: state, reasons, what the key is made of, where each part comes from, and what would change it.";

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
    let last = why.last.as_ref().map(
        |r| json!({"key": r.key, "finished_unix_ms": r.finished_unix_ms, "wall_ms": r.wall_ms, "accepted": r.accepted}),
    );
    let inputs: Vec<Value> = inputs(pipeline, why)
        .map(|i| json!({"field": i.field, "from": i.name(), "key": i.record.map(|r| r.key), "computed": i.record.map(|r| r.finished_unix_ms)}))
        .collect();
    let origins: Vec<Value> = why.parts.iter().map(|part| origin(pipeline, why, part).into()).collect();
    json!({
        "cell": planned.cell, "kind": planned.kind, "state": planned.state, "reasons": reasons, "key": planned.key,
        "parts": why.parts, "origins": origins, "inputs": inputs, "last": last,
        "would_change": would_change(pipeline, why),
    })
}

/// One artifact that the cell takes.
struct Taken<'a> {
    field: &'a str,
    cell: &'a CellSpec,
    output: &'a str,
    /// What made it, where that is current.
    record: Option<&'a Record>,
}

impl Taken<'_> {
    fn name(&self) -> String {
        format!("{}.{}", self.cell.id, self.output)
    }
}

fn inputs<'a>(pipeline: &'a Pipeline, why: &'a Why) -> impl Iterator<Item = Taken<'a>> {
    pipeline.cells[why.planned.index].inputs.iter().flat_map(move |(field, inputs)| {
        inputs.iter().map(move |i| Taken {
            field,
            cell: &pipeline.cells[i.cell],
            output: &i.output,
            record: why.parents.get(&i.cell),
        })
    })
}

/// Where a part of the key comes from.
fn origin(pipeline: &Pipeline, why: &Why, part: &Part) -> String {
    let cell = &pipeline.cells[why.planned.index];
    match part {
        Part::Kind { .. } => "this program".into(),
        Part::Param { path, .. } => {
            // What the file leaves out is the kind's default.
            let mut value = Some(&cell.params);
            for name in path.split('.') {
                value = value.and_then(|v| v.get(name.trim_matches('"')));
            }
            if value.is_some() { format!("{}, node {}", pipeline.path.display(), cell.node) } else { "default".into() }
        }
        Part::Input { field, digest, .. } => {
            let maker = inputs(pipeline, why).find(|i| {
                i.field == field.as_str()
                    && i.record.and_then(|r| r.outputs.get(i.output)).is_some_and(|a| a.digest() == *digest)
            });
            maker.map_or_else(|| "another cell".into(), |i| i.name())
        }
        Part::Source { field, .. } => {
            let sources = cell.kind.sources(&cell.params).unwrap_or_default();
            sources.iter().find(|s| s.field == field).map_or_else(String::new, |s| s.path.display().to_string())
        }
    }
}

/// What would make the cell run again, as sentences.
fn would_change(pipeline: &Pipeline, why: &Why) -> Vec<String> {
    let cell = &pipeline.cells[why.planned.index];
    let mut out = Vec::new();
    let params: Vec<&str> = why
        .parts
        .iter()
        .filter_map(|p| if let Part::Param { path, .. } = p { Some(path.as_str()) } else { None })
        .collect();
    if !params.is_empty() {
        out.push(format!("another value of {}", params.join(", ")));
    }
    let mut nodes: Vec<String> = inputs(pipeline, why).map(|i| format!("{}.{}", i.cell.node, i.output)).collect();
    nodes.sort();
    nodes.dedup();
    out.extend(nodes.iter().map(|node| format!("other content of {node} (the same content made anew does not)")));
    if cell.inputs.iter().any(|(field, inputs)| inputs.len() > 1 || many(cell, field)) {
        out.push("more, fewer or other cells of these nodes, or other values of their axes".into());
    }
    if let Some(spec) = cell.kind.inputs().iter().find(|s| s.named && cell.inputs.contains_key(s.field)) {
        out.push(format!("another name of a node in {}", spec.field));
    }
    for source in cell.kind.sources(&cell.params).unwrap_or_default() {
        out.push(format!(
            "other content or names of files in {} (another place or time does not)",
            source.path.display()
        ));
    }
    out.push(format!("a program whose kind {} has another version than {}", cell.kind.name(), cell.kind.version()));
    out.push("its record or files missing from the store; --force".into());
    out
}

fn many(cell: &CellSpec, field: &str) -> bool {
    let spec = cell.kind.inputs().iter().find(|s| s.field == field);
    spec.is_some_and(|s| matches!(s.arity, Arity::Cells | Arity::MaybeCells))
}

fn text(pipeline: &Pipeline, why: &Why, colour: Colour) -> String {
    let planned = &why.planned;
    let state = match planned.state {
        State::Fresh => colour.green("fresh: nothing to do"),
        State::Frozen => colour.bold("frozen: stays as it is"),
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
    let rows: Vec<Vec<String>> = why
        .parts
        .iter()
        .map(|part| row(part).into_iter().chain([format!("from {}", origin(pipeline, why, part))]).collect())
        .collect();
    indent(&mut out, &layout::columns(&rows, &[]));
    const SHOWN: usize = 40;
    let taken: Vec<Taken> = inputs(pipeline, why).collect();
    if !taken.is_empty() {
        out.push_str("takes\n");
        let rows: Vec<Vec<String>> =
            taken.iter().take(SHOWN).map(|i| vec![i.field.into(), i.name(), made(i)]).collect();
        indent(&mut out, &layout::columns(&rows, &[]));
        if taken.len() > SHOWN {
            out.push_str(&format!("  and {} more\n", taken.len() - SHOWN));
        }
    }
    out.push_str("would run again for\n");
    would_change(pipeline, why).iter().for_each(|line| out.push_str(&format!("  {line}\n")));
    if let Some(last) = &why.last {
        out.push_str(&format!(
            "last computed {} UTC in {} by {}, key {}\n",
            layout::time(last.finished_unix_ms),
            crate::run::duration(last.wall_ms),
            last.program,
            last.key.short()
        ));
        if let Some(accepted) = &last.accepted {
            out.push_str(&accepted_text(accepted));
        }
    }
    out
}

fn indent(out: &mut String, lines: &str) {
    lines.lines().for_each(|line| out.push_str(&format!("  {line}\n")));
}

/// Which record an input comes from.
fn made(taken: &Taken) -> String {
    match taken.record {
        Some(r) => format!("key {}, {} UTC, {}", r.key.short(), layout::time(r.finished_unix_ms), r.program),
        None => "not current: it has to run first".into(),
    }
}

fn accepted_text(accepted: &Accepted) -> String {
    let mut out = format!("that result was accepted {} UTC", layout::time(accepted.unix_ms));
    out.extend(accepted.of.map(|key| format!(", of key {}", key.short())));
    out.extend(accepted.note.as_ref().map(|note| format!(" ({note})")));
    out.push('\n');
    accepted.reasons.iter().for_each(|r| out.push_str(&format!("  although {r}\n")));
    accepted.files.iter().for_each(|f| out.push_str(&format!("  with {f} put in by hand\n")));
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
