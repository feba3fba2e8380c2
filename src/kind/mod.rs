//! Node kinds: one file a kind, and the registry.
//!
//! A kind is a pure function from typed parameters and input artifacts to output artifacts. It does not
//! know its node's name, the store's place, the clock or how many cells there are; what it may touch is
//! the [`Cell`] it is given.

mod cell;
mod command;
mod compare;
mod computed;
mod dataset;
mod embed;
mod evaluate;
mod examples;
mod export;
mod frames;
mod images;
mod import_model;
mod leak;
mod measure;
mod measurements;
mod merge;
mod pixels;
mod pretrain;
mod probe;
mod query;
mod report;
mod rows;
mod scaling;
mod shots;
pub mod sql;
mod subset;
mod table;
mod trained;
mod transfer;

pub use cell::{Cell, Input, NOTES, Note, Outside};
pub use command::kill_all;
pub use rows::ROWS;

use std::{collections::BTreeMap, path::PathBuf};

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    error::{Error, Result},
    store::artifact::{Artifact, ArtifactType},
};

/// How many artifacts an input field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// One cell: `data: merged`, or `data: "${data}"` over `{ cells: NODE }`.
    One,
    /// At most one cell; the field may be left out.
    Optional,
    /// One node name or a list of them; every cell of each, with its axes as columns.
    Cells,
    /// The same, but the field may be left out.
    MaybeCells,
}

/// A parameter field that names nodes.
#[derive(Clone, Copy, Debug)]
pub struct InputSpec {
    /// The field of the parameters, at the top level.
    pub field: &'static str,
    /// The output names that are taken without being spelled `node.output`, then by type.
    pub accepts: &'static [ArtifactType],
    /// The output of a kind with several of an accepted type: `metrics` of `transfer`. None: the first that fits.
    pub prefers: Option<&'static str>,
    pub arity: Arity,
    /// The kind prints or queries the node's name, which therefore enters the key.
    pub named: bool,
}

impl InputSpec {
    pub const fn one(field: &'static str, accepts: &'static [ArtifactType]) -> Self {
        InputSpec { field, accepts, prefers: None, arity: Arity::One, named: false }
    }

    pub const fn optional(field: &'static str, accepts: &'static [ArtifactType]) -> Self {
        InputSpec { arity: Arity::Optional, ..Self::one(field, accepts) }
    }

    pub const fn cells(field: &'static str, accepts: &'static [ArtifactType]) -> Self {
        InputSpec { arity: Arity::Cells, ..Self::one(field, accepts) }
    }

    pub const fn maybe_cells(field: &'static str, accepts: &'static [ArtifactType]) -> Self {
        InputSpec { arity: Arity::MaybeCells, ..Self::one(field, accepts) }
    }

    pub const fn prefer(self, output: &'static str) -> Self {
        InputSpec { prefers: Some(output), ..self }
    }

    pub const fn named(self) -> Self {
        InputSpec { named: true, ..self }
    }
}

/// One node name, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Nodes {
    One(String),
    Many(Vec<String>),
}

impl Nodes {
    /// The nodes' names, without outputs and axes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let all = match self {
            Nodes::One(name) => std::slice::from_ref(name),
            Nodes::Many(names) => names,
        };
        all.iter().map(|name| node_name(name))
    }
}

/// `node` of `node`, `node.output` and `node[axis=value]`.
pub fn node_name(reference: &str) -> &str {
    reference.split(['.', '[']).next().unwrap_or(reference)
}

/// An outside file or folder that a cell reads. Its content enters the key in place of its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePath {
    /// The parameter that names it, which is left out of the key.
    pub field: &'static str,
    pub path: PathBuf,
    /// Printed where the path does not exist: how to obtain it.
    pub obtain: String,
}

/// What a cell takes of the machine while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Threads it can use well; 1 for light cells. 0 means all.
    pub threads: usize,
    /// Memory that it is expected to need at most, 0 where it does not matter.
    pub memory_bytes: u64,
}

/// A number among canonical parameters, by its path: `steps`, `optimizer.sgd_agc.lr`.
pub type Leaf<'a> = &'a dyn Fn(&str) -> Option<f64>;

/// What a kind's author writes.
pub trait Kind: Send + Sync + 'static {
    const NAME: &'static str;
    /// Raised when the same parameters and inputs give another result.
    const VERSION: u32;
    /// One sentence for the schema and `scaleshot schema`.
    const ABOUT: &'static str;
    type Params: Serialize + DeserializeOwned + JsonSchema + Send + Sync;
    /// Finds outside files by their content (`SourceIndex::path_of`), though other cells named their folders.
    const FINDS_SOURCES: bool = false;

    fn inputs() -> &'static [InputSpec] {
        const { &[] }
    }
    /// Output names and types; the first of an accepted type is what a bare node name means.
    fn outputs() -> &'static [(&'static str, ArtifactType)];
    /// The outputs are a matter of parameters ([`Kind::outputs_of`]), as of a command that declares its own.
    const OWN_OUTPUTS: bool = false;
    /// Names and types of what a cell with these parameters makes.
    fn outputs_of(_params: &Self::Params) -> Vec<(String, ArtifactType)> {
        Self::outputs().iter().map(|(name, of)| (name.to_string(), *of)).collect()
    }
    fn sources(_params: &Self::Params) -> Vec<SourcePath> {
        Vec::new()
    }
    /// Problems that the types cannot express, found before anything runs: (field, message).
    fn check(_params: &Self::Params) -> Vec<(String, String)> {
        Vec::new()
    }
    fn resources(_params: &Self::Params) -> Resources {
        Resources { threads: 1, memory_bytes: 0 }
    }
    /// GPUs that a cell holds while it runs.
    fn gpus(_params: &Self::Params) -> u32 {
        0
    }
    /// Ranks that share a cell's computing; each has threads of its own.
    fn ranks(_params: &Self::Params) -> u32 {
        1
    }
    /// Images that a cell goes through, passes counted one by one, for estimates of time. `leaf` gives numbers of its
    /// parameters by path, `rows` those of the datasets that it gets.
    fn images(_leaf: Leaf, rows: f64) -> f64 {
        rows
    }
    /// Rows of the dataset that it makes, in proportion to what other parameters would give.
    fn rows(_leaf: Leaf, rows: f64) -> f64 {
        rows
    }
    /// Has a parameter `device`, which says where it computes.
    const HAS_DEVICE: bool = false;
    /// What a finished cell's effect outside the store lacks now (`DIR/index.html is gone`); `None` where all is
    /// as the cell left it, or where the kind touches nothing outside.
    fn undelivered(_params: &Self::Params, _outputs: &BTreeMap<String, Artifact>) -> Option<String> {
        None
    }
    fn run(params: &Self::Params, cell: &Cell) -> Result<()>;
}

/// A kind with its parameter type erased, as the registry keeps it.
pub trait AnyKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> u32;
    fn about(&self) -> &'static str;
    fn schema(&self) -> Schema;
    fn inputs(&self) -> &'static [InputSpec];
    fn outputs(&self) -> &'static [(&'static str, ArtifactType)];
    fn outputs_of(&self, params: &Value) -> Result<Vec<(String, ArtifactType)>>;
    /// Parameters with every default written out, so that a default spelled or left out gives one key.
    fn canonical(&self, params: &Value) -> Result<Value>;
    fn sources(&self, params: &Value) -> Result<Vec<SourcePath>>;
    fn check(&self, params: &Value) -> Result<Vec<(String, String)>>;
    fn resources(&self, params: &Value) -> Result<Resources>;
    fn gpus(&self, params: &Value) -> Result<u32>;
    fn ranks(&self, params: &Value) -> Result<u32>;
    fn images(&self, leaf: Leaf, rows: f64) -> f64;
    fn rows(&self, leaf: Leaf, rows: f64) -> f64;
    /// Whether it has a parameter `device`.
    fn has_device(&self) -> bool;
    /// Whether it finds outside files by their content, though other cells named their folders.
    fn finds_sources(&self) -> bool;
    fn undelivered(&self, params: &Value, outputs: &BTreeMap<String, Artifact>) -> Result<Option<String>>;
    fn run(&self, params: &Value, cell: &Cell) -> Result<()>;
}

/// Turns a [`Kind`] into an [`AnyKind`].
pub struct Erased<K>(pub std::marker::PhantomData<K>);

impl<K: Kind> Erased<K> {
    pub const NEW: Self = Erased(std::marker::PhantomData);

    fn typed(params: &Value) -> Result<K::Params> {
        serde_path_to_error::deserialize(params)
            .map_err(|e| Error::invalid(format!("{}: {}: {}", K::NAME, e.path(), e.inner())))
    }
}

impl<K: Kind> AnyKind for Erased<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }
    fn version(&self) -> u32 {
        K::VERSION
    }
    fn about(&self) -> &'static str {
        K::ABOUT
    }
    fn schema(&self) -> Schema {
        schemars::generate::SchemaSettings::draft2020_12()
            .with(|s| s.inline_subschemas = true)
            .into_generator()
            .into_root_schema_for::<K::Params>()
    }
    fn inputs(&self) -> &'static [InputSpec] {
        K::inputs()
    }
    fn outputs(&self) -> &'static [(&'static str, ArtifactType)] {
        K::outputs()
    }
    fn outputs_of(&self, params: &Value) -> Result<Vec<(String, ArtifactType)>> {
        if K::OWN_OUTPUTS {
            return Ok(K::outputs_of(&Self::typed(params)?));
        }
        Ok(K::outputs().iter().map(|(name, of)| (name.to_string(), *of)).collect())
    }
    fn canonical(&self, params: &Value) -> Result<Value> {
        Ok(serde_json::to_value(Self::typed(params)?)?)
    }
    fn sources(&self, params: &Value) -> Result<Vec<SourcePath>> {
        Ok(K::sources(&Self::typed(params)?))
    }
    fn check(&self, params: &Value) -> Result<Vec<(String, String)>> {
        Ok(K::check(&Self::typed(params)?))
    }
    fn finds_sources(&self) -> bool {
        K::FINDS_SOURCES
    }
    fn resources(&self, params: &Value) -> Result<Resources> {
        Ok(K::resources(&Self::typed(params)?))
    }
    fn gpus(&self, params: &Value) -> Result<u32> {
        Ok(K::gpus(&Self::typed(params)?))
    }
    fn ranks(&self, params: &Value) -> Result<u32> {
        Ok(K::ranks(&Self::typed(params)?))
    }
    fn images(&self, leaf: Leaf, rows: f64) -> f64 {
        K::images(leaf, rows)
    }
    fn rows(&self, leaf: Leaf, rows: f64) -> f64 {
        K::rows(leaf, rows)
    }
    fn has_device(&self) -> bool {
        K::HAS_DEVICE
    }
    fn undelivered(&self, params: &Value, outputs: &BTreeMap<String, Artifact>) -> Result<Option<String>> {
        Ok(K::undelivered(&Self::typed(params)?, outputs))
    }
    fn run(&self, params: &Value, cell: &Cell) -> Result<()> {
        K::run(&Self::typed(params)?, cell)
    }
}

/// The registry: one line a kind.
pub static KINDS: &[&dyn AnyKind] = &[
    &Erased::<dataset::Dataset>::NEW,
    &Erased::<merge::Merge>::NEW,
    &Erased::<images::Images>::NEW,
    &Erased::<subset::Subset>::NEW,
    &Erased::<import_model::ImportModel>::NEW,
    &Erased::<pretrain::Pretrain>::NEW,
    &Erased::<transfer::Transfer>::NEW,
    &Erased::<embed::Embed>::NEW,
    &Erased::<probe::Probe>::NEW,
    &Erased::<evaluate::Evaluate>::NEW,
    &Erased::<compare::Compare>::NEW,
    &Erased::<compare::Compare>::NEW,
    &Erased::<scaling::Scaling>::NEW,
    &Erased::<table::Table>::NEW,
    &Erased::<command::Command>::NEW,
    &Erased::<query::Query>::NEW,
    &Erased::<report::Report>::NEW,
    &Erased::<export::Export>::NEW,
];

pub fn find(name: &str) -> Option<&'static dyn AnyKind> {
    KINDS.iter().copied().find(|k| k.name() == name)
}
