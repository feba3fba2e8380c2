//! The COVID-19 image data collection of ieee8023 (Cohen et al. 2020): `metadata.csv`, images in `images/`.
//!
//! An [`super::image_table`] whose columns are known. Only X-rays are read (`modality`); CT slices and the
//! volumes beside them are counted. `finding` lists findings, in early versions as `COVID-19, ARDS`, in later ones from
//! the general to the special, as `Pneumonia/Viral/COVID-19`; each part is a finding, one that is not listed is absent.
//! Patients are named after the collection as COVIDx names them (`cohen:17`), so that those that both hold are seen. It
//! has no splits.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    image_table::{self, FindingsColumn, Labels},
    layout::Clues,
};
use crate::{data::dataset::Dataset, error::Result};

/// The COVID-19 image data collection of ieee8023.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `metadata.csv` and `images/`.
    pub root: PathBuf,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name")]
    pub name: String,
    /// Views to keep, as in `[PA, AP]`; all where left out. The set's own words: `PA`, `AP`, `AP Supine`, `L`, ….
    #[serde(default)]
    pub views: Option<Vec<String>>,
    /// The findings in their order; others are forgotten. All that occur, sorted, where left out.
    #[serde(default)]
    pub findings: Option<Vec<String>>,
    /// Rows whose image file does not exist.
    #[serde(default)]
    pub missing: Missing,
    /// Rows that do not fit the table.
    #[serde(default)]
    pub odd_rows: OddRows,
}

fn name() -> String {
    "covid".into()
}

const TABLE: &str = "metadata.csv";
/// What COVIDx calls this source.
const SOURCE: &str = "cohen";

pub(super) fn looks_like(clues: &mut Clues) {
    clues.table(&[TABLE], &["patientid", "finding", "view", "modality", "filename"], 4.0);
    clues.folder(&["images"], 1.0);
}

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        "git clone https://github.com/ieee8023/covid-chestxray-dataset; root is the folder with metadata.csv and images/"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        self.as_table().read(skipped)
    }
}

impl Options {
    fn as_table(&self) -> image_table::Options {
        let column = |name: &str| Some(name.to_string());
        image_table::Options {
            root: self.root.clone(),
            name: self.name.clone(),
            file: TABLE.into(),
            delimiter: ',',
            image: "filename".into(),
            folder: column("images"),
            labels: Labels::Findings(FindingsColumn {
                column: "finding".into(),
                separators: ",/".into(),
                // What later versions write where nobody has said anything.
                map: ["todo", "Unknown"].map(|word| (word.to_string(), None)).into(),
                names: self.findings.clone(),
                healthy: "No Finding".into(),
            }),
            keep: [("modality".to_string(), vec!["X-ray".to_string()])].into(),
            patient: column("patientid"),
            patient_prefix: column(SOURCE),
            study: None,
            view: column("view"),
            views: self.views.clone(),
            sex: column("sex"),
            age: column("age"),
            split: None,
            missing: self.missing,
            odd_rows: self.odd_rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};

    #[test]
    fn findings_of_both_spellings_x_rays_alone_and_patients_as_covidx_names_them() {
        let table = "patientid,offset,sex,age,finding,view,modality,folder,filename\n\
                     17,3,M,54,\"COVID-19, ARDS\",PA,X-ray,images,a.jpg\n\
                     18,,F,,No Finding,AP,X-ray,images,b.jpg\n\
                     19,,F,61,Pneumonia/Viral/COVID-19,L,X-ray,images,c.jpg\n\
                     20,,F,61,COVID-19,Axial,CT,volumes,d.nii.gz\n\
                     21,,F,61,COVID-19,PA,X-ray,images,gone.jpg\n";
        let dir = fixtures::tree(&[
            (TABLE, table.as_bytes()),
            ("images/a.jpg", b"x"),
            ("images/b.jpg", b"x"),
            ("images/c.jpg", b"x"),
        ]);
        let read = |more: serde_json::Value| {
            let mut json = serde_json::json!({"root": dir.path()});
            json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let mut skipped = Skipped::default();
            (serde_json::from_value::<Options>(json).unwrap().read(&mut skipped).unwrap(), skipped)
        };
        let (d, skipped) = read(serde_json::json!({}));
        assert_eq!(d.task().names(), ["ARDS", "COVID-19", "Pneumonia", "Viral"]);
        assert_eq!(d.label("COVID-19").unwrap().values(), &[1, 0, 1]);
        assert_eq!(
            d.text("patient").unwrap().iter().flatten().collect::<Vec<_>>(),
            ["cohen:17", "cohen:18", "cohen:19"]
        );
        assert_eq!((d.ages().unwrap().value(0), d.text("view").unwrap().value(1)), (54.0, "AP"));
        assert_eq!(skipped.of("modality is not among those kept"), 1);
        assert_eq!(skipped.of("the image file is missing"), 1);
        let (d, _) = read(serde_json::json!({"views": ["PA"], "findings": ["COVID-19"]}));
        assert_eq!((d.rows(), d.task().names()), (1, &["COVID-19".to_string()][..]));
        // Known for what it is, before any table of images.
        let found = super::super::inspect(dir.path());
        assert_eq!((found[0].format, found[0].missing.len()), ("covid", 0), "{found:?}");
    }
}
