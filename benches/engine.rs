//! The engine without anything around it, for `make bench-engine`: `cargo bench --bench engine -- dagrs N` drives N
//! nodes that do nothing with dagrs alone; `-- cells N FOLDER` runs N cells that write one small file, in this process
//! and on one thread, into a store in FOLDER, then again with nothing to do. Each prints one JSON object.

use scaleshot::{
    error::{Error, Result},
    kind::{AnyKind, Cell, Erased, Kind},
    pipeline::{LoadOptions, parse_with},
    run::{Nobody, RunOptions, run},
    store::{Store, artifact::ArtifactType, source::SourceIndex},
};
use std::{path::Path, process::ExitCode, sync::Arc, time::Instant};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().map_err(|_| Error::invalid(format!("{text} is no number")));
    let told = match words[..] {
        ["dagrs", n] => number(n).and_then(bare),
        ["cells", n, folder] => number(n).and_then(|n| cells(n, Path::new(folder))),
        // `cargo bench` alone runs every bench: a short look at each.
        [] => bare(100),
        _ => Err(Error::invalid("expected dagrs N or cells N FOLDER")),
    };
    match told {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Idle;

#[dagrs::async_trait::async_trait]
impl dagrs::Action for Idle {
    async fn run(&self, _: &mut dagrs::InChannels, _: &mut dagrs::OutChannels, _: Arc<dagrs::EnvVar>) -> dagrs::Output {
        dagrs::Output::empty()
    }
}

fn bare(n: usize) -> Result<serde_json::Value> {
    let wrong = |e: dagrs::DagrsError| Error::invalid(format!("dagrs: {e}"));
    let began = Instant::now();
    let mut table = dagrs::NodeTable::new();
    let mut graph = dagrs::Graph::new();
    for i in 0..n {
        graph.add_node(dagrs::DefaultNode::with_action(format!("cell {i}"), Idle, &mut table)).map_err(wrong)?;
    }
    graph.set_env(dagrs::EnvVar::new(table));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|e| Error::invalid(e.to_string()))?;
    runtime.block_on(graph.async_start()).map_err(wrong)?;
    Ok(serde_json::json!({ "nodes": n, "wall_s": began.elapsed().as_secs_f64() }))
}

/// Writes its number.
struct Touch;

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Number {
    i: u64,
}

impl Kind for Touch {
    const NAME: &'static str = "touch";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Writes its number";
    type Params = Number;

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("files", ArtifactType::Files)]
    }

    fn run(params: &Number, cell: &Cell) -> Result<()> {
        let path = cell.work.join("x");
        std::fs::write(&path, params.i.to_string()).map_err(Error::io(&path))?;
        cell.publish("files", ArtifactType::Files, &[("x".into(), path)])
    }
}

static KINDS: [&dyn AnyKind; 1] = [&Erased::<Touch>::NEW];

fn cells(n: usize, folder: &Path) -> Result<serde_json::Value> {
    let values: Vec<String> = (0..n).map(|i| i.to_string()).collect();
    let text = format!(
        "pipeline: bench\nnodes:\n  cell: {{ matrix: {{ i: [{}] }}, touch: {{ i: \"${{i}}\" }} }}\n",
        values.join(", ")
    );
    let mut walls_s = Vec::new();
    for ran in [n, 0] {
        let began = Instant::now();
        let pipeline = parse_with(&KINDS, Path::new("bench.yaml"), text.as_bytes(), &LoadOptions::default())
            .map_err(|e| Error::invalid(e.to_string()))?;
        let store = Store::open(folder)?;
        let sources = SourceIndex::open(&store)?;
        let options = RunOptions { threads: 1, ..RunOptions::default() };
        let summary = run(&pipeline, &store, &sources, &options, &Nobody)?;
        if summary.ran != ran {
            return Err(Error::invalid(format!("expected {ran} cells to run: {}", summary.sentence())));
        }
        walls_s.push(began.elapsed().as_secs_f64());
    }
    let cell_ms = (walls_s[0] - walls_s[1]) / n as f64 * 1000.0;
    Ok(serde_json::json!({ "cells": n, "full_s": walls_s[0], "noop_s": walls_s[1], "cell_ms": cell_ms }))
}
