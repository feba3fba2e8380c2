//! Two runs on one store: each cell is computed once.

use serde_json::json;

use super::{event::By, *};
use crate::plan::fixture::{Builder, open_gate};

#[test]
fn a_cell_that_another_run_computes_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = || {
        Builder::new().cell("slow", json!({"mode": "gate"}), &[]).cell("after", json!({}), &[("data", &[0])]).build()
    };
    let (begun, waits) = std::sync::mpsc::channel();
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let bench = Bench { store: Store::open(folder.path()).unwrap() };
            let watcher = Watcher::acting(move |e| {
                if matches!(e, Event::Started { .. }) {
                    begun.send(()).unwrap()
                }
            });
            (bench.run_with(&pipeline(), &options(), &watcher), watcher.events())
        });
        waits.recv().unwrap();
        // The first run holds the lock until this one has found it held.
        let bench = Bench { store: Store::open(folder.path()).unwrap() };
        let watcher = Watcher::acting(|e| {
            if matches!(e, Event::Waiting { .. }) {
                open_gate()
            }
        });
        let second = (bench.run_with(&pipeline(), &options(), &watcher), watcher.events());
        (first.join().unwrap(), second)
    });
    let started =
        |events: &[Event]| events.iter().filter(|e| matches!(e, Event::Started { cell, .. } if cell == "slow")).count();
    assert_eq!((started(&first.1), started(&second.1)), (1, 0));
    assert!(first.0.complete() && second.0.complete());
    assert_eq!(first.0.ran + second.0.ran, 2);
    assert!(second.1.iter().any(|e| matches!(e, Event::Spared { cell, by: Some(By::Process), .. } if cell == "slow")));
}

#[test]
fn cells_with_one_key_are_computed_once() {
    let bench = Bench::new();
    let pipeline = Builder::new().cell("a", json!({}), &[]).cell("b", json!({}), &[]).build();
    let watcher = Watcher::new();
    let summary = bench.run_with(&pipeline, &options(), &watcher);
    let (events, started) = (watcher.events(), watcher.started());
    assert_eq!((started.len(), summary.ran, summary.spared), (1, 1, 1));
    // The other one says which it is the same as, and nothing of other processes or of its inputs.
    let spared = events.iter().find_map(|e| if let Event::Spared { by, .. } = e { Some(by.clone()) } else { None });
    assert_eq!(spared, Some(Some(By::Cell(started[0].clone()))));
    let waits = events.iter().filter(|e| matches!(e, Event::Waiting { by: By::Process, .. })).count();
    assert_eq!(waits, 0);
    assert_eq!(bench.run(&pipeline).1.fresh, 2);
}
