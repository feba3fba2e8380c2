//! Local folders: work (gone with the cell or its process) and scratch (kept until the cell is done).

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock,
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
    /// Empty folders that were given back. Making and removing folders is what costs most in a small cell.
    empty: Mutex<Vec<PathBuf>>,
}

impl Session {
    fn take_empty(&self) -> Option<PathBuf> {
        self.empty.lock().unwrap_or_else(|e| e.into_inner()).pop()
    }

    fn keep_empty(&self, path: PathBuf) {
        self.empty.lock().unwrap_or_else(|e| e.into_inner()).push(path);
    }
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
        // A folder that cannot be emptied now is swept once this process has ended.
        if empty(&self.path).is_ok() {
            self.store.session.keep_empty(std::mem::take(&mut self.path));
        }
    }
}

impl Store {
    /// An empty folder for files on their way in.
    pub fn work_folder(&self) -> Result<WorkFolder<'_>> {
        if let Some(path) = self.session.take_empty() {
            return Ok(WorkFolder { path, store: self });
        }
        let path = self.new_path()?;
        std::fs::create_dir(&path).map_err(Error::io(&path))?;
        Ok(WorkFolder { path, store: self })
    }

    fn new_path(&self) -> Result<PathBuf> {
        let number = self.session.counter.fetch_add(1, Ordering::Relaxed);
        Ok(self.session_folder()?.join(number.to_string()))
    }

    /// Whether a file lies in a work folder of this process, so that the store may take it away.
    pub(super) fn is_work(&self, path: &Path) -> bool {
        self.session.folder.get().is_some_and(|(folder, _)| path.starts_with(folder))
    }

    /// A folder that survives an interruption of the cell with this key.
    pub fn scratch(&self, key: &Digest) -> Result<PathBuf> {
        let folder = self.home.join("scratch");
        let path = folder.join(key.hex());
        if path.is_dir() {
            return Ok(path);
        }
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        if let Some(empty) = self.session.take_empty() {
            std::fs::rename(&empty, &path).map_err(Error::io(&path))?;
        } else {
            // Ranks of one cell come here at the same time.
            std::fs::create_dir_all(&path).map_err(Error::io(&path))?;
        }
        Ok(path)
    }

    /// Whether there was an attempt at this cell that no record followed.
    pub fn was_begun(&self, key: &Digest) -> bool {
        self.home.join("scratch").join(key.hex()).is_dir()
    }

    /// Whether an interrupted attempt at this cell left something to continue from.
    pub fn has_scratch(&self, key: &Digest) -> bool {
        let path = self.home.join("scratch").join(key.hex());
        path.is_dir() && !is_empty(&path)
    }

    /// Removes the checkpoints of a finished cell.
    pub fn clear_scratch(&self, key: &Digest) -> Result<()> {
        let path = self.home.join("scratch").join(key.hex());
        if is_empty(&path) {
            let kept = self.new_path()?;
            std::fs::rename(&path, &kept).map_err(Error::io(&path))?;
            self.session.keep_empty(kept);
            return Ok(());
        }
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

/// Removes what is in a folder and leaves the folder.
fn empty(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes what dead processes left. Failing to is harmless, so errors are passed over.
pub(super) fn sweep(work: &Path) {
    for folder in dead(work) {
        let _ = std::fs::remove_dir_all(&folder);
        let _ = std::fs::remove_file(folder.with_extension("lock"));
    }
}

/// Folders whose lock nobody holds.
pub(super) fn dead(work: &Path) -> Vec<PathBuf> {
    let locks = std::fs::read_dir(work).into_iter().flatten().flatten().map(|entry| entry.path());
    let locks = locks.filter(|path| path.extension().is_some_and(|e| e == "lock"));
    let unheld = |lock: &PathBuf| File::open(lock).is_ok_and(|file| file.try_lock().is_ok());
    locks.filter(unheld).map(|lock| lock.with_extension("")).collect()
}
