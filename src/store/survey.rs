//! One listing in place of ten thousand questions.
//!
//! Whether a cell is fresh depends on its record being there unchanged and its blobs having their sizes. On a disk
//! each is a stat. Over the network each would be a request, 20,000 for 10,000 cells; a listing tells a thousand
//! on a page, so a plan lists both kinds of object once and asks its questions of that. No index is kept: an
//! index can be out of date, a listing is the store itself.
//!
//! It does not outlive the plan: a running cell asks the store again, since others write to it meanwhile.

use std::collections::{HashMap, HashSet};

use super::{Store, objects::Tag};
use crate::error::Result;

/// What was listed.
pub struct Seen {
    objects: HashMap<String, Tag>,
    /// Written by this process since.
    changed: HashSet<String>,
    /// Prefixes that were listed to their end: what is not among the objects is not there.
    whole: Vec<&'static str>,
}

impl Seen {
    pub(super) fn forget(&mut self, name: &str) {
        self.changed.insert(name.into());
    }

    /// `None` where the listing does not tell; `Some(None)` where there is no such object.
    pub(super) fn tag(&self, name: &str) -> Option<Option<&Tag>> {
        if self.changed.contains(name) {
            return None;
        }
        match self.objects.get(name) {
            Some(tag) => Some(Some(tag)),
            None => self.whole.iter().any(|p| name.strip_prefix(p).is_some_and(|n| n.starts_with('/'))).then_some(None),
        }
    }
}

/// Until it is dropped, [`Store::record_stamp`] and [`Store::blob_bytes`] answer from a listing.
pub struct Survey<'a>(&'a Store);

/// Objects under one prefix above which a listing costs more than it saves, for a plan of one cell; and how many
/// more for each cell, since a cell would cost about two questions.
const FEW: usize = 8_000;
const PER_CELL: usize = 16;

impl Store {
    /// Lists records and blobs for a plan of so many cells. A folder answers as fast without, and lists nothing.
    ///
    /// Where the store holds far more than the plan needs, the listing stops, and what it has not met is asked
    /// for one by one. A server that cannot list (plain HTTP) is asked one by one too.
    pub fn survey(&self, cells: usize) -> Result<Survey<'_>> {
        if self.objects.folder().is_none() {
            let most = FEW + PER_CELL * cells;
            let mut seen = Seen { objects: HashMap::new(), changed: HashSet::new(), whole: Vec::new() };
            for prefix in ["records", "blobs"] {
                let mut left = most;
                let ended = self.objects.each(prefix, |meta| {
                    seen.objects.insert(meta.location.to_string(), Tag::of(&meta));
                    left -= 1;
                    left > 0
                });
                match ended {
                    Ok(true) => seen.whole.push(prefix),
                    Ok(false) => {}
                    Err(_) if self.objects.read_only() => break,
                    Err(e) => return Err(e),
                }
            }
            *self.objects.seen.write().unwrap_or_else(|e| e.into_inner()) = Some(seen);
        }
        Ok(Survey(self))
    }
}

impl Drop for Survey<'_> {
    fn drop(&mut self) {
        *self.0.objects.seen.write().unwrap_or_else(|e| e.into_inner()) = None;
    }
}
