//! A methods section written from records: datasets with their sizes and splits, what was trained how, which draws
//! were repeated, what was tested, and with which versions.
//!
//! Sentences follow the kinds; what a sentence does not say in words stands in its list of parameters, so that
//! nothing that decides a result is left out. Nothing is said that no record holds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    card::{self, Count},
    frame::{label, natural_order},
    lineage::{Ancestor, Lineage},
};
use crate::{error::Result, store::artifact::ArtifactType};

/// Parameters that a reader of methods does not miss: they name nodes or say how the computing is done.
const LEFT_OUT: [&str; 4] = ["from", "tables", "plots", "title"];

/// A node with its cells.
struct Node<'a> {
    name: &'a str,
    kind: &'a str,
    cells: Vec<(usize, &'a Ancestor)>,
}

fn nodes(lineage: &Lineage) -> Vec<Node<'_>> {
    let mut nodes: Vec<Node<'_>> = Vec::new();
    for (at, cell) in lineage.cells.iter().enumerate() {
        match nodes.iter_mut().find(|n| n.name == cell.node) {
            Some(node) => node.cells.push((at, cell)),
            None => nodes.push(Node { name: &cell.node, kind: &cell.record.kind, cells: vec![(at, cell)] }),
        }
    }
    nodes
}

/// Markdown. `facts` tells the size of a dataset artifact by the index of its cell.
///
/// # Errors
/// What `facts` finds.
pub fn methods(lineage: &Lineage, facts: &Count<'_>) -> Result<String> {
    let nodes = nodes(lineage);
    let mut out = String::new();
    let parts: [(&str, &[&str]); 5] = [
        ("Data", &["dataset", "merge", "subset", "images"]),
        ("Pre-training", &["pretrain", "import_model"]),
        ("Transfer and evaluation", &["transfer", "embed", "probe", "evaluate"]),
        ("Statistics", &["compare", "scaling", "query", "table"]),
        ("Other steps", &[]),
    ];
    let known: Vec<&str> = parts.iter().flat_map(|p| p.1.iter().copied()).chain(["report"]).collect();
    for (heading, kinds) in parts {
        let of: Vec<&Node<'_>> = nodes
            .iter()
            .filter(|n| if kinds.is_empty() { !known.contains(&n.kind) } else { kinds.contains(&n.kind) })
            .collect();
        if of.is_empty() {
            continue;
        }
        out.push_str(&format!("## {heading}\n\n"));
        for node in of {
            out.push_str(&sentence(node, lineage, facts)?);
            out.push_str("\n\n");
        }
    }
    out.push_str("## Software\n\n");
    let mut programs: Vec<&str> = lineage.cells.iter().map(|c| c.record.program.as_str()).collect();
    programs.sort_unstable();
    programs.dedup();
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    lineage.cells.iter().for_each(|c| {
        kinds.insert(&c.record.kind, c.record.kind_version);
    });
    let versions: Vec<String> = kinds.iter().map(|(k, v)| format!("{k} {v}")).collect();
    out.push_str(&format!(
        "All steps were computed by {} from the pipeline `{}` ({} cells). Versions of the steps: {}. The results have the state `{}`.\n",
        programs.join(" and "),
        lineage.pipeline,
        lineage.cells.len(),
        versions.join(", "),
        lineage.state().short()
    ));
    Ok(out)
}

fn sentence(node: &Node<'_>, lineage: &Lineage, facts: &Count<'_>) -> Result<String> {
    let mut out = match node.kind {
        "dataset" if card::generated(node.cells[0].1) => format!("**{}** was drawn by the program", node.name),
        "dataset" => format!("**{}** was read from its native layout", node.name),
        "merge" => format!("**{}** merges {}", node.name, parents(node, lineage, "from")),
        "subset" => format!("**{}** is a subset of {}", node.name, parents(node, lineage, "data")),
        "images" => format!(
            "**{}** holds the images of {}, decoded and resized once",
            node.name,
            parents(node, lineage, "data")
        ),
        "pretrain" => format!("**{}** trains a network on {}", node.name, parents(node, lineage, "data")),
        "import_model" => format!("**{}** is a published model", node.name),
        "transfer" => format!(
            "**{}** fine-tunes the models of {} on {}",
            node.name,
            parents(node, lineage, "model"),
            parents(node, lineage, "data")
        ),
        "embed" => format!(
            "**{}** takes the features that the models of {} give to {}",
            node.name,
            parents(node, lineage, "model"),
            parents(node, lineage, "data")
        ),
        "probe" => format!(
            "**{}** fits a classifier to the frozen features of {}",
            node.name,
            parents(node, lineage, "features")
        ),
        "evaluate" => format!(
            "**{}** evaluates the models of {} on {}",
            node.name,
            parents(node, lineage, "model"),
            parents(node, lineage, "data")
        ),
        "compare" => format!("**{}** compares the results of {}", node.name, parents(node, lineage, "metrics")),
        "scaling" => {
            format!("**{}** fits scaling laws to the results of {}", node.name, parents(node, lineage, "metrics"))
        }
        kind => format!("**{}** is a step of kind {kind}", node.name),
    };
    let own = varying(node);
    if node.cells.len() > 1 {
        out.push_str(&format!(", {} times", node.cells.len()));
        if !own.is_empty() {
            out.push_str(&format!(" ({})", own.join("; ")));
        }
    }
    out.push_str(". ");
    for (at, cell) in &node.cells {
        let of_data = cell.outputs(ArtifactType::Dataset).chain(cell.outputs(ArtifactType::Images)).next();
        if of_data.is_none() || node.cells.len() > 8 {
            continue;
        }
        if let Some(facts) = facts(*at)? {
            let which = if node.cells.len() > 1 { format!("{}: ", cell.cell) } else { String::new() };
            out.push_str(&format!("{which}{} ", facts.sentence()));
        }
    }
    let constant = constant(node);
    if !constant.is_empty() {
        let list: Vec<String> = constant.iter().map(|(p, v)| format!("{p} {v}")).collect();
        out.push_str(&format!("Parameters: {}. ", list.join(", ")));
    }
    let mut noted: BTreeMap<&str, u64> = BTreeMap::new();
    for note in node.cells.iter().flat_map(|(_, c)| &c.record.notes) {
        *noted.entry(&note.what).or_default() += note.count;
    }
    if !noted.is_empty() {
        let list: Vec<String> = noted.iter().map(|(what, n)| format!("{} {n}", what.replace('_', " "))).collect();
        out.push_str(&format!("Noted: {}. ", list.join(", ")));
    }
    Ok(out.trim_end().to_string())
}

/// The nodes that a field takes from.
fn parents(node: &Node<'_>, lineage: &Lineage, field: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for taken in node.cells.iter().flat_map(|(_, c)| &c.takes).filter(|t| t.field == field) {
        let name = lineage.cells[taken.from].node.as_str();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match names.as_slice() {
        [] => "what it is given".into(),
        [one] => one.to_string(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// `seed in 0, 1, 2`: axes and parameters that differ between the node's cells.
fn varying(node: &Node<'_>) -> Vec<String> {
    let mut seen: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for (name, value) in node.cells.iter().flat_map(|(_, c)| &c.axes) {
        if !order.contains(&name.as_str()) {
            order.push(name);
        }
        let values = seen.entry(name).or_default();
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    order
        .iter()
        .filter_map(|name| {
            let values = seen.get_mut(name).filter(|v| v.len() > 1)?;
            values.sort_by(natural_order);
            let list: Vec<String> = values.iter().map(label).collect();
            Some(format!("{name} in {}", list.join(", ")))
        })
        .collect()
}

/// Parameters that all cells share.
fn constant<'a>(node: &Node<'a>) -> Vec<(&'a str, String)> {
    let Some((_, first)) = node.cells.first() else { return Vec::new() };
    let takes: Vec<&str> = first.takes.iter().map(|t| t.field.as_str()).collect();
    first
        .params()
        .filter(|(path, value)| {
            let is_input = takes.contains(path) || LEFT_OUT.contains(path);
            !is_input && !is_empty(value) && node.cells.iter().all(|(_, c)| c.param(path) == Some(value))
        })
        .map(|(path, value)| (path, written(value)))
        .collect()
}

/// An empty list or map says nothing that leaving it out does not.
fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// A list as one writes it: `(PA, AP)`.
fn written(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("({})", list.iter().map(label).collect::<Vec<_>>().join(", ")),
        one => label(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{card::Facts, lineage::tests::lineage};

    #[test]
    fn every_node_has_its_sentence_with_sizes_draws_and_parameters() {
        let facts =
            |at: usize| Ok((at < 2).then(|| Facts { rows: 100 + at as u64, patients: Some(40), ..Facts::default() }));
        let text = methods(&lineage(), &facts).unwrap();
        for part in [
            "**source** was read from its native layout. 100 images of 40 patients. Parameters: format nih.",
            "**pretrain** trains a network on source. Parameters: epochs 4, model bit-r14x0.25.",
            "**transfer** fine-tunes the models of pretrain on target, 2 times (seed in 0, 1). Parameters: steps 100.",
            "scaleshot 0.1.0 from the pipeline `p` (6 cells)",
            "transfer 1",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("seed 0,"), "a parameter that varies is no constant");
        assert_eq!(written(&serde_json::json!(["PA", "AP"])), "(PA, AP)");
        assert!(is_empty(&serde_json::json!({})) && is_empty(&serde_json::json!([])) && !is_empty(&Value::Null));
    }
}
