//! Files that hold many images: which kind one is, told by its content, and one image of it.
//!
//! | kind | known by | an image is |
//! |---|---|---|
//! | LMDB | its magic number | the entry in the order of the keys |
//! | TFRecord | the checksum of its first length | the record |
//! | Parquet | `PAR1` | the row |
//! | MedMNIST | a zip archive | the image, split after split |
//! | CIFAR, pickled | the first byte of a pickle | the row of `data` |
//! | CIFAR, binary | a length of whole records | the record |
//!
//! All are read image by image. MedMNIST's arrays and CIFAR's pickles are unpacked first, to files that have no name; a
//! pickle is in memory while it is, so that a large one is refused.

use std::{io::Read as _, path::Path};

use super::{
    caffe_lmdb, cifar, cifar_python,
    lmdb::{Lmdb, is_lmdb},
    medmnist,
    parquet_images::{self, ParquetImages},
    tfrecord::{TfRecord, is_tfrecord},
};
use crate::{
    data::image::Pixels,
    error::{Error, Result},
};

/// One image of a packed file.
#[derive(Debug)]
pub enum Record {
    Pixels(Pixels),
    /// A JPEG, PNG, … as it would lie in a file of its own.
    Encoded(Vec<u8>),
}

/// An open packed file. Reading from it needs no lock, so threads share it.
#[derive(Debug)]
pub struct Packed(Kind);

#[derive(Debug)]
enum Kind {
    Lmdb(Box<Lmdb>),
    TfRecord(TfRecord),
    Parquet(Box<ParquetImages>),
    Npz(medmnist::Images),
    Cifar(cifar::Images),
}

impl Packed {
    /// Opens a file that a reader gave records of. What has to be unpacked first lies in `scratch`, in a file without
    /// a name, which goes when this does.
    ///
    /// # Errors
    /// A file of none of these kinds, or a damaged one.
    pub fn open(path: &Path, scratch: &Path) -> Result<Self> {
        let mut head = Vec::new();
        let file = std::fs::File::open(path).map_err(Error::io(path))?;
        file.take(64).read_to_end(&mut head).map_err(Error::io(path))?;
        Ok(Packed(if is_lmdb(&head) {
            Kind::Lmdb(Box::new(Lmdb::open(path)?))
        } else if is_tfrecord(&head) {
            Kind::TfRecord(TfRecord::open(path)?)
        } else if head.starts_with(b"PAR1") {
            Kind::Parquet(Box::new(ParquetImages::open(path)?))
        } else if head.starts_with(b"PK") {
            Kind::Npz(medmnist::Images::open(path, scratch)?)
        } else {
            Kind::Cifar(match head.starts_with(&[0x80]) {
                true => cifar_python::images(path, scratch)?,
                false => cifar::Images::of_binary(path)?,
            })
        }))
    }

    /// The image of a record, counted from 0. `path` names the file in errors.
    pub fn record(&self, path: &Path, record: u32) -> Result<Record> {
        match &self.0 {
            Kind::Lmdb(db) => caffe_lmdb::read_record(path, db, record),
            Kind::TfRecord(file) => file.read_record(record),
            Kind::Parquet(file) => file.read_record(record),
            Kind::Npz(images) => images.read_record(path, record).map(Record::Pixels),
            Kind::Cifar(images) => images.read_record(path, record).map(Record::Pixels),
        }
    }
}

/// Whether a file's first bytes are those of an LMDB, TFRecord or Parquet file.
pub fn is_packed(head: &[u8]) -> bool {
    is_lmdb(head) || is_tfrecord(head) || head.starts_with(b"PAR1")
}

/// What kind of LMDB, TFRecord or Parquet file it is, and how many entries, records or rows it has.
pub fn count(path: &Path) -> (&'static str, Result<u64>) {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(64).read_to_end(&mut head));
    match read {
        Err(e) => ("file", Err(Error::io(path)(e))),
        Ok(_) if is_lmdb(&head) => ("LMDB database", Lmdb::open(path).map(|db| db.len() as u64)),
        Ok(_) if is_tfrecord(&head) => ("TFRecord file", TfRecord::open(path).map(|f| f.len() as u64)),
        Ok(_) => ("Parquet table", parquet_images::rows(path)),
    }
}
