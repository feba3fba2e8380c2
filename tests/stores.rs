//! Whole runs of the real program on every kind of store: killed, stopped, side by side, on disks that fail.
//!
//! A folder is always at hand. `make test-stores` serves S3, Azure and Google stores on loopback and names them in
//! `SCALESHOT_TEST_STORES`; without it they are left out, and with it none is.

mod study;
#[path = "stores/web.rs"]
mod web;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use scaleshot::store::Store;
use serde_json::Value;
use study::Study;

/// Without training, so that the store is what counts: sets are generated, merged, decoded, cut and reported.
const SMALL: &str = r#"pipeline: small
params: { categories: 2 }
nodes:
  chexpert: { dataset: { format: phantom, layout: chexpert, patients: 12, seed: 1, size_px: 24 } }
  nih: { dataset: { format: phantom, layout: nih, patients: 12, seed: 2, size_px: 24 } }
  merged: { merge: { from: [chexpert, nih], labels: intersection, views: [PA, AP] } }
  pixels: { images: { data: merged, size_px: 16, unreadable: skip } }
  part:
    matrix: { fraction: [0.2, 0.4, 0.6, 0.8, 1.0] }
    subset: { data: pixels, fraction: "${fraction}" }
  fractal:
    dataset: { format: fractal, categories: "${params.categories}", per_category: 4, test_per_category: 2, seed: 3, size_px: 16 }
  report: { report: { tables: [merged.sources] } }
"#;

/// Every store at hand, each a place that no other test uses: (what to call it, place).
fn places(study: &Study) -> Vec<(String, String)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut places = vec![("folder".to_string(), study.path("store").display().to_string())];
    let Ok(urls) = std::env::var("SCALESHOT_TEST_STORES") else {
        eprintln!("left out: stores over the network (make test-stores starts servers for them)");
        return places;
    };
    let began = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    for url in urls.split(',').map(str::trim) {
        let path = format!("{url}/study-{}-{began}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        places.push((url.split(':').next().unwrap().to_string(), path));
    }
    places
}

/// A study whose local cache is its own.
fn study(pipeline: &str) -> Study {
    Study::new(pipeline)
}

fn command(study: &Study, words: &[&str]) -> Command {
    let mut command = study.command(words);
    command.env("SCALESHOT_CACHE", study.path("cache"));
    command
}

/// (exit code, stdout, stderr)
fn output(study: &Study, words: &[&str]) -> (i32, String, String) {
    let out = command(study, words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

fn events<'a>(text: &'a str, wanted: &'a str) -> impl Iterator<Item = String> + 'a {
    let events = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap_or_else(|e| panic!("{e}: {l}")));
    events.filter(move |e| e["event"] == wanted).map(|e| e["cell"].as_str().unwrap_or_default().to_string())
}

/// Runs to the end: the cells that were computed.
fn ran(study: &Study, place: &str, more: &[&str]) -> Vec<String> {
    let (code, out, err) = output(study, &[&["run", "x.yaml", "--json", "--store", place], more].concat());
    assert_eq!(code, 0, "{place}: {out}\n{err}");
    let mut cells: Vec<String> = events(&out, "done").collect();
    cells.sort();
    cells
}

fn spawn(study: &Study, place: &str, more: &[&str], settings: &[(&str, &str)]) -> Child {
    let mut command = command(study, &[&["run", "x.yaml", "--json", "--store", place], more].concat());
    command.envs(settings.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Hears a process until the n-th event of a kind; false where it ended before.
fn hear(child: &mut Child, event: &str, n: usize) -> bool {
    let wanted = format!("\"event\":\"{event}\"");
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
    lines.filter(|line| line.contains(&wanted)).take(n).count() == n
}

fn signal(child: &Child, name: &str) {
    // The child has not been waited for, so its number is still its own.
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The report of a run on a folder, which every other store must give to the byte.
fn expected() -> (usize, Vec<(String, Vec<u8>)>) {
    let study = study(SMALL);
    let cells = ran(&study, study.path("store").to_str().unwrap(), &[]).len();
    (cells, study.report())
}

#[test]
fn a_study_runs_once_on_every_store_with_one_result() {
    let (cells, report) = expected();
    for (name, place) in places(&study(SMALL)) {
        let study = study(SMALL);
        let place = if name == "folder" { study.path("store").display().to_string() } else { place };
        let began = Instant::now();
        assert_eq!(ran(&study, &place, &[]).len(), cells, "{place}");
        let first = began.elapsed();
        let began = Instant::now();
        assert_eq!(ran(&study, &place, &[]), [""; 0], "{place}");
        eprintln!("{name}: first run {first:.2?}, no-op {:.2?}", began.elapsed());
        assert_eq!(study.report(), report, "{place}");
        assert_eq!(output(&study, &["verify", "--store", &place]).0, 0, "{place}");
        let (_, listed, _) = output(&study, &["ls", "--store", &place]);
        assert!(listed.contains("merged"), "{place}: {listed}");
        // Another machine: nothing of the local cache is there, and nothing is computed again.
        std::fs::remove_dir_all(study.path("cache")).ok();
        std::fs::remove_dir_all(study.path("reports")).unwrap();
        assert_eq!(ran(&study, &place, &[]), [""; 0], "{place}");
        assert_eq!(study.report(), report, "{place}");
        let changed = ran(&study, &place, &["-p", "categories=3"]);
        assert_eq!(changed, ["fractal"], "{place}");
    }
}

#[test]
fn a_killed_run_is_continued_on_every_store() {
    let (_, report) = expected();
    for (name, place) in places(&study(SMALL)) {
        let study = study(SMALL);
        let place = if name == "folder" { study.path("store").display().to_string() } else { place };
        let mut kills = 0;
        for (event, n) in [("started", 1), ("done", 1), ("started", 2), ("done", 2), ("started", 3)] {
            let mut child = spawn(&study, &place, &["--jobs", "1"], &[]);
            kills += usize::from(hear(&mut child, event, n));
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(output(&study, &["verify", "--store", &place]).0, 0, "{place}");
        }
        assert!(kills >= 3, "{place}: only {kills} runs were killed in time");
        let began = Instant::now();
        ran(&study, &place, &[]);
        eprintln!("{name}: {kills} kills, then to the end in {:.2?}", began.elapsed());
        assert_eq!(study.report(), report, "{place}");
    }
}

#[test]
fn two_and_eight_processes_compute_each_cell_once() {
    let (cells, report) = expected();
    for processes in [2, 8] {
        for (name, place) in places(&study(SMALL)) {
            let shared = study(SMALL);
            let place = if name == "folder" { shared.path("store").display().to_string() } else { place };
            // Each as on a machine of its own: another working folder, another cache.
            let studies: Vec<Study> = (0..processes).map(|_| study(SMALL)).collect();
            let began = Instant::now();
            let children: Vec<Child> = studies.iter().map(|s| spawn(s, &place, &[], &[])).collect();
            let mut computed: BTreeMap<String, usize> = BTreeMap::new();
            for child in children {
                let out = child.wait_with_output().unwrap();
                let text = String::from_utf8_lossy(&out.stdout);
                assert!(out.status.success(), "{place}: {text}\n{}", String::from_utf8_lossy(&out.stderr));
                for cell in events(&text, "done") {
                    *computed.entry(cell).or_default() += 1;
                }
            }
            eprintln!("{name}: {processes} processes in {:.2?}", began.elapsed());
            assert_eq!(computed.len(), cells, "{place}: {computed:?}");
            assert!(computed.values().all(|&times| times == 1), "{place}: {computed:?}");
            assert!(studies.iter().all(|s| s.report() == report), "{place}");
        }
    }
}

#[test]
fn a_process_that_is_stopped_too_long_loses_its_cell_and_harms_nothing() {
    let long = study::TINY.replace("epochs: 1,", "epochs: 60,");
    let study = study(&long);
    let place = study.path("store").display().to_string();
    let cell = "pretrain[fraction=1.0]";
    let brief = [("SCALESHOT_LEASE_S", "1")];
    let mut slow = spawn(&study, &place, &[cell], &brief);
    let inside = BufReader::new(slow.stdout.as_mut().unwrap())
        .lines()
        .map_while(Result::ok)
        .any(|l| l.contains("\"event\":\"progress\"") && l.contains("pretrain["));
    assert!(inside, "the training ended before it could be stopped");
    signal(&slow, "-STOP");
    let quick = spawn(&study, &place, &[cell], &brief).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&quick.stdout);
    assert!(quick.status.success(), "{text}");
    assert_eq!(events(&text, "waiting").collect::<Vec<_>>(), [cell], "{text}");
    assert_eq!(events(&text, "done").collect::<Vec<_>>(), [cell], "{text}");
    let record = output(&study, &["show", cell, "--json", "--store", &place]).1;
    signal(&slow, "-CONT");
    let mut rest = String::new();
    std::io::Read::read_to_string(slow.stdout.as_mut().unwrap(), &mut rest).unwrap();
    assert!(slow.wait().unwrap().success(), "{rest}");
    assert_eq!(output(&study, &["show", cell, "--json", "--store", &place]).1, record, "the first record stands");
    assert_eq!(output(&study, &["verify", "--store", &place]).0, 0);
}

/// On a folder, whose files a test can reach; the contract (`store/tests.rs`) does the same to every store.
#[test]
fn damage_is_named_and_repaired_by_computing_again() {
    let (_, report) = expected();
    let study = study(SMALL);
    let place = study.path("store").display().to_string();
    ran(&study, &place, &[]);
    // A flipped bit in an input of the cells that will run.
    let shown: Value =
        serde_json::from_str(&output(&study, &["show", "pixels", "--json", "--store", &place]).1).unwrap();
    let files = shown["outputs"]["images"]["files"].as_array().unwrap();
    let table = files.iter().find(|f| f.to_string().contains("table.parquet")).unwrap();
    let digest = table["digest"].as_str().unwrap().to_string();
    let path = study.path("store").join("blobs").join(&digest[..2]).join(&digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let (code, _, err) = output(&study, &["run", "x.yaml", "part[fraction=0.2]", "--force", "--store", &place]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains(&format!("blob {} is damaged", &digest[..12])) && err.contains("set aside"), "{err}");
    assert!(ran(&study, &place, &[]).contains(&"pixels".to_string()));
    assert_eq!(study.report(), report);
    // A truncated record: its cell alone is computed again.
    let key = shown["key"].as_str().unwrap();
    let path = study.path("store").join(format!("records/{key}.json"));
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    let plan = output(&study, &["plan", "x.yaml", "--store", &place]).1;
    assert!(plan.contains("is damaged"), "{plan}");
    assert_eq!(ran(&study, &place, &[]), ["pixels"]);
    assert_eq!(study.report(), report);
    assert_eq!(output(&study, &["verify", "--store", &place]).0, 0);
}

/// A file system of a few MiB in memory; `None` (and told) where this user may not mount.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let options = format!("size={size}");
        let words = ["-t", "tmpfs", "-o", &options, "tmpfs", path.to_str().unwrap()];
        let mounted = Command::new("mount").args(words).stderr(Stdio::null()).status();
        if mounted.is_ok_and(|s| s.success()) {
            return Some(SmallDisk(path));
        }
        eprintln!("left out: full and read-only disks (mounting a tmpfs needs root)");
        None
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_and_a_read_only_one_are_named_and_lose_nothing() {
    let study = study(SMALL);
    let Some(disk) = SmallDisk::mount(study.path("disk"), "160k") else { return };
    let place = disk.0.join("store").display().to_string();
    let (code, _, err) = output(&study, &["run", "x.yaml", "--store", &place]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("No space left on device"), "{err}");
    disk.remount("size=64m");
    assert_eq!(output(&study, &["verify", "--store", &place]).0, 0);
    ran(&study, &place, &[]);
    assert_eq!(study.report(), expected().1);

    disk.remount("ro");
    std::fs::remove_dir_all(study.path("reports")).unwrap();
    assert_eq!(ran(&study, &place, &[]), [""; 0], "a run with nothing to do needs to write nothing");
    assert_eq!(study.report(), expected().1);
    let (code, _, err) = output(&study, &["run", "x.yaml", "-p", "categories=3", "--store", &place]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("Read-only file system"), "{err}");
}

#[test]
fn a_web_server_gives_results_and_takes_none() {
    let study = study(SMALL);
    ran(&study, study.path("store").to_str().unwrap(), &[]);
    let report = study.report();
    // Busy at first, which passes.
    let server = web::serve(study.path("store"), 3);
    std::fs::remove_dir_all(study.path("reports")).unwrap();
    assert_eq!(ran(&study, &server, &[]), [""; 0]);
    assert_eq!(study.report(), report);
    let (code, _, err) = output(&study, &["run", "x.yaml", "-p", "categories=3", "--store", &server]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("can only be read"), "{err}");
}

#[test]
fn a_plain_web_server_says_that_it_cannot_list_and_is_copied_from_by_a_pipeline() {
    let study = study(SMALL);
    ran(&study, study.path("store").to_str().unwrap(), &[]);
    let server = web::serve(study.path("store"), 0);
    for words in [&["ls", "--store", &server][..], &["verify", "--store", &server], &["import", &server]] {
        let begun = std::time::Instant::now();
        let (code, _, err) = output(&study, words);
        assert!(code == 1 && err.contains("cannot list what it holds") && err.contains("--of PIPELINE"), "{err}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{words:?} was asked again and again");
    }
    let copy = study.path("copy").display().to_string();
    let (code, _, err) = output(&study, &["import", &server, "--of", "x.yaml", "--store", &copy]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(ran(&study, &copy, &[]), [""; 0]);
}

#[test]
fn one_damaged_file_keeps_no_other_cell_from_being_copied() {
    let study = study(SMALL);
    let store = study.path("store").display().to_string();
    let cells = ran(&study, &store, &[]).len();
    let from = Store::open(&store).unwrap();
    let (blob, _) = from.blobs().unwrap()[0];
    let path = from.local(&blob).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let copy = study.path("copy").display().to_string();
    let (code, _, err) = output(&study, &["import", &store, "--store", &copy]);
    assert!(code == 1 && err.contains("is damaged"), "{err}");
    let there = Store::open(&copy).unwrap().records().unwrap().len();
    assert!(there > 0 && there < cells, "{there} of {cells}: {err}");
}

/// `gate` holds the run open until the file `go` is there.
const GATED: &str = r#"pipeline: gated
nodes:
  gate: { command: { run: "touch $HERE/begun; while [ ! -e $HERE/go ]; do sleep 0.02; done; echo 1 > x", outputs: { files: { type: files, path: x } }, pass: [HERE] } }
"#;

#[test]
fn a_collection_behind_a_url_waits_for_runs_and_for_no_word() {
    for (name, place) in places(&study(GATED)).into_iter().filter(|(name, _)| name != "folder") {
        let study = study(GATED);
        let mut run = command(&study, &["run", "x.yaml", "--store", &place]);
        let mut run = run.env("HERE", study.folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while !study.path("begun").exists() {
            assert!(began.elapsed() < Duration::from_secs(60), "the run does not begin");
            std::thread::sleep(Duration::from_millis(10));
        }
        let all = ["gc", "--age", "0s", "--unfinished", "0s", "--store", &place];
        let (code, _, err) = output(&study, &all);
        assert!(code == 1 && err.contains("is in use by") && err.contains("--alone"), "{name}: {err}");
        std::fs::write(study.path("go"), "").unwrap();
        assert!(run.wait().unwrap().success());
        // Nobody is left, and nobody has to say so.
        let (code, out, err) = output(&study, &all);
        assert!(code == 0 && out.contains("gone: 1 records"), "{name}: {out}{err}");
    }
}

/// Jobs of one node that lack the same inputs at the same time fetch each of them once.
#[test]
fn processes_of_one_machine_fetch_a_blob_once() {
    let study = study(SMALL);
    ran(&study, study.path("store").to_str().unwrap(), &[]);
    let blobs = Store::open(study.path("store")).unwrap().blobs().unwrap();
    // Slow enough that all have found the cache empty before the first blob is there.
    let (server, asked) = web::serve_slowly(study.path("store"), 0, Duration::from_millis(200));
    let fetchers: Vec<Child> = (0..4)
        .map(|_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "fetcher", "--nocapture"]).env("SCALESHOT_CACHE", study.path("cache"));
            let digests: Vec<String> = blobs.iter().map(|(digest, _)| digest.hex()).collect();
            command.env(FETCH, format!("{server} {}", digests.join(" ")));
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for fetcher in fetchers {
        let out = fetcher.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(String::from_utf8_lossy(&out.stdout).contains(&format!("{} blobs", blobs.len())), "{out:?}");
    }
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for path in asked.lock().unwrap().iter().filter(|path| path.starts_with("blobs/")) {
        *times.entry(path.clone()).or_default() += 1;
    }
    assert!(times.len() == blobs.len() && times.values().all(|n| *n == 1), "{times:#?}");
}

/// Place and digests, for a process of the test above.
const FETCH: &str = "SCALESHOT_TEST_FETCH";

#[test]
fn fetcher() {
    let Ok(words) = std::env::var(FETCH) else { return };
    let words: Vec<&str> = words.split(' ').collect();
    let store = Store::open(words[0]).unwrap();
    words[1..].iter().for_each(|digest| assert!(store.local(&digest.parse().unwrap()).unwrap().is_file()));
    println!("{} blobs", words.len() - 1);
}

/// Credentials that must appear nowhere.
fn secrets() -> Vec<String> {
    let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY"];
    names.iter().filter_map(|name| std::env::var(name).ok()).collect()
}

fn assert_silent(text: &[u8], place: &str) {
    let text = String::from_utf8_lossy(text);
    for secret in secrets() {
        assert!(!text.contains(&secret), "{place}: a credential in {text}");
    }
}

#[test]
fn credentials_appear_nowhere() {
    let study = study(SMALL);
    for (name, place) in places(&study) {
        let (_, out, err) = output(&study, &["run", "x.yaml", "--json", "--store", &place]);
        let mut said = vec![out, err];
        for words in [["ls", "--json"], ["show", "merged"], ["doctor", "--json"], ["verify", "--json"]] {
            let (_, out, err) = output(&study, &[&words[..], &["--store", &place]].concat());
            said.extend([out, err]);
        }
        // Wrong in every way: another key, a server that is not there, a bucket that is not.
        let wrong = [("AWS_SECRET_ACCESS_KEY", "wrong-wrong-wrong"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9")];
        let missing = place.replace("scaleshot-test", "no-such-bucket");
        let commands = [command(&study, &["ls", "--store", &missing]), {
            let mut command = command(&study, &["ls", "--store", &place]);
            command.env(wrong[0].0, wrong[0].1);
            command
        }];
        for mut command in commands {
            let out = command.output().unwrap();
            said.extend([&out.stdout, &out.stderr].map(|b| String::from_utf8_lossy(b).into_owned()));
        }
        if name != "folder" {
            let told = output(&study, &["ls", "--store", &missing]);
            assert!(told.0 != 0 && told.2.contains("no such bucket"), "{place}: {told:?}");
        }
        for text in said {
            assert_silent(text.as_bytes(), &place);
        }
    }
    // Whatever was written on this machine, records, logs and copies.
    let mut open = vec![study.folder.path().to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                assert_silent(&std::fs::read(&path).unwrap(), &path.display().to_string());
            }
        }
    }
}

#[test]
fn requests_of_a_real_server_are_few() {
    let Ok(log) = std::env::var("SCALESHOT_TEST_S3_LOG") else {
        eprintln!("left out: requests of an S3 server (make test-stores starts one)");
        return;
    };
    let study = study(SMALL);
    let place = places(&study).into_iter().find(|(name, _)| name == "s3").unwrap().1;
    let path = place.strip_prefix("s3://").unwrap().split_once('/').unwrap().1.to_string();
    let bucket = place.strip_prefix("s3://").unwrap().split_once('/').unwrap().0.to_string();
    // Requests of this test alone: its path is in the name of the object or of the listing; deletions name only
    // the bucket, so they are left out, one a cell.
    let count = || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter(|l| l.contains(&path) && l.contains(&bucket)).count()
    };
    let cells = ran(&study, &place, &[]).len();
    let first = count();
    ran(&study, &place, &[]);
    let no_op = count() - first;
    eprintln!("{cells} cells on S3: {first} requests, no-op {no_op}");
    assert!(first <= 16 * cells + 10, "{first} requests for {cells} cells");
    assert!(no_op <= 8, "{no_op} requests for nothing to do");
}
