//! Work that polars or a long loop does: whose threads it takes, what the record says of it, and how it ends.

use std::collections::BTreeSet;

use super::*;

/// Pairs of `rows` numbers, none of which is what is looked for: as much work as it is rows squared.
fn pairs(rows: usize) -> Study {
    let study = Study::new(
        r#"pipeline: pairs
params: { n: 1 }
nodes:
  numbers: { table: { root: n.csv } }
  pairs: { query: { tables: numbers, sql: "SELECT COUNT(*) + ${params.n} AS n FROM numbers AS a CROSS JOIN numbers AS b WHERE a.x * b.x = 2" } }
"#,
    );
    let rows: String = (0..rows).map(|x| format!("{}\n", x + 3)).collect();
    std::fs::write(study.path("n.csv"), format!("x\n{rows}")).unwrap();
    study
}

/// Far longer than any test may take.
const ENDLESS: usize = 150_000;
/// What a stop may take, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(30);

/// Processes that answer SQL for a run in this folder.
fn answering(study: &Study) -> Vec<std::path::PathBuf> {
    let here = study.folder.path().canonicalize().unwrap();
    let of_here = |entry: &std::fs::DirEntry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.windows(10).any(|w| w == b"answer-sql")
            && std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == here)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(of_here).map(|entry| entry.path()).collect()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}: never");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Groups of 200,000 rows again and again, which polars spreads over all threads that it has.
fn groups() -> Study {
    let one = |i: usize| format!("SELECT x, COUNT(*) AS n, AVG(y) AS m FROM numbers WHERE y > {i} GROUP BY x");
    let all: Vec<String> = (0..30).map(one).collect();
    let study = Study::new(&format!(
        "pipeline: groups\nnodes:\n  numbers: {{ table: {{ root: n.csv }} }}\n  groups: {{ query: {{ tables: numbers, sql: \"SELECT SUM(n) AS n FROM ({}) AS u\" }} }}\n",
        all.join(" UNION ALL ")
    ));
    let rows: String = (0..200_000u64).map(|y| format!("{},{y}\n", y * 7919 % 150_001)).collect();
    std::fs::write(study.path("n.csv"), format!("x,y\n{rows}")).unwrap();
    study
}

/// Threads of the processes that answer SQL for a run in this folder: their names.
fn threads(study: &Study) -> Vec<String> {
    let tasks = answering(study).into_iter().flat_map(|process| std::fs::read_dir(process.join("task")));
    let names = tasks.flatten().flatten().flat_map(|task| std::fs::read_to_string(task.path().join("comm")));
    names.map(|name| name.trim().to_string()).collect()
}

#[test]
fn sql_takes_the_threads_of_its_cell_and_its_record_says_what_it_took() {
    let study = groups();
    for (cell, wanted) in [("1", 1), ("3", 3)] {
        let resource = format!("groups.threads={cell}");
        let words = ["run", "x.yaml", "--threads", cell, "--resource", &resource, "--force"];
        let mut run = study.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // A thread that polars starts to drop something has the name of the one that starts it.
        let mut names = BTreeSet::new();
        while run.try_wait().unwrap().is_none() {
            names.extend(threads(&study).into_iter().filter(|name| name.starts_with("polars-")));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(run.wait().unwrap().success());
        assert_eq!(names.len(), wanted, "threads of polars in a cell of {cell}: {names:?}");
        let record: Value = serde_json::from_str(&study.must(&["show", "groups", "--json"])).unwrap();
        let (wall, cpu) = (record["wall_ms"].as_u64().unwrap(), record["cpu_ms"].as_u64().unwrap());
        // A good part of a second on whichever thread; counted in ticks of 10 ms.
        assert!(cpu >= 100, "{cpu} ms of processor time in {wall} ms");
        assert!(cpu <= wanted as u64 * (wall + wall / 10) + 20, "{cpu} ms of processor time in {wall} ms");
        assert!(record["peak_rss_bytes"].as_u64().unwrap() > 4 << 20, "{record}");
    }
}

#[test]
fn sql_that_runs_is_ended_by_its_time() {
    let study = pairs(ENDLESS);
    study.must(&["run", "x.yaml", "numbers"]);
    let begun = Instant::now();
    let out = study.output(&["run", "x.yaml", "--resource", "pairs.timeout_s=0.5"]);
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("pairs: took longer than 0.5 s"), "{}", text(&out.stderr));
    assert!(answering(&study).is_empty());
}

#[test]
fn sql_that_runs_is_ended_by_ctrl_c_and_with_a_run_that_is_killed() {
    let study = pairs(ENDLESS);
    study.must(&["run", "x.yaml", "numbers"]);
    for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let mut run = study.command(&["run", "x.yaml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the query begins", || !answering(&study).is_empty());
        let begun = Instant::now();
        assert!(std::process::Command::new("kill").args([signal, &run.id().to_string()]).status().unwrap().success());
        assert_eq!(run.wait().unwrap().code(), code);
        assert!(begun.elapsed() < SOON, "{signal}: it took {:?}", begun.elapsed());
        until("the query ends", || answering(&study).is_empty());
    }
    study.must(&["verify"]);
}

#[test]
fn a_fit_that_runs_is_ended_by_its_time() {
    let study = Study::new(
        r#"pipeline: fits
nodes:
  runs: { table: { root: runs.csv } }
  law: { resources: { timeout_s: 0.5 }, scaling: { metrics: runs, data_size: n, metric: accuracy, resamples: 100000 } }
"#,
    );
    let mut rows = String::from("n,seed,metric,value\n");
    for n in [100.0f64, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12800.0] {
        for seed in 0..5 {
            let error = (0.1 + 3.0 * n.powf(-0.4)) * (1.0 + 0.01 * f64::from(seed));
            rows.push_str(&format!("{n},{seed},accuracy,{}\n", 1.0 - error));
        }
    }
    std::fs::write(study.path("runs.csv"), rows).unwrap();
    let begun = Instant::now();
    let out = study.output(&["run", "x.yaml"]);
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert!(text(&out.stderr).contains("law: took longer than 0.5 s"), "{}", text(&out.stderr));
    // It was the time that was too short, and not the fit that went wrong.
    let fewer = std::fs::read_to_string(study.path("x.yaml")).unwrap().replace("100000", "100").replace("0.5", "600");
    std::fs::write(study.path("x.yaml"), fewer).unwrap();
    study.must(&["run", "x.yaml"]);
}

#[test]
fn time_of_ranks_that_are_threads_is_the_cells() {
    let study = Study::new(
        r#"pipeline: ranks
nodes:
  data: { dataset: { format: fractal, categories: 2, per_category: 8, test_per_category: 2, seed: 3, size_px: 16 } }
  pixels: { images: { data: data, size_px: 16 } }
  train: { pretrain: { data: pixels, model: bit-r14x0.25, epochs: 2, batch: 8, ranks: 2, optimizer: { sgd_agc: { lr: 0.1 } } } }
"#,
    );
    study.must(&["run", "x.yaml", "--threads", "2"]);
    let record: Value = serde_json::from_str(&study.must(&["show", "train", "--json"])).unwrap();
    // Forward and backward passes of two epochs; that of the thread that waits for them alone is next to nothing.
    assert!(record["cpu_ms"].as_u64().is_some_and(|ms| ms >= 10), "{record}");
}
