//! The Oxford-IIIT Pets (Parkhi et al. 2012): `annotations/trainval.txt`, `annotations/test.txt` and
//! `images/Abyssinian_1.jpg`. The class is the file name up to its last underscore, as in the published
//! reader; segmentations and boxes are not read.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    layout::Clues,
    rows::{NewRow, Rows},
    table,
};
use crate::{data::dataset::Dataset, error::Result};

/// Oxford-IIIT Pets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `annotations/` and `images/`.
    pub root: PathBuf,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name")]
    pub name: String,
    /// Rows whose image file does not exist.
    #[serde(default)]
    pub missing: Missing,
    /// Lines that do not fit the list.
    #[serde(default)]
    pub odd_rows: OddRows,
}

fn name() -> String {
    "pets".into()
}

pub(super) fn looks_like(clues: &mut Clues) {
    clues.file(&["annotations/trainval.txt"], 2.0);
    clues.file(&["annotations/test.txt"], 2.0);
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
        "download images.tar.gz and annotations.tar.gz from www.robots.ox.ac.uk/~vgg/data/pets; root is the folder with images/ and annotations/"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let mut lines = Vec::new();
        for (list, split) in [("annotations/trainval.txt", "train"), ("annotations/test.txt", "test")] {
            let path = table::find(&self.root, &[list], self.obtain())?;
            let text = table::text(&path)?;
            for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                match (fields.len(), fields[0].rsplit_once('_')) {
                    (4, Some((breed, _))) => {
                        lines.push((path.clone(), i as u64 + 1, split, fields[0].to_string(), breed.to_string()));
                    }
                    _ => skipped.odd(
                        self.odd_rows,
                        "the line is not FILE and three numbers",
                        &path,
                        i as u64 + 1,
                        line,
                    )?,
                }
            }
        }
        let classes: Vec<String> = lines.iter().map(|l| l.4.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let mut rows = Rows::single(&self.name, classes.clone());
        for (path, line, split, file, breed) in lines {
            rows.table(&path);
            let new = NewRow {
                image: format!("images/{file}.jpg").into(),
                split: Some(split),
                class: classes.binary_search(&breed).ok().map(|c| c as i32),
                ..Default::default()
            };
            rows.push(line, new, &[]);
        }
        rows.finish(
            &self.root,
            (self.missing, self.odd_rows),
            skipped,
            "images belong in images/Abyssinian_1.jpg below the root",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breeds_are_sorted_by_bytes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("annotations")).unwrap();
        let list = |name: &str, text: &str| std::fs::write(dir.path().join("annotations").join(name), text).unwrap();
        list("trainval.txt", "#Image CLASS-ID SPECIES BREED\namerican_bulldog_100 1 2 1\nBengal_2 2 1 1\nodd\n");
        list("test.txt", "american_bulldog_3 1 2 1\n");
        let options: Options =
            serde_json::from_value(serde_json::json!({"root": dir.path(), "missing": "keep"})).unwrap();
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        assert_eq!(d.task().names(), ["Bengal", "american_bulldog"]);
        assert_eq!(d.classes().unwrap().values(), &[1, 0, 1]);
        assert_eq!(skipped.reasons()[0].examples, ["trainval.txt:4: odd"]);
    }
}
