//! MedMNIST (Yang et al. 2023): `NAME.npz` (or `NAME_64.npz`, …), a zip of NumPy arrays `train_images`,
//! `train_labels`, `val_images`, … of uint8.
//!
//! Images are n × side × side, or n × side × side × 3; labels are n × 1 (a class) or n × k (k findings, 1 or 0). The
//! three-dimensional sets are not read.
//!
//! Nothing that a file says of its sizes is believed: labels are as many as images and of a bounded width, and no array
//! is larger than its packed bytes can honestly hold.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    layout::Clues,
    rows::{NewRow, Observation, Rows},
    shards,
};
use crate::{
    data::{
        dataset::Dataset,
        image::{ImageSize, Pixels},
    },
    error::{Error, Result},
    npy::Header,
};

/// One set of MedMNIST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds the file.
    pub root: PathBuf,
    /// The file, as `chestmnist.npz`; may be left out where the folder holds one alone.
    #[serde(default)]
    pub file: Option<String>,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name")]
    pub name: String,
    /// Names of classes or findings in their order; they are numbered where left out, but ChestMNIST's are known.
    #[serde(default)]
    pub classes: Option<Vec<String>>,
    /// Images whose label is out of range.
    #[serde(default)]
    pub odd_rows: OddRows,
}

fn name() -> String {
    "medmnist".into()
}

/// The findings of ChestMNIST in the order of its columns (MedMNIST 2.2, `info.py`), as [`super::nih`] names them.
const CHEST: [&str; 14] = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
];

const SPLITS: [(&str, &str); 3] = [("train", "train"), ("val", "valid"), ("test", "test")];
/// The largest array is 112,120 images of 224 px.
const MOST_BYTES: u64 = 16 << 30;

/// Arrays up to here may be packed as well as zeros are.
const SMALL_BYTES: u64 = 16 << 20;
/// How many times an array may be as large as its packed bytes, above that. Images of the sets pack to a half, labels of
/// ChestMNIST to a thirtieth; zeros to a thousandth.
const MOST_PACKED: u64 = 200;
/// More findings than any set has.
const MOST_FINDINGS: usize = 1000;

/// The images of a file, split after split.
#[derive(Debug)]
pub(super) struct Images(Vec<Stack>);

/// Images of one split: n × side × side (× 3) samples in a file.
#[derive(Debug)]
struct Stack {
    shape: Vec<usize>,
    file: File,
}

/// A zip of arrays.
struct Arrays<'a> {
    path: &'a Path,
    bytes: u64,
    zip: zip::ZipArchive<BufReader<File>>,
}

impl<'a> Arrays<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
        Ok(Arrays { path, bytes, zip: archive(path)? })
    }

    /// The shape of an array of uint8 in C order, which is checked by `fits`; its values go to `sink`.
    fn read(
        &mut self,
        name: &str,
        fits: impl FnOnce(&[usize]) -> Result<(), String>,
        sink: Option<&mut dyn std::io::Write>,
    ) -> Result<Vec<usize>> {
        let wrong = |m: String| Error::data(self.path, None, format!("{name}: {m}"));
        let mut entry = self.zip.by_name(&format!("{name}.npy")).map_err(|e| wrong(e.to_string()))?;
        let header = Header::read(&mut entry).map_err(wrong)?;
        if header.code != "u1" {
            return Err(wrong(format!("values of type {}, not uint8", header.code)));
        }
        fits(&header.shape).map_err(wrong)?;
        let (bytes, shape) = (header.bytes(1).filter(|b| *b <= MOST_BYTES), header.shape);
        let bytes = bytes.ok_or_else(|| wrong(format!("an array of {shape:?}")))?;
        let packed = entry.compressed_size().min(self.bytes);
        if bytes > SMALL_BYTES.max(packed.saturating_mul(MOST_PACKED)) {
            return Err(wrong(format!("{bytes} bytes of {packed} packed ones: no honest array packs so well")));
        }
        let Some(sink) = sink else { return Ok(shape) };
        let came = std::io::copy(&mut entry.take(bytes), sink).map_err(|e| wrong(e.to_string()))?;
        if came != bytes {
            return Err(wrong(format!("{came} bytes where its shape {shape:?} asks for {bytes}")));
        }
        Ok(shape)
    }

    /// How many images a split has.
    fn images(&mut self, split: &str) -> Result<usize> {
        Ok(self.read(&format!("{split}_images"), are_images, None)?[0])
    }

    /// The labels of a split's images: how many an image has, and their values.
    fn labels(&mut self, split: &str) -> Result<(usize, Vec<u8>)> {
        let images = self.images(split)?;
        let fits = |shape: &[usize]| match shape {
            [n, _] | [n] if *n != images => Err(format!("labels of {n} images, where there are {images}")),
            [_] | [_, 1..=MOST_FINDINGS] => Ok(()),
            other => Err(format!("labels of shape {other:?} are not read")),
        };
        let mut values = Vec::new();
        let shape = self.read(&format!("{split}_labels"), fits, Some(&mut values))?;
        Ok((shape.get(1).copied().unwrap_or(1), values))
    }
}

fn are_images(shape: &[usize]) -> Result<(), String> {
    match shape {
        [_, _, _] | [_, _, _, 3] => Ok(()),
        other => Err(format!("images of shape {other:?} are not read")),
    }
}

fn archive(path: &Path) -> Result<zip::ZipArchive<BufReader<File>>> {
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    zip::ZipArchive::new(file).map_err(|e| Error::data(path, None, format!("cannot be read as .npz: {e}")))
}

impl Images {
    /// Unpacks the images to files without a name in `scratch`: any of them may be asked for next, and a set of
    /// 224 px has gigabytes.
    pub(super) fn open(path: &Path, scratch: &Path) -> Result<Self> {
        let mut arrays = Arrays::open(path)?;
        let stacks = SPLITS.iter().map(|(split, _)| {
            let mut file = tempfile::tempfile_in(scratch).map_err(Error::io(scratch))?;
            let shape = arrays.read(&format!("{split}_images"), are_images, Some(&mut file))?;
            Ok(Stack { shape, file })
        });
        stacks.collect::<Result<_>>().map(Images)
    }

    pub(super) fn read_record(&self, path: &Path, record: u32) -> Result<Pixels> {
        let mut left = record as usize;
        for images in &self.0 {
            if left >= images.shape[0] {
                left -= images.shape[0];
                continue;
            }
            let channels = images.shape.get(3).map_or(1, |&c| c as u32);
            let size = ImageSize { height: images.shape[1] as u32, width: images.shape[2] as u32, channels };
            let mut data = vec![0; size.bytes()];
            images.file.read_exact_at(&mut data, (left * size.bytes()) as u64).map_err(Error::io(path))?;
            return Ok(Pixels { size, data });
        }
        Err(Error::data(path, u64::from(record) + 1, "the file ends before this image"))
    }
}

fn files(root: &Path) -> Result<Vec<String>> {
    shards::files(root, |name| name.ends_with(".npz"))
}

pub(super) fn looks_like(clues: &mut Clues) {
    let holds =
        |file: &String| archive(&clues.root().join(file)).is_ok_and(|a| a.index_for_name("train_images.npy").is_some());
    let found = files(clues.root()).unwrap_or_default().into_iter().find(holds);
    clues.either(3.0, found.as_deref().unwrap_or("*.npz with train_images, train_labels and so on"), found.is_some());
}

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        "download a .npz from medmnist.com (scaleshot fetch chestmnist); root is its folder"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => match files(&self.root)?.as_slice() {
                [one] => one.clone(),
                [] => return Err(Error::data(&self.root, None, "no .npz file").with_hint(self.obtain())),
                many => {
                    let hint = format!("set file to one of: {}", many.join(", "));
                    return Err(Error::data(&self.root, None, "several .npz files").with_hint(hint));
                }
            },
        };
        let path = self.root.join(&file);
        let mut arrays = Arrays::open(&path)?;
        let labels = SPLITS.iter().map(|(split, _)| arrays.labels(split)).collect::<Result<Vec<_>>>()?;
        let wide = labels[0].0;
        if labels.iter().any(|(w, _)| *w != wide) {
            return Err(Error::data(&path, None, "the labels of its splits have different widths"));
        }
        let most = labels.iter().flat_map(|(_, values)| values).max().map_or(0, |m| usize::from(*m) + 1);
        let chest = wide == CHEST.len() && file.contains("chest");
        let names = self.classes.clone().unwrap_or_else(|| match chest {
            true => CHEST.map(String::from).to_vec(),
            false => shards::numbered(if wide == 1 { most } else { wide }),
        });
        if wide > 1 && names.len() != wide {
            return Err(Error::data(&path, None, format!("{wide} findings, {} names in classes", names.len())));
        }
        let mut rows =
            if wide == 1 { Rows::single(&self.name, names.clone()) } else { Rows::multi(&self.name, &names) };
        rows.table(&path);
        let mut record = 0;
        for ((_, labels), (_, split)) in labels.iter().zip(SPLITS) {
            for label in labels.chunks_exact(wide) {
                record += 1;
                let new = NewRow {
                    image: file.as_str().into(),
                    record: Some(record - 1),
                    split: Some(split),
                    ..Default::default()
                };
                let line = u64::from(record);
                let wrong = |l: &&u8| usize::from(**l) >= if wide == 1 { names.len() } else { 2 };
                if let Some(l) = label.iter().find(wrong) {
                    skipped.odd(self.odd_rows, "the label is out of range", &path, line, &l.to_string())?;
                } else if wide == 1 {
                    rows.push(line, NewRow { class: Some(i32::from(label[0])), ..new }, &[]);
                } else {
                    let seen = |&l: &u8| if l == 1 { Observation::Present } else { Observation::Absent };
                    rows.push(line, new, &label.iter().map(seen).collect::<Vec<_>>());
                }
            }
        }
        rows.finish(&self.root, (Missing::Skip, self.odd_rows), skipped, self.obtain())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{
        super::{fixtures, packed::Packed, packed::Record},
        *,
    };

    fn npz(arrays: &[(&str, &str, Vec<u8>)]) -> Vec<u8> {
        let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, shape, data) in arrays {
            out.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
            out.write_all(b"\x93NUMPY\x01\x00").unwrap();
            out.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
            out.write_all(header.as_bytes()).unwrap();
            out.write_all(data).unwrap();
        }
        out.finish().unwrap().into_inner()
    }

    fn read(bytes: &[u8], name: &str) -> (Result<Dataset>, Skipped, tempfile::TempDir) {
        let dir = fixtures::tree(&[(name, bytes)]);
        let options: Options = serde_json::from_value(serde_json::json!({"root": dir.path()})).unwrap();
        let mut skipped = Skipped::default();
        (options.read(&mut skipped), skipped, dir)
    }

    #[test]
    fn splits_follow_each_other_and_pixels_come_back() {
        let images = |n: u8| -> Vec<u8> { (0..n * 6).collect() };
        let bytes = npz(&[
            ("train_images", "(2, 2, 3)", images(2)),
            ("train_labels", "(2, 1)", vec![1, 0]),
            ("val_images", "(1, 2, 3)", images(1)),
            ("val_labels", "(1, 1)", vec![2]),
            ("test_images", "(2, 2, 3)", vec![9; 12]),
            ("test_labels", "(2, 1)", vec![0, 1]),
        ]);
        let (d, _, dir) = read(&bytes, "pneumoniamnist.npz");
        let d = d.unwrap();
        assert_eq!((d.classes().unwrap().values().to_vec(), d.task().names().len()), (vec![1, 0, 2, 0, 1], 3));
        assert_eq!(["train", "valid", "test"].map(|s| d.split(s).unwrap().rows()), [2, 1, 2]);
        let path = dir.path().join("pneumoniamnist.npz");
        let packed = Packed::open(&path, dir.path()).unwrap();
        let pixels = |record: u32| match packed.record(&path, record).unwrap() {
            Record::Pixels(p) => p,
            Record::Encoded(_) => panic!("encoded"),
        };
        assert_eq!((pixels(1).data, pixels(2).data[0], pixels(4).data[0]), ((6..12).collect(), 0, 9));
        assert_eq!(pixels(0).size, ImageSize { height: 2, width: 3, channels: 1 });
        assert!(packed.record(&path, 5).is_err());
    }

    #[test]
    fn findings_are_columns_and_odd_labels_counted() {
        let part = |split: &str, labels: Vec<u8>| {
            let n = labels.len() / 14;
            let array = |what: &str, shape: String, data| (format!("{split}_{what}"), shape, data);
            [array("images", format!("({n}, 1, 1)"), vec![0; n]), array("labels", format!("({n}, 14)"), labels)]
        };
        let mut wrong = vec![0; 28];
        wrong[2] = 1;
        wrong[20] = 7;
        let all = [part("train", wrong), part("val", vec![0; 14]), part("test", vec![1; 14])].concat();
        let all: Vec<(&str, &str, Vec<u8>)> = all.iter().map(|(n, s, d)| (n.as_str(), s.as_str(), d.clone())).collect();
        let (d, skipped, _dir) = read(&npz(&all), "chestmnist.npz");
        let d = d.unwrap();
        assert_eq!(d.label("Effusion").unwrap().values(), &[1, 0, 1]);
        assert_eq!(skipped.reasons()[0].examples, ["chestmnist.npz:2: 7"]);
    }

    /// Honest headers over zeros, which deflate packs a thousand times.
    #[test]
    fn a_bomb_of_labels_and_images_is_an_error_before_it_is_unpacked() {
        let zeros = || vec![0; 64 << 20];
        let bytes = npz(&[("train_images", "(67108864, 1, 1)", zeros()), ("train_labels", "(67108864, 1)", zeros())]);
        assert!(bytes.len() < 1 << 20);
        let (d, _, dir) = read(&bytes, "x.npz");
        let e = d.unwrap_err().to_string();
        assert!(e.contains("train_images: 67108864 bytes of ") && e.contains("no honest array"), "{e}");
        let e = Packed::open(&dir.path().join("x.npz"), dir.path()).unwrap_err().to_string();
        assert!(e.contains("no honest array"), "{e}");
    }

    #[test]
    fn a_shape_that_its_data_does_not_fill_is_an_error() {
        let told = |arrays: &[(&str, &str, Vec<u8>)]| read(&npz(arrays), "x.npz").0.unwrap_err().to_string();
        let images = |n: usize| ("train_images", format!("({n}, 1, 1)"), vec![0; 2]);
        let (name, two, zeros) = images(2);
        let e = told(&[(name, &two, zeros), ("train_labels", "(2, 3)", vec![1, 0])]);
        assert!(e.contains("train_labels: 2 bytes where its shape"), "{e}");
        let (name, two, zeros) = images(2);
        let e = told(&[(name, &two, zeros), ("train_labels", "(4000000000, 1)", vec![1, 0])]);
        assert!(e.contains("train_labels: labels of 4000000000 images, where there are 2"), "{e}");
        let (name, many, zeros) = images(4_000_000_000);
        let e = told(&[(name, &many, zeros), ("train_labels", "(4000000000, 1)", vec![1, 0])]);
        assert!(e.contains("train_images: 4000000000 bytes of "), "{e}");
        let (name, two, zeros) = images(2);
        let e = told(&[(name, &two, zeros), ("train_labels", "(2, 2000000000)", vec![1, 0])]);
        assert!(e.contains("train_labels: labels of shape"), "{e}");
        let (d, _, _dir) = read(b"PK not really", "x.npz");
        assert!(d.unwrap_err().to_string().contains("x.npz: cannot be read as .npz"));
    }
}
