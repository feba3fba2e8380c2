//! NIH ChestX-ray14 (Wang et al. 2017): `Data_Entry_2017*.csv`, `train_val_list.txt`, `test_list.txt`
//! and images in `images/`, or in `images_001/images/` to `images_012/images/` as downloaded.
//!
//! A finding that is not listed is absent. Where `BBox_List_2017.csv` is there, its boxes become the column
//! `boxes` ([`super::nih_boxes`]).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    layout::Clues,
    nih_boxes,
    rows::{NewRow, Observation, Rows, in_views},
    table::{self, Table},
};
use crate::{
    data::{
        dataset::Dataset,
        hashed::{QuickMap, all_differ},
    },
    error::{Error, Result},
};

/// NIH ChestX-ray14.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `Data_Entry_2017_v2020.csv`, the two lists and `images/`.
    pub root: PathBuf,
    /// Name of the set in the column `dataset` and before patient ids.
    #[serde(default = "name")]
    pub name: String,
    /// Views to keep, as in `[PA, AP]`; all where left out.
    #[serde(default)]
    pub views: Option<Vec<String>>,
    /// Rows whose image file does not exist.
    #[serde(default)]
    pub missing: Missing,
    /// Rows that do not fit the table.
    #[serde(default)]
    pub odd_rows: OddRows,
}

fn name() -> String {
    "nih".into()
}

/// In the published order.
const FINDINGS: [&str; 14] = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
];

const TABLES: [&str; 2] = ["Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"];
const BOXES: &str = "BBox_List_2017.csv";

pub(super) fn looks_like(clues: &mut Clues) {
    clues.table(&TABLES, &["Image Index", "Finding Labels", "Patient ID", "View Position"], 4.0);
    clues.file(&["train_val_list.txt"], 1.0);
    clues.file(&["test_list.txt"], 1.0);
    clues.folder(&["images", "images_001/images"], 1.0);
}

/// The oldest person that is believed; the first release of the table has ages up to 414.
const OLDEST: f32 = 120.0;

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        "download from nihcc.app.box.com/v/ChestXray-NIHCC; root is the folder with Data_Entry_2017_v2020.csv, train_val_list.txt, test_list.txt and images/"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let mut table = Table::open(&table::find(&self.root, &TABLES, self.obtain())?, b',', self.odd_rows)?;
        let [image, labels, patient, age, view] =
            table.columns(["Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position"])?;
        // Later releases renamed the column.
        let sex = match table.column("Patient Sex") {
            Some(at) => at,
            None => table.columns(["Patient Gender"])?[0],
        };
        let lists = self.lists()?;
        let mut splits = Splits::new(&lists)?;
        let boxes = match table::find(&self.root, &[BOXES], "") {
            Ok(path) => nih_boxes::read(&path, &FINDINGS, self.odd_rows, skipped)?,
            Err(_) => HashMap::new(),
        };
        let folders = self.folders();
        let mut path = String::new();
        let mut known: QuickMap<String, (bool, [Observation; FINDINGS.len()])> = QuickMap::default();
        let file = table.file.clone();
        let mut rows = Rows::multi(&self.name, FINDINGS).or_dicom();
        rows.table(&file);
        while let Some(row) = table.next(skipped)? {
            let view = row.text(view);
            if !in_views(&self.views, view, skipped, &file, row.line) {
                continue;
            }
            let words = row.raw(labels);
            let (healthy, findings) = match known.get(words) {
                Some(found) => *found,
                None => match findings(words) {
                    Ok(found) => *known.entry(words.into()).or_insert(found),
                    Err(word) => {
                        skipped.odd(self.odd_rows, "a finding is not one of the 14", &file, row.line, word)?;
                        continue;
                    }
                },
            };
            let years = row.text(age).and_then(table::years);
            if years.is_none_or(|y| y > OLDEST) && row.text(age).is_some() {
                skipped.value("the age is beyond belief", &file, row.line, row.raw(age));
            }
            let image = row.raw(image);
            let split = splits.of(image)?;
            if split.is_none() {
                skipped.value("the image is in neither list", &file, row.line, image);
            }
            path.clear();
            for part in [folders.get(image).map_or("images", String::as_str), "/", image] {
                path.push_str(part);
            }
            let new = NewRow {
                image: path.as_str().into(),
                split,
                patient: row.text(patient).map(Into::into),
                view: view.map(Into::into),
                sex: row.text(sex).and_then(table::sex),
                age: years.filter(|&y| y <= OLDEST),
                healthy: Some(healthy),
                boxes: boxes.get(image).cloned(),
                ..Default::default()
            };
            rows.push(row.line, new, &findings);
        }
        rows.finish(
            &self.root,
            (self.missing, self.odd_rows),
            skipped,
            "images belong in images/00000001_000.png below the root",
        )
    }
}

impl Options {
    /// The published lists of images.
    fn lists(&self) -> Result<[List; 2]> {
        let read = |list: &str, split: &'static str| -> Result<List> {
            let path = table::find(&self.root, &[list], self.obtain())?;
            let text = table::text(&path)?;
            Ok(List { path, text, split })
        };
        Ok([read("train_val_list.txt", "train")?, read("test_list.txt", "test")?])
    }

    /// Where images lie that are not in `images/`: name to folder, for the twelve folders of the download.
    fn folders(&self) -> QuickMap<String, String> {
        let mut found = QuickMap::default();
        for n in 1..=12 {
            let folder = format!("images_{n:03}/images");
            for entry in std::fs::read_dir(self.root.join(&folder)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                // The table names `a.png` also where `a.dcm` lies in its place.
                if let Some(stem) = name.strip_suffix(".dcm") {
                    found.entry(format!("{stem}.png")).or_insert_with(|| folder.clone());
                }
                found.insert(name, folder.clone());
            }
        }
        found
    }
}

struct List {
    path: PathBuf,
    text: String,
    split: &'static str,
}

/// The split of each image. The published lists are in the table's order, so that it nearly always is the next line
/// of one of them.
struct Splits<'a> {
    lists: &'a [List; 2],
    images: [Vec<&'a str>; 2],
    /// Where each list is followed to.
    next: [usize; 2],
    /// All images, once one is asked for that is not the next.
    all: Option<QuickMap<&'a str, &'static str>>,
}

impl<'a> Splits<'a> {
    /// # Errors
    /// An image that is in both lists.
    fn new(lists: &'a [List; 2]) -> Result<Self> {
        let names = |list: &'a List| list.text.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
        let images: [Vec<&str>; 2] = [names(&lists[0]), names(&lists[1])];
        let all = if all_differ(images.iter().flatten()) { None } else { Some(all(lists)?) };
        Ok(Splits { lists, images, next: [0; 2], all })
    }

    fn of(&mut self, image: &str) -> Result<Option<&'static str>> {
        for ((names, list), next) in self.images.iter().zip(self.lists).zip(&mut self.next) {
            if names.get(*next) == Some(&image) {
                *next += 1;
                return Ok(Some(list.split));
            }
        }
        let all = match &mut self.all {
            Some(all) => all,
            none => none.insert(all(self.lists)?),
        };
        Ok(all.get(image).copied())
    }
}

/// All images of the lists, line by line.
fn all(lists: &[List; 2]) -> Result<QuickMap<&str, &'static str>> {
    let mut all = QuickMap::default();
    for List { path, text, split } in lists {
        for (i, image) in text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty()) {
            if all.insert(image, *split).is_some_and(|before| before != *split) {
                let line = i as u64 + 1;
                return Err(Error::data(path, line, format!("{image} is in both lists")));
            }
        }
    }
    Ok(all)
}

/// Whether nothing was found, and the findings of `Edema|Effusion`; `Err` is the word that is unknown.
fn findings(text: &str) -> Result<(bool, [Observation; FINDINGS.len()]), &str> {
    let mut found = [Observation::Absent; FINDINGS.len()];
    if text == "No Finding" {
        return Ok((true, found));
    }
    for word in text.split('|') {
        let at = FINDINGS.iter().position(|f| *f == word).ok_or(word)?;
        found[at] = Observation::Present;
    }
    Ok((false, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;

    #[test]
    fn dicom_files_are_found_in_the_twelve_folders() {
        let table = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position\n\
                     a.png,Edema,1,50,M,AP\nb.png,Mass,2,50,M,AP\n";
        let dir = super::super::fixtures::tree(&[
            ("Data_Entry_2017.csv", table.as_bytes()),
            ("train_val_list.txt", b"a.png\n"),
            ("test_list.txt", b"b.png\n"),
            ("images_003/images/a.dcm", b"x"),
            ("images_001/images/b.dcm", b"x"),
            ("images_012/images/b.png", b"x"),
        ]);
        let options: Options = serde_json::from_value(serde_json::json!({"root": dir.path()})).unwrap();
        let d = options.read(&mut Skipped::default()).unwrap();
        let images: Vec<&str> = d.images().unwrap().iter().flatten().collect();
        assert_eq!(images, ["images_003/images/a.dcm", "images_012/images/b.png"]);
    }

    #[test]
    fn lists_views_and_both_folder_layouts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::write(
            root.join("Data_Entry_2017.csv"),
            "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n\
             a.png,Edema|Effusion,0,61,058Y,M,AP,1,2,3,4,\n\
             b.png,No Finding,0,62,411,F,PA,1,2,3,4,\n\
             c.png,Gout,0,62,1,F,PA,1,2,3,4,\n\
             d.png,Mass,0,63,1,F,PA,1,2,3,4,\n",
        )
        .unwrap();
        std::fs::write(root.join("train_val_list.txt"), "a.png\nz.png\n").unwrap();
        std::fs::write(root.join("test_list.txt"), "b.png\n").unwrap();
        std::fs::create_dir_all(root.join("images")).unwrap();
        std::fs::create_dir_all(root.join("images_002/images")).unwrap();
        std::fs::write(
            root.join("BBox_List_2017.csv"),
            "Image Index,Finding Label,Bbox [x,y,w,h],,,\n\
             a.png,Infiltrate,1.5,2,3,4,,,\n\
             a.png,Edema,5,6,7,8\n\
             a.png,Edema,5,six,7,8\n\
             a.png,Gout,5,6,7,8\n",
        )
        .unwrap();
        for f in ["images/a.png", "images_002/images/b.png", "images/c.png"] {
            std::fs::write(root.join(f), "x").unwrap();
        }
        let options: Options = serde_json::from_value(serde_json::json!({"root": root})).unwrap();
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        let images: Vec<&str> = d.images().unwrap().iter().flatten().collect();
        assert_eq!(images, ["images/a.png", "images_002/images/b.png"]);
        assert_eq!(d.text("patient").unwrap().value(0), "nih:61");
        assert_eq!(d.label("Effusion").unwrap().value(0), 1);
        assert_eq!(d.label("Mass").unwrap().value(0), 0);
        assert_eq!((d.ages().unwrap().value(0), d.ages().unwrap().is_null(1)), (58.0, true));
        assert_eq!(d.text("split").unwrap().value(1), "test");
        let boxes: Vec<Option<&str>> = d.text("boxes").unwrap().iter().collect();
        let found: serde_json::Value = serde_json::from_str(boxes[0].unwrap()).unwrap();
        assert_eq!((found[0]["finding"].as_str(), found[1]["y"].as_f64()), (Some("Infiltration"), Some(6.0)));
        assert_eq!((found.as_array().unwrap().len(), boxes[1]), (2, None));
        let whats: Vec<&str> = skipped.reasons().iter().map(|r| r.what.as_str()).collect();
        assert_eq!(
            whats,
            [
                "the box is not four numbers",
                "the box is of none of the 14 findings",
                "the age is beyond belief",
                "a finding is not one of the 14",
                "the image is in neither list",
                "the image file is missing"
            ]
        );
        std::fs::write(root.join("test_list.txt"), "a.png\n").unwrap();
        let e = options.read(&mut skipped).unwrap_err();
        assert!(e.to_string().ends_with("test_list.txt:1: a.png is in both lists"), "{e}");
    }
}
