//! Run, run again, change one thing: what runs, and the sentence that says why.

mod study;

use study::{Study, TINY};

/// Cells of these nodes only.
fn only_nodes(cells: &[String], nodes: &[&str]) -> bool {
    cells.iter().all(|c| nodes.contains(&c.split('[').next().unwrap()))
}

#[test]
fn a_second_run_does_nothing_and_one_change_reruns_what_depends_on_it() {
    let study = Study::new(TINY);
    let first = study.plan(&[]);
    assert!(first.iter().all(|(_, state, reasons)| state == "run" && reasons[0] == "never ran"), "{first:?}");
    let ran = study.ran(&[]);
    assert_eq!(ran.len(), first.len());
    assert_eq!(study.ran(&[]), Vec::<String>::new());
    assert!(study.plan(&[]).iter().all(|(_, state, reasons)| state == "fresh" && reasons.is_empty()));

    // Another learning rate of transfer: transfer and what follows, and nothing before.
    let changed = study.plan(&["-p", "lr=0.2"]);
    let transfer = changed.iter().find(|(cell, ..)| cell.starts_with("transfer[")).unwrap();
    assert_eq!(transfer.2, ["optimizer.sgd_agc.lr changed (0.1 => 0.2)"]);
    let before = report_bytes(&study);
    let ran = study.ran(&["-p", "lr=0.2"]);
    assert!(only_nodes(&ran, &["transfer", "effect", "report"]), "{ran:?}");
    assert_eq!(ran.iter().filter(|c| c.starts_with("transfer[")).count(), 8);
    assert_ne!(report_bytes(&study), before);

    // Back to the old value: everything is found again, and the old report comes back.
    assert_eq!(study.ran(&[]), Vec::<String>::new());
    assert_eq!(report_bytes(&study), before);

    // A default that is spelled out is no change.
    let spelled = TINY.replace("steps: 4\n", "steps: 4\n      label_smoothing: 0\n");
    assert_ne!(spelled, TINY);
    std::fs::write(study.path("x.yaml"), spelled).unwrap();
    assert_eq!(study.ran(&[]), Vec::<String>::new());
}

fn report_bytes(study: &Study) -> Vec<(String, Vec<u8>)> {
    study.report()
}

#[test]
fn a_deleted_report_is_delivered_again_without_computing() {
    let study = Study::new(TINY);
    study.must(&["run", "x.yaml"]);
    let before = study.report();
    std::fs::remove_dir_all(study.path("reports")).unwrap();
    assert_eq!(study.ran(&[]), Vec::<String>::new());
    assert_eq!(study.report(), before);
}

#[test]
fn threads_change_no_byte_and_a_selection_limits_the_run() {
    let one = Study::new(TINY);
    one.must(&["run", "x.yaml", "--threads", "1"]);
    let three = Study::new(TINY);
    let part = three.ran(&["transfer[shots=1]", "--threads", "3"]);
    assert!(part.iter().any(|c| c.starts_with("transfer[")) && !part.iter().any(|c| c.contains("shots=full")));
    three.must(&["run", "x.yaml", "--threads", "3"]);
    assert_eq!(one.report(), three.report());
}

#[test]
fn a_changed_source_file_is_named_and_a_touched_one_is_not() {
    let study = Study::new(
        "pipeline: t\nnodes:\n  a: { table: { root: a.csv } }\n  b: { query: { tables: a, sql: SELECT MAX(x) AS top FROM a } }\n",
    );
    std::fs::write(study.path("a.csv"), "x\n1\n3\n").unwrap();
    study.must(&["run", "x.yaml"]);
    // The same bytes at another time.
    std::fs::write(study.path("a.csv"), "x\n1\n3\n").unwrap();
    assert_eq!(study.ran(&[]), Vec::<String>::new());
    // Other bytes with the same maximum: the table runs; so does the query, whose input has another row.
    std::fs::write(study.path("a.csv"), "x\n2\n3\n").unwrap();
    let plan = study.plan(&[]);
    assert_eq!(plan[0].2, ["source changed (its content)"], "{plan:?}");
    assert_eq!(study.ran(&[]), ["a", "b"]);
    // A source that is gone blocks with the way out.
    std::fs::remove_file(study.path("a.csv")).unwrap();
    let plan = study.plan(&[]);
    assert_eq!(plan[0].1, "blocked", "{plan:?}");
    assert_eq!(study.output(&["run", "x.yaml"]).status.code(), Some(1));
}
