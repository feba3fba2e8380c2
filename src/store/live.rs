//! Live runs, as a collection of garbage sees them.
//!
//! A run registers before it plans: a locked file that dies with its process, to which it appends every record and
//! blob that it relies on. Both happen under a shared *hold*; a collection takes the hold alone, so between a
//! run's decision to rely on something and its note of it nothing can be collected. No clock decides: a clock
//! that jumps makes a collection keep more, never less.
//!
//! It sees the runs of this machine and of those that share the folder. Behind a URL, [`super::collector`] keeps
//! runs elsewhere and collections apart.

use std::{
    collections::HashSet,
    fs::{File, TryLockError},
    io::Write,
    path::PathBuf,
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::Store;
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// The registration of this process's runs in a store.
#[derive(Default)]
pub(super) struct Registered(Mutex<Option<Entry>>);

struct Entry {
    path: PathBuf,
    file: File,
    /// Runs of this process that share the entry.
    runs: usize,
}

/// A run that counts as alive until this is dropped.
pub struct Live<'a>(&'a Store);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        let mut entry = self.0.live.lock();
        if let Some(one) = entry.as_mut() {
            one.runs -= 1;
            if one.runs == 0 {
                // Removed while it is locked, so that nobody takes it for that of a dead run.
                let _ = std::fs::remove_file(&one.path);
                *entry = None;
            }
        }
    }
}

/// Keeps collections out until it is dropped; or, taken alone, everybody else.
pub struct Hold(#[allow(dead_code, reason = "closing the file frees the lock")] File);

/// What live runs rely on.
#[derive(Default)]
pub struct LiveRuns {
    pub count: usize,
    /// When the oldest of them registered.
    pub since: Option<SystemTime>,
    /// Keys of records and digests of blobs alike.
    pub relied_on: HashSet<Digest>,
}

impl Registered {
    fn lock(&self) -> MutexGuard<'_, Option<Entry>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Store {
    /// Registers a run, before it looks at anything that it will rely on.
    pub fn live(&self) -> Result<Live<'_>> {
        let mut entry = self.live.lock();
        if let Some(entry) = entry.as_mut() {
            entry.runs += 1;
            return Ok(Live(self));
        }
        if self.objects.remote() {
            self.announce()?;
        }
        let folder = self.home.join("live");
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let _hold = self.hold()?;
        let own = tempfile::Builder::new().prefix("run-").tempfile_in(&folder).map_err(Error::io(&folder))?;
        own.as_file().lock().map_err(Error::io(own.path()))?;
        let (mut file, path) = own.keep().map_err(|e| Error::Io { path: folder, source: e.error })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        writeln!(file, "{}", now.as_millis()).map_err(Error::io(&path))?;
        *entry = Some(Entry { path, file, runs: 1 });
        Ok(Live(self))
    }

    /// Keeps collections out; short, but for a plan.
    pub fn hold(&self) -> Result<Hold> {
        let (path, file) = self.hold_file()?;
        file.lock_shared().map_err(Error::io(path))?;
        Ok(Hold(file))
    }

    /// Waits until nobody holds, and keeps everybody out.
    pub(super) fn hold_alone(&self) -> Result<Hold> {
        let (path, file) = self.hold_file()?;
        file.lock().map_err(Error::io(path))?;
        Ok(Hold(file))
    }

    fn hold_file(&self) -> Result<(PathBuf, File)> {
        let path = self.home.join("locks/collect");
        let open = || File::options().create(true).append(true).open(&path);
        let file = match open() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let folder = self.home.join("locks");
                std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
                open()
            }
            opened => opened,
        };
        Ok((path.clone(), file.map_err(Error::io(path))?))
    }

    /// Notes, for a registered run, what it relies on. To be called while [`Store::hold`] is held.
    pub fn rely_on(&self, digests: impl IntoIterator<Item = Digest>) -> Result<()> {
        let mut entry = self.live.lock();
        let Some(entry) = entry.as_mut() else { return Ok(()) };
        let text: String = digests.into_iter().map(|d| format!("{d}\n")).collect();
        entry.file.write_all(text.as_bytes()).map_err(Error::io(&entry.path))
    }

    /// As [`Store::hold`] and [`Store::rely_on`] for one blob about to be published; nothing without a run.
    pub(super) fn about_to_publish(&self, digest: Digest) -> Result<Option<Hold>> {
        if self.live.lock().is_none() {
            return Ok(None);
        }
        let hold = self.hold()?;
        self.rely_on([digest])?;
        Ok(Some(hold))
    }

    /// The live runs, and what they rely on. A file that nobody has locked is of a dead run, and is left for
    /// [`Store::forget_dead_runs`].
    pub(super) fn live_runs(&self) -> Result<LiveRuns> {
        let mut found = LiveRuns::default();
        let folder = self.home.join("live");
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(file) = File::open(&path) else { continue };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
                    let mut lines = text.lines();
                    let started = lines.next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
                    // The clock of file systems lags a few milliseconds behind.
                    let started = UNIX_EPOCH + Duration::from_millis(started)
                        - Duration::from_secs(1).min(Duration::from_millis(started));
                    found.count += 1;
                    found.since = Some(found.since.map_or(started, |s| s.min(started)));
                    found.relied_on.extend(lines.filter_map(|line| line.parse::<Digest>().ok()));
                }
                Err(TryLockError::Error(e)) => return Err(Error::Io { path, source: e }),
            }
        }
        Ok(found)
    }

    /// Removes what dead runs left, while nobody can register.
    pub(super) fn forget_dead_runs(&self, _alone: &Hold) {
        self.forget_dead_news();
        for entry in std::fs::read_dir(self.home.join("live")).into_iter().flatten().flatten() {
            let path = entry.path();
            if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                // Failing to is harmless: it counts as dead the next time too.
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}
