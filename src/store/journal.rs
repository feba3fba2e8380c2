//! The journal: what was current when a run ended, so that a collection can keep what the last runs need.
//!
//! A run that computed nothing and went back to nothing leaves no entry: the one before says the same.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Store;
use crate::{digest::Digest, error::Result};

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEntry {
    pub pipeline: String,
    pub finished_unix_ms: u64,
    /// Of all cells that were current at its end.
    pub keys: BTreeSet<Digest>,
}

impl Store {
    /// A store that can only be read keeps no journal.
    pub fn note_run(&self, entry: &RunEntry) -> Result<()> {
        if self.objects.read_only() {
            return Ok(());
        }
        let text = serde_json::to_vec(entry)?;
        // Two runs that end in one millisecond differ in content, or may share the entry.
        let name = format!("runs/{:014}-{}.json", entry.finished_unix_ms, Digest::of(&text).short());
        self.objects.put(&name, text)
    }

    /// Names of all entries, newest first.
    pub fn run_names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.objects.list("runs")?.into_iter().map(|(name, _)| name).collect();
        names.sort_by(|a, b| b.cmp(a));
        Ok(names)
    }

    /// An entry by its name; `None` where it is gone or cannot be read, which loses nothing but memory.
    pub fn run_entry(&self, name: &str) -> Result<Option<RunEntry>> {
        Ok(self.objects.get(name)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(super) fn forget_run(&self, name: &str) -> Result<()> {
        self.objects.delete(name)
    }
}
