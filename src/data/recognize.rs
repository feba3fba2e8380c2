//! What a single file is, told by its content: images, tables, archives, and files of many images.
//!
//! It looks and counts; it decodes no pixels and unpacks nothing to disk.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::image::{DecodeRule, decode};
use crate::error::{Error, Result};
use crate::pickle::{Pickle, Value};

/// A file and what it holds.
#[derive(Clone, Debug, Serialize)]
pub struct Recognized {
    pub path: PathBuf,
    /// In words: `JPEG image`, `Parquet table`.
    pub what: String,
    pub bytes: u64,
    pub details: BTreeMap<String, String>,
}

/// Images up to this size are decoded whole, which tells whether they are.
const MOST_IMAGE_BYTES: u64 = 256 << 20;

/// Recognizes a file.
///
/// # Errors
/// A file that cannot be read. Damage is told in `details` under `damage`, and is no error.
pub fn file(path: &Path) -> Result<Recognized> {
    let bytes = path.metadata().map_err(Error::io(path))?.len();
    let mut head = Vec::new();
    File::open(path).map_err(Error::io(path))?.take(1 << 16).read_to_end(&mut head).map_err(Error::io(path))?;
    let mut details = BTreeMap::new();
    let what = match head.as_slice() {
        [] => "empty file",
        [0xFF, 0xD8, 0xFF, ..] => image(path, bytes, "JPEG image", &mut details),
        [0x89, b'P', b'N', b'G', ..] => image(path, bytes, "PNG image", &mut details),
        [b'G', b'I', b'F', b'8', ..] => image(path, bytes, "GIF image", &mut details),
        h if h.get(128..132) == Some(b"DICM") => image(path, bytes, "DICOM image", &mut details),
        h if super::format::packed::is_packed(h) => {
            let (what, count) = super::format::packed::count(path);
            match count {
                Ok(n) => details.insert("images".into(), n.to_string()),
                Err(e) => details.insert("damage".into(), e.to_string()),
            };
            what
        }
        [b'M', b'A', b'T', b'L', b'A', b'B', ..] => "MATLAB file",
        [b'P', b'K', 3 | 5, ..] => zip(path, &mut details),
        [0x1F, 0x8B, ..] => {
            table(path, b',', &mut details);
            "gzip file"
        }
        h if h.get(257..262) == Some(b"ustar") => "tar archive",
        [0x80, 2..=5, ..] => pickle(path, &mut details)?,
        h if is_text(h) => {
            let tab = h.iter().take_while(|b| **b != b'\n').any(|b| *b == b'\t');
            table(path, if tab { b'\t' } else { b',' }, &mut details);
            "text file"
        }
        _ => "file of unknown content",
    };
    Ok(Recognized { path: path.into(), what: what.into(), bytes, details })
}

fn is_text(head: &[u8]) -> bool {
    // A character may be cut by the end of what was read.
    match std::str::from_utf8(head) {
        Ok(_) => !head.contains(&0),
        Err(e) => e.error_len().is_none() && !head.contains(&0),
    }
}

fn image<'a>(path: &Path, bytes: u64, what: &'a str, details: &mut BTreeMap<String, String>) -> &'a str {
    if bytes > MOST_IMAGE_BYTES {
        details.insert("damage".into(), format!("{bytes} bytes are no image of a dataset"));
        return what;
    }
    let decoded = std::fs::read(path)
        .map_err(|e| e.to_string())
        .and_then(|b| decode(&b, &DecodeRule::default()).map_err(|e| e.to_string()));
    match decoded {
        Ok(p) => details.insert("pixels".into(), format!("{} x {}", p.size.width, p.size.height)),
        Err(e) => details.insert("damage".into(), e),
    };
    what
}

fn zip(path: &Path, details: &mut BTreeMap<String, String>) -> &'static str {
    let archive = File::open(path)
        .map_err(|e| e.to_string())
        .and_then(|f| zip::ZipArchive::new(std::io::BufReader::new(f)).map_err(|e| e.to_string()));
    match archive {
        Ok(a) => details.insert("entries".into(), a.len().to_string()),
        Err(e) => details.insert("damage".into(), e),
    };
    "zip archive"
}

fn pickle(path: &Path, details: &mut BTreeMap<String, String>) -> Result<&'static str> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    match Pickle::read(&bytes) {
        Ok(p) => {
            if let Value::Dict(entries) = p.root() {
                let keys = entries.iter().filter_map(|(k, _)| match p.value(*k) {
                    Value::Bytes(b) => Some(String::from_utf8_lossy(b).into_owned()),
                    _ => None,
                });
                details.insert("keys".into(), keys.collect::<Vec<_>>().join(", "));
            }
        }
        Err(e) => drop(details.insert("refused".into(), e)),
    }
    Ok("Python pickle")
}

/// Columns and rows of a delimited text, where it is one.
fn table(path: &Path, delimiter: u8, details: &mut BTreeMap<String, String>) {
    match super::format::count_rows(path, delimiter) {
        Ok((columns, _, _)) if columns.len() < 2 => {}
        Ok((columns, rows, odd)) => {
            details.insert("columns".into(), columns.join(", "));
            details.insert("rows".into(), rows.to_string());
            if odd > 0 {
                details.insert("odd rows".into(), odd.to_string());
            }
        }
        Err(e) => drop(details.insert("damage".into(), e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::format::fixtures;

    #[test]
    fn files_are_told_by_their_content() {
        let marked = crate::data::image::encode::png_grey16(2, 3, &[0; 6]).unwrap();
        let cut = &marked[..marked.len() - 20];
        let cases: [(&str, Vec<u8>, &str, &str, &str); 9] = [
            ("a.jpg", marked.clone(), "PNG image", "pixels", "3 x 2"),
            ("b.png", cut.to_vec(), "PNG image", "damage", "PNG image ends early"),
            ("c.csv", b"a,b\n1,2\n3\n\"4\n5\",6\n".to_vec(), "text file", "rows", "2"),
            ("d.mdb", fixtures::read("caffe.mdb.gz"), "LMDB database", "images", "400"),
            ("e.bin", fixtures::read("examples.tfrecord"), "TFRecord file", "images", "3"),
            (
                "f",
                fixtures::read("cifar100_protocol4.pickle.gz"),
                "Python pickle",
                "keys",
                "fine_labels, coarse_labels, data",
            ),
            ("g", b"\x80\x02cos\nsystem\nU\x01x\x85R.".to_vec(), "Python pickle", "refused", "it asks for os.system"),
            ("h.dcm", fixtures::read("dicom_window.dcm.gz"), "DICOM image", "pixels", "20 x 12"),
            ("i", vec![0, 1, 2, 255], "file of unknown content", "", ""),
        ];
        for (name, bytes, what, detail, value) in cases {
            let dir = fixtures::tree(&[(name, &bytes)]);
            let found = file(&dir.path().join(name)).unwrap();
            assert_eq!((found.what.as_str(), found.bytes), (what, bytes.len() as u64), "{name}");
            let told = found.details.get(detail).cloned().unwrap_or_default();
            assert!(told.starts_with(value), "{name}: {:?}", found.details);
            if name == "c.csv" {
                assert_eq!(found.details["odd rows"], "1");
            }
        }
    }
}
