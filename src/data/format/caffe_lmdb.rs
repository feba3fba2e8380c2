//! Caffe's LMDB databases of ImageNet-1k: `ilsvrc12_train_lmdb/data.mdb`, `ilsvrc12_val_lmdb/data.mdb`, whose
//! values are `caffe.Datum` messages.
//!
//! A Datum holds an encoded image (JPEG, PNG), or raw uint8 samples colour by colour in OpenCV's order: blue,
//! green, red. Databases of float features are not images and are refused row by row.

use std::path::{Path, PathBuf};

use prost::Message;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    layout::Clues,
    lmdb::Lmdb,
    packed::Record,
    rows::{NewRow, Rows},
    shards::{self, MOST_CLASSES},
};
use crate::{
    data::{
        dataset::Dataset,
        image::{ImageSize, Pixels},
    },
    error::{Error, Result},
};

/// Caffe LMDB databases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `ilsvrc12_train_lmdb/` and `ilsvrc12_val_lmdb/`, any folders with a `data.mdb`, or
    /// one `data.mdb`. A folder whose name has the word train, val or test is that split.
    pub root: PathBuf,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name")]
    pub name: String,
    /// A file below the root with one class name a line, as `synsets.txt`; classes are numbered where left out.
    #[serde(default)]
    pub classes: Option<String>,
    /// Entries that are no Datum with an image, or whose label is out of range.
    #[serde(default)]
    pub odd_rows: OddRows,
}

fn name() -> String {
    "imagenet".into()
}

/// `message Datum` of Caffe's `caffe.proto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Datum {
    #[prost(int32, optional, tag = "1")]
    pub channels: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    pub height: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub width: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub data: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "5")]
    pub label: Option<i32>,
    #[prost(float, repeated, packed = "false", tag = "6")]
    pub float_data: Vec<f32>,
    #[prost(bool, optional, tag = "7")]
    pub encoded: Option<bool>,
}

impl Datum {
    /// The image; `Err` says what is wrong with it.
    fn image(self) -> Result<Record, String> {
        if !self.float_data.is_empty() {
            return Err("it holds floats, not an image".into());
        }
        let data = self.data.filter(|d| !d.is_empty()).ok_or("it holds no data")?;
        if self.encoded == Some(true) {
            return Ok(Record::Encoded(data));
        }
        let side = |v: Option<i32>| v.and_then(|v| u32::try_from(v).ok()).filter(|v| (1..=65_535).contains(v));
        let (channels, height, width) = (side(self.channels), side(self.height), side(self.width));
        let (Some(channels @ (1 | 3)), Some(height), Some(width)) = (channels, height, width) else {
            return Err(format!("{:?} x {:?} x {:?} samples", self.channels, self.height, self.width));
        };
        let size = ImageSize { height, width, channels };
        if data.len() != size.bytes() {
            return Err(format!("{} bytes where {size} are declared", data.len()));
        }
        let plane = height as usize * width as usize;
        let last = channels as usize - 1;
        let data = (0..size.bytes()).map(|i| data[(last - i % (last + 1)) * plane + i / (last + 1)]).collect();
        Ok(Record::Pixels(Pixels { size, data }))
    }
}

/// The image of one entry of a database.
pub(super) fn read_record(path: &Path, db: &Lmdb, record: u32) -> Result<Record> {
    let wrong = |m: String| Error::data(path, u64::from(record) + 1, m);
    let datum = Datum::decode(db.value(record as usize)?.as_slice()).map_err(|e| wrong(format!("no Datum: {e}")))?;
    datum.image().map_err(wrong)
}

pub(super) fn looks_like(clues: &mut Clues) {
    let databases = databases(clues.root()).unwrap_or_default();
    clues.either(4.0, "data.mdb, or folders with a data.mdb", !databases.is_empty());
}

/// Databases below a root: relative path of each `data.mdb`, and its split.
fn databases(root: &Path) -> Result<Vec<(String, Option<&'static str>)>> {
    let found = shards::files(root, |name| name == "data.mdb")?;
    Ok(found
        .into_iter()
        .map(|file| (file.clone(), file.rsplit_once('/').and_then(|(f, _)| shards::split_of(f))))
        .collect())
}

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        "make it from ImageNet (image-net.org, after registration) with Caffe's examples/imagenet/create_imagenet.sh; root is the folder with ilsvrc12_train_lmdb/ and ilsvrc12_val_lmdb/"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let databases = databases(&self.root)?;
        if databases.is_empty() {
            return Err(Error::data(&self.root, None, "no data.mdb in it or in its folders").with_hint(self.obtain()));
        }
        let names = shards::class_names(&self.root, self.classes.as_deref())?;
        let most = names.as_ref().map_or(MOST_CLASSES, |n| n.len() as i64);
        let mut found = Vec::new();
        for (file, split) in databases {
            let path = self.root.join(&file);
            let db = Lmdb::open(&path)?;
            let label = |entry: usize| -> Result<Result<i64, String>> {
                let Ok(datum) = Datum::decode(db.value(entry)?.as_slice()) else { return Ok(Err("no Datum".into())) };
                let label = datum.label.unwrap_or(0);
                Ok(datum.image().map(|_| i64::from(label)))
            };
            let labels = (0..db.len()).into_par_iter().map(label).collect::<Result<Vec<_>>>()?;
            for (entry, label) in labels.into_iter().enumerate() {
                let line = entry as u64 + 1;
                let key = |db: &Lmdb| db.key(entry).map(|k| String::from_utf8_lossy(&k).into_owned());
                match label {
                    Err(detail) => {
                        let detail = format!("{}: {detail}", key(&db)?);
                        skipped.odd(self.odd_rows, "the entry is no image", &path, line, &detail)?;
                    }
                    Ok(label) if !(0..most).contains(&label) => {
                        let detail = format!("{}: {label}", key(&db)?);
                        skipped.odd(self.odd_rows, "the label is out of range", &path, line, &detail)?;
                    }
                    Ok(label) => found.push((file.clone(), entry as u32, split, label as i32)),
                }
            }
        }
        let classes = found.iter().map(|f| f.3 as usize + 1).max().unwrap_or(0);
        let mut rows = Rows::single(&self.name, names.unwrap_or_else(|| shards::numbered(classes)));
        for (image, record, split, class) in found {
            rows.table(&self.root.join(&image));
            let line = u64::from(record) + 1;
            rows.push(
                line,
                NewRow { image: image.into(), record: Some(record), split, class: Some(class), ..Default::default() },
                &[],
            );
        }
        rows.finish(&self.root, (Missing::Skip, self.odd_rows), skipped, self.obtain())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{fixtures, packed::Packed},
        *,
    };
    use crate::data::image::{DecodeRule, decode};

    fn options(dir: &tempfile::TempDir, more: serde_json::Value) -> Options {
        let mut json = serde_json::json!({"root": dir.path()});
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn encoded_and_raw_images_of_both_databases() {
        let bytes = fixtures::read("caffe.mdb.gz");
        let dir = fixtures::tree(&[("ilsvrc12_train_lmdb/data.mdb", &bytes), ("ilsvrc12_val_lmdb/data.mdb", &bytes)]);
        let d = options(&dir, serde_json::json!({})).read(&mut Skipped::default()).unwrap();
        assert_eq!((d.rows(), d.task().names().len()), (800, 7));
        assert_eq!(["train", "valid"].map(|s| d.split(s).unwrap().rows()), [400, 400]);
        assert_eq!(&d.classes().unwrap().values()[..9], &[0, 1, 2, 3, 4, 5, 6, 0, 1]);
        assert_eq!(d.images().unwrap().value(401), "ilsvrc12_val_lmdb/data.mdb");
        assert_eq!(d.integers("record").unwrap().value(401), 1);
        let path = dir.path().join("ilsvrc12_train_lmdb/data.mdb");
        let packed = Packed::open(&path, dir.path()).unwrap();
        for record in [0u32, 1, 2, 3, 4, 399] {
            let pixels = match packed.record(&path, record).unwrap() {
                Record::Pixels(p) => p,
                Record::Encoded(bytes) => decode(&bytes, &DecodeRule::default()).unwrap(),
            };
            // 3 x 5 with a marked corner, enlarged in every third.
            let large = if record.is_multiple_of(3) { 16 } else { 1 };
            assert_eq!(pixels.size.height, 3 * large, "{record}");
            assert_eq!(pixels.data[..3], [(record % 256) as u8, 200, 100], "{record}");
            assert_eq!(pixels.data[pixels.data.len() - 3..], [42, 43, 44], "{record}");
        }
        // Raw images are every second one.
        assert!(matches!(packed.record(&path, 2).unwrap(), Record::Pixels(_)));
        assert!(matches!(packed.record(&path, 1).unwrap(), Record::Encoded(_)));
    }

    #[test]
    fn declared_classes_bound_the_labels() {
        let bytes = fixtures::read("caffe.mdb.gz");
        let dir = fixtures::tree(&[("data.mdb", &bytes), ("synsets.txt", b"n0\nn1\nn2\nn3\nn4\nn5\n")]);
        let mut skipped = Skipped::default();
        let d = options(&dir, serde_json::json!({"classes": "synsets.txt"})).read(&mut skipped).unwrap();
        assert_eq!((d.task().names()[5].as_str(), d.rows() as u64 + skipped.rows()), ("n5", 400));
        assert_eq!(skipped.of("the label is out of range"), 57);
        assert_eq!(skipped.reasons()[0].examples[0], "data.mdb:7: 00000006_n01440770/image_6.JPEG: 6");
        assert!(d.text("split").is_none());
        let strict = options(&dir, serde_json::json!({"classes": "synsets.txt", "odd_rows": "error"}));
        assert!(strict.read(&mut skipped).unwrap_err().to_string().contains("data.mdb:7: the label is out of range"));
    }

    #[test]
    fn a_datum_that_is_no_image_says_why() {
        let image = |d: Datum| d.image().unwrap_err();
        assert!(image(Datum { float_data: vec![1.0], ..Default::default() }).contains("floats"));
        assert!(image(Datum::default()).contains("no data"));
        let raw =
            Datum { channels: Some(3), height: Some(2), width: Some(2), data: Some(vec![0; 11]), ..Default::default() };
        assert_eq!(image(raw.clone()), "11 bytes where 2 x 2 x 3 are declared");
        assert!(image(Datum { channels: Some(2), ..raw.clone() }).contains("samples"));
        assert!(image(Datum { height: Some(-1), ..raw }).contains("samples"));
    }
}
