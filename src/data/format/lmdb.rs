//! LMDB files (`data.mdb`), read without LMDB: the layout of Chu's library, version 1, on 64-bit little-endian
//! machines, as Caffe's databases were written.
//!
//! LMDB's own code maps the file and believes it: a damaged page is a crash, and opening a database writes its
//! lock file beside it. This reader takes pages by position, checks every offset against the file, and writes
//! nothing. It reads the newest of the two meta pages; it knows no writers, no named databases, no duplicates.
//!
//! | part | bytes |
//! |---|---|
//! | page header | 8 number, 2 unused, 2 flags, 2 lower and 2 upper bound (overflow: 4 pages) |
//! | meta page | header, `0xBEEFC0DE`, version, 8 address, 8 map size, two databases, 8 last page, 8 transaction |
//! | database | 4 page size, 2 flags, 2 depth, 8 branch, 8 leaf, 8 overflow pages, 8 entries, 8 root |
//! | node | 2 low and 2 high size (or child), 2 flags, 2 key size, key, value or 8 overflow page |

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

const MAGIC: u32 = 0xBEEF_C0DE;
const HEADER: usize = 16;
const NODE: usize = 8;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
const BIG_DATA: u16 = 0x01;
/// Far deeper than any tree that fits a disk.
const DEEPEST: usize = 32;

/// Where one value lies in the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    key_at: u64,
    key_bytes: u16,
    at: u64,
    bytes: u32,
}

/// An open database with the place of every entry, in the order of the keys.
#[derive(Debug)]
pub(super) struct Lmdb {
    path: PathBuf,
    file: File,
    bytes: u64,
    page_bytes: usize,
    places: Vec<Place>,
}

/// Whether a file begins as an LMDB database.
pub(super) fn is_lmdb(head: &[u8]) -> bool {
    head.len() >= HEADER + 4 && u32_at(head, HEADER) == MAGIC
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

impl Lmdb {
    /// Opens a database and walks its branch and leaf pages once. Values are not read.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let bytes = file.metadata().map_err(Error::io(path))?.len();
        let mut db = Lmdb { path: path.into(), file, bytes, page_bytes: 4096, places: Vec::new() };
        let first = db.meta(0)?;
        let second = db.meta(db.page_bytes as u64)?;
        let (_, root, entries) = if second.0 > first.0 { second } else { first };
        if root != u64::MAX {
            db.walk(root)?;
        }
        if db.places.len() as u64 != entries {
            return Err(db.broken(format!("{} entries where {entries} are declared", db.places.len())));
        }
        Ok(db)
    }

    fn broken(&self, message: impl Into<String>) -> Error {
        Error::data(&self.path, None, format!("damaged LMDB database: {}", message.into()))
            .with_hint("the file is cut off or damaged; fetch it again")
    }

    fn bytes_at(&self, at: u64, bytes: usize) -> Result<Vec<u8>> {
        if at.checked_add(bytes as u64).is_none_or(|end| end > self.bytes) {
            return Err(self.broken(format!("it points {bytes} bytes at {at}, past its end at {}", self.bytes)));
        }
        let mut buffer = vec![0; bytes];
        self.file.read_exact_at(&mut buffer, at).map_err(Error::io(&self.path))?;
        Ok(buffer)
    }

    /// Transaction, root page and number of entries; also sets the page size.
    fn meta(&mut self, at: u64) -> Result<(u64, u64, u64)> {
        let b = self.bytes_at(at, HEADER + 24 + 2 * 48 + 16)?;
        let m = &b[HEADER..];
        if u32_at(m, 0) != MAGIC || u32_at(m, 4) & 0xFFFF != 1 {
            return Err(self.broken("no meta page of version 1"));
        }
        let page = u32_at(m, 24) as usize;
        if !(512..=65_536).contains(&page) || !page.is_power_of_two() {
            return Err(self.broken(format!("pages of {page} bytes")));
        }
        self.page_bytes = page;
        let main = &m[24 + 48..];
        Ok((u64_at(m, 24 + 96 + 8), u64_at(main, 40), u64_at(main, 32)))
    }

    fn walk(&mut self, root: u64) -> Result<()> {
        let pages = self.bytes / self.page_bytes as u64;
        let mut seen = 0;
        // Children are pushed last to first, so that entries come in the order of their keys.
        let mut open = vec![(root, 0usize)];
        while let Some((number, depth)) = open.pop() {
            seen += 1;
            if seen > pages || depth > DEEPEST {
                return Err(self.broken("its pages point in a circle"));
            }
            let start = number.saturating_mul(self.page_bytes as u64);
            let page = self.bytes_at(start, self.page_bytes)?;
            let (flags, lower) = (u16_at(&page, 10), usize::from(u16_at(&page, 12)));
            if lower < HEADER || lower > page.len() {
                return Err(self.broken(format!("page {number} holds no list of nodes")));
            }
            let nodes = (HEADER..lower - 1).step_by(2).map(|i| usize::from(u16_at(&page, i)));
            if flags & BRANCH != 0 {
                let mut children = Vec::new();
                for node in nodes {
                    let head = page.get(node..node + NODE).ok_or_else(|| self.broken("a node outside its page"))?;
                    let low = u64::from(u32_at(head, 0));
                    children.push((low | u64::from(u16_at(head, 4)) << 32, depth + 1));
                }
                open.extend(children.into_iter().rev());
            } else if flags & LEAF != 0 {
                for node in nodes {
                    let place = self.place(&page, start, node)?;
                    self.places.push(place);
                }
            } else {
                return Err(self.broken(format!("page {number} is neither branch nor leaf")));
            }
        }
        Ok(())
    }

    fn place(&self, page: &[u8], start: u64, node: usize) -> Result<Place> {
        let outside = || self.broken("a node outside its page");
        let head = page.get(node..node + NODE).ok_or_else(outside)?;
        let (bytes, flags, key_bytes) = (u32_at(head, 0), u16_at(head, 4), u16_at(head, 6));
        let value = node + NODE + usize::from(key_bytes);
        let key_at = start + (node + NODE) as u64;
        if flags & !BIG_DATA != 0 {
            return Err(self.broken("it holds databases or duplicates, which Caffe does not write"));
        }
        if flags & BIG_DATA == 0 {
            page.get(value..value + bytes as usize).ok_or_else(outside)?;
            return Ok(Place { key_at, key_bytes, at: start + value as u64, bytes });
        }
        let number = u64_at(page.get(value..value + 8).ok_or_else(outside)?, 0);
        let at = number.checked_mul(self.page_bytes as u64).ok_or_else(outside)?;
        if u16_at(&self.bytes_at(at, HEADER)?, 10) & OVERFLOW == 0 {
            return Err(self.broken(format!("page {number} is no overflow page")));
        }
        Ok(Place { key_at, key_bytes, at: at + HEADER as u64, bytes })
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn key(&self, entry: usize) -> Result<Vec<u8>> {
        let place = self.at(entry)?;
        self.bytes_at(place.key_at, usize::from(place.key_bytes))
    }

    pub(super) fn value(&self, entry: usize) -> Result<Vec<u8>> {
        let place = self.at(entry)?;
        self.bytes_at(place.at, place.bytes as usize)
    }

    fn at(&self, entry: usize) -> Result<Place> {
        self.places.get(entry).copied().ok_or_else(|| {
            Error::data(&self.path, entry as u64 + 1, format!("the database has {} entries", self.places.len()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};

    fn open(bytes: &[u8]) -> Result<(Lmdb, tempfile::TempDir)> {
        let dir = fixtures::tree(&[("data.mdb", bytes)]);
        Lmdb::open(&dir.path().join("data.mdb")).map(|db| (db, dir))
    }

    #[test]
    fn entries_come_in_the_order_of_their_keys_through_three_levels() {
        let bytes = fixtures::read("caffe.mdb.gz");
        let (db, dir) = open(&bytes).unwrap();
        assert_eq!(db.len(), 400);
        let keys: Vec<Vec<u8>> = (0..400).map(|i| db.key(i).unwrap()).collect();
        assert!(keys.is_sorted());
        assert_eq!(keys[17], b"00000017_n01440767/image_17.JPEG");
        // A value beside its key, and one of several overflow pages.
        assert!(db.value(1).unwrap().len() < 200 && db.value(3).unwrap().len() > 200);
        assert!(db.value(6).unwrap().len() > 2 * 4096);
        assert!(db.value(400).unwrap_err().to_string().ends_with("data.mdb:401: the database has 400 entries"));
        // No lock file, which LMDB itself would write.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn damage_is_an_error_and_never_more() {
        let whole = fixtures::read("caffe.mdb.gz");
        assert!(open(&whole[..100]).unwrap_err().to_string().contains("past its end"));
        assert!(open(&whole[..whole.len() / 2]).unwrap_err().to_string().contains("damaged LMDB database"));
        let mut no_magic = whole.clone();
        no_magic[16] = 0;
        assert!(open(&no_magic).unwrap_err().to_string().contains("no meta page"));
        // Every byte of the newest meta page, and then some of every page, turned over: an error or the same entries.
        let pages = whole.len() / 4096;
        let spots =
            (0..300).chain(4096..4396).chain((2..pages).flat_map(|p| [10, 11, 12, 16, 17, 18].map(|b| p * 4096 + b)));
        for spot in spots {
            let mut bad = whole.clone();
            bad[spot] ^= 0xFF;
            if let Ok((db, _dir)) = open(&bad) {
                for i in 0..db.len() {
                    let _ = (db.key(i), db.value(i));
                }
            }
        }
    }
}
