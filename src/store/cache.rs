//! Copies of blobs on this machine, for stores that are not folders.
//!
//! Files by content, shared by every remote store, since a digest means the same everywhere. Bounded: beyond
//! `SCALESHOT_CACHE_GIB` those unused for longest go, but none that this process uses, and none that any process
//! used within the hour (it may be about to open it). Each is read and compared with its digest once a process
//! before it is trusted. Of the processes that lack the same blob one fetches it while the others wait. Losing the
//! cache costs downloads and nothing else.

use std::{
    collections::HashSet,
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use super::{blob, lock};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

pub(super) struct Cache {
    folder: PathBuf,
    most_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Read and found whole by this process.
    whole: HashSet<Digest>,
    /// Bytes in the folder, once they were counted; what other processes add comes in with the next count.
    bytes: Option<u64>,
}

/// GiB, unless `SCALESHOT_CACHE_GIB` says otherwise.
const MOST_GIB: f64 = 50.0;
/// What is left of the bound when room was made, so that it is not made again for the next file.
const LEAVE: f64 = 0.9;
const SPARED: Duration = Duration::from_secs(3600);
/// Between two looks at whether another process has fetched a blob.
const LOOK: Duration = Duration::from_millis(20);

/// `SCALESHOT_CACHE`, or the user's cache folder; a temporary one where neither is known.
pub(super) fn root() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("SCALESHOT_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("scaleshot/remote")))
        .or_else(|| set("HOME").map(|p| p.join(".cache/scaleshot/remote")))
        .unwrap_or_else(|| std::env::temp_dir().join("scaleshot-remote"))
}

impl Cache {
    pub fn open(folder: PathBuf) -> Self {
        let gib = std::env::var("SCALESHOT_CACHE_GIB").ok().and_then(|v| v.parse::<f64>().ok());
        let most_bytes = (gib.unwrap_or(MOST_GIB).max(0.0) * f64::from(1 << 30)) as u64;
        Cache { folder, most_bytes, state: Mutex::default() }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.folder.join(&hex[..2]).join(hex)
    }

    /// The copy of a blob, if there is a whole one. A damaged one is removed.
    pub fn find(&self, digest: &Digest) -> Result<Option<PathBuf>> {
        let path = self.path(digest);
        if !path.is_file() {
            return Ok(None);
        }
        if !self.state().whole.contains(digest) {
            if Digest::of_file(&path)? != *digest {
                std::fs::remove_file(&path).map_err(Error::io(&path))?;
                return Ok(None);
            }
            // For whoever makes room. The owner of a read-only file may touch it.
            if let Ok(file) = File::open(&path) {
                let _ = file.set_modified(SystemTime::now());
            }
            self.state().whole.insert(*digest);
        }
        Ok(Some(path))
    }

    /// Waits until nobody else on this machine fetches the blob; who then still does not find it fetches it. `None`
    /// where the file system has no locks, and a second download is the worst that can happen.
    pub fn alone(&self, digest: &Digest) -> Option<File> {
        // A bounded number of empty files; blobs that share one are fetched one after another.
        let path = self.folder.with_file_name("fetching").join(&digest.hex()[..3]);
        loop {
            match lock::try_file(&path) {
                Ok(Some(lock)) => return Some(lock),
                Ok(None) => std::thread::sleep(LOOK),
                Err(_) => return None,
            }
        }
    }

    /// Moves a file, whose digest was just found to be this, into the cache: where it lies now.
    pub fn keep(&self, from: &Path, digest: &Digest) -> Result<PathBuf> {
        let path = self.path(digest);
        let bytes = from.metadata().map_err(Error::io(from))?.len();
        blob::publish(from, &path)?;
        let mut state = self.state();
        state.whole.insert(*digest);
        let now = match state.bytes {
            Some(before) => before + bytes,
            None => self.files().iter().map(|(_, _, bytes)| bytes).sum(),
        };
        state.bytes = Some(if now > self.most_bytes { self.make_room(&state.whole) } else { now });
        Ok(path)
    }

    /// The bytes that are left.
    fn make_room(&self, used: &HashSet<Digest>) -> u64 {
        let mut files = self.files();
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        let now = SystemTime::now();
        for (touched, path, size) in files {
            if bytes as f64 <= self.most_bytes as f64 * LEAVE {
                break;
            }
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let young = now.duration_since(touched).is_ok_and(|age| age < SPARED);
            if !young && !name.parse().is_ok_and(|digest| used.contains(&digest)) && std::fs::remove_file(&path).is_ok()
            {
                bytes -= size;
            }
        }
        bytes
    }

    /// (last touched, path, bytes) of every copy. What cannot be read is left out: it is not ours to remove.
    fn files(&self) -> Vec<(SystemTime, PathBuf, u64)> {
        let below = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
        below(self.folder.clone())
            .flat_map(|entry| below(entry.path()))
            .filter_map(|entry| {
                let meta = entry.metadata().ok().filter(|m| m.is_file())?;
                Some((meta.modified().ok()?, entry.path(), meta.len()))
            })
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(cache: &Cache, content: &[u8]) -> (Digest, PathBuf) {
        let digest = Digest::of(content);
        let aside = cache.folder.with_extension("aside");
        std::fs::write(&aside, content).unwrap();
        (digest, cache.keep(&aside, &digest).unwrap())
    }

    fn cache(folder: &Path, most_bytes: u64) -> Cache {
        Cache { folder: folder.join("content"), most_bytes, state: Mutex::default() }
    }

    #[test]
    fn what_was_unused_for_longest_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let first = cache(folder.path(), 100);
        let kept: Vec<_> = (0..4u8).map(|i| put(&first, &[i; 30])).collect();
        for (age_h, (_, path)) in [5u64, 9, 0, 7].into_iter().zip(&kept) {
            let touched = SystemTime::now() - Duration::from_secs(age_h * 3600);
            std::fs::File::open(path).unwrap().set_modified(touched).unwrap();
        }
        // 120 bytes are more than 100, but this process uses them all; another one does not.
        assert!(kept.iter().all(|(_, path)| path.exists()));
        let second = cache(folder.path(), 100);
        let (_, new) = put(&second, &[9; 30]);
        let left: Vec<bool> = kept.iter().map(|(_, path)| path.exists()).collect();
        assert_eq!(left, [true, false, true, false]);
        assert!(new.exists());
    }

    #[test]
    fn a_damaged_copy_is_removed_and_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (digest, path) = put(&cache(folder.path(), 1000), b"content");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"cOntent").unwrap();
        assert_eq!(cache(folder.path(), 1000).find(&digest).unwrap(), None);
        assert!(!path.exists());
        assert_eq!(cache(folder.path(), 1000).find(&digest).unwrap(), None);
    }
}
