//! Which cells run, and why.
//!
//! One planner serves `plan` and `run`: `plan` judges every cell with what is known now; `run` judges a cell
//! again, with the same function, once its parents are done, and so finds the ones that need not run after all
//! (early cut-off).
//!
//! A cell is **fresh** when a record with its key exists, the files it names are whole, and what it put outside
//! the store is still there. Its key is a hash of its parts (the table in [`crate::store::part`]), which hold
//! *contents* of inputs: times would make a checkout or a copy rerun everything, places would make two machines
//! disagree, and names of nodes would make a renaming cost a training.
//!
//! | state | means | reasons |
//! |---|---|---|
//! | fresh | nothing to do | none |
//! | frozen | stays as it is, by decision | when it was frozen, and what it would run for |
//! | run | it has to run, or it may have to: with only `waits for X`, X decides | differences from the last time it was current |
//! | blocked | it cannot run: an outside file is missing, or a cell before it is blocked | what is missing and how to obtain it |
//!
//! It runs nothing and writes nothing but the stat cache.

#[cfg(test)]
pub(crate) mod fixture;
mod reason;
mod walk;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use rayon::prelude::*;
use serde::Serialize;

pub use self::{
    reason::{InputChange, Reason, SourceChange},
    walk::{Parent, source_paths},
};
use crate::{
    digest::Digest,
    error::{Error, Result},
    pipeline::Pipeline,
    store::{
        Frozen, Last, Store,
        part::{self, Part},
        record::{Outputs, Record},
        source::{SourceIndex, parse_listing},
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Fresh,
    /// It stays at the result that it was frozen at.
    Frozen,
    Run,
    Blocked,
}

/// Cells that run though they are fresh.
#[derive(Clone, Debug, Default)]
pub enum Force {
    #[default]
    None,
    All,
    /// Indices into [`Pipeline::cells`].
    Cells(HashSet<usize>),
}

impl Force {
    fn covers(&self, cell: usize) -> bool {
        match self {
            Force::None => false,
            Force::All => true,
            Force::Cells(cells) => cells.contains(&cell),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Limit to these cells and what they need, as indices; `None` is all.
    pub only: Option<Vec<usize>>,
    pub force: Force,
}

/// One cell of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// Index into [`Pipeline::cells`].
    #[serde(skip)]
    pub index: usize,
    pub cell: String,
    pub kind: &'static str,
    pub state: State,
    pub reasons: Vec<Reason>,
    /// `None` while it depends on cells that have to run first.
    pub key: Option<Digest>,
    /// How long it took the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_ms: Option<u64>,
    /// What is in the store, for a fresh cell.
    #[serde(skip)]
    pub current: Option<Arc<Last>>,
}

/// In the order of the pipeline, parents first.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub cells: Vec<Planned>,
}

impl Plan {
    pub fn count(&self, state: State) -> usize {
        self.cells.iter().filter(|c| c.state == state).count()
    }
}

/// What [`Planner::judge`] found.
pub struct Verdict {
    pub state: State,
    pub reasons: Vec<Reason>,
    pub key: Option<Digest>,
    /// Complete where there is a key.
    pub parts: Vec<Part>,
    /// Cells that have to run first, as indices.
    pub waits: Vec<usize>,
    /// For a fresh cell, what is in the store.
    pub current: Option<Arc<Last>>,
}

/// Everything `why` tells of one cell.
pub struct Why {
    pub planned: Planned,
    /// What its key is made of, as far as it is known.
    pub parts: Vec<Part>,
    /// What it was when it last was current.
    pub last: Option<Record>,
    /// The latest records of the cells that it takes its inputs from, by index.
    pub parents: BTreeMap<usize, Record>,
}

pub fn plan(pipeline: &Pipeline, store: &Store, sources: &SourceIndex, options: &PlanOptions) -> Result<Plan> {
    Planner::new(pipeline, store, sources, options)?.plan()
}

pub fn why(
    pipeline: &Pipeline,
    store: &Store,
    sources: &SourceIndex,
    options: &PlanOptions,
    cell: usize,
) -> Result<Why> {
    let options = PlanOptions { only: Some(vec![cell]), force: options.force.clone() };
    let planner = Planner::new(pipeline, store, sources, &options)?;
    let plan = planner.plan()?;
    let states: HashMap<usize, &Planned> = plan.cells.iter().map(|c| (c.index, c)).collect();
    let verdict = planner.judge(cell, &|parent| known(states.get(&parent).copied()))?;
    let planned =
        states.get(&cell).copied().cloned().ok_or_else(|| Error::invalid("bug: a cell is not in its plan"))?;
    let last = planner.last.get(&planned.cell).map(|last| store.record(&last.key)).transpose()?.flatten();
    let mut parents = BTreeMap::new();
    for input in pipeline.cells[cell].inputs.values().flatten() {
        if let Some(current) = states.get(&input.cell).and_then(|p| p.current.as_ref())
            && let Some(record) = store.record(&current.key)?
        {
            parents.insert(input.cell, record);
        }
    }
    Ok(Why { planned, parts: verdict.parts, last, parents })
}

fn known(planned: Option<&Planned>) -> Parent<'_> {
    match planned {
        Some(Planned { state: State::Fresh | State::Frozen, current: Some(last), .. }) => Parent::Known(&last.outputs),
        Some(Planned { state: State::Blocked, .. }) => Parent::Blocked,
        _ => Parent::Waits,
    }
}

/// Judges the cells of one pipeline against one store.
pub struct Planner<'a> {
    pipeline: &'a Pipeline,
    store: &'a Store,
    sources: &'a SourceIndex,
    options: &'a PlanOptions,
    /// By cell.
    last: HashMap<String, Arc<Last>>,
    /// By cell.
    frozen: BTreeMap<String, Frozen>,
}

/// Cells prepared at a time, which bounds the memory of a plan.
const CHUNK: usize = 1024;

impl<'a> Planner<'a> {
    pub fn new(
        pipeline: &'a Pipeline,
        store: &'a Store,
        sources: &'a SourceIndex,
        options: &'a PlanOptions,
    ) -> Result<Self> {
        let last = store.last(&pipeline.name)?.into_iter().map(|(cell, last)| (cell, Arc::new(last))).collect();
        Ok(Planner { pipeline, store, sources, options, last, frozen: store.frozen(&pipeline.name)? })
    }

    /// As [`Self::new`], without what was current before: judges alike, and tells poorer reasons.
    pub fn unread(
        pipeline: &'a Pipeline,
        store: &'a Store,
        sources: &'a SourceIndex,
        options: &'a PlanOptions,
    ) -> Result<Self> {
        let frozen = store.frozen(&pipeline.name)?;
        Ok(Planner { pipeline, store, sources, options, last: HashMap::new(), frozen })
    }

    /// The cells that the options ask for and all that they need, as indices in the pipeline's order.
    pub fn selection(&self) -> Vec<usize> {
        let Some(only) = &self.options.only else { return (0..self.pipeline.cells.len()).collect() };
        let mut wanted = vec![false; self.pipeline.cells.len()];
        let mut open = only.clone();
        while let Some(cell) = open.pop() {
            // What a frozen cell was made from is not needed for its sake.
            let frozen = self.frozen.contains_key(&self.pipeline.cells[cell].id);
            if !std::mem::replace(&mut wanted[cell], true) && !frozen {
                open.extend(self.pipeline.cells[cell].inputs.values().flatten().map(|input| input.cell));
            }
        }
        (0..wanted.len()).filter(|&i| wanted[i]).collect()
    }

    pub fn plan(&self) -> Result<Plan> {
        let _survey = self.store.survey(self.pipeline.cells.len())?;
        let mut cells: Vec<Planned> = Vec::new();
        let mut place: HashMap<usize, usize> = HashMap::new();
        for chunk in self.selection().chunks(CHUNK) {
            let own: Vec<Result<walk::Own>> =
                chunk.par_iter().map(|&index| walk::own(&self.pipeline.cells[index])).collect();
            for (&index, own) in chunk.iter().zip(own) {
                let verdict =
                    self.judge_prepared(index, own?, &|parent| known(place.get(&parent).map(|&p| &cells[p])))?;
                let cell = &self.pipeline.cells[index];
                place.insert(index, cells.len());
                cells.push(Planned {
                    index,
                    cell: cell.id.clone(),
                    kind: cell.kind.name(),
                    state: verdict.state,
                    reasons: verdict.reasons,
                    key: verdict.key,
                    expected_ms: self.last.get(&cell.id).map(|last| last.wall_ms),
                    current: verdict.current,
                });
            }
        }
        Ok(Plan { cells })
    }

    /// Judges one cell by what `known` tells of its parents.
    pub fn judge<'p>(&self, index: usize, known: &dyn Fn(usize) -> Parent<'p>) -> Result<Verdict> {
        self.judge_prepared(index, walk::own(&self.pipeline.cells[index])?, known)
    }

    /// What the cell was when it last was current, as far as this planner has read it.
    pub fn last(&self, cell: &str) -> Option<&Arc<Last>> {
        self.last.get(cell)
    }

    /// Fresh cells whose latest key was another one: gone back to old values, or computed elsewhere.
    pub fn returned(&self, plan: &Plan) -> BTreeMap<String, Last> {
        plan.cells
            .iter()
            .filter_map(|c| Some((c, c.current.as_ref()?)))
            .filter(|(c, current)| self.last(&c.cell).is_none_or(|last| last != *current))
            .map(|(c, current)| (c.cell.clone(), (**current).clone()))
            .collect()
    }

    /// A record's outputs if it stands behind `key`: `Ok(Err(reason))` where it does not.
    pub fn recorded(&self, cell: &str, key: &Digest) -> Result<Result<Arc<Last>, Option<Reason>>> {
        let Some(stamp) = self.store.record_stamp(key)? else { return Ok(Err(None)) };
        let last = match self.last.get(cell) {
            Some(last) if last.key == *key && last.stamp == stamp => last.clone(),
            _ => match self.store.record(key) {
                Ok(Some(record)) => Arc::new(Last::new(record, stamp)),
                Ok(None) => return Ok(Err(None)),
                Err(Error::Store { message, .. }) => return Ok(Err(Some(Reason::RecordDamaged { message }))),
                Err(e) => return Err(e),
            },
        };
        Ok(match self.store.first_missing(&last.outputs)? {
            Some((output, file)) => {
                Err(Some(Reason::ArtifactMissing { output: output.into(), file: file.name.clone() }))
            }
            None => Ok(last),
        })
    }

    fn judge_prepared<'p>(&self, index: usize, own: walk::Own, known: &dyn Fn(usize) -> Parent<'p>) -> Result<Verdict> {
        let cell = &self.pipeline.cells[index];
        let walked = walk::walk(self.pipeline, cell, own, self.sources, known)?;
        if let Some(frozen) = self.frozen.get(&cell.id) {
            return self.judge_frozen(index, frozen, walked);
        }
        if !walked.blocked.is_empty() {
            let (reasons, parts, waits) = (walked.blocked, walked.parts, walked.waits);
            return Ok(Verdict { state: State::Blocked, reasons, key: None, parts, waits, current: None });
        }
        let key = walked.waits.is_empty().then(|| part::key(&walked.parts));
        let mut reasons = Vec::new();
        if self.options.force.covers(index) {
            reasons.push(Reason::Forced);
        } else if let Some(key) = &key {
            match self.recorded(&cell.id, key)? {
                Ok(last) => match cell.kind.undelivered(&cell.params, &last.outputs)? {
                    Some(what) => reasons.push(Reason::Undelivered { what }),
                    None => {
                        let current = Some(last);
                        let (state, parts, key) = (State::Fresh, walked.parts, Some(*key));
                        return Ok(Verdict { state, reasons, key, parts, waits: Vec::new(), current });
                    }
                },
                Err(Some(reason)) => reasons.push(reason),
                Err(None) => reasons.extend(self.changes(index, &walked, Some(key))?),
            }
        } else {
            reasons.extend(self.changes(index, &walked, None)?);
        }
        if !walked.waits.is_empty() {
            let cells = walked.waits.iter().map(|&w| self.pipeline.cells[w].id.clone()).collect();
            reasons.push(Reason::Waits { cells });
        }
        Ok(Verdict { state: State::Run, reasons, key, parts: walked.parts, waits: walked.waits, current: None })
    }

    /// A frozen cell stays where it is, or cannot: to compute it would undo the decision.
    fn judge_frozen(&self, index: usize, frozen: &Frozen, walked: walk::Walked) -> Result<Verdict> {
        let cell = &self.pipeline.cells[index];
        let (key, parts, waits) = (Some(frozen.key), walked.parts.clone(), Vec::new());
        let last = match self.recorded(&cell.id, &frozen.key)? {
            Ok(last) => last,
            Err(_) => {
                let reasons = vec![Reason::FrozenGone { key: frozen.key }];
                return Ok(Verdict { state: State::Blocked, reasons, key: None, parts, waits, current: None });
            }
        };
        let mut reasons = vec![Reason::Frozen { note: frozen.note.clone() }];
        if let Some(record) = self.store.record(&frozen.key)? {
            reasons.extend(self.differences(index, &walked, &record));
        }
        Ok(Verdict { state: State::Frozen, reasons, key, parts, waits, current: Some(last) })
    }

    /// What is different from the last time this cell was current. Never empty where there is a key.
    fn changes(&self, index: usize, walked: &walk::Walked, key: Option<&Digest>) -> Result<Vec<Reason>> {
        let cell = &self.pipeline.cells[index];
        let Some(last) = self.last.get(&cell.id) else { return Ok(vec![Reason::NeverRan]) };
        if Some(&last.key) == key {
            return Ok(vec![Reason::RecordMissing]);
        }
        let record = match self.store.record(&last.key) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(vec![Reason::LastRecordMissing { key: last.key }]),
            Err(Error::Store { message, .. }) => return Ok(vec![Reason::RecordDamaged { message }]),
            Err(e) => return Err(e),
        };
        let mut reasons = self.differences(index, walked, &record);
        if reasons.is_empty() && key.is_some() {
            reasons.push(Reason::KeyFormat);
        }
        Ok(reasons)
    }

    /// What is different from a record, as far as it is known.
    fn differences(&self, index: usize, walked: &walk::Walked, record: &Record) -> Vec<Reason> {
        let context = reason::Context {
            open: &walked.open,
            names: &self.node_names(index),
            listing: &|digest| {
                self.sources
                    .files(digest)
                    .or_else(|| parse_listing(&String::from_utf8(self.store.bytes(digest).ok()?).ok()?).ok())
            },
        };
        reason::differences(&record.parts, &walked.parts, &context)
    }

    /// The node behind each input field that takes from one node only.
    fn node_names(&self, index: usize) -> BTreeMap<String, String> {
        let cell = &self.pipeline.cells[index];
        let node = |field: &String| {
            let mut nodes = cell.inputs[field].iter().map(|input| &self.pipeline.cells[input.cell].node);
            let first = nodes.next()?;
            nodes.all(|node| node == first).then(|| (field.clone(), first.clone()))
        };
        cell.inputs.keys().filter_map(node).collect()
    }
}

/// Inputs of a cell as its kind sees them, from the outputs of its parents.
pub fn inputs<'p>(
    pipeline: &Pipeline,
    index: usize,
    outputs: &dyn Fn(usize) -> Option<&'p Outputs>,
) -> Result<BTreeMap<String, Vec<crate::kind::Input>>> {
    let cell = &pipeline.cells[index];
    let mut fields = BTreeMap::new();
    for (field, inputs) in &cell.inputs {
        let mut artifacts = Vec::with_capacity(inputs.len());
        for input in inputs {
            let parent = &pipeline.cells[input.cell];
            let artifact = outputs(input.cell).and_then(|o| o.get(&input.output)).ok_or_else(|| {
                Error::invalid(format!("{} made no output {} for {}", parent.id, input.output, cell.id))
            })?;
            artifacts.push(crate::kind::Input {
                node: parent.node.clone(),
                output: input.output.clone(),
                kind: parent.kind.name().into(),
                axes: parent.axes.clone(),
                artifact: artifact.clone(),
            });
        }
        fields.insert(field.clone(), artifacts);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests;
