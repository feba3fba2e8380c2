//! Keys: what enters them and what does not.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    fixture::{Builder, WRITE_2, tree},
    *,
};
use crate::store::artifact::{Artifact, ArtifactType, FileRef};

/// Outputs with one file of this content.
fn made(content: &str) -> Outputs {
    let file = FileRef { name: "t.txt".into(), digest: Digest::of(content.as_bytes()), bytes: content.len() as u64 };
    BTreeMap::from([("table".to_string(), Artifact::new(ArtifactType::Table, vec![file]))])
}

/// The key of the last cell, whose parents made `contents`.
fn key_in(store: &Store, pipeline: Builder, contents: &[&str]) -> Digest {
    let pipeline = pipeline.build();
    let sources = SourceIndex::open(store).unwrap();
    let options = PlanOptions::default();
    let planner = Planner::new(&pipeline, store, &sources, &options).unwrap();
    let outputs: Vec<Outputs> = contents.iter().map(|c| made(c)).collect();
    let verdict = planner.judge(pipeline.cells.len() - 1, &|parent| Parent::Known(&outputs[parent])).unwrap();
    assert_eq!(verdict.state, State::Run, "{:?}", verdict.reasons);
    verdict.key.unwrap()
}

fn key(pipeline: Builder, contents: &[&str]) -> Digest {
    key_in(&Store::open("memory://").unwrap(), pipeline, contents)
}

fn alone(params: Value) -> Digest {
    key(Builder::new().cell("a", params, &[]), &[])
}

#[test]
fn spelling_order_and_defaults_do_not_enter() {
    let text: Value = serde_json::from_str(r#"{"text": "x", "lr": 0.003, "optimizer": {"a": 1.0, "b": 2.0}}"#).unwrap();
    let turned: Value = serde_json::from_str(r#"{"optimizer": {"b": 2, "a": 1}, "text": "x"}"#).unwrap();
    assert_eq!(alone(text.clone()), alone(turned));
    let mut with_null = text.clone();
    with_null["option"] = Value::Null;
    assert_eq!(alone(text), alone(with_null));
}

#[test]
fn every_parameter_and_the_version_enter() {
    let keys = [
        alone(json!({})),
        alone(json!({"text": "x"})),
        alone(json!({"lr": 0.01})),
        alone(json!({"option": ""})),
        alone(json!({"optimizer": {"a.b": 1}})),
        alone(json!({"optimizer": {"a": 1, "b": 1}})),
        alone(json!({"mode": "length"})),
        key(Builder::new().cell("a", json!({}), &[]).kind(&WRITE_2), &[]),
    ];
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
}

#[test]
fn names_of_nodes_and_cells_do_not_enter_unless_they_are_written_out() {
    let chain = |first: &str, second: &str, field: &str| {
        let parent = Builder::new().cell(first, json!({}), &[]);
        key(parent.cell(second, json!({"text": "x"}), &[(field, &[0])]), &["t"])
    };
    assert_eq!(chain("a", "b", "data"), chain("c", "d", "data"));
    assert_eq!(chain("a", "b", "all"), chain("c", "d", "all"));
    assert_ne!(chain("a", "b", "named"), chain("c", "b", "named"));
    assert_eq!(chain("a", "b", "named"), chain("a", "d", "named"));
    assert_ne!(chain("a", "b", "data"), chain("a", "b", "all"));
}

#[test]
fn content_axes_order_and_grouping_of_inputs_enter() {
    // Two cells of one node, or of two, into one field.
    let two = |nodes: [&str; 2], seeds: [u64; 2], field: &str, order: &[usize]| {
        let mut pipeline = Builder::new();
        for (i, (node, seed)) in nodes.iter().zip(seeds).enumerate() {
            pipeline = pipeline.matrix_cell(&format!("{node}{i}"), node, &[("seed", json!(seed))], json!({}), &[]);
        }
        pipeline.cell("b", json!({}), &[(field, order)])
    };
    let base = key(two(["a", "a"], [0, 1], "all", &[0, 1]), &["x", "y"]);
    assert_eq!(base, key(two(["n", "n"], [0, 1], "all", &[0, 1]), &["x", "y"]));
    let others = [
        key(two(["a", "a"], [0, 1], "all", &[0, 1]), &["x", "z"]),
        key(two(["a", "a"], [0, 2], "all", &[0, 1]), &["x", "y"]),
        key(two(["a", "a"], [0, 1], "all", &[1, 0]), &["x", "y"]),
        key(two(["a", "b"], [0, 1], "all", &[0, 1]), &["x", "y"]),
        key(two(["a", "a"], [0, 1], "all", &[0]), &["x", "y"]),
    ];
    let all: HashSet<Digest> = others.iter().copied().chain([base]).collect();
    assert_eq!(all.len(), others.len() + 1);
    // A field of one cell sees the artifact only: its axes are no columns.
    let one = |seed| key(two(["a", "a"], [seed, 1], "data", &[0]), &["x", "y"]);
    assert_eq!(one(0), one(9));
}

#[test]
fn the_place_of_store_and_sources_does_not_enter_and_their_content_does() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let root = folder.path().join(name);
        tree(&root, &[("a.csv", "1"), ("sub/b.csv", text)]);
        let store = Store::open(folder.path().join(format!("store {name}"))).unwrap();
        key_in(&store, Builder::new().cell("a", json!({"root": root}), &[]), &[])
    };
    assert_eq!(at("here", "2"), at("there", "2"));
    assert_ne!(at("here", "2"), at("elsewhere", "3"));
}

#[test]
fn what_is_missing_blocks_with_the_way_to_obtain_it() {
    let store = Store::open("memory://").unwrap();
    let sources = SourceIndex::open(&store).unwrap();
    let pipeline = Builder::new()
        .cell("a", json!({"root": "no/such/folder"}), &[])
        .cell("b", json!({}), &[("data", &[0])])
        .cell("c", json!({}), &[])
        .build();
    let plan = plan(&pipeline, &store, &sources, &PlanOptions::default()).unwrap();
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(
        json["cells"][0],
        json!({"cell": "a", "kind": "write", "state": "blocked", "key": null,
               "reasons": ["source root is missing: no/such/folder (run make data)"]})
    );
    assert_eq!(json["cells"][1]["reasons"], json!(["blocked by a"]));
    assert_eq!(json["cells"][2]["reasons"], json!(["never ran"]));
    assert_eq!(json["cells"][2]["key"], json!(plan.cells[2].key.unwrap().hex()));
}

#[test]
fn a_selection_takes_what_it_needs_and_nothing_else() {
    let store = Store::open("memory://").unwrap();
    let sources = SourceIndex::open(&store).unwrap();
    let pipeline = Builder::new()
        .cell("a", json!({}), &[])
        .cell("b", json!({"text": "b"}), &[])
        .cell("c", json!({}), &[("data", &[0])])
        .cell("d", json!({}), &[("all", &[1, 2])])
        .build();
    let options = PlanOptions { only: Some(vec![2]), ..PlanOptions::default() };
    let plan = plan(&pipeline, &store, &sources, &options).unwrap();
    let told: Vec<(&str, String)> = plan.cells.iter().map(|c| (c.cell.as_str(), c.reasons[0].to_string())).collect();
    assert_eq!(told, [("a", "never ran".into()), ("c", "never ran".into())]);
    assert_eq!(plan.cells[1].reasons[1].to_string(), "waits for a");
    let why = why(&pipeline, &store, &sources, &PlanOptions::default(), 2).unwrap();
    assert_eq!((why.planned.cell.as_str(), why.last), ("c", None));
    assert_eq!(why.parts[0], Part::Kind { name: "write".into(), version: 1 });
}
