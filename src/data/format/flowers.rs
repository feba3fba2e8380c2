//! Oxford 102 Flowers (Nilsback, Zisserman 2008), as downloaded or sorted into folders.
//!
//! | layout | files |
//! |---|---|
//! | as downloaded | `jpg/image_00001.jpg`, `imagelabels.mat` (labels 1 to 102), `setid.mat` (`trnid`, `valid`, `tstid`) |
//! | sorted | `mod_train/CLASS/x.jpg`, `mod_test/CLASS/x.jpg` |
//!
//! The published study splits anew: it trains on the original test images and tests on the original training and
//! validation images, which is what the sorted folders hold. Classes are the labels in the order of their text
//! (`1`, `10`, `100`, …), as folders are, so that both layouts give the same indices.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    folder::read_folders,
    layout::Clues,
    mat::{self, Matrix},
    rows::{NewRow, Rows},
};
use crate::{
    data::dataset::Dataset,
    error::{Error, Result},
};

/// Oxford 102 Flowers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `jpg/`, `imagelabels.mat` and `setid.mat`, or `mod_train/` and `mod_test/`.
    pub root: PathBuf,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name")]
    pub name: String,
    /// Which images train, where the `.mat` files say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
}

/// Which images train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The published study's: `tstid` trains (6,149), `trnid` and `valid` test (2,040).
    #[default]
    Published,
    /// The authors': `trnid` trains, `valid` validates, `tstid` tests.
    Original,
}

fn name() -> String {
    "flowers102".into()
}

/// Flowers have classes 1 to 102.
const CLASSES: usize = 102;

pub(super) fn looks_like(clues: &mut Clues) {
    if clues.root().join("mod_train").is_dir() || clues.root().join("mod_test").is_dir() {
        clues.folder(&["mod_train"], 2.0);
        clues.folder(&["mod_test"], 2.0);
    } else {
        clues.file(&["imagelabels.mat"], 2.0);
        clues.file(&["setid.mat"], 2.0);
        clues.folder(&["jpg"], 1.0);
    }
}

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        "download 102flowers.tgz, imagelabels.mat and setid.mat from www.robots.ox.ac.uk/~vgg/data/flowers/102 (scaleshot fetch flowers102); root is the folder with jpg/ and both .mat files, or with mod_train/CLASS/ (tstid) and mod_test/CLASS/ (trnid and valid)"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        if self.root.join("imagelabels.mat").is_file() || self.root.join("setid.mat").is_file() {
            return self.read_mat(skipped);
        }
        let folders = [("mod_train".to_string(), Some("train")), ("mod_test".to_string(), Some("test"))];
        for (folder, _) in &folders {
            if !self.root.join(folder).is_dir() {
                return Err(Error::data(self.root.join(folder), None, "no such folder").with_hint(self.obtain()));
            }
        }
        read_folders(self, &folders, skipped)
    }
}

impl Options {
    fn read_mat(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let labels_file = self.root.join("imagelabels.mat");
        let labels = list(&labels_file, "labels")?;
        let sets_file = self.root.join("setid.mat");
        let parts = match self.split.unwrap_or_default() {
            Split::Published => [("tstid", "train"), ("trnid", "test"), ("valid", "test")],
            Split::Original => [("trnid", "train"), ("valid", "valid"), ("tstid", "test")],
        };
        let mut classes: Vec<String> = (1..=CLASSES).map(|c| c.to_string()).collect();
        classes.sort();
        let mut rows = Rows::single(&self.name, classes.clone());
        rows.table(&sets_file);
        for (part, split) in parts {
            for id in list(&sets_file, part)? {
                let label = id.checked_sub(1).and_then(|i| labels.get(i)).map(|l| l.to_string());
                let class = label.as_ref().and_then(|l| classes.binary_search(l).ok());
                let image = format!("jpg/image_{id:05}.jpg");
                let Some(class) = class else {
                    let told = label.unwrap_or_else(|| "none".into());
                    let detail = format!("{image} of {part}: {told}");
                    skipped.odd(OddRows::Skip, "the label is out of range", &labels_file, id as u64, &detail)?;
                    continue;
                };
                let new =
                    NewRow { image: image.into(), split: Some(split), class: Some(class as i32), ..Default::default() };
                rows.push(id as u64, new, &[]);
            }
        }
        rows.finish(
            &self.root,
            (Missing::Skip, OddRows::Skip),
            skipped,
            "images belong in jpg/image_00001.jpg below the root",
        )
    }
}

/// A named list of whole numbers.
fn list(path: &Path, name: &str) -> Result<Vec<usize>> {
    let mut arrays = mat::read(path)?;
    let known = arrays.keys().cloned().collect::<Vec<_>>().join(", ");
    let Matrix { values, .. } = arrays
        .remove(name)
        .ok_or_else(|| Error::data(path, None, format!("no array {name}")).with_hint(format!("it has: {known}")))?;
    let whole = |v: &f64| (*v >= 0.0 && *v < 1e9 && v.fract() == 0.0).then_some(*v as usize);
    let numbers: Option<Vec<usize>> = values.iter().map(whole).collect();
    numbers.ok_or_else(|| Error::data(path, None, format!("{name} has values that are no whole numbers")))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{fixtures, mat::tests as writer},
        *,
    };

    #[test]
    fn classes_keep_the_order_of_their_names_as_text() {
        let dir = tempfile::tempdir().unwrap();
        for f in ["mod_train/2/a.jpg", "mod_train/10/b.jpg", "mod_test/2/c.jpg"] {
            std::fs::create_dir_all(dir.path().join(f).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(f), "x").unwrap();
        }
        let options: Options = serde_json::from_value(serde_json::json!({"root": dir.path()})).unwrap();
        let d = options.read(&mut Skipped::default()).unwrap();
        assert_eq!(d.task().names(), ["10", "2"]);
        assert_eq!(d.classes().unwrap().values(), &[0, 1, 1]);
        assert_eq!(d.split("test").unwrap().rows(), 1);
        std::fs::remove_dir_all(dir.path().join("mod_test")).unwrap();
        assert!(options.read(&mut Skipped::default()).is_err());
    }

    #[test]
    fn mat_files_give_the_published_re_split() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("jpg")).unwrap();
        for i in 1..=5 {
            std::fs::write(dir.path().join(format!("jpg/image_{i:05}.jpg")), "x").unwrap();
        }
        // Image 5 has a label out of range, image 6 is beyond the labels.
        let labels = writer::array("labels", &[10, 2, 102, 1, 200], false, true);
        std::fs::write(dir.path().join("imagelabels.mat"), writer::file(&[labels])).unwrap();
        let sets: Vec<Vec<u8>> = [("trnid", &[2u16][..]), ("valid", &[4, 5, 6]), ("tstid", &[1, 3])]
            .iter()
            .map(|(name, ids)| writer::array(name, ids, true, true))
            .collect();
        std::fs::write(dir.path().join("setid.mat"), writer::file(&sets)).unwrap();
        let json = serde_json::json!({"root": dir.path()});
        let mut options: Options = serde_json::from_value(json).unwrap();
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        let images: Vec<&str> = d.images().unwrap().iter().flatten().collect();
        assert_eq!(images, [1, 3, 2, 4].map(|i| format!("jpg/image_{i:05}.jpg")));
        let splits: Vec<&str> = d.text("split").unwrap().iter().flatten().collect();
        assert_eq!(splits, ["train", "train", "test", "test"]);
        let names: Vec<&str> =
            d.classes().unwrap().values().iter().map(|&c| d.task().names()[c as usize].as_str()).collect();
        assert_eq!((names, d.task().names().len()), (vec!["10", "102", "2", "1"], 102));
        assert_eq!(skipped.of("the label is out of range"), 2);
        assert_eq!(skipped.reasons()[0].examples[0], "imagelabels.mat:5: jpg/image_00005.jpg of valid: 200");
        options.split = Some(Split::Original);
        let d = options.read(&mut skipped).unwrap();
        assert_eq!(["train", "valid", "test"].map(|s| d.split(s).unwrap().rows()), [1, 1, 2]);
        std::fs::write(dir.path().join("setid.mat"), "x").unwrap();
        assert!(options.read(&mut skipped).unwrap_err().to_string().contains("setid.mat: cannot be read as a .mat"));
    }

    /// SciPy's files (`tests/fixtures/make.py`): compressed labels 77, 5, 102 and 1, plain sets.
    #[test]
    fn files_that_scipy_wrote_are_read() {
        let dir = fixtures::tree(&[
            ("imagelabels.mat", &fixtures::read("imagelabels.mat")),
            ("setid.mat", &fixtures::read("setid.mat")),
            ("jpg/image_00001.jpg", b"x"),
            ("jpg/image_00002.jpg", b"x"),
            ("jpg/image_00003.jpg", b"x"),
            ("jpg/image_00004.jpg", b"x"),
        ]);
        let options: Options = serde_json::from_value(serde_json::json!({"root": dir.path()})).unwrap();
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        let row = |i: usize| {
            let class = d.classes().unwrap().value(i) as usize;
            (d.images().unwrap().value(i), d.text("split").unwrap().value(i), d.task().names()[class].as_str())
        };
        let expected = [
            ("jpg/image_00001.jpg", "train", "77"),
            ("jpg/image_00003.jpg", "train", "102"),
            ("jpg/image_00002.jpg", "test", "5"),
            ("jpg/image_00004.jpg", "test", "1"),
        ];
        assert_eq!((0..d.rows()).map(row).collect::<Vec<_>>(), expected);
        assert_eq!(skipped.rows(), 0);
    }
}
