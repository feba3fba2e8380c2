//! CIFAR-10 and CIFAR-100 (Krizhevsky 2009). The binary versions are files of records, each one or two label
//! bytes and 3 × 32 × 32 bytes of pixels, colour by colour; the Python versions are pickles ([`super::cifar_python`]).
//! Which one a root holds is seen by its files. MATLAB's are not read.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped, cifar_python,
    layout::Clues,
    rows::{NewRow, Rows},
    table,
};
use crate::{
    data::{
        dataset::Dataset,
        image::{ImageSize, Pixels},
    },
    error::{Error, Result},
};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// Bytes of one image.
pub(super) const PIXELS: usize = 3 * PLANE;

/// CIFAR-10, binary or Python version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options10 {
    /// The folder `cifar-10-batches-bin` or `cifar-10-batches-py`.
    pub root: PathBuf,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name10")]
    pub name: String,
    /// Records that are cut off, or whose label is out of range.
    #[serde(default)]
    pub odd_rows: OddRows,
}

/// CIFAR-100, binary or Python version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options100 {
    /// The folder `cifar-100-binary` or `cifar-100-python`.
    pub root: PathBuf,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name100")]
    pub name: String,
    /// The 100 fine or the 20 coarse classes.
    #[serde(default)]
    pub labels: Labels,
    /// Records that are cut off, or whose label is out of range.
    #[serde(default)]
    pub odd_rows: OddRows,
}

/// Which of the two labels of CIFAR-100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    #[default]
    Fine,
    Coarse,
}

fn name10() -> String {
    "cifar10".into()
}

fn name100() -> String {
    "cifar100".into()
}

impl Read for Options10 {
    fn root(&self) -> &Path {
        &self.root
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn obtain(&self) -> &'static str {
        "download cifar-10-binary.tar.gz from www.cs.toronto.edu/~kriz/cifar.html; root is its folder cifar-10-batches-bin"
    }
    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let layout = Layout {
            batches: &BATCHES_10,
            labels: 1,
            label: 0,
            names: "batches.meta.txt",
            classes: 10,
            python: Python { meta: "batches.meta", names: "label_names", labels: "labels" },
        };
        layout.read(self, self.odd_rows, skipped)
    }
}

impl Read for Options100 {
    fn root(&self) -> &Path {
        &self.root
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn obtain(&self) -> &'static str {
        "download cifar-100-binary.tar.gz from www.cs.toronto.edu/~kriz/cifar.html; root is its folder cifar-100-binary"
    }
    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let fine = self.labels == Labels::Fine;
        let python = |names, labels| Python { meta: "meta", names, labels };
        let layout = Layout {
            batches: &BATCHES_100,
            labels: 2,
            label: usize::from(fine),
            names: if fine { "fine_label_names.txt" } else { "coarse_label_names.txt" },
            classes: if fine { 100 } else { 20 },
            python: if fine {
                python("fine_label_names", "fine_labels")
            } else {
                python("coarse_label_names", "coarse_labels")
            },
        };
        layout.read(self, self.odd_rows, skipped)
    }
}

const BATCHES_10: [(&str, &str); 6] = [
    ("data_batch_1", "train"),
    ("data_batch_2", "train"),
    ("data_batch_3", "train"),
    ("data_batch_4", "train"),
    ("data_batch_5", "train"),
    ("test_batch", "test"),
];
const BATCHES_100: [(&str, &str); 2] = [("train", "train"), ("test", "test")];

pub(super) fn looks_like_10(clues: &mut Clues) {
    let python = clues.root().join("batches.meta").is_file();
    clues.file(&[if python { "batches.meta" } else { "batches.meta.txt" }], 2.0);
    for (batch, _) in BATCHES_10 {
        clues.file(&[&if python { batch.into() } else { format!("{batch}.bin") }], 1.0);
    }
}

pub(super) fn looks_like_100(clues: &mut Clues) {
    if clues.root().join("meta").is_file() {
        clues.file(&["meta"], 2.0);
        clues.file(&["train"], 1.0);
        clues.file(&["test"], 1.0);
    } else {
        for name in ["fine_label_names.txt", "coarse_label_names.txt", "train.bin", "test.bin"] {
            clues.file(&[name], 1.0);
        }
    }
}

/// Names in the Python version.
struct Python {
    meta: &'static str,
    names: &'static str,
    labels: &'static str,
}

struct Layout {
    /// Files without their ending, and their splits.
    batches: &'static [(&'static str, &'static str)],
    /// Label bytes of a record, and which of them counts.
    labels: usize,
    label: usize,
    names: &'static str,
    classes: usize,
    python: Python,
}

impl Layout {
    fn read(&self, of: &dyn Read, odd_rows: OddRows, skipped: &mut Skipped) -> Result<Dataset> {
        let meta = of.root().join(self.python.meta);
        let python = meta.is_file();
        let (classes, names) = match python {
            true => (cifar_python::names(&meta, self.python.names)?, meta),
            false => {
                let names = table::find(of.root(), &[self.names], of.obtain())?;
                let text = table::text(&names)?;
                (text.lines().map(str::trim).filter(|l| !l.is_empty()).map(Into::into).collect(), names)
            }
        };
        if classes.len() != self.classes {
            let message = format!("{} class names, expected {}", classes.len(), self.classes);
            return Err(Error::data(&names, None, message));
        }
        let mut rows = Rows::single(of.name(), classes);
        for (batch, split) in self.batches {
            let file = if python { batch.to_string() } else { format!("{batch}.bin") };
            let path = of.root().join(&file);
            if !path.is_file() {
                return Err(Error::data(path, None, "no such file").with_hint(of.obtain()));
            }
            rows.table(&path);
            let labels = match python {
                true => cifar_python::labels(&path, self.python.labels)?.into_iter().map(Some).collect(),
                false => self.binary_labels(&path, odd_rows, skipped)?,
            };
            for (i, class) in labels.into_iter().enumerate().filter_map(|(i, c)| Some((i, c?))) {
                let number = i as u64 + 1;
                if !(0..self.classes as i64).contains(&class) {
                    skipped.odd(odd_rows, "the label is out of range", &path, number, &class.to_string())?;
                    continue;
                }
                let new = NewRow {
                    image: file.as_str().into(),
                    record: Some(i as u32),
                    split: Some(split),
                    class: Some(class as i32),
                    ..Default::default()
                };
                rows.push(number, new, &[]);
            }
        }
        rows.finish(of.root(), (Missing::Skip, odd_rows), skipped, of.obtain())
    }

    /// The label of every record; none of one that is cut off. One record is in memory.
    fn binary_labels(&self, path: &Path, odd_rows: OddRows, skipped: &mut Skipped) -> Result<Vec<Option<i64>>> {
        let size = self.labels + PIXELS;
        let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
        let (mut labels, mut record) = (Vec::new(), Vec::with_capacity(size));
        loop {
            record.clear();
            match file.by_ref().take(size as u64).read_to_end(&mut record).map_err(Error::io(path))? {
                0 => return Ok(labels),
                n if n < size => {
                    let detail = format!("{n} of {size} bytes");
                    skipped.odd(odd_rows, "the record is cut off", path, labels.len() as u64 + 1, &detail)?;
                    labels.push(None);
                }
                _ => labels.push(Some(i64::from(record[self.label]))),
            }
        }
    }
}

/// The images of a file, read one by one.
#[derive(Debug)]
pub(super) struct Images {
    file: File,
    /// Label bytes before the pixels of each: 1 for CIFAR-10, 2 for CIFAR-100, 0 where there are pixels alone.
    labels: usize,
    count: u64,
}

impl Images {
    /// Of a file of records. Its length tells which set it is of; its labels do where the length fits neither set, since
    /// its last record is cut off, or both.
    pub(super) fn of_binary(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let bytes = file.metadata().map_err(Error::io(path))?.len();
        let images = |labels: &usize| -> (usize, u64) { (*labels, bytes / (PIXELS + labels) as u64) };
        let whole: Vec<_> = [1, 2].iter().filter(|l| bytes.is_multiple_of((PIXELS + *l) as u64)).map(images).collect();
        let (labels, count) = match whole.as_slice() {
            [one] if bytes > 0 => *one,
            _ => {
                let both = [1, 2].map(|l| images(&l));
                let fit = both.map(|(labels, count)| labels_fit(&file, labels, count).map_err(Error::io(path)));
                match fit {
                    [Ok(true), Ok(false)] => both[0],
                    [Ok(false), Ok(true)] => both[1],
                    [Err(e), _] | [_, Err(e)] => return Err(e),
                    _ => {
                        let message = format!("{bytes} bytes are no records of CIFAR-10 or CIFAR-100");
                        return Err(Error::data(path, None, message));
                    }
                }
            }
        };
        Ok(Images { file, labels, count })
    }

    /// Of a file of pixels alone.
    pub(super) fn of_pixels(file: File, count: u64) -> Self {
        Images { file, labels: 0, count }
    }

    /// The 32 × 32 RGB pixels of one record, channels last. `path` only names the file in errors.
    pub(super) fn read_record(&self, path: &Path, record: u32) -> Result<Pixels> {
        let number = u64::from(record);
        if number >= self.count {
            return Err(Error::data(path, number + 1, "the file ends before this record"));
        }
        let mut planes = [0; PIXELS];
        let start = number * (self.labels + PIXELS) as u64 + self.labels as u64;
        self.file.read_exact_at(&mut planes, start).map_err(Error::io(path))?;
        let mut data = vec![0; PIXELS];
        for (i, pixel) in data.chunks_exact_mut(3).enumerate() {
            for (c, value) in pixel.iter_mut().enumerate() {
                *value = planes[c * PLANE + i];
            }
        }
        Ok(Pixels { size: ImageSize { height: SIDE as u32, width: SIDE as u32, channels: 3 }, data })
    }
}

/// Whether a file has records of so many label bytes, of which each is a label of its set.
fn labels_fit(file: &File, labels: usize, count: u64) -> std::io::Result<bool> {
    let classes: &[u8] = if labels == 1 { &[10] } else { &[20, 100] };
    let mut found = vec![0; labels];
    for record in 0..count {
        file.read_exact_at(&mut found, record * (labels + PIXELS) as u64)?;
        if found.iter().zip(classes).any(|(label, classes)| label >= classes) {
            return Ok(false);
        }
    }
    Ok(count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record whose pixel at row 1, column 2 is red 200, green 100, blue 50, in a picture of 7s.
    fn record(labels: &[u8]) -> Vec<u8> {
        let mut planes = vec![7u8; 3 * PLANE];
        for (c, value) in [200, 100, 50].into_iter().enumerate() {
            planes[c * PLANE + SIDE + 2] = value;
        }
        [labels, &planes].concat()
    }

    #[test]
    fn planes_become_channels_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.bin");
        for labels in [&[3][..], &[3, 4]] {
            std::fs::write(&path, [record(labels), record(labels)].concat()).unwrap();
            let images = Images::of_binary(&path).unwrap();
            let p = images.read_record(&path, 1).unwrap();
            assert_eq!(p.data[(SIDE + 2) * 3..][..4], [200, 100, 50, 7]);
            let e = images.read_record(&path, 2).unwrap_err();
            assert!(e.to_string().ends_with("b.bin:3: the file ends before this record"), "{e}");
        }
        let e = |bytes: Vec<u8>| {
            std::fs::write(&path, bytes).unwrap();
            Images::of_binary(&path).unwrap_err().to_string()
        };
        assert!(e(vec![0; 100]).ends_with("100 bytes are no records of CIFAR-10 or CIFAR-100"));
        assert!(e(vec![]).ends_with("0 bytes are no records of CIFAR-10 or CIFAR-100"));
    }

    #[test]
    fn a_file_that_is_cut_off_or_of_either_length_is_known_by_its_labels() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.bin");
        let bright = |labels: &[u8], n: usize| [labels, &[200; PIXELS]].concat().repeat(n);
        let cases = [
            (bright(&[9], 4), 5, 1, 3),
            (bright(&[19, 99], 4), 3_000, 2, 3),
            // As many bytes as 3,074 records of the one set have.
            (bright(&[19, 99], PIXELS + 1), 0, 2, PIXELS as u64 + 1),
            (bright(&[9], PIXELS + 2), 0, 1, PIXELS as u64 + 2),
        ];
        for (bytes, cut, labels, count) in cases {
            std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
            let images = Images::of_binary(&path).unwrap();
            assert_eq!((images.labels, images.count), (labels, count));
            assert_eq!(images.read_record(&path, 1).unwrap().data, [200; PIXELS]);
        }
    }

    #[test]
    fn both_label_bytes_and_odd_records() {
        let dir = tempfile::tempdir().unwrap();
        let names = |n: usize| (0..n).map(|i| format!("c{i}\n")).collect::<String>();
        std::fs::write(dir.path().join("fine_label_names.txt"), names(100)).unwrap();
        std::fs::write(dir.path().join("coarse_label_names.txt"), names(20)).unwrap();
        let train = [record(&[2, 77]), record(&[30, 5]), record(&[0, 200]), vec![1, 2, 3]].concat();
        std::fs::write(dir.path().join("train.bin"), train).unwrap();
        std::fs::write(dir.path().join("test.bin"), record(&[19, 99])).unwrap();
        let mut options: Options100 = serde_json::from_value(serde_json::json!({"root": dir.path()})).unwrap();
        let mut skipped = Skipped::default();
        let fine = options.read(&mut skipped).unwrap();
        assert_eq!(fine.classes().unwrap().values(), &[77, 5, 99]);
        assert_eq!(fine.integers("record").unwrap().values(), &[0, 1, 0]);
        assert_eq!(skipped.reasons()[0].examples, ["train.bin:4: 3 of 3074 bytes"]);
        options.labels = Labels::Coarse;
        assert_eq!(options.read(&mut skipped).unwrap().classes().unwrap().values(), &[2, 0, 19]);
        options.odd_rows = OddRows::Error;
        assert!(options.read(&mut skipped).is_err());
    }
}
