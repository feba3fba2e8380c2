//! `scaleshot watch`: a run is followed from a second process.

mod study;

use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use study::Study;

/// `first` ends at once; `gate` holds the run open until the file `go` is there; `last` follows.
const GATED: &str = r#"pipeline: gated
nodes:
  first: { command: { run: "echo 1 > x", outputs: { files: { type: files, path: x } } } }
  gate: { command: { run: "touch $HERE/begun; while [ ! -e $HERE/go ]; do sleep 0.02; done; [ ! -e $HERE/fail ]; echo 1 > x", inputs: first, outputs: { files: { type: files, path: x } }, pass: [HERE] } }
  last: { command: { run: "cp $SCALESHOT_INPUTS/gate/x x", inputs: gate, outputs: { files: { type: files, path: x } } } }
"#;

struct Gated(Study);

impl Gated {
    fn new() -> Self {
        Gated(Study::new(GATED))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.0.command(words);
        command.env("HERE", self.0.folder.path());
        command
    }

    /// A run that is at its gate.
    fn held(&self) -> Child {
        let run = self.command(&["run", "x.yaml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the run begins", || self.0.path("begun").exists());
        run
    }

    fn open(&self) {
        std::fs::write(self.0.path("go"), "").unwrap();
    }

    /// A watcher that has seen the gate begin, told to a file.
    fn watcher(&self, words: &[&str], seen: &str) -> (Child, PathBuf) {
        let path = self.0.path("seen");
        let file = std::fs::File::create(&path).unwrap();
        let mut command = self.command(&[&["watch"], words].concat());
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        until("the gate is seen", || std::fs::read_to_string(&path).unwrap().contains(seen));
        (child, path)
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: never");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout)
}

#[test]
fn a_run_is_followed_to_its_end_from_another_process() {
    let gated = Gated::new();
    let mut run = gated.held();
    let once = said(&gated.command(&["watch", "--once"]).output().unwrap());
    assert!(once.starts_with("gated (") && once.contains(&format!("process {})", run.id())), "{once}");
    assert!(once.contains("3 cells: 0 fresh, 3 to run") && once.contains("[1/3] 1 running"), "{once}");
    assert!(once.ends_with("at gate\n"), "{once}");
    let (mut watch, told) = gated.watcher(&[], "at gate\n");
    let (mut json, events) = {
        // The name is part of the pipeline's, and the events are data.
        let path = gated.0.path("events");
        let file = std::fs::File::create(&path).unwrap();
        (gated.command(&["watch", "gat", "--json"]).stdout(file).stderr(Stdio::null()).spawn().unwrap(), path)
    };
    until("the events are seen", || std::fs::read_to_string(&events).unwrap().contains("\"gate\""));
    gated.open();
    assert!(run.wait().unwrap().success());
    assert_eq!((watch.wait().unwrap().code(), json.wait().unwrap().code()), (Some(0), Some(0)));
    let told = std::fs::read_to_string(told).unwrap();
    for part in ["[2/3] done gate, ", "start last (", "[3/3] done last, ", "3 cells: 3 ran, "] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    assert!(!told.contains("done first"), "what was before is told in short: {told}");
    let events = std::fs::read_to_string(events).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |event: &str| -> Vec<&str> {
        events.iter().filter(|e| e["event"] == event).map(|e| e["cell"].as_str().unwrap()).collect()
    };
    assert_eq!((&events[0]["event"], &events[0]["run"]), (&"planned".into(), &3.into()));
    assert_eq!((of("started"), of("done")), (vec!["first", "gate", "last"], vec!["first", "gate", "last"]));
    assert!(events.iter().all(|e| e["unix_ms"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000)));
    assert_eq!(events.last().unwrap()["ran"], 3);
    // It is over, and nothing of it is left lying about.
    let after = gated.command(&["watch"]).output().unwrap();
    assert!(after.status.success() && said(&after).contains("no run goes on in .scaleshot; the last one, of gated"));
    assert_eq!(std::fs::read_dir(gated.0.path(".scaleshot/news")).unwrap().count(), 0);
}

#[test]
fn a_watcher_ends_as_the_run_does() {
    let gated = Gated::new();
    std::fs::write(gated.0.path("x.yaml"), GATED.replace("echo 1 > x\", inputs: first", "exit 3\", inputs: first"))
        .unwrap();
    let mut run = gated.held();
    let (mut watch, told) = gated.watcher(&["gated"], "at gate\n");
    gated.open();
    assert_eq!((run.wait().unwrap().code(), watch.wait().unwrap().code()), (Some(1), Some(1)));
    let told = std::fs::read_to_string(told).unwrap();
    assert!(told.contains("failed gate: ") && told.contains("skip last: because gate failed"), "{told}");
}

#[test]
fn a_killed_run_is_told_to_be_gone() {
    let gated = Gated::new();
    let mut run = gated.held();
    let (mut watch, told) = gated.watcher(&[], "at gate\n");
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(1));
    let told = std::fs::read_to_string(told).unwrap();
    assert!(told.ends_with("its process is gone and told of no end\n"), "{told}");
    // The command's children outlive the kill of their parent by force, until the gate opens.
    gated.open();
    let none = gated.command(&["watch"]).output().unwrap();
    assert!(said(&none).starts_with("no run goes on"), "{}", said(&none));
    // The next run clears away what is left.
    assert!(gated.command(&["run", "x.yaml"]).output().unwrap().status.success());
    assert_eq!(std::fs::read_dir(gated.0.path(".scaleshot/news")).unwrap().count(), 0);
}

#[test]
fn a_run_without_news_is_seen_through_its_leases() {
    let gated = Gated::new();
    let mut run = gated.held();
    // As from another machine, which has its news to itself.
    std::fs::remove_dir_all(gated.0.path(".scaleshot/news")).unwrap();
    let (mut watch, told) = gated.watcher(&[], "at gate\n");
    gated.open();
    assert!(run.wait().unwrap().success());
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    let told = std::fs::read_to_string(told).unwrap();
    assert!(told.starts_with("cells that are computed in ") && told.contains("done gate, "), "{told}");
}

#[test]
fn a_store_that_is_not_there_is_no_store_to_watch() {
    let gated = Gated::new();
    let out = gated.command(&["watch"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(said(&out).contains("there is no store at .scaleshot"), "{}", said(&out));
}
