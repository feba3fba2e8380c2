//! The latest key of each cell of a pipeline.
//!
//! It says what a cell was when it last was current, which is what a reason is told against; and it carries a
//! copy of each record's outputs, so that a run with nothing to do opens one file and not ten thousand. It is
//! never what makes a cell fresh: a record must stand behind it, unchanged.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{
    Store, fault,
    record::{Outputs, Record},
};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// One cell of a pipeline when it last was current.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Last {
    pub key: Digest,
    /// Of the record (see [`Store::record_stamp`]) from which the outputs are copied.
    pub stamp: String,
    /// How long it took, for estimates.
    pub wall_ms: u64,
    pub outputs: Outputs,
    /// That somebody took this result as current instead of computing it, and why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
}

impl Last {
    /// Of a record with this stamp.
    pub fn new(record: Record, stamp: String) -> Self {
        let accepted = record.accepted.map(|accepted| accepted.told());
        Last { key: record.key, stamp, wall_ms: record.wall_ms, outputs: record.outputs, accepted }
    }
}

impl Store {
    /// By cell. A file that cannot be read counts as absent: it only makes reasons poorer.
    pub fn last(&self, pipeline: &str) -> Result<HashMap<String, Last>> {
        let Some(bytes) = self.objects.get(&name_in("last", pipeline))? else { return Ok(HashMap::new()) };
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Names of the files that hold latest keys, one a pipeline.
    pub fn last_names(&self) -> Result<Vec<String>> {
        Ok(self.objects.list("last")?.into_iter().map(|(name, _)| name).collect())
    }

    /// The latest keys in one of these files.
    ///
    /// # Errors
    /// It is damaged. Where a collection asks what to keep, that must not count as nothing.
    pub fn last_of(&self, name: &str) -> Result<Vec<Digest>> {
        let Some(bytes) = self.objects.get(name)? else { return Ok(Vec::new()) };
        let cells: HashMap<String, Last> = serde_json::from_slice(&bytes).map_err(|e| {
            Error::store(format!("{name} is damaged: {e}"))
                .with_hint("run `scaleshot verify --repair`, then the pipeline")
        })?;
        Ok(cells.into_values().map(|last| last.key).collect())
    }

    /// Overlays `changed` on what is there; two runs of one pipeline keep each other's entries, on one machine by
    /// a lock and between machines by writing only over the state that was read.
    pub fn update_last(&self, pipeline: &str, changed: &BTreeMap<String, Last>) -> Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        let name = name_in("last", pipeline);
        let _lock = match self.lock_named(&name.replace('/', "-")) {
            // They spare work and make reasons richer: a store that can only be read does without.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => return Ok(()),
            lock => lock?,
        };
        if self.objects.read_only() {
            return Ok(());
        }
        loop {
            let (mut cells, tag) = match self.objects.get_tagged(&name)? {
                Some((bytes, tag)) => (serde_json::from_slice(&bytes).unwrap_or_default(), Some(tag)),
                None => (BTreeMap::<String, Last>::new(), None),
            };
            cells.extend(changed.iter().map(|(cell, last)| (cell.clone(), last.clone())));
            let text = serde_json::to_vec(&cells)?;
            fault::point("last.before");
            let put = match tag {
                Some(tag) => self.objects.replace(&name, text, &tag)?,
                None => self.objects.create(&name, text)?,
            };
            if put.is_some() {
                fault::point("last.published");
                return Ok(());
            }
        }
    }
}

/// Pipeline names are the user's, so anything that could be more than a file name is replaced by its digest.
pub(super) fn name_in(folder: &str, pipeline: &str) -> String {
    let plain = (1..=80).contains(&pipeline.len())
        && pipeline.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if plain {
        format!("{folder}/{pipeline}.json")
    } else {
        format!("{folder}/{}.json", Digest::of(pipeline.as_bytes()))
    }
}
