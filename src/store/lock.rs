//! Locks of this machine, for moments.
//!
//! Advisory locks on open files, which the system frees when their holder dies, however it dies. They reach as
//! far as the file system does; what must hold between machines is a lease ([`super::lease`]).

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use super::Store;
use crate::error::{Error, Result};

impl Store {
    /// Waits for a lock that is held for moments only.
    pub(super) fn lock_named(&self, name: &str) -> Result<File> {
        let path = self.home.join("locks").join(name);
        loop {
            if let Some(lock) = try_file(&path)? {
                return Ok(lock);
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

/// `None` where another holds it.
pub(super) fn try_file(path: &Path) -> Result<Option<File>> {
    loop {
        let file = match File::options().create(true).append(true).open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let folder: PathBuf = path.parent().unwrap_or(path).into();
                std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
                continue;
            }
            opened => opened.map_err(Error::io(path))?,
        };
        return match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(Error::Io { path: path.into(), source: e }),
        };
    }
}
