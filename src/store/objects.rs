//! Named byte strings behind `object_store`, called from plain threads.
//!
//! The one place that turns a URL into a backend, and the one place that waits for a future. Not for async
//! workers: calls block. Names are store paths with forward slashes (`records/ab….json`).

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{StreamExt, executor::block_on};
use object_store::{
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, local::LocalFileSystem, memory::InMemory,
    path::Path as Name,
};

use crate::error::{Error, Result};

/// Uploads above this go up in parts of it, so that memory stays bounded whatever the file.
const PART_BYTES: usize = 8 << 20;

pub struct Objects {
    inner: Arc<dyn ObjectStore>,
    /// The root of a folder store, with symlinks resolved.
    folder: Option<PathBuf>,
    url: String,
}

impl Objects {
    /// A folder (created where it is missing), `file://…`, or `memory://`.
    ///
    /// Folder and memory futures finish in place when no runtime is entered, so they need none. Backends over
    /// the network come in here too; they bring their runtime with them.
    pub fn open(place: &str) -> Result<Self> {
        let folder = match place.split_once("://") {
            None => place,
            Some(("file", path)) => path,
            Some(("memory", _)) => {
                return Ok(Objects { inner: Arc::new(InMemory::new()), folder: None, url: place.into() });
            }
            Some((scheme, _)) => {
                return Err(Error::store(format!("{place}: this build has no backend for {scheme}://"))
                    .with_hint("a store is a folder, file:///… or memory://"));
            }
        };
        if folder.is_empty() {
            return Err(Error::store("the place of the store is empty").with_hint("name a folder: --store .scaleshot"));
        }
        let path = Path::new(folder);
        std::fs::create_dir_all(path).map_err(Error::io(path))?;
        let root = path.canonicalize().map_err(Error::io(path))?;
        let inner = LocalFileSystem::new_with_prefix(&root).map_err(|e| wrap(place, e))?;
        Ok(Objects { inner: Arc::new(inner), folder: Some(root), url: place.into() })
    }

    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// As it was given to [`Objects::open`].
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file behind a name in a folder store. Names are made by this program: plain ASCII, no `..`.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(name))
    }

    /// Replaces the object in one step: a reader sees the old bytes or the new ones, whatever happens.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        block_on(self.inner.put(&Name::from(name), PutPayload::from(bytes))).map_err(|e| wrap(name, e))?;
        Ok(())
    }

    /// Uploads a local file in bounded pieces; nothing is visible under `name` until the last one is in.
    pub fn upload(&self, name: &str, file: &Path) -> Result<()> {
        let mut input = File::open(file).map_err(Error::io(file))?;
        let mut part = read_part(&mut input, file)?;
        if part.len() < PART_BYTES {
            return self.put(name, part);
        }
        let location = Name::from(name);
        let mut upload = block_on(self.inner.put_multipart(&location)).map_err(|e| wrap(name, e))?;
        let send = |upload: &mut Box<dyn MultipartUpload>, part: Vec<u8>| {
            block_on(upload.put_part(PutPayload::from(part))).map_err(|e| wrap(name, e))
        };
        let sent = (|| {
            while !part.is_empty() {
                send(&mut upload, part)?;
                part = read_part(&mut input, file)?;
            }
            block_on(upload.complete()).map_err(|e| wrap(name, e)).map(|_| ())
        })();
        if sent.is_err() {
            // The first error is the one to tell; a part left behind is invisible under `name`.
            let _ = block_on(upload.abort());
        }
        sent
    }

    /// Writes the object into a local file, piece by piece; `None` where there is no such object.
    pub fn download(&self, name: &str, mut into: impl std::io::Write) -> Result<Option<u64>> {
        let got = match block_on(self.inner.get(&Name::from(name))) {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(wrap(name, e)),
        };
        let mut stream = got.into_stream();
        let mut bytes = 0;
        while let Some(piece) = block_on(stream.next()) {
            let piece = piece.map_err(|e| wrap(name, e))?;
            into.write_all(&piece).map_err(Error::io(name))?;
            bytes += piece.len() as u64;
        }
        Ok(Some(bytes))
    }

    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if let Some(path) = self.path(name) {
            return match std::fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(Error::Io { path, source: e }),
            };
        }
        let mut bytes = Vec::new();
        Ok(self.download(name, &mut bytes)?.map(|_| bytes))
    }

    /// Size in bytes and a text that changes when the object is replaced; `None` where there is none.
    pub fn stamp(&self, name: &str) -> Result<Option<(u64, String)>> {
        if let Some(path) = self.path(name) {
            use std::os::unix::fs::MetadataExt;
            return match std::fs::metadata(&path) {
                Ok(m) => Ok(Some((m.len(), format!("{:x}-{:x}-{:x}", m.mtime(), m.mtime_nsec(), m.ino())))),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(Error::Io { path, source: e }),
            };
        }
        match block_on(self.inner.head(&Name::from(name))) {
            Ok(meta) => Ok(Some((meta.size, tag(&meta)))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(wrap(name, e)),
        }
    }

    /// Names and sizes below a prefix, sorted; files on their way in are not among them.
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let prefix_name = Name::from(prefix);
        let mut stream = self.inner.list(Some(&prefix_name));
        let mut found = Vec::new();
        while let Some(meta) = block_on(stream.next()) {
            match meta {
                Ok(meta) => found.push((meta.location.to_string(), meta.size)),
                // The folder of a kind of object is made with its first object.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(wrap(prefix, e)),
            }
        }
        found.sort();
        Ok(found)
    }

    /// Deleting what is not there is no error: some backends cannot tell.
    pub fn delete(&self, name: &str) -> Result<()> {
        match block_on(self.inner.delete(&Name::from(name))) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(wrap(name, e)),
        }
    }
}

fn tag(meta: &ObjectMeta) -> String {
    meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.to_string())
}

fn read_part(input: &mut File, path: &Path) -> Result<Vec<u8>> {
    let mut part = Vec::new();
    input.by_ref().take(PART_BYTES as u64).read_to_end(&mut part).map_err(Error::io(path))?;
    Ok(part)
}

fn wrap(name: &str, source: object_store::Error) -> Error {
    let hint = match &source {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            Some("check the rights of the store".to_string())
        }
        _ => None,
    };
    Error::Store { message: format!("{name}: {source}"), hint, source: Some(Box::new(source)) }
}
