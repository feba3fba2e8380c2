//! Archives into a folder: tar, tar.gz and zip, told by their content, entry by entry as they are read.
//!
//! An archive is not believed. Names that are absolute or climb out, links, devices and pipes end the unpacking; a file
//! is never written through a link that lies in the folder; and what comes out is bounded: in all, and by how much the
//! archive can reasonably hold.

use std::{
    fs::File,
    io::{BufReader, Read, Write},
    path::{Component, Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    progress::{Cancel, Progress},
};

/// How much an archive may become.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes in all.
    pub bytes: u64,
    /// The most bytes for each byte of the archive, beyond the first 64 MiB.
    pub ratio: u64,
    /// The most files and folders.
    pub entries: u64,
}

impl Default for Limits {
    /// 1 TiB, 100 bytes for one, 20 million entries: more than ImageNet-21k, and far less than a bomb.
    fn default() -> Self {
        Limits { bytes: 1 << 40, ratio: 100, entries: 20_000_000 }
    }
}

/// What small archives of text may exceed the ratio by.
const FREE: u64 = 64 << 20;

/// Unpacks into `to`; the number of files written. `name` is the archive's name in messages.
pub(super) fn unpack(
    archive: &Path,
    name: &str,
    to: &Path,
    limits: &Limits,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<u64> {
    let size = archive.metadata().map_err(Error::io(archive))?.len();
    let most = limits.bytes.min(FREE.saturating_add(size.saturating_mul(limits.ratio)));
    let to = to.canonicalize().map_err(Error::io(to))?;
    let mut into = Into { name, to: &to, left: most, most, entries: limits.entries, files: 0, cancel };
    progress.begin(size, "bytes");
    let mut head = Vec::new();
    let open = || File::open(archive).map_err(Error::io(archive));
    open()?.take(512).read_to_end(&mut head).map_err(Error::io(archive))?;
    if head.starts_with(b"PK") {
        into.zip(open()?, progress)?;
    } else if head.starts_with(&[0x1F, 0x8B]) {
        let counted = Counted { inner: BufReader::with_capacity(1 << 20, open()?), progress };
        into.tar(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 16, counted)))?;
    } else if head.get(257..262) == Some(b"ustar") {
        into.tar(Counted { inner: BufReader::with_capacity(1 << 20, open()?), progress })?;
    } else {
        return Err(into.wrong("it is no tar, tar.gz or zip archive"));
    }
    Ok(into.files)
}

/// Tells how much of the archive was read.
struct Counted<'a, R> {
    inner: R,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.progress.advance(n as u64);
        Ok(n)
    }
}

/// The folder that is filled, and what may still come.
struct Into<'a> {
    name: &'a str,
    to: &'a Path,
    left: u64,
    most: u64,
    entries: u64,
    files: u64,
    cancel: &'a Cancel,
}

impl Into<'_> {
    fn wrong(&self, message: impl std::fmt::Display) -> Error {
        Error::invalid(format!("{}: {message}", self.name))
    }

    fn damaged(&self, e: impl std::fmt::Display) -> Error {
        self.wrong(format!("cannot be unpacked: {e}")).with_hint("fetch it again")
    }

    fn tar(&mut self, reader: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(reader);
        let entries = archive.entries().map_err(|e| self.damaged(e))?;
        for entry in entries {
            let mut entry = entry.map_err(|e| self.damaged(e))?;
            let path = entry.path().map_err(|e| self.damaged(e))?.into_owned();
            let kind = entry.header().entry_type();
            if kind.is_dir() {
                self.folder(&path)?;
            } else if kind.is_file() || kind.is_contiguous() {
                let size = entry.size();
                self.file(&path, size, &mut entry)?;
            } else if !kind.is_pax_global_extensions() {
                return Err(self.wrong(format!("{} is a link or a device, which is not unpacked", path.display())));
            }
        }
        Ok(())
    }

    fn zip(&mut self, file: File, progress: &dyn Progress) -> Result<()> {
        let mut archive = zip::ZipArchive::new(BufReader::with_capacity(1 << 20, file)).map_err(|e| self.damaged(e))?;
        for i in 0..archive.len() {
            let mut entry = archive.by_index(i).map_err(|e| self.damaged(e))?;
            let path = PathBuf::from(entry.name().map_err(|e| self.damaged(e))?.into_owned());
            progress.advance(entry.compressed_size());
            let kind = entry.unix_mode().map_or(0, |m| m & 0o170_000);
            if !matches!(kind, 0 | 0o100_000 | 0o040_000) {
                return Err(self.wrong(format!("{} is a link or a device, which is not unpacked", path.display())));
            }
            if entry.is_dir() {
                self.folder(&path)?;
            } else {
                let size = entry.size();
                self.file(&path, size, &mut entry)?;
            }
        }
        Ok(())
    }

    /// Where an entry goes; an error where that is not below the folder.
    fn place(&mut self, path: &Path) -> Result<PathBuf> {
        self.cancel.check()?;
        self.entries = self.entries.checked_sub(1).ok_or_else(|| self.wrong("it has too many entries"))?;
        let mut inside = PathBuf::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => inside.push(name),
                Component::CurDir => {}
                _ => return Err(self.wrong(format!("{} leaves the folder", path.display()))),
            }
        }
        if path.to_string_lossy().contains(['\\', '\0']) || inside.starts_with(super::FOLDER) {
            return Err(self.wrong(format!("{} is not a name for a file here", path.display())));
        }
        Ok(inside)
    }

    /// Makes a folder below the target; no part of it may be a link.
    fn folder(&mut self, path: &Path) -> Result<()> {
        let inside = self.place(path)?;
        self.make(&inside)
    }

    fn make(&self, inside: &Path) -> Result<()> {
        let mut at = self.to.to_path_buf();
        for part in inside.components() {
            at.push(part);
            match at.symlink_metadata() {
                Ok(m) if m.is_dir() => {}
                Ok(_) => return Err(self.wrong(format!("{} is in the way and no folder", at.display()))),
                Err(_) => std::fs::create_dir(&at).map_err(Error::io(&at))?,
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, declared: u64, data: &mut dyn Read) -> Result<()> {
        let inside = self.place(path)?;
        if inside.as_os_str().is_empty() {
            return Err(self.wrong(format!("{} is not a name for a file here", path.display())));
        }
        let bomb = |i: &Self| {
            let most = i.most >> 20;
            i.wrong(format!("it unpacks to more than {most} MiB, at {}", path.display()))
                .with_hint("an archive of this size should not hold so much; nothing more of it was unpacked")
        };
        if declared > self.left {
            return Err(bomb(self));
        }
        self.make(inside.parent().unwrap_or(Path::new("")))?;
        let place = self.to.join(&inside);
        // A file of before is replaced, never written through.
        match place.symlink_metadata() {
            Ok(m) if m.is_dir() => return Err(self.wrong(format!("{} is a folder already", place.display()))),
            Ok(_) => std::fs::remove_file(&place).map_err(Error::io(&place))?,
            Err(_) => {}
        }
        let mut out = File::create_new(&place).map_err(Error::io(&place))?;
        let mut buffer = [0; 1 << 16];
        loop {
            let n = data.read(&mut buffer).map_err(|e| self.damaged(e))?;
            if n == 0 {
                break;
            }
            // What is declared need not be what comes.
            self.left = self.left.checked_sub(n as u64).ok_or_else(|| bomb(self))?;
            out.write_all(&buffer[..n]).map_err(Error::io(&place))?;
        }
        self.files += 1;
        Ok(())
    }
}
