//! Frozen cells: those that stay as they are although their inputs, parameters or version changed.
//!
//! Which cells are frozen is a decision of people, so it is kept by pipeline and cell, with when and why, and
//! never enters a key: what follows a frozen cell depends on the content of its artifacts as always.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Store, last};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// The record that a cell stays at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    pub key: Digest,
    pub since_unix_ms: u64,
    /// Why, in the words of who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Store {
    /// The frozen cells of a pipeline, by cell.
    ///
    /// # Errors
    /// Unlike an index, a decision that cannot be read is an error: thawing in silence would compute what was
    /// meant to stay.
    pub fn frozen(&self, pipeline: &str) -> Result<BTreeMap<String, Frozen>> {
        let name = last::name_in("frozen", pipeline);
        let Some(bytes) = self.objects.get(&name)? else { return Ok(BTreeMap::new()) };
        serde_json::from_slice(&bytes).map_err(|e| Error::Store {
            message: format!("{name} is damaged: {e}"),
            hint: Some(
                "it says which cells are frozen; `scaleshot verify --repair` removes it, then freeze them again".into(),
            ),
            source: Some(Box::new(e)),
        })
    }

    /// Changes which cells of a pipeline are frozen.
    pub fn update_frozen(&self, pipeline: &str, change: impl FnOnce(&mut BTreeMap<String, Frozen>)) -> Result<()> {
        let name = last::name_in("frozen", pipeline);
        let _lock = self.lock_named(&name.replace('/', "-"))?;
        let mut cells = self.frozen(pipeline)?;
        change(&mut cells);
        if cells.is_empty() {
            return self.objects.delete(&name);
        }
        self.objects.put(&name, serde_json::to_vec(&cells)?)
    }

    /// Keys at which cells of any pipeline are frozen, which no collection may take.
    pub(super) fn all_frozen(&self) -> Result<Vec<Digest>> {
        let mut keys = Vec::new();
        for (name, _) in self.objects.list("frozen")? {
            let cells: BTreeMap<String, Frozen> = match self.objects.get(&name)? {
                Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                    Error::store(format!("{name} is damaged: {e}")).with_hint("run `scaleshot verify --repair` first")
                })?,
                None => continue,
            };
            keys.extend(cells.values().map(|f| f.key));
        }
        Ok(keys)
    }
}
