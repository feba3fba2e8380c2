//! Locks: one process or thread at a time computes the cell with a key.
//!
//! A lock is an advisory lock on an open file, so the system frees it when its holder dies, however it dies. A
//! cell's lock is on its log, which is there anyway: files that come and go with every cell would cost more than
//! the rest of a small cell. It is not for stores that several machines reach without a shared file system:
//! those need leases.

use std::{
    fs::{File, TryLockError},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Store, fault};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    // Closing the file frees the lock.
    _file: File,
}

impl Store {
    /// `None` where another thread or process is computing this cell now.
    pub fn try_lock(&self, key: &Digest) -> Result<Option<Lock>> {
        let lock = try_file(&self.log_path(key))?;
        if lock.is_some() {
            fault::point("lock.taken");
        }
        Ok(lock)
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

    /// Waits for a lock that is held for moments only.
    pub(super) fn lock_named(&self, name: &str) -> Result<Lock> {
        let path = self.home.join("locks").join(name);
        loop {
            if let Some(lock) = try_file(&path)? {
                return Ok(lock);
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

fn try_file(path: &Path) -> Result<Option<Lock>> {
    loop {
        let file = match File::options().create(true).append(true).open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let folder: PathBuf = path.parent().unwrap_or(path).into();
                std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
                continue;
            }
            opened => opened.map_err(Error::io(path))?,
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(Error::Io { path: path.into(), source: e }),
            Ok(()) => {}
        }
        // Somebody may have removed the file between open and lock: then it is not *the* lock.
        let held = file.metadata().map_err(Error::io(path))?;
        if std::fs::metadata(path).is_ok_and(|m| m.ino() == held.ino() && m.dev() == held.dev()) {
            return Ok(Some(Lock { _file: file }));
        }
    }
}
