//! What a run does, against what a plan says, on hand-made pipelines.

mod crash;
mod property;
mod requests;
mod rerun;
mod scale;
mod sharing;
mod trouble;

use std::sync::Mutex;

use super::*;
use crate::{
    digest::Digest,
    plan::{self, Plan},
};

/// Collects events and may act on them.
pub(super) struct Watcher<'a> {
    events: Mutex<Vec<Event>>,
    act: Box<dyn Fn(&Event) + Send + Sync + 'a>,
}

impl<'a> Watcher<'a> {
    pub fn acting(act: impl Fn(&Event) + Send + Sync + 'a) -> Self {
        Watcher { events: Mutex::default(), act: Box::new(act) }
    }

    pub fn new() -> Self {
        Self::acting(|_| {})
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Cells that were computed, sorted.
    pub fn started(&self) -> Vec<String> {
        let name = |e: &Event| if let Event::Started { cell, .. } = e { Some(cell.clone()) } else { None };
        let mut cells: Vec<String> = self.events().iter().filter_map(name).collect();
        cells.sort();
        cells
    }
}

impl Observer for Watcher<'_> {
    fn event(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
        (self.act)(event);
    }
}

/// A store that forgets nothing between runs, each of which looks at sources anew.
pub(super) struct Bench {
    pub store: Store,
}

impl Bench {
    pub fn new() -> Self {
        Bench { store: Store::open("memory://").unwrap() }
    }

    pub fn plan(&self, pipeline: &Pipeline) -> Plan {
        let sources = SourceIndex::open(&self.store).unwrap();
        plan::plan(pipeline, &self.store, &sources, &PlanOptions::default()).unwrap()
    }

    /// `cell: reason; reason` of every cell that is not fresh.
    pub fn told(&self, pipeline: &Pipeline) -> Vec<String> {
        let told = |c: &plan::Planned| {
            let reasons: Vec<String> = c.reasons.iter().map(ToString::to_string).collect();
            format!("{}: {}", c.cell, reasons.join("; "))
        };
        self.plan(pipeline).cells.iter().filter(|c| c.state != State::Fresh).map(told).collect()
    }

    pub fn run_with(&self, pipeline: &Pipeline, options: &RunOptions, watcher: &Watcher) -> Summary {
        let sources = SourceIndex::open(&self.store).unwrap();
        run(pipeline, &self.store, &sources, options, watcher).unwrap()
    }

    /// Runs with two threads: (cells computed, summary).
    pub fn run(&self, pipeline: &Pipeline) -> (Vec<String>, Summary) {
        let watcher = Watcher::new();
        let summary = self.run_with(pipeline, &options(), &watcher);
        (watcher.started(), summary)
    }

    /// The text that a cell left.
    pub fn text(&self, pipeline: &Pipeline, cell: &str) -> String {
        let plan = self.plan(pipeline);
        let planned = plan.cells.iter().find(|c| c.cell == cell).unwrap();
        let file = planned.current.as_ref().unwrap().outputs["table"].file("t.txt").unwrap();
        String::from_utf8(self.store.bytes(&file.digest).unwrap()).unwrap()
    }

    /// Digests of all outputs of a pipeline whose cells are all fresh.
    pub fn outputs(&self, pipeline: &Pipeline) -> Vec<Digest> {
        let plan = self.plan(pipeline);
        plan.cells.iter().flat_map(|c| c.current.as_ref().unwrap().outputs.values().map(|a| a.digest())).collect()
    }
}

pub(super) fn options() -> RunOptions {
    RunOptions { threads: 2, ..RunOptions::default() }
}
