//! COVIDx CXR-2 (Wang, Lin, Wong 2020): `train.txt`, `test.txt` (and `val.txt` of later versions), images
//! in the folder of the same name.
//!
//! A line is `PATIENT FILE LABEL SOURCE`, with spaces between. Some patients' ids hold a space, so that
//! 943 lines of the published list have five fields: label and source are the last two, and the file is
//! what exists. Patients are unique within their source only, and named after it (`nih:61`), so that a
//! patient shared with another set of that source is seen.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    layout::Clues,
    rows::{NewRow, Rows},
    table,
};
use crate::{data::dataset::Dataset, error::Result};

/// COVIDx CXR-2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `train.txt`, `test.txt`, `train/` and `test/`.
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
    "covidx".into()
}

/// Whether a list's first line is of the kind that this reader takes.
fn is_list(path: &Path) -> bool {
    use std::io::{BufRead, Read as _};
    let Ok(file) = table::open(path) else { return false };
    let mut line = String::new();
    let read = std::io::BufReader::new(file.take(4096)).read_line(&mut line);
    read.is_ok() && Entry::parse(&line, |_| false).is_some_and(|e| ["negative", "positive"].contains(&e.label))
}

pub(super) fn looks_like(clues: &mut Clues) {
    for (list, folder) in [("train.txt", "train"), ("test.txt", "test")] {
        let found = table::find(clues.root(), &[list], "").is_ok_and(|path| is_list(&path));
        clues.either(2.0, &format!("{list} of PATIENT FILE LABEL SOURCE"), found);
        clues.folder(&[folder], 1.0);
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
        "download from kaggle.com/andyczhao/covidx-cxr2; root is the folder with train.txt, test.txt, train/ and test/"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let mut rows = Rows::single(&self.name, vec!["negative".into(), "positive".into()]).or_dicom();
        for (folder, split) in [("train", "train"), ("val", "valid"), ("test", "test")] {
            let list = format!("{folder}.txt");
            let path = match table::find(&self.root, &[&list], self.obtain()) {
                Err(_) if folder == "val" => continue,
                found => found?,
            };
            let text = table::text(&path)?;
            rows.table(&path);
            for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
                let number = i as u64 + 1;
                let Some(entry) = Entry::parse(line, |file| self.root.join(folder).join(file).is_file()) else {
                    skipped.odd(self.odd_rows, "the line is not PATIENT FILE LABEL SOURCE", &path, number, line)?;
                    continue;
                };
                let class = match entry.label {
                    "negative" => 0,
                    "positive" => 1,
                    other => {
                        skipped.odd(self.odd_rows, "the label is not negative or positive", &path, number, other)?;
                        continue;
                    }
                };
                let new = NewRow {
                    image: format!("{folder}/{}", entry.file).into(),
                    split: Some(split),
                    patient: Some(format!("{}:{}", entry.source, entry.patient).into()),
                    class: Some(class),
                    ..Default::default()
                };
                rows.push(number, new, &[]);
            }
        }
        let d = rows.finish(
            &self.root,
            (self.missing, self.odd_rows),
            skipped,
            "images belong in train/ and test/ below the root",
        )?;
        unprefixed(&d, &self.name)
    }
}

/// Patients carry their source's name in place of the set's.
fn unprefixed(d: &Dataset, name: &str) -> Result<Dataset> {
    let Some(patients) = d.text("patient") else { return Ok(d.clone()) };
    let prefix = format!("{name}:");
    let bare: arrow::array::StringArray =
        patients.iter().map(|p| p.map(|p| p.strip_prefix(&prefix).unwrap_or(p))).collect();
    d.with_column("patient", std::sync::Arc::new(bare))
}

#[derive(Debug, PartialEq)]
struct Entry<'a> {
    patient: &'a str,
    file: &'a str,
    label: &'a str,
    source: &'a str,
}

impl<'a> Entry<'a> {
    /// `exists` settles where the patient ends and the file begins, where there is a choice.
    fn parse(line: &'a str, exists: impl Fn(&str) -> bool) -> Option<Self> {
        let (rest, source) = line.trim().rsplit_once(' ')?;
        let (rest, label) = rest.trim_end().rsplit_once(' ')?;
        let rest = rest.trim_end();
        let cuts: Vec<(&str, &str)> =
            rest.match_indices(' ').map(|(i, _)| (rest[..i].trim(), rest[i + 1..].trim())).collect();
        // The shortest file is the likeliest where none exists.
        let (patient, file) = cuts.iter().rev().find(|(_, f)| exists(f)).or(cuts.last())?;
        Some(Entry { patient, file, label, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_and_five_fields() {
        let four = Entry::parse("5 ARDSSevere.png negative cohen", |_| false).unwrap();
        assert_eq!(four, Entry { patient: "5", file: "ARDSSevere.png", label: "negative", source: "cohen" });
        let id = Entry::parse("COVID 12 COVID-12.png positive sirm", |f| f == "COVID-12.png").unwrap();
        assert_eq!((id.patient, id.file), ("COVID 12", "COVID-12.png"));
        let file = Entry::parse("12 COVID (12).png positive sirm", |f| f == "COVID (12).png").unwrap();
        assert_eq!((file.patient, file.file), ("12", "COVID (12).png"));
        assert_eq!(Entry::parse("a b c", |_| true), None);
    }

    #[test]
    fn patients_are_named_after_their_source_and_lists_may_be_packed() {
        let dir = tempfile::tempdir().unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut packed, b"61 a.png negative nih\n9 b.png perhaps nih\nnonsense\n").unwrap();
        std::fs::write(dir.path().join("train.txt.gz"), packed.finish().unwrap()).unwrap();
        std::fs::write(dir.path().join("test.txt"), "COVID 1 c.png positive sirm\n").unwrap();
        let options: Options =
            serde_json::from_value(serde_json::json!({"root": dir.path(), "missing": "keep"})).unwrap();
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        let patients: Vec<&str> = d.text("patient").unwrap().iter().flatten().collect();
        assert_eq!(patients, ["nih:61", "sirm:COVID 1"]);
        assert_eq!(d.classes().unwrap().values(), &[0, 1]);
        assert_eq!(skipped.rows(), 2);
        assert_eq!(skipped.reasons()[1].examples, ["train.txt.gz:3: nonsense"]);
    }
}
