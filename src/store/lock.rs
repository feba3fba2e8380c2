//! Locks: one process or thread at a time computes the cell with a key.
//!
//! A lock is an advisory lock on an open file, so the system frees it when its holder dies, however it dies.
//! It is not for stores that several machines reach without a shared file system: those need leases.

use std::{
    fs::{File, TryLockError},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use super::{Store, fault};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    // Closing the file frees the lock, so it must outlive the removal in `drop`.
    _file: File,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while still held: whoever opened the old file sees in `try_named` that it is not the one at
        // the path any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Store {
    /// `None` where another thread or process is computing this cell now.
    pub fn try_lock(&self, key: &Digest) -> Result<Option<Lock>> {
        self.try_named(&key.hex())
    }

    /// Held shared by every run, so that a collection of garbage can see that it is not alone.
    pub fn share(&self) -> Result<File> {
        let path = self.home.join("locks");
        std::fs::create_dir_all(&path).map_err(Error::io(&path))?;
        let path = path.join("store");
        let file = File::options().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        file.lock_shared().map_err(Error::io(&path))?;
        Ok(file)
    }

    pub(super) fn try_named(&self, name: &str) -> Result<Option<Lock>> {
        let folder = self.home.join("locks");
        let path = folder.join(format!("{name}.lock"));
        loop {
            let file = match File::options().create(true).append(true).open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
                    continue;
                }
                opened => opened.map_err(Error::io(&path))?,
            };
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(Error::Io { path, source: e }),
                Ok(()) => {}
            }
            // Between open and lock the last holder may have removed the file: then it is not *the* lock.
            let held = file.metadata().map_err(Error::io(&path))?;
            if std::fs::metadata(&path).is_ok_and(|m| m.ino() == held.ino() && m.dev() == held.dev()) {
                fault::point("lock.taken");
                return Ok(Some(Lock { _file: file, path }));
            }
        }
    }

    /// Waits for a lock that is held for moments only.
    pub(super) fn named(&self, name: &str) -> Result<Lock> {
        loop {
            if let Some(lock) = self.try_named(name)? {
                return Ok(lock);
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}
