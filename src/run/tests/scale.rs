//! Many cells: the right ones run, whatever their number.

use serde_json::json;

use super::*;
use crate::plan::fixture::Builder;

/// One source, `n` cells on it, one cell on all of them.
fn fan(n: usize, lr: f64) -> Pipeline {
    let mut pipeline = Builder::new().cell("source", json!({}), &[]);
    for i in 0..n {
        let axes = [("seed", json!(i))];
        pipeline = pipeline.matrix_cell(
            &format!("work[seed={i}]"),
            "work",
            &axes,
            json!({"text": i.to_string(), "lr": if i == 7 { lr } else { 0.003 }}),
            &[("data", &[0])],
        );
    }
    let all: Vec<usize> = (1..=n).collect();
    pipeline.cell("report", json!({}), &[("all", &all)]).build()
}

#[test]
fn a_thousand_cells_run_once() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench { store: Store::open(folder.path()).unwrap() };
    let n = 1000;
    let (started, summary) = bench.run(&fan(n, 0.003));
    assert_eq!((started.len(), summary.ran), (n + 2, n + 2));
    let (started, summary) = bench.run(&fan(n, 0.003));
    assert_eq!((started.len(), summary.fresh), (0, n + 2));
    let changed = fan(n, 0.01);
    assert_eq!(bench.told(&changed), ["work[seed=7]: lr changed (0.003 => 0.01)", "report: waits for work[seed=7]"]);
    assert_eq!(bench.run(&changed).0, ["report", "work[seed=7]"]);
}

#[test]
fn a_hundred_thousand_cells_are_planned() {
    let bench = Bench::new();
    let n = 100_000;
    let plan = bench.plan(&fan(n, 0.003));
    assert_eq!((plan.cells.len(), plan.count(State::Run)), (n + 2, n + 2));
    let waits = |cell: &plan::Planned| cell.reasons.last().map(ToString::to_string);
    assert_eq!(waits(&plan.cells[1]).as_deref(), Some("waits for source"));
    assert_eq!(waits(&plan.cells[n + 1]).as_deref(), Some("waits for work[seed=0] and 99999 more"));
}

/// How long things take, for whoever asks: `SCALESHOT_TEST_CELLS=10000`. Asserts what happens, not how fast.
#[test]
fn more_cells_for_whoever_asks() {
    let Some(n) = std::env::var("SCALESHOT_TEST_CELLS").ok().and_then(|n| n.parse::<usize>().ok()) else {
        eprintln!("left out: SCALESHOT_TEST_CELLS is not set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench { store: Store::open(folder.path()).unwrap() };
    let timed = |what: &str, lr: f64, ran: usize| {
        let pipeline = fan(n, lr);
        let began = Instant::now();
        let (started, _) = bench.run(&pipeline);
        eprintln!("{what} of {n} cells: {:?}", began.elapsed());
        assert_eq!(started.len(), ran);
    };
    timed("first run", 0.003, n + 2);
    timed("no-op", 0.003, 0);
    timed("no-op again", 0.003, 0);
    timed("one change", 0.01, 2);
}
