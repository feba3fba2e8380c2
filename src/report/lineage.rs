//! The finished cells behind a report, and what each of them was made of.
//!
//! A number in a table belongs to a cell; the cell has a key, parameters and inputs; each input is an artifact of
//! another cell; and so on to outside files, which are known by the digest of their listing. A lineage holds that
//! whole way, from records alone, and no clock, host or path: equal results have equal lineages.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::frame::{Frame, Rows, label};
use crate::{
    digest::Digest,
    error::Result,
    store::{
        artifact::{Artifact, ArtifactType},
        part::Part,
        record::Record,
    },
};

/// One artifact that a cell took.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub field: String,
    /// Which cell made it: an index into [`Lineage::cells`].
    pub from: usize,
    pub output: String,
}

/// One finished cell.
#[derive(Clone, Debug)]
pub struct Ancestor {
    /// `transfer[shots=5,seed=0]`.
    pub cell: String,
    pub node: String,
    pub axes: Vec<(String, Value)>,
    pub takes: Vec<Taken>,
    pub record: Record,
}

impl Ancestor {
    /// Parameters as (path, value), in the order of the record.
    pub fn params(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.record.parts.iter().filter_map(|p| match p {
            Part::Param { path, value } => Some((path.as_str(), value)),
            _ => None,
        })
    }

    pub fn param(&self, path: &str) -> Option<&Value> {
        self.params().find(|(p, _)| *p == path).map(|(_, v)| v)
    }

    /// Outside files as (field, digest of the listing, files, bytes).
    pub fn sources(&self) -> impl Iterator<Item = (&str, &Digest, u64, u64)> {
        self.record.parts.iter().filter_map(|p| match p {
            Part::Source { field, digest, files, bytes } => Some((field.as_str(), digest, *files, *bytes)),
            _ => None,
        })
    }

    /// Outputs of one type.
    pub fn outputs(&self, kind: ArtifactType) -> impl Iterator<Item = (&str, &Artifact)> {
        self.record.outputs.iter().filter(move |(_, a)| a.kind == kind).map(|(n, a)| (n.as_str(), a))
    }

    pub fn anchor(&self) -> String {
        anchor(&self.node, &self.axes)
    }
}

/// The id of a cell on the study page, which the report's rows link to.
pub fn anchor(node: &str, axes: &[(String, Value)]) -> String {
    let mut text = node.to_string();
    axes.iter().for_each(|(n, v)| text.push_str(&format!("\n{n}={}", label(v))));
    format!("c-{}", Digest::of(text.as_bytes()).short())
}

/// The state of cells by their names and keys, without their records.
pub fn state<'a>(cells: impl Iterator<Item = (&'a str, &'a Digest)>) -> Digest {
    let lines: String = cells.map(|(cell, key)| format!("{cell} {key}\n")).collect();
    Digest::of(lines.as_bytes())
}

/// Cells with what they need before them; the report is the last.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    pub pipeline: String,
    pub cells: Vec<Ancestor>,
}

impl Lineage {
    pub fn report(&self) -> Option<&Ancestor> {
        self.cells.last()
    }

    /// The cells that everything a cell was made of began with: those that took nothing.
    pub fn roots(&self, cell: usize) -> Vec<usize> {
        let (mut seen, mut open) = (BTreeSet::from([cell]), vec![cell]);
        while let Some(at) = open.pop() {
            open.extend(self.cells[at].takes.iter().map(|t| t.from).filter(|from| seen.insert(*from)));
        }
        seen.into_iter().filter(|&at| self.cells[at].takes.is_empty()).collect()
    }

    /// Cells that take an output of this one.
    pub fn children(&self, cell: usize) -> impl Iterator<Item = &Ancestor> {
        self.cells.iter().filter(move |c| c.takes.iter().any(|t| t.from == cell))
    }

    /// What changes where any cell of it does: a digest over the cells' names and keys.
    pub fn state(&self) -> Digest {
        state(self.cells.iter().map(|c| (c.cell.as_str(), &c.record.key)))
    }

    /// The tables of the report by cell: (name of the table, index of the cell, output).
    pub fn tables(&self) -> Vec<(String, usize, &str)> {
        let taken = self.report().map(|r| r.takes.as_slice()).unwrap_or_default();
        taken
            .iter()
            .filter(|t| t.field == "tables")
            .map(|t| {
                let node = &self.cells[t.from].node;
                let name = match t.output.as_str() {
                    "metrics" | "table" => node.clone(),
                    output => format!("{node}.{output}"),
                };
                (name, t.from, t.output.as_str())
            })
            .collect()
    }

    /// `table, axis…, cell, key, artifact, data, data_digest, files_digest`: one row a table's cell and root.
    ///
    /// A row of a report's table is found here by its axes.
    pub fn provenance(&self) -> Result<Frame> {
        let mut rows = Rows::new();
        for (name, at, output) in self.tables() {
            let cell = &self.cells[at];
            let artifact = cell.record.outputs.get(output).map(|a| a.digest().hex());
            for root in self.roots(at) {
                let root = &self.cells[root];
                let mut row: Vec<(&str, Value)> = vec![("table", name.as_str().into())];
                row.extend(cell.axes.iter().map(|(n, v)| (n.as_str(), v.clone())));
                row.extend([
                    ("cell", Value::from(cell.cell.as_str())),
                    ("key", Value::from(cell.record.key.hex())),
                    ("artifact", artifact.clone().map_or(Value::Null, Value::from)),
                    ("data", Value::from(root.cell.as_str())),
                    ("data_digest", first_digest(root)),
                    ("files_digest", root.sources().next().map_or(Value::Null, |s| Value::from(s.1.hex()))),
                ]);
                rows.push(row);
            }
        }
        rows.frame()
    }

    /// The whole way of every number, for programs. `metrics` tells a cell's numbers over all classes.
    pub fn json(&self, metrics: &dyn Fn(&Record) -> BTreeMap<String, Value>) -> Value {
        let cells: Vec<Value> = self
            .cells
            .iter()
            .map(|c| {
                let takes: Vec<Value> = c
                    .takes
                    .iter()
                    .map(|t| {
                        let from = &self.cells[t.from];
                        let digest = from.record.outputs.get(&t.output).map(Artifact::digest);
                        json!({"field": t.field, "cell": from.cell, "output": t.output, "digest": digest})
                    })
                    .collect();
                let sources: Vec<Value> = c
                    .sources()
                    .map(|(field, digest, files, bytes)| {
                        json!({"field": field, "digest": digest, "files": files, "bytes": bytes})
                    })
                    .collect();
                let outputs: serde_json::Map<String, Value> = c
                    .record
                    .outputs
                    .iter()
                    .map(|(name, a)| (name.clone(), json!({"type": a.kind, "digest": a.digest(), "files": a.files})))
                    .collect();
                let params: serde_json::Map<String, Value> =
                    c.params().map(|(path, value)| (path.to_string(), value.clone())).collect();
                let axes: Vec<Value> = c.axes.iter().map(|(n, v)| json!([n, v])).collect();
                let mut item = json!({
                    "cell": c.cell, "node": c.node, "axes": axes, "key": c.record.key, "kind": c.record.kind,
                    "kind_version": c.record.kind_version, "program": c.record.program, "params": params,
                    "inputs": takes, "sources": sources, "outputs": outputs, "notes": c.record.notes,
                    "metrics": metrics(&c.record),
                });
                if let Some(accepted) = &c.record.accepted {
                    item["accepted"] = json!(accepted.told());
                }
                item
            })
            .collect();
        let numbers: Vec<Value> = self
            .tables()
            .into_iter()
            .map(|(name, at, output)| {
                let cell = &self.cells[at];
                let data: Vec<Value> = self
                    .roots(at)
                    .into_iter()
                    .map(|r| {
                        let root = &self.cells[r];
                        let files = root.sources().next().map(|s| *s.1);
                        json!({"cell": root.cell, "key": root.record.key, "digest": first_digest(root), "files": files})
                    })
                    .collect();
                let axes: Vec<Value> = cell.axes.iter().map(|(n, v)| json!([n, v])).collect();
                json!({
                    "table": name, "axes": axes, "cell": cell.cell, "key": cell.record.key,
                    "artifact": cell.record.outputs.get(output).map(Artifact::digest), "data": data,
                })
            })
            .collect();
        json!({"state": self.state(), "pipeline": self.pipeline, "numbers": numbers, "cells": cells})
    }
}

/// The digest of the first output, which of a dataset is the dataset.
fn first_digest(cell: &Ancestor) -> Value {
    let of_data = cell.record.outputs.get("dataset").or_else(|| cell.record.outputs.values().next());
    of_data.map_or(Value::Null, |a| Value::from(a.digest().hex()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{report::frame::values, store::artifact::FileRef};

    /// A finished cell with one output.
    pub(crate) fn ancestor(
        node: &str,
        kind: &str,
        axes: &[(&str, Value)],
        params: &[(&str, Value)],
        takes: &[(&str, usize, &str)],
        output: (&str, ArtifactType),
    ) -> Ancestor {
        let axes: Vec<(String, Value)> = axes.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
        let named: Vec<String> = axes.iter().map(|(n, v)| format!("{n}={}", label(v))).collect();
        let cell = if named.is_empty() { node.to_string() } else { format!("{node}[{}]", named.join(",")) };
        let digest = Digest::of(cell.as_bytes());
        let file = FileRef { name: "table.parquet".into(), digest, bytes: 1 };
        let outputs = BTreeMap::from([(output.0, Artifact::new(output.1, vec![file]))]);
        let parts: Vec<Part> =
            params.iter().map(|(path, value)| Part::Param { path: path.to_string(), value: value.clone() }).collect();
        Ancestor {
            node: node.into(),
            axes,
            takes: takes
                .iter()
                .map(|(field, from, output)| Taken {
                    field: field.to_string(),
                    from: *from,
                    output: output.to_string(),
                })
                .collect(),
            // By JSON, as a record of an older program would be read.
            record: serde_json::from_value(json!({
                "key": Digest::of(format!("key {cell}").as_bytes()), "kind": kind, "kind_version": 1, "pipeline": "p",
                "cell": cell, "parts": parts, "outputs": outputs, "notes": [], "wall_ms": 1, "cpu_ms": null,
                "peak_rss_bytes": null, "threads": 1, "machine": crate::store::record::Machine::default(),
                "program": "scaleshot 0.1.0", "finished_unix_ms": 0, "log": null,
            }))
            .unwrap(),
            cell,
        }
    }

    pub(crate) fn lineage() -> Lineage {
        let data = ("dataset", ArtifactType::Dataset);
        let seed = |s: i64| [("seed", json!(s))];
        let transfer = |s: i64| {
            ancestor(
                "transfer",
                "transfer",
                &seed(s),
                &[("steps", json!(100)), ("seed", json!(s))],
                &[("model", 2, "model"), ("data", 1, "dataset")],
                ("metrics", ArtifactType::Table),
            )
        };
        Lineage {
            pipeline: "p".into(),
            cells: vec![
                ancestor("source", "dataset", &[], &[("format", json!("nih"))], &[], data),
                ancestor("target", "dataset", &[], &[("format", json!("tuberculosis"))], &[], data),
                ancestor(
                    "pretrain",
                    "pretrain",
                    &[],
                    &[("epochs", json!(4)), ("model", json!("bit-r14x0.25"))],
                    &[("data", 0, "dataset")],
                    ("model", ArtifactType::Model),
                ),
                transfer(0),
                transfer(1),
                ancestor(
                    "report",
                    "report",
                    &[],
                    &[],
                    &[("tables", 3, "metrics"), ("tables", 4, "metrics")],
                    ("report", ArtifactType::Report),
                ),
            ],
        }
    }

    #[test]
    fn every_row_leads_to_its_data() {
        let lineage = lineage();
        assert_eq!(lineage.roots(3), [0, 1]);
        let frame = lineage.provenance().unwrap();
        assert_eq!(values(&frame, "seed").unwrap(), [json!(0), json!(0), json!(1), json!(1)]);
        assert_eq!(values(&frame, "data").unwrap()[..2], [json!("source"), json!("target")]);
        let json = lineage.json(&|_| BTreeMap::from([("accuracy".to_string(), json!(0.5))]));
        assert_eq!(json["numbers"][1]["data"][0]["cell"], "source");
        let digest = lineage.cells[0].record.outputs["dataset"].digest();
        assert_eq!(json["numbers"][1]["data"][0]["digest"], json!(digest));
        assert_eq!(json["cells"][3]["metrics"]["accuracy"], 0.5);
        let taken = &json["cells"][2]["inputs"][0];
        assert_eq!((taken["cell"].as_str(), taken["digest"].clone()), (Some("source"), json!(digest)));
    }

    #[test]
    fn a_state_follows_keys_and_an_anchor_names_one_cell() {
        let (a, mut b) = (lineage(), lineage());
        assert_eq!(a.state(), b.state());
        b.cells[2].record.key = Digest::of(b"other");
        assert_ne!(a.state(), b.state());
        assert_ne!(a.cells[3].anchor(), a.cells[4].anchor());
    }
}
