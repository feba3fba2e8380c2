//! The real program on a real Slurm: `make test-cluster` starts one on loopback and names it in
//! `SCALESHOT_TEST_CLUSTER`; without it these tests say that they were left out.

mod study;

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use serde_json::Value;
use study::Study;

/// Two generated sets, merged, decoded, cut three ways and reported: eight cells without training.
const SMALL: &str = r#"pipeline: small
params: { patients: 12 }
nodes:
  chexpert: { dataset: { format: phantom, layout: chexpert, patients: "${params.patients}", seed: 1, size_px: 24 } }
  nih: { dataset: { format: phantom, layout: nih, patients: 12, seed: 2, size_px: 24 } }
  merged: { merge: { from: [chexpert, nih], labels: intersection, views: [PA, AP] } }
  pixels: { images: { data: merged, size_px: 16, unreadable: skip } }
  part:
    matrix: { fraction: [0.4, 0.7, 1.0] }
    subset: { data: pixels, fraction: "${fraction}" }
  report: { report: { tables: [merged.sources] } }
"#;

/// One set whose folder is missing or not an image folder, beside one that works.
const BROKEN: &str = r#"pipeline: broken
nodes:
  good: { dataset: { format: fractal, categories: 2, per_category: 4, test_per_category: 2, seed: 3, size_px: 16 } }
  good_pixels: { images: { data: good, size_px: 16 } }
  bad: { dataset: { format: image_folder, root: bad } }
  bad_pixels: { images: { data: bad, size_px: 16, unreadable: error } }
  bad_part: { subset: { data: bad_pixels, fraction: 0.5 } }
"#;

const TRAINING: &str = r#"pipeline: training
nodes:
  set: { dataset: { format: fractal, categories: 2, per_category: 8, test_per_category: 4, seed: 3, size_px: 16 } }
  pixels: { images: { data: set, size_px: 16 } }
  pretrain:
    pretrain: { data: pixels, model: bit-r14x0.25, epochs: EPOCHS, batch: 8, optimizer: { sgd_agc: { lr: 0.1 } } }
"#;

const PROFILE: &str = "defaults: { cpus: 1, memory: 200M, time: 5 }\ngrace_s: 10\n";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The cluster to oneself; `None` where there is none.
fn cluster() -> Option<MutexGuard<'static, ()>> {
    if std::env::var_os("SCALESHOT_TEST_CLUSTER").is_none() {
        eprintln!("left out: make test-cluster starts a cluster for this");
        return None;
    }
    Some(ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner()))
}

fn study(pipeline: &str) -> Study {
    let study = Study::new(pipeline);
    std::fs::write(study.path("p.yaml"), PROFILE).unwrap();
    study
}

const SLURM: [&str; 4] = ["--executor", "slurm", "--profile", "./p.yaml"];

/// (exit code, events, stderr)
fn run(study: &Study, more: &[&str]) -> (i32, Vec<Value>, String) {
    let out = study.output(&[&["run", "x.yaml", "--json"], &SLURM[..], more].concat());
    let err = String::from_utf8_lossy(&out.stderr).into_owned();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let events = text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    (out.status.code().unwrap_or(-1), events, err)
}

/// Runs to a good end: the cells that jobs computed.
fn ran(study: &Study, more: &[&str]) -> Vec<String> {
    let (code, events, err) = run(study, more);
    assert_eq!(code, 0, "{err}\n{events:#?}");
    cells(&events, "done")
}

fn cells(events: &[Value], event: &str) -> Vec<String> {
    let mut cells: Vec<String> =
        events.iter().filter(|e| e["event"] == event).map(|e| e["cell"].as_str().unwrap().to_string()).collect();
    cells.sort();
    cells
}

fn queued(events: &[Value], state: &str) -> usize {
    events.iter().filter(|e| e["event"] == "queued" && e["state"] == state).count()
}

fn start(study: &Study, more: &[&str]) -> Child {
    let words = [&["run", "x.yaml", "--json"], &SLURM[..], more].concat();
    study.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn slurm(words: &[&str]) -> String {
    let out = Command::new(words[0]).args(&words[1..]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().to_string()
}

/// Until `ready`, a minute and a half at most.
fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let began = Instant::now();
    while !ready() {
        assert!(began.elapsed() < Duration::from_secs(90), "{what} did not come; queue:\n{}", slurm(&["squeue"]));
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn folder() -> PathBuf {
    std::env::var_os("SCALESHOT_TEST_CLUSTER").unwrap().into()
}

#[test]
fn a_study_runs_as_jobs_once_with_the_report_of_a_local_run() {
    let Some(_cluster) = cluster() else { return };
    let local = Study::new(SMALL);
    let expected = local.ran(&[]);
    let study = study(SMALL);
    assert_eq!(ran(&study, &[]), expected);
    assert_eq!(study.report(), local.report());
    // Again: nothing is submitted; by this machine: nothing is left to do.
    let (code, events, _) = run(&study, &[]);
    assert_eq!((code, queued(&events, "submitted"), cells(&events, "done").len()), (0, 0, 0), "{events:?}");
    assert_eq!(study.ran(&[]), [""; 0]);
    // One changed parameter: only what it changes.
    let again = ran(&study, &["-p", "patients=14"]);
    assert!(again.contains(&"chexpert".into()) && !again.contains(&"nih".into()), "{again:?}");
}

#[test]
fn uniform_cells_are_one_array() {
    let Some(_cluster) = cluster() else { return };
    let study = study(SMALL);
    let (code, events, err) = run(&study, &[]);
    assert_eq!(code, 0, "{err}");
    let jobs: Vec<&str> = events
        .iter()
        .filter(|e| e["state"] == "submitted" && e["cell"].as_str().unwrap().starts_with("part["))
        .map(|e| e["job"].as_str().unwrap())
        .collect();
    let arrays: Vec<&str> = jobs.iter().map(|j| j.split_once('_').unwrap().0).collect();
    assert!(arrays.len() == 3 && arrays.iter().all(|a| *a == arrays[0]), "{jobs:?}");
}

#[test]
fn a_failed_cell_is_explained_its_dependents_are_cancelled_and_a_fix_goes_on() {
    let Some(_cluster) = cluster() else { return };
    let study = study(BROKEN);
    std::fs::create_dir_all(study.path("bad/cat")).unwrap();
    std::fs::write(study.path("bad/cat/a.png"), "no image").unwrap();
    let (code, events, err) = run(&study, &[]);
    assert_eq!(code, 1, "{err}\n{events:#?}");
    assert!(cells(&events, "done").contains(&"good_pixels".to_string()), "{events:#?}");
    let failed = cells(&events, "failed");
    assert!(failed.len() == 1 && failed[0].starts_with("bad"), "{events:#?}");
    assert!(cells(&events, "skipped").contains(&"bad_part".to_string()), "{events:#?}");
    let plan = study.must(&[&["plan", "x.yaml"], &SLURM[..]].concat());
    assert!(plan.contains("failed") && plan.contains("a.png"), "{plan}");
    // Mended: an image of another folder in its place.
    let picture = image();
    for name in ["a.png", "b.png", "c.png", "d.png"] {
        std::fs::write(study.path(&format!("bad/cat/{name}")), &picture).unwrap();
    }
    let (_, events, _) = run(&study, &[]);
    assert!(!cells(&events, "done").contains(&"good_pixels".to_string()), "{events:#?}");
    assert!(cells(&events, "done").contains(&"bad_pixels".to_string()), "{events:#?}");
}

/// A small PNG, from a generated set.
fn image() -> Vec<u8> {
    let study = Study::new(SMALL);
    study.must(&[
        "generate",
        "{format: phantom, layout: nih, patients: 1, seed: 1, size_px: 16}",
        study.path("g").to_str().unwrap(),
    ]);
    let mut open = vec![study.path("g")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "png") {
                return std::fs::read(path).unwrap();
            }
        }
    }
    panic!("no PNG was generated")
}

#[test]
fn the_jobs_of_a_killed_submitter_are_adopted() {
    let Some(_cluster) = cluster() else { return };
    let study = study(SMALL);
    slurm(&["scontrol", "update", "partition=cpu", "state=down"]);
    let mut child = start(&study, &[]);
    wait_for("the whole plan in the queue", || slurm(&["squeue", "-h", "-r", "-o", "%j"]).lines().count() >= 9);
    child.kill().unwrap();
    child.wait().unwrap();
    slurm(&["scontrol", "update", "partition=cpu", "state=up"]);
    let (code, events, err) = run(&study, &[]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(queued(&events, "submitted"), 0, "{events:#?}");
    assert!(queued(&events, "adopted") > 0, "{events:#?}");
}

#[test]
fn two_submitters_do_each_cell_once() {
    let Some(_cluster) = cluster() else { return };
    let study = study(SMALL);
    let children = [start(&study, &[]), start(&study, &[])];
    let outs = children.map(|c| c.wait_with_output().unwrap());
    let mut submitted = 0;
    for out in &outs {
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        submitted += queued(&events, "submitted");
    }
    assert_eq!(submitted, 8);
}

#[test]
fn a_job_near_its_time_limit_checkpoints_and_goes_on_in_the_same_job() {
    let Some(_cluster) = cluster() else { return };
    let text = TRAINING.replace("EPOCHS", "400");
    let local = Study::new(&text);
    local.ran(&[]);
    let study = study(&text);
    let mut child = start(&study, &["--detach"]);
    assert!(child.wait().unwrap().success());
    // What the queue sends before the time limit and at a preemption.
    let job = || slurm(&["squeue", "-h", "-t", "R", "-o", "%i %k"]);
    wait_for("the training", || job().contains(" pretrain"));
    let id = job().lines().find(|l| l.ends_with(" pretrain")).unwrap().split(' ').next().unwrap().to_string();
    std::thread::sleep(Duration::from_secs(2));
    slurm(&["scancel", "--batch", "--signal=TERM", &id]);
    let restarts = || slurm(&["scontrol", "show", "job", &id]);
    wait_for("the requeue", || restarts().contains("Restarts=1"));
    let (code, events, err) = run(&study, &[]);
    assert_eq!((code, queued(&events, "submitted")), (0, 0), "{err}\n{events:#?}");
    // The checkpoint was used, and shows in nothing.
    let keys = |s: &Study| {
        let ls: Value = serde_json::from_str(&s.must(&["ls", "pretrain", "--json"])).unwrap();
        let key = ls["cells"][0]["key"].as_str().unwrap().to_string();
        let record = std::fs::read_to_string(s.path(&format!(".scaleshot/records/{key}.json"))).unwrap();
        serde_json::from_str::<Value>(&record).unwrap()["outputs"].clone()
    };
    assert_eq!(keys(&study), keys(&local));
}

#[test]
fn what_the_queue_has_forgotten_is_submitted_again() {
    let Some(_cluster) = cluster() else { return };
    let study = study(SMALL);
    slurm(&["scontrol", "update", "partition=cpu", "state=down"]);
    assert!(start(&study, &["--detach"]).wait().unwrap().success());
    slurm(&["scancel", "--user", &slurm(&["id", "-un"])]);
    wait_for("the queue's forgetting", || slurm(&["squeue", "-h", "-a", "-t", "all"]).is_empty());
    slurm(&["scontrol", "update", "partition=cpu", "state=up"]);
    let (code, events, err) = run(&study, &[]);
    assert_eq!((code, queued(&events, "submitted"), queued(&events, "adopted")), (0, 8, 0), "{err}");
}

#[test]
fn interrupting_leaves_the_jobs_or_cancels_them() {
    let Some(_cluster) = cluster() else { return };
    let study = study(SMALL);
    slurm(&["scontrol", "update", "partition=cpu", "state=down"]);
    let open = || slurm(&["squeue", "-h", "-r", "-t", "PD,R", "-o", "%j"]).lines().count();
    for (what, left) in [("leave", 9), ("cancel", 0)] {
        let child = start(&study, &["--on-interrupt", what]);
        wait_for("the whole plan in the queue", || open() == 9);
        // Both listen once they follow; the second adopts what the first left.
        std::thread::sleep(Duration::from_secs(2));
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
        assert_eq!(open(), left, "{what}");
    }
    slurm(&["scontrol", "update", "partition=cpu", "state=up"]);
}

#[test]
fn the_controller_may_be_away_for_a_while() {
    let Some(_cluster) = cluster() else { return };
    let study = study(SMALL);
    let child = start(&study, &[]);
    wait_for("the first job", || !slurm(&["squeue", "-h"]).is_empty());
    std::thread::sleep(Duration::from_secs(1));
    let pid = std::fs::read_to_string(folder().join("pid/slurmctld.pid")).unwrap();
    assert!(Command::new("kill").arg(pid.trim()).status().unwrap().success());
    std::thread::sleep(Duration::from_secs(5));
    let conf = folder().join("etc/slurm.conf");
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    assert!(Command::new("slurmctld").arg("-f").arg(conf).env("PATH", path).status().unwrap().success());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn what_cannot_work_is_named_before_anything_is_submitted() {
    let Some(_cluster) = cluster() else { return };
    let study = study(SMALL);
    for (profile, told) in [
        ("defaults: { partition: nowhere }", "partition"),
        ("defaults: { cpus: 64, memory: 1T }", "Requested node configuration is not available"),
        ("defaults: { memory: lots }", "defaults.memory"),
    ] {
        std::fs::write(study.path("p.yaml"), profile).unwrap();
        let (code, _, err) = run(&study, &[]);
        assert!(code != 0 && err.contains(told), "{profile}: {err}");
    }
    assert_eq!(slurm(&["squeue", "-h", "-a", "-t", "PD,R"]), "");
    // Programs that nodes do not have are found by the first job, which takes the others with it.
    std::fs::write(study.path("p.yaml"), format!("{PROFILE}program: /nowhere/scaleshot\n")).unwrap();
    let (code, _, err) = run(&study, &[]);
    assert!(code == 1 && err.contains("/nowhere/scaleshot") && err.contains("cannot compute"), "{err}");
    wait_for("an empty queue", || slurm(&["squeue", "-h"]).is_empty());
}
