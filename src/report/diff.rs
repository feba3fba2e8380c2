//! Two runs, or two cells, beside each other: parameters, inputs, versions and metrics.
//!
//! Cells of runs are paired by name. What changed alike in many cells of a node is one line with a count; metrics are
//! compared in pairs, and a mean is over the pairs that have the metric on both sides. A null stays a null.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    frame::{self, Rows, label},
    html::{Page, Table},
};
use crate::{
    error::Result,
    store::{Store, part::Part, record::Record},
};

mod text;

pub use text::{markdown, text};

/// What is compared of one cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub key: String,
    /// `transfer 3`.
    pub kind: String,
    pub params: BTreeMap<String, Value>,
    /// Digests of inputs and outside files, by field; those of a field with many are one.
    pub inputs: BTreeMap<String, String>,
    /// Digests by output.
    pub outputs: BTreeMap<String, String>,
    /// Over all classes.
    pub metrics: BTreeMap<String, Value>,
    pub program: String,
}

/// A run or a cell under the name that it was asked for by.
#[derive(Clone, Debug, Default)]
pub struct Side {
    pub name: String,
    /// By cell name.
    pub cells: BTreeMap<String, Snapshot>,
}

/// Metrics over all classes of a record's tables; what cannot be read is left out.
pub fn metrics(store: &Store, record: &Record) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    let tables =
        record.outputs.iter().filter(|(name, _)| *name == "metrics").filter_map(|(_, a)| a.file("table.parquet"));
    for file in tables {
        let Ok(table) = store.local(&file.digest).and_then(|path| frame::read_parquet(&path)) else { continue };
        let column = |name: &str| frame::values(&table, name);
        let (Ok(metric), Ok(class), Ok(value)) = (column("metric"), column("class"), column("value")) else { continue };
        for row in (0..table.height()).filter(|&r| class[r].is_null()) {
            out.insert(label(&metric[row]), value[row].clone());
        }
    }
    out
}

impl Snapshot {
    pub fn of(record: &Record, store: &Store) -> Self {
        let mut out = Snapshot {
            key: record.key.hex(),
            kind: format!("{} {}", record.kind, record.kind_version),
            outputs: record.outputs.iter().map(|(name, a)| (name.clone(), a.digest().hex())).collect(),
            metrics: metrics(store, record),
            program: record.program.clone(),
            ..Snapshot::default()
        };
        let mut inputs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for part in &record.parts {
            match part {
                Part::Kind { .. } => {}
                Part::Param { path, value } => {
                    out.params.insert(path.clone(), value.clone());
                }
                Part::Input { field, digest, .. } => inputs.entry(field.clone()).or_default().push(digest.hex()),
                Part::Source { field, digest, .. } => inputs.entry(field.clone()).or_default().push(digest.hex()),
            }
        }
        out.inputs = inputs.into_iter().map(|(field, all)| (field, joined(all))).collect();
        out
    }

    /// One cell of a `provenance.json`.
    fn of_json(cell: &Value) -> Self {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let map = |v: &Value| v.as_object().cloned().unwrap_or_default().into_iter().collect::<BTreeMap<_, _>>();
        let mut inputs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for input in ["inputs", "sources"].iter().flat_map(|k| cell[*k].as_array().into_iter().flatten()) {
            inputs.entry(text(&input["field"])).or_default().push(text(&input["digest"]));
        }
        Snapshot {
            key: text(&cell["key"]),
            kind: format!("{} {}", text(&cell["kind"]), cell["kind_version"]),
            params: map(&cell["params"]),
            inputs: inputs.into_iter().map(|(field, all)| (field, joined(all))).collect(),
            outputs: map(&cell["outputs"]).into_iter().map(|(n, o)| (n, text(&o["digest"]))).collect(),
            metrics: map(&cell["metrics"]),
            program: text(&cell["program"]),
        }
    }
}

fn joined(all: Vec<String>) -> String {
    match all.as_slice() {
        [one] => one.clone(),
        many => format!("{} ({} inputs)", crate::digest::Digest::of(many.concat().as_bytes()).hex(), many.len()),
    }
}

impl Side {
    /// A run from the `provenance.json` beside its report.
    pub fn of_json(name: &str, json: &Value) -> Option<Self> {
        let cells = json["cells"].as_array()?;
        let cells =
            cells.iter().filter_map(|c| Some((c["cell"].as_str()?.to_string(), Snapshot::of_json(c)))).collect();
        Some(Side { name: name.into(), cells })
    }
}

/// One thing that is not the same, in so many cells of a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub node: String,
    /// `param steps`, `input data`, `kind`, `program`.
    pub what: String,
    pub a: Value,
    pub b: Value,
    /// In alphabetical order.
    pub cells: Vec<String>,
}

/// A metric of a node over the pairs of cells that have it on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    pub node: String,
    pub metric: String,
    pub pairs: usize,
    pub mean_a: f64,
    pub mean_b: f64,
    /// Pairs in which b is higher, and lower.
    pub higher: usize,
    pub lower: usize,
    /// Pairs that lack it on one side.
    pub undefined: usize,
}

/// A metric of one cell that is not the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    pub cell: String,
    pub metric: String,
    pub a: Value,
    pub b: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    pub a: String,
    pub b: String,
    pub cells_a: usize,
    pub cells_b: usize,
    /// Cells with one key on both sides, which therefore agree in everything.
    pub same: usize,
    pub only_a: Vec<String>,
    pub only_b: Vec<String>,
    pub changes: Vec<Change>,
    pub metrics: Vec<Metric>,
    pub moved: Vec<Moved>,
    /// Cells whose outputs differ.
    pub outputs: Vec<String>,
}

fn node(cell: &str) -> &str {
    cell.split('[').next().unwrap_or(cell)
}

/// Compares two sides. Where each holds one cell, the two are a pair whatever they are called.
pub fn difference(a: &Side, b: &Side) -> Difference {
    let mut out = Difference {
        a: a.name.clone(),
        b: b.name.clone(),
        cells_a: a.cells.len(),
        cells_b: b.cells.len(),
        ..Difference::default()
    };
    let pairs: Vec<(&str, &Snapshot, &Snapshot)> = match (a.cells.len(), b.cells.len()) {
        (1, 1) => a.cells.iter().zip(b.cells.values()).map(|((name, a), b)| (name.as_str(), a, b)).collect(),
        _ => {
            out.only_a = a.cells.keys().filter(|c| !b.cells.contains_key(*c)).cloned().collect();
            out.only_b = b.cells.keys().filter(|c| !a.cells.contains_key(*c)).cloned().collect();
            a.cells.iter().filter_map(|(name, a)| Some((name.as_str(), a, b.cells.get(name)?))).collect()
        }
    };
    let mut changes: BTreeMap<(String, String, String, String), Change> = BTreeMap::new();
    let mut metrics: BTreeMap<(String, String), Metric> = BTreeMap::new();
    for (cell, a, b) in &pairs {
        if a.key == b.key {
            out.same += 1;
        }
        for (what, from, to) in differing(a, b) {
            let place = (node(cell).to_string(), what.clone(), from.to_string(), to.to_string());
            let change = changes.entry(place).or_insert_with(|| Change {
                node: node(cell).into(),
                what,
                a: from,
                b: to,
                cells: Vec::new(),
            });
            change.cells.push(cell.to_string());
        }
        if a.outputs != b.outputs {
            out.outputs.push(cell.to_string());
        }
        let names: BTreeSet<&String> = a.metrics.keys().chain(b.metrics.keys()).collect();
        for name in names {
            let (x, y) = (a.metrics.get(name).unwrap_or(&Value::Null), b.metrics.get(name).unwrap_or(&Value::Null));
            let metric = metrics.entry((node(cell).into(), name.clone())).or_insert_with(|| Metric {
                node: node(cell).into(),
                metric: name.clone(),
                pairs: 0,
                mean_a: 0.0,
                mean_b: 0.0,
                higher: 0,
                lower: 0,
                undefined: 0,
            });
            match (x.as_f64(), y.as_f64()) {
                (Some(x), Some(y)) => {
                    metric.pairs += 1;
                    metric.mean_a += x;
                    metric.mean_b += y;
                    metric.higher += usize::from(y > x && !alike(x, y));
                    metric.lower += usize::from(y < x && !alike(x, y));
                }
                _ => metric.undefined += 1,
            }
            let same = x.as_f64().zip(y.as_f64()).map_or(x == y, |(x, y)| alike(x, y));
            if !same {
                out.moved.push(Moved { cell: cell.to_string(), metric: name.clone(), a: x.clone(), b: y.clone() });
            }
        }
    }
    out.changes = changes.into_values().collect();
    out.metrics = metrics
        .into_values()
        .filter(|m| m.pairs > 0)
        .map(|m| Metric { mean_a: m.mean_a / m.pairs as f64, mean_b: m.mean_b / m.pairs as f64, ..m })
        .collect();
    out
}

/// Means of the same numbers in another order differ in their last digits, which is no change.
fn alike(x: f64, y: f64) -> bool {
    (x - y).abs() <= 1e-12 * x.abs().max(y.abs())
}

/// (what, a, b) of everything that is not the same.
fn differing(a: &Snapshot, b: &Snapshot) -> Vec<(String, Value, Value)> {
    let mut out = Vec::new();
    let mut compare = |what: String, x: Option<Value>, y: Option<Value>| {
        if x != y {
            out.push((what, x.unwrap_or(Value::Null), y.unwrap_or(Value::Null)));
        }
    };
    compare("kind".into(), Some(json!(a.kind)), Some(json!(b.kind)));
    compare("program".into(), Some(json!(a.program)), Some(json!(b.program)));
    let paths: BTreeSet<&String> = a.params.keys().chain(b.params.keys()).collect();
    for path in paths {
        compare(format!("param {path}"), a.params.get(path).cloned(), b.params.get(path).cloned());
    }
    let fields: BTreeSet<&String> = a.inputs.keys().chain(b.inputs.keys()).collect();
    for field in fields {
        compare(format!("input {field}"), a.inputs.get(field).map(|d| json!(d)), b.inputs.get(field).map(|d| json!(d)));
    }
    out
}

/// A page with the same tables.
///
/// # Errors
/// A bug in the tables.
pub fn page(d: &Difference) -> Result<Page> {
    let mut page = Page::new("What is different").kicker("scaleshot diff").lead(&text::lead(d));
    let mut table = Rows::new();
    for c in &d.changes {
        table.push([
            ("node", c.node.as_str().into()),
            ("what", c.what.as_str().into()),
            ("a", text::shown(&c.what, &c.a).into()),
            ("b", text::shown(&c.what, &c.b).into()),
            ("cells", c.cells.len().into()),
        ]);
    }
    page = page.section("Parameters, inputs and versions");
    page = if table.is_empty() {
        page.text("None is different.")
    } else {
        page.table(&Table::from_frame("", &table.frame()?)?)
    };
    let mut table = Rows::new();
    for m in &d.metrics {
        table.push([
            ("node", m.node.as_str().into()),
            ("metric", m.metric.as_str().into()),
            ("mean_a", m.mean_a.into()),
            ("mean_b", m.mean_b.into()),
            ("change", (m.mean_b - m.mean_a).into()),
            ("pairs", m.pairs.into()),
            ("higher", m.higher.into()),
            ("lower", m.lower.into()),
            ("undefined", m.undefined.into()),
        ]);
    }
    if !table.is_empty() {
        let note = "Means over the pairs of cells that have the metric on both sides; higher and lower count pairs.";
        page = page.section("Metrics").table(&Table::from_frame("", &table.frame()?)?.note(note));
    }
    let mut table = Rows::new();
    for m in &d.moved {
        let change = m.a.as_f64().zip(m.b.as_f64()).map_or(Value::Null, |(a, b)| json!(b - a));
        table.push([
            ("cell", m.cell.as_str().into()),
            ("metric", m.metric.as_str().into()),
            ("a", m.a.clone()),
            ("b", m.b.clone()),
            ("change", change),
        ]);
    }
    if !table.is_empty() {
        page = page.section("Cells").table(&Table::from_frame("", &table.frame()?)?);
    }
    for (name, only) in [(&d.a, &d.only_a), (&d.b, &d.only_b)] {
        if !only.is_empty() {
            page = page.section(&format!("Only in {name}")).text(&only.join(", "));
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(key: &str, steps: u64, accuracy: Value) -> Snapshot {
        Snapshot {
            key: key.into(),
            kind: "transfer 1".into(),
            params: BTreeMap::from([("steps".to_string(), json!(steps)), ("seed".into(), json!(0))]),
            metrics: BTreeMap::from([("accuracy".to_string(), accuracy)]),
            ..Snapshot::default()
        }
    }

    pub(super) fn sides() -> (Side, Side) {
        let side = |name: &str, cells: &[(&str, Snapshot)]| Side {
            name: name.into(),
            cells: cells.iter().map(|(n, s)| (n.to_string(), s.clone())).collect(),
        };
        let same = snapshot("k", 1, json!(0.9));
        (
            side(
                "before",
                &[
                    ("t[s=0]", snapshot("a", 100, json!(0.5))),
                    ("t[s=1]", snapshot("b", 100, json!(0.7))),
                    ("t[s=2]", snapshot("c", 100, Value::Null)),
                    ("gone", same.clone()),
                    ("same", same.clone()),
                ],
            ),
            side(
                "after",
                &[
                    ("t[s=0]", snapshot("d", 200, json!(0.6))),
                    ("t[s=1]", snapshot("e", 200, json!(0.6))),
                    ("t[s=2]", snapshot("f", 200, json!(0.4))),
                    ("same", same),
                ],
            ),
        )
    }

    #[test]
    fn alike_changes_are_one_and_metrics_are_paired() {
        let (a, b) = sides();
        let d = difference(&a, &b);
        assert_eq!((d.same, d.only_a.as_slice(), d.only_b.len()), (1, &["gone".to_string()][..], 0));
        assert_eq!(d.changes.len(), 1);
        assert_eq!((d.changes[0].what.as_str(), d.changes[0].cells.len()), ("param steps", 3));
        let t = d.metrics.iter().find(|m| m.node == "t").unwrap();
        assert_eq!((t.pairs, t.higher, t.lower, t.undefined), (2, 1, 1, 1));
        assert!(alike(0.1 + 0.2, 0.3) && alike(0.0, 0.0) && !alike(0.3, 0.3001));
        assert!((t.mean_a - 0.6).abs() < 1e-12 && (t.mean_b - 0.6).abs() < 1e-12);
        assert_eq!(d.moved.len(), 3);
        let html = page(&d).unwrap().render();
        assert!(html.contains("param steps") && html.contains("Only in before"));
    }

    #[test]
    fn two_cells_are_a_pair_whatever_their_names() {
        let side = |name: &str, s: Snapshot| Side { name: name.into(), cells: BTreeMap::from([(name.to_string(), s)]) };
        let d =
            difference(&side("t[s=0]", snapshot("a", 1, json!(0.5))), &side("t[s=1]", snapshot("b", 2, json!(0.75))));
        assert!(d.only_a.is_empty() && d.changes.len() == 1 && d.moved.len() == 1);
    }

    #[test]
    fn a_run_is_read_back_from_its_provenance() {
        let lineage = crate::report::lineage::tests::lineage();
        let json = lineage.json(&|_| BTreeMap::from([("accuracy".to_string(), json!(0.5))]));
        let side = Side::of_json("x", &json).unwrap();
        assert_eq!(side.cells.len(), 6);
        let pretrain = &side.cells["pretrain"];
        assert_eq!((pretrain.kind.as_str(), &pretrain.params["epochs"]), ("pretrain 1", &json!(4)));
        assert_eq!(pretrain.inputs["data"], lineage.cells[0].record.outputs["dataset"].digest().hex());
        assert!(side.cells["report"].inputs["tables"].ends_with("(2 inputs)"));
        let d = difference(&side, &side);
        assert_eq!((d.same, d.changes.len(), d.moved.len()), (6, 0, 0));
    }
}
