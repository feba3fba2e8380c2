//! The pixels of a dataset's rows, wherever they lie: in the row, in a file of its own, in a packed file.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Range,
    path::PathBuf,
    sync::Arc,
};

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

/// What some rows of a table tell of their images.
pub struct Named {
    images: StringArray,
    digests: Option<BinaryArray>,
    records: Option<UInt32Array>,
}

impl Named {
    /// Columns that it looks at.
    pub fn is_column(name: &str) -> bool {
        ["image", "digest", "record"].contains(&name)
    }

    pub fn of(data: &Dataset) -> Result<Self> {
        Ok(Named {
            images: data.images()?.clone(),
            digests: data.binary("digest").cloned(),
            records: data.integers("record").cloned(),
        })
    }

    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// The row's place in a file of many images.
    fn record(&self, row: usize) -> Option<u32> {
        self.records.as_ref().filter(|r| r.is_valid(row)).map(|r| r.value(row))
    }

    /// What the image of a row is: the digest of its file, and its place there.
    pub fn content(&self, row: usize) -> Option<(Digest, Option<u32>)> {
        let digest = self.digests.as_ref().filter(|d| d.is_valid(row))?.value(row).try_into().ok()?;
        Some((Digest(digest), self.record(row)))
    }

    /// What the row's image is called.
    pub fn name(&self, row: usize) -> String {
        match self.record(row) {
            Some(record) => format!("{}#{record}", self.images.value(row)),
            None => self.images.value(row).into(),
        }
    }

    fn digest(&self, row: usize) -> Result<Digest> {
        let name = self.images.value(row);
        self.content(row).map(|(digest, _)| digest).ok_or_else(|| {
            Error::invalid(format!("{name}: its image file was not there when the dataset was read"))
                .with_hint("the dataset was read with missing: keep, for work on its table alone")
        })
    }

    fn gone(&self, row: usize) -> Error {
        Error::invalid(format!("{}: no source file has its content any more", self.images.value(row)))
            .with_hint("the dataset's folder changed while the pipeline ran; run it again")
    }
}

/// Files of many images that are open, by digest. Opened once for all the rows of a table.
pub type PackedFiles = HashMap<Digest, Arc<Packed>>;

/// Opens the images of some rows. Files are found by content, so they may have moved since the table was made.
pub struct Opener {
    pub named: Named,
    /// By digest: where the file is now.
    paths: HashMap<Digest, PathBuf>,
    packed: PackedFiles,
}

impl Opener {
    /// `embedded` says that rows may hold their images themselves, so that not all need a file.
    pub fn new(cell: &Cell, data: &Dataset, embedded: bool, open: &mut PackedFiles) -> Result<Self> {
        let named = Named::of(data)?;
        let (mut paths, mut packed) = (HashMap::new(), PackedFiles::new());
        for row in 0..named.len() {
            let digest = match named.content(row) {
                Some((digest, _)) => digest,
                // Its image is in the row, or nowhere: `load` tells.
                None => continue,
            };
            if paths.contains_key(&digest) {
                continue;
            }
            let path = match cell.sources.path_of(&digest) {
                Some(path) => path,
                None if embedded => continue,
                None => return Err(named.gone(row)),
            };
            if named.record(row).is_some() {
                let file = match open.entry(digest) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(Arc::new(Packed::open(&path, cell.work)?)),
                };
                packed.extend([(digest, file.clone())]);
            }
            paths.insert(digest, path);
        }
        Ok(Opener { named, paths, packed })
    }

    /// Where the image of a row is, for errors.
    pub fn place(&self, row: usize) -> PathBuf {
        let path = self.named.content(row).and_then(|(digest, _)| self.paths.get(&digest));
        path.cloned().unwrap_or_else(|| self.named.images.value(row).into())
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
        let digest = self.named.digest(row)?;
        let path = self.paths.get(&digest).ok_or_else(|| self.named.gone(row))?;
        match (self.named.record(row), self.packed.get(&digest)) {
            (Some(record), Some(packed)) => match packed.record(path, record)? {
                Record::Pixels(image) => finish(prepare.whole_decoded(image.clone())?, &|| encode::png(&image)),
                Record::Encoded(bytes) => of_file(&bytes),
            },
            _ => of_file(&read_file(path, &prepare.decode)?),
        }
    }
}

/// The rows of a table, range after range, of which one is in memory.
pub struct Ranges<'a> {
    pieces: Pieces<'a>,
    head: Dataset,
    /// The piece at hand, and the row that it begins with.
    piece: Dataset,
    start: usize,
}

impl<'a> Ranges<'a> {
    pub fn open(table: &'a ParquetTable) -> Result<Self> {
        let head = table.head()?;
        Ok(Ranges { pieces: table.pieces()?, piece: head.clone(), head, start: 0 })
    }

    /// Some rows, which must come after those that were asked for before.
    pub fn rows(&mut self, rows: Range<usize>) -> Result<Dataset> {
        let (mut at, mut parts) = (rows.start, vec![self.head.clone()]);
        while at < rows.end {
            while at >= self.start + self.piece.rows() {
                self.start += self.piece.rows();
                let next = self.pieces.next();
                self.piece = next.ok_or_else(|| Error::invalid(format!("bug: the table ends before row {at}")))??;
            }
            let end = rows.end.min(self.start + self.piece.rows());
            parts.push(self.piece.slice(at - self.start, end - at)?);
            at = end;
        }
        Dataset::concat(&parts)
    }
}
