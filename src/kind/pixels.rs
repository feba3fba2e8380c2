//! The pixels of a dataset's rows, wherever they lie: in the row, in a file of its own, in a packed file.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use arrow::array::{Array, BinaryArray, StringArray, UInt32Array};

use super::Cell;
use crate::{
    data::{
        dataset::Dataset,
        format::packed::Packed,
        image::{Pixels, Prepare},
    },
    digest::Digest,
    error::{Error, Result},
};

/// Where one row's image is.
enum Place<'a> {
    Embedded(&'a [u8]),
    File(&'a Path),
    Packed(&'a Path, &'a Packed, u32),
}

/// Opens the images of one dataset. Files are found by content, so they may have moved since the table was made.
pub struct Opener<'a> {
    images: &'a StringArray,
    bytes: Option<&'a BinaryArray>,
    digests: Option<&'a BinaryArray>,
    records: Option<&'a UInt32Array>,
    /// By digest: where the file is now.
    paths: HashMap<Digest, PathBuf>,
    /// Packed files, opened once.
    packed: HashMap<Digest, Packed>,
}

impl<'a> Opener<'a> {
    pub fn new(cell: &Cell, data: &'a Dataset) -> Result<Self> {
        let mut opener = Opener {
            images: data.images()?,
            bytes: data.binary("bytes"),
            digests: data.binary("digest"),
            records: data.integers("record"),
            paths: HashMap::new(),
            packed: HashMap::new(),
        };
        for row in 0..data.rows() {
            if opener.bytes.is_some_and(|b| b.is_valid(row)) {
                continue;
            }
            let digest = opener.digest(row)?;
            if opener.paths.contains_key(&digest) {
                continue;
            }
            let path = cell.sources.path_of(&digest).ok_or_else(|| {
                Error::invalid(format!("{}: no source file has its content any more", opener.images.value(row)))
                    .with_hint("the dataset's folder changed while the pipeline ran; run it again")
            })?;
            if opener.records.is_some_and(|r| r.is_valid(row)) {
                opener.packed.insert(digest, Packed::open(&path)?);
            }
            opener.paths.insert(digest, path);
        }
        Ok(opener)
    }

    fn digest(&self, row: usize) -> Result<Digest> {
        let name = self.images.value(row);
        self.digests
            .filter(|d| d.is_valid(row))
            .and_then(|d| d.value(row).try_into().ok())
            .map(Digest)
            .ok_or_else(|| Error::invalid(format!("{name}: the table holds neither its bytes nor its digest")))
    }

    fn place(&self, row: usize) -> Result<Place<'_>> {
        if let Some(bytes) = self.bytes.filter(|b| b.is_valid(row)) {
            return Ok(Place::Embedded(bytes.value(row)));
        }
        let digest = self.digest(row)?;
        let path = &self.paths[&digest];
        match self.records.filter(|r| r.is_valid(row)) {
            Some(records) => Ok(Place::Packed(path, &self.packed[&digest], records.value(row))),
            None => Ok(Place::File(path)),
        }
    }

    /// The image of a row, decoded and brought to size.
    pub fn prepared(&self, row: usize, prepare: &Prepare) -> Result<Pixels> {
        match self.place(row)? {
            Place::Embedded(bytes) => prepare.fit(prepare.decode(bytes).map_err(|e| e.at(self.images.value(row)))?),
            Place::File(path) => prepare.file(path),
            Place::Packed(path, packed, record) => packed.record(path, record)?.prepared(prepare, path),
        }
    }
}
