//! ImageNet as folders by synset: ILSVRC-2012 (1k) and the whole of it (21k).
//!
//! | layout | training images | validation images |
//! |---|---|---|
//! | torchvision | `train/n01440764/x.JPEG` | `val/n01440764/x.JPEG` |
//! | Kaggle | `ILSVRC/Data/CLS-LOC/train/n…/x.JPEG` | `ILSVRC/Data/CLS-LOC/val/x.JPEG`, `LOC_val_solution.csv` |
//! | Caffe | `train/n…/x.JPEG` | `val/x.JPEG`, `val.txt` (`x.JPEG 65`) |
//! | 21k | `n01440764/x.JPEG` | |
//!
//! Classes are synsets in the order of their numbers, which is the order of torchvision and of Caffe's `val.txt`.
//! Folders of other names are passed over. Test images have no public labels and are not read.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    folder::{entries, is_image, walk},
    layout::Clues,
    rows::{NewRow, Rows},
    table::{self, Table},
};
use crate::{
    data::dataset::Dataset,
    error::{Error, Result},
};

/// ImageNet-1k or -21k as folders by synset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `train/` and `val/`, `ILSVRC/`, or the synsets' folders themselves.
    pub root: PathBuf,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name")]
    pub name: String,
    /// Rows whose image file does not exist.
    #[serde(default)]
    pub missing: Missing,
    /// Rows of the validation list that do not fit it.
    #[serde(default)]
    pub odd_rows: OddRows,
}

fn name() -> String {
    "imagenet".into()
}

const KAGGLE: &str = "ILSVRC/Data/CLS-LOC";

/// `n` and eight digits.
fn is_synset(name: &str) -> bool {
    name.len() == 9 && name.starts_with('n') && name[1..].bytes().all(|b| b.is_ascii_digit())
}

/// Names of the synsets' folders in a folder; none where there is no such folder.
fn synsets(folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    Ok(entries(folder)?.into_iter().filter(|(n, is_folder)| *is_folder && is_synset(n)).map(|e| e.0).collect())
}

/// Where the training folders lie, relative to the root.
fn train_folder(root: &Path) -> Option<&'static str> {
    ["ILSVRC/Data/CLS-LOC/train", "train", ""].into_iter().find(|f| synsets(&root.join(f)).is_ok_and(|s| !s.is_empty()))
}

pub(super) fn looks_like(clues: &mut Clues) {
    let train = train_folder(clues.root());
    clues.either(4.0, "folders named after synsets (train/n01440764/, n01440764/)", train.is_some());
    if train.is_some_and(|t| !t.is_empty()) {
        let val = if train == Some("train") { "val" } else { "ILSVRC/Data/CLS-LOC/val" };
        if clues.folder(&[val], 1.0) && synsets(&clues.root().join(val)).is_ok_and(|s| s.is_empty()) {
            clues.file(&["LOC_val_solution.csv", "val.txt"], 1.0);
        }
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
        "register at image-net.org (or kaggle.com/c/imagenet-object-localization-challenge); root is the folder with train/n01440764/ and val/, or for 21k the folder with n01440764/ and so on"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let Some(train) = train_folder(&self.root) else {
            return Err(Error::data(&self.root, None, "no folders named after synsets").with_hint(self.obtain()));
        };
        let val = match train {
            "" => None,
            "train" => Some("val".to_string()),
            _ => Some(format!("{KAGGLE}/val")),
        };
        let sorted_val = val.as_ref().map(|v| synsets(&self.root.join(v))).transpose()?.unwrap_or_default();
        let mut classes: BTreeSet<String> = synsets(&self.root.join(train))?.into_iter().collect();
        classes.extend(sorted_val.iter().cloned());
        let classes: Vec<String> = classes.into_iter().collect();
        let mut rows = Rows::single(&self.name, classes.clone());
        let split = if train.is_empty() { None } else { Some("train") };
        self.read_synsets(train, split, &classes, &mut rows, skipped)?;
        if let Some(val) = val {
            if !sorted_val.is_empty() {
                self.read_synsets(&val, Some("valid"), &classes, &mut rows, skipped)?;
            } else if self.root.join(&val).is_dir() {
                self.read_list(&val, &classes, &mut rows, skipped)?;
            }
        }
        rows.finish(&self.root, (self.missing, self.odd_rows), skipped, self.obtain())
    }
}

impl Options {
    fn read_synsets(
        &self,
        folder: &str,
        split: Option<&'static str>,
        classes: &[String],
        rows: &mut Rows,
        skipped: &mut Skipped,
    ) -> Result<()> {
        for (class, name) in classes.iter().enumerate() {
            let below = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let path = self.root.join(&below);
            if !path.is_dir() {
                continue;
            }
            rows.table(&path);
            for image in walk(&self.root, &below)? {
                if !is_image(&image) {
                    skipped.row("the file is no image by its name", &path, 0, &image);
                    continue;
                }
                rows.push(
                    0,
                    NewRow { image: image.into(), split, class: Some(class as i32), ..Default::default() },
                    &[],
                );
            }
        }
        Ok(())
    }

    /// Validation images that lie side by side, with their classes in a list.
    fn read_list(&self, val: &str, classes: &[String], rows: &mut Rows, skipped: &mut Skipped) -> Result<()> {
        let place: HashMap<&str, usize> = classes.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
        let names = ["LOC_val_solution.csv", "val.txt"];
        let hint = "the images of val/ are not sorted, so LOC_val_solution.csv or val.txt must say their classes";
        let list = table::find(&self.root, &names, hint)?;
        rows.table(&list);
        let mut add = |line: u64,
                       image: String,
                       class: Option<usize>,
                       told: &str,
                       skipped: &mut Skipped|
         -> Result<()> {
            let Some(class) = class else {
                return skipped.odd(self.odd_rows, "the class is none of the folders", &list, line, told);
            };
            let image = format!("{val}/{image}");
            rows.push(
                line,
                NewRow { image: image.into(), split: Some("valid"), class: Some(class as i32), ..Default::default() },
                &[],
            );
            Ok(())
        };
        if list.extension().is_some_and(|e| e == "txt") {
            let text = table::text(&list)?;
            for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
                let number = i as u64 + 1;
                match line.trim().rsplit_once(' ').map(|(file, class)| (file.trim(), class.parse::<usize>())) {
                    Some((file, Ok(class))) => {
                        let class_there = (class < classes.len()).then_some(class);
                        add(number, file.into(), class_there, &class.to_string(), skipped)?;
                    }
                    _ => skipped.odd(self.odd_rows, "the line is not FILE CLASS", &list, number, line)?,
                }
            }
            return Ok(());
        }
        let mut table = Table::open(&list, b',', self.odd_rows)?;
        let [image, prediction] = table.columns(["ImageId", "PredictionString"])?;
        while let Some(row) = table.next(skipped)? {
            // `n01440764 111 108 431 340` and so on: the class, and boxes of it.
            let synset = row.raw(prediction).split(' ').next().unwrap_or("");
            add(row.line, format!("{}.JPEG", row.raw(image)), place.get(synset).copied(), synset, skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Options) {
        let dir = tempfile::tempdir().unwrap();
        for (f, text) in files {
            let path = dir.path().join(f);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let options = serde_json::from_value(serde_json::json!({"root": dir.path()})).unwrap();
        (dir, options)
    }

    fn told(d: &Dataset) -> Vec<(String, i32, String)> {
        let split = |i: usize| d.text("split").map_or(String::new(), |s| s.value(i).into());
        (0..d.rows()).map(|i| (d.images().unwrap().value(i).into(), d.classes().unwrap().value(i), split(i))).collect()
    }

    #[test]
    fn every_layout_gives_the_same_classes() {
        let (a, b) = ("train/n01440764/a.JPEG", "train/n02119789/b.JPEG");
        let row = |image: &str, class: i32, split: &str| (image.to_string(), class, split.to_string());
        let (_d, sorted) = tree(&[(a, "x"), (b, "x"), ("val/n02119789/c.JPEG", "x"), ("train/other/d.JPEG", "x")]);
        let expected = [row(a, 0, "train"), row(b, 1, "train"), row("val/n02119789/c.JPEG", 1, "valid")];
        assert_eq!(told(&sorted.read(&mut Skipped::default()).unwrap()), expected);

        let list = "c.JPEG 1\nd.JPEG 7\nnonsense\n";
        let (_d, caffe) = tree(&[(a, "x"), (b, "x"), ("val/c.JPEG", "x"), ("val.txt", list)]);
        let mut skipped = Skipped::default();
        let expected = [row(a, 0, "train"), row(b, 1, "train"), row("val/c.JPEG", 1, "valid")];
        assert_eq!(told(&caffe.read(&mut skipped).unwrap()), expected);
        assert_eq!(skipped.reasons()[0].examples, ["val.txt:2: 7"]);
        assert_eq!(skipped.of("the line is not FILE CLASS"), 1);

        let solution = "ImageId,PredictionString\nc,n02119789 1 2 3 4 n02119789 5 6 7 8 \nd,n09999999 1 2 3 4 \n";
        let at = |f: &str| format!("{KAGGLE}/{f}");
        let (_d, kaggle) =
            tree(&[(&at(a), "x"), (&at(b), "x"), (&at("val/c.JPEG"), "x"), ("LOC_val_solution.csv", solution)]);
        let mut skipped = Skipped::default();
        let found = told(&kaggle.read(&mut skipped).unwrap());
        assert_eq!(found[2], row(&at("val/c.JPEG"), 1, "valid"));
        assert_eq!(skipped.of("the class is none of the folders"), 1);

        let (_d, all) = tree(&[("n01440764/a.JPEG", "x"), ("n01440764/readme.txt", "x")]);
        let mut skipped = Skipped::default();
        assert_eq!(told(&all.read(&mut skipped).unwrap()), [row("n01440764/a.JPEG", 0, "")]);
        assert_eq!(skipped.of("the file is no image by its name"), 1);
    }

    #[test]
    fn unsorted_validation_images_need_a_list() {
        let (_d, options) = tree(&[("train/n01440764/a.JPEG", "x"), ("val/c.JPEG", "x")]);
        let e = options.read(&mut Skipped::default()).unwrap_err();
        assert!(e.hint().unwrap().contains("LOC_val_solution.csv"), "{e}");
        let (_d, none) = tree(&[("cats/a.JPEG", "x")]);
        assert!(none.read(&mut Skipped::default()).unwrap_err().to_string().contains("synsets"));
    }
}
