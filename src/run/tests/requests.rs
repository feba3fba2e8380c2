//! What a run asks of a store that counts its requests.

use serde_json::json;

use super::*;
use crate::{plan::fixture::Builder, store::Requests};

/// `n` cells beside each other and one on all of them.
fn fan(n: usize) -> Pipeline {
    let mut pipeline = Builder::new();
    for i in 0..n {
        let axes = [("seed", json!(i))];
        let params = json!({"text": i.to_string()});
        pipeline = pipeline.matrix_cell(&format!("work[seed={i}]"), "work", &axes, params, &[]);
    }
    let all: Vec<usize> = (0..n).collect();
    pipeline.cell("report", json!({}), &[("all", &all)]).build()
}

fn asked(bench: &Bench, body: impl FnOnce()) -> Requests {
    let before = bench.store.requests();
    body();
    bench.store.requests() - before
}

#[test]
fn ten_thousand_cells_make_no_storm() {
    let n = 10_000;
    let bench = Bench::new();
    let pipeline = fan(n);
    let first = asked(&bench, || assert_eq!(bench.run(&pipeline).1.ran, n + 1));
    let plan = asked(&bench, || assert_eq!(bench.plan(&pipeline).count(State::Fresh), n + 1));
    let no_op = asked(&bench, || assert_eq!(bench.run(&pipeline).1.fresh, n + 1));
    let each = first.total() as f64 / n as f64;
    eprintln!("first run {first:?}, {each:.2} a cell; plan {plan:?}; no-op run {no_op:?}");
    // Three looks for its record and blob, five writes, and the lease removed.
    assert!(each <= 9.1, "{each} requests a cell");
    assert!(plan.total() <= 30 && no_op.total() <= 30, "{plan:?} {no_op:?}");
}
