//! Random graphs and random changes: `plan` says what `run` does, and a second run does nothing.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::plan::{Reason, fixture::Builder};

/// A cell: text, whether only its length counts, and which of the earlier cells it takes (as bits).
type Draw = (u8, bool, u8);

fn build(draws: &[Draw]) -> Pipeline {
    let mut pipeline = Builder::new();
    for (i, (text, length, parents)) in draws.iter().enumerate() {
        let parents: Vec<usize> = (0..i).filter(|p| parents >> (p % 8) & 1 == 1).collect();
        let text = ["a", "b", "cc"][usize::from(*text) % 3];
        let params = json!({"text": text, "mode": if *length { "length" } else { "text" }});
        let inputs: &[(&str, &[usize])] = if parents.is_empty() { &[] } else { &[("all", &parents)] };
        pipeline = pipeline.cell(&format!("n{i}"), params, inputs);
    }
    pipeline.build()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plan_says_what_run_does(
        draws in prop::collection::vec((0u8..3, any::<bool>(), any::<u8>()), 1..9),
        changes in prop::collection::vec((0usize..9, 0u8..3, any::<bool>()), 1..3),
    ) {
        let bench = Bench::new();
        let before = build(&draws);
        bench.run(&before);
        let outputs = bench.outputs(&before);

        let mut changed = draws.clone();
        for (at, text, length) in changes {
            let cell = at % changed.len();
            changed[cell].0 = text;
            changed[cell].1 = length;
        }
        let after = build(&changed);
        let plan = bench.plan(&after);
        let (started, summary) = bench.run(&after);
        let started: BTreeSet<String> = started.into_iter().collect();
        prop_assert!(summary.complete());
        for cell in &plan.cells {
            let may_be_spared = cell.reasons.iter().any(|r| matches!(r, Reason::Waits { .. }));
            match cell.state {
                State::Fresh => prop_assert!(!started.contains(&cell.cell)),
                State::Run if may_be_spared => {}
                State::Run => {
                    // Two cells with one key are computed once, whichever comes first.
                    let twin = plan.cells.iter().any(|c| c.cell != cell.cell && c.key == cell.key);
                    prop_assert!(started.contains(&cell.cell) || twin, "{} was to run", cell.cell);
                }
                State::Blocked => prop_assert!(false, "nothing is missing"),
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
}
