//! Random graphs and random changes: `plan` says exactly what `run` does, a second run does nothing, what comes out
//! as it was stops the rerun, going back recomputes nothing, and keys hold nothing but what decides.

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::plan::{Force, Reason, fixture::Builder};

/// A cell: text, whether only its length counts, and which of the earlier cells it takes (as bits).
type Draw = (u8, bool, u8);

/// One change: at which cell, and its new text, mode and (where asked for) parents.
type Change = (usize, u8, bool, Option<u8>);

/// `name` names the nodes; `reversed` spells parameters in another order, with defaults written out.
fn build_as(draws: &[Draw], name: &str, reversed: bool) -> Pipeline {
    let mut pipeline = Builder::new();
    for (i, (text, length, parents)) in draws.iter().enumerate() {
        let parents: Vec<usize> = (0..i).filter(|p| parents >> (p % 8) & 1 == 1).collect();
        let text = ["a", "b", "cc"][usize::from(*text) % 3];
        let mode = if *length { "length" } else { "text" };
        let mut pairs = vec![("text", json!(text)), ("mode", json!(mode))];
        if reversed {
            pairs.extend([("lr", json!(0.003)), ("option", json!(null)), ("optimizer", json!({}))]);
            pairs.reverse();
        }
        let params: serde_json::Map<String, serde_json::Value> =
            pairs.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        let inputs: &[(&str, &[usize])] = if parents.is_empty() { &[] } else { &[("all", &parents)] };
        pipeline = pipeline.cell(&format!("{name}{i}"), params.into(), inputs);
    }
    pipeline.build()
}

fn build(draws: &[Draw]) -> Pipeline {
    build_as(draws, "n", false)
}

fn change(draws: &[Draw], changes: &[Change]) -> Vec<Draw> {
    let mut changed = draws.to_vec();
    for (at, text, length, parents) in changes {
        let cell = at % changed.len();
        let (_, _, before) = changed[cell];
        changed[cell] = (*text, *length, parents.unwrap_or(before));
    }
    changed
}

fn keys(bench: &Bench, pipeline: &Pipeline) -> Vec<Digest> {
    bench.plan(pipeline).cells.iter().map(|c| c.key.unwrap()).collect()
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    prop::collection::vec((0u8..3, any::<bool>(), any::<u8>()), 1..9)
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec((0usize..9, 0u8..3, any::<bool>(), prop::option::weighted(0.3, any::<u8>())), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plan_says_what_run_does(draws in draws(), changes in changes()) {
        let bench = Bench::new();
        let before = build(&draws);
        bench.run(&before);
        let outputs = bench.outputs(&before);
        let known: BTreeSet<Digest> = bench.store.records().unwrap().into_iter().collect();

        let after = build(&change(&draws, &changes));
        let plan = bench.plan(&after);
        let (started, summary) = bench.run(&after);
        prop_assert!(summary.complete());
        let is = keys(&bench, &after);
        let ran: BTreeSet<Digest> =
            after.cells.iter().zip(&is).filter(|(c, _)| started.contains(&c.id)).map(|(_, key)| *key).collect();
        // Each unknown key is computed, once; nothing else is. That is the early cut-off, too: a cell whose inputs
        // came out as they were has a known key.
        let unknown: BTreeSet<Digest> = is.iter().copied().filter(|key| !known.contains(key)).collect();
        prop_assert_eq!(&ran, &unknown);
        prop_assert_eq!(started.len(), unknown.len());
        prop_assert_eq!((summary.ran, summary.ran + summary.spared + summary.fresh), (unknown.len(), after.cells.len()));
        for (cell, key) in plan.cells.iter().zip(&is) {
            let waits = cell.reasons.iter().any(|r| matches!(r, Reason::Waits { .. }));
            match cell.state {
                State::Fresh => prop_assert!(known.contains(key) && cell.key == Some(*key)),
                State::Run if waits => prop_assert_eq!(cell.key, None),
                State::Run => prop_assert!(unknown.contains(key) && cell.key == Some(*key), "{} was to run", cell.cell),
                State::Frozen | State::Blocked => prop_assert!(false, "nothing is frozen or missing"),
            }
            prop_assert_eq!(cell.reasons.is_empty(), cell.state == State::Fresh);
        }

        // A clean store comes to the same, and going back finds everything.
        let clean = Bench::new();
        clean.run(&after);
        prop_assert_eq!(clean.outputs(&after), bench.outputs(&after));
        prop_assert_eq!(bench.run(&after).0.len(), 0);
        prop_assert_eq!(bench.run(&before).0.len(), 0);
        prop_assert_eq!(bench.outputs(&before), outputs);
    }

    #[test]
    fn what_is_selected_is_planned_with_its_needs_and_what_is_forced_runs(
        draws in draws(),
        changes in changes(),
        only in prop::option::of(any::<u16>()),
        forced in any::<u16>(),
    ) {
        let bench = Bench::new();
        bench.run(&build(&draws));
        let after = build(&change(&draws, &changes));
        let chosen = |bits: u16| (0..after.cells.len()).filter(move |i| bits >> (i % 16) & 1 == 1);
        let only: Option<Vec<usize>> = only.map(|bits| chosen(bits).collect());
        let mut needed: Vec<bool> = (0..after.cells.len()).map(|i| only.as_ref().is_none_or(|o| o.contains(&i))).collect();
        for child in (0..after.cells.len()).rev() {
            for parent in after.cells[child].inputs.values().flatten().filter(|_| needed[child]).map(|i| i.cell).collect::<Vec<_>>() {
                needed[parent] = true;
            }
        }
        let forced: HashSet<usize> = chosen(forced).collect();
        let asked = PlanOptions { only: only.clone(), force: Force::Cells(forced.clone()) };
        let known: BTreeSet<Digest> = bench.store.records().unwrap().into_iter().collect();
        let sources = SourceIndex::open(&bench.store).unwrap();
        let plan = crate::plan::plan(&after, &bench.store, &sources, &asked).unwrap();
        let expected: Vec<usize> = (0..after.cells.len()).filter(|&i| needed[i]).collect();
        prop_assert_eq!(plan.cells.iter().map(|c| c.index).collect::<Vec<_>>(), expected.clone());

        let watcher = Watcher::new();
        let summary = bench.run_with(&after, &RunOptions { plan: asked, ..options() }, &watcher);
        prop_assert!(summary.complete());
        let started = watcher.started();
        for cell in plan.cells.iter().filter(|c| c.state != State::Run) {
            prop_assert!(!started.contains(&cell.cell) && !forced.contains(&cell.index), "{} was not to run", cell.cell);
        }
        let settled = crate::plan::plan(&after, &bench.store, &sources, &PlanOptions { only, force: Force::None }).unwrap();
        let mut ran = BTreeSet::new();
        let mut should = BTreeSet::new();
        for cell in &settled.cells {
            prop_assert_eq!(cell.state, State::Fresh);
            let key = cell.key.unwrap();
            ran.extend(started.contains(&cell.cell).then_some(key));
            should.extend((forced.contains(&cell.index) || !known.contains(&key)).then_some(key));
        }
        prop_assert_eq!(ran, should);
    }

    #[test]
    fn a_key_holds_what_decides_and_nothing_else(draws in draws()) {
        let bench = Bench::new();
        bench.run(&build(&draws));
        let expected = keys(&bench, &build(&draws));
        // Other names, other order and spelling of parameters: the results are there.
        for other in [build_as(&draws, "other", false), build_as(&draws, "n", true)] {
            prop_assert_eq!(bench.run(&other).0.len(), 0);
            prop_assert_eq!(keys(&bench, &other), expected.clone());
        }
        // Another store in another place, another number of threads and of cells at one time.
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = Bench { store: Store::open(folder.path()).unwrap() };
        let options = RunOptions { threads: 5, jobs: 1, ..options() };
        elsewhere.run_with(&build(&draws), &options, &Watcher::new());
        prop_assert_eq!(keys(&elsewhere, &build(&draws)), expected.clone());
        // A record's parts are the whole of its key: neither host nor clock is among them.
        for key in &expected {
            let record = elsewhere.store.record(key).unwrap().unwrap();
            prop_assert_eq!(crate::store::part::key(&record.parts), *key);
        }
    }

    #[test]
    fn a_frozen_cell_stays_and_what_follows_takes_it(draws in draws(), changes in changes(), at in 0usize..9) {
        let bench = Bench::new();
        let before = build(&draws);
        bench.run(&before);
        let at = at % before.cells.len();
        let (id, key) = (before.cells[at].id.clone(), keys(&bench, &before)[at]);
        let pin = crate::store::Frozen { key, since_unix_ms: 1, note: None };
        bench.store.update_frozen("test", |frozen| { frozen.insert(id.clone(), pin); }).unwrap();

        let after = build(&change(&draws, &changes));
        let (started, summary) = bench.run(&after);
        prop_assert!(summary.complete());
        prop_assert_eq!(summary.frozen, 1);
        prop_assert!(!started.contains(&id));
        let plan = bench.plan(&after);
        prop_assert_eq!((plan.cells[at].state, plan.cells[at].key), (State::Frozen, Some(key)));
        prop_assert_eq!(bench.run(&after).0.len(), 0);
        // Thawed, it is as if it had never been frozen.
        bench.store.update_frozen("test", |frozen| frozen.clear()).unwrap();
        bench.run(&after);
        let clean = Bench::new();
        clean.run(&after);
        prop_assert_eq!(clean.outputs(&after), bench.outputs(&after));
    }
}
