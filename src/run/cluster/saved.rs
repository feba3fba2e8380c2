//! Saved plans: a pipeline as its jobs see it.
//!
//! A child's key depends on what its parents made, so what is handed to a queue cannot be a list of keys. It is the
//! expanded cells and the digests of all outside files, by content: the plan's digest decides every key in it.
//! The pipeline's file, its parameters and the submitter's machine are not needed again.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    digest::{Digest, canonical},
    error::{Error, Result},
    kind::AnyKind,
    pipeline::{CellInput, CellSpec, Limits, Pipeline},
    plan::{Parent, Planner, State},
    store::{Last, Mark, Store, source::SourceIndex},
};

/// This program, as plans name it: nodes with another one refuse to compute.
pub const PROGRAM: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

#[derive(Serialize, Deserialize)]
struct Text {
    program: String,
    pipeline: String,
    cells: Vec<CellText>,
}

#[derive(Serialize, Deserialize)]
struct CellText {
    id: String,
    node: String,
    kind: String,
    version: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    axes: Vec<(String, Value)>,
    params: Value,
    /// By field: cell and output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    inputs: BTreeMap<String, Vec<(usize, String)>>,
    /// By path; absent where it was missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sources: BTreeMap<PathBuf, Digest>,
    limits: Limits,
}

/// A plan that was saved.
pub struct SavedPlan {
    pub digest: Digest,
    pub program: String,
    pub pipeline: Pipeline,
    /// By cell: what its outside files were at submission.
    pub sources: Vec<BTreeMap<PathBuf, Digest>>,
}

/// What a job leaves when its cell is current.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub key: Digest,
    pub wall_ms: u64,
    /// Whether this job computed it.
    pub ran: bool,
    pub job: Option<String>,
}

impl SavedPlan {
    /// Puts a pipeline into the store.
    pub fn save(pipeline: &Pipeline, store: &Store, sources: &SourceIndex) -> Result<Digest> {
        let bytes = Self::text(pipeline, sources)?;
        let digest = Digest::of(&bytes);
        store.put_plan(&digest, bytes)?;
        Ok(digest)
    }

    /// What the digest of a pipeline would be, were it saved now.
    pub fn digest_of(pipeline: &Pipeline, sources: &SourceIndex) -> Result<Digest> {
        Ok(Digest::of(&Self::text(pipeline, sources)?))
    }

    /// Sources are looked at; one that is missing blocks only its own cells.
    fn text(pipeline: &Pipeline, sources: &SourceIndex) -> Result<Vec<u8>> {
        let mut cells = Vec::with_capacity(pipeline.cells.len());
        for cell in &pipeline.cells {
            let mut seen = BTreeMap::new();
            for source in cell.kind.sources(&cell.params)? {
                if let Ok(tree) = sources.digest_tree(&source.path) {
                    seen.insert(source.path, tree.digest);
                }
            }
            let input = |i: &CellInput| (i.cell, i.output.clone());
            cells.push(CellText {
                id: cell.id.clone(),
                node: cell.node.clone(),
                kind: cell.kind.name().into(),
                version: cell.kind.version(),
                axes: cell.axes.clone(),
                params: cell.params.clone(),
                inputs: cell.inputs.iter().map(|(f, i)| (f.clone(), i.iter().map(input).collect())).collect(),
                sources: seen,
                limits: cell.limits.clone(),
            });
        }
        let text = Text { program: PROGRAM.into(), pipeline: pipeline.name.clone(), cells };
        Ok(canonical(&serde_json::to_value(text)?).into_bytes())
    }

    /// # Errors
    /// Where the store has no such plan, or it was saved by another program than this one.
    pub fn load(store: &Store, digest: &Digest, kinds: &[&'static dyn AnyKind]) -> Result<Self> {
        let bytes = store.plan_bytes(digest)?.ok_or_else(|| {
            Error::store(format!("{} has no plan {}", store.url(), digest.short())).with_hint(
                "is this the store that the plan was submitted from? a shared folder has one path everywhere",
            )
        })?;
        if Digest::of(&bytes) != *digest {
            return Err(Error::store(format!("plan {} is damaged", digest.short())).with_hint("submit it again"));
        }
        let text: Text = serde_json::from_slice(&bytes)?;
        let other = |what: String| {
            Error::invalid(format!("{what}; this is {PROGRAM}"))
                .with_hint("install the same program on every node, or name it by `program:` in the profile")
        };
        if text.program != PROGRAM {
            return Err(other(format!("the plan was submitted by {}", text.program)));
        }
        let (mut cells, mut sources) = (Vec::with_capacity(text.cells.len()), Vec::with_capacity(text.cells.len()));
        for cell in text.cells {
            let kind = kinds
                .iter()
                .copied()
                .find(|k| k.name() == cell.kind && k.version() == cell.version)
                .ok_or_else(|| other(format!("the plan needs kind {} {}", cell.kind, cell.version)))?;
            let input = |(cell, output)| CellInput { cell, output };
            cells.push(CellSpec {
                id: cell.id,
                node: cell.node,
                kind,
                axes: cell.axes,
                params: cell.params,
                limits: cell.limits,
                inputs: cell.inputs.into_iter().map(|(f, i)| (f, i.into_iter().map(input).collect())).collect(),
            });
            sources.push(cell.sources);
        }
        let pipeline = Pipeline { name: text.pipeline, path: PathBuf::new(), cells };
        Ok(SavedPlan { digest: *digest, program: text.program, pipeline, sources })
    }

    /// What each wanted cell made, where that is known; those without a result are left out.
    ///
    /// Asks the marks first, and judges a cell by its own parents only where it has none: somebody else, with
    /// another plan, may have computed it.
    pub fn resolve(&self, store: &Store, planner: &Planner, wanted: &[usize]) -> Result<HashMap<usize, Arc<Last>>> {
        let known: BTreeMap<usize, Digest> = store.known(&self.digest).ok().flatten().unwrap_or_default();
        let mut resolved: HashMap<usize, Option<Arc<Last>>> = HashMap::new();
        let mut open: Vec<usize> = wanted.to_vec();
        while let Some(&cell) = open.last() {
            if resolved.contains_key(&cell) {
                open.pop();
                continue;
            }
            let spec = &self.pipeline.cells[cell];
            let key = match known.get(&cell) {
                Some(key) => Some(*key),
                None => store.mark::<Done>(&self.digest, Mark::Done, cell).ok().flatten().map(|done| done.key),
            };
            if let Some(key) = key
                && let Ok(last) = planner.recorded(&spec.id, &key)?
            {
                resolved.insert(cell, Some(last));
                open.pop();
                continue;
            }
            let parents: Vec<usize> = spec.inputs.values().flatten().map(|i| i.cell).collect();
            let unresolved: Vec<usize> = parents.iter().copied().filter(|p| !resolved.contains_key(p)).collect();
            if unresolved.is_empty() {
                let judged = planner.judge(cell, &|parent| match resolved.get(&parent) {
                    Some(Some(last)) => Parent::Known(&last.outputs),
                    _ => Parent::Waits,
                })?;
                let current = if matches!(judged.state, State::Fresh | State::Frozen) { judged.current } else { None };
                resolved.insert(cell, current);
                open.pop();
            } else {
                open.extend(unresolved);
            }
        }
        Ok(wanted.iter().filter_map(|cell| Some((*cell, resolved.get(cell)?.clone()?))).collect())
    }
}
