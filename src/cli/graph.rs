//! `scaleshot graph`: the nodes of a pipeline, or its cells, as text, Mermaid, dot or JSON.

use std::{
    collections::{BTreeSet, HashMap},
    process::ExitCode,
};

use clap::Args;
use serde_json::json;

use super::{Outcome, output::print, session::PipelineArguments};
use crate::pipeline::Pipeline;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub pipeline: PipelineArguments,
    /// Draw every cell instead of nodes
    #[arg(long)]
    pub cells: bool,
    /// Print a Mermaid flow chart
    #[arg(long, group = "form")]
    pub mermaid: bool,
    /// Print a Graphviz digraph
    #[arg(long, group = "form")]
    pub dot: bool,
    /// Print JSON
    #[arg(long, group = "form")]
    pub json: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let graph = Graph::of(&arguments.pipeline.load()?, arguments.cells);
    print(&match arguments {
        Arguments { mermaid: true, .. } => graph.mermaid(),
        Arguments { dot: true, .. } => graph.dot(),
        Arguments { json: true, .. } => graph.json(),
        _ => graph.text(),
    });
    Ok(ExitCode::SUCCESS)
}

/// Nodes (or cells) in the pipeline's order, parents first.
struct Graph {
    name: String,
    vertices: Vec<Vertex>,
}

struct Vertex {
    name: String,
    kind: &'static str,
    cells: usize,
    /// Indices of what it needs.
    parents: BTreeSet<usize>,
}

impl Graph {
    fn of(pipeline: &Pipeline, cells: bool) -> Self {
        let mut vertices: Vec<Vertex> = Vec::new();
        let mut place: HashMap<&str, usize> = HashMap::new();
        let name = |i: usize| if cells { pipeline.cells[i].id.as_str() } else { pipeline.cells[i].node.as_str() };
        for (i, cell) in pipeline.cells.iter().enumerate() {
            let at = *place.entry(name(i)).or_insert_with(|| {
                let vertex =
                    Vertex { name: name(i).into(), kind: cell.kind.name(), cells: 0, parents: BTreeSet::new() };
                vertices.push(vertex);
                vertices.len() - 1
            });
            vertices[at].cells += 1;
            let parents = cell.inputs.values().flatten().filter_map(|input| place.get(name(input.cell)).copied());
            vertices[at].parents.extend(parents);
        }
        Graph { name: pipeline.name.clone(), vertices }
    }

    /// `pretrain (pretrain, 4 cells) <- source, other`.
    fn text(&self) -> String {
        let mut out = String::new();
        for v in &self.vertices {
            out.push_str(&format!("{} ({}{})", v.name, v.kind, count(v.cells)));
            let parents: Vec<&str> = v.parents.iter().map(|&p| self.vertices[p].name.as_str()).collect();
            if !parents.is_empty() {
                out.push_str(&format!(" <- {}", parents.join(", ")));
            }
            out.push('\n');
        }
        out
    }

    fn mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        for (i, v) in self.vertices.iter().enumerate() {
            let label = format!("{}<br/>{}{}", v.name, v.kind, count(v.cells)).replace('"', "#quot;");
            out.push_str(&format!("    n{i}[\"{label}\"]\n"));
        }
        for (i, v) in self.vertices.iter().enumerate() {
            v.parents.iter().for_each(|p| out.push_str(&format!("    n{p} --> n{i}\n")));
        }
        out
    }

    fn dot(&self) -> String {
        let quote = |s: &str| s.replace('\\', "\\\\").replace('"', "\\\"");
        let mut out = format!("digraph \"{}\" {{\n    rankdir=LR;\n    node [shape=box];\n", quote(&self.name));
        for (i, v) in self.vertices.iter().enumerate() {
            out.push_str(&format!("    n{i} [label=\"{}\\n{}{}\"];\n", quote(&v.name), v.kind, count(v.cells)));
        }
        for (i, v) in self.vertices.iter().enumerate() {
            v.parents.iter().for_each(|p| out.push_str(&format!("    n{p} -> n{i};\n")));
        }
        out.push_str("}\n");
        out
    }

    fn json(&self) -> String {
        let nodes: Vec<_> = self
            .vertices
            .iter()
            .map(|v| {
                let parents: Vec<&str> = v.parents.iter().map(|&p| self.vertices[p].name.as_str()).collect();
                json!({"name": v.name, "kind": v.kind, "cells": v.cells, "needs": parents})
            })
            .collect();
        json!({"pipeline": self.name, "nodes": nodes}).to_string() + "\n"
    }
}

fn count(cells: usize) -> String {
    if cells == 1 { String::new() } else { format!(", {cells} cells") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let vertex = |name: &str, kind, cells, parents: &[usize]| Vertex {
            name: name.into(),
            kind,
            cells,
            parents: parents.iter().copied().collect(),
        };
        Graph {
            name: "p".into(),
            vertices: vec![
                vertex("a", "dataset", 1, &[]),
                vertex("b[x=\"1 2\"]", "merge", 1, &[0]),
                vertex("c", "transfer", 12, &[0, 1]),
            ],
        }
    }

    #[test]
    fn every_form_has_all_nodes_and_edges() {
        assert_eq!(
            graph().text(),
            "a (dataset)\nb[x=\"1 2\"] (merge) <- a\nc (transfer, 12 cells) <- a, b[x=\"1 2\"]\n"
        );
        assert_eq!(
            graph().mermaid(),
            "flowchart LR\n    n0[\"a<br/>dataset\"]\n    n1[\"b[x=#quot;1 2#quot;]<br/>merge\"]\n    \
             n2[\"c<br/>transfer, 12 cells\"]\n    n0 --> n1\n    n0 --> n2\n    n1 --> n2\n"
        );
        assert_eq!(
            graph().dot(),
            "digraph \"p\" {\n    rankdir=LR;\n    node [shape=box];\n    n0 [label=\"a\\ndataset\"];\n    \
             n1 [label=\"b[x=\\\"1 2\\\"]\\nmerge\"];\n    n2 [label=\"c\\ntransfer, 12 cells\"];\n    n0 -> n1;\n    \
             n0 -> n2;\n    n1 -> n2;\n}\n"
        );
        let value: serde_json::Value = serde_json::from_str(&graph().json()).unwrap();
        assert_eq!(
            value["nodes"][2],
            json!({"name": "c", "kind": "transfer", "cells": 12, "needs": ["a", "b[x=\"1 2\"]"]})
        );
    }
}
