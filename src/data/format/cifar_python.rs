//! CIFAR in its Python version: pickled dictionaries of `data` (n × 3072 uint8, colour by colour) and labels.
//!
//! The pickles are read as data by [`crate::pickle`] and never executed. They lie in memory while they are read, and
//! so have a greatest size; pixels are then kept in a file.

use std::{io::Write, path::Path};

use super::cifar::{Images, PIXELS};
use crate::{
    error::{Error, Result},
    pickle::{Pickle, Value},
};

/// The largest pickle of the sets, CIFAR-100's `train`, has 155 MB.
const MOST_BYTES: u64 = 512 << 20;

fn pickle(path: &Path) -> Result<Pickle> {
    let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
    if bytes > MOST_BYTES {
        let message = format!("{bytes} bytes, more than the {MOST_BYTES} that a batch of CIFAR may have");
        return Err(Error::data(path, None, message).with_hint("use the binary version of the set"));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    Pickle::read(&bytes).map_err(|e| Error::data(path, None, format!("cannot be read as a pickle: {e}")))
}

fn pixels<'a>(path: &Path, p: &'a Pickle) -> Result<&'a [u8]> {
    match p.entry("data") {
        Some(Value::Array(a)) if a.shape.get(1) == Some(&PIXELS) && a.shape.len() == 2 && a.code == "u1" => {
            if a.shape[0].checked_mul(PIXELS) != Some(a.data.len()) {
                let message = format!("data has {} bytes, its shape is {:?}", a.data.len(), a.shape);
                return Err(Error::data(path, None, message));
            }
            Ok(&a.data)
        }
        Some(Value::Array(a)) => {
            Err(Error::data(path, None, format!("data is {} of shape {:?}, expected u1 of [n, 3072]", a.code, a.shape)))
        }
        _ => Err(Error::data(path, None, "the pickle has no array data")),
    }
}

/// The images of a batch, in a file without a name in `scratch`.
pub(super) fn images(path: &Path, scratch: &Path) -> Result<Images> {
    let p = pickle(path)?;
    let planes = pixels(path, &p)?;
    let mut file = tempfile::tempfile_in(scratch).map_err(Error::io(scratch))?;
    file.write_all(planes).map_err(Error::io(scratch))?;
    Ok(Images::of_pixels(file, (planes.len() / PIXELS) as u64))
}

/// The labels of a batch under `key` (`labels`, `fine_labels`, `coarse_labels`), one an image.
pub(super) fn labels(path: &Path, key: &str) -> Result<Vec<i64>> {
    let p = pickle(path)?;
    let images = pixels(path, &p)?.len() / PIXELS;
    let labels = p.entry(key).and_then(|v| p.integers(v));
    let labels = labels.ok_or_else(|| Error::data(path, None, format!("the pickle has no list {key}")))?;
    if labels.len() != images {
        return Err(Error::data(path, None, format!("{} {key} for {images} images", labels.len())));
    }
    Ok(labels)
}

/// The class names under `key` of a meta file.
pub(super) fn names(path: &Path, key: &str) -> Result<Vec<String>> {
    let p = pickle(path)?;
    let names = p.entry(key).and_then(|v| p.texts(v));
    names.ok_or_else(|| Error::data(path, None, format!("the pickle has no list {key}")))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Format, Read, Skipped, fixtures, packed::Packed, packed::Record},
        *,
    };

    /// A list of texts under a key, pickled by protocol 2 as Python 2 writes it.
    fn meta(key: &str, names: usize) -> Vec<u8> {
        let text = |t: &str| [&[b'U', t.len() as u8], t.as_bytes()].concat();
        let names: Vec<u8> = (0..names).flat_map(|i| text(&format!("c{i}"))).collect();
        [&b"\x80\x02}("[..], &text(key), b"](", &names, b"eu."].concat()
    }

    fn read(format: &str, dir: &tempfile::TempDir) -> Result<crate::data::dataset::Dataset> {
        let json = serde_json::json!({"format": format, "root": dir.path()});
        serde_json::from_value::<Format>(json).unwrap().read(&mut Skipped::default())
    }

    #[test]
    fn pickles_of_both_sets_give_labels_and_pixels() {
        let ten = fixtures::read("cifar10_protocol2.pickle.gz");
        let batches = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];
        let meta10 = meta("label_names", 10);
        let files: Vec<(&str, &[u8])> = batches.iter().map(|b| (*b, ten.as_slice())).collect();
        let dir = fixtures::tree(&[&files[..], &[("batches.meta", meta10.as_slice())]].concat());
        let d = read("cifar10", &dir).unwrap();
        assert_eq!((d.rows(), d.split("test").unwrap().rows(), d.task().names()[9].as_str()), (18, 3, "c9"));
        assert_eq!(&d.classes().unwrap().values()[..3], &[6, 9, 9]);
        let path = dir.path().join("test_batch");
        let Record::Pixels(p) = Packed::open(&path, dir.path()).unwrap().record(&path, 2).unwrap() else {
            panic!("encoded")
        };
        assert_eq!(p.data[(32 + 2) * 3..][..4], [200, 100, 52, 0]);
        let hundred = fixtures::read("cifar100_protocol4.pickle.gz");
        let meta100 = meta("fine_label_names", 100);
        let dir = fixtures::tree(&[("train", &hundred), ("test", &hundred), ("meta", &meta100)]);
        assert_eq!(read("cifar100", &dir).unwrap().classes().unwrap().values(), &[19, 29, 0, 19, 29, 0]);
    }

    #[test]
    fn code_and_odd_arrays_are_refused_with_the_file() {
        let hundred = fixtures::read("cifar100_protocol4.pickle.gz");
        let meta100 = meta("fine_label_names", 100);
        let evil = b"\x80\x02cposix\nsystem\nU\x04true\x85R.";
        let wrong = |train: &[u8]| {
            let dir = fixtures::tree(&[("train", train), ("test", &hundred), ("meta", &meta100)]);
            read("cifar100", &dir).unwrap_err().to_string()
        };
        let e = wrong(evil);
        assert!(e.contains("train: cannot be read as a pickle: it asks for posix.system"), "{e}");
        assert!(wrong(&hundred[..hundred.len() - 9]).contains("it ends early"));
        assert!(wrong(b"\x80\x02}.").contains("the pickle has no array data"));
        // A hole of a gigabyte is refused by its length.
        let dir = fixtures::tree(&[("train", &hundred), ("test", &hundred), ("meta", &meta100)]);
        let long = std::fs::OpenOptions::new().write(true).open(dir.path().join("train")).unwrap();
        long.set_len(1 << 30).unwrap();
        let e = read("cifar100", &dir).unwrap_err();
        assert!(
            e.to_string().ends_with("train: 1073741824 bytes, more than the 536870912 that a batch of CIFAR may have"),
            "{e}"
        );
        assert_eq!(e.hint(), Some("use the binary version of the set"));
    }
}
