//! The one walk over what a cell depends on.
//!
//! It makes the list of parts that is hashed into the key and that reasons are told from; it reads outside
//! files (through the stat cache) and nothing else, and decides nothing.

use std::path::PathBuf;

use serde_json::Value;

use super::reason::Reason;
use crate::{
    error::{Error, Result},
    kind::{Arity, SourcePath},
    pipeline::{CellSpec, Pipeline},
    store::{part::Part, record::Outputs, source::SourceIndex},
};

/// What is known of a cell that another one takes its input from.
#[derive(Clone, Copy)]
pub enum Parent<'a> {
    /// Current: its outputs are these.
    Known(&'a Outputs),
    /// It has to run first; what it will make may be what it made before.
    Waits,
    /// It cannot run.
    Blocked,
}

/// The parts of a cell that stand without its inputs: kind and parameters.
pub struct Own {
    parts: Vec<Part>,
    sources: Vec<SourcePath>,
}

/// A cell's parts as far as they are known.
pub struct Walked {
    pub parts: Vec<Part>,
    /// Fields whose parts are not complete, and so are missing from `parts` altogether.
    pub open: Vec<String>,
    /// Cells that have to run before this one's key is known, each once, as indices.
    pub waits: Vec<usize>,
    /// Why the cell cannot run.
    pub blocked: Vec<Reason>,
}

/// Kind and canonical parameters of a cell, and the outside files it names.
pub fn own(cell: &CellSpec) -> Result<Own> {
    let mut params = cell.kind.canonical(&cell.params)?;
    let sources = cell.kind.sources(&cell.params)?;
    for input in cell.kind.inputs() {
        remove(&mut params, input.field);
    }
    for source in &sources {
        remove(&mut params, source.field);
    }
    let mut parts = vec![Part::Kind { name: cell.kind.name().into(), version: cell.kind.version() }];
    leaves(&params, String::new(), &mut parts);
    parts[1..].sort_by(|a, b| path_of(a).cmp(path_of(b)));
    Ok(Own { parts, sources })
}

/// Adds inputs, whose parents `known` tells of, and sources to a cell's own parts.
pub fn walk<'a>(
    pipeline: &Pipeline,
    cell: &CellSpec,
    own: Own,
    sources: &SourceIndex,
    known: &dyn Fn(usize) -> Parent<'a>,
) -> Result<Walked> {
    let mut walked = Walked { parts: own.parts, open: Vec::new(), waits: Vec::new(), blocked: Vec::new() };
    for (field, inputs) in &cell.inputs {
        let spec = cell.kind.inputs().iter().find(|s| s.field == field).ok_or_else(|| {
            Error::invalid(format!("bug: cell {}: kind {} takes no input {field}", cell.id, cell.kind.name()))
        })?;
        let many = spec.arity == Arity::Cells;
        let mut group = 0;
        let mut parts = Vec::with_capacity(inputs.len());
        for (i, input) in inputs.iter().enumerate() {
            let parent = &pipeline.cells[input.cell];
            if i > 0 && pipeline.cells[inputs[i - 1].cell].node != parent.node {
                group += 1;
            }
            match known(input.cell) {
                Parent::Known(outputs) => match outputs.get(&input.output) {
                    Some(artifact) => parts.push(Part::Input {
                        field: field.clone(),
                        group: many.then_some(group),
                        node: spec.named.then(|| parent.node.clone()),
                        axes: many.then(|| parent.axes.clone()),
                        digest: artifact.digest(),
                        files: artifact.files.clone(),
                    }),
                    None => {
                        walked.blocked.push(Reason::NoOutput { cell: parent.id.clone(), output: input.output.clone() })
                    }
                },
                Parent::Waits => walked.waits.push(input.cell),
                Parent::Blocked => walked.blocked.push(Reason::Upstream { cell: parent.id.clone() }),
            }
        }
        if parts.len() == inputs.len() {
            walked.parts.append(&mut parts);
        } else {
            walked.open.push(field.clone());
        }
    }
    walked.waits.sort_unstable();
    walked.waits.dedup();
    for source in own.sources {
        match source_part(&source, sources) {
            Ok(part) => walked.parts.push(part),
            Err(reason) => {
                walked.open.push(source.field.into());
                walked.blocked.push(reason);
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    walked.blocked.retain(|reason| seen.insert(reason.to_string()));
    Ok(walked)
}

fn source_part(source: &SourcePath, sources: &SourceIndex) -> Result<Part, Reason> {
    match sources.digest_tree(&source.path) {
        Ok(tree) => Ok(Part::Source {
            field: source.field.into(),
            digest: tree.digest,
            files: tree.files.len() as u64,
            bytes: tree.bytes(),
        }),
        Err(_) if !source.path.exists() => Err(Reason::SourceMissing {
            field: source.field.into(),
            path: source.path.clone(),
            obtain: source.obtain.clone(),
        }),
        Err(e) => {
            let way_out = e.hint().map_or_else(String::new, |hint| format!(" ({hint})"));
            Err(Reason::SourceUnreadable { field: source.field.into(), message: format!("{e}{way_out}") })
        }
    }
}

/// Outside paths of a cell, to be looked at again once it has read them.
pub fn source_paths(cell: &CellSpec) -> Result<Vec<PathBuf>> {
    Ok(cell.kind.sources(&cell.params)?.into_iter().map(|s| s.path).collect())
}

/// One part a leaf. A null is an absent field, so that an option added to a kind later changes no key.
fn leaves(value: &Value, path: String, parts: &mut Vec<Part>) {
    match value {
        Value::Null => {}
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                let quoted = name.is_empty() || name.contains(['.', '"', ' ']);
                let name = if quoted { Value::from(name.as_str()).to_string() } else { name.clone() };
                leaves(value, if path.is_empty() { name } else { format!("{path}.{name}") }, parts);
            }
        }
        Value::Object(_) if path.is_empty() => {}
        leaf => parts.push(Part::Param { path, value: leaf.clone() }),
    }
}

fn path_of(part: &Part) -> &str {
    if let Part::Param { path, .. } = part { path } else { "" }
}

/// Takes a field out, `a.b` from within `a`.
fn remove(params: &mut Value, field: &str) {
    match field.split_once('.') {
        None => {
            if let Some(map) = params.as_object_mut() {
                map.remove(field);
            }
        }
        Some((first, rest)) => {
            if let Some(child) = params.get_mut(first) {
                remove(child, rest);
            }
        }
    }
}
