//! Collection of garbage: what nobody needs any more leaves the store.
//!
//! Kept are the records that the caller names, frozen ones, and all that these were made from; then the blobs
//! that a kept record names. Beside live runs nothing is touched that they rely on ([`super::live`]) or that is
//! younger than the oldest of them. What is no result goes by rules of its own ([`super::leftover`]). Records go before blobs, so a collection that is killed leaves blobs that
//! nothing names, and never a record without its blobs.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Store, fault,
    leftover::{Leftover, View},
    live::LiveRuns,
    part::Part,
    record::Record,
};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// What a collection keeps, whatever else.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    pub keys: HashSet<Digest>,
    /// Records that were computed at this time or later.
    pub since_unix_ms: Option<u64>,
    /// Checkpoints and logs of cells that never ended are kept for so long after their last change.
    pub unfinished: Duration,
    /// So many entries of the journal are kept, the newest.
    pub journal: usize,
}

/// Clocks of machines that share a store may differ by so much without a word.
const CLOCKS_DIFFER_MS: u64 = 600_000;

/// What a collection takes, or would take.
#[derive(Clone, Debug, Default)]
pub struct Garbage {
    /// (key, cell, pipeline).
    pub records: Vec<(Digest, String, String)>,
    /// Digest and size in bytes.
    pub blobs: Vec<(Digest, u64)>,
    /// Checkpoints of cells, by key, with their size in bytes.
    pub checkpoints: Vec<(Digest, u64)>,
    pub logs: Vec<(Digest, u64)>,
    pub journal: Vec<String>,
    /// What is no result: see [`super::leftover`].
    pub leftovers: Vec<Leftover>,
    /// How many records and bytes of blobs stay.
    pub kept_records: usize,
    pub kept_bytes: u64,
    pub live_runs: usize,
    /// Records dated later than now: a clock was wrong, or is. They count as new.
    pub dated_ahead: usize,
}

impl Garbage {
    /// What is won, in bytes.
    pub fn bytes(&self) -> u64 {
        let lists = [&self.blobs, &self.checkpoints, &self.logs];
        let results: u64 = lists.iter().flat_map(|list| list.iter()).map(|(_, bytes)| bytes).sum();
        results + self.leftovers.iter().map(|leftover| leftover.bytes).sum::<u64>()
    }
}

impl Store {
    /// What [`Store::collect`] would take now. Touches nothing.
    pub fn garbage(&self, keep: &Keep) -> Result<Garbage> {
        // A store that can only be read has no runs that could be disturbed.
        let _hold = self.hold();
        self.look_for_garbage(keep)
    }

    /// Takes what is not kept out of the store. Behind a URL nothing else may use it, unless `alone` says so.
    ///
    /// # Errors
    /// A record is damaged: what it needs cannot be known. Behind a URL, another process uses the store.
    pub fn collect(&self, keep: &Keep, alone: bool) -> Result<Garbage> {
        let _collecting = if self.objects.remote() && !alone { Some(self.begin_collecting()?) } else { None };
        let alone = self.hold_alone()?;
        self.forget_dead_runs(&alone);
        let found = self.look_for_garbage(keep)?;
        fault::point("gc.marked");
        for (key, ..) in &found.records {
            self.delete_record(key)?;
            self.objects.delete(&format!("tasks/{key}.json"))?;
            fault::point("gc.record");
        }
        for (digest, _) in &found.blobs {
            self.delete_blob(digest)?;
            fault::point("gc.blob");
        }
        for (key, _) in &found.checkpoints {
            let path = self.home.join("scratch").join(key.hex());
            std::fs::remove_dir_all(&path).map_err(Error::io(&path))?;
        }
        for (key, _) in &found.logs {
            self.objects.delete(&format!("logs/{key}.log"))?;
        }
        for name in &found.journal {
            self.forget_run(name)?;
        }
        self.take_leftovers(&found)?;
        Ok(found)
    }

    fn look_for_garbage(&self, keep: &Keep) -> Result<Garbage> {
        let live = self.live_runs()?;
        let mut records: HashMap<Digest, Record> = HashMap::new();
        for key in self.records()? {
            match self.record(&key) {
                Ok(Some(record)) => {
                    records.insert(key, record);
                }
                Ok(None) => {}
                Err(e @ Error::Store { .. }) => return Err(e.with_hint("run `scaleshot verify --repair` first")),
                Err(e) => return Err(e),
            }
        }
        let mut roots = keep.keys.clone();
        roots.extend(self.all_frozen()?);
        roots.extend(&live.relied_on);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let dated_ahead =
            records.values().filter(|r| r.finished_unix_ms > now.saturating_add(CLOCKS_DIFFER_MS)).count();
        for (key, record) in &records {
            let young = keep.since_unix_ms.is_some_and(|since| record.finished_unix_ms >= since);
            if young || live.shields(self.changed(&format!("records/{key}.json"))) {
                roots.insert(*key);
            }
        }
        let kept = with_origins(&records, &roots);

        let mut named: HashSet<Digest> = live.relied_on.clone();
        for key in &kept {
            named.extend(blobs_of(&records[key]));
        }
        let mut found = Garbage { kept_records: kept.len(), live_runs: live.count, dated_ahead, ..Garbage::default() };
        for (key, record) in &records {
            if !kept.contains(key) {
                found.records.push((*key, record.cell.clone(), record.pipeline.clone()));
            }
        }
        found.records.sort_by(|a, b| (&a.2, &a.1, a.0).cmp(&(&b.2, &b.1, b.0)));
        let mut kept_blobs = HashSet::new();
        for (digest, bytes) in self.blobs()? {
            let hex = digest.hex();
            if named.contains(&digest) || live.shields(self.changed(&format!("blobs/{}/{hex}", &hex[..2]))) {
                found.kept_bytes += bytes;
                kept_blobs.insert(digest);
            } else {
                found.blobs.push((digest, bytes));
            }
        }

        // A cell without a record was interrupted or failed; somebody may come back to it.
        let old = SystemTime::now().checked_sub(keep.unfinished).unwrap_or(UNIX_EPOCH);
        let spent = |key: &Digest, changed: Option<SystemTime>| {
            !live.relied_on.contains(key)
                && !live.shields(changed)
                && (records.contains_key(key) || (!keep.keys.contains(key) && changed.is_some_and(|at| at < old)))
        };
        for (key, path) in keyed(&self.home.join("scratch"), "") {
            let (bytes, changed) = weigh(&path);
            if spent(&key, changed) {
                found.checkpoints.push((key, bytes));
            }
        }
        for (name, bytes) in self.objects.list("logs")? {
            let Some(key) = name.strip_prefix("logs/").and_then(|n| n.strip_suffix(".log")?.parse().ok()) else {
                continue;
            };
            if !kept.contains(&key) && spent(&key, self.changed(&name)) {
                found.logs.push((key, bytes));
            }
        }
        found.journal = self.run_names()?.split_off(keep.journal.min(self.run_names()?.len()));
        found.leftovers = self.leftovers(&View { live: &live, old, blobs: &kept_blobs, records: &kept })?;
        Ok(found)
    }

    /// When a file of a folder store was last changed.
    pub(super) fn changed(&self, name: &str) -> Option<SystemTime> {
        std::fs::metadata(self.objects.path(name)?).ok()?.modified().ok()
    }
}

impl LiveRuns {
    /// Whether a file may have come about since the oldest live run began.
    pub(super) fn shields(&self, changed: Option<SystemTime>) -> bool {
        self.since.is_some_and(|since| changed.is_none_or(|at| at >= since))
    }
}

/// These records and, step by step, those whose outputs they took: of several that made the same, one that is
/// kept anyway, or else the newest.
pub(super) fn with_origins(records: &HashMap<Digest, Record>, roots: &HashSet<Digest>) -> HashSet<Digest> {
    let mut makers: HashMap<Digest, Vec<Digest>> = HashMap::new();
    for (key, record) in records {
        for artifact in record.outputs.values() {
            makers.entry(artifact.digest()).or_default().push(*key);
        }
    }
    let mut kept = HashSet::new();
    let mut open: Vec<Digest> = roots.iter().copied().filter(|key| records.contains_key(key)).collect();
    while let Some(key) = open.pop() {
        if !kept.insert(key) {
            continue;
        }
        for part in &records[&key].parts {
            let Part::Input { digest, .. } = part else { continue };
            let made = makers.get(digest).map_or(&[][..], Vec::as_slice);
            if !made.iter().any(|key| kept.contains(key) || roots.contains(key)) {
                open.extend(made.iter().max_by_key(|key| (records[*key].finished_unix_ms, **key)));
            }
        }
    }
    kept
}

/// Every blob that a record names: its outputs, and the listings that its reasons are told by.
pub(super) fn blobs_of(record: &Record) -> impl Iterator<Item = Digest> {
    let files = record.outputs.values().flat_map(|a| a.files.iter().map(|f| f.digest));
    let listings =
        record.parts.iter().filter_map(|p| if let Part::Source { digest, .. } = p { Some(*digest) } else { None });
    files.chain(listings)
}

/// Entries of a folder that are named by a key.
fn keyed(folder: &Path, suffix: &str) -> Vec<(Digest, std::path::PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| Some((e.file_name().to_str()?.strip_suffix(suffix)?.parse().ok()?, e.path()))).collect()
}

/// Bytes below a folder, and the latest change of anything in it.
pub(super) fn weigh(folder: &Path) -> (u64, Option<SystemTime>) {
    let mut changed = std::fs::metadata(folder).and_then(|m| m.modified()).ok();
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let (more, at) = if meta.is_dir() { weigh(&entry.path()) } else { (meta.len(), meta.modified().ok()) };
        bytes += more;
        changed = changed.max(at);
    }
    (bytes, changed)
}
