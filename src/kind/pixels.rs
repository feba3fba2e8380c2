//! The pixels of a dataset's rows, wherever they lie: in the row, in a file of its own, in a packed file.

use std::{collections::HashMap, ops::Range, path::PathBuf};

use arrow::array::{Array, BinaryArray, StringArray, UInt32Array};

use super::Cell;
use crate::{
    data::{
        dataset::Dataset,
        format::packed::{Packed, Record},
        image::{Layout, Loaded, Pixels, Prepare, encode, read_file},
        stream::{ParquetTable, Pieces, Table},
    },
    digest::Digest,
    error::{Error, Result},
};

/// Opens the images of one dataset. Files are found by content, so they may have moved since the table was made.
pub struct Opener<'a> {
    images: &'a StringArray,
    digests: Option<&'a BinaryArray>,
    records: Option<&'a UInt32Array>,
    /// By digest: where the file is now.
    paths: HashMap<Digest, PathBuf>,
    /// Packed files, opened once, and how many rows lie in each.
    packed: HashMap<Digest, (Packed, u64)>,
}

impl<'a> Opener<'a> {
    /// `embedded` says that rows may hold their images themselves, so that not all need a file.
    pub fn new(cell: &Cell, data: &'a Dataset, embedded: bool) -> Result<Self> {
        let mut opener = Opener {
            images: data.images()?,
            digests: data.binary("digest"),
            records: data.integers("record"),
            paths: HashMap::new(),
            packed: HashMap::new(),
        };
        for row in 0..data.rows() {
            let digest = match opener.content(row) {
                Some((digest, _)) => digest,
                None if embedded => continue,
                None => opener.digest(row)?,
            };
            if let Some((_, rows)) = opener.packed.get_mut(&digest) {
                *rows += 1;
            }
            if opener.paths.contains_key(&digest) {
                continue;
            }
            let path = match cell.sources.path_of(&digest) {
                Some(path) => path,
                None if embedded => continue,
                None => return Err(opener.gone(row)),
            };
            if opener.records.is_some_and(|r| r.is_valid(row)) {
                opener.packed.insert(digest, (Packed::open(&path)?, 1));
            }
            opener.paths.insert(digest, path);
        }
        Ok(opener)
    }

    fn digest(&self, row: usize) -> Result<Digest> {
        let name = self.images.value(row);
        self.content(row)
            .map(|(digest, _)| digest)
            .ok_or_else(|| Error::invalid(format!("{name}: the table holds neither its bytes nor its digest")))
    }

    fn gone(&self, row: usize) -> Error {
        Error::invalid(format!("{}: no source file has its content any more", self.images.value(row)))
            .with_hint("the dataset's folder changed while the pipeline ran; run it again")
    }

    /// What the image of a row is: the digest of its file, and its place there.
    pub fn content(&self, row: usize) -> Option<(Digest, Option<u32>)> {
        let digest = self.digests.filter(|d| d.is_valid(row))?.value(row).try_into().ok()?;
        Some((Digest(digest), self.records.filter(|r| r.is_valid(row)).map(|r| r.value(row))))
    }

    /// What the row's image is called.
    pub fn name(&self, row: usize) -> String {
        match self.records.filter(|r| r.is_valid(row)) {
            Some(records) => format!("{}#{}", self.images.value(row), records.value(row)),
            None => self.images.value(row).into(),
        }
    }

    /// Where the image of a row is, for errors.
    pub fn place(&self, row: usize) -> PathBuf {
        let path = self.content(row).and_then(|(digest, _)| self.paths.get(&digest));
        path.cloned().unwrap_or_else(|| self.images.value(row).into())
    }

    /// Bytes that the row's image takes as it is encoded now; of a packed file, its share of it; 0 where that is
    /// not known.
    pub fn encoded_bytes(&self, row: usize) -> u64 {
        let Some((digest, _)) = self.content(row) else { return 0 };
        let file = self.paths.get(&digest).and_then(|p| std::fs::metadata(p).ok()).map_or(0, |m| m.len());
        file / self.packed.get(&digest).map_or(1, |(_, rows)| *rows)
    }

    /// The image of a row for a shard: `embedded` holds its bytes where the table does. Errors name no file; the
    /// caller has [`Opener::place`].
    pub fn load(&self, row: usize, embedded: Option<&[u8]>, prepare: &Prepare, layout: &Layout) -> Result<Loaded> {
        let finish = |(pixels, phash): (Pixels, _), encoded: &dyn Fn() -> Result<Vec<u8>>| {
            let data = match layout {
                Layout::Pixels(_) => pixels.data,
                Layout::Encoded(_) => encoded()?,
            };
            Ok(Loaded { data, phash })
        };
        let of_file = |bytes: &[u8]| finish(prepare.whole(bytes)?, &|| Ok(bytes.to_vec()));
        if let Some(bytes) = embedded {
            return of_file(bytes);
        }
        let digest = self.digest(row)?;
        let path = self.paths.get(&digest).ok_or_else(|| self.gone(row))?;
        match (self.records.filter(|r| r.is_valid(row)), self.packed.get(&digest)) {
            (Some(records), Some((packed, _))) => match packed.record(path, records.value(row))? {
                Record::Pixels(image) => finish(prepare.whole_decoded(image.clone())?, &|| encode::png(&image)),
                Record::Encoded(bytes) => of_file(&bytes),
            },
            _ => of_file(&read_file(path, &prepare.decode)?),
        }
    }
}

/// The images that a table holds itself, row after row.
pub struct Embedded<'a> {
    pieces: Pieces<'a>,
    /// The piece at hand, and the row that it begins with.
    piece: Dataset,
    start: usize,
}

impl<'a> Embedded<'a> {
    /// `None` where the table holds no images.
    pub fn open(table: &'a ParquetTable) -> Result<Option<Self>> {
        let head = table.head()?;
        match head.binary("bytes") {
            Some(_) => Ok(Some(Embedded { pieces: table.pieces()?, piece: head, start: 0 })),
            None => Ok(None),
        }
    }

    /// The bytes of some rows, which must come after those that were asked for before.
    pub fn rows(&mut self, rows: Range<usize>) -> Result<Vec<Option<Vec<u8>>>> {
        let mut out = Vec::with_capacity(rows.len());
        for row in rows {
            while row >= self.start + self.piece.rows() {
                self.start += self.piece.rows();
                let next = self.pieces.next();
                self.piece = next.ok_or_else(|| Error::invalid(format!("bug: the table ends before row {row}")))??;
            }
            let column = self.piece.binary("bytes").filter(|b| b.is_valid(row - self.start));
            out.push(column.map(|b| b.value(row - self.start).to_vec()));
        }
        Ok(out)
    }
}
