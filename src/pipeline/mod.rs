//! Pipelines: one YAML file becomes a checked, expanded list of cells.
//!
//! ```text
//! bytes -> yaml (a tree with places) -> declaration (nodes, parameters, axes)
//!       -> expand (cells, in an order where parents come first) -> Pipeline
//! ```
//!
//! Everything wrong in a file is gathered in [`Diagnostics`] and reported in one go. Whether the files
//! and folders exist that a pipeline reads is not judged here: the planner calls such cells blocked.

mod brackets;
mod declaration;
mod diagnostic;
mod expand;
mod expectation;
mod include;
mod limits;
mod matrix;
mod parameters;
mod reach;
mod reference;
mod schema;
mod scope;
mod template;
mod validate;
mod yaml;

#[cfg(test)]
mod fixture;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

pub use self::{
    diagnostic::{Diagnostic, Diagnostics},
    limits::{Limits, memory_bytes},
    reference::{Reference, axis_text},
    schema::schema,
    yaml::YamlLimits,
};
use crate::kind::AnyKind;
use diagnostic::{Findings, Mark, did_you_mean};
use reach::Reach;

/// The kinds that a pipeline may use.
pub type Registry<'a> = &'a [&'static dyn AnyKind];

/// A whole pipeline, matrix expanded, in an order where parents come first. The cells of a node are
/// neighbours.
pub struct Pipeline {
    pub name: String,
    pub path: PathBuf,
    pub cells: Vec<CellSpec>,
}

/// One cell before anything about stores or keys is known.
pub struct CellSpec {
    /// `transfer[fraction=0.1,target=tb,shots=5,seed=0]`; the bare node name without axes.
    pub id: String,
    pub node: String,
    pub kind: &'static dyn AnyKind,
    /// Inherited and own axis values, outermost first.
    pub axes: Vec<(String, Value)>,
    /// Parameters with every `${…}` replaced; input fields still hold what was written there.
    pub params: Value,
    /// By input field: which outputs of which cells.
    pub inputs: BTreeMap<String, Vec<CellInput>>,
    /// What it may take of the machine, where the file says so. No part of any key.
    pub limits: Limits,
}

/// One output of an earlier cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellInput {
    /// Index into [`Pipeline::cells`].
    pub cell: usize,
    pub output: String,
}

/// What is said on the command line about a pipeline file.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// `-p name=value`: dotted names go into maps, values are YAML.
    pub params: Vec<(String, String)>,
    /// More cells than this are refused.
    pub max_cells: usize,
    pub yaml: YamlLimits,
    /// Where `${env.NAME}` is looked up.
    pub env: fn(&str) -> Option<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            params: Vec::new(),
            max_cells: 200_000,
            yaml: YamlLimits::default(),
            env: |name| std::env::var(name).ok(),
        }
    }
}

/// Reads, checks and expands a pipeline file with the kinds of this program.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Pipeline, Diagnostics> {
    load_with(crate::kind::KINDS, path, options)
}

/// One YAML value without templates, as it is typed on a command line.
///
/// # Errors
/// What is wrong with it.
pub fn parse_value(text: &str) -> Result<Value, String> {
    let mut findings = Findings::new(Path::new("the command line"), text);
    let node = yaml::parse(text, &YamlLimits::default(), &mut findings);
    match (node, findings.finish()) {
        (Some(node), None) => Ok(node.json()),
        (_, Some(diagnostics)) => Err(diagnostics.to_string()),
        (None, None) => Err("it is empty".into()),
    }
}

/// As [`load`], with other kinds.
pub fn load_with(registry: Registry, path: &Path, options: &LoadOptions) -> Result<Pipeline, Diagnostics> {
    match std::fs::read(path) {
        Ok(bytes) => parse_with(registry, path, &bytes, options),
        Err(e) => {
            let mut findings = Findings::new(path, "");
            findings.push(Mark::default(), "", format!("cannot read the pipeline: {e}"), None);
            Err(stopped(findings))
        }
    }
}

/// As [`load_with`], from bytes; `path` is for messages and for what the file includes.
pub fn parse_with(
    registry: Registry,
    path: &Path,
    bytes: &[u8],
    options: &LoadOptions,
) -> Result<Pipeline, Diagnostics> {
    let text = match yaml::decode(bytes, &options.yaml) {
        Ok(text) => text,
        Err(message) => {
            let mut findings = Findings::new(path, "");
            findings.push(Mark::default(), "", message, None);
            return Err(stopped(findings));
        }
    };
    let mut findings = Findings::new(path, text);
    let Some(root) = yaml::parse(text, &options.yaml, &mut findings) else { return Err(stopped(findings)) };
    let root = include::gather(root, path, &options.yaml, &mut findings);
    let declaration = declaration::declare(&root, registry, &options.params, options.env, &mut findings);
    let cells = expand::expand(&declaration, options.max_cells, &mut findings);
    match findings.finish() {
        Some(diagnostics) => Err(diagnostics),
        None => Ok(Pipeline { name: declaration.name, path: path.to_path_buf(), cells }),
    }
}

fn stopped(findings: Findings) -> Diagnostics {
    // `finish` is None only without a finding, and every caller has just pushed one.
    findings.finish().unwrap_or(Diagnostics { file: PathBuf::new(), items: Vec::new(), more: 0 })
}

impl Pipeline {
    /// The cells that words such as `transfer` and `transfer[shots=5]` mean, in the pipeline's order;
    /// all of them without words. `pretrain+` takes all that follows along, `+report` all that it needs.
    ///
    /// # Errors
    /// Every word that names nothing: (message, hint).
    pub fn select(&self, words: &[String]) -> Result<Vec<usize>, Vec<(String, Option<String>)>> {
        if words.is_empty() {
            return Ok((0..self.cells.len()).collect());
        }
        let mut chosen = vec![false; self.cells.len()];
        let mut wrong = Vec::new();
        for typed in words {
            let (word, reach) = Reach::of(typed);
            if let Some(i) = self.cells.iter().position(|c| c.id == *word) {
                reach.mark(&self.cells, vec![i], &mut chosen);
                continue;
            }
            let reference = match Reference::parse(word) {
                Ok(r) if r.output.is_none() => r,
                Ok(_) => {
                    wrong.push((format!("{word}: an output cannot be selected"), Some("name the node alone".into())));
                    continue;
                }
                Err(e) => {
                    wrong.push((e, None));
                    continue;
                }
            };
            let nodes = self.nodes();
            if !nodes.iter().any(|(n, _)| *n == reference.node) {
                let hint = did_you_mean(&reference.node, "nodes", nodes.iter().map(|(n, _)| *n));
                wrong.push((format!("unknown node {}", reference.node), hint));
                continue;
            }
            let selected = |c: &CellSpec| c.node == reference.node && reference.selects(&c.axes);
            let found: Vec<usize> = (0..self.cells.len()).filter(|&i| selected(&self.cells[i])).collect();
            let any = !found.is_empty();
            reach.mark(&self.cells, found, &mut chosen);
            if !any {
                let cells: Vec<&CellSpec> = self.cells.iter().filter(|c| c.node == reference.node).collect();
                wrong.push(expand::nothing_selected(&reference, &cells));
            }
        }
        if wrong.is_empty() { Ok((0..chosen.len()).filter(|&i| chosen[i]).collect()) } else { Err(wrong) }
    }

    /// Every node with the range of its cells, in the pipeline's order.
    pub fn nodes(&self) -> Vec<(&str, std::ops::Range<usize>)> {
        let mut out: Vec<(&str, std::ops::Range<usize>)> = Vec::new();
        for (i, cell) in self.cells.iter().enumerate() {
            match out.last_mut() {
                Some((name, range)) if *name == cell.node => range.end = i + 1,
                _ => out.push((&cell.node, i..i + 1)),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str, params: &[(&str, &str)]) -> Result<Pipeline, String> {
        let params = params.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let env = |name: &str| (name == "DATA").then(|| "/data".to_string());
        let options = LoadOptions { params, env, max_cells: 20_000, ..LoadOptions::default() };
        parse_with(fixture::KINDS, Path::new("p.yaml"), text.as_bytes(), &options).map_err(|d| d.to_string())
    }

    fn ids(p: &Pipeline) -> Vec<&str> {
        p.cells.iter().map(|c| c.id.as_str()).collect()
    }

    fn inputs(p: &Pipeline, id: &str, field: &str) -> Vec<String> {
        let cell = p.cells.iter().find(|c| c.id == id).unwrap();
        cell.inputs[field].iter().map(|i| format!("{}.{}", p.cells[i.cell].id, i.output)).collect()
    }

    const STUDY: &str = "
pipeline: study
params: { seeds: [0, 1], lr: { base: 0.03 }, root: '${env.DATA}/x' }
nodes:
  # Declared before what it needs.
  effect: { sum: { tables: tune, across: fraction } }
  a: { source: { format: image_folder, root: '${params.root}/a' } }
  b: { source: { format: cifar, root: b, classes: 10 } }
  joined: { join: { from: [a, b], views: [PA] } }
  part:
    matrix: { fraction: [0.1, 1.0] }
    join: { from: joined, fraction: '${fraction}' }
  train:
    description: the source models
    matrix: { data: { cells: part }, model: [small, large] }
    train: { data: '${data}', model: '${model}', optimizer: { sgd_agc: { lr: '${params.lr.base}' } } }
  tune:
    matrix:
      model: { cells: 'train[model=small]' }
      target: [a, b]
      shots: [1, full]
      seed: '${params.seeds}'
      exclude: [ { target: b, shots: full }, { fraction: 0.1, seed: 1 } ]
      include: [ { model: 'train[fraction=1,model=small]', target: b, shots: full, seed: 7 } ]
    tune: { model: '${model}', data: '${target}', shots: '${shots}', seed: '${seed}' }
  best: { sum: { tables: ['train[fraction=1].curve', 'tune[seed=7]', joined.origin] } }
";

    #[test]
    fn a_study_becomes_cells_in_an_order_where_parents_come_first() {
        let p = parse(STUDY, &[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            ids(&p),
            [
                "a",
                "b",
                "joined",
                "part[fraction=0.1]",
                "part[fraction=1.0]",
                "train[fraction=0.1,model=small]",
                "train[fraction=0.1,model=large]",
                "train[fraction=1.0,model=small]",
                "train[fraction=1.0,model=large]",
                "tune[fraction=0.1,model=small,target=a,shots=1,seed=0]",
                "tune[fraction=0.1,model=small,target=a,shots=full,seed=0]",
                "tune[fraction=0.1,model=small,target=b,shots=1,seed=0]",
                "tune[fraction=1.0,model=small,target=a,shots=1,seed=0]",
                "tune[fraction=1.0,model=small,target=a,shots=1,seed=1]",
                "tune[fraction=1.0,model=small,target=a,shots=full,seed=0]",
                "tune[fraction=1.0,model=small,target=a,shots=full,seed=1]",
                "tune[fraction=1.0,model=small,target=b,shots=1,seed=0]",
                "tune[fraction=1.0,model=small,target=b,shots=1,seed=1]",
                "tune[fraction=1.0,model=small,target=b,shots=full,seed=7]",
                "effect",
                "best",
            ]
        );
        let last = &p.cells[18];
        assert_eq!(
            last.params,
            json!({"model": "train[fraction=1.0,model=small]", "data": "b", "shots": "full", "seed": 7})
        );
        assert_eq!(inputs(&p, &last.id, "model"), ["train[fraction=1.0,model=small].model"]);
        assert_eq!(inputs(&p, &last.id, "data"), ["b.dataset"]);
        assert!(!last.inputs.contains_key("teacher"));
        assert_eq!(p.cells[5].params["optimizer"], json!({"sgd_agc": {"lr": 0.03}}));
        assert_eq!(p.cells[0].params["root"], json!("/data/x/a"));
        // One name stands for a list of one.
        assert_eq!(p.cells[3].params["from"], json!(["joined"]));
        assert_eq!(inputs(&p, "effect", "tables").len(), 10);
        assert!(inputs(&p, "effect", "tables").iter().all(|t| t.ends_with(".metrics")));
        assert_eq!(
            inputs(&p, "best", "tables"),
            [
                "train[fraction=1.0,model=small].curve",
                "train[fraction=1.0,model=large].curve",
                "tune[fraction=1.0,model=small,target=b,shots=full,seed=7].metrics",
                "joined.origin"
            ]
        );
        assert_eq!(p.nodes()[3], ("part", 3..5));
    }

    #[test]
    fn parameters_are_replaced_from_the_command_line() {
        let p = parse(STUDY, &[("seeds", "[5]"), ("lr.base", "1e-3"), ("root", "/elsewhere")])
            .unwrap_or_else(|e| panic!("{e}"));
        assert!(ids(&p).contains(&"tune[fraction=0.1,model=small,target=a,shots=1,seed=5]"));
        let lr = p.cells.iter().find(|c| c.node == "train").unwrap().params["optimizer"]["sgd_agc"]["lr"].clone();
        assert_eq!(lr, json!(0.001));
        assert_eq!(p.cells[0].params["root"], json!("/elsewhere/a"));
        let wrong = parse(STUDY, &[("seedz", "1"), ("lr.bas", "1"), ("seeds", "[1"), ("root", "5")]).err().unwrap();
        assert_eq!(
            wrong,
            "p.yaml: -p seedz: unknown parameter seedz\nhint: did you mean seeds?\n\
             p.yaml: -p lr.bas: unknown parameter lr.bas\nhint: did you mean base?\n\
             p.yaml: -p seeds: \"[1\" is not a value: the [ that opens here is not closed\n\
             hint: quote text that YAML reads otherwise"
        );
        let wrong = parse(STUDY, &[("seeds", "3")]).err().unwrap();
        assert_eq!(
            wrong,
            "p.yaml:22:13: node tune: axis seed: expected a list of values\n  \
             22 |       seed: '${params.seeds}'\n     |             ^^^^^^^^^^^^^^^^^\nhint: write [3]"
        );
    }

    #[test]
    fn columns_of_one_name_are_told_apart() {
        let text = "
pipeline: p
nodes:
  a: { matrix: { seed: [0, 1], same: [x] }, source: { format: cifar, root: '${seed}/${same}' } }
  b: { source: { format: cifar, root: b } }
  m: { matrix: { data: { cells: a }, seed: [7] }, train: { data: '${data}', model: 'm${data.seed}-${seed}' } }
  t: { matrix: { model: { cells: m }, data: { cells: a } }, tune: { model: '${model}', data: '${data}', shots: 1, seed: '${data.seed}' } }
  u: { matrix: { x: { cells: b } }, train: { data: '${x}', model: '${same}' } }
";
        let wrong = parse(text, &[]).err().unwrap();
        assert_eq!(
            wrong,
            "p.yaml:8:67: node u: ${same} is not an axis\n  \
             8 |   u: { matrix: { x: { cells: b } }, train: { data: '${x}', model: '${same}' } }\n    \
             |                                                                   ^^^^^^^^^^\nhint: known axes: x"
        );
        let p = parse(&text.replace("'${same}' } }", "s } }"), &[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            ids(&p),
            [
                "a[seed=0,same=x]",
                "a[seed=1,same=x]",
                "b",
                "m[data.seed=0,same=x,seed=7]",
                "m[data.seed=1,same=x,seed=7]",
                "t[model.data.seed=0,same=x,model.seed=7,data.seed=0]",
                "t[model.data.seed=0,same=x,model.seed=7,data.seed=1]",
                "t[model.data.seed=1,same=x,model.seed=7,data.seed=0]",
                "t[model.data.seed=1,same=x,model.seed=7,data.seed=1]",
                "u[x=b]",
            ]
        );
        assert_eq!(p.cells[3].params["model"], json!("m0-7"));
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let text = "pipeline: p
parms: {}
nodes:
  a: { source: { format: image_foldr, root: a } }
  b: { join: { from: [a, c, 5], views: [PA, LAT], fraction: 1.5 } }
  c: { source: { format: cifar, root: c, classes: ten } }
  d: { trian: { data: a } }
  e: { train: { data: nowhere, model: m, epoch: 3 }, epochs: 4 }
  f: { kind: merge, from: [a] }
  g: { train: { data: i, model: m, optimizer: { sgd_agc: { momentum: 1 } } } }
  h: { tune: { model: c, data: c, shots: ful, teacher: g.curve } }
  i: { matrix: { x: [1, 2], y: [], z: { cell: a } }, join: { from: [] } }
  j: { matrix: { x: [1, 2, 1] }, source: { format: cifar, root: '${y}' } }
  k: { train: { data: l, model: m } }
  l: { join: { from: [c, m] } }
  m: { join: { from: k } }
";
        let wrong = parse(text, &[]).err().unwrap();
        assert_eq!(wrong, include_str!("fixture/wrong.txt").trim_end());
    }

    #[test]
    fn one_cell_is_asked_for_where_one_is_needed() {
        let text = "
pipeline: p
nodes:
  a: { matrix: { n: [1, 2] }, source: { format: cifar, root: 'r${n}' } }
  b: { train: { data: a, model: m } }
  c: { train: { data: 'a[n=3]', model: m } }
  d: { train: { data: 'a[m=1]', model: m } }
  e: { train: { data: 'a[n=2]', model: m } }
  f: { sum: { tables: [e.curv, e.model, a] } }
";
        let wrong = parse(text, &[]).err().unwrap();
        let messages: Vec<&str> = wrong.lines().filter(|l| l.starts_with("p.yaml") || l.starts_with("hint")).collect();
        assert_eq!(
            messages,
            [
                "p.yaml:5:23: node b: data: a has 2 cells, and one is needed",
                "hint: matrix: { data: { cells: a } } with data: \"${data}\" takes each in turn; a[n=1] is one of them",
                "p.yaml:6:23: node c: data: a has no cell with n=3",
                "hint: n is one of 1, 2",
                "p.yaml:7:23: node d: data: a has no axis m",
                "hint: known axes: n",
                "p.yaml:9:24: node f: tables: e has no output curv",
                "hint: did you mean curve?",
                "p.yaml:9:32: node f: tables: e.model is model, not table",
                "p.yaml:9:41: node f: tables: a (source) makes dataset, and table is needed",
                "hint: nodes that make it: b, c, d, e, f",
            ]
        );
    }

    #[test]
    fn unreadable_files_say_so() {
        assert_eq!(
            parse("", &[]).err().unwrap(),
            "p.yaml:1:1: the file is empty\nhint: it begins with pipeline: NAME and has nodes: { … }"
        );
        let options = LoadOptions::default();
        let missing = load_with(fixture::KINDS, Path::new("no/such.yaml"), &options).err().unwrap().to_string();
        assert!(missing.starts_with("no/such.yaml: cannot read the pipeline: "), "{missing}");
        let bytes = parse_with(fixture::KINDS, Path::new("p.yaml"), b"a\n\xff", &options).err().unwrap().to_string();
        assert_eq!(bytes, "p.yaml: line 2 is not UTF-8 (byte 2 of the file)");
    }

    #[test]
    fn too_many_cells_are_refused_before_they_are_made() {
        let axes: Vec<String> = (0..12).map(|i| format!("x{i}: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]")).collect();
        let text = format!(
            "pipeline: p\nnodes:\n  a:\n    matrix: {{ {} }}\n    source: {{ format: cifar, root: a }}\n",
            axes.join(", ")
        );
        let wrong = parse(&text, &[]).err().unwrap();
        assert!(wrong.contains("node a: 1000000000000 cells on top of 0, and 20000 are allowed"), "{wrong}");
    }

    #[test]
    fn ten_thousand_cells_and_long_chains_are_no_trouble() {
        let text = "
pipeline: p
nodes:
  a: { source: { format: cifar, root: a } }
  m: { matrix: { i: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], model: [a, b, c, d, e, f, g, h, i, j] }, train: { data: a, model: '${model}${i}' } }
  t:
    matrix: { model: { cells: m }, shots: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] }
    tune: { model: '${model}', data: a, shots: '${shots}', seed: '${seed}' }
  s: { sum: { tables: t } }
";
        let p = parse(text, &[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(p.cells.len(), 1 + 100 + 10_000 + 1);
        let mut chain = String::from("pipeline: p\nnodes:\n");
        for i in 0..5_000 {
            chain.push_str(&format!("  n{i}: {{ join: {{ from: n{} }} }}\n", i + 1));
        }
        chain.push_str("  n5000: { source: { format: cifar, root: a } }\n");
        let p = parse(&chain, &[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((p.cells[0].id.as_str(), p.cells.len()), ("n5000", 5_001));
    }

    #[test]
    fn words_select_cells() {
        let p = parse(STUDY, &[]).unwrap_or_else(|e| panic!("{e}"));
        let words = |words: &[&str]| p.select(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>());
        assert_eq!(words(&[]).unwrap().len(), p.cells.len());
        assert_eq!(words(&["tune[shots=full,seed=0]", "a"]).unwrap(), [0, 10, 14]);
        // train[fraction=0.1,model=small] feeds three cells of tune, those the sum of all.
        assert_eq!(words(&["train[fraction=0.1,model=small]+"]).unwrap(), [5, 9, 10, 11, 19]);
        assert_eq!(words(&["+part[fraction=1.0]"]).unwrap(), [0, 1, 2, 4]);
        let around = words(&["+train[fraction=0.1,model=small]+"]).unwrap();
        assert_eq!(around, [0, 1, 2, 3, 5, 9, 10, 11, 19]);
        assert_eq!(words(&["tun+"]).unwrap_err()[0].0, "unknown node tun");
        let wrong = words(&["tun", "part[fraction=0.3]", "a.dataset", "[x"]).unwrap_err();
        assert_eq!(
            wrong,
            [
                ("unknown node tun".to_string(), Some("did you mean tune?".to_string())),
                ("part has no cell with fraction=0.3".into(), Some("fraction is one of 0.1, 1.0".into())),
                ("a.dataset: an output cannot be selected".into(), Some("name the node alone".into())),
                ("[ is not closed in [x".into(), None),
            ]
        );
    }
}
