//! The store: where artifacts and records live.
//!
//! | name | holds | written |
//! |---|---|---|
//! | `blobs/ab/abcdef…` | one file of an artifact, named by its blake3 digest | aside, then renamed; never changed |
//! | `records/KEY.json` | what the cell with this key was ([`Record`]) | after all its blobs, in one step |
//! | `last/PIPELINE.json` | each cell's latest key, for reasons and as an index of records | after the record, in one step |
//! | `tasks/KEY.json` | a cell's whole input, for executors outside this process | before the cell is handed out |
//! | `logs/KEY.log` | what the cell said, every attempt | while it runs |
//!
//! and, on this machine only (in the folder itself, or beside the cache where the store is not a folder):
//!
//! | name | holds |
//! |---|---|
//! | `work/RUN/` | files on their way in; swept once their process is dead |
//! | `scratch/KEY/` | checkpoints of a cell, until it is done |
//! | `locks/KEY.lock` | held while a cell is computed, and freed by the system when its holder dies |
//! | `sources/` | the stat cache of outside files ([`source`]) |
//!
//! A crash between any two writes leaves blobs that nothing names, a work folder without a living owner, or a
//! checkpoint: all harmless. A record without its blobs cannot come about by a crash, and is noticed when it
//! comes about otherwise (`artifact missing`). Nothing is synced to the disk: after a power cut a blob may be
//! shorter than its record says, which is noticed in the same way.

pub mod artifact;
mod blob;
mod fault;
mod last;
mod lock;
mod log;
pub mod objects;
pub mod part;
pub mod record;
pub mod source;
mod work;

pub use blob::BlobState;
pub use fault::POINTS as FAULT_POINTS;
pub use last::Last;
pub use lock::Lock;
pub use log::Log;
pub use work::WorkFolder;

use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

use self::{objects::Objects, record::Record};
use crate::{
    digest::{Digest, canonical},
    error::{Error, Result},
};

/// One store. May be used from any thread; calls block, so not from async workers.
pub struct Store {
    objects: Objects,
    /// Where files of this machine lie: the store's own folder, or a temporary one.
    home: PathBuf,
    session: work::Session,
    blobs: blob::Moved,
    /// Keeps the home of a store without a folder for as long as the store.
    _temporary: Option<tempfile::TempDir>,
}

impl Store {
    /// A folder (created where it is missing), `file:///…`, or `memory://`.
    pub fn open(place: impl AsRef<Path>) -> Result<Self> {
        let place = place.as_ref();
        let text = place.to_str().ok_or_else(|| Error::store(format!("{}: not UTF-8", place.display())))?;
        let objects = Objects::open(text)?;
        let (home, temporary) = match objects.folder() {
            Some(folder) => (folder.to_path_buf(), None),
            None => {
                let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
                (folder.path().to_path_buf(), Some(folder))
            }
        };
        Ok(Store {
            objects,
            home,
            session: work::Session::default(),
            blobs: blob::Moved::default(),
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

    /// The record with this key. A damaged one is an [`Error::Store`] that names it.
    pub fn record(&self, key: &Digest) -> Result<Option<Record>> {
        let record: Option<Record> = self.read_json(&record_name(key), "record")?;
        match record {
            Some(record) if record.key != *key => {
                Err(Error::store(format!("record {} is damaged: it names key {}", key.short(), record.key.short())))
            }
            record => Ok(record),
        }
    }

    /// A text that changes when the record is replaced; `None` where there is no record.
    pub fn record_stamp(&self, key: &Digest) -> Result<Option<String>> {
        Ok(self.objects.stamp(&record_name(key))?.map(|(bytes, tag)| format!("{bytes}-{tag}")))
    }

    /// Publishes a record, and with it the outputs it names, which must be in the store already.
    pub fn put_record(&self, record: &Record) -> Result<()> {
        fault::point("record.before");
        self.write_json(&record_name(&record.key), record)?;
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
