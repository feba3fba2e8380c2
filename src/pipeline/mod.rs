//! Pipelines: one YAML file becomes a checked, expanded list of cells.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

use crate::kind::AnyKind;

/// A whole pipeline, matrix expanded, in an order where parents come first.
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
}

/// One output of an earlier cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellInput {
    /// Index into [`Pipeline::cells`].
    pub cell: usize,
    pub output: String,
}
