//! `scaleshot graph`: the nodes of a pipeline, or its cells, as text, Mermaid, dot, SVG or JSON.
//!
//! A node with a matrix is one box with its axes; `--cells` draws every cell.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    process::ExitCode,
};

use clap::Args;
use serde_json::{Map, Value, json};

use super::{Failure, Outcome, output::print, session::PipelineArguments};
use crate::{
    pipeline::Pipeline,
    report::diagram::{self, Diagram},
};

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
    /// Print an SVG drawing
    #[arg(long, group = "form")]
    pub svg: bool,
    /// Print JSON
    #[arg(long, group = "form")]
    pub json: bool,
}

/// More boxes than these make no drawing.
const DRAWN: usize = 2000;

pub fn run(arguments: &Arguments) -> Outcome {
    let graph = Graph::of(&arguments.pipeline.load()?, arguments.cells);
    print(&match arguments {
        Arguments { mermaid: true, .. } => graph.mermaid(),
        Arguments { dot: true, .. } => graph.dot(),
        Arguments { svg: true, .. } => graph.svg()?,
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
    /// Axes that tell its cells apart, each with the number of its values.
    axes: Vec<(String, usize)>,
    /// Indices of what it needs.
    parents: BTreeSet<usize>,
}

impl Graph {
    fn of(pipeline: &Pipeline, cells: bool) -> Self {
        let mut vertices: Vec<Vertex> = Vec::new();
        let mut place: HashMap<&str, usize> = HashMap::new();
        let mut values: Vec<Vec<(&str, HashSet<String>)>> = Vec::new();
        let name = |i: usize| if cells { pipeline.cells[i].id.as_str() } else { pipeline.cells[i].node.as_str() };
        for (i, cell) in pipeline.cells.iter().enumerate() {
            let at = *place.entry(name(i)).or_insert_with(|| {
                vertices.push(Vertex {
                    name: name(i).into(),
                    kind: cell.kind.name(),
                    cells: 0,
                    axes: Vec::new(),
                    parents: BTreeSet::new(),
                });
                values.push(Vec::new());
                vertices.len() - 1
            });
            vertices[at].cells += 1;
            for (axis, value) in &cell.axes {
                match values[at].iter_mut().find(|(known, _)| known == axis) {
                    Some((_, seen)) => _ = seen.insert(value.to_string()),
                    None => values[at].push((axis, HashSet::from([value.to_string()]))),
                }
            }
            let parents = cell.inputs.values().flatten().filter_map(|input| place.get(name(input.cell)).copied());
            vertices[at].parents.extend(parents);
        }
        for (vertex, values) in vertices.iter_mut().zip(values) {
            let many = values.into_iter().filter(|(_, seen)| seen.len() > 1);
            vertex.axes = many.map(|(axis, seen)| (axis.to_string(), seen.len())).collect();
        }
        Graph { name: pipeline.name.clone(), vertices }
    }

    /// `pretrain (pretrain, 4 cells) <- source, other`.
    fn text(&self) -> String {
        let mut out = String::new();
        for v in &self.vertices {
            out.push_str(&format!("{} ({}{})", v.name, v.kind, v.matrix()));
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
            let label = format!("{}<br/>{}{}", v.name, v.kind, v.matrix()).replace('"', "#quot;");
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
            out.push_str(&format!("    n{i} [label=\"{}\\n{}{}\"];\n", quote(&v.name), v.kind, v.matrix()));
        }
        for (i, v) in self.vertices.iter().enumerate() {
            v.parents.iter().for_each(|p| out.push_str(&format!("    n{p} -> n{i};\n")));
        }
        out.push_str("}\n");
        out
    }

    /// One box a node; a matrix is a stack that names its axes: `12 cells: model 2 × seed 3`.
    fn svg(&self) -> Result<String, Failure> {
        if self.vertices.len() > DRAWN {
            let hint = Some("leave out --cells, or use --dot and Graphviz".to_string());
            return Err(Failure::words(format!("{} boxes are too many to draw", self.vertices.len()), hint));
        }
        let boxes = self.vertices.iter().map(|v| diagram::Vertex {
            name: v.name.clone(),
            about: v.kind.into(),
            under: if v.cells > 1 { format!("{}, {} cells", v.kind, v.cells) } else { v.kind.into() },
            more: v.axes.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(" × "),
            parents: v.parents.iter().copied().collect(),
            many: v.cells > 1,
            bad: false,
        });
        Ok(Diagram::of(boxes.collect()).svg(&format!("Graph of {}", self.name))?)
    }

    fn json(&self) -> String {
        let nodes: Vec<_> = self
            .vertices
            .iter()
            .map(|v| {
                let parents: Vec<&str> = v.parents.iter().map(|&p| self.vertices[p].name.as_str()).collect();
                let axes: Map<String, Value> = v.axes.iter().map(|(n, c)| (n.clone(), json!(c))).collect();
                json!({"name": v.name, "kind": v.kind, "cells": v.cells, "axes": axes, "needs": parents})
            })
            .collect();
        json!({"pipeline": self.name, "nodes": nodes}).to_string() + "\n"
    }
}

impl Vertex {
    /// `, 12 cells` and, where axes tell them apart, `: model 2 × seed 3`.
    fn matrix(&self) -> String {
        if self.cells == 1 {
            return String::new();
        }
        let axes: Vec<String> = self.axes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let axes = if axes.is_empty() { String::new() } else { format!(": {}", axes.join(" × ")) };
        format!(", {} cells{axes}", self.cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let vertex = |name: &str, kind, cells, parents: &[usize]| Vertex {
            name: name.into(),
            kind,
            cells,
            axes: if cells > 1 { vec![("model".into(), 4), ("seed".into(), 3)] } else { Vec::new() },
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
            "a (dataset)\nb[x=\"1 2\"] (merge) <- a\nc (transfer, 12 cells: model 4 × seed 3) <- a, b[x=\"1 2\"]\n"
        );
        assert_eq!(
            graph().mermaid(),
            "flowchart LR\n    n0[\"a<br/>dataset\"]\n    n1[\"b[x=#quot;1 2#quot;]<br/>merge\"]\n    \
             n2[\"c<br/>transfer, 12 cells: model 4 × seed 3\"]\n    n0 --> n1\n    n0 --> n2\n    n1 --> n2\n"
        );
        assert_eq!(
            graph().dot(),
            "digraph \"p\" {\n    rankdir=LR;\n    node [shape=box];\n    n0 [label=\"a\\ndataset\"];\n    \
             n1 [label=\"b[x=\\\"1 2\\\"]\\nmerge\"];\n    n2 [label=\"c\\ntransfer, 12 cells: model 4 × seed 3\"];\n    n0 -> n1;\n    \
             n0 -> n2;\n    n1 -> n2;\n}\n"
        );
        let svg = graph().svg().ok().unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("<title>Graph of p</title>"), "{svg}");
        let value: serde_json::Value = serde_json::from_str(&graph().json()).unwrap();
        assert_eq!(
            value["nodes"][2],
            json!({"name": "c", "kind": "transfer", "cells": 12, "axes": {"model": 4, "seed": 3}, "needs": ["a", "b[x=\"1 2\"]"]})
        );
    }
}
