//! What a wrong pipeline prints, whole: every mistake at once, at its place, with the way out.

#[path = "errors/scenes.rs"]
mod scenes;
#[path = "errors/snapshot.rs"]
mod snapshot;
mod study;

use study::{Study, TINY};

const BROKEN: &str = r##"pipeline: broken
params: { lr: 0.1 }
nodes:
  a: { dataset: { format: phantom, layout: nih, patients: 3, sead: 1 } }
  pixels: { images: { data: a, size_px: big } }
  b:
    pretrain: { data: pixls, model: bit-r50x, epochs: 2, optimizer: { sgd_agc: { lr: "${params.lrr}" } } }
  c: { transfr: { model: b, data: pixels } }
  d: { query: { tables: [e], sql: SELECT 1 } }
  e: { query: { tables: [d], sql: SELECT 1 } }
  f:
    matrix: { shots: [] }
    transfer: { model: pixels, data: pixels, shots: "${shots}" }
  a: { table: { root: x.csv } }
"##;

const SAID: &str = r##"x.yaml:4:62: node a: unknown field sead
  4 |   a: { dataset: { format: phantom, layout: nih, patients: 3, sead: 1 } }
    |                                                              ^^^^
hint: did you mean seed?
x.yaml:5:41: node pixels: size_px: expected an integer, got "big"
  5 |   pixels: { images: { data: a, size_px: big } }
    |                                         ^^^
x.yaml:7:23: node b: data: unknown node pixls
  7 |     pretrain: { data: pixls, model: bit-r50x, epochs: 2, optimizer: { sgd_agc: { lr: "${params.lrr}" } } }
    |                       ^^^^^
hint: did you mean pixels?
x.yaml:7:86: node b: unknown parameter lrr in ${params.lrr}
  7 |     pretrain: { data: pixls, model: bit-r50x, epochs: 2, optimizer: { sgd_agc: { lr: "${params.lrr}" } } }
    |                                                                                      ^^^^^^^^^^^^^^^^
hint: did you mean lr?
x.yaml:8:8: node c: unknown kind transfr
  8 |   c: { transfr: { model: b, data: pixels } }
    |        ^^^^^^^
hint: did you mean transfer?
x.yaml:10:26: node e: cycle: d needs e needs d
  10 |   e: { query: { tables: [d], sql: SELECT 1 } }
     |                          ^
x.yaml:12:22: node f: axis shots is empty, so the node has no cells
  12 |     matrix: { shots: [] }
     |                      ^
x.yaml:14:3: a is given twice (first in line 4)
  14 |   a: { table: { root: x.csv } }
     |   ^
hint: YAML would keep the last one alone
"##;

#[test]
fn every_mistake_is_reported_at_once() {
    let study = Study::new(BROKEN);
    let out = study.output(&["run", "x.yaml"]);
    assert_eq!(String::from_utf8_lossy(&out.stderr), SAID);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
    assert!(!study.path(".scaleshot").exists(), "an invalid pipeline made a store");
}

#[test]
fn artifacts_of_the_wrong_type_are_refused() {
    let wrong = TINY.replace("      data: target_pixels\n      shots", "      data: merged.sources\n      shots");
    let study = Study::new(&wrong);
    let out = study.output(&["plan", "x.yaml"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("node transfer: data: merged.sources") && said.contains("table"), "{said}");
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn a_parameter_of_another_name_is_near_the_right_one() {
    let study = Study::new(TINY);
    let out = study.output(&["plan", "x.yaml", "-p", "epoch=3"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("epoch") && said.contains("did you mean epochs?"), "{said}");
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn a_cell_that_fails_names_itself_and_its_dependents_are_skipped() {
    let study = Study::new(&TINY.replace("shots: [1, full]", "shots: [1, 99]"));
    let out = study.output(&["run", "x.yaml", "--keep-going", "--json"]);
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8(out.stdout).unwrap();
    let failed: Vec<&str> = text.lines().filter(|l| l.contains("\"event\":\"failed\"")).collect();
    assert_eq!(failed.len(), 4, "{text}");
    assert!(failed[0].contains("has 8 training images, 99 shots were asked for"), "{}", failed[0]);
    assert!(text.lines().any(|l| l.contains("\"event\":\"skipped\"") && l.contains("\"cell\":\"report\"")), "{text}");
    let done = |l: &&str| l.contains("\"event\":\"done\"") && l.contains("shots=1,");
    assert_eq!(text.lines().filter(done).count(), 4, "what needs nothing of the failed cells goes on");
}

/// Memory that a plan of a hostile file may ask for.
const MEMORY_KIB: u64 = 4 << 20;

/// A file that wants to be trouble: its bytes, and what is said of it.
type Hostile = (&'static str, Vec<u8>, &'static str);

#[test]
fn hostile_files_are_refused_in_little_memory_and_say_why() {
    let mut bomb = String::from("pipeline: p\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")));
    }
    let deep = |open: &str| format!("pipeline: p\nnodes: {}", open.repeat(200_000)).into_bytes();
    let wide: String = (0..12).map(|i| format!("x{i}: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], ")).collect();
    let wide = format!("pipeline: p\nnodes:\n  a:\n    matrix: {{ {wide} }}\n    table: {{ root: x.csv }}\n");
    let cases: Vec<Hostile> = vec![
        ("a bomb of aliases", bomb.into_bytes(), "aliases make more than"),
        ("deep lists", deep("["), "nested more than 64 deep"),
        ("deep maps", deep("{ a: "), "nested more than 64 deep"),
        (
            "deep blocks",
            (0..3000).map(|i| " ".repeat(i) + "a:\n").collect::<String>().into_bytes(),
            "nested more than 64 deep",
        ),
        ("a huge matrix", wide.into_bytes(), "1000000000000 cells on top of 0, and 200000 are allowed"),
        (
            "a file of 17 MiB",
            b"pipeline: p\n".iter().copied().chain(vec![b'#'; 17 << 20]).collect(),
            "17825804 bytes, more than the 16777216",
        ),
        ("other bytes than UTF-8", b"pipeline: p\nnodes: { a: \xff }\n".to_vec(), "line 2 is not UTF-8"),
        ("UTF-16", "pipeline: p\n".encode_utf16().flat_map(u16::to_le_bytes).collect(), "the file is UTF-16"),
        ("a tab", b"pipeline: p\nnodes:\n\ta: 1\n".to_vec(), "x.yaml:3:1: a tab stands in the indentation"),
        ("a zero byte", b"pipeline: p\nnodes: { a\0: 1 }\n".to_vec(), "x.yaml:2:11: the character U+0000 cannot stand"),
        ("an alias of itself", b"pipeline: p\nnodes: &n { a: *n }\n".to_vec(), "an alias inside of what it names"),
    ];
    for (what, bytes, part) in cases {
        let study = Study::new("");
        std::fs::write(study.path("x.yaml"), bytes).unwrap();
        // A file that grows as it is read would take all that there is.
        let limited = format!("ulimit -v {MEMORY_KIB} && exec \"$0\" plan x.yaml");
        let mut plan = std::process::Command::new("sh");
        plan.args(["-c", &limited, env!("CARGO_BIN_EXE_scaleshot")]).current_dir(study.folder.path());
        let out = plan.env_remove("SCALESHOT_STORE").output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{what}: {said}");
        assert!(said.contains(part) && !said.contains("panicked"), "{what}: {said}");
        assert!(said.len() < 5_000, "{what}: {} bytes of message", said.len());
    }
}

#[test]
fn the_limit_on_cells_is_told_and_may_be_moved() {
    let axis: Vec<String> = (0..300).map(|i| i.to_string()).collect();
    let study = Study::new(&format!(
        "pipeline: p\nnodes:\n  a:\n    matrix: {{ x: [{}] }}\n    table: {{ root: \"${{x}}.csv\" }}\n",
        axis.join(", ")
    ));
    let out = study.output(&["plan", "x.yaml", "--max-cells", "200"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(2) && said.contains("--max-cells"), "{said}");
    assert_eq!(study.plan(&["--max-cells", "300"]).len(), 300);
}
