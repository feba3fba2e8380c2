//! Any table of images: a CSV file whose columns are declared. The COVID-19 image collection of ieee8023, which
//! [`super::covid`] reads, would be declared so:
//!
//! ```yaml
//! format: image_table
//! root: covid-chestxray-dataset
//! file: metadata.csv
//! image: filename
//! folder: images
//! keep: { modality: [X-ray] }
//! labels: { findings: { column: finding, separators: ",/", map: { ARDS: null } } }
//! patient: patientid
//! view: view
//! ```
//!
//! It does not guess columns.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    chexpert_labels::{OUT_OF_RANGE, observation},
    rows::{NewRow, Observation, Rows, in_views},
    table::{self, Table},
};
use crate::{
    data::dataset::Dataset,
    error::{Error, Result},
};

/// A CSV file of images with declared columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that the table's and the images' paths are relative to.
    pub root: PathBuf,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name")]
    pub name: String,
    /// The table, relative to the root; `.gz` is unpacked.
    pub file: String,
    /// The character between fields.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// The column of image paths.
    pub image: String,
    /// A folder that image paths are relative to, below the root.
    #[serde(default)]
    pub folder: Option<String>,
    /// What is to be predicted.
    pub labels: Labels,
    /// Rows to keep: column to its allowed values. All where left out.
    #[serde(default)]
    pub keep: BTreeMap<String, Vec<String>>,
    /// The column of patient ids.
    #[serde(default)]
    pub patient: Option<String>,
    /// Stands before patient ids; the set's name where left out. Sets of one source share it, so that their
    /// common patients are seen.
    #[serde(default)]
    pub patient_prefix: Option<String>,
    /// The column of study ids.
    #[serde(default)]
    pub study: Option<String>,
    /// The column of views.
    #[serde(default)]
    pub view: Option<String>,
    /// Views to keep; all where left out.
    #[serde(default)]
    pub views: Option<Vec<String>>,
    /// The column of sexes (`F`, `M`, `female`, `male`).
    #[serde(default)]
    pub sex: Option<String>,
    /// The column of ages in years.
    #[serde(default)]
    pub age: Option<String>,
    /// The column of splits, and which of its values are which.
    #[serde(default)]
    pub split: Option<SplitColumn>,
    /// Rows whose image file does not exist.
    #[serde(default)]
    pub missing: Missing,
    /// Rows that do not fit the table.
    #[serde(default)]
    pub odd_rows: OddRows,
}

/// A column of splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitColumn {
    pub column: String,
    /// Values of the column to splits; where left out, the column's values are the splits' names.
    #[serde(default)]
    pub map: BTreeMap<String, Split>,
}

/// A split's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    Train,
    Valid,
    Test,
}

impl Split {
    fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Valid => "valid",
            Split::Test => "test",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Split::Train, Split::Valid, Split::Test].into_iter().find(|s| s.name() == text)
    }
}

/// What is to be predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Labels {
    /// One class an image, in one column.
    Class(ClassColumn),
    /// Many findings an image, listed in one column. A finding that is not listed is absent.
    Findings(FindingsColumn),
    /// Many findings an image, one column each: 1, 0, -1 (uncertain) or blank (unknown).
    Columns(Vec<String>),
}

/// A column of classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassColumn {
    pub column: String,
    /// Values to class names; null leaves the row out. Values not listed are their own class.
    #[serde(default)]
    pub map: BTreeMap<String, Option<String>>,
    /// The classes in their order; rows of others are left out. All that occur, sorted, where left out.
    #[serde(default)]
    pub classes: Option<Vec<String>>,
}

/// A column of lists of findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingsColumn {
    pub column: String,
    /// The characters between findings; `,` where left out.
    #[serde(default = "separators")]
    pub separators: String,
    /// Written findings to names; null forgets the finding. Findings not listed keep their name.
    #[serde(default)]
    pub map: BTreeMap<String, Option<String>>,
    /// The findings in their order; others are forgotten. All that occur, sorted, where left out.
    #[serde(default)]
    pub names: Option<Vec<String>>,
    /// The value that says that nothing was found.
    #[serde(default = "no_finding")]
    pub healthy: String,
}

fn name() -> String {
    "image_table".into()
}

fn comma() -> char {
    ','
}

fn separators() -> String {
    ",".into()
}

fn no_finding() -> String {
    "No Finding".into()
}

/// A row before the labels that occur are known.
struct Found {
    line: u64,
    row: NewRow<'static>,
    words: Vec<String>,
    observed: Vec<Observation>,
}

/// Any CSV file with a column that names image files; which columns mean what has to be declared.
pub(super) fn looks_like(clues: &mut super::layout::Clues) {
    let tables = super::folder::entries(clues.root()).unwrap_or_default();
    let named = |path: &Path| {
        let Ok(mut table) = Table::open(path, b',', OddRows::Skip) else { return false };
        match table.next(&mut Skipped::default()) {
            Ok(Some(row)) => row.fields().any(super::folder::is_image),
            _ => false,
        }
    };
    let found = tables.iter().find(|(name, folder)| {
        !folder && (name.ends_with(".csv") || name.ends_with(".csv.gz")) && named(&clues.root().join(name))
    });
    let what = match found {
        Some((name, _)) => format!("{name}, whose first row names an image file"),
        None => "a CSV file whose first row names an image file".into(),
    };
    if clues.either(0.5, &what, found.is_some()) {
        clues.either(0.5, "columns declared in the pipeline (file, image, labels)", false);
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
        "root is the folder that file, and the images it lists, are relative to"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let delimiter = u8::try_from(self.delimiter)
            .map_err(|_| Error::invalid(format!("delimiter {:?} is not one byte", self.delimiter)))?;
        let path = table::find(&self.root, &[&self.file], self.obtain())?;
        let table = Table::open(&path, delimiter, self.odd_rows)?;
        let found = self.rows(table, skipped)?;
        let occurring = || -> Vec<String> {
            found.iter().flat_map(|f| f.words.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let mut rows;
        match &self.labels {
            Labels::Class(c) => {
                let classes = c.classes.clone().unwrap_or_else(occurring);
                rows = Rows::single(&self.name, classes.clone()).or_dicom();
                rows.table(&path);
                for f in found {
                    let word = f.words.first().map_or("", String::as_str);
                    let Some(class) = classes.iter().position(|k| k == word) else {
                        skipped.row("the class is not among classes", &path, f.line, word);
                        continue;
                    };
                    rows.push(f.line, NewRow { class: Some(class as i32), ..f.row }, &[]);
                }
            }
            Labels::Findings(l) => {
                let names = l.names.clone().unwrap_or_else(occurring);
                rows = Rows::multi(&self.name, names.clone()).or_dicom();
                rows.table(&path);
                for f in found {
                    let present =
                        |n: &String| if f.words.contains(n) { Observation::Present } else { Observation::Absent };
                    let observed: Vec<Observation> = names.iter().map(present).collect();
                    rows.push(f.line, f.row, &observed);
                }
            }
            Labels::Columns(names) => {
                rows = Rows::multi(&self.name, names).or_dicom();
                rows.table(&path);
                for f in found {
                    rows.push(f.line, f.row, &f.observed);
                }
            }
        }
        let d = rows.finish(
            &self.root,
            (self.missing, self.odd_rows),
            skipped,
            "image paths are relative to root, then folder",
        )?;
        self.prefixed(d)
    }
}

impl Options {
    fn rows(&self, mut table: Table, skipped: &mut Skipped) -> Result<Vec<Found>> {
        let image = table.columns([self.image.as_str()])?[0];
        let optional = |name: &Option<String>| -> Result<Option<usize>> {
            name.as_ref().map(|n| table.columns([n.as_str()]).map(|c| c[0])).transpose()
        };
        let patient = optional(&self.patient)?;
        let study = optional(&self.study)?;
        let view = optional(&self.view)?;
        let sex = optional(&self.sex)?;
        let age = optional(&self.age)?;
        let split = optional(&self.split.as_ref().map(|s| s.column.clone()))?;
        let keep: Vec<(usize, &String, &Vec<String>)> = self
            .keep
            .iter()
            .map(|(column, values)| Ok((table.columns([column.as_str()])?[0], column, values)))
            .collect::<Result<_>>()?;
        let labels = match &self.labels {
            Labels::Class(c) => table.list(&[&c.column])?,
            Labels::Findings(f) => table.list(&[&f.column])?,
            Labels::Columns(names) => table.list(&names.iter().map(String::as_str).collect::<Vec<_>>())?,
        };
        let file = table.file.clone();
        let mut found = Vec::new();
        while let Some(row) = table.next(skipped)? {
            if let Some((_, column, _)) = keep.iter().find(|(at, _, values)| !values.iter().any(|v| v == row.raw(*at)))
            {
                skipped.row(&format!("{column} is not among those kept"), &file, row.line, "");
                continue;
            }
            let view = view.and_then(|at| row.owned(at));
            if !in_views(&self.views, view.as_deref(), skipped, &file, row.line) {
                continue;
            }
            let mut new = NewRow {
                image: match &self.folder {
                    Some(folder) => format!("{}/{}", folder.trim_end_matches('/'), row.raw(image)).into(),
                    None => row.raw(image).to_string().into(),
                },
                patient: patient.and_then(|at| row.owned(at)).map(Into::into),
                study: study.and_then(|at| row.owned(at)).map(Into::into),
                view: view.map(Into::into),
                sex: sex.and_then(|at| row.text(at)).and_then(table::sex),
                age: age.and_then(|at| row.text(at)).and_then(table::years),
                ..Default::default()
            };
            if let (Some(at), Some(rule)) = (split, &self.split) {
                let word = row.raw(at);
                let known = if rule.map.is_empty() { Split::parse(word) } else { rule.map.get(word).copied() };
                let Some(known) = known else {
                    skipped.odd(self.odd_rows, "the split is unknown", &file, row.line, word)?;
                    continue;
                };
                new.split = Some(known.name());
            }
            let (mut words, mut observed) = (Vec::new(), Vec::new());
            match &self.labels {
                Labels::Class(c) => {
                    let Some(word) = row.text(labels[0]) else {
                        skipped.odd(self.odd_rows, "the class is blank", &file, row.line, "")?;
                        continue;
                    };
                    match c.map.get(word) {
                        Some(None) => {
                            skipped.row("the class is mapped to nothing", &file, row.line, word);
                            continue;
                        }
                        Some(Some(name)) => words.push(name.clone()),
                        None => words.push(word.into()),
                    }
                }
                Labels::Findings(f) => {
                    let Some(list) = row.text(labels[0]) else {
                        skipped.odd(self.odd_rows, "the findings are blank", &file, row.line, "")?;
                        continue;
                    };
                    new.healthy = Some(list == f.healthy);
                    let split = list.split(|c| f.separators.contains(c)).map(str::trim);
                    for word in split.filter(|w| !w.is_empty() && *w != f.healthy) {
                        match f.map.get(word) {
                            Some(None) => {}
                            Some(Some(name)) => words.push(name.clone()),
                            None => words.push(word.into()),
                        }
                    }
                }
                Labels::Columns(names) => {
                    let mut wrong = None;
                    for (at, name) in labels.iter().zip(names) {
                        match observation(row.text(*at)) {
                            Ok(o) => observed.push(o),
                            Err(value) => wrong = Some(format!("{name} is {value}")),
                        }
                    }
                    if let Some(detail) = wrong {
                        skipped.odd(self.odd_rows, OUT_OF_RANGE, &file, row.line, &detail)?;
                        continue;
                    }
                }
            }
            found.push(Found { line: row.line, row: new, words, observed });
        }
        Ok(found)
    }

    /// Puts the declared prefix in place of the set's name before patient ids.
    fn prefixed(&self, d: Dataset) -> Result<Dataset> {
        let (Some(prefix), Some(patients)) = (&self.patient_prefix, d.text("patient")) else { return Ok(d) };
        let own = format!("{}:", self.name);
        let renamed: arrow::array::StringArray =
            patients.iter().map(|p| p.map(|p| format!("{prefix}:{}", p.strip_prefix(&own).unwrap_or(p)))).collect();
        d.with_column("patient", std::sync::Arc::new(renamed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
patientid,finding,sex,age,view,modality,filename,set
1,\"COVID-19, ARDS\",F,54.0,PA,X-ray,a.jpg,train
2,No Finding,M,,AP,X-ray,b.jpg,test
3,Pneumonia/Viral/COVID-19,M,30,L,X-ray,c.jpg,train
4,COVID-19,M,30,L,CT,d.jpg,train
5,,M,30,L,X-ray,e.jpg,holdout
";

    fn read(extra: serde_json::Value) -> (Result<Dataset>, Skipped) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("metadata.csv"), TABLE).unwrap();
        let mut json = serde_json::json!({
            "root": dir.path(), "name": "covid", "file": "metadata.csv", "image": "filename", "folder": "images",
            "patient": "patientid", "sex": "sex", "age": "age", "view": "view", "missing": "keep",
        });
        json.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let options: Options = serde_json::from_value(json).unwrap();
        let mut skipped = Skipped::default();
        (options.read(&mut skipped), skipped)
    }

    #[test]
    fn findings_are_lists_and_unlisted_ones_absent() {
        let (d, skipped) = read(serde_json::json!({
            "keep": {"modality": ["X-ray"]}, "patient_prefix": "cohen",
            "labels": {"findings": {"column": "finding", "separators": ",/", "map": {"Viral": null}}},
        }));
        let d = d.unwrap();
        assert_eq!(d.task().names(), ["ARDS", "COVID-19", "Pneumonia"]);
        assert_eq!(d.label("COVID-19").unwrap().values(), &[1, 0, 1]);
        assert_eq!(d.label("ARDS").unwrap().values(), &[1, 0, 0]);
        assert_eq!(d.text("patient").unwrap().value(0), "cohen:1");
        assert_eq!(d.images().unwrap().value(0), "images/a.jpg");
        assert_eq!(skipped.of("modality is not among those kept"), 1);
        assert_eq!(skipped.of("the findings are blank"), 1);
    }

    #[test]
    fn classes_can_be_mapped_and_splits_read() {
        let (d, skipped) = read(serde_json::json!({
            "split": {"column": "set"},
            "labels": {"class": {"column": "finding", "classes": ["No Finding", "covid"],
                "map": {"COVID-19, ARDS": "covid", "COVID-19": "covid"}}},
        }));
        let d = d.unwrap();
        assert_eq!(d.classes().unwrap().values(), &[1, 0, 1]);
        assert_eq!(d.text("split").unwrap().value(1), "test");
        assert_eq!(skipped.of("the class is not among classes"), 1);
        assert_eq!(skipped.of("the split is unknown"), 1);
    }

    #[test]
    fn a_declared_column_that_is_not_there_is_named() {
        let (d, _) = read(serde_json::json!({"study": "study", "labels": {"columns": ["finding"]}}));
        assert!(d.unwrap_err().to_string().ends_with("metadata.csv:1: missing column study"));
        let (d, skipped) = read(serde_json::json!({"labels": {"columns": ["finding"]}}));
        assert_eq!(d.unwrap().rows(), 1);
        assert_eq!(skipped.of(OUT_OF_RANGE), 4);
    }
}
