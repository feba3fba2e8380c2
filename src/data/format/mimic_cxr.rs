//! MIMIC-CXR-JPG 2.0.0 (Johnson et al. 2019): labels by study, metadata and splits by image, images in
//! `files/p10/p10000032/s50414267/DICOM.jpg`.
//!
//! Rows come in the published order: labelled studies, and within each its images as the metadata list
//! them. Views are the set's own words (`PA`, `AP`, `LATERAL`, `LL`, …), because the published study
//! filtered by them: its `L` keeps no lateral image of this set.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped, chexpert_labels as labels,
    layout::Clues,
    rows::{NewRow, Rows, in_views},
    table::{self, Table},
};
use crate::{
    data::dataset::Dataset,
    error::{Error, Result},
};

/// MIMIC-CXR-JPG 2.0.0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder `mimic-cxr-jpg/2.0.0` that holds `mimic-cxr-2.0.0-split.csv.gz` and `files/`.
    pub root: PathBuf,
    /// Name of the set in the column `dataset` and before patient ids.
    #[serde(default = "name")]
    pub name: String,
    /// Which labeler's table to read.
    #[serde(default)]
    pub labels: Labeler,
    /// Views to keep, as in `[PA, AP]`; all where left out. The set's own words: `PA`, `AP`, `LATERAL`, `LL`, ….
    #[serde(default)]
    pub views: Option<Vec<String>>,
    /// Whether `No Finding` makes every finding absent, as published. Else labels stay as written.
    #[serde(default = "yes")]
    pub healthy: bool,
    /// Rows whose image file does not exist.
    #[serde(default)]
    pub missing: Missing,
    /// Rows that do not fit their table.
    #[serde(default)]
    pub odd_rows: OddRows,
}

/// The program that read the reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Labeler {
    #[default]
    Chexpert,
    Negbio,
}

fn name() -> String {
    "mimic_cxr".into()
}

fn yes() -> bool {
    true
}

/// One image of a study.
struct Image {
    dicom: String,
    view: Option<String>,
    line: u64,
}

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        "sign the agreement at physionet.org/content/mimic-cxr-jpg/2.0.0; root is the folder with mimic-cxr-2.0.0-split.csv.gz and files/"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let splits = self.splits(skipped)?;
        let mut images = self.images(skipped)?;
        let labeler = match self.labels {
            Labeler::Chexpert => "mimic-cxr-2.0.0-chexpert.csv",
            Labeler::Negbio => "mimic-cxr-2.0.0-negbio.csv",
        };
        let mut table = self.table(labeler)?;
        let [subject, study] = table.columns(["subject_id", "study_id"])?;
        let columns = labels::Labels::locate(&table)?;
        let file = table.file.clone();
        let metadata = self.table(METADATA)?.file;
        let mut rows = Rows::multi(&self.name, labels::names()).or_dicom();
        rows.table(&metadata);
        let mut labelled = HashSet::new();
        while let Some(row) = table.next(skipped)? {
            let key = (row.raw(subject).to_string(), row.raw(study).to_string());
            let (healthy, findings) = match columns.read(&row, self.healthy) {
                Ok(found) => found,
                Err(detail) => {
                    skipped.odd(self.odd_rows, labels::OUT_OF_RANGE, &file, row.line, &detail)?;
                    continue;
                }
            };
            let Some(of_study) = images.remove(&key) else {
                if labelled.contains(&key) {
                    skipped.odd(self.odd_rows, "the study was labelled before", &file, row.line, &key.1)?;
                } else {
                    skipped.row("the labelled study has no image", &file, row.line, &key.1);
                }
                continue;
            };
            for image in of_study {
                if !in_views(&self.views, image.view.as_deref(), skipped, &metadata, image.line) {
                    continue;
                }
                let Some(&split) = splits.get(&image.dicom) else {
                    skipped.row("the image is in no split", &metadata, image.line, &image.dicom);
                    continue;
                };
                let prefix: String = key.0.chars().take(2).collect();
                let new = NewRow {
                    image: format!("files/p{prefix}/p{}/s{}/{}.jpg", key.0, key.1, image.dicom).into(),
                    split: Some(split),
                    patient: Some(key.0.as_str().into()),
                    study: Some(key.1.as_str().into()),
                    view: image.view.map(Into::into),
                    healthy: Some(healthy),
                    ..Default::default()
                };
                rows.push(image.line, new, &findings);
            }
            labelled.insert(key);
        }
        let mut left: Vec<(u64, String)> =
            images.into_iter().flat_map(|((_, s), i)| i.into_iter().map(move |i| (i.line, s.clone()))).collect();
        left.sort();
        for (line, study) in left {
            skipped.row("the image's study has no labels", &metadata, line, &study);
        }
        rows.finish(
            &self.root,
            (self.missing, self.odd_rows),
            skipped,
            "images belong in files/p10/p10000032/s50414267/DICOM.jpg below the root",
        )
    }
}

pub(super) fn looks_like(clues: &mut Clues) {
    clues.table(&[METADATA], &["dicom_id", "subject_id", "study_id", "ViewPosition"], 2.0);
    clues.table(&["mimic-cxr-2.0.0-split.csv"], &["dicom_id", "split"], 2.0);
    let labels = ["mimic-cxr-2.0.0-chexpert.csv", "mimic-cxr-2.0.0-negbio.csv"];
    clues.table(&labels, &["subject_id", "study_id", "No Finding"], 2.0);
    clues.folder(&["files"], 1.0);
}

const METADATA: &str = "mimic-cxr-2.0.0-metadata.csv";

impl Options {
    fn table(&self, name: &str) -> Result<Table> {
        Table::open(&table::find(&self.root, &[name], self.obtain())?, b',', self.odd_rows)
    }

    fn splits(&self, skipped: &mut Skipped) -> Result<HashMap<String, &'static str>> {
        let mut table = self.table("mimic-cxr-2.0.0-split.csv")?;
        let [dicom, split] = table.columns(["dicom_id", "split"])?;
        let file = table.file.clone();
        let mut splits = HashMap::new();
        while let Some(row) = table.next(skipped)? {
            let word = match row.raw(split) {
                "train" => "train",
                "validate" => "valid",
                "test" => "test",
                other => {
                    skipped.odd(self.odd_rows, "the split is not train, validate or test", &file, row.line, other)?;
                    continue;
                }
            };
            let image = row.raw(dicom);
            if let Some(before) = splits.insert(image.to_string(), word).filter(|before| *before != word) {
                return Err(Error::data(
                    &file,
                    row.line,
                    format!("{image} is in split {word} here and in {before} before"),
                ));
            }
        }
        Ok(splits)
    }

    fn images(&self, skipped: &mut Skipped) -> Result<HashMap<(String, String), Vec<Image>>> {
        let mut table = self.table(METADATA)?;
        let [dicom, subject, study, view] = table.columns(["dicom_id", "subject_id", "study_id", "ViewPosition"])?;
        let mut images: HashMap<(String, String), Vec<Image>> = HashMap::new();
        while let Some(row) = table.next(skipped)? {
            let image = Image { dicom: row.raw(dicom).into(), view: row.owned(view), line: row.line };
            images.entry((row.raw(subject).into(), row.raw(study).into())).or_default().push(image);
        }
        Ok(images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;
    use std::io::Write;

    fn gz(path: &Path, text: &str) {
        let mut out = flate2::write::GzEncoder::new(std::fs::File::create(path).unwrap(), Default::default());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap();
    }

    #[test]
    fn studies_join_images_and_splits() {
        let dir = tempfile::tempdir().unwrap();
        let names = "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices";
        gz(
            &dir.path().join("mimic-cxr-2.0.0-chexpert.csv.gz"),
            &format!(
                "subject_id,study_id,{names}\n10000032,50414267,,,,,,,,,1.0,,,,,\n10000032,53189527,1.0,,,,,,,,,-1.0,,,,\n10000764,1,,,,,,,,,,,,,,\n10000032,50414267,1.0,,,,,,,,,,,,,\n"
            ),
        );
        std::fs::write(
            dir.path().join(METADATA),
            "dicom_id,subject_id,study_id,ViewPosition\nbb,10000032,53189527,PA\naa,10000032,50414267,LATERAL\ncc,10000032,53189527,AP\ndd,9,9,PA\naa,10000032,50414267,LATERAL\n",
        )
        .unwrap();
        gz(
            &dir.path().join("mimic-cxr-2.0.0-split.csv.gz"),
            "dicom_id,study_id,subject_id,split\naa,50414267,10000032,train\nbb,53189527,10000032,validate\n",
        );
        let options: Options =
            serde_json::from_value(serde_json::json!({"root": dir.path(), "missing": "keep"})).unwrap();
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        let images: Vec<&str> = d.images().unwrap().iter().flatten().collect();
        assert_eq!(images, ["files/p10/p10000032/s50414267/aa.jpg", "files/p10/p10000032/s53189527/bb.jpg"]);
        let splits: Vec<&str> = d.text("split").unwrap().iter().flatten().collect();
        assert_eq!(splits, ["train", "valid"]);
        assert_eq!(d.text("patient").unwrap().value(0), "mimic_cxr:10000032");
        let effusion = d.label("Effusion").unwrap();
        assert_eq!((effusion.value(0), effusion.is_null(1)), (0, true));
        for what in [
            "the labelled study has no image",
            "the study was labelled before",
            "the image is in no split",
            "the image's study has no labels",
            "the image was listed before",
        ] {
            assert_eq!(skipped.of(what), 1, "{what}");
        }
        gz(
            &dir.path().join("mimic-cxr-2.0.0-split.csv.gz"),
            "dicom_id,study_id,subject_id,split\naa,50414267,10000032,train\naa,50414267,10000032,train\naa,50414267,10000032,test\n",
        );
        let e = options.read(&mut skipped).unwrap_err().to_string();
        assert!(e.ends_with("split.csv.gz:4: aa is in split test here and in train before"), "{e}");
    }
}
