//! Commands that change what is current and what is kept, and outside programs with their resources, end to end.

#[path = "engine/looking.rs"]
mod looking;
#[path = "engine/programs.rs"]
mod programs;
#[path = "engine/sql.rs"]
mod sql;
mod study;

use std::{
    io::{BufRead, BufReader},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use study::Study;

/// numbers -> squares (by factor) -> sum, and other beside them. Every cell appends to a file outside what it did.
const CHAIN: &str = r#"pipeline: chain
params: { factor: 2, scale: 1 }
nodes:
  numbers: { command: { run: "echo numbers >> $DONE; printf 'x\n1\n2\n3\n' > out.csv", outputs: { table: { type: table, path: out.csv } }, pass: [DONE] } }
  squares:
    matrix: { power: [1, 2] }
    command:
      run: "echo squares >> $DONE; wc -c < $SCALESHOT_INPUTS/numbers/table.parquet > size; echo x > out.csv; echo $((FACTOR * ${power} * 1001)) >> out.csv"
      inputs: numbers
      env: { FACTOR: "${params.factor}" }
      outputs: { table: { type: table, path: out.csv } }
      pass: [DONE]
  sum: { query: { tables: squares, sql: "SELECT SUM(x) AS total FROM squares" } }
  other: { command: { run: "echo other >> $DONE; echo ${params.scale} > other.txt", outputs: { files: { type: files, path: other.txt } }, pass: [DONE] } }
"#;

struct Chain(Study);

impl Chain {
    fn new() -> Self {
        Chain(Study::new(CHAIN))
    }

    fn output(&self, words: &[&str]) -> Output {
        self.0.command(words).env("DONE", self.0.path("done")).output().unwrap()
    }

    fn must(&self, words: &[&str]) -> String {
        let out = self.output(words);
        assert!(out.status.success(), "{words:?}\n{}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout)
    }

    /// Cells that a run computed.
    fn ran(&self, words: &[&str]) -> Vec<String> {
        events(&self.must(&[&["run", "x.yaml", "--json"], words].concat()), "done")
    }

    /// What the programs say that they did since the last time somebody asked.
    fn done(&self) -> Vec<String> {
        let path = self.0.path("done");
        let mut lines: Vec<String> =
            std::fs::read_to_string(&path).unwrap_or_default().lines().map(String::from).collect();
        let _ = std::fs::remove_file(&path);
        lines.sort();
        lines
    }

    fn plan(&self, words: &[&str]) -> String {
        self.must(&[&["plan", "x.yaml"], words].concat())
    }

    fn total(&self) -> String {
        self.must(&["show", "sum"])
    }

    fn key(&self, cell: &str) -> String {
        let plan: Value = serde_json::from_str(&self.must(&["plan", "x.yaml", "--json"])).unwrap();
        let cells = plan["cells"].as_array().unwrap();
        cells.iter().find(|c| c["cell"] == cell).unwrap()["key"].as_str().unwrap().to_string()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn events(lines: &str, event: &str) -> Vec<String> {
    let events = lines.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
    let mut cells: Vec<String> =
        events.filter(|e| e["event"] == event).map(|e| e["cell"].as_str().unwrap().to_string()).collect();
    cells.sort();
    cells
}

const ALL: [&str; 5] = ["numbers", "other", "squares[power=1]", "squares[power=2]", "sum"];

#[test]
fn a_command_is_a_cell_like_any_other() {
    let chain = Chain::new();
    assert_eq!(chain.ran(&[]), ALL);
    assert_eq!(chain.done(), ["numbers", "other", "squares", "squares"]);
    assert_eq!(chain.ran(&[]), [""; 0]);
    assert_eq!(chain.done(), [""; 0]);
    assert!(chain.total().contains("6006"), "{}", chain.total());
    let plan = chain.plan(&["-p", "factor=3"]);
    assert!(plan.contains("run  squares[power=1]  env.FACTOR changed (2 => 3)"), "{plan}");
    assert_eq!(chain.ran(&["-p", "factor=3"]), ["squares[power=1]", "squares[power=2]", "sum"]);
    assert_eq!(chain.ran(&[]), [""; 0]);
}

#[test]
fn force_and_reach_choose_what_is_computed_again() {
    let chain = Chain::new();
    chain.ran(&[]);
    assert_eq!(chain.ran(&["--force", "squares[power=2]"]), ["squares[power=2]"]);
    assert_eq!(chain.ran(&["--force", "squares[power=1]+"]), ["squares[power=1]", "sum"]);
    assert_eq!(chain.ran(&["--force", "+squares[power=1]"]), ["numbers", "squares[power=1]"]);
    assert_eq!(chain.ran(&["--force", "+squares+"]).len(), 4);
    let dry = chain.must(&["run", "x.yaml", "--force", "other", "--dry-run"]);
    assert!(dry.contains("run  other  forced") && dry.contains("1 cells: 1 to run"), "{dry}");
    assert_eq!(chain.ran(&["other"]), [""; 0]);
}

#[test]
fn a_frozen_cell_stays_as_it_is_and_the_plan_says_so() {
    let chain = Chain::new();
    assert_eq!(chain.output(&["freeze", "x.yaml", "squares"]).status.code(), Some(2));
    chain.ran(&[]);
    chain.must(&["freeze", "x.yaml", "squares[power=1]", "--note", "the paper's"]);
    let plan = chain.plan(&["-p", "factor=5"]);
    assert!(plan.contains("frozen  squares[power=1]  frozen (the paper's)"), "{plan}");
    assert!(plan.contains("env.FACTOR changed (2 => 5)") && plan.contains("1 frozen"), "{plan}");
    assert_eq!(chain.ran(&["-p", "factor=5"]), ["squares[power=2]", "sum"]);
    // 2002 stays from the frozen one, 10010 is new.
    assert!(chain.total().contains("12012"), "{}", chain.total());
    assert_eq!(chain.ran(&["-p", "factor=5", "--force", "squares"]), ["squares[power=2]"]);
    let why = chain.must(&["why", "x.yaml", "squares[power=1]", "-p", "factor=5"]);
    assert!(why.contains("frozen: stays as it is"), "{why}");
    chain.must(&["thaw", "x.yaml"]);
    assert_eq!(chain.ran(&["-p", "factor=5"]), ["squares[power=1]", "sum"]);
    assert_eq!(chain.output(&["thaw", "x.yaml", "squares"]).status.code(), Some(2));
}

#[test]
fn what_a_frozen_cell_stays_at_is_never_computed_anew_nor_collected() {
    let chain = Chain::new();
    chain.ran(&[]);
    let key = chain.key("other");
    chain.must(&["freeze", "x.yaml", "other"]);
    chain.ran(&["-p", "scale=2"]);
    chain.must(&["gc", "--age", "0s"]);
    assert!(chain.0.path(&format!(".scaleshot/records/{key}.json")).exists());
    std::fs::remove_file(chain.0.path(&format!(".scaleshot/records/{key}.json"))).unwrap();
    let plan = chain.plan(&["other"]);
    assert!(plan.contains("blocked  other  frozen at") && plan.contains("scaleshot thaw"), "{plan}");
}

#[test]
fn an_accepted_result_is_current_and_the_record_says_so() {
    let chain = Chain::new();
    chain.ran(&[]);
    // A change that makes no difference, says who knows.
    let wider = ["-p", "factor=3"];
    let said = chain.must(&["accept", "x.yaml", "squares[power=1]", "-p", "factor=3", "--note", "same factor"]);
    assert!(said.contains("env.FACTOR changed (2 => 3)"), "{said}");
    assert_eq!(chain.ran(&wider), ["squares[power=2]", "sum"]);
    let record: Value = serde_json::from_str(&chain.must(&["show", "squares[power=1]", "--json"])).unwrap();
    assert_eq!(record["accepted"]["note"], "same factor", "{record}");
    assert_eq!(record["accepted"]["reasons"][0], "env.FACTOR changed (2 => 3)");
    let why = chain.must(&["why", "x.yaml", "squares[power=1]", "-p", "factor=3"]);
    assert!(why.contains("was accepted") && why.contains("although env.FACTOR changed (2 => 3)"), "{why}");

    // A result that was changed by hand.
    std::fs::create_dir_all(chain.0.path("mine/files")).unwrap();
    std::fs::write(chain.0.path("mine/files/other.txt"), "by hand\n").unwrap();
    chain.must(&["accept", "x.yaml", "other", "--from", "mine"]);
    assert_eq!(chain.ran(&wider), [""; 0]);
    let record: Value = serde_json::from_str(&chain.must(&["show", "other", "--json"])).unwrap();
    assert_eq!(record["accepted"]["files"][0], "files/other.txt", "{record}");
    let shown = chain.must(&["show", "other"]);
    assert!(shown.contains("accepted") && shown.contains("with files/other.txt put in by hand"), "{shown}");
    chain.must(&["verify"]);
    // Computed again, the mark is gone.
    assert_eq!(chain.ran(&["other", "--force"]), ["other"]);
    let record: Value = serde_json::from_str(&chain.must(&["show", "other", "--json"])).unwrap();
    assert_eq!(record["accepted"], Value::Null);

    std::fs::create_dir_all(chain.0.path("wrong/nothing")).unwrap();
    assert_eq!(chain.output(&["accept", "x.yaml", "other", "--from", "wrong"]).status.code(), Some(2));
    assert_eq!(chain.output(&["accept", "x.yaml", "squares"]).status.code(), Some(2));
    let waits = chain.output(&["accept", "x.yaml", "sum", "-p", "factor=9"]);
    assert!(text(&waits.stderr).contains("cannot be accepted now: waits for squares"), "{}", text(&waits.stderr));
}

#[test]
fn a_collection_keeps_what_was_just_accepted() {
    let chain = Chain::new();
    chain.ran(&[]);
    std::fs::create_dir_all(chain.0.path("mine/files")).unwrap();
    std::fs::write(chain.0.path("mine/files/other.txt"), "by hand\n").unwrap();
    chain.must(&["accept", "x.yaml", "other", "-p", "scale=9", "--from", "mine"]);
    let why = chain.must(&["why", "x.yaml", "other", "-p", "scale=9"]);
    assert!(why.contains("was accepted"), "{why}");
    chain.must(&["gc"]);
    let plan = chain.plan(&["-p", "scale=9", "other"]);
    assert!(plan.contains("0 to run"), "{plan}");
    chain.must(&["verify"]);
}

#[test]
fn why_names_parts_origins_and_what_would_change_them() {
    let chain = Chain::new();
    chain.ran(&[]);
    let why = chain.must(&["why", "x.yaml", "squares[power=2]"]);
    for part in [
        "kind   command",
        "env.FACTOR",
        "from x.yaml, node squares",
        "from numbers.table",
        "numbers.table  key ",
        "would run again for",
        "other content of numbers.table",
        "another version than 1",
    ] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }
    let json: Value = serde_json::from_str(&chain.must(&["why", "x.yaml", "sum", "--json"])).unwrap();
    let cell = &json["cells"][0];
    assert_eq!(cell["parts"].as_array().unwrap().len(), cell["origins"].as_array().unwrap().len());
    assert!(cell["would_change"].as_array().unwrap().len() > 2, "{cell}");
}

#[test]
fn cells_move_between_stores() {
    let chain = Chain::new();
    chain.ran(&[]);
    chain.done();
    let said = chain.must(&["export", "away", "sum"]);
    assert!(said.starts_with("4 cells copied"), "{said}");
    assert!(chain.must(&["export", "away", "sum"]).starts_with("0 cells copied"));
    let away = ["--store", "away"];
    assert_eq!(chain.ran(&away), ["other"]);
    assert_eq!(chain.done(), ["other"]);
    chain.must(&["verify", "--store", "away"]);
    // Reasons there are told against what came along.
    let plan = chain.plan(&["-p", "factor=4", "--store", "away"]);
    assert!(plan.contains("env.FACTOR changed (2 => 4)"), "{plan}");

    let said = chain.must(&["import", ".scaleshot", "--store", "third"]);
    assert!(said.starts_with("5 cells copied"), "{said}");
    assert_eq!(chain.ran(&["--store", "third"]), [""; 0]);
    assert_eq!(chain.output(&["import", "nowhere"]).status.code(), Some(2));
    assert_eq!(chain.output(&["export", "away", "nothing"]).status.code(), Some(2));

    // Damage does not travel.
    let blob = walk(&chain.0.path(".scaleshot/blobs")).pop().unwrap();
    flip(&blob);
    let out = chain.output(&["export", "fourth"]);
    assert!(!out.status.success() && text(&out.stderr).contains("is damaged"), "{}", text(&out.stderr));
}

/// Files below a folder, sorted.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// Flips one bit, whatever the file's rights.
fn flip(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn gc_keeps_what_is_asked_for_and_nothing_else() {
    let chain = Chain::new();
    chain.ran(&[]);
    chain.ran(&["-p", "factor=3"]);
    chain.ran(&["-p", "factor=5"]);
    let records = || walk(&chain.0.path(".scaleshot/records")).len();
    // numbers, other, and three times squares (2) and sum.
    assert_eq!(records(), 2 + 3 * 3);
    let dry = chain.must(&["gc", "--dry-run"]);
    assert!(dry.contains("would go: 6 records") && dry.contains("squares[power=1] (chain)"), "{dry}");
    assert_eq!(records(), 11);
    let two = chain.must(&["gc", "--runs", "2", "-n", "--json"]);
    let two: Value = serde_json::from_str(&two).unwrap();
    assert_eq!((two["records"].as_array().unwrap().len(), &two["dry_run"]), (3, &Value::Bool(true)), "{two}");
    chain.must(&["gc", "--runs", "2"]);
    assert_eq!(records(), 8);
    assert_eq!(chain.ran(&["-p", "factor=3"]), [""; 0]);
    // The young stay, all of them.
    chain.must(&["gc", "--age", "1h"]);
    assert_eq!(records(), 8);
    // The file names other parameters than those that ran last, and keeps both.
    chain.ran(&["-p", "factor=5"]);
    chain.must(&["gc", "--pipeline", "chain"]);
    assert_eq!(records(), 5);
    chain.must(&["verify"]);
    assert_eq!(chain.ran(&["-p", "factor=5"]), [""; 0]);
    assert_eq!(chain.ran(&["-p", "factor=3"]).len(), 3);
    assert_eq!(chain.output(&["gc", "--pipeline", "no-such"]).status.code(), Some(2));
    // Nothing is wanted, nothing stays.
    chain.must(&["gc", "--age", "0s", "--unfinished", "0s"]);
    assert_eq!((records(), walk(&chain.0.path(".scaleshot/blobs")).len()), (0, 0));
    assert_eq!(chain.ran(&[]), ALL);
}

#[test]
fn gc_beside_a_run_takes_nothing_that_the_run_relies_on() {
    // `slow` holds the run open until the file `go` is there; `last` needs the old `numbers` only then.
    let study = Study::new(
        r#"pipeline: beside
params: { v: 1 }
nodes:
  old: { command: { run: "printf 'x\n7\n' > out.csv", outputs: { table: { type: table, path: out.csv } } } }
  slow: { command: { run: "echo ${params.v} > v.txt; touch $HERE/begun; while [ ! -e $HERE/go ]; do sleep 0.02; done", outputs: { files: { type: files, path: v.txt } }, pass: [HERE] } }
  last: { command: { run: "cat $SCALESHOT_INPUTS/old/table.parquet > copy.bin", inputs: [old, slow], outputs: { files: { type: files, path: copy.bin } } } }
"#,
    );
    let command = |words: &[&str]| {
        let mut command = study.command(words);
        command.env("HERE", study.folder.path());
        command
    };
    assert!(command(&["run", "x.yaml", "old"]).output().unwrap().status.success());
    let mut run = command(&["run", "x.yaml"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !study.path("begun").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the run does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = command(&["gc", "--age", "0s", "--unfinished", "0s"]).output().unwrap();
    assert!(text(&said.stdout).contains("1 live runs"), "{}", text(&said.stdout));
    std::fs::write(study.path("go"), "").unwrap();
    let mut told = String::new();
    BufReader::new(run.stderr.take().unwrap()).lines().map_while(Result::ok).for_each(|l| told.push_str(&(l + "\n")));
    assert!(run.wait().unwrap().success(), "{told}");
    assert!(command(&["verify"]).output().unwrap().status.success());
    // Nobody is left: everything goes.
    let said = command(&["gc", "--age", "0s", "--unfinished", "0s"]).output().unwrap();
    assert!(text(&said.stdout).contains("gone: 3 records"), "{}", text(&said.stdout));
}

#[test]
fn a_kind_that_never_looks_keeps_its_time_too() {
    let study = Study::new(
        r#"pipeline: late
nodes:
  t: { table: { root: t.csv } }
  q: { query: { tables: [t], sql: "SELECT COUNT(*) AS n FROM t a CROSS JOIN t b CROSS JOIN t c" } }
"#,
    );
    let rows: String = (0..150).map(|i| format!("{i}\n")).collect();
    std::fs::write(study.path("t.csv"), format!("n\n{rows}")).unwrap();
    let out = study.output(&["run", "x.yaml", "--resource", "q.timeout_s=0.000001"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("q: took longer than"), "{}", text(&out.stderr));
    study.must(&["run", "x.yaml"]);
}

#[test]
fn what_can_pass_is_tried_again_and_nothing_else_is() {
    let study = Study::new(
        r#"pipeline: again
nodes:
  flaky:
    resources: { retries: 3, retry_wait_s: 0.01, transient_exit_codes: [75] }
    command: { run: "echo try >> $HERE/tries; [ $(wc -l < $HERE/tries) -ge 3 ] || exit 75; echo 1 > x", outputs: { files: { type: files, path: x } }, pass: [HERE] }
  broken:
    resources: { retries: 3, retry_wait_s: 0.01, transient_exit_codes: [75] }
    command: { run: "echo try >> $HERE/broken; exit 1", outputs: { files: { type: files, path: x } }, pass: [HERE] }
"#,
    );
    let run = |words: &[&str]| study.command(words).env("HERE", study.folder.path()).output().unwrap();
    let out = run(&["run", "x.yaml", "--json", "--keep-going"]);
    let lines = text(&out.stdout);
    assert_eq!(events(&lines, "retrying"), ["flaky", "flaky"], "{lines}");
    assert_eq!(events(&lines, "done"), ["flaky"]);
    assert_eq!(events(&lines, "failed"), ["broken"]);
    let tries = |name: &str| std::fs::read_to_string(study.path(name)).unwrap().lines().count();
    assert_eq!((tries("tries"), tries("broken")), (3, 1));
    // With fewer tries than it takes, it fails.
    std::fs::remove_file(study.path("tries")).unwrap();
    let out = run(&["run", "x.yaml", "flaky", "--force", "--resource", "flaky.retries=1"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(tries("tries"), 2);
}

#[test]
fn slots_bound_what_runs_at_one_time() {
    // Each cell notes how many are there, and stays until as many as should be were seen, for a while at most.
    let study = Study::new(
        r#"pipeline: slots
nodes:
  work:
    matrix: { i: [0, 1, 2, 3, 4, 5] }
    resources: { threads: 1, memory: 1GiB, gpus: 1 }
    command:
      run: |
        mkdir $HERE/in/${i}; echo $CUDA_VISIBLE_DEVICES >> $HERE/gpus
        n=0
        while ls $HERE/in | wc -l >> $HERE/seen
          [ $(sort -n $HERE/seen | tail -n 1) -lt $WANT ] && [ $n -lt 500 ]
        do n=$((n+1)); sleep 0.02; done
        sleep 0.05; ls $HERE/in | wc -l >> $HERE/seen
        rmdir $HERE/in/${i}; echo ${i} > x
      outputs: { files: { type: files, path: x } }
      pass: [HERE, WANT]
"#,
    );
    std::fs::create_dir(study.path("in")).unwrap();
    let run = |want: usize, words: &[&str]| {
        let _ = std::fs::remove_file(study.path("seen"));
        let words = [&["run", "x.yaml", "--force"], words].concat();
        let mut command = study.command(&words);
        let out = command.env("HERE", study.folder.path()).env("WANT", want.to_string()).output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        let seen = std::fs::read_to_string(study.path("seen")).unwrap();
        let most = seen.lines().map(|l| l.trim().parse::<usize>().unwrap()).max();
        assert_eq!(most, Some(want), "{words:?}");
    };
    run(2, &["--threads", "6", "--gpus", "0,1,2", "--memory", "2GiB"]);
    run(1, &["--threads", "6", "--gpus", "5", "--memory", "9GiB"]);
    run(2, &["--threads", "2", "--gpus", "0,1,2,3", "--memory", "9GiB"]);
    run(1, &["--threads", "6", "--gpus", "0,1,2,3", "--memory", "9GiB", "--jobs", "1"]);
    run(4, &["--threads", "6", "--gpus", "0,1,2,3", "--memory", "9GiB"]);
    let gpus = std::fs::read_to_string(study.path("gpus")).unwrap();
    assert!(gpus.lines().all(|g| ["0", "1", "2", "3", "5"].contains(&g)), "{gpus}");
    assert_eq!(gpus.lines().filter(|g| *g == "5").count(), 6, "{gpus}");
    let out = study.output(&["run", "x.yaml", "--force", "--gpus", "0", "--resource", "work.gpus=2"]);
    assert!(text(&out.stderr).contains("needs 2 GPUs, and there are 1"), "{}", text(&out.stderr));
    // A run that cannot begin does not tell of a beginning.
    let out = study.output(&["run", "x.yaml", "--force", "--gpus", "0", "--resource", "work.gpus=2", "--json"]);
    assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(1), ""));
}

#[test]
fn wrong_resources_and_words_are_named() {
    let study = Study::new(
        "pipeline: p\nnodes:\n  a:\n    resources: { thread: 1, memory: lots, retries: -1 }\n    command: { run: [], outputs: {} }\n",
    );
    let told = text(&study.output(&["plan", "x.yaml"]).stderr);
    for part in [
        "x.yaml:4:18: node a: resources: unknown field thread",
        "hint: did you mean threads?",
        "node a: resources: memory: expected a size such as 8GiB, or a number of bytes",
        "node a: resources: retries: expected a number of tries",
        "there is nothing to run",
        "a command without outputs leaves nothing to keep",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    let chain = Chain::new();
    for (word, part) in [
        ("squares", "expected NODE.FIELD=VALUE"),
        ("sqares.threads=1", "did you mean squares?"),
        ("squares.threads=0", "expected a number of threads, at least 1"),
        ("squares.thread=1", "expected one of threads"),
    ] {
        let out = chain.output(&["run", "x.yaml", "--resource", word]);
        assert!(out.status.code() == Some(2) && text(&out.stderr).contains(part), "{word}: {}", text(&out.stderr));
    }
}

#[test]
fn every_command_explains_itself() {
    let chain = Chain::new();
    for (command, words) in [
        ("gc", &["--dry-run", "--runs", "--age", "--pipeline", "Safe beside running pipelines"][..]),
        ("verify", &["--repair", "each thing named"]),
        ("accept", &["--from", "--key", "--note", "The record says that it was accepted"]),
        ("freeze", &["--note", "is not computed, not even by --force"]),
        ("thaw", &["all frozen ones without"]),
        ("export", &["every file is checked on the way"]),
        ("import", &["Copy finished cells of another store into this one"]),
        ("run", &["--force", "pretrain+", "+report", "--dry-run", "--resource", "--gpus", "--memory"]),
        ("why", &["what would change it"]),
    ] {
        let help = chain.must(&[command, "--help"]);
        for word in words {
            assert!(help.contains(word), "{word} is not in the help of {command}\n{help}");
        }
    }
}
