//! The real program on a real Slurm: `make test-cluster` starts one on loopback and names it in
//! `SCALESHOT_TEST_CLUSTER`; without it these tests say that they were left out.

#[path = "cluster/ranks.rs"]
mod ranks;
#[path = "cluster/site.rs"]
mod site;
mod study;

use std::{
    fs::File,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;
use site::{PATIENCE, alive, cluster, daemon, slurm, start_controller, start_node, wait_for};
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

/// What a finished cell made, by content.
fn made(study: &Study, cell: &str) -> Value {
    let ls: Value = serde_json::from_str(&study.must(&["ls", cell, "--json"])).unwrap();
    let key = ls["cells"][0]["key"].as_str().unwrap_or_else(|| panic!("{cell}: {ls}")).to_string();
    let record = std::fs::read_to_string(study.path(&format!(".scaleshot/records/{key}.json"))).unwrap();
    serde_json::from_str::<Value>(&record).unwrap()["outputs"].clone()
}

/// The job that runs the cell of this name, once it does.
fn job_of(cell: &str) -> String {
    let running = || slurm(&["squeue", "-h", "-t", "R", "-o", "%i %k"]);
    let line = |text: String| text.lines().find(|l| l.ends_with(&format!(" {cell}"))).map(str::to_string);
    wait_for(cell, || line(running()).is_some());
    line(running()).unwrap_or_else(|| panic!("{cell} has ended")).split(' ').next().unwrap().to_string()
}

/// Until the training of this study has left a checkpoint.
fn checkpointed(study: &Study) {
    let scratch = study.path(".scaleshot/scratch");
    wait_for("a checkpoint", || {
        let entries = std::fs::read_dir(&scratch).into_iter().flatten().flatten();
        entries.into_iter().any(|e| e.path().join("checkpoint.safetensors").exists())
    });
}

/// Submits a training that writes a checkpoint after each step, and waits for the first: its job, well under way and
/// nowhere near its end.
fn detached_with_checkpoints(study: &Study, more: &[&str]) -> String {
    let words = [&["run", "x.yaml", "--detach"], &SLURM[..], more].concat();
    let out = study.command(&words).env("SCALESHOT_CHECKPOINT_S", "0").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let id = job_of("pretrain");
    checkpointed(study);
    id
}

/// Sends a training's job what the queue sends before a time limit and at a preemption, and waits for its requeue.
fn stopped_and_requeued(study: &Study, id: &str) {
    slurm(&["scancel", "--batch", "--signal=TERM", id]);
    wait_for("the requeue", || slurm(&["scontrol", "show", "job", id]).contains("Restarts=1"));
    let said = shells(study);
    assert!(said.contains("pretrain: stopped at a checkpoint"), "{said}");
}

/// What the jobs' shells have said.
fn shells(study: &Study) -> String {
    let mut said = String::new();
    for plan in std::fs::read_dir(study.path(".scaleshot/jobs")).into_iter().flatten().flatten() {
        for log in std::fs::read_dir(plan.path().join("logs")).into_iter().flatten().flatten() {
            said.push_str(&std::fs::read_to_string(log.path()).unwrap_or_default());
        }
    }
    said
}

/// That the training's second job took up where the first had left it.
fn continued(study: &Study) {
    let log = study.must(&["show", "pretrain", "--log"]);
    assert!(log.contains("continuing after step"), "{log}");
}

fn study(pipeline: &str) -> Study {
    let study = Study::new(pipeline);
    std::fs::write(study.path("p.yaml"), PROFILE).unwrap();
    study
}

const SLURM: [&str; 4] = ["--executor", "slurm", "--profile", "./p.yaml"];

/// (exit code, events, stderr)
fn run(study: &Study, more: &[&str]) -> (i32, Vec<Value>, String) {
    let out = end_of(start(study, more));
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

/// How a run ended and what it said; one that does not end fails the scenario, with the queue as it is.
fn end_of(child: Child) -> Output {
    let id = child.id().to_string();
    let (tell, heard) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    heard.recv_timeout(PATIENCE).map(Result::unwrap).unwrap_or_else(|_| {
        let queue = slurm(&["squeue"]);
        slurm(&["kill", "-9", &id]);
        let said = heard.recv().map(|out| String::from_utf8_lossy(&out.unwrap().stdout).into_owned());
        panic!("a run did not end; queue:\n{queue}\nit said:\n{}", said.unwrap_or_default())
    })
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
    // Nobody follows them, and everybody can see how they stand.
    let plan = study.must(&[&["plan", "x.yaml"], &SLURM[..]].concat());
    assert!(plan.contains("8 pending"), "{plan}");
    let ls = study.must(&[&["ls"], &SLURM[..]].concat());
    assert!(ls.contains("chexpert") && ls.contains("pending"), "{ls}");
    let watch = study.output(&[&["watch", "--once"], &SLURM[..]].concat());
    let told = String::from_utf8_lossy(&watch.stderr).into_owned();
    assert!(watch.status.success() && told.contains("pending chexpert as job"), "{told}");
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
    let outs = children.map(end_of);
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
    let text = TRAINING.replace("EPOCHS", "150");
    let local = Study::new(&text);
    local.ran(&[]);
    let study = study(&text);
    let id = detached_with_checkpoints(&study, &[]);
    stopped_and_requeued(&study, &id);
    let (code, events, err) = run(&study, &[]);
    assert_eq!((code, queued(&events, "submitted")), (0, 0), "{err}\n{events:#?}");
    // The checkpoint was used, and shows in nothing.
    continued(&study);
    assert_eq!(made(&study, "pretrain"), made(&local, "pretrain"));
}

#[test]
fn the_job_of_a_dead_node_runs_on_another_one() {
    let Some(_cluster) = cluster() else { return };
    let text = TRAINING.replace("EPOCHS", "150");
    let (local, study) = (Study::new(&text), study(&text));
    local.ran(&[]);
    let id = detached_with_checkpoints(&study, &[]);
    let node = slurm(&["squeue", "-h", "-j", &id, "-o", "%N"]);
    // The machine goes: its daemon, and all that it had started.
    let daemon = daemon(&format!("slurmd.{node}"));
    let steps = slurm(&["pgrep", "-f", &format!("slurmstepd: \\[{id}\\.")]);
    let programs = slurm(&["pgrep", "-f", &format!("scaleshot cell .* {}", study.folder.path().display())]);
    assert!(!daemon.is_empty() && !steps.is_empty() && !programs.is_empty(), "{daemon} / {steps} / {programs}");
    for pid in [daemon.as_str()].into_iter().chain(steps.lines()).chain(programs.lines()) {
        slurm(&["kill", "-9", pid]);
    }
    wait_for("the requeue", || slurm(&["scontrol", "show", "job", &id]).contains("Restarts=1"));
    let (code, events, err) = run(&study, &[]);
    start_node(&node);
    wait_for("the node's return", || slurm(&["sinfo", "-h", "-p", "cpu", "-t", "idle", "-o", "%D"]) == "2");
    assert_eq!((code, queued(&events, "submitted")), (0, 0), "{err}\n{events:#?}");
    continued(&study);
    assert_eq!(made(&study, "pretrain"), made(&local, "pretrain"));
}

#[test]
fn a_bucket_serves_as_the_store_of_all_nodes() {
    let Some(_cluster) = cluster() else { return };
    let stores = std::env::var("SCALESHOT_TEST_STORES").unwrap_or_default();
    let Some(bucket) = stores.split(',').find(|s| s.starts_with("s3://")) else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "SCALESHOT_TEST_STORES names no S3 store");
        return eprintln!("left out: make test-cluster serves a bucket for this");
    };
    let local = Study::new(SMALL);
    let expected = local.ran(&[]);
    let study = study(SMALL);
    // Each node has a cache of its own, and the parts are cut on another node than the one that made what they cut.
    let profile = format!(
        "{PROFILE}logs: {}\nprologue: [\"export SCALESHOT_CACHE={}-$SLURMD_NODENAME\"]\n\
         nodes: {{ pixels: {{ flags: [--nodelist=n1] }}, part: {{ flags: [--nodelist=n2] }} }}\n",
        study.path("logs").display(),
        study.path("cache").display()
    );
    std::fs::write(study.path("p.yaml"), profile).unwrap();
    let path = format!("cluster-{}", std::process::id());
    let store = format!("{bucket}/{path}");
    let mut done = ran(&study, &["part", "--store", &store]);
    let pixels: Value = serde_json::from_str(&study.must(&["show", "pixels", "--json", "--store", &store])).unwrap();
    let files = pixels["outputs"]["images"]["files"].as_array().unwrap();
    let table = files.iter().find(|f| f["name"] == "table.parquet").unwrap()["digest"].as_str().unwrap();
    let log = std::fs::read_to_string(std::env::var("SCALESHOT_TEST_S3_LOG").unwrap()).unwrap();
    let fetched = log.lines().filter(|l| l.contains("\"GET ") && l.contains(&path) && l.contains(table)).count();
    assert_eq!(fetched, 1, "three tasks on one node need {table}");
    done.extend(ran(&study, &["--store", &store]));
    done.sort();
    assert_eq!(done, expected);
    assert_eq!(study.report(), local.report());
    // Whoever runs it from another machine finds all of it.
    let elsewhere = Study::new(SMALL);
    assert_eq!(elsewhere.ran(&["--store", &store]), [""; 0]);
}

#[test]
fn a_submission_that_was_cut_in_half_is_completed() {
    let Some(_cluster) = cluster() else { return };
    let study = study(SMALL);
    slurm(&["scontrol", "update", "partition=cpu", "state=down"]);
    let names = || slurm(&["squeue", "-h", "-r", "-o", "%j"]).lines().count();
    let mut child = start(&study, &[]);
    wait_for("the first jobs", || names() >= 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = names();
    slurm(&["scontrol", "update", "partition=cpu", "state=up"]);
    let (code, events, err) = run(&study, &[]);
    assert_eq!(code, 0, "{err}");
    let (adopted, submitted) = (queued(&events, "adopted"), queued(&events, "submitted"));
    // One of the names is the first look's, which is no cell; the smallest may have ended before the second run looked.
    assert!(adopted + submitted <= 8 && submitted <= 9 - before.min(9), "{before}: {adopted} {submitted} {events:#?}");
    assert_eq!(cells(&events, "done").len(), 8, "{events:#?}");
}

#[test]
fn what_nodes_or_the_site_lack_is_named() {
    let Some(_cluster) = cluster() else { return };
    let study = study(SMALL);
    // No Slurm on this machine.
    let words = [&["run", "x.yaml"], &SLURM[..]].concat();
    let out = study.command(&words).env("PATH", study.folder.path()).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(2) && err.contains("there is no sbatch on this machine"), "{err}");
    // An account that Slurm does not know: told by Slurm's own words, which this cluster without accounting never says.
    let sbatch = slurm(&["sh", "-c", "command -v sbatch"]);
    let refusing = format!(
        "#!/bin/sh\ncase \"$*\" in *--account=nobody*)\n  echo 'sbatch: error: Batch job submission failed: Invalid \
         account or account/partition combination specified' >&2; exit 1;;\nesac\nexec {sbatch} \"$@\"\n"
    );
    script(&study, "bin/sbatch", &refusing);
    std::fs::write(study.path("p.yaml"), "defaults: { account: nobody }").unwrap();
    let path = format!("{}:{}", study.path("bin").display(), std::env::var("PATH").unwrap());
    let out = study.command(&words).env("PATH", path).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && err.contains("Invalid account"), "{err}");
    assert!(err.contains("see partition, account"), "{err}");
    assert_eq!(slurm(&["squeue", "-h", "-a", "-t", "PD,R"]), "");
    // Nodes that see another folder at the store's path.
    let elsewhere = study.path("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let hides = format!(
        "#!/bin/sh\nfor w; do shift; [ \"$w\" = '{}' ] && w='{}'; set -- \"$@\" \"$w\"; done\nexec \"$@\"\n",
        std::fs::canonicalize(study.folder.path()).unwrap().join(".scaleshot").display(),
        elsewhere.display()
    );
    script(&study, "hides", &hides);
    std::fs::write(study.path("p.yaml"), format!("{PROFILE}launcher: {}\n", study.path("hides").display())).unwrap();
    let (code, _, err) = run(&study, &[]);
    assert!(code == 1 && err.contains("cannot compute") && err.contains("has no plan"), "{err}");
    wait_for("an empty queue", || slurm(&["squeue", "-h"]).is_empty());
}

fn script(study: &Study, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = study.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
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
        // The first submits, the second adopts what the first left; both say so of each cell.
        let words = [&["run", "x.yaml", "--json"], &SLURM[..], &["--on-interrupt", what]].concat();
        let heard = study.path(what);
        let child = study.command(&words).stdout(File::create(&heard).unwrap()).stderr(Stdio::piped()).spawn().unwrap();
        let news = || std::fs::read_to_string(&heard).unwrap();
        wait_for("news of all jobs", || news().lines().filter(|l| l.contains("\"event\":\"queued\"")).count() >= 8);
        assert_eq!(open(), 9);
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(end_of(child).status.code(), Some(130), "{}", news());
        assert_eq!(open(), left, "{what}");
    }
    slurm(&["scontrol", "update", "partition=cpu", "state=up"]);
}

#[test]
fn the_controller_may_be_away_for_a_while() {
    let Some(_cluster) = cluster() else { return };
    let study = study(SMALL);
    let mut child = start(&study, &[]);
    wait_for("the first job", || !slurm(&["squeue", "-h"]).is_empty());
    // Not before it has written down what it was given, within the seconds in which Slurm itself forgets.
    std::thread::sleep(Duration::from_secs(1));
    slurm(&["kill", &daemon("slurmctld")]);
    wait_for("the controller's end", || !alive("slurmctld"));
    std::thread::sleep(Duration::from_secs(5));
    assert!(child.try_wait().unwrap().is_none(), "the run had ended before, or gave up");
    start_controller();
    let out = end_of(child);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn what_cannot_work_is_named_before_anything_is_submitted() {
    let Some(_cluster) = cluster() else { return };
    let study = study(SMALL);
    for (profile, told) in [
        ("defaults: { partition: nowhere }", "Invalid partition name specified"),
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
