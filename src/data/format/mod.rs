//! Readers: each dataset in its published layout becomes one [`Dataset`]. One file a format.
//!
//! | format | task | splits from | patients |
//! |---|---|---|---|
//! | `chexpert` | 13 findings | `train.csv`, `valid.csv` | from the path |
//! | `mimic_cxr` | 13 findings | split table | subject |
//! | `nih` | 14 findings, boxes | `train_val_list.txt`, `test_list.txt` | Patient ID |
//! | `padchest` | 27 findings | published shuffle, 90 % by row | PatientID |
//! | `covidx` | negative, positive | `train.txt`, `test.txt` | source and id |
//! | `covid` | findings that occur | none | source and id |
//! | `tuberculosis` | normal, tuberculosis | published shuffle, 85 % by row | one an image |
//! | `cifar10`, `cifar100` | 10; 100 or 20 classes | files | none |
//! | `pets` | breeds | `trainval.txt`, `test.txt` | none |
//! | `flowers102` | flowers | `.mat` files re-split as published, or `mod_train`, `mod_test` | none |
//! | `imagenet` | synsets | `train`, `val` | none |
//! | `caffe_lmdb` | numbers or names | databases | none |
//! | `tfrecord` | numbers or names | file names | none |
//! | `medmnist` | classes or findings | arrays | none |
//! | `parquet` | as the tables say | file names | as the tables say |
//! | `image_folder` | folders | folders | none |
//! | `image_table` | as declared | as declared | as declared |
//! | `phantom`, `fractal` | as the layout they are generated in | | |
//!
//! Readers read tables and names, never pixels, and write nothing. Where a file holds many images (CIFAR, LMDB,
//! TFRecord, Parquet) rows name the record, and [`packed`] gives its pixels. X-ray readers take `x.dcm` where `x.png`
//! or `x.jpg` is not there. What a folder looks like says [`inspect`]. They do not digest images: whoever
//! runs them fills the `digest` column. Rows that cannot be read are counted in [`Skipped`] with their
//! place; a table that is not what the format promises is an error.
//!
//! Two kinds of columns beyond the dataset's own schema say what the labels alone cannot, for
//! [`crate::data::merge`]: `healthy` (the report says that nothing was found) and `uncertain:NAME` (the
//! label is unknown because the report hedges).

mod ahead;
#[cfg(test)]
mod bad_input;
pub mod caffe_lmdb;
pub mod chexpert;
mod chexpert_labels;
pub mod cifar;
mod cifar_python;
mod classes;
pub mod covid;
pub mod covidx;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod flowers;
pub mod folder;
mod generated;
pub mod image_table;
pub mod imagenet;
mod layout;
mod lmdb;
mod marks;
mod mat;
pub mod medmnist;
pub mod mimic_cxr;
pub mod nih;
mod nih_boxes;
pub mod packed;
pub mod padchest;
pub mod parquet;
mod parquet_images;
pub mod pets;
#[cfg(test)]
mod real_data;
mod records;
mod rows;
mod shards;
mod skipped;
mod table;
pub mod tfrecord;
pub mod tuberculosis;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use layout::Likeness;
pub use rows::UNCERTAIN;
pub use skipped::{Missing, OddRows, Reason, Skipped};

use crate::{
    data::{dataset::Dataset, fractal, phantom},
    error::{Error, Result},
    progress::{Cancel, Progress},
};

/// Reads a dataset in its published layout.
pub trait Read {
    /// The folder that every image path is relative to.
    fn root(&self) -> &Path;

    /// The name that rows carry in the column `dataset`, and that makes patients unique across sets.
    fn name(&self) -> &str;

    /// How to obtain the dataset, and where its files belong; printed where the root is missing.
    fn obtain(&self) -> &'static str;

    /// The whole table. Rows left out are counted in `skipped`.
    ///
    /// # Errors
    /// A missing or malformed table, an odd row or a missing image under a policy that says `error`, or
    /// no row left.
    fn read(&self, skipped: &mut Skipped) -> Result<Dataset>;
}

/// A dataset in its native layout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "format", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "one a dataset node, so its size does not matter")]
pub enum Format {
    Chexpert(chexpert::Options),
    MimicCxr(mimic_cxr::Options),
    Nih(nih::Options),
    Padchest(padchest::Options),
    Covid(covid::Options),
    Covidx(covidx::Options),
    Tuberculosis(tuberculosis::Options),
    Cifar10(cifar::Options10),
    Cifar100(cifar::Options100),
    Pets(pets::Options),
    Flowers102(flowers::Options),
    Imagenet(imagenet::Options),
    CaffeLmdb(caffe_lmdb::Options),
    Tfrecord(tfrecord::Options),
    Parquet(parquet::Options),
    Medmnist(medmnist::Options),
    ImageFolder(folder::Options),
    ImageTable(image_table::Options),
    Phantom(phantom::Options),
    Fractal(fractal::Options),
}

/// Writes a generated dataset in a native layout.
pub trait Generate {
    /// Writes the tree below `root`, and says how it is read.
    fn generate(&self, root: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<Format>;

    /// What cannot be generated: (field, message).
    fn problems(&self) -> Vec<(String, String)>;
}

impl Format {
    /// The generator of a generated dataset; `None` for those that lie on disk.
    pub fn generator(&self) -> Option<&dyn Generate> {
        match self {
            Format::Phantom(o) => Some(o),
            Format::Fractal(o) => Some(o),
            _ => None,
        }
    }

    fn reader(&self) -> &dyn Read {
        match self {
            Format::Phantom(_) | Format::Fractal(_) => &NotWritten,
            Format::Chexpert(o) => o,
            Format::MimicCxr(o) => o,
            Format::Nih(o) => o,
            Format::Padchest(o) => o,
            Format::Covid(o) => o,
            Format::Covidx(o) => o,
            Format::Tuberculosis(o) => o,
            Format::Cifar10(o) => o,
            Format::Cifar100(o) => o,
            Format::Pets(o) => o,
            Format::Flowers102(o) => o,
            Format::Imagenet(o) => o,
            Format::CaffeLmdb(o) => o,
            Format::Tfrecord(o) => o,
            Format::Parquet(o) => o,
            Format::Medmnist(o) => o,
            Format::ImageFolder(o) => o,
            Format::ImageTable(o) => o,
        }
    }
}

/// The registry of layouts: what [`inspect`] compares a folder with.
const LAYOUTS: [(&str, layout::Look); 18] = [
    ("chexpert", chexpert::looks_like),
    ("mimic_cxr", mimic_cxr::looks_like),
    ("nih", nih::looks_like),
    ("padchest", padchest::looks_like),
    ("covid", covid::looks_like),
    ("covidx", covidx::looks_like),
    ("tuberculosis", tuberculosis::looks_like),
    ("cifar10", cifar::looks_like_10),
    ("cifar100", cifar::looks_like_100),
    ("pets", pets::looks_like),
    ("flowers102", flowers::looks_like),
    ("imagenet", imagenet::looks_like),
    ("caffe_lmdb", caffe_lmdb::looks_like),
    ("tfrecord", tfrecord::looks_like),
    ("parquet", parquet::looks_like),
    ("medmnist", medmnist::looks_like),
    ("image_folder", folder::looks_like),
    ("image_table", image_table::looks_like),
];

/// Which formats a folder looks like, best first; empty where it looks like none.
pub fn inspect(root: &Path) -> Vec<Likeness> {
    layout::ranked(LAYOUTS.iter().map(|(format, look)| layout::likeness(format, root, *look)).collect())
}

/// Columns of a delimited text file (`.gz` is unpacked), its whole rows, and its odd ones.
///
/// # Errors
/// A file that cannot be read to its end.
pub fn count_rows(path: &Path, delimiter: u8) -> Result<(Vec<String>, u64, u64)> {
    let mut table = table::Table::open(path, delimiter, OddRows::Skip)?;
    let columns = table.header().to_vec();
    let mut skipped = Skipped::default();
    let mut rows = 0;
    while table.next(&mut skipped)?.is_some() {
        rows += 1;
    }
    Ok((columns, rows, skipped.rows()))
}

/// What a format's published layout asks for.
pub fn expected(format: &str) -> Option<Vec<String>> {
    let (name, look) = LAYOUTS.iter().find(|(name, _)| *name == format)?;
    Some(layout::likeness(name, Path::new("/dev/null"), *look).missing)
}

/// How to obtain a dataset of a format, and how its folder is laid out; `None` for names that are no format, and
/// formats that need more declared than a root.
pub fn obtain(format: &str) -> Option<&'static str> {
    let declared = serde_json::json!({"format": format, "root": ""});
    serde_json::from_value::<Format>(declared).ok().filter(|f| f.generator().is_none()).map(|f| f.obtain())
}

/// A generated dataset before it is generated: there is nothing to read.
struct NotWritten;

impl Read for NotWritten {
    fn root(&self) -> &Path {
        Path::new("")
    }
    fn name(&self) -> &str {
        "generated"
    }
    fn obtain(&self) -> &'static str {
        "it is generated"
    }
    fn read(&self, _: &mut Skipped) -> Result<Dataset> {
        Err(Error::invalid("bug: a generated dataset was read before it was written"))
    }
}

impl Read for Format {
    fn root(&self) -> &Path {
        self.reader().root()
    }
    fn name(&self) -> &str {
        self.reader().name()
    }
    fn obtain(&self) -> &'static str {
        self.reader().obtain()
    }
    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        if !self.root().is_dir() {
            return Err(Error::data(self.root(), None, "no such folder").with_hint(self.obtain()));
        }
        self.reader().read(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_one_flat_object_that_refuses_unknown_fields() {
        let f: Format = serde_json::from_str(r#"{"format": "chexpert", "root": "x"}"#).unwrap();
        assert_eq!((f.root(), f.name()), (Path::new("x"), "chexpert"));
        let back: Format = serde_json::from_value(serde_json::to_value(&f).unwrap()).unwrap();
        assert_eq!(back, f);
        let e = serde_json::from_str::<Format>(r#"{"format": "nih", "root": "x", "rot": 1}"#).unwrap_err();
        assert!(e.to_string().contains("unknown field `rot`"), "{e}");
        let e = serde_json::from_str::<Format>(r#"{"format": "imagenett", "root": "x"}"#).unwrap_err();
        assert!(e.to_string().contains("unknown variant `imagenett`"), "{e}");
    }

    #[test]
    fn a_missing_root_says_how_to_obtain_it() {
        for format in ["tuberculosis", "cifar10", "pets", "chexpert"] {
            let json = serde_json::json!({"format": format, "root": "/no/such/root"});
            let f: Format = serde_json::from_value(json).unwrap();
            let e = f.read(&mut Skipped::default()).unwrap_err();
            assert_eq!(e.to_string(), "/no/such/root: no such folder");
            assert_eq!(e.hint(), Some(f.obtain()));
        }
    }

    #[test]
    fn every_format_that_lies_on_disk_has_a_layout() {
        let schema = serde_json::to_value(schemars::schema_for!(Format)).unwrap();
        let variants = schema["oneOf"].as_array().unwrap();
        let names = variants.iter().map(|v| v["properties"]["format"]["const"].as_str().unwrap());
        let mut on_disk: Vec<&str> = names.filter(|n| !["phantom", "fractal"].contains(n)).collect();
        let mut known: Vec<&str> = LAYOUTS.iter().map(|(name, _)| *name).collect();
        on_disk.sort();
        known.sort();
        assert_eq!(known, on_disk);
    }

    #[test]
    fn the_schema_knows_every_format_and_its_fields() {
        let schema = serde_json::to_value(schemars::schema_for!(Format)).unwrap();
        let variants = schema["oneOf"].as_array().unwrap();
        let names: Vec<&str> = variants.iter().map(|v| v["properties"]["format"]["const"].as_str().unwrap()).collect();
        assert_eq!(names.len(), 20);
        assert!(names.contains(&"mimic_cxr") && names.contains(&"flowers102"), "{names:?}");
        for v in variants {
            assert_eq!(v["additionalProperties"], false, "{v}");
            let generated = ["phantom", "fractal"].contains(&v["properties"]["format"]["const"].as_str().unwrap());
            assert_eq!(v["properties"]["root"].is_object(), !generated, "{v}");
        }
    }
}
