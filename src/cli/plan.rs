//! `scaleshot plan`: what `run` would do, and why. Runs nothing.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Outcome,
    executor::{Executor, ExecutorArguments, stand},
    layout,
    output::{Colour, print},
    session::{PipelineArguments, Session, StoreArguments},
};
use crate::{
    plan::{Force, Plan, PlanOptions, State, plan},
    run::cluster::Standing,
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
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let session = Session::open(&arguments.pipeline, &arguments.store)?;
    let only = session.only(&arguments.cells)?;
    let force = forced(arguments.force, only.as_deref());
    let plan = plan(&session.pipeline, &session.store, &session.sources, &PlanOptions { only, force })?;
    if arguments.executor.executor == Executor::Slurm {
        let profile = arguments.executor.slurm(&session.store)?;
        let standing = stand(&session.pipeline, &session.store, &session.sources, &plan, &profile)?;
        print(&if arguments.json { json!({ "cells": standing }).to_string() + "\n" } else { standing_text(&standing) });
        return Ok(ExitCode::SUCCESS);
    }
    print(&if arguments.json { json_text(&plan) } else { text(&plan, arguments.all, Colour::stdout()) });
    Ok(ExitCode::SUCCESS)
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
