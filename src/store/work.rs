//! Local folders: work (gone with the cell or its process) and scratch (kept until the cell is done).

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Store;
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// This process's part of `work/`, made with the first work folder.
#[derive(Default)]
pub(super) struct Session {
    folder: OnceLock<(PathBuf, File)>,
    counter: AtomicU64,
}

/// An empty folder on the store's own disk. Dropping it removes it.
pub struct WorkFolder<'a> {
    path: PathBuf,
    store: &'a Store,
}

impl WorkFolder<'_> {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkFolder<'_> {
    fn drop(&mut self) {
        self.store.blobs.forget(&self.path);
        // A folder that cannot be removed now is swept once this process has ended.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Store {
    /// A new empty folder for files on their way in; `label` is for people who look into it.
    pub fn work_folder(&self, label: &str) -> Result<WorkFolder<'_>> {
        let number = self.session.counter.fetch_add(1, Ordering::Relaxed);
        let path = self.session_folder()?.join(format!("{number}-{label}"));
        std::fs::create_dir(&path).map_err(Error::io(&path))?;
        Ok(WorkFolder { path, store: self })
    }

    /// Whether a file lies in a work folder of this process, so that the store may take it away.
    pub(super) fn is_work(&self, path: &Path) -> bool {
        self.session.folder.get().is_some_and(|(folder, _)| path.starts_with(folder))
    }

    /// A folder that survives an interruption of the cell with this key.
    pub fn scratch(&self, key: &Digest) -> Result<PathBuf> {
        let path = self.home.join("scratch").join(key.hex());
        std::fs::create_dir_all(&path).map_err(Error::io(&path))?;
        Ok(path)
    }

    /// Whether an interrupted attempt at this cell left something to continue from.
    pub fn has_scratch(&self, key: &Digest) -> bool {
        let path = self.home.join("scratch").join(key.hex());
        std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Removes the checkpoints of a finished cell.
    pub fn clear_scratch(&self, key: &Digest) -> Result<()> {
        let path = self.home.join("scratch").join(key.hex());
        match std::fs::remove_dir_all(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::Io { path, source: e }),
            _ => Ok(()),
        }
    }

    fn session_folder(&self) -> Result<&Path> {
        if let Some((folder, _)) = self.session.folder.get() {
            return Ok(folder);
        }
        let work = self.home.join("work");
        std::fs::create_dir_all(&work).map_err(Error::io(&work))?;
        sweep(&work);
        // The lock stands before the folder, so no sweep of another process can find the folder unowned.
        let own =
            tempfile::Builder::new().prefix("run-").suffix(".lock").tempfile_in(&work).map_err(Error::io(&work))?;
        own.as_file().lock().map_err(Error::io(own.path()))?;
        let folder = own.path().with_extension("");
        std::fs::create_dir(&folder).map_err(Error::io(&folder))?;
        let (file, _) = own.keep().map_err(|e| Error::Io { path: work.clone(), source: e.error })?;
        if let Err((unused, lock)) = self.session.folder.set((folder, file)) {
            // Another thread was quicker; ours is empty and unlocked by the drop.
            let _ = std::fs::remove_dir(&unused);
            let _ = std::fs::remove_file(unused.with_extension("lock"));
            drop(lock);
        }
        self.session.folder.get().map(|(folder, _)| folder.as_path()).ok_or_else(|| Error::store("bug: no work folder"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some((folder, _)) = self.folder.get() {
            let _ = std::fs::remove_dir_all(folder);
            let _ = std::fs::remove_file(folder.with_extension("lock"));
        }
    }
}

/// Removes what dead processes left. Failing to is harmless, so errors are passed over.
fn sweep(work: &Path) {
    for entry in std::fs::read_dir(work).into_iter().flatten().flatten() {
        let lock = entry.path();
        if lock.extension().is_none_or(|e| e != "lock") {
            continue;
        }
        let Ok(file) = File::open(&lock) else { continue };
        match file.try_lock() {
            Ok(()) => {
                let _ = std::fs::remove_dir_all(lock.with_extension(""));
                let _ = std::fs::remove_file(&lock);
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}
