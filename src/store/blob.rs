//! Blobs: files known by the digest of their content.
//!
//! A blob is written aside and renamed into place whole, and is never changed after. Reading compares: the first
//! time a process asks for the file of a blob, the file is read and held against its name; what differs is set
//! aside, so that the next run finds it missing and computes it again.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::{Store, artifact::FileRef, fault, record::Outputs};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// What became of work files that were published, so that one file may be published under two names.
#[derive(Default)]
pub(super) struct Moved(Mutex<HashMap<PathBuf, (Digest, u64)>>);

impl Moved {
    fn get(&self, path: &Path) -> Option<(Digest, u64)> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).get(path).copied()
    }

    fn insert(&self, path: &Path, blob: (Digest, u64)) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).insert(path.into(), blob);
    }

    pub(super) fn forget(&self, folder: &Path) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).retain(|path, _| !path.starts_with(folder));
    }
}

/// Blobs of a folder that this process has read and found whole.
#[derive(Default)]
pub(super) struct Checked(Mutex<HashSet<Digest>>);

impl Checked {
    fn has(&self, digest: &Digest) -> bool {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).contains(digest)
    }

    fn add(&self, digest: &Digest) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).insert(*digest);
    }
}

/// Above this a blob is looked for before it is sent: a question is cheaper than the bytes.
const ASK_BYTES: u64 = 256 << 10;
/// A difference may come from the way and not from the store, so it is read again once.
const READS: usize = 2;

/// What a look at a whole blob finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobState {
    Whole,
    Missing,
    /// The content has another digest: a flipped bit, a cut file.
    Damaged {
        found: Digest,
    },
}

impl Store {
    /// Puts a file into the store: its digest and size in bytes.
    ///
    /// A file below a [`super::WorkFolder`] of this store is *moved*, into a folder or into the local cache, so it
    /// costs one reading and no copy; any other file is copied and stays. Memory is bounded whatever the size.
    pub fn put_file(&self, path: &Path) -> Result<(Digest, u64)> {
        if !path.exists()
            && let Some(blob) = self.blobs.get(path)
        {
            return Ok(blob);
        }
        let digest = Digest::of_file(path)?;
        let bytes = path.metadata().map_err(Error::io(path))?.len();
        fault::point("blob.hashed");
        let _hold = self.about_to_publish(digest)?;
        let own = self.is_work(path);
        let there = self.is_there(&digest, bytes)?;
        match self.objects.path(&blob_name(&digest)) {
            Some(_) if there && own => std::fs::remove_file(path).map_err(Error::io(path))?,
            Some(_) if there => {}
            Some(target) if own => publish(path, &target)?,
            Some(target) => {
                let aside = self.work_folder()?;
                let copy = aside.path().join("blob");
                std::fs::copy(path, &copy).map_err(Error::io(path))?;
                publish(&copy, &target)?;
            }
            None => {
                if !there {
                    self.objects.upload(&blob_name(&digest), path)?;
                }
                if own {
                    self.cache.keep(path, &digest)?;
                }
            }
        }
        if own && !path.exists() {
            self.blobs.insert(path, (digest, bytes));
        }
        fault::point("blob.published");
        Ok((digest, bytes))
    }

    /// Puts bytes that are in memory anyway.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<(Digest, u64)> {
        let digest = Digest::of(bytes);
        let _hold = self.about_to_publish(digest)?;
        if !self.is_there(&digest, bytes.len() as u64)? {
            self.objects.put(&blob_name(&digest), bytes.to_vec())?;
        }
        fault::point("blob.published");
        Ok((digest, bytes.len() as u64))
    }

    /// Whether a blob need not be sent.
    fn is_there(&self, digest: &Digest, bytes: u64) -> Result<bool> {
        if self.objects.folder().is_none() && bytes <= ASK_BYTES {
            return Ok(false);
        }
        Ok(self.blob_bytes(digest)? == Some(bytes))
    }

    /// Whether a blob is there, by its presence alone.
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(self.blob_bytes(digest)?.is_some())
    }

    /// The size of a blob in bytes.
    pub fn blob_bytes(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.objects.tag(&blob_name(digest))?.map(|tag| tag.bytes))
    }

    /// The content of a small blob, compared with its digest.
    pub fn bytes(&self, digest: &Digest) -> Result<Vec<u8>> {
        let name = blob_name(digest);
        if self.objects.folder().is_none()
            && let Some(path) = self.cache.find(digest)?
        {
            return std::fs::read(&path).map_err(Error::io(&path));
        }
        for _ in 0..READS {
            let bytes = self.objects.get(&name)?.ok_or_else(|| missing(digest))?;
            if Digest::of(&bytes) == *digest {
                return Ok(bytes);
            }
        }
        Err(self.set_aside(digest))
    }

    /// A real file with the content of a blob, for reading and mapping only: the blob itself in a folder store,
    /// a copy in the local cache otherwise. Read and compared with its digest, once a process.
    pub fn local(&self, digest: &Digest) -> Result<PathBuf> {
        let name = blob_name(digest);
        if let Some(path) = self.objects.path(&name) {
            if !path.is_file() {
                return Err(missing(digest));
            }
            if !self.checked.has(digest) {
                if Digest::of_file(&path)? != *digest {
                    return Err(self.set_aside(digest));
                }
                self.checked.add(digest);
            }
            return Ok(path);
        }
        if let Some(path) = self.cache.find(digest)? {
            return Ok(path);
        }
        let _alone = self.cache.alone(digest);
        if let Some(path) = self.cache.find(digest)? {
            return Ok(path);
        }
        let aside = self.work_folder()?;
        let path = aside.path().join("blob");
        for _ in 0..READS {
            let file = File::create(&path).map_err(Error::io(&path))?;
            self.objects.download(&name, file)?.ok_or_else(|| missing(digest))?;
            if Digest::of_file(&path)? == *digest {
                return self.cache.keep(&path, digest);
            }
        }
        Err(self.set_aside(digest))
    }

    /// Takes a damaged blob out of the way, in a folder into `damaged/`, and says so.
    fn set_aside(&self, digest: &Digest) -> Error {
        let name = blob_name(digest);
        let gone = match (self.objects.path(&name), self.objects.path(&format!("damaged/{digest}"))) {
            (Some(from), Some(to)) => {
                let folder = to.parent().unwrap_or(&to);
                std::fs::create_dir_all(folder).and_then(|()| std::fs::rename(&from, &to)).is_ok()
            }
            _ => self.objects.delete(&name).is_ok(),
        };
        damaged(digest, gone)
    }

    /// Reads the whole blob and compares its digest.
    pub fn verify_blob(&self, digest: &Digest) -> Result<BlobState> {
        let mut hasher = blake3::Hasher::new();
        if self.objects.download(&blob_name(digest), &mut hasher)?.is_none() {
            return Ok(BlobState::Missing);
        }
        let found = Digest(*hasher.finalize().as_bytes());
        Ok(if found == *digest { BlobState::Whole } else { BlobState::Damaged { found } })
    }

    /// Removes a blob, which makes the cells that need it run again: the repair of a damaged one. Whether there
    /// was one.
    pub fn delete_blob(&self, digest: &Digest) -> Result<bool> {
        let was = self.has(digest)?;
        self.objects.delete(&blob_name(digest))?;
        Ok(was)
    }

    /// Digests and sizes of all blobs, sorted.
    pub fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let names = self.objects.list("blobs")?;
        Ok(names.iter().filter_map(|(name, bytes)| Some((name.rsplit('/').next()?.parse().ok()?, *bytes))).collect())
    }

    /// The first file of these outputs that is not in the store with its size: (output, file).
    pub fn first_missing<'a>(&self, outputs: &'a Outputs) -> Result<Option<(&'a str, &'a FileRef)>> {
        for (output, artifact) in outputs {
            for file in &artifact.files {
                if self.blob_bytes(&file.digest)? != Some(file.bytes) {
                    return Ok(Some((output, file)));
                }
            }
        }
        Ok(None)
    }
}

fn blob_name(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{hex}", &hex[..2])
}

fn missing(digest: &Digest) -> Error {
    Error::store(format!("blob {} is missing", digest.short())).with_hint("run the pipeline again: it is recomputed")
}

fn damaged(digest: &Digest, gone: bool) -> Error {
    let error = Error::store(format!("blob {} is damaged: its content has another digest", digest.short()));
    error.with_hint(if gone {
        "it was set aside: run again, and the cell that made it is computed again"
    } else {
        "it cannot be removed: the store can only be read"
    })
}

/// Moves a finished file to its place. Read-only first: a blob must never change under its name.
pub(super) fn publish(from: &Path, to: &Path) -> Result<()> {
    std::fs::set_permissions(from, std::fs::Permissions::from_mode(0o444)).map_err(Error::io(from))?;
    fault::point("blob.staged");
    match std::fs::rename(from, to) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let folder = to.parent().unwrap_or(to);
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
            std::fs::rename(from, to).map_err(Error::io(to))
        }
        moved => moved.map_err(Error::io(to)),
    }
}
