//! Named byte strings behind `object_store`, called from plain threads.
//!
//! The one place that waits for a future. Not for async workers: calls block. Names are store paths with forward
//! slashes (`records/ab….json`). Which backend a place has is [`super::backend`]'s matter.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, RwLock},
};

use futures::{StreamExt, executor, future::try_join_all};
use object_store::{
    Error as Refusal, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, PutResult,
    UpdateVersion, path::Path as Name,
};

use super::{
    backend::{Backend, RUNTIME},
    requests::{Counted, Counts, Requests},
    secrets::Secrets,
    survey::Seen,
};
use crate::error::{Error, Result};

/// Uploads above this go up in parts of it, so that memory stays bounded whatever the file.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way up at one time.
const PARTS: usize = 4;

pub struct Objects {
    inner: Arc<dyn ObjectStore>,
    counts: Arc<Counts>,
    folder: Option<PathBuf>,
    remote: bool,
    read_only: bool,
    lister: Option<Arc<dyn ObjectStore>>,
    /// Whether it can say what it holds.
    lists: OnceLock<bool>,
    secrets: Secrets,
    url: String,
    /// What a listing found, while a [`super::Survey`] lives.
    pub(super) seen: RwLock<Option<Seen>>,
}

/// Which state of an object was seen: changes when it is replaced, and serves to replace only that state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub bytes: u64,
    stamp: String,
    /// As the backend wants them back.
    e_tag: Option<String>,
    version: Option<String>,
}

impl Tag {
    /// For keeping: equal for the same state, however it was learnt of.
    pub fn text(&self) -> String {
        format!("{}-{}", self.bytes, self.stamp)
    }

    pub(super) fn of(meta: &ObjectMeta) -> Self {
        let e_tag = meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.to_rfc3339());
        Tag { bytes: meta.size, stamp: plain(&e_tag), e_tag: meta.e_tag.clone(), version: meta.version.clone() }
    }

    fn put(bytes: u64, result: PutResult) -> Self {
        let stamp = plain(result.e_tag.as_deref().unwrap_or_default());
        Tag { bytes, stamp, e_tag: result.e_tag, version: result.version }
    }
}

/// Azure quotes entity tags in a header and not in a listing.
fn plain(e_tag: &str) -> String {
    e_tag.trim_matches('"').into()
}

impl Objects {
    /// See [`super::backend`] for what a place may be. A folder is created where it is missing.
    pub fn open(place: &str) -> Result<Self> {
        let backend = Backend::open(place)?;
        let counts = Arc::<Counts>::default();
        // A folder is asked directly most of the time, so its counts would be wrong.
        let inner = match backend.folder {
            Some(_) => backend.store,
            None => Arc::new(Counted { inner: backend.store, counts: counts.clone() }),
        };
        Ok(Objects {
            inner,
            counts,
            folder: backend.folder,
            remote: backend.remote,
            read_only: backend.read_only,
            lister: backend.lister,
            lists: OnceLock::new(),
            secrets: backend.secrets,
            url: place.into(),
            seen: RwLock::new(None),
        })
    }

    /// Asks for a page of names: that the place exists and lets itself be read is worth knowing before hours of work.
    pub fn check(&self) -> Result<()> {
        if !self.remote || self.read_only {
            return Ok(());
        }
        let prefix = Name::from("last");
        let mut names = self.inner.list(Some(&prefix));
        // Some versions of object_store tell a bucket that is missing by its status alone.
        let missing = |e: &Refusal| matches!(e, Refusal::NotFound { .. }) || e.to_string().contains("404 Not Found");
        match self.wait(names.next()) {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(e)) if missing(&e) => Err(Error::store(format!("{}: there is no such bucket", self.url))
                .with_hint("create it with the provider's own tool, or name another store")),
            Some(Err(e)) => Err(self.refused("", e)),
        }
    }

    /// The root of a folder store, with symlinks resolved.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// As it was given to [`Objects::open`]; never holds a credential.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reached over the network.
    pub fn remote(&self) -> bool {
        self.remote
    }

    /// A web server: every write is refused.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// What a store that is not a folder was asked for since it was opened.
    pub fn requests(&self) -> Requests {
        self.counts.now()
    }

    /// The file behind a name in a folder store. Names are made by this program: plain ASCII, no `..`.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(name))
    }

    /// Replaces the object in one step: a reader sees the old bytes or the new ones, whatever happens.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.put_as(name, bytes, PutMode::Overwrite).map(|_| ())
    }

    /// Makes the object, whole and in one step, where there is none; `None` where there is one.
    ///
    /// Over the network a request that was answered too late is sent again and then finds the object of its own
    /// first attempt: `None` may mean that it is the caller's.
    pub fn create(&self, name: &str, bytes: Vec<u8>) -> Result<Option<Tag>> {
        self.put_as(name, bytes, PutMode::Create)
    }

    /// Replaces the object in the state that was seen; `None` where it is in another one or gone.
    ///
    /// In a folder a writer that comes between the look and the renaming is not noticed.
    pub fn replace(&self, name: &str, bytes: Vec<u8>, seen: &Tag) -> Result<Option<Tag>> {
        if self.folder.is_some() {
            if self.look(name)?.as_ref() != Some(seen) {
                return Ok(None);
            }
            return self.put_as(name, bytes, PutMode::Overwrite);
        }
        let version = UpdateVersion { e_tag: seen.e_tag.clone(), version: seen.version.clone() };
        self.put_as(name, bytes, PutMode::Update(version))
    }

    fn put_as(&self, name: &str, bytes: Vec<u8>, mode: PutMode) -> Result<Option<Tag>> {
        self.writable(name)?;
        let size = bytes.len() as u64;
        let create = matches!(mode, PutMode::Create);
        let payload = PutPayload::from(bytes);
        match self.wait(self.inner.put_opts(&Name::from(name), payload.clone(), PutOptions::from(mode))) {
            // A folder's tags are made of what `look` sees.
            Ok(_) if self.folder.is_some() => self.look(name),
            Ok(put) => Ok(Some(Tag::put(size, put))),
            Err(Refusal::AlreadyExists { .. } | Refusal::Precondition { .. }) => Ok(None),
            // A file system without hard links: whoever comes between the look and the writing is overwritten.
            Err(_) if self.folder.is_some() && create && self.look(name)?.is_none() => {
                let location = Name::from(name);
                self.wait(self.inner.put(&location, payload)).map_err(|e| self.refused(name, e))?;
                self.look(name)
            }
            Err(e) => Err(self.refused(name, e)),
        }
    }

    /// Uploads a local file in bounded pieces; nothing is visible under `name` until the last one is in.
    pub fn upload(&self, name: &str, file: &Path) -> Result<()> {
        self.writable(name)?;
        let mut input = File::open(file).map_err(Error::io(file))?;
        let mut part = read_part(&mut input, file)?;
        if part.len() < PART_BYTES {
            return self.put(name, part);
        }
        let location = Name::from(name);
        let mut upload = self.wait(self.inner.put_multipart(&location)).map_err(|e| self.refused(name, e))?;
        let sent = (|| {
            while !part.is_empty() {
                let mut sending = Vec::with_capacity(PARTS);
                while !part.is_empty() && sending.len() < PARTS {
                    sending.push(upload.put_part(PutPayload::from(part)));
                    part = read_part(&mut input, file)?;
                }
                self.wait(try_join_all(sending)).map_err(|e| self.refused(name, e))?;
            }
            self.wait(upload.complete()).map_err(|e| self.refused(name, e)).map(|_| ())
        })();
        if sent.is_err() {
            // The first error is the one to tell; a part left behind is invisible under `name`.
            let _ = self.wait(upload.abort());
        }
        sent
    }

    /// Writes the object into a local file, piece by piece; `None` where there is no such object.
    pub fn download(&self, name: &str, mut into: impl std::io::Write) -> Result<Option<u64>> {
        let got = match self.wait(self.inner.get(&Name::from(name))) {
            Ok(got) => got,
            Err(Refusal::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(self.refused(name, e)),
        };
        let mut stream = got.into_stream();
        let mut bytes = 0;
        while let Some(piece) = self.wait(stream.next()) {
            let piece = piece.map_err(|e| self.refused(name, e))?;
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
        Ok(self.get_tagged(name)?.map(|(bytes, _)| bytes))
    }

    /// A small object, and which state of it this is.
    pub fn get_tagged(&self, name: &str) -> Result<Option<(Vec<u8>, Tag)>> {
        if self.folder.is_some() {
            // The tag first: a change in between makes it out of date, and it is never newer than the bytes.
            let Some(tag) = self.look(name)? else { return Ok(None) };
            return Ok(self.get(name)?.map(|bytes| (bytes, tag)));
        }
        let got = match self.wait(self.inner.get(&Name::from(name))) {
            Ok(got) => got,
            Err(Refusal::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(self.refused(name, e)),
        };
        let tag = Tag::of(&got.meta);
        let bytes = self.wait(got.bytes()).map_err(|e| self.refused(name, e))?;
        Ok(Some((bytes.into(), tag)))
    }

    /// Which state the object is in, from the listing where one was made; `None` where there is none.
    pub fn tag(&self, name: &str) -> Result<Option<Tag>> {
        if let Some(seen) = &*self.seen.read().unwrap_or_else(|e| e.into_inner())
            && let Some(known) = seen.tag(name)
        {
            return Ok(known.cloned());
        }
        self.look(name)
    }

    /// As [`Self::tag`], from the store itself.
    pub(super) fn look(&self, name: &str) -> Result<Option<Tag>> {
        if let Some(path) = self.path(name) {
            use std::os::unix::fs::MetadataExt;
            return match std::fs::metadata(&path) {
                Ok(m) => {
                    let stamp = format!("{:x}-{:x}-{:x}", m.mtime(), m.mtime_nsec(), m.ino());
                    Ok(Some(Tag { bytes: m.len(), stamp, e_tag: None, version: None }))
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(Error::Io { path, source: e }),
            };
        }
        match self.wait(self.inner.head(&Name::from(name))) {
            Ok(meta) => Ok(Some(Tag::of(&meta))),
            Err(Refusal::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.refused(name, e)),
        }
    }

    /// Names and sizes below a prefix, sorted; files on their way in are not among them.
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        self.each(prefix, |meta| {
            found.push((meta.location.to_string(), meta.size));
            true
        })?;
        found.sort();
        Ok(found)
    }

    /// Calls `body` with what lies below a prefix, in any order, until it returns false; whether it saw all.
    pub(super) fn each(&self, prefix: &str, mut body: impl FnMut(ObjectMeta) -> bool) -> Result<bool> {
        if !self.lists() {
            return Err(Error::store(format!("{} cannot list what it holds: it is a plain web server", self.url))
                .with_hint(
                    "name the cells by a pipeline file: `scaleshot run` finds them there, and \
                     `scaleshot import PLACE --of PIPELINE.yaml` copies them from it",
                ));
        }
        let prefix_name = Name::from(prefix);
        let mut stream = self.inner.list(Some(&prefix_name));
        while let Some(meta) = self.wait(stream.next()) {
            match meta {
                Ok(meta) => {
                    if !body(meta) {
                        return Ok(false);
                    }
                }
                // The folder of a kind of object is made with its first object.
                Err(Refusal::NotFound { .. }) => {}
                Err(e) => return Err(self.refused(prefix, e)),
            }
        }
        Ok(true)
    }

    /// Whether it can say what it holds. All can but web servers, of which only those with WebDAV do.
    fn lists(&self) -> bool {
        let Some(lister) = &self.lister else { return true };
        let refuses = |e: Refusal| {
            let text = e.to_string();
            ["400", "403", "405", "501"].iter().any(|code| text.contains(&format!("status code: {code}")))
                || matches!(e, Refusal::PermissionDenied { .. } | Refusal::NotImplemented { .. })
        };
        let records = Name::from("records");
        *self.lists.get_or_init(|| !self.wait(lister.list_with_delimiter(Some(&records))).is_err_and(refuses))
    }

    /// Deleting what is not there is no error: some backends cannot tell.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.writable(name)?;
        match self.wait(self.inner.delete(&Name::from(name))) {
            Ok(()) | Err(Refusal::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.refused(name, e)),
        }
    }

    /// Futures of a folder and of memory finish in place where no runtime is entered; those of the network need
    /// its timers and sockets.
    fn wait<F: Future>(&self, future: F) -> F::Output {
        if self.remote { RUNTIME.block_on(future) } else { executor::block_on(future) }
    }

    fn writable(&self, name: &str) -> Result<()> {
        if !self.read_only {
            if let Some(seen) = &mut *self.seen.write().unwrap_or_else(|e| e.into_inner()) {
                seen.forget(name);
            }
            return Ok(());
        }
        Err(Error::store(format!("{} can only be read", self.url)).with_hint(
            "name a store that can be written with --store; `scaleshot import PLACE --of PIPELINE.yaml` copies \
                 cells into it",
        ))
    }

    /// An error in the user's terms, without secrets.
    fn refused(&self, name: &str, source: Refusal) -> Error {
        let text = source.to_string();
        let shown = self.secrets.redact(&text);
        let place = if self.remote { format!("{}: ", self.url) } else { String::new() };
        let hint = hint(&source, &text, self.remote);
        // The source would print what was hidden, so it is kept only where nothing was.
        let hidden = self.remote && self.secrets.redact(&format!("{source:?}")) != format!("{source:?}");
        Error::Store {
            message: if name.is_empty() { format!("{place}{shown}") } else { format!("{place}{name}: {shown}") },
            hint: hint.map(Into::into),
            source: (!hidden).then(|| Box::new(source) as _),
        }
    }
}

fn hint(source: &Refusal, text: &str, remote: bool) -> Option<&'static str> {
    if text.contains("No space left") || text.contains("StorageFull") {
        return Some("the disk is full: free some space (`scaleshot gc` removes what nothing needs) and run again");
    }
    if text.contains("Read-only file system") {
        return Some("the store can only be read: name one that can be written with --store");
    }
    match source {
        Refusal::PermissionDenied { .. } | Refusal::Unauthenticated { .. } if remote => {
            Some("check the credentials in the environment and their rights on this store")
        }
        Refusal::PermissionDenied { .. } | Refusal::Unauthenticated { .. } => Some("check the rights of the store"),
        Refusal::NotImplemented { .. } if remote => {
            Some("the server lacks a conditional write, without which two runs cannot share it; use one that has them")
        }
        Refusal::Generic { .. } if remote && text.contains("redentials") => Some(
            "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
             GOOGLE_APPLICATION_CREDENTIALS or AZURE_STORAGE_ACCOUNT_NAME and its key, or the usual files",
        ),
        Refusal::Generic { .. } if remote => {
            Some("check the network and the endpoint (AWS_ENDPOINT_URL, …); what had begun continues with the next run")
        }
        _ => None,
    }
}

fn read_part(input: &mut File, path: &Path) -> Result<Vec<u8>> {
    let mut part = Vec::new();
    input.by_ref().take(PART_BYTES as u64).read_to_end(&mut part).map_err(Error::io(path))?;
    Ok(part)
}
