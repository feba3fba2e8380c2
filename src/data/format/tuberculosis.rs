//! The tuberculosis sets of Shenzhen and Montgomery (Jaeger et al. 2014): images whose file names end
//! with their label, `CHNCXR_0001_0.png` normal and `CHNCXR_0327_1.png` tuberculosis.
//!
//! Rows come in the published order: `RandomState(42)` shuffles the sorted files of each set, the first
//! 85 % are `train`, and Shenzhen stands before Montgomery. Clinical readings are not read.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    layout::Clues,
    rows::{NewRow, Rows},
};
use crate::{
    data::dataset::Dataset,
    error::{Error, Result},
    random::numpy::RandomState,
};

/// Shenzhen and Montgomery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `ChinaSet_AllFiles/` and `Montgomery/`, either of them, or the PNG files of one.
    pub root: PathBuf,
    /// Name of the set in the column `dataset` and before patient ids.
    #[serde(default = "name")]
    pub name: String,
    /// Files whose names do not end with a label.
    #[serde(default)]
    pub odd_rows: OddRows,
}

fn name() -> String {
    "tuberculosis".into()
}

/// Where each set's images may lie, by set.
const FOLDERS: [&[&str]; 2] = [
    &["ChinaSet_AllFiles/ChinaSet_AllFiles/CXR_png", "ChinaSet_AllFiles/CXR_png"],
    &["Montgomery/MontgomerySet/CXR_png", "MontgomerySet/CXR_png"],
];

const SEED: u32 = 42;
const TRAIN: f64 = 0.85;

pub(super) fn looks_like(clues: &mut Clues) {
    let mut sets = FOLDERS.iter().map(|set| set.iter().find(|f| clues.root().join(f).is_dir()));
    let (shenzhen, montgomery) = (sets.next().flatten(), sets.next().flatten());
    if shenzhen.is_some() || montgomery.is_some() {
        clues.folder(FOLDERS[0], 2.0);
        clues.folder(FOLDERS[1], 2.0);
        return;
    }
    let labelled =
        |name: &String| (name.starts_with("CHNCXR_") || name.starts_with("MCUCXR_")) && label_of(name).is_some();
    let found = ["", "CXR_png"].iter().any(|f| images(&clues.root().join(f)).is_ok_and(|i| i.iter().any(labelled)));
    clues.either(4.0, "ChinaSet_AllFiles/, Montgomery/, or images named CHNCXR_0001_0.png", found);
}

/// The label that a file's name ends with, before its four letters of ending.
fn label_of(file: &str) -> Option<i32> {
    match file.as_bytes()[..file.len() - 4].last() {
        Some(b'0') => Some(0),
        Some(b'1') => Some(1),
        _ => None,
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
        "download both sets from the U.S. National Library of Medicine (lhncbc.nlm.nih.gov); root is the folder with ChinaSet_AllFiles/ and Montgomery/"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let mut folders: Vec<&str> =
            FOLDERS.iter().filter_map(|set| set.iter().find(|f| self.root.join(f).is_dir()).copied()).collect();
        if folders.is_empty() {
            folders = [".", "CXR_png"].into_iter().filter(|f| self.root.join(f).is_dir()).collect();
        }
        let mut rows = Rows::single(&self.name, vec!["normal".into(), "tuberculosis".into()]).or_dicom();
        for folder in folders {
            let path = self.root.join(folder);
            let mut files = images(&path)?;
            RandomState::new(SEED).shuffle(&mut files);
            let train = (files.len() as f64 * TRAIN) as usize;
            rows.table(&path);
            for (i, file) in files.into_iter().enumerate() {
                let Some(class) = label_of(&file) else {
                    skipped.odd(self.odd_rows, "the file name does not end with 0 or 1", &path, 0, &file)?;
                    continue;
                };
                let new = NewRow {
                    patient: Some(file[..file.len() - 4].to_string().into()),
                    image: if folder == "." { file.into() } else { format!("{folder}/{file}").into() },
                    split: Some(if i < train { "train" } else { "test" }),
                    class: Some(class),
                    ..Default::default()
                };
                rows.push(0, new, &[]);
            }
        }
        rows.finish(&self.root, (Missing::Skip, self.odd_rows), skipped, self.obtain())
    }
}

/// Names of the PNG files of a folder, and of DICOM files that have no PNG beside them, in the order of their bytes,
/// as Python sorts them.
fn images(folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name().to_string_lossy().into_owned();
        let dicom = name.ends_with(".dcm") && !folder.join(&name).with_extension("png").exists();
        if (name.ends_with(".png") || dicom) && !name.starts_with('.') {
            files.push(name);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sets_are_shuffled_apart_and_odd_names_counted() {
        let dir = tempfile::tempdir().unwrap();
        for (folder, prefix, n) in [(FOLDERS[0][0], "CHNCXR", 20), (FOLDERS[1][0], "MCUCXR", 10)] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
            for i in 0..n {
                std::fs::write(dir.path().join(folder).join(format!("{prefix}_{i:04}_{}.png", i % 2)), "x").unwrap();
            }
        }
        std::fs::write(dir.path().join(FOLDERS[1][0]).join("Thumbs_x.png"), "x").unwrap();
        let options: Options = serde_json::from_value(serde_json::json!({"root": dir.path()})).unwrap();
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        assert_eq!((d.rows(), skipped.rows()), (30, 1));
        // 17 of 20, and 9 of 11 with the odd one among them.
        assert_eq!(d.split("train").unwrap().rows(), 17 + 8);
        // RandomState(42) on 20 begins with 0, 17, 15 (see the reference numbers).
        let stems: Vec<&str> = d.text("patient").unwrap().iter().flatten().take(3).collect();
        assert_eq!(stems, ["tuberculosis:CHNCXR_0000_0", "tuberculosis:CHNCXR_0017_1", "tuberculosis:CHNCXR_0015_1"]);
        assert_eq!(d.classes().unwrap().value(1), 1);
    }
}
