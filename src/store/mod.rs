//! The store: where artifacts and records live.
//!
//! | name | holds | written |
//! |---|---|---|
//! | `blobs/ab/abcdef…` | one file of an artifact, named by its blake3 digest | aside, then renamed; never changed |
//! | `records/KEY.json` | what the cell with this key was ([`Record`]) | after all its blobs, in one step |
//! | `last/PIPELINE.json` | each cell's latest key, for reasons and as an index of records | after the record, in one step |
//! | `frozen/PIPELINE.json` | cells that stay as they are ([`Frozen`]) | in one step |
//! | `runs/TIME-ID.json` | what was current when a run ended ([`RunEntry`]) | at its end |
//! | `tasks/KEY.json` | a cell's whole input, for executors outside this process | before the cell is handed out |
//! | `logs/KEY.log` | what the cell said, every attempt | while it runs |
//! | `leases/KEY.json` | who computes the cell now ([`lease`]) | before it runs; removed after |
//! | `plans/`, `jobs/` | pipelines handed to a queue, and how their cells stand ([`plans`]) | by submitters and jobs |
//! | `owners/TOKEN.json` | a process that holds leases, and its beat ([`owner`]) | with its first lease, then every few seconds |
//! | `damaged/` | blobs of a folder that are not what their name says | when somebody reads one |
//!
//! and, on this machine only (in the folder itself; below `SCALESHOT_CACHE` or the user's cache for other stores):
//!
//! | name | holds |
//! |---|---|
//! | `work/run-…/` | files on their way in; swept once their process is dead |
//! | `scratch/KEY/` | checkpoints of a cell, until it is done |
//! | `locks/` | held for moments |
//! | `live/` | a locked file a run, with what it relies on ([`live`]) |
//! | `news/` | a locked file a run, with what it tells ([`news`]) |
//! | `content/` | copies of blobs, where the store is not a folder ([`cache`]) |
//! | `sources/` | the stat cache of outside files ([`source`]) |
//! | `memos/` | which blob a piece of a cell's work came to |
//!
//! A crash between any two writes leaves blobs that nothing names, a work folder without a living owner, or a
//! checkpoint: all harmless. A record without its blobs cannot come about by a crash, and is noticed when it
//! comes about otherwise (`artifact missing`). Nothing is synced to the disk: after a power cut a blob may be
//! shorter than its record says, which is noticed in the same way.

pub mod artifact;
mod backend;
mod blob;
mod cache;
mod collector;
mod exchange;
pub(crate) mod fault;
mod frozen;
mod garbage;
mod journal;
mod last;
mod lease;
mod leftover;
mod live;
mod lock;
mod log;
mod memo;
mod news;
pub mod objects;
mod owner;
pub mod part;
mod plans;
mod profile;
pub mod record;
mod requests;
mod secrets;
pub mod source;
mod survey;
mod work;

pub use blob::BlobState;
pub use exchange::Copied;
pub use fault::{CHECKPOINT_POINTS, GC_POINTS, POINTS as FAULT_POINTS, TAKEOVER_POINTS};
pub use frozen::Frozen;
pub use garbage::{Garbage, Keep};
pub use journal::RunEntry;
pub use last::Last;
pub use lease::Lease;
pub use leftover::Leftover;
pub use live::{Hold, Live};
pub use log::Log;
pub use news::{News, Reader as NewsReader};
pub use owner::Owner;
pub use plans::Mark;
pub use requests::Requests;
pub use survey::Survey;
pub use work::WorkFolder;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use self::{objects::Objects, record::Record};
use crate::{
    digest::{Digest, canonical},
    error::{Error, Result},
};

/// One store. May be used from any thread; calls block, so not from async workers.
pub struct Store {
    objects: Arc<Objects>,
    /// Where files of this machine lie: the store's own folder, one in the user's cache, or a temporary one.
    home: PathBuf,
    session: work::Session,
    blobs: blob::Moved,
    live: live::Registered,
    checked: blob::Checked,
    cache: cache::Cache,
    leases: lease::Leases,
    /// Keeps the home of a store without a folder for as long as the store.
    _temporary: Option<tempfile::TempDir>,
}

impl Store {
    /// A folder (created where it is missing), `file:///…`, `memory://`, or a URL ([`backend`] lists them).
    pub fn open(place: impl AsRef<Path>) -> Result<Self> {
        let place = place.as_ref();
        let text = place.to_str().ok_or_else(|| Error::store(format!("{}: not UTF-8", place.display())))?;
        let objects = Arc::new(Objects::open(text)?);
        objects.check()?;
        let (home, temporary) = match objects.folder() {
            Some(folder) => (folder.to_path_buf(), None),
            None if objects.remote() => {
                let digest = Digest::of(text.trim_end_matches('/').as_bytes());
                (cache::root().join("places").join(digest.short()), None)
            }
            None => {
                let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
                (folder.path().to_path_buf(), Some(folder))
            }
        };
        let content = if objects.remote() { cache::root() } else { home.clone() }.join("content");
        Ok(Store {
            objects,
            home,
            session: work::Session::default(),
            blobs: blob::Moved::default(),
            live: live::Registered::default(),
            checked: blob::Checked::default(),
            cache: cache::Cache::open(content),
            leases: lease::Leases::default(),
            _temporary: temporary,
        })
    }

    /// As it was given to [`Store::open`].
    pub fn url(&self) -> &str {
        self.objects.url()
    }

    /// The folder of a folder store.
    pub fn folder(&self) -> Option<&Path> {
        self.objects.folder()
    }

    /// What a store that is not a folder was asked for since it was opened.
    pub fn requests(&self) -> Requests {
        self.objects.requests()
    }

    /// How long to leave a cell alone that another process computes, before looking whether it is done.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(if self.objects.remote() { 1000 } else { 50 })
    }

    /// The record with this key. A damaged one is an [`Error::Store`] that names it.
    pub fn record(&self, key: &Digest) -> Result<Option<Record>> {
        let name = record_name(key);
        let Some(bytes) = self.objects.get(&name)? else { return Ok(None) };
        let damaged = |why: String| Error::Store {
            message: format!("record {name} is damaged: {why}"),
            hint: Some("a run computes the cell again and replaces it".into()),
            source: None,
        };
        let record = Record::read(&bytes).map_err(damaged)?;
        if record.key != *key {
            return Err(damaged(format!("it names key {}", record.key.short())));
        }
        Ok(Some(record))
    }

    /// A text that changes when the record is replaced; `None` where there is no record.
    pub fn record_stamp(&self, key: &Digest) -> Result<Option<String>> {
        Ok(self.objects.tag(&record_name(key))?.map(|tag| tag.text()))
    }

    /// Writes a record over whatever is there; its outputs must be in the store already. A cell that was computed
    /// is published through its lease ([`Lease::publish`]), which overwrites nobody else's.
    pub fn put_record(&self, record: &Record) -> Result<()> {
        fault::point("record.before");
        self.objects.put(&record_name(&record.key), record.text()?)?;
        fault::point("record.published");
        Ok(())
    }

    /// Keys of all records, sorted.
    pub fn records(&self) -> Result<Vec<Digest>> {
        let names = self.objects.list("records")?;
        Ok(names
            .iter()
            .filter_map(|(name, _)| name.strip_prefix("records/")?.strip_suffix(".json")?.parse().ok())
            .collect())
    }

    /// Forgets a cell; whether there was a record of it. Its blobs stay until a collection finds that nothing
    /// names them.
    pub fn delete_record(&self, key: &Digest) -> Result<bool> {
        let was = self.record_stamp(key)?.is_some();
        self.objects.delete(&record_name(key))?;
        Ok(was)
    }

    /// Small files that are not records and cannot be read: (name, what is wrong).
    pub fn broken_indexes(&self) -> Result<Vec<(String, String)>> {
        let mut broken = Vec::new();
        for folder in ["last", "frozen", "runs", "tasks"] {
            for (name, _) in self.objects.list(folder)? {
                let Some(bytes) = self.objects.get(&name)? else { continue };
                let wrong = match folder {
                    "last" => serde_json::from_slice::<HashMap<String, Last>>(&bytes).err(),
                    "frozen" => serde_json::from_slice::<HashMap<String, Frozen>>(&bytes).err(),
                    "runs" => serde_json::from_slice::<RunEntry>(&bytes).err(),
                    _ => serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).err(),
                };
                broken.extend(wrong.map(|e| (name.clone(), format!("{name} is damaged: {e}"))));
            }
        }
        Ok(broken)
    }

    /// Forgets one of them: reasons get poorer, what was frozen is thawed, and no result is lost.
    pub fn delete_index(&self, name: &str) -> Result<()> {
        self.objects.delete(name)
    }

    /// A cell's whole input, for an executor outside this process. `T` is `run::Task`, of a higher layer.
    pub fn put_task<T: Serialize>(&self, key: &Digest, task: &T) -> Result<()> {
        self.write_json(&format!("tasks/{key}.json"), task)
    }

    pub fn task<T: DeserializeOwned>(&self, key: &Digest) -> Result<Option<T>> {
        self.read_json(&format!("tasks/{key}.json"), "task")
    }

    fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        self.objects.put(name, canonical(&serde_json::to_value(value)?).into_bytes())
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str, what: &str) -> Result<Option<T>> {
        let Some(bytes) = self.objects.get(name)? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(e) => Err(Error::Store {
                message: format!("{what} {name} is damaged: {e}"),
                hint: Some("a run computes the cell again and replaces it".into()),
                source: Some(Box::new(e)),
            }),
        }
    }
}

fn record_name(key: &Digest) -> String {
    format!("records/{key}.json")
}

#[cfg(test)]
mod tests;
