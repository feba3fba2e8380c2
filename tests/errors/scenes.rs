//! One mistake after the other, as it is made, and all that is said of it.

use std::{path::PathBuf, process::Output};

use super::{snapshot::difference, study::Study};

/// A table, a query over it, an outside program on that.
const GOOD: &str = r#"pipeline: good
params: { n: 1 }
nodes:
  rows: { table: { root: x.csv } }
  top: { query: { tables: rows, sql: "SELECT MAX(a) + ${params.n} AS top FROM rows" } }
  copy: { command: { run: "cp $SCALESHOT_INPUTS/top/table.parquet .", inputs: top, outputs: { files: { type: files, path: table.parquet } } } }
"#;

fn good() -> Study {
    study(GOOD)
}

fn study(pipeline: &str) -> Study {
    let study = Study::new(pipeline);
    std::fs::write(study.path("x.csv"), "a\n1\n2\n").unwrap();
    study
}

/// Where programs are looked for, which a message tells.
const PATH: &str = "/usr/bin:/bin";

/// A run whose cells come one by one.
const RUN: [&str; 6] = ["run", "x.yaml", "--threads", "2", "--jobs", "1"];

fn run(study: &Study, more: &[&str]) -> Output {
    study.command(&[&RUN, more].concat()).env("PATH", PATH).output().unwrap()
}

fn hold(all: Vec<(&str, Study, Output)>) {
    let differ: Vec<String> =
        all.iter().filter_map(|(name, study, out)| difference(name, out, study.folder.path())).collect();
    assert!(differ.is_empty(), "{}\nSCALESHOT_BLESS=1 writes what is said now", differ.join("\n"));
}

#[test]
fn files_that_are_no_pipeline() {
    let mut bomb = String::from("pipeline: p\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")));
    }
    let axes: String = (0..8).map(|i| format!("x{i}: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], ")).collect();
    let brace = "pipeline: p\nnodes:\n  a: { table: { root: x.csv }\n  b: { table: { root: x.csv } }\n";
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("missing_brace", brace.into()),
        ("missing_bracket", "pipeline: p\nparams:\n  seeds: [0, 1\n  lr: 0.1\nnodes: {}\n".into()),
        ("wrong_bracket", "pipeline: p\nparams: { seeds: [0, 1} }\nnodes: {}\n".into()),
        ("open_quote", "pipeline: p\nnodes:\n  a: { table: { root: \"x.csv } }\n".into()),
        ("tab", "pipeline: p\nnodes:\n\ta: { table: { root: x.csv } }\n".into()),
        ("utf16", "pipeline: p\n".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("not_utf8", b"pipeline: p\nnodes: { a: \xff }\n".to_vec()),
        ("zero_byte", b"pipeline: p\nnodes: { a\0: 1 }\n".to_vec()),
        ("empty", Vec::new()),
        ("no_map", "hello\n".into()),
        ("two_documents", "pipeline: p\nnodes: {}\n---\npipeline: q\n".into()),
        ("bomb", bomb.into_bytes()),
        ("deep", format!("pipeline: p\nnodes: {}", "[".repeat(100)).into_bytes()),
        (
            "huge_matrix",
            format!("pipeline: p\nnodes:\n  a:\n    matrix: {{ {axes} }}\n    table: {{ root: x.csv }}\n").into_bytes(),
        ),
    ];
    let said = files.into_iter().map(|(name, bytes)| {
        let study = Study::new("");
        std::fs::write(study.path("x.yaml"), bytes).unwrap();
        let out = study.output(&["plan", "x.yaml"]);
        assert!(!study.path(".scaleshot").exists(), "{name}: a file that is no pipeline made a store");
        (name, study, out)
    });
    hold(said.collect());
}

#[test]
fn pipelines_that_mean_nothing() {
    let node = |text: &str| {
        format!("pipeline: p\nparams: {{ lr: 0.1 }}\nnodes:\n  data: {{ table: {{ root: x.csv }} }}\n{text}\n")
    };
    let nodes = [
        ("unknown_kind", "  a: { tabel: { root: x.csv } }"),
        ("unknown_field", "  a: { table: { rot: x.csv } }"),
        ("unknown_node", "  a: { query: { tables: dat, sql: SELECT 1 } }"),
        ("unknown_parameter", "  a: { table: { root: \"${params.lrr}.csv\" } }"),
        ("unknown_variable", "  a: { table: { root: \"${env.SCALESHOT_NO_SUCH_VARIABLE}.csv\" } }"),
        ("missing_field", "  a: { query: { tables: data } }"),
        ("wrong_type", "  a: { compare: { metrics: data, across: x, resamples: many } }"),
        ("number_range", "  a: { scaling: { metrics: data, data_size: n, level: 2, resamples: 5 } }"),
        ("negative_resource", "  a: { resources: { threads: -1, timeout_s: 0 }, table: { root: x.csv } }"),
        (
            "wrong_artifact",
            "  a: { pretrain: { data: data, model: bit-r50x1, epochs: 1, optimizer: { sgd_agc: { lr: 0.1 } } } }",
        ),
        (
            "cycle",
            "  a: { query: { tables: b, sql: SELECT 1 } }\n  b: { query: { tables: c, sql: SELECT 1 } }\n  c: { query: { tables: a, sql: SELECT 1 } }",
        ),
        ("two_kinds", "  a: { table: { root: x.csv }, query: { tables: data, sql: SELECT 1 } }"),
    ];
    let said = nodes.into_iter().map(|(name, text)| {
        let study = study(&node(text));
        let out = study.output(&["plan", "x.yaml"]);
        (name, study, out)
    });
    hold(said.collect());
}

#[test]
fn commands_that_name_what_is_not_there() {
    let commands: [(&str, &[&str]); 12] = [
        ("no_file", &["plan", "nowhere.yaml"]),
        ("no_store", &["ls"]),
        ("unknown_store", &["ls", "--store", "s4://bucket/path"]),
        ("bad_cell", &["why", "x.yaml", "top[seed=1]"]),
        ("bad_node", &["plan", "x.yaml", "tob"]),
        ("bad_parameter", &["plan", "x.yaml", "-p", "m=1"]),
        ("bad_resource", &["run", "x.yaml", "--resource", "top.thread=1", "--resource", "tob.threads=1"]),
        ("no_threads", &["run", "x.yaml", "--threads", "0"]),
        ("unknown_command", &["rnu", "x.yaml"]),
        ("unknown_option", &["run", "x.yaml", "--job", "2"]),
        ("nothing_to_accept", &["accept", "x.yaml", "rows"]),
        ("nothing_to_freeze", &["freeze", "x.yaml", "rows"]),
    ];
    let said = commands.into_iter().map(|(name, words)| {
        let study = good();
        let out = study.output(words);
        (name, study, out)
    });
    hold(said.collect());
}

#[test]
fn cells_that_fail() {
    let mut said = Vec::new();
    let mut fails = |name: &'static str, pipeline: &str, words: &[&str]| {
        let study = study(pipeline);
        let out = run(&study, words);
        said.push((name, study, out));
    };
    fails("missing_source", &GOOD.replace("x.csv", "y.csv"), &[]);
    fails("unknown_column", &GOOD.replace("MAX(a)", "MAX(b)"), &["--keep-going"]);
    fails("unknown_table", &GOOD.replace("FROM rows", "FROM row"), &["top"]);
    fails("failing_program", &GOOD.replace("cp $", "echo no luck >&2; exit 7; cp $"), &[]);
    fails(
        "no_such_program",
        &GOOD.replace("\"cp $SCALESHOT_INPUTS/top/table.parquet .\"", "[no-such-program, x]"),
        &[],
    );
    fails("nothing_left", &GOOD.replace("cp $", "true $"), &[]);
    fails(
        "too_slow",
        &GOOD.replace(
            "copy: { command: { run: \"cp",
            "copy: { resources: { timeout_s: 0.2 }, command: { run: \"sleep 60; cp",
        ),
        &[],
    );
    fails("no_gpus", &GOOD.replace("copy: {", "copy: { resources: { gpus: 3 },"), &["--gpus", "0"]);
    fails("not_a_table", &GOOD.replace("x.csv", "x.yaml"), &["rows"]);
    hold(said);
}

/// The one blob that a cell left, with a bit changed.
fn damage(study: &Study, cell: &str) -> PathBuf {
    let shown: serde_json::Value = serde_json::from_str(&study.must(&["show", cell, "--json"])).unwrap();
    let digest = shown["outputs"]["table"]["files"][0]["digest"].as_str().unwrap().to_string();
    let path = study.path(&format!(".scaleshot/blobs/{}/{digest}", &digest[..2]));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[9] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn stores_that_are_damaged_or_closed() {
    let mut said = Vec::new();
    let study = good();
    study.must(&RUN);
    damage(&study, "rows");
    let out = study.output(&["verify"]);
    said.push(("damaged_blob", study, out));

    let study = good();
    study.must(&RUN);
    damage(&study, "rows");
    let out = run(&study, &["-p", "n=2"]);
    said.push(("damaged_input", study, out));

    let study = good();
    study.must(&RUN);
    let record = std::fs::read_dir(study.path(".scaleshot/records")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&record, "{}").unwrap();
    let out = study.output(&["gc"]);
    said.push(("damaged_record", study, out));

    let study = good();
    std::fs::write(study.path("file"), "").unwrap();
    let out = run(&study, &["--store", "file"]);
    said.push(("store_is_a_file", study, out));
    hold(said);
}

#[test]
fn a_store_that_can_only_be_read() {
    let study = good();
    study.must(&RUN);
    let mount = "mount --bind .scaleshot .scaleshot && mount -o remount,ro,bind .scaleshot";
    let mounted = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["-m", "sh", "-c", &format!("{mount} && {script}")]).current_dir(study.folder.path());
        command.env("S", env!("CARGO_BIN_EXE_scaleshot")).env_remove("SCALESHOT_STORE").output()
    };
    if !mounted("true").is_ok_and(|out| out.status.success()) {
        eprintln!("left out: this machine does not let a test mount a file system of its own");
        return;
    }
    let out = mounted("exec $S run x.yaml --threads 2 --jobs 1 -p n=2").unwrap();
    hold(vec![("read_only_store", study, out)]);
}
