//! A cell's log: one file a key, every attempt appended.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Instant,
};

use super::{Store, fault};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// Lines with the seconds since the attempt began. May be written from any thread.
pub struct Log {
    name: String,
    path: PathBuf,
    file: Mutex<File>,
    began: Instant,
}

impl Log {
    /// Its name in the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that is being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A log that cannot be written must not end the work it tells of, so errors are passed over.
    pub fn line(&self, text: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let line = format!("{seconds:9.3} {text}\n");
        let _ = self.file.lock().unwrap_or_else(|e| e.into_inner()).write_all(line.as_bytes());
    }
}

impl Store {
    pub fn log(&self, key: &Digest) -> Result<Log> {
        let name = log_name(key);
        let path = self.log_path(key);
        let folder = self.home.join("logs");
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let file = File::options().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        fault::point("log.opened");
        Ok(Log { name, path, file: Mutex::new(file), began: Instant::now() })
    }

    pub(super) fn log_path(&self, key: &Digest) -> PathBuf {
        self.home.join(log_name(key))
    }

    /// Puts a log where other machines can read it; nothing to do where the store is a folder.
    pub fn finish_log(&self, log: &Log) -> Result<()> {
        match self.objects.folder() {
            Some(_) => Ok(()),
            None => self.objects.upload(&log.name, &log.path),
        }
    }

    /// The text of a cell's log, if it has one.
    pub fn read_log(&self, key: &Digest) -> Result<Option<String>> {
        let name = log_name(key);
        let stored = self.objects.get(&name)?;
        // The store's is that of the machine which ran the cell last; an attempt of this one may be under way, and
        // then its own is longer.
        let own = if self.objects.folder().is_some() { None } else { std::fs::read(self.home.join(&name)).ok() };
        let bytes = stored.into_iter().chain(own).max_by_key(Vec::len);
        Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
    }
}

fn log_name(key: &Digest) -> String {
    format!("logs/{key}.log")
}
