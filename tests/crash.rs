//! Crash safety by force: the program is killed at every labelled write point and at random moments, stores are
//! damaged in every way that disks do, and each time nothing but the damage is lost.
//!
//! The short form kills 20 times. `make test-crash` kills 300 times: SCALESHOT_CRASH_KILLS says how often, and
//! SCALESHOT_CRASH_SEED what the random moments are drawn from.

mod study;

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant, SystemTime},
};

use scaleshot::{
    random::stream::Stream,
    store::{CHECKPOINT_POINTS, FAULT_POINTS, GC_POINTS, Store, record::Record},
};
use study::Study;

/// Source, images, two trainings with a checkpoint at each step, scores, an outside program, a report.
const TINY: &str = r#"pipeline: crash
params: { lr: 0.1 }
nodes:
  weights: { table: { root: w.csv } }
  data: { dataset: { format: fractal, categories: 2, per_category: 6, test_per_category: 3, seed: 3, size_px: 16 } }
  pixels: { images: { data: data, size_px: 16 } }
  train:
    matrix: { seed: [0, 1] }
    pretrain: { data: pixels, model: bit-r14x0.25, epochs: 1, batch: 4, seed: "${seed}", optimizer: { sgd_agc: { lr: "${params.lr}" } } }
  test:
    matrix: { model: { cells: train } }
    evaluate: { model: "${model}", data: pixels }
  top: { query: { tables: [weights], sql: "SELECT MAX(w) AS top FROM weights" } }
  outside: { command: { run: "echo n > n.csv; ls $SCALESHOT_INPUTS | wc -l >> n.csv", inputs: top, outputs: { table: { type: table, path: n.csv } } } }
  report: { report: { tables: [test, top, outside] } }
"#;

/// A folder with the pipeline, its source, and whatever store.
struct Site(Study);

impl Site {
    fn new() -> Self {
        let site = Site(Study::new(TINY));
        let source = site.0.path("w.csv");
        std::fs::write(&source, "w\n1\n2\n").unwrap();
        // Older than the clock's grain (20 ms for its last change of any kind), so that it is remembered.
        date(&source, SystemTime::now() - Duration::from_secs(3600));
        std::thread::sleep(Duration::from_millis(30));
        site
    }

    fn store(&self) -> PathBuf {
        self.0.path(".scaleshot")
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = self.0.command(words);
        command.env("SCALESHOT_CHECKPOINT_S", "0").env("RUST_BACKTRACE", "0");
        command
    }

    fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Finishes the study: `verify` is clean, the run ends well, and the report is this one.
    fn recovers(&self, what: &str, expected: &[(String, Vec<u8>)]) -> Vec<String> {
        // Killed before it made a store, it left nothing to look at.
        if self.store().exists() {
            let verify = self.output(&["verify"]);
            assert!(verify.status.success(), "{what}: verify: {}{}", text(&verify.stdout), text(&verify.stderr));
        }
        let _ = std::fs::remove_dir_all(self.0.path("reports"));
        let run = self.output(&["run", "x.yaml", "--json"]);
        assert!(run.status.success(), "{what}: run: {}{}", text(&run.stdout), text(&run.stderr));
        assert!(self.0.report() == expected, "{what}: the report differs");
        done(&text(&run.stdout))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Cells that a run computed, by its events.
fn done(lines: &str) -> Vec<String> {
    let events = lines.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let mut cells: Vec<String> =
        events.filter(|e| e["event"] == "done").map(|e| e["cell"].as_str().unwrap().to_string()).collect();
    cells.sort();
    cells
}

fn date(path: &Path, to: SystemTime) {
    std::fs::File::open(path).unwrap().set_modified(to).unwrap();
}

/// Files below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(here).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Puts other bytes in a file's place; blobs are read-only.
fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Numbers of this test's seed.
struct Dice(Stream);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("SCALESHOT_CRASH_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        Dice(Stream::new(seed, "crash", 0, 0))
    }

    /// From 0 to `below`, without it.
    fn throw(&mut self, below: u64) -> u64 {
        self.0.below(below.max(1))
    }
}

/// When the program is killed.
#[derive(Clone, Debug)]
enum Moment {
    /// At the n-th pass of a label.
    Point(&'static str, u64),
    After(Duration),
}

impl Moment {
    /// Runs the program into it; whether it was killed.
    fn strike(&self, site: &Site, words: &[&str]) -> bool {
        let mut command = site.command(words);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        match self {
            Moment::Point(label, n) => {
                let status = command.env("SCALESHOT_FAULT", format!("{label}:{n}")).status().unwrap();
                status.signal() == Some(6)
            }
            Moment::After(time) => {
                let mut child = command.spawn().unwrap();
                let until = Instant::now() + *time;
                while Instant::now() < until && child.try_wait().unwrap().is_none() {
                    std::thread::sleep(Duration::from_micros(200));
                }
                // Gone already: then there was nothing to kill, and its status says so.
                let _ = child.kill();
                child.wait().unwrap().signal() == Some(9)
            }
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Moment::Point(label, _) => label,
            Moment::After(_) => "random moment",
        }
    }
}

#[test]
fn killed_at_any_moment_everything_is_continued_to_the_same_bytes() {
    let kills: u64 = std::env::var("SCALESHOT_CRASH_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let whole = Site::new();
    let began = Instant::now();
    assert!(whole.output(&["run", "x.yaml"]).status.success());
    let takes_us = began.elapsed().as_micros() as u64;
    let expected = whole.0.report();

    let mut dice = Dice::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let in_runs: Vec<&'static str> = FAULT_POINTS.iter().chain(CHECKPOINT_POINTS).copied().collect();
    let labels = in_runs.len() + GC_POINTS.len();
    let mut round = 0;
    while counts.values().sum::<u64>() < kills {
        assert!(round < kills * 4 + 40, "the program is hardly ever killed: {counts:?}");
        // First every label once, then labels and moments in turn, with the n-th pass drawn.
        let first = (round as usize) < labels;
        let label = round as usize % labels;
        let n = if first { 1 } else { 1 + dice.throw(12) };
        let in_gc = label >= in_runs.len();
        let moment = if !first && dice.throw(2) == 0 {
            let most = if in_gc { takes_us / 5 } else { takes_us * 5 / 4 };
            Moment::After(Duration::from_micros(dice.throw(most)))
        } else if in_gc {
            Moment::Point(GC_POINTS[label - in_runs.len()], n)
        } else {
            Moment::Point(in_runs[label], n)
        };
        round += 1;
        let site = Site::new();
        let (what, killed) = if in_gc {
            // Two studies' worth of cells, of which a collection takes one, or all.
            assert!(site.output(&["run", "x.yaml", "-p", "lr=0.2"]).status.success());
            assert!(site.output(&["run", "x.yaml"]).status.success());
            let words: &[&str] =
                if dice.throw(2) == 0 { &["gc"] } else { &["gc", "--age", "0s", "--unfinished", "0s"] };
            ("gc", moment.strike(&site, words))
        } else {
            let killed = moment.strike(&site, &["run", "x.yaml"]);
            if killed && dice.throw(4) == 0 {
                // A second kill, of the run that continues the first.
                let again = Moment::After(Duration::from_micros(dice.throw(takes_us)));
                let twice = again.strike(&site, &["run", "x.yaml"]);
                *counts.entry("run, random moment of a continued run".into()).or_default() += u64::from(twice);
            }
            ("run", killed)
        };
        assert!(killed || !first, "{moment:?} was not passed");
        site.recovers(&format!("{what} killed at {moment:?}"), &expected);
        let again = site.output(&["run", "x.yaml", "--json"]);
        assert_eq!(done(&text(&again.stdout)), [""; 0], "{moment:?}: a second run computes");
        *counts.entry(format!("{what}, {}", moment.label())).or_default() += u64::from(killed);
        if round % 50 == 0 {
            eprintln!("{} kills so far", counts.values().sum::<u64>());
        }
    }
    for (what, count) in &counts {
        eprintln!("{count:4} kills: {what}");
    }
    eprintln!("{:4} kills in {round} rounds", counts.values().sum::<u64>());
}

/// A finished study, and its report.
fn finished() -> (Site, Vec<(String, Vec<u8>)>) {
    let site = Site::new();
    let run = site.output(&["run", "x.yaml"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let report = site.0.report();
    (site, report)
}

/// `verify` names a problem that holds `word`, `verify --repair` mends it, and the study recovers; returns what
/// was computed again.
fn mended(site: &Site, expected: &[(String, Vec<u8>)], word: &str, what: &str) -> Vec<String> {
    let verify = site.output(&["verify"]);
    assert_eq!(verify.status.code(), Some(1), "{what}: not found: {}", text(&verify.stdout));
    assert!(text(&verify.stdout).contains(word), "{what}: {word} is not named: {}", text(&verify.stdout));
    let repair = site.output(&["verify", "--repair"]);
    assert!(repair.status.success() && text(&repair.stdout).contains("removed "), "{what}: {}", text(&repair.stdout));
    site.recovers(what, expected)
}

#[test]
fn a_flipped_bit_in_any_blob_is_found_named_and_mended() {
    let (site, report) = finished();
    let mut dice = Dice::new();
    let mut seen = 0;
    for blob in files(&site.store().join("blobs")) {
        let mut bytes = std::fs::read(&blob).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let at = dice.throw(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << dice.throw(8);
        replace(&blob, &bytes);
        let name = blob.file_name().unwrap().to_string_lossy()[..12].to_string();
        let again = mended(&site, &report, &format!("file {name} is damaged"), "a flipped bit");
        // The cell itself, or two where both made it; what follows finds its inputs as they were.
        assert!(again.len() <= 2, "{again:?} were computed again for one file");
        seen += 1;
    }
    assert!(seen >= 8, "only {seen} blobs were damaged");
}

#[test]
fn a_truncated_blob_or_record_is_noticed_by_the_next_run() {
    let (site, report) = finished();
    let largest = |folder: &str| {
        let found = files(&site.store().join(folder));
        found.into_iter().max_by_key(|p| p.metadata().unwrap().len()).unwrap()
    };
    for folder in ["blobs", "records"] {
        let path = largest(folder);
        let bytes = std::fs::read(&path).unwrap();
        replace(&path, &bytes[..bytes.len() / 2]);
        // Without any repair: the run sees it, says so, and computes that cell.
        let plan = text(&site.output(&["plan", "x.yaml"]).stdout);
        assert!(plan.contains("artifact missing (") || plan.contains("record damaged ("), "{plan}");
        let run = site.output(&["run", "x.yaml", "--json"]);
        assert_eq!(done(&text(&run.stdout)).len(), 1, "{}{}", text(&run.stdout), text(&run.stderr));
        assert!(site.0.report() == report);
        // And with: what verify finds it names and mends.
        replace(&path, &bytes[..bytes.len() / 2]);
        let name = path.file_name().unwrap().to_string_lossy()[..12].to_string();
        assert_eq!(mended(&site, &report, &name, folder).len(), 1);
    }
    for folder in ["last", "runs"] {
        let path = largest(folder);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let name = path.strip_prefix(site.store()).unwrap().display().to_string();
        assert_eq!(mended(&site, &report, &format!("{name} is damaged"), folder), [""; 0]);
    }
}

#[test]
fn a_record_with_a_flipped_bit_never_changes_a_result() {
    let (site, report) = finished();
    let mut dice = Dice::new();
    let records = files(&site.store().join("records"));
    // The last field holds the digest of all before it: `,"check":"…"}`.
    let check_bytes = 76;
    for _ in 0..12 {
        let path = &records[dice.throw(records.len() as u64) as usize];
        let Ok(mut bytes) = std::fs::read(path) else { continue };
        let at = dice.throw(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << dice.throw(8);
        replace(path, &bytes);
        let verify = site.output(&["verify"]);
        let named = text(&verify.stdout).contains(&path.file_name().unwrap().to_string_lossy()[..12]);
        // Within the check itself a flip may leave a record as of an earlier version, which had none.
        let found = verify.status.code() == Some(1) && named;
        assert!(found || at + check_bytes >= bytes.len(), "byte {at}: {}", text(&verify.stdout));
        let repair = site.output(&["verify", "--repair"]);
        assert!(repair.status.success(), "{}{}", text(&repair.stdout), text(&repair.stderr));
        site.recovers(&format!("{} at byte {at}", path.display()), &report);
    }
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let (site, report) = finished();
    let now = SystemTime::now();
    let year = Duration::from_secs(366 * 86_400);
    for (what, to) in [("back", now - 30 * year), ("ahead", now + 30 * year)] {
        for path in files(&site.store()) {
            date(&path, to);
        }
        assert_eq!(site.recovers(&format!("the clock jumps {what}"), &report), [""; 0]);
        let gc = site.output(&["gc"]);
        assert!(gc.status.success() && text(&gc.stdout).contains("gone: 0 records"), "{}", text(&gc.stdout));
        assert_eq!(site.recovers(&format!("gc after the clock jumps {what}"), &report), [""; 0]);
    }
    // A source that is dated ahead is read each time: that a change shows must not hang on the clock.
    let source = site.0.path("w.csv");
    for (content, date_to) in [("w\n1\n3\n", now + year), ("w\n1\n2\n", now - year), ("w\n1\n4\n", now - year)] {
        std::fs::write(&source, content).unwrap();
        date(&source, date_to);
        let plan = text(&site.output(&["plan", "x.yaml"]).stdout);
        assert_eq!(plan.contains("weights  source changed"), !content.contains('2'), "{plan}");
    }
}

#[test]
fn an_age_by_a_clock_that_jumped_costs_computing_and_nothing_else() {
    const YEARS_MS: u64 = 30 * 366 * 86_400_000;
    let (site, report) = finished();
    let redate = |to: &dyn Fn(u64) -> u64| {
        let store = Store::open(site.store()).unwrap();
        for key in store.records().unwrap() {
            let record = store.record(&key).unwrap().unwrap();
            let finished_unix_ms = to(record.finished_unix_ms);
            store.put_record(&Record { finished_unix_ms, ..record }).unwrap();
        }
    };
    let records = files(&site.store().join("records")).len();
    // The clock was ahead when they were computed: they count as new, and that is said.
    redate(&|ms| ms + YEARS_MS);
    let gc = site.output(&["gc", "--age", "30d"]);
    let told = text(&gc.stdout);
    assert!(gc.status.success() && told.contains("gone: 0 records"), "{told}{}", text(&gc.stderr));
    assert!(told.contains(&format!("{records} records are dated later than now")), "{told}");
    assert_eq!(site.recovers("the clock was ahead", &report), [""; 0]);
    // It was behind, so that all of them seem old: what goes is computed again, to the same bytes.
    redate(&|ms| ms - 2 * YEARS_MS);
    let gc = site.output(&["gc", "--age", "30d", "--dry-run"]);
    assert!(text(&gc.stdout).contains(&format!("would go: {records} records")), "{}", text(&gc.stdout));
    let gc = site.output(&["gc"]);
    assert!(text(&gc.stdout).contains("gone: 0 records"), "no age was asked for: {}", text(&gc.stdout));
    assert!(site.output(&["gc", "--age", "30d"]).status.success());
    assert!(files(&site.store().join("records")).is_empty());
    assert_eq!(site.recovers("the clock was behind", &report).len(), records);
}

/// Runs a script of `sh` that mounts; `None`, with a note, where this machine does not let us.
fn mounted(site: &Site, script: &str) -> Option<Output> {
    let try_it = "d=$(mktemp -d) && mount -t tmpfs -o size=64k tmpfs $d && umount $d && rmdir $d";
    let allowed = std::process::Command::new("unshare").args(["-m", "sh", "-c", try_it]).output();
    if !allowed.is_ok_and(|o| o.status.success()) {
        eprintln!("left out: this machine does not let a test mount a file system of its own");
        return None;
    }
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "sh", "-ec", script]).current_dir(site.0.folder.path());
    command.env("S", env!("CARGO_BIN_EXE_scaleshot")).env_remove("SCALESHOT_STORE");
    Some(command.output().unwrap())
}

#[test]
fn a_full_disk_loses_nothing_but_the_cell_that_met_it() {
    let (whole, report) = finished();
    let bytes: u64 = files(&whole.store()).iter().map(|p| p.metadata().unwrap().len()).sum();
    let site = Site::new();
    // Too small for the whole, then large enough.
    let script = format!(
        "mkdir -p disk; mount -t tmpfs -o size={}k tmpfs disk
         code=0; $S run x.yaml --store disk/store >out 2>err || code=$?
         echo first $code; grep -c 'No space left' err
         $S verify --store disk/store
         mount -o remount,size=64m disk
         $S run x.yaml --store disk/store; $S verify --store disk/store",
        bytes / 2048 + 40
    );
    if let Some(out) = mounted(&site, &script) {
        let said = text(&out.stdout);
        assert!(out.status.success(), "{said}{}", text(&out.stderr));
        assert!(said.starts_with("first 1\n") && !said.starts_with("first 1\n0\n"), "{said}");
        assert_eq!(said.matches("all whole").count(), 2, "{said}");
        assert!(site.0.report() == report);
    }
    // The same for whoever may not mount: no file may grow beyond a limit, which shows as an error at writing.
    let site = Site::new();
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", 20);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", &script, env!("CARGO_BIN_EXE_scaleshot"), "run", "x.yaml"]).current_dir(site.0.folder.path());
    let out = limited.env_remove("SCALESHOT_STORE").output().unwrap();
    assert!(!out.status.success() && text(&out.stderr).contains("File too large"), "{}", text(&out.stderr));
    site.recovers("a limit on files", &report);
}

#[test]
fn a_store_that_can_only_be_read_serves_what_it_holds() {
    let (site, report) = finished();
    let script = "mount --bind .scaleshot .scaleshot; mount -o remount,ro,bind .scaleshot
         rm -r reports
         $S plan x.yaml; $S run x.yaml; $S verify; $S show top
         code=0; $S run x.yaml -p lr=0.3 2>err || code=$?
         echo changed $code; cat err";
    let Some(out) = mounted(&site, script) else { return };
    let said = text(&out.stdout);
    assert!(out.status.success(), "{said}{}", text(&out.stderr));
    assert!(said.contains("0 to run") && said.contains("all whole"), "{said}");
    assert!(said.contains("changed 1\n") && said.contains("Read-only file system"), "{said}");
    assert!(site.0.report() == report);
    assert_eq!(site.recovers("a store that was read-only", &report), [""; 0]);
}
