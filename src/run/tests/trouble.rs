//! Failures, panics, stops: what they take down, and what the next run does.

use serde_json::{Value, json};

use super::*;
use crate::plan::fixture::{Builder, tree};

/// bad -> after -> last, and good beside them; `good` comes later in the pipeline.
fn pipeline(mode: &str) -> Pipeline {
    Builder::new()
        .cell("bad", json!({"mode": mode}), &[])
        .cell("after", json!({}), &[("data", &[0])])
        .cell("last", json!({}), &[("all", &[1])])
        .cell("good", json!({"text": "good"}), &[])
        .build()
}

fn run_mode(mode: &str, keep_going: bool) -> (Summary, Vec<Event>) {
    let watcher = Watcher::new();
    // One at a time, so that `bad` has failed before `good` could start.
    let options = RunOptions { keep_going, jobs: 1, ..options() };
    let summary = Bench::new().run_with(&pipeline(mode), &options, &watcher);
    (summary, watcher.events())
}

fn skips(events: &[Event]) -> Vec<(String, String, bool)> {
    let skip =
        |e: &Event| if let Event::Skipped(s) = e { Some((s.cell.clone(), s.because.clone(), s.stopped)) } else { None };
    let mut skips: Vec<_> = events.iter().filter_map(skip).collect();
    skips.sort();
    skips
}

#[test]
fn a_failure_skips_what_needs_it_and_stops_the_rest() {
    let (summary, events) = run_mode("fail", false);
    assert_eq!((summary.ran, summary.failed, summary.skipped, summary.exit_code()), (0, 1, 3, 1));
    let skip = |cell: &str, stopped| (cell.to_string(), "bad".to_string(), stopped);
    assert_eq!(skips(&events), [skip("after", false), skip("good", true), skip("last", false)]);
    let failure = &summary.failures[0];
    assert_eq!((failure.cell.as_str(), failure.error.as_str()), ("bad", "no rows"));
    assert_eq!(failure.hint.as_deref(), Some("check the filter"));
    assert!(failure.log.as_ref().unwrap().starts_with("logs/"));
}

#[test]
fn keep_going_runs_what_does_not_need_the_failed_cell() {
    let (summary, events) = run_mode("fail", true);
    assert_eq!((summary.ran, summary.failed, summary.skipped), (1, 1, 2));
    assert_eq!(skips(&events).len(), 2);
}

#[test]
fn a_panic_is_reported_as_a_bug_and_takes_nothing_else_down() {
    let (summary, _) = run_mode("panic", true);
    assert_eq!((summary.ran, summary.failed, summary.skipped), (1, 1, 2));
    assert_eq!(summary.failures[0].error, "bug: kind write panicked: index out of range");
}

#[test]
fn an_undeclared_output_is_a_bug_of_the_kind() {
    let (summary, _) = run_mode("undeclared", true);
    assert_eq!(summary.failures[0].error, "bug: kind write published other (table), which it does not declare");
}

#[test]
fn an_output_that_was_not_made_fails_only_who_needs_it() {
    let mut pipeline = pipeline("text");
    pipeline.cells[1].inputs.get_mut("data").unwrap()[0].output = "extra".into();
    let watcher = Watcher::new();
    let summary = Bench::new().run_with(&pipeline, &RunOptions { keep_going: true, ..options() }, &watcher);
    assert_eq!((summary.ran, summary.failed, summary.skipped), (2, 1, 1));
    assert_eq!(summary.failures[0].error, "bad made no output extra");
}

#[test]
fn a_source_that_changes_while_it_is_read_fails_its_reader() {
    let folder = tempfile::tempdir().unwrap();
    tree(folder.path(), &[("a", "1")]);
    let bench = Bench::new();
    let pipeline = Builder::new().cell("a", json!({"root": folder.path(), "mode": "meddle"}), &[]).build();
    let (_, summary) = bench.run(&pipeline);
    assert!(summary.failures[0].error.ends_with("meddled: changed while it was read"), "{summary:?}");
    assert_eq!(bench.store.records().unwrap(), []);
}

#[test]
fn blocked_cells_stop_a_run_before_it_computes_unless_told_to_keep_going() {
    let bench = Bench::new();
    let pipeline = Builder::new()
        .cell("a", json!({"root": "no/such/place"}), &[])
        .cell("b", json!({}), &[("data", &[0])])
        .cell("c", json!({}), &[])
        .build();
    let (started, summary) = bench.run(&pipeline);
    assert_eq!((started.len(), summary.blocked, summary.unfinished, summary.exit_code()), (0, 2, 1, 1));
    let watcher = Watcher::new();
    let summary = bench.run_with(&pipeline, &RunOptions { keep_going: true, ..options() }, &watcher);
    assert_eq!((watcher.started(), summary.blocked, summary.exit_code()), (vec!["c".into()], 2, 1));
}

#[test]
fn a_stop_checkpoints_and_the_next_run_continues_to_the_same_bits() {
    let count = |extra: Value| {
        let mut params = json!({"mode": "count", "steps": 1000});
        params.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Builder::new().cell("long", params, &[]).cell("after", json!({}), &[("data", &[0])]).build()
    };
    let whole = Bench::new();
    let pipeline = count(json!({}));
    whole.run(&pipeline);

    let bench = Bench::new();
    let options = options();
    let cancel = options.cancel.clone();
    let watcher = Watcher::acting(|e| {
        if matches!(e, Event::Progress { .. }) {
            cancel.request()
        }
    });
    let summary = bench.run_with(&pipeline, &options, &watcher);
    assert_eq!((summary.ran, summary.unfinished, summary.interrupted, summary.exit_code()), (0, 2, true, 130));
    assert!(watcher.events().iter().any(|e| matches!(e, Event::Interrupted { cell } if cell == "long")));

    let watcher = Watcher::new();
    let summary = bench.run_with(&pipeline, &super::options(), &watcher);
    assert_eq!((summary.ran, summary.exit_code()), (2, 0));
    let resumed =
        watcher.events().iter().any(|e| matches!(e, Event::Started { cell, resumes: true, .. } if cell == "long"));
    assert!(resumed);
    assert_eq!(bench.outputs(&pipeline), whole.outputs(&pipeline));
    assert!(!bench.store.has_scratch(&bench.plan(&pipeline).cells[0].key.unwrap()));
}

#[test]
fn a_stop_before_anything_started_starts_nothing() {
    let options = options();
    options.cancel.request();
    let watcher = Watcher::new();
    let summary = Bench::new().run_with(&pipeline("text"), &options, &watcher);
    assert_eq!((summary.ran, summary.unfinished, summary.exit_code()), (0, 4, 130));
    assert_eq!(watcher.started(), [""; 0]);
}
