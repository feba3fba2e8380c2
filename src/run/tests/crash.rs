//! Killed at every labelled write point, by killing: the store stays valid and the next run ends the same.
//!
//! The process that is killed is this test binary, running [`child`] alone.

use std::{path::Path, process::Command};

use serde_json::json;

use super::*;
use crate::{
    plan::fixture::{Builder, tree},
    store::{BlobState, FAULT_POINTS},
};

const STORE: &str = "SCALESHOT_TEST_STORE";

fn pipeline(root: &Path) -> Pipeline {
    Builder::new()
        .cell("a", json!({"root": root}), &[])
        .cell("b", json!({"mode": "count", "steps": 20}), &[("data", &[0])])
        .cell("c", json!({}), &[("all", &[0, 1])])
        .build()
}

/// Not a test of its own: what the killed process runs.
#[test]
fn child() {
    let Ok(folder) = std::env::var(STORE) else { return };
    let folder = Path::new(&folder);
    let store = Store::open(folder.join("store")).unwrap();
    let sources = SourceIndex::open(&store).unwrap().a_minute_later();
    run(&pipeline(&folder.join("data")), &store, &sources, &options(), &Nobody).unwrap();
}

#[test]
fn a_kill_at_any_write_point_leaves_a_valid_store() {
    let clean = tempfile::tempdir().unwrap();
    tree(&clean.path().join("data"), &[("x.csv", "1"), ("y.csv", "2")]);
    let reference = Bench { store: Store::open(clean.path().join("store")).unwrap() };
    reference.run(&pipeline(&clean.path().join("data")));
    let expected = reference.outputs(&pipeline(&clean.path().join("data")));

    for (i, point) in FAULT_POINTS.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        tree(&data, &[("x.csv", "1"), ("y.csv", "2")]);
        // A process becomes an owner once, sources are looked at once and latest keys may be written once; the
        // rest is passed by every cell.
        let once = point.starts_with("sources.") || point.starts_with("last.") || *point == "lease.owned";
        let count = if once { 1 } else { 1 + i % 3 };
        let killed = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "run::tests::crash::child", "--test-threads=1"])
            .env(STORE, folder.path())
            .env("SCALESHOT_FAULT", format!("{point}:{count}"))
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        assert!(!killed.status.success(), "{point}:{count} was not passed");

        let bench = Bench { store: Store::open(folder.path().join("store")).unwrap() };
        for key in bench.store.records().unwrap() {
            let record = bench.store.record(&key).unwrap().unwrap();
            assert_eq!(bench.store.first_missing(&record.outputs).unwrap(), None, "{point}");
        }
        for (digest, _) in bench.store.blobs().unwrap() {
            assert_eq!(bench.store.verify_blob(&digest).unwrap(), BlobState::Whole, "{point}");
        }
        let pipeline = pipeline(&data);
        let (_, summary) = bench.run(&pipeline);
        assert!(summary.complete(), "{point}: {summary:?}");
        assert_eq!(bench.outputs(&pipeline), expected, "{point}");
        assert_eq!(bench.run(&pipeline).0, [""; 0], "{point}");
    }
}
