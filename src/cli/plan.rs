//! `scaleshot plan`: what `run` would do, and why. Runs nothing.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Failure, Outcome,
    executor::{Executor, ExecutorArguments, stand},
    layout,
    output::{Colour, print},
    session::{PipelineArguments, Session, StoreArguments},
};
use crate::{
    plan::{Force, Plan, PlanOptions, State, plan},
    run::{
        cluster::{Estimate, Interval, Standing, estimate},
        duration,
    },
    store::Store,
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub pipeline: PipelineArguments,
    /// Limit to these nodes or cells and what they need: transfer, transfer[shots=5], pretrain+ for all that
    /// follows it, +report for all that it needs
    #[arg(value_name = "CELL")]
    pub cells: Vec<String>,
    #[command(flatten)]
    pub store: StoreArguments,
    /// Plan as if nothing were there
    #[arg(long)]
    pub force: bool,
    /// List cells that need nothing too
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub executor: ExecutorArguments,
    /// What the plan would take of a cluster, from the records of smaller runs; asks no queue
    #[arg(long)]
    pub estimate: bool,
    /// The store whose records an estimate follows [default: the plan's own]
    #[arg(long, value_name = "PLACE", requires = "estimate")]
    pub records: Option<PathBuf>,
    /// Jobs at one time, for an estimate of the wall time [default: all that can]
    #[arg(long, value_name = "N", requires = "estimate", default_value_t = 0, hide_default_value = true)]
    pub at_once: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let session = Session::open(&arguments.pipeline, &arguments.store)?;
    let only = session.only(&arguments.cells)?;
    let force = forced(arguments.force, only.as_deref());
    let plan = plan(&session.pipeline, &session.store, &session.sources, &PlanOptions { only, force })?;
    if arguments.estimate {
        if arguments.executor.executor != Executor::Slurm {
            let hint = Some("add --executor slurm, and --profile for what jobs ask for".to_string());
            return Err(Failure::words("--estimate is for plans that go to a cluster", hint));
        }
        let records = arguments.records.as_ref().map(Store::open).transpose()?;
        let known = records.as_ref().unwrap_or(&session.store);
        let profile = arguments.executor.profile()?;
        let found = estimate(&session.pipeline, &plan, known, &profile, MAX_ARRAY, arguments.at_once)?;
        print(&if arguments.json { json!(found).to_string() + "\n" } else { estimate_text(&found) });
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.executor.executor == Executor::Slurm {
        let profile = arguments.executor.slurm(&session.store)?;
        let standing = stand(&session.pipeline, &session.store, &session.sources, &plan, &profile)?;
        print(&if arguments.json { json!({ "cells": standing }).to_string() + "\n" } else { standing_text(&standing) });
        return Ok(ExitCode::SUCCESS);
    }
    print(&if arguments.json { json_text(&plan) } else { text(&plan, arguments.all, Colour::stdout()) });
    Ok(ExitCode::SUCCESS)
}

/// Of Slurm as it is installed; the cluster itself is not asked.
const MAX_ARRAY: usize = 1001;

/// Sums, and one line a node.
fn estimate_text(e: &Estimate) -> String {
    let hours = |i: Interval| vec![format!("{:.2}", i.expected), format!("({:.2} to {:.2})", i.low, i.high)];
    let time = |s: f64| duration((s * 1000.0) as u64);
    let mut rows = vec![
        vec!["jobs".to_string(), e.jobs.to_string(), format!("for {} cells", e.cells)],
        [vec!["core-hours".to_string()], hours(e.core_hours)].concat(),
        [vec!["GPU-hours".to_string()], hours(e.gpu_hours)].concat(),
        vec![
            "wall time".to_string(),
            time(e.wall_s.expected),
            format!("({} to {}), the queue apart", time(e.wall_s.low), time(e.wall_s.high)),
        ],
    ];
    let mut out = layout::columns(&rows, &[]);
    rows.clear();
    let head = ["node", "kind", "cells", "images", "core-hours", "", "longest", "records", "up to images"];
    rows.push(head.map(String::from).to_vec());
    for n in &e.nodes {
        let [expected, interval] = [0, 1].map(|i| hours(n.core_hours)[i].clone());
        rows.push(vec![
            n.node.clone(),
            n.kind.clone(),
            n.cells.to_string(),
            format!("{:.0}", n.images),
            expected,
            interval,
            time(n.wall_s),
            n.records.to_string(),
            format!("{:.0}", n.seen_images),
        ]);
    }
    if !e.nodes.is_empty() {
        out.push('\n');
        out.push_str(&layout::columns(&rows, &[]));
    }
    if !e.unknown.is_empty() {
        let (n, first) = (e.unknown.len(), &e.unknown[0]);
        out.push_str(&format!("\n{n} cells are in no sum, since no record tells of their kind: {first}"));
        out.push_str(if n > 1 { ", …\n" } else { "\n" });
        out.push_str("hint: run the pipeline smaller first, here or with --records elsewhere\n");
    }
    out
}

/// One line a cell and job, below a failed one the end of its log.
pub fn standing_text(standing: &[Standing]) -> String {
    let mut rows = Vec::new();
    for s in standing {
        rows.push(vec![s.state.clone(), s.cell.clone(), s.job.clone().unwrap_or_default(), s.detail.clone()]);
        rows.extend(s.tail.iter().map(|line| vec![String::new(), format!("| {}", line.trim_end())]));
    }
    let mut out = layout::columns(&rows, &[]);
    let states: BTreeMap<&str, usize> = standing.iter().fold(BTreeMap::new(), |mut states, s| {
        *states.entry(s.state.as_str()).or_default() += 1;
        states
    });
    let counts: Vec<String> = states.iter().map(|(state, n)| format!("{n} {state}")).collect();
    out.push_str(&format!("{} cells to run: {}\n", standing.len(), counts.join(", ")));
    out
}

/// `--force` is for the cells that were named, or for all where none were.
pub fn forced(force: bool, only: Option<&[usize]>) -> Force {
    match (force, only) {
        (false, _) => Force::None,
        (true, None) => Force::All,
        (true, Some(cells)) => Force::Cells(cells.iter().copied().collect()),
    }
}

/// `{"cells":[{"cell","kind","state","reasons","key"}]}` and nothing else; the key is null while it
/// depends on cells that have to run first.
pub fn json_text(plan: &Plan) -> String {
    let cells: Vec<Value> = plan
        .cells
        .iter()
        .map(|c| {
            let reasons: Vec<String> = c.reasons.iter().map(|r| r.to_string()).collect();
            json!({"cell": c.cell, "kind": c.kind, "state": c.state, "reasons": reasons, "key": c.key})
        })
        .collect();
    json!({ "cells": cells }).to_string() + "\n"
}

/// One line a cell that is not fresh, and a sum.
pub fn text(plan: &Plan, all: bool, colour: Colour) -> String {
    let mut rows = Vec::new();
    for cell in plan.cells.iter().filter(|c| all || c.state != State::Fresh) {
        let state = match cell.state {
            State::Fresh => "fresh",
            State::Frozen => "frozen",
            State::Run => "run",
            State::Blocked => "blocked",
        };
        let mut reasons = cell.reasons.iter().map(|r| r.to_string());
        rows.push(vec![state.to_string(), cell.cell.clone(), reasons.next().unwrap_or_default()]);
        rows.extend(reasons.map(|r| vec![String::new(), String::new(), r]));
    }
    let mut out = String::new();
    for line in layout::columns(&rows, &[]).lines() {
        let painted = match line.split_once(' ') {
            Some(("run", rest)) => format!("{} {rest}", colour.yellow("run")),
            Some(("blocked", rest)) => format!("{} {rest}", colour.red("blocked")),
            Some(("frozen", rest)) => format!("{} {rest}", colour.bold("frozen")),
            Some(("fresh", rest)) => format!("{} {rest}", colour.green("fresh")),
            _ => line.to_string(),
        };
        out.push_str(&painted);
        out.push('\n');
    }
    let mut counts = [(State::Run, "to run"), (State::Blocked, "blocked"), (State::Fresh, "fresh")]
        .map(|(state, words)| format!("{} {words}", plan.count(state)))
        .to_vec();
    if plan.count(State::Frozen) > 0 {
        counts.push(format!("{} frozen", plan.count(State::Frozen)));
    }
    out.push_str(&format!("{} cells: {}\n", plan.cells.len(), counts.join(", ")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        digest::Digest,
        plan::{Planned, Reason},
    };

    fn plan() -> Plan {
        let cell = |index, cell: &str, state, reasons, key| Planned {
            index,
            cell: cell.into(),
            kind: "merge",
            state,
            reasons,
            key,
            expected_ms: Some(5),
            current: None,
        };
        let waits = Reason::Waits { cells: vec!["a".into()] };
        Plan {
            cells: vec![
                cell(0, "a", State::Run, vec![Reason::NeverRan], Some(Digest([0xab; 32]))),
                cell(1, "b[x=1]", State::Run, vec![Reason::Forced, waits], None),
                cell(2, "c", State::Fresh, Vec::new(), Some(Digest([1; 32]))),
            ],
        }
    }

    #[test]
    fn json_has_the_promised_fields_and_no_others() {
        let value: Value = serde_json::from_str(&json_text(&plan())).unwrap();
        assert_eq!(
            value,
            json!({"cells": [
                {"cell": "a", "kind": "merge", "state": "run", "reasons": ["never ran"], "key": "ab".repeat(32)},
                {"cell": "b[x=1]", "kind": "merge", "state": "run", "reasons": [plan().cells[1].reasons[0].to_string(), "waits for a"], "key": null},
                {"cell": "c", "kind": "merge", "state": "fresh", "reasons": [], "key": "01".repeat(32)},
            ]})
        );
    }

    #[test]
    fn text_names_what_runs_and_counts_the_rest() {
        let forced = plan().cells[1].reasons[0].to_string();
        assert_eq!(
            text(&plan(), false, Colour::off()),
            format!(
                "run  a       never ran\nrun  b[x=1]  {forced}\n             waits for a\n3 cells: 2 to run, 0 blocked, 1 fresh\n"
            )
        );
        assert!(text(&plan(), true, Colour::off()).contains("fresh  c\n"));
    }
}
