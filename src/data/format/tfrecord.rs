//! TFRecord files of `tf.Example` messages: ImageNet-21k as `train-00000-of-01024`, or any `*.tfrecord`.
//!
//! A record is 8 bytes of length, 4 of its checksum, the message, 4 of its checksum; checksums are CRC-32C, turned
//! and shifted as TensorFlow masks them. Both are checked. A wrong length ends the file, because what follows
//! cannot be found; a wrong message is one odd row. Compressed TFRecords are not read.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read as _},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use prost::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    OddRows, Read, Skipped,
    classes::{Entry, Label, Set},
    layout::Clues,
    packed::Record,
    shards,
};
use crate::{
    data::dataset::Dataset,
    error::{Error, Result},
};

/// TFRecord files of `tf.Example`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds the files, itself or in folders one level down. A file whose name, or whose folder's
    /// name, has the word train, val, validation or test is of that split.
    pub root: PathBuf,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name")]
    pub name: String,
    /// The feature that is the class: a number, or a text that is its name.
    #[serde(default = "label")]
    pub label: String,
    /// The label of the first class: 1 in files whose 0 is the background, as TF-Slim writes ImageNet-1k.
    #[serde(default)]
    pub first_label: i64,
    /// A file below the root with one class name a line; numbers are names where left out.
    #[serde(default)]
    pub classes: Option<String>,
    /// Records that are damaged, hold no image or no label, or whose label is out of range.
    #[serde(default)]
    pub odd_rows: OddRows,
}

fn name() -> String {
    "imagenet21k".into()
}

fn label() -> String {
    "image/class/label".into()
}

/// Features that hold the encoded image.
const IMAGES: [&str; 3] = ["image/encoded", "image", "image_raw"];

#[derive(Clone, PartialEq, Message)]
pub(super) struct Example {
    #[prost(message, optional, tag = "1")]
    pub features: Option<Features>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Features {
    #[prost(map = "string, message", tag = "1")]
    pub feature: HashMap<String, Feature>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Feature {
    #[prost(message, optional, tag = "1")]
    pub bytes: Option<BytesList>,
    #[prost(message, optional, tag = "3")]
    pub int64: Option<Int64List>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BytesList {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub value: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Int64List {
    #[prost(int64, repeated, tag = "1")]
    pub value: Vec<i64>,
}

impl Example {
    fn feature(&self, name: &str) -> Option<&Feature> {
        self.features.as_ref()?.feature.get(name)
    }

    fn image(&self) -> Option<&[u8]> {
        IMAGES.iter().find_map(|n| self.feature(n)?.bytes.as_ref()?.value.first()).map(Vec::as_slice)
    }
}

/// The checksum as TensorFlow stores it: masked, so that checksums of data that hold checksums stay sound.
pub(crate) fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

fn u32_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Whether a file begins with a record.
pub(super) fn is_tfrecord(head: &[u8]) -> bool {
    head.len() >= 12 && u32_of(&head[8..]) == masked_crc(&head[..8])
}

/// One record on its way through a file.
enum Framed {
    Message(Vec<u8>),
    /// The message does not fit its checksum; the next record can be found all the same.
    Damaged,
}

/// The records of a file one after the other, with where each message begins.
struct Frames {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    bytes: u64,
    number: u64,
}

impl Frames {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let bytes = file.metadata().map_err(Error::io(path))?.len();
        Ok(Frames { path: path.into(), file: BufReader::with_capacity(1 << 20, file), at: 0, bytes, number: 0 })
    }

    fn next(&mut self) -> Result<Option<(u64, Framed)>> {
        if self.at == self.bytes {
            return Ok(None);
        }
        self.number += 1;
        let cut =
            |n: u64| Error::data(&self.path, n, "the file ends inside this record").with_hint("fetch the file again");
        let mut head = [0; 12];
        if self.bytes - self.at < 16 {
            return Err(cut(self.number));
        }
        self.file.read_exact(&mut head).map_err(Error::io(&self.path))?;
        if !is_tfrecord(&head) {
            let hint = if head.starts_with(&[0x1F, 0x8B]) { "unpack it with gunzip" } else { "fetch the file again" };
            return Err(Error::data(&self.path, self.number, "the length does not fit its checksum").with_hint(hint));
        }
        let length = u64::from(u32_of(&head)) | u64::from(u32_of(&head[4..])) << 32;
        let start = self.at + 12;
        if length.checked_add(4).is_none_or(|n| n > self.bytes - start) {
            return Err(cut(self.number));
        }
        let mut message = vec![0; length as usize + 4];
        self.file.read_exact(&mut message).map_err(Error::io(&self.path))?;
        self.at = start + length + 4;
        let sum = u32_of(&message[length as usize..]);
        message.truncate(length as usize);
        let whole = sum == masked_crc(&message);
        Ok(Some((start, if whole { Framed::Message(message) } else { Framed::Damaged })))
    }
}

/// A file with the place of every record. It is opened anew for each, because a set has more files than a process may
/// hold open.
#[derive(Debug)]
pub(super) struct TfRecord {
    path: PathBuf,
    places: Vec<(u64, u32)>,
}

impl TfRecord {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let end = file.metadata().map_err(Error::io(path))?.len();
        let (mut places, mut at) = (Vec::new(), 0u64);
        // Lengths alone: what a reader took was checked then, and each message is checked again when it is read.
        while end - at >= 16 {
            let mut head = [0; 12];
            file.read_exact_at(&mut head, at).map_err(Error::io(path))?;
            let length = u64::from(u32_of(&head)) | u64::from(u32_of(&head[4..])) << 32;
            if !is_tfrecord(&head) || length.checked_add(16).is_none_or(|n| n > end - at) {
                break;
            }
            places.push((at + 12, u32::try_from(length).unwrap_or(u32::MAX)));
            at += length + 16;
        }
        Ok(TfRecord { path: path.into(), places })
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn read_record(&self, record: u32) -> Result<Record> {
        let wrong = |m: &str| Error::data(&self.path, u64::from(record) + 1, m);
        let &(at, bytes) = self.places.get(record as usize).ok_or_else(|| wrong("the file ends before this record"))?;
        let mut message = vec![0; bytes as usize + 4];
        let file = File::open(&self.path).map_err(Error::io(&self.path))?;
        file.read_exact_at(&mut message, at).map_err(Error::io(&self.path))?;
        let (message, sum) = message.split_at(bytes as usize);
        if u32_of(sum) != masked_crc(message) {
            return Err(wrong(DAMAGED));
        }
        let example = Example::decode(message).map_err(|e| wrong(&format!("no tf.Example: {e}")))?;
        Ok(Record::Encoded(example.image().ok_or_else(|| wrong(NO_IMAGE))?.to_vec()))
    }
}

const DAMAGED: &str = "the record does not fit its checksum";
const NO_IMAGE: &str = "the record holds no encoded image";

pub(super) fn looks_like(clues: &mut Clues) {
    let files = files(clues.root()).unwrap_or_default();
    clues.either(4.0, "files of TFRecords (train-00000-of-01024, x.tfrecord)", !files.is_empty());
}

fn files(root: &Path) -> Result<Vec<String>> {
    let named = |name: &str| {
        name.ends_with(".tfrecord") || name.ends_with(".tfrecords") || {
            let numbers = name.rsplit_once("-of-").and_then(|(l, r)| Some((l.rsplit_once('-')?.1, r)));
            let digits = |t: &str| t.len() == 5 && t.bytes().all(|b| b.is_ascii_digit());
            numbers
                .is_some_and(|(l, r)| digits(l) && digits(r.split('.').next().unwrap_or(r)) && !r.ends_with(".parquet"))
        }
    };
    shards::files(root, named)
}

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        "register at image-net.org for ImageNet-21k and write it as TFRecords of tf.Example with image/encoded and image/class/label; root is the folder with train-00000-of-01024 and so on"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let files = files(&self.root)?;
        if files.is_empty() {
            return Err(Error::data(&self.root, None, "no TFRecord files").with_hint(self.obtain()));
        }
        let mut found = Vec::new();
        for file in files {
            let path = self.root.join(&file);
            let split = shards::split_of(file.rsplit('/').next().unwrap_or(&file))
                .or_else(|| file.rsplit_once('/').and_then(|(folder, _)| shards::split_of(folder)));
            let mut frames = Frames::open(&path)?;
            while let Some((_, framed)) = frames.next()? {
                match self.label_of(framed) {
                    Ok(label) => {
                        let record = frames.number as u32 - 1;
                        found.push(Entry { file: file.clone(), record, split, label });
                    }
                    Err(what) => skipped.odd(self.odd_rows, &what, &path, frames.number, "")?,
                }
            }
        }
        let set = Set {
            name: &self.name,
            root: &self.root,
            names: shards::class_names(&self.root, self.classes.as_deref())?,
            first_label: self.first_label,
            odd_rows: self.odd_rows,
            obtain: self.obtain(),
        };
        set.rows(&found, skipped)
    }
}

impl Options {
    fn label_of(&self, framed: Framed) -> Result<Label, String> {
        let Framed::Message(message) = framed else { return Err(DAMAGED.into()) };
        let example = Example::decode(message.as_slice()).map_err(|_| "the record is no tf.Example")?;
        example.image().ok_or(NO_IMAGE)?;
        let feature =
            example.feature(&self.label).ok_or_else(|| format!("the record has no feature {}", self.label))?;
        if let Some(&n) = feature.int64.as_ref().and_then(|l| l.value.first()) {
            return Ok(Label::Number(n - self.first_label));
        }
        let text = feature.bytes.as_ref().and_then(|l| l.value.first()).and_then(|b| std::str::from_utf8(b).ok());
        Ok(Label::Name(text.ok_or_else(|| format!("the feature {} is empty", self.label))?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{fixtures, packed::Packed},
        *,
    };
    use crate::data::image::{DecodeRule, decode};

    fn read(files: &[(&str, &[u8])], more: serde_json::Value) -> (Result<Dataset>, Skipped, tempfile::TempDir) {
        let dir = fixtures::tree(files);
        let mut json = serde_json::json!({"root": dir.path()});
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let options: Options = serde_json::from_value(json).unwrap();
        let mut skipped = Skipped::default();
        (options.read(&mut skipped), skipped, dir)
    }

    #[test]
    fn checksums_are_tensorflows() {
        // RFC 3720 B.4 gives CRC-32C of 32 zero bytes as 0x8A9136AA; the mask is TensorFlow's.
        assert_eq!(masked_crc(&[0; 32]), 0x8A91_36AAu32.rotate_right(15).wrapping_add(0xA282_EAD8));
        assert!(is_tfrecord(&fixtures::read("examples.tfrecord")) && !is_tfrecord(b"PAR1 and more bytes"));
    }

    #[test]
    fn numbers_and_names_are_classes_and_images_come_back() {
        let whole = fixtures::read("examples.tfrecord");
        let files = [("train-00000-of-00001", whole.as_slice()), ("validation-00000-of-00001", &whole)];
        let (d, _, dir) = read(&files, serde_json::json!({"first_label": 1}));
        let d = d.unwrap();
        assert_eq!((d.task().names().len(), d.classes().unwrap().values().to_vec()), (3, vec![2, 1, 0, 2, 1, 0]));
        assert_eq!(["train", "valid"].map(|s| d.split(s).unwrap().rows()), [3, 3]);
        let path = dir.path().join("train-00000-of-00001");
        let packed = Packed::open(&path, dir.path()).unwrap();
        for record in 0..3 {
            let Record::Encoded(bytes) = packed.record(&path, record).unwrap() else { panic!("raw pixels") };
            let pixels = decode(&bytes, &DecodeRule::default()).unwrap();
            assert_eq!((pixels.size.height, pixels.size.width, pixels.data[0]), (3, 5, record as u8));
        }
        assert!(packed.record(&path, 3).is_err());
        let (d, _, _dir) = read(&files[..1], serde_json::json!({"label": "image/class/synset"}));
        assert_eq!(d.unwrap().task().names(), ["n00000000", "n00000001", "n00000002"]);
    }

    #[test]
    fn damage_is_found_by_its_checksum() {
        let whole = fixtures::read("examples.tfrecord");
        let mut bad = whole.clone();
        bad[40] ^= 1;
        let (d, skipped, dir) = read(&[("x.tfrecord", &bad)], serde_json::json!({}));
        assert_eq!((d.unwrap().rows(), skipped.of(DAMAGED)), (2, 1));
        assert_eq!(skipped.reasons()[0].examples, ["x.tfrecord:1"]);
        let path = dir.path().join("x.tfrecord");
        let e = Packed::open(&path, dir.path()).unwrap().record(&path, 0).unwrap_err();
        assert!(e.to_string().ends_with(&format!("x.tfrecord:1: {DAMAGED}")), "{e}");
        let (d, _, _dir) = read(&[("x.tfrecord", &whole[..whole.len() - 3])], serde_json::json!({}));
        assert!(d.unwrap_err().to_string().ends_with("x.tfrecord:3: the file ends inside this record"));
        let mut length = whole.clone();
        length[0] ^= 1;
        let (d, _, _dir) = read(&[("x.tfrecord", &length)], serde_json::json!({}));
        assert!(d.unwrap_err().to_string().ends_with("x.tfrecord:1: the length does not fit its checksum"));
        let (d, skipped, _dir) = read(&[("x.tfrecord", &whole)], serde_json::json!({"label": "nothing"}));
        assert!(d.is_err() && skipped.of("the record has no feature nothing") == 3);
    }

    #[test]
    fn names_of_shards_are_told_from_other_files() {
        let dir = fixtures::tree(&[
            ("train-00000-of-01024", b"x"),
            ("deep/val-00001-of-00128.tfrecord", b"x"),
            ("train-00000-of-00001.parquet", b"x"),
            ("synsets.txt", b"x"),
        ]);
        assert_eq!(files(dir.path()).unwrap(), ["deep/val-00001-of-00128.tfrecord", "train-00000-of-01024"]);
    }
}
