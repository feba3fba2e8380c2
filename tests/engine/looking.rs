//! Commands that only look, and what they leave behind: nothing.

use super::*;

#[test]
fn who_only_looks_leaves_no_store_behind() {
    let chain = Chain::new();
    for (words, code) in [
        (&["plan", "x.yaml"][..], 0),
        (&["why", "x.yaml", "numbers"], 0),
        (&["run", "x.yaml", "--dry-run"], 0),
        (&["graph", "x.yaml"], 0),
        (&["freeze", "x.yaml", "numbers"], 2),
    ] {
        let out = chain.output(words);
        assert_eq!(out.status.code(), Some(code), "{words:?}: {}", text(&out.stderr));
        assert!(!chain.0.path(".scaleshot").exists(), "{words:?} made a store");
        let out = chain.output(&[words, &["--store", "some/where"]].concat());
        assert!(words[0] == "graph" || out.status.code() == Some(code), "{words:?}: {}", text(&out.stderr));
        assert!(!chain.0.path("some").exists(), "{words:?} made a store");
    }
    // One that is there stays, empty or not.
    std::fs::create_dir(chain.0.path(".scaleshot")).unwrap();
    chain.must(&["plan", "x.yaml"]);
    assert!(chain.0.path(".scaleshot").exists());
    assert_eq!(chain.ran(&[]), ALL);
}

#[test]
fn sources_that_were_read_to_plan_need_not_be_read_again() {
    let study = Study::new("pipeline: p\nnodes:\n  t: { table: { root: t.csv } }\n");
    std::fs::write(study.path("t.csv"), "x\n1\n").unwrap();
    // What was written within the last moment may change unseen, and is not remembered.
    let begun = Instant::now();
    while !study.path(".scaleshot").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is remembered");
        study.must(&["plan", "x.yaml"]);
    }
    let left: Vec<String> = walk(&study.path(".scaleshot"))
        .iter()
        .map(|path| path.strip_prefix(study.path(".scaleshot")).unwrap().display().to_string())
        .collect();
    assert!(left.iter().all(|name| name.starts_with("sources/")), "{left:?}");
}

#[test]
fn cells_of_one_key_are_computed_once_and_say_so() {
    let study = Study::new(
        r#"pipeline: twins
nodes:
  a: { command: { run: "sleep 0.3; echo 1 > x", outputs: { files: { type: files, path: x } } } }
  b: { command: { run: "sleep 0.3; echo 1 > x", outputs: { files: { type: files, path: x } } } }
"#,
    );
    let out = study.output(&["run", "x.yaml", "--threads", "2"]);
    let told = text(&out.stderr);
    assert!(out.status.success() && told.contains("1 ran") && told.contains("1 spared"), "{told}");
    let same = told.contains("fresh b, it is the same as a") || told.contains("fresh a, it is the same as b");
    assert!(same && !told.contains("another process") && !told.contains("as they were"), "{told}");
}

#[test]
fn a_hand_changed_result_is_told_on_every_page() {
    let study = Study::new(
        r#"pipeline: pages
params: { n: 1 }
nodes:
  t: { table: { root: t.csv } }
  q: { query: { tables: t, sql: "SELECT x + ${params.n} AS x FROM t" } }
  r: { report: { tables: [q] } }
"#,
    );
    std::fs::write(study.path("t.csv"), "x\n1\n").unwrap();
    study.must(&["run", "x.yaml"]);
    let page = |name: &str| std::fs::read_to_string(study.path(&format!("reports/pages/{name}"))).unwrap();
    assert!(!page("index.html").contains("by hand") && !page("run.html").contains("accepted"));
    // Another table of the same columns, from the store itself.
    let shown: Value = serde_json::from_str(&study.must(&["show", "t", "--json"])).unwrap();
    let digest = shown["outputs"]["table"]["files"][0]["digest"].as_str().unwrap();
    std::fs::create_dir_all(study.path("mine/table")).unwrap();
    let blob = study.path(&format!(".scaleshot/blobs/{}/{digest}", &digest[..2]));
    std::fs::copy(blob, study.path("mine/table/table.parquet")).unwrap();
    study.must(&["accept", "x.yaml", "q", "--from", "mine", "--note", "checked by eye"]);
    assert_eq!(study.ran(&[]), ["r"]);
    for name in ["index.html", "run.html", "study.html", "provenance.json"] {
        let html = page(name);
        assert!(html.contains("accepted") && html.contains("table/table.parquet put in by hand"), "{name}: {html}");
    }
    assert!(page("run.html").contains("1 accepted, not computed"), "{}", page("run.html"));
    study.must(&["verify"]);
}

#[test]
fn an_import_takes_the_cells_of_the_parameters_that_are_named() {
    let chain = Chain::new();
    chain.ran(&[]);
    chain.ran(&["-p", "factor=3"]);
    let import = ["import", ".scaleshot", "--of", "x.yaml", "-p", "factor=3", "--store", "third"];
    assert!(chain.must(&import).starts_with("5 cells copied"));
    assert_eq!(chain.ran(&["--store", "third", "-p", "factor=3"]), [""; 0]);
    assert_eq!(chain.ran(&["--store", "third"]).len(), 3);
    let alone = chain.output(&["import", ".scaleshot", "-p", "factor=3", "--store", "fourth"]);
    assert_eq!(alone.status.code(), Some(2), "parameters of no pipeline");
}
