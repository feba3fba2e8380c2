//! PadChest (Bustos et al. 2019): the table of 160,861 images with label lists in Python's syntax.
//!
//! The 27 findings are the published study's: a finding is present where its name, or one of its
//! synonyms, is part of the text of the label list, and absent elsewhere. So `hydropneumothorax` is a
//! `Pneumothorax`. Rows without labels are left out, as are the images that the study found damaged.
//!
//! The published split is a shuffle of *rows* after the views were filtered: it depends on `views`, and
//! it puts most patients of the test set into the training set as well.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    layout::Clues,
    rows::{NewRow, Observation, Rows, in_views},
    table::{self, Table},
};
use crate::{
    data::{
        dataset::Dataset,
        hashed::{QuickMap, QuickSet},
    },
    error::Result,
    random::numpy::RandomState,
};

/// PadChest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv` (or `.csv.gz`) and the
    /// images, flat or in the numbered folders of the download.
    pub root: PathBuf,
    /// Name of the set in the column `dataset` and before patient ids.
    #[serde(default = "name")]
    pub name: String,
    /// Views to keep, as in `[PA, AP]`; all where left out. The set's words: `PA`, `AP`, `AP Supine` (written
    /// `AP_horizontal`), `L`, `COSTAL`, `EXCLUDE`, `UNK`.
    #[serde(default)]
    pub views: Option<Vec<String>>,
    /// Images to leave out whatever the table says.
    #[serde(default)]
    pub blacklist: Blacklist,
    /// How rows are split into training and test set.
    #[serde(default)]
    pub split: Split,
    /// Rows whose image file does not exist.
    #[serde(default)]
    pub missing: Missing,
    /// Rows that do not fit the table.
    #[serde(default)]
    pub odd_rows: OddRows,
}

/// Images to leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Blacklist {
    /// The 30 images that the published study found missing or damaged.
    #[default]
    Published,
    None,
}

/// How rows are split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// `RandomState(42)` shuffles the rows, the first 90 % are `train`, the others `test`. Patients are shared.
    #[default]
    Published,
    /// No split: rows in the table's order, for `merge` to split by patient.
    None,
}

fn name() -> String {
    "padchest".into()
}

/// Findings in the published order, with what else makes them present.
const FINDINGS: [(&str, &[&str]); 27] = [
    ("Air Trapping", &[]),
    ("Aortic Atheromatosis", &[]),
    ("Aortic Elongation", &[]),
    ("Atelectasis", &[]),
    ("Bronchiectasis", &[]),
    ("Cardiomegaly", &[]),
    ("Consolidation", &["air bronchogram"]),
    ("Costophrenic Angle Blunting", &[]),
    ("Edema", &[]),
    ("Effusion", &[]),
    ("Emphysema", &[]),
    ("Fibrosis", &[]),
    ("Flattened Diaphragm", &[]),
    ("Fracture", &[]),
    ("Granuloma", &[]),
    ("Hemidiaphragm Elevation", &[]),
    ("Hernia", &[]),
    ("Hilar Enlargement", &["adenopathy", "pulmonary artery enlargement"]),
    (
        "Infiltration",
        &[
            "infiltrates",
            "interstitial pattern",
            "ground glass pattern",
            "alveolar pattern",
            "consolidation",
            "air bronchogram",
        ],
    ),
    ("Mass", &[]),
    ("Nodule", &[]),
    ("Pleural_Thickening", &["pleural thickening"]),
    ("Pneumonia", &[]),
    ("Pneumothorax", &[]),
    ("Scoliosis", &[]),
    ("Support Devices", &["device", "pacemaker"]),
    ("Tuberculosis", &[]),
];

/// Missing or damaged in the published study's copy.
const BLACKLIST: [&str; 30] = [
    "216840111366964012283393834152009027091819347_00-007-136.png",
    "216840111366964012283393834152009033102258826_00-059-087.png",
    "216840111366964012283393834152009033140208626_00-059-118.png",
    "216840111366964012339356563862009072111404053_00-043-192.png",
    "216840111366964012373310883942009077082646386_00-047-124.png",
    "216840111366964012373310883942009117084022290_00-064-025.png",
    "216840111366964012373310883942009152114636712_00-102-045.png",
    "216840111366964012373310883942009170084120009_00-097-074.png",
    "216840111366964012373310883942009180082307973_00-097-011.png",
    "216840111366964012487858717522009280135853083_00-075-001.png",
    "216840111366964012558082906712009327122220177_00-102-064.png",
    "216840111366964012819207061112010281134410801_00-129-131.png",
    "216840111366964012819207061112010306085429121_04-020-102.png",
    "216840111366964012819207061112010307142602253_04-014-084.png",
    "216840111366964012819207061112010315104455352_04-024-184.png",
    "216840111366964012904401302362010336141343749_03-198-010.png",
    "216840111366964012904401302362010337093236130_03-198-079.png",
    "216840111366964012959786098432011033083840143_00-176-115.png",
    "216840111366964012989926673512011074122523403_00-163-058.png",
    "216840111366964012989926673512011083134050913_00-168-009.png",
    "216840111366964012989926673512011151082430686_00-157-045.png",
    "216840111366964013076187734852011291090445391_00-196-188.png",
    "216840111366964013590140476722013043111952381_02-065-198.png",
    "216840111366964013590140476722013049100117076_02-063-097.png",
    "216840111366964013590140476722013058110301622_02-056-111.png",
    "216840111366964013649110343042013092101343018_02-075-146.png",
    "216840111366964013686042548532013208193054515_02-026-007.png",
    "216840111366964013829543166512013353113303615_02-092-190.png",
    "216840111366964013962490064942014134093945580_01-178-104.png",
    "269300710246070740096540277379121868595_e7zsan.png",
];

const TABLE: &str = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv";

pub(super) fn looks_like(clues: &mut Clues) {
    clues.table(&[TABLE], &["ImageID", "ImageDir", "PatientID", "Projection", "Labels"], 4.0);
    let images = clues.root().join("0").is_dir()
        || super::folder::entries(clues.root()).is_ok_and(|e| e.iter().any(|(n, _)| super::folder::is_image(n)));
    clues.either(1.0, "images, flat or in the folders 0 to 54", images);
}

const SEED: u32 = 42;
const TRAIN: f64 = 0.9;

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        "request at bimcv.cipf.es/bimcv-projects/padchest; root is the folder with PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz and the images"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let mut table = Table::open(&table::find(&self.root, &[TABLE], self.obtain())?, b',', self.odd_rows)?;
        let [image, folder, date, study, patient, birth, sex, view, labels] = table.columns([
            "ImageID",
            "ImageDir",
            "StudyDate_DICOM",
            "StudyID",
            "PatientID",
            "PatientBirth",
            "PatientSex_DICOM",
            "Projection",
            "Labels",
        ])?;
        let blacklist: QuickSet<&str> = match self.blacklist {
            Blacklist::Published => BLACKLIST.into_iter().collect(),
            Blacklist::None => QuickSet::default(),
        };
        // The download has one folder for each ImageDir; the published study had all images in one.
        let mut folders: QuickMap<String, bool> = QuickMap::default();
        let mut words = Words::new();
        let mut known: QuickMap<String, [Observation; FINDINGS.len()]> = QuickMap::default();
        let file = table.file.clone();
        let mut rows = Rows::multi(&self.name, FINDINGS.iter().map(|(name, _)| *name)).or_dicom();
        rows.table(&file);
        while let Some(row) = table.next(skipped)? {
            let view = row.text(view).map(|v| if v == "AP_horizontal" { "AP Supine" } else { v });
            if !in_views(&self.views, view, skipped, &file, row.line) {
                continue;
            }
            let id = row.raw(image);
            let Some(labels) = row.text(labels) else {
                skipped.row("the labels are blank", &file, row.line, id);
                continue;
            };
            if blacklist.contains(id) {
                skipped.row("the image is blacklisted", &file, row.line, id);
                continue;
            }
            let findings = match known.get(labels) {
                Some(findings) => *findings,
                None => *known.entry(labels.into()).or_insert(words.findings(labels)),
            };
            let age = row.text(date).and_then(year).zip(row.text(birth).and_then(year)).map(|(d, b)| d - b);
            let folder = row.raw(folder);
            let in_folder = match folders.get(folder) {
                Some(there) => *there,
                None => {
                    let there = !folder.is_empty() && self.root.join(folder).is_dir();
                    *folders.entry(folder.into()).or_insert(there)
                }
            };
            let new = NewRow {
                image: if in_folder { format!("{folder}/{id}").into() } else { id.into() },
                patient: row.text(patient).map(Into::into),
                study: row.text(study).map(Into::into),
                view: view.map(Into::into),
                sex: row.text(sex).and_then(table::sex),
                age: age.filter(|a| (0.0..=120.0).contains(a)),
                healthy: Some(labels == "['normal']"),
                ..Default::default()
            };
            rows.push(row.line, new, &findings);
        }
        if self.split == Split::Published {
            let train = (rows.len() as f64 * TRAIN) as usize;
            let order = RandomState::new(SEED).permutation(rows.len());
            rows.arrange(&order, |place| Some(if place < train { "train" } else { "test" }));
        }
        rows.finish(
            &self.root,
            (self.missing, self.odd_rows),
            skipped,
            "images belong below the root itself, or in the folders 0 to 54",
        )
    }
}

/// The year at the beginning of `20140915` or `1930.0`.
fn year(text: &str) -> Option<f32> {
    let year = text.get(..4)?;
    // Nearly all that there is.
    if year.bytes().all(|b| b.is_ascii_digit()) {
        return Some(year.bytes().fold(0.0, |all, b| all * 10.0 + f32::from(b - b'0')));
    }
    year.parse().ok()
}

/// What is searched for in label lists.
struct Words {
    of: Vec<Vec<String>>,
    /// The findings of each name that was met, as bits.
    known: QuickMap<String, u32>,
}

impl Words {
    fn new() -> Self {
        let of = |(name, more): (&str, &[&str])| {
            let mut words = vec![name.to_lowercase()];
            words.extend(more.iter().map(|w| w.to_string()));
            words
        };
        Words { of: FINDINGS.into_iter().map(of).collect(), known: QuickMap::default() }
    }

    /// What is found in a list is found in one of its names, since no word has a quote in it.
    fn findings(&mut self, labels: &str) -> [Observation; FINDINGS.len()] {
        let mut all = 0;
        for name in labels.split('\'') {
            all |= match self.known.get(name) {
                Some(found) => *found,
                None => {
                    let present = |words: &Vec<String>| words.iter().any(|w| name.contains(w.as_str()));
                    let bits = self.of.iter().enumerate().map(|(k, words)| u32::from(present(words)) << k);
                    *self.known.entry(name.into()).or_insert(bits.sum())
                }
            };
        }
        std::array::from_fn(|k| if all >> k & 1 == 1 { Observation::Present } else { Observation::Absent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,Report,Labels\n";

    #[test]
    fn lists_and_newlines_blanks_and_the_blacklist() {
        let dir = tempfile::tempdir().unwrap();
        let rows = format!(
            "0,a.png,0,20140915,s1,p1,1930.0,F,PA,sin hallazg,['normal']\n\
             1,b.png,0,20140915,s2,p2,,M,AP_horizontal,\"dos\nlineas\",\"['hydropneumothorax', 'air bronchogram']\"\n\
             2,c.png,0,20140915,s2,p2,0,O,L,x,nan\n\
             3,{},0,20140915,s2,p2,0,M,L,x,['normal']\n\
             4,d.png,0,20140915,s3,p3,1930.0,M,UNK,x,['normal']\n",
            BLACKLIST[0]
        );
        let file = dir.path().join("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv");
        std::fs::write(file, format!("{HEADER}{rows}")).unwrap();
        let json = serde_json::json!({
            "root": dir.path(), "missing": "keep", "views": ["PA", "AP Supine", "L"], "split": "none"
        });
        let mut options: Options = serde_json::from_value(json).unwrap();
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        assert_eq!(d.rows(), 2);
        assert_eq!(d.text("view").unwrap().value(1), "AP Supine");
        assert_eq!(d.ages().unwrap().value(0), 84.0);
        for (name, expected) in
            [("Pneumothorax", 1), ("Consolidation", 1), ("Infiltration", 1), ("Mass", 0), ("Pneumonia", 0)]
        {
            assert_eq!(d.label(name).unwrap().value(1), expected, "{name}");
        }
        assert!(d.text("split").is_none());
        for what in ["the labels are blank", "the image is blacklisted", "view UNK is not among views"] {
            assert_eq!(skipped.of(what), 1, "{what}");
        }
        std::fs::create_dir(dir.path().join("0")).unwrap();
        assert_eq!(options.read(&mut skipped).unwrap().images().unwrap().value(0), "0/a.png");
        options.split = Split::Published;
        let d = options.read(&mut skipped).unwrap();
        let splits: Vec<&str> = d.text("split").unwrap().iter().flatten().collect();
        assert_eq!(splits, ["train", "test"]);
    }

    #[test]
    fn the_blacklist_has_no_image_twice() {
        assert_eq!(BLACKLIST.into_iter().collect::<QuickSet<_>>().len(), 30);
    }
}
