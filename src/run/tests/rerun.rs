//! Reruns: run, run again, change one thing, read the sentence.

use serde_json::{Value, json};

use super::*;
use crate::plan::{
    Force,
    fixture::{Builder, WRITE_2, tree},
};

/// a -> b -> c, and d beside them.
fn chain(a: Value, b: Value) -> Pipeline {
    Builder::new()
        .cell("a", a, &[])
        .cell("b", b, &[("data", &[0])])
        .cell("c", json!({"text": "c"}), &[("all", &[1])])
        .cell("d", json!({"text": "d"}), &[])
        .build()
}

#[test]
fn a_second_run_does_nothing_and_a_change_reruns_what_depends_on_it() {
    let bench = Bench::new();
    let first = chain(json!({}), json!({}));
    assert_eq!(bench.told(&first)[1], "b: never ran; waits for a");
    let (started, summary) = bench.run(&first);
    assert_eq!(
        (started, summary.ran, summary.exit_code()),
        (vec!["a".into(), "b".into(), "c".into(), "d".into()], 4, 0)
    );
    assert_eq!(bench.told(&first), [""; 0]);
    let (started, summary) = bench.run(&first);
    assert_eq!((started.len(), summary.fresh, summary.complete()), (0, 4, true));

    let second = chain(json!({}), json!({"lr": 0.01}));
    assert_eq!(bench.told(&second), ["b: lr changed (0.003 => 0.01)", "c: waits for b"]);
    assert_eq!(bench.run(&second).0, ["b", "c"]);
    assert!(bench.text(&second, "c").contains("0.01"));

    // Back to the old values: everything is there, and it is what the next change is told against.
    assert_eq!(bench.told(&first), [""; 0]);
    assert_eq!(bench.run(&first).0.len(), 0);
    assert_eq!(bench.told(&chain(json!({}), json!({"lr": 1.0})))[0], "b: lr changed (0.003 => 1.0)");
}

#[test]
fn an_unchanged_output_stops_the_rerun() {
    let bench = Bench::new();
    let with = |text: &str| chain(json!({"text": text, "mode": "length"}), json!({}));
    bench.run(&with("aa"));
    let other = with("bb");
    assert_eq!(bench.told(&other), ["a: text changed (aa => bb)", "b: waits for a", "c: waits for b"]);
    let (started, summary) = bench.run(&other);
    assert_eq!((started, summary.ran, summary.spared, summary.fresh), (vec!["a".into()], 1, 2, 1));
    let longer = with("ccc");
    assert_eq!(bench.run(&longer).0, ["a", "b", "c"]);
    // The reason that b gave when its turn came.
    let watcher = Watcher::new();
    bench.run_with(&with("dddd"), &options(), &watcher);
    let reasons = watcher.events().into_iter().find_map(|e| match e {
        Event::Started { cell, reasons, .. } if cell == "b" => Some(reasons),
        _ => None,
    });
    assert_eq!(reasons.unwrap(), ["input a changed (t.txt)"]);
}

#[test]
fn a_raised_version_and_a_renamed_node_are_told_apart() {
    let bench = Bench::new();
    let build = |a: &str| Builder::new().cell(a, json!({}), &[]).cell("b", json!({"text": "b"}), &[("data", &[0])]);
    bench.run(&build("a").build());
    assert_eq!(bench.told(&build("a").kind(&WRITE_2).build()), ["b: kind write 1 => 2"]);
    assert_eq!(bench.run(&build("renamed").build()).0, [""; 0]);
}

#[test]
fn changed_sources_are_counted_and_named() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<(String, String)> = (0..40).map(|i| (format!("img/{i:02}.png"), i.to_string())).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    tree(folder.path(), &files);
    let pipeline = Builder::new().cell("a", json!({"root": folder.path()}), &[]).build();
    bench.run(&pipeline);
    assert_eq!(bench.run(&pipeline).0, [""; 0]);
    tree(folder.path(), &[("img/03.png", "other"), ("img/39.png", "other")]);
    assert_eq!(bench.told(&pipeline), ["a: source changed (2 of 40 files: img/03.png, img/39.png)"]);
    assert_eq!(bench.run(&pipeline).0, ["a"]);
    tree(folder.path(), &[("img/03.png", "3"), ("img/39.png", "39")]);
    assert_eq!(bench.told(&pipeline), [""; 0]);
}

#[test]
fn what_is_missing_from_the_store_is_made_again() {
    let bench = Bench::new();
    let pipeline = chain(json!({}), json!({}));
    bench.run(&pipeline);
    let before = bench.outputs(&pipeline);
    let plan = bench.plan(&pipeline);
    let b = plan.cells[1].current.clone().unwrap();
    bench.store.delete_blob(&b.outputs["table"].file("t.txt").unwrap().digest).unwrap();
    assert_eq!(bench.told(&pipeline), ["b: artifact missing (table/t.txt)", "c: waits for b"]);
    let (started, summary) = bench.run(&pipeline);
    assert_eq!((started, summary.spared), (vec!["b".into()], 1));
    bench.store.delete_record(&b.key).unwrap();
    assert_eq!(bench.told(&pipeline)[0], "b: record missing");
    assert_eq!(bench.run(&pipeline).0, ["b"]);
    assert_eq!(bench.outputs(&pipeline), before);
    // The record that a change would be told against is gone.
    bench.store.delete_record(&b.key).unwrap();
    let told = bench.told(&chain(json!({}), json!({"lr": 1.0})));
    assert_eq!(told[0], format!("b: record missing (of its last run, {})", b.key.short()));
}

#[test]
fn a_damaged_record_is_named_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench { store: Store::open(folder.path()).unwrap() };
    let pipeline = chain(json!({}), json!({}));
    bench.run(&pipeline);
    let before = bench.outputs(&pipeline);
    let record = folder.path().join(format!("records/{}.json", bench.plan(&pipeline).cells[3].key.unwrap()));
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, &text[..text.len() / 2]).unwrap();
    let told = bench.told(&pipeline);
    assert!(told[0].starts_with("d: record damaged (record records/"), "{told:?}");
    assert_eq!(bench.run(&pipeline).0, ["d"]);
    assert_eq!(bench.outputs(&pipeline), before);
}

#[test]
fn what_was_put_outside_and_is_gone_is_put_there_again() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    let pipeline = Builder::new().cell("a", json!({"deliver": path}), &[]).build();
    bench.run(&pipeline);
    assert_eq!(bench.told(&pipeline), [""; 0]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(bench.told(&pipeline), [format!("a: {} is gone", path.display())]);
    assert_eq!(bench.run(&pipeline).0, ["a"]);
    assert!(path.exists());
}

#[test]
fn force_runs_what_is_fresh_and_spares_what_follows() {
    let bench = Bench::new();
    let pipeline = chain(json!({}), json!({}));
    bench.run(&pipeline);
    let forced = |force| {
        let watcher = Watcher::new();
        let plan = PlanOptions { force, only: None };
        let summary = bench.run_with(&pipeline, &RunOptions { plan, ..options() }, &watcher);
        assert!(summary.complete());
        watcher.started()
    };
    assert_eq!(forced(Force::Cells([0].into())), ["a"]);
    assert_eq!(forced(Force::All), ["a", "b", "c", "d"]);
    assert_eq!(bench.run(&pipeline).0, [""; 0]);
}

#[test]
fn the_record_says_what_the_cell_was() {
    let bench = Bench::new();
    let pipeline = chain(json!({}), json!({"optimizer": {"threads": 2}}));
    bench.run_with(&pipeline, &RunOptions { jobs: 1, ..options() }, &Watcher::new());
    let key = bench.plan(&pipeline).cells[1].key.unwrap();
    let record = bench.store.record(&key).unwrap().unwrap();
    assert_eq!((record.pipeline.as_str(), record.cell.as_str(), record.kind.as_str()), ("test", "b", "write"));
    assert_eq!(record.threads, 2);
    assert_eq!((record.notes[0].what.as_str(), record.notes[0].count), ("lines", 2));
    assert_eq!(crate::store::part::key(&record.parts), key);
    assert!(record.program.starts_with("scaleshot ") && record.machine.cores > 0 && record.finished_unix_ms > 0);
    let log = bench.store.read_log(&key).unwrap().unwrap();
    assert!(log.contains("b: never ran; 2 threads") && log.contains("lines: 2 (written)"), "{log}");
}
