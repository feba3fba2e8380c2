//! Saved plans, and what became of their cells: what processes on many machines tell each other by.
//!
//! | name | holds | written |
//! |---|---|---|
//! | `plans/DIGEST.json` | a pipeline's cells and what their sources were, by content | before the first job |
//! | `jobs/DIGEST/known.json` | keys of the cells that were current at the last submission | with each submission |
//! | `jobs/DIGEST/MARK/000017.json` | one [`Mark`] of one cell | by its job |
//! | `jobs/DIGEST/logs/` | what the job's shell said, where the store is a folder | by the queue |
//!
//! Marks save questions and decide nothing: a cell is done because its record stands. A listing of one kind of
//! mark tells how ten thousand cells stand in ten requests.

use std::collections::BTreeSet;

use serde::{Serialize, de::DeserializeOwned};

use super::Store;
use crate::{digest::Digest, error::Result};

/// What a job tells of its cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Started,
    Done,
    Failed,
}

impl Mark {
    fn folder(self) -> &'static str {
        match self {
            Mark::Started => "started",
            Mark::Done => "done",
            Mark::Failed => "failed",
        }
    }
}

impl Store {
    /// The bytes must be those of the digest.
    pub fn put_plan(&self, plan: &Digest, bytes: Vec<u8>) -> Result<()> {
        let name = format!("plans/{plan}.json");
        if self.objects.look(&name)?.is_none() {
            self.objects.create(&name, bytes)?;
        }
        Ok(())
    }

    pub fn plan_bytes(&self, plan: &Digest) -> Result<Option<Vec<u8>>> {
        self.objects.get(&format!("plans/{plan}.json"))
    }

    /// Digests of all saved plans, sorted.
    pub fn plans(&self) -> Result<Vec<Digest>> {
        let names = self.objects.list("plans")?;
        Ok(names.iter().filter_map(|(n, _)| n.strip_prefix("plans/")?.strip_suffix(".json")?.parse().ok()).collect())
    }

    pub fn put_known<T: Serialize>(&self, plan: &Digest, known: &T) -> Result<()> {
        self.write_json(&format!("jobs/{plan}/known.json"), known)
    }

    pub fn known<T: DeserializeOwned>(&self, plan: &Digest) -> Result<Option<T>> {
        self.read_json(&format!("jobs/{plan}/known.json"), "list")
    }

    pub fn put_mark<T: Serialize>(&self, plan: &Digest, mark: Mark, cell: usize, value: &T) -> Result<()> {
        self.write_json(&mark_name(plan, mark, cell), value)
    }

    pub fn mark<T: DeserializeOwned>(&self, plan: &Digest, mark: Mark, cell: usize) -> Result<Option<T>> {
        self.read_json(&mark_name(plan, mark, cell), "mark")
    }

    pub fn clear_mark(&self, plan: &Digest, mark: Mark, cell: usize) -> Result<()> {
        self.objects.delete(&mark_name(plan, mark, cell))
    }

    /// The cells that have a mark.
    pub fn marked(&self, plan: &Digest, mark: Mark) -> Result<BTreeSet<usize>> {
        let names = self.objects.list(&format!("jobs/{plan}/{}", mark.folder()))?;
        Ok(names.iter().filter_map(|(n, _)| n.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()).collect())
    }
}

fn mark_name(plan: &Digest, mark: Mark, cell: usize) -> String {
    format!("jobs/{plan}/{}/{cell:06}.json", mark.folder())
}
