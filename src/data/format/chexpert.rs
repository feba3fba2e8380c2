//! CheXpert v1.0, full or small (Irvin et al. 2019): `train.csv`, `valid.csv` and images in
//! `train/patient00001/study1/view1_frontal.jpg`.
//!
//! The view is `AP` or `PA` (rarely `LL`, `RL`) of frontal images, and `L` of lateral ones.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped, chexpert_labels as labels,
    layout::Clues,
    rows::{NewRow, Rows, in_views},
    table::{self, Table},
};
use crate::{data::dataset::Dataset, error::Result};

/// CheXpert v1.0 (full or small).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `train.csv` (or `train.csv.gz`) and `train/`: `CheXpert-v1.0` or `CheXpert-v1.0-small`.
    pub root: PathBuf,
    /// Name of the set in the column `dataset` and before patient ids.
    #[serde(default = "name")]
    pub name: String,
    /// The tables to read.
    #[serde(default = "splits")]
    pub splits: Vec<Split>,
    /// Views to keep, as in `[PA, AP]`; all where left out. The sets' own words: `PA`, `AP`, `L`, `LL`, `RL`.
    #[serde(default)]
    pub views: Option<Vec<String>>,
    /// Whether `No Finding` makes every finding absent, as published. Else labels stay as written.
    #[serde(default = "yes")]
    pub healthy: bool,
    /// Rows whose image file does not exist.
    #[serde(default)]
    pub missing: Missing,
    /// Rows that do not fit the table.
    #[serde(default)]
    pub odd_rows: OddRows,
}

/// A table of CheXpert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    Train,
    Valid,
}

fn name() -> String {
    "chexpert".into()
}

fn splits() -> Vec<Split> {
    vec![Split::Train, Split::Valid]
}

fn yes() -> bool {
    true
}

const COLUMNS: [&str; 5] = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"];

pub(super) fn looks_like(clues: &mut Clues) {
    clues.table(&["train.csv"], &COLUMNS, 3.0);
    clues.table(&["valid.csv"], &COLUMNS, 1.0);
    clues.folder(&["train"], 1.0);
}

const LAYOUT: &str = "images belong in train/patient00001/study1/view1_frontal.jpg below the root";

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        "register at stanfordmlgroup.github.io/competitions/chexpert; root is the folder with train.csv, valid.csv, train/ and valid/"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let mut rows = Rows::multi(&self.name, labels::names()).or_dicom();
        for split in &self.splits {
            let (file, split) = match split {
                Split::Train => ("train.csv", "train"),
                Split::Valid => ("valid.csv", "valid"),
            };
            let file = table::find(&self.root, &[file], self.obtain())?;
            self.read_table(Table::open(&file, b',', self.odd_rows)?, split, &mut rows, skipped)?;
        }
        rows.finish(&self.root, (self.missing, self.odd_rows), skipped, LAYOUT)
    }
}

impl Options {
    fn read_table(&self, mut table: Table, split: &'static str, rows: &mut Rows, skipped: &mut Skipped) -> Result<()> {
        let [path, sex, age, side, projection] = table.columns(COLUMNS)?;
        let labels = labels::Labels::locate(&table)?;
        let file = table.file.clone();
        rows.table(&file);
        while let Some(row) = table.next(skipped)? {
            let view = match row.raw(side) {
                "Frontal" => row.text(projection),
                "Lateral" => Some("L"),
                other => table::filled(other),
            };
            if !in_views(&self.views, view, skipped, &file, row.line) {
                continue;
            }
            let Some(place) = Place::of(row.raw(path)) else {
                let detail = row.raw(path);
                skipped.odd(self.odd_rows, "the path names no patient and study", &file, row.line, detail)?;
                continue;
            };
            let (healthy, findings) = match labels.read(&row, self.healthy) {
                Ok(found) => found,
                Err(detail) => {
                    skipped.odd(self.odd_rows, labels::OUT_OF_RANGE, &file, row.line, &detail)?;
                    continue;
                }
            };
            // Age 0 stands for an unknown one.
            let years = row.text(age).and_then(table::years).filter(|&a| a > 0.0);
            let new = NewRow {
                image: place.image.into(),
                split: Some(split),
                patient: Some(place.patient.into()),
                study: Some(place.of_patient.into()),
                view: view.map(Into::into),
                sex: row.text(sex).and_then(table::sex),
                age: years,
                healthy: Some(healthy),
                ..Default::default()
            };
            rows.push(row.line, new, &findings);
        }
        Ok(())
    }
}

/// `CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg` in its parts.
struct Place<'a> {
    /// From the split's folder on, which is where the root begins.
    image: &'a str,
    patient: &'a str,
    /// `00001/study1`.
    of_patient: &'a str,
}

/// What the folders of patients begin with.
const PATIENT: &str = "patient";

impl<'a> Place<'a> {
    fn of(path: &'a str) -> Option<Self> {
        // The first folder so named that lies in another one.
        let mut folders = path.match_indices('/').map(|(slash, _)| slash + 1);
        let named = folders.find(|&at| path[at..].starts_with(PATIENT)).filter(|_| !path.starts_with(PATIENT))?;
        let split = path[..named - 1].rfind('/').map_or(0, |slash| slash + 1);
        let mut of_patient = &path[named..];
        while let Some(rest) = of_patient.strip_prefix(PATIENT) {
            of_patient = rest;
        }
        let (patient, rest) = of_patient.split_once('/')?;
        let study = rest.split('/').next()?;
        Some(Place { image: &path[split..], patient, of_patient: &of_patient[..patient.len() + 1 + study.len()] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;

    const HEADER: &str = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices";

    fn tree(rows: &str) -> (tempfile::TempDir, Options) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("train.csv"), format!("{HEADER}\n{rows}")).unwrap();
        let json = serde_json::json!({"root": dir.path(), "splits": ["train"], "missing": "keep"});
        (dir, serde_json::from_value(json).unwrap())
    }

    const ROWS: &str = "\
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,-1.0,,,,0.0,,,,1.0
CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Male,0,Frontal,PA,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,1.0,,1.0,
CheXpert-v1.0-small/train/patient00002/study2/view2_lateral.jpg,Male,87,Lateral,,,,,,,,,,,,,,,
CheXpert-v1.0-small/train/patient00003/study1/view1_frontal.jpg,Male,87,Frontal,AP,,,2.0,,,,,,,,,,,
CheXpert-v1.0-small/train/odd.jpg,Male,87,Frontal,AP,,,,,,,,,,,,,,
";

    #[test]
    fn no_finding_makes_the_rest_absent_and_blanks_stay_unknown() {
        let (_dir, options) = tree(ROWS);
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        assert_eq!(d.rows(), 3);
        assert_eq!(d.images().unwrap().value(0), "train/patient00001/study1/view1_frontal.jpg");
        let views: Vec<&str> = d.text("view").unwrap().iter().flatten().collect();
        assert_eq!(views, ["AP", "PA", "L"]);
        assert_eq!(d.text("patient").unwrap().value(1), "chexpert:00002");
        assert_eq!(d.text("study").unwrap().value(1), "chexpert:00002/study2");
        assert_eq!((d.ages().unwrap().value(0), d.ages().unwrap().is_null(1)), (68.0, true));
        for name in labels::names() {
            let column = d.label(name).unwrap();
            assert_eq!((column.is_valid(0), column.value(0)), (true, 0), "{name}");
            assert!(column.is_null(2), "{name}");
        }
        assert_eq!(d.label("Effusion").unwrap().value(1), 1);
        assert!(d.label("Edema").unwrap().is_null(1));
        assert!(d.batch().column_by_name("uncertain:Edema").is_some());
        assert_eq!(skipped.of(labels::OUT_OF_RANGE), 1);
        assert_eq!(skipped.reasons()[0].examples, ["train.csv:5: Cardiomegaly is 2.0"]);
        assert_eq!(skipped.rows(), 2);
    }

    #[test]
    fn labels_stay_as_written_where_asked() {
        let (_dir, mut options) = tree(ROWS);
        options.healthy = false;
        options.views = Some(vec!["AP".into()]);
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        assert_eq!(d.rows(), 1);
        assert_eq!(d.label("Support Devices").unwrap().value(0), 1);
        assert!(d.label("Edema").unwrap().is_null(0));
        assert_eq!(skipped.of("view L is not among views"), 1);
    }

    #[test]
    fn a_missing_table_says_where_to_get_it() {
        let (_dir, mut options) = tree(ROWS);
        options.splits = vec![Split::Valid];
        let e = options.read(&mut Skipped::default()).unwrap_err();
        assert!(e.to_string().ends_with("valid.csv: no such file"), "{e}");
        assert!(e.hint().unwrap().contains("chexpert"));
    }
}
