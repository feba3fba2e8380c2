//! The rows of a dataset while a reader collects them, and the checks that every format shares:
//! paths that stay inside the root, images that exist, ids that are unique.
//!
//! It knows nothing of any format.

use std::{
    collections::{HashMap, HashSet},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use arrow::array::{Array, BooleanArray, StringArray, UInt32Array};
use rayon::prelude::*;

use super::skipped::{Missing, Skipped};
use crate::{
    data::dataset::{Columns, Dataset},
    error::{Error, Result},
};

/// Columns named `uncertain:NAME` say where the label NAME is unknown because the report hedges.
pub const UNCERTAIN: &str = "uncertain:";

/// One row on its way in. Fields left at their default make no column where all rows leave them.
#[derive(Default)]
pub(super) struct NewRow {
    /// Path relative to the root, with forward slashes.
    pub(super) image: String,
    pub(super) record: Option<u32>,
    pub(super) split: Option<&'static str>,
    /// Without the dataset's name; [`Rows`] adds it.
    pub(super) patient: Option<String>,
    pub(super) study: Option<String>,
    pub(super) view: Option<String>,
    pub(super) sex: Option<String>,
    pub(super) age: Option<f32>,
    pub(super) healthy: Option<bool>,
    pub(super) class: Option<i32>,
    /// Where findings were outlined, as JSON.
    pub(super) boxes: Option<String>,
}

/// Rows of one dataset, column by column.
pub(super) struct Rows {
    name: String,
    row: Vec<NewRow>,
    /// (table, line) of each row, for messages.
    origin: Vec<(u32, u64)>,
    tables: Vec<std::path::PathBuf>,
    classes: Option<Vec<String>>,
    findings: Vec<String>,
    /// Row-major: 1 present, 0 absent, -1 uncertain, i8::MIN unknown.
    labels: Vec<i8>,
    /// Whether `x.dcm` stands in where `x.png` or `x.jpg` is not there.
    dicom: bool,
}

/// A label on its way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    Present,
    Absent,
    /// Mentioned, but the report does not commit itself.
    Uncertain,
    Unknown,
}

impl Rows {
    /// For sets with one class an image.
    pub(super) fn single(name: &str, classes: Vec<String>) -> Self {
        Self::new(name, Some(classes), Vec::new())
    }

    /// For sets with many findings an image.
    pub(super) fn multi(name: &str, findings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(name, None, findings.into_iter().map(Into::into).collect())
    }

    fn new(name: &str, classes: Option<Vec<String>>, findings: Vec<String>) -> Self {
        Rows {
            name: name.into(),
            row: Vec::new(),
            origin: Vec::new(),
            tables: Vec::new(),
            classes,
            findings,
            labels: Vec::new(),
            dicom: false,
        }
    }

    /// Takes the DICOM file `x.dcm` where `x.png` or `x.jpg` is not there, as X-ray sets may be laid out.
    pub(super) fn or_dicom(mut self) -> Self {
        self.dicom = true;
        self
    }

    /// Registers the file that the next rows come from.
    pub(super) fn table(&mut self, file: &Path) {
        if self.tables.last().is_none_or(|t| t != file) {
            self.tables.push(file.into());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.row.len()
    }

    /// Adds a row found at a line of the current table; `labels` in the order of the findings.
    pub(super) fn push(&mut self, line: u64, row: NewRow, labels: &[Observation]) {
        debug_assert_eq!(labels.len(), self.findings.len());
        self.origin.push((self.tables.len().saturating_sub(1) as u32, line));
        self.row.push(row);
        self.labels.extend(labels.iter().map(|l| match l {
            Observation::Present => 1,
            Observation::Absent => 0,
            Observation::Uncertain => -1,
            Observation::Unknown => i8::MIN,
        }));
    }

    /// Puts the rows in this order, and gives each its split.
    pub(super) fn arrange(&mut self, order: &[u32], split: impl Fn(usize) -> Option<&'static str>) {
        let wide = self.findings.len();
        let mut row: Vec<Option<NewRow>> = std::mem::take(&mut self.row).into_iter().map(Some).collect();
        let (origin, labels) = (std::mem::take(&mut self.origin), std::mem::take(&mut self.labels));
        for (place, &from) in order.iter().enumerate() {
            let from = from as usize;
            let Some(mut r) = row[from].take() else { continue };
            r.split = split(place);
            self.row.push(r);
            self.origin.push(origin[from]);
            self.labels.extend_from_slice(&labels[from * wide..(from + 1) * wide]);
        }
    }

    fn at(&self, i: usize) -> (&Path, u64) {
        let (table, line) = self.origin[i];
        (self.tables.get(table as usize).map_or(Path::new(""), |t| t.as_path()), line)
    }

    /// Checks paths, ids and files, and builds the dataset. `looks_like` tells where images belong.
    pub(super) fn finish(
        mut self,
        root: &Path,
        missing: Missing,
        skipped: &mut Skipped,
        looks_like: &str,
    ) -> Result<Dataset> {
        let keep = self.kept(root, missing, skipped, looks_like)?;
        self.build(&keep)
    }

    fn kept(&mut self, root: &Path, missing: Missing, skipped: &mut Skipped, looks_like: &str) -> Result<Vec<usize>> {
        let files: Vec<File> = match missing {
            Missing::Keep => vec![File::Present; self.row.len()],
            _ => {
                let inside = Inside::of(root, self.row.iter().map(|r| r.image.as_str()))?;
                let dicom = self.dicom;
                self.row
                    .par_iter_mut()
                    .map(|r| match inside.look(&r.image) {
                        File::Absent if dicom => {
                            let other = Path::new(&r.image).with_extension("dcm").to_string_lossy().into_owned();
                            let found = inside.look(&other);
                            if found != File::Absent {
                                r.image = other;
                            }
                            found
                        }
                        found => found,
                    })
                    .collect()
            }
        };
        let mut seen: HashSet<(&str, Option<u32>)> = HashSet::with_capacity(self.row.len());
        let mut keep = Vec::with_capacity(self.row.len());
        for (i, row) in self.row.iter().enumerate() {
            let (table, line) = self.at(i);
            let wrong = if !stays_inside(&row.image) {
                "the path leaves the root"
            } else if !seen.insert((&row.image, row.record)) {
                skipped.row("the image was listed before", table, line, &row.image);
                continue;
            } else {
                match files[i] {
                    File::Present => {
                        keep.push(i);
                        continue;
                    }
                    File::Absent => "the image file is missing",
                    File::Outside => "the image is a link that leaves the root",
                }
            };
            if missing == Missing::Error {
                let message = format!("{wrong}: {}", row.image);
                return Err(Error::data(table, line, message).with_hint("set missing: skip to count them and go on"));
            }
            skipped.row(wrong, table, line, &row.image);
        }
        if keep.is_empty() {
            let message = match self.row.first() {
                Some(r) => format!("none of the {} images is there; the first is {}", self.row.len(), r.image),
                None => "no row is left".to_string(),
            };
            return Err(Error::data(root, None, message).with_hint(looks_like));
        }
        Ok(keep)
    }

    fn build(mut self, keep: &[usize]) -> Result<Dataset> {
        let name = &self.name;
        let any = |f: &dyn Fn(&NewRow) -> bool| keep.iter().any(|&i| f(&self.row[i]));
        let texts = |get: &dyn Fn(&NewRow) -> Option<String>| -> Option<Vec<Option<String>>> {
            any(&|r| get(r).is_some()).then(|| keep.iter().map(|&i| get(&self.row[i])).collect())
        };
        let prefixed = |t: &Option<String>| t.as_ref().map(|t| format!("{name}:{t}"));
        let wide = self.findings.len();
        let cell = |i: usize, f: usize| self.labels[i * wide + f];
        let column =
            |f: usize| -> Vec<Option<i8>> { keep.iter().map(|&i| Some(cell(i, f)).filter(|l| *l >= 0)).collect() };
        let hedged: Vec<(String, BooleanArray)> = (0..wide)
            .filter(|&f| keep.iter().any(|&i| cell(i, f) == -1))
            .map(|f| {
                (format!("{UNCERTAIN}{}", self.findings[f]), keep.iter().map(|&i| Some(cell(i, f) == -1)).collect())
            })
            .collect();
        let healthy: Option<BooleanArray> =
            any(&|r| r.healthy.is_some()).then(|| keep.iter().map(|&i| self.row[i].healthy).collect());
        let boxes = texts(&|r| r.boxes.clone());
        let labels = (0..wide).map(|f| (self.findings[f].clone(), column(f))).collect();
        let columns = Columns {
            dataset: name.clone(),
            split: texts(&|r| r.split.map(str::to_string)),
            patient: texts(&|r| prefixed(&r.patient)),
            study: texts(&|r| prefixed(&r.study)),
            view: texts(&|r| r.view.clone()),
            sex: texts(&|r| r.sex.clone()),
            age: any(&|r| r.age.is_some()).then(|| keep.iter().map(|&i| self.row[i].age).collect()),
            record: None,
            class: self.classes.take().map(|c| (c, keep.iter().map(|&i| self.row[i].class).collect())),
            labels,
            image: Vec::new(),
        };
        let records: Option<Vec<Option<u32>>> =
            any(&|r| r.record.is_some()).then(|| keep.iter().map(|&i| self.row[i].record).collect());
        let image = keep.iter().map(|&i| std::mem::take(&mut self.row[i].image)).collect();
        let mut dataset = Columns { image, ..columns }.build()?;
        if let Some(records) = records {
            dataset = dataset.with_column("record", Arc::new(UInt32Array::from(records)))?;
        }
        if let Some(healthy) = healthy {
            dataset = dataset.with_column("healthy", Arc::new(healthy))?;
        }
        if let Some(boxes) = boxes {
            dataset = dataset.with_column("boxes", Arc::new(StringArray::from(boxes)))?;
        }
        for (name, column) in hedged {
            dataset = dataset.with_column(&name, Arc::new(column))?;
        }
        Ok(dataset)
    }
}

/// Whether a row's view is among the wanted ones; one that is not is counted as left out.
pub(super) fn in_views(
    views: &Option<Vec<String>>,
    view: Option<&str>,
    skipped: &mut Skipped,
    table: &Path,
    line: u64,
) -> bool {
    match views {
        Some(wanted) if !view.is_some_and(|v| wanted.iter().any(|w| w == v)) => {
            let what = view.map_or("the view is blank".into(), |v| format!("view {v} is not among views"));
            skipped.row(&what, table, line, "");
            false
        }
        _ => true,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum File {
    Present,
    Absent,
    Outside,
}

/// A root with its folders of images, each followed once to where it really is.
struct Inside {
    root: PathBuf,
    /// Folders as the rows name them, and whether they lie inside the root; absent ones are left out.
    folders: HashMap<PathBuf, bool>,
}

impl Inside {
    fn of<'a>(root: &Path, images: impl Iterator<Item = &'a str>) -> Result<Self> {
        let root = root.canonicalize().map_err(Error::io(root))?;
        let mut folders = HashMap::new();
        for image in images {
            let Some(folder) = Path::new(image).parent() else { continue };
            if !folders.contains_key(folder)
                && let Ok(real) = root.join(folder).canonicalize()
            {
                folders.insert(folder.to_path_buf(), real.starts_with(&root));
            }
        }
        Ok(Inside { root, folders })
    }

    /// Links are followed as far as they stay inside the root, of folders as of files.
    fn look(&self, image: &str) -> File {
        match Path::new(image).parent().and_then(|f| self.folders.get(f)) {
            None => return File::Absent,
            Some(false) => return File::Outside,
            Some(true) => {}
        }
        let path = self.root.join(image);
        match path.symlink_metadata() {
            Err(_) => File::Absent,
            Ok(m) if m.is_symlink() => match path.canonicalize() {
                Ok(real) if real.starts_with(&self.root) && real.is_file() => File::Present,
                Ok(_) => File::Outside,
                Err(_) => File::Absent,
            },
            Ok(m) if m.is_file() => File::Present,
            Ok(_) => File::Absent,
        }
    }
}

/// The rows of a finished table whose images are there, by the same rules as [`Rows::finish`]; `table` is the file
/// that is named in messages.
pub(super) fn keep_present(
    d: &Dataset,
    root: &Path,
    table: &Path,
    missing: Missing,
    skipped: &mut Skipped,
) -> Result<Dataset> {
    let mut rows = Rows::multi("", [] as [&str; 0]);
    rows.table(table);
    let records = d.integers("record");
    for (i, image) in d.images()?.iter().enumerate() {
        let record = records.filter(|r| r.is_valid(i)).map(|r| r.value(i));
        rows.push(i as u64 + 1, NewRow { image: image.unwrap_or("").into(), record, ..Default::default() }, &[]);
    }
    let keep = rows.kept(root, missing, skipped, "image paths are relative to root")?;
    d.take(&keep.into_iter().map(|i| i as u32).collect::<Vec<_>>())
}

/// Whether a relative path names something below its root.
fn stays_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(images: &[&str]) -> Rows {
        let mut rows = Rows::multi("toy", ["Edema"]);
        rows.table(Path::new("t.csv"));
        for (i, image) in images.iter().enumerate() {
            let row = NewRow { image: image.to_string(), patient: Some(i.to_string()), ..Default::default() };
            rows.push(i as u64 + 2, row, &[Observation::Uncertain]);
        }
        rows
    }

    #[test]
    fn paths_outside_duplicates_and_missing_files_are_counted_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(dir.path().join("secret.png"), "x").unwrap();
        std::fs::write(root.join("a.png"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret.png"), root.join("link.png")).unwrap();
        std::os::unix::fs::symlink(root.join("a.png"), root.join("inner.png")).unwrap();
        let images =
            ["a.png", "../secret.png", "/etc/passwd", "b.png", "a.png", "link.png", "inner.png", "folder/c.png"];
        let mut skipped = Skipped::default();
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("c.png"), "x").unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join("folder")).unwrap();
        let d = rows(&images).finish(&root, Missing::Skip, &mut skipped, "").unwrap();
        let kept: Vec<&str> = d.images().unwrap().iter().flatten().collect();
        assert_eq!(kept, ["a.png", "inner.png"]);
        assert_eq!(d.text("patient").unwrap().value(1), "toy:6");
        assert_eq!(skipped.of("the path leaves the root"), 2);
        assert_eq!(skipped.of("the image file is missing"), 1);
        assert_eq!(skipped.of("the image was listed before"), 1);
        assert_eq!(skipped.of("the image is a link that leaves the root"), 2);
        assert_eq!(skipped.reasons()[0].examples[0], "t.csv:3: ../secret.png");
        let e = rows(&["b.png"]).finish(&root, Missing::Error, &mut skipped, "").unwrap_err();
        assert_eq!(e.to_string(), "t.csv:2: the image file is missing: b.png");
        let e = rows(&["b.png"]).finish(&root, Missing::Skip, &mut skipped, "images lie in x").unwrap_err();
        assert_eq!(e.hint(), Some("images lie in x"));
    }

    #[test]
    fn a_dicom_file_stands_in_where_asked() {
        let dir = tempfile::tempdir().unwrap();
        for f in ["a.dcm", "b.png", "b.dcm"] {
            std::fs::write(dir.path().join(f), "x").unwrap();
        }
        let read = |r: Rows| r.finish(dir.path(), Missing::Skip, &mut Skipped::default(), "").unwrap();
        let names = |d: Dataset| d.images().unwrap().iter().flatten().map(String::from).collect::<Vec<_>>();
        assert_eq!(names(read(rows(&["a.png", "b.png", "c.png"]).or_dicom())), ["a.dcm", "b.png"]);
        assert_eq!(names(read(rows(&["a.png", "b.png", "c.png"]))), ["b.png"]);
    }

    #[test]
    fn uncertain_is_unknown_and_remembered() {
        let d = rows(&["a.png"]).finish(Path::new(""), Missing::Keep, &mut Skipped::default(), "").unwrap();
        assert_eq!(d.label("Edema").unwrap().null_count(), 1);
        assert!(d.batch().column_by_name("uncertain:Edema").is_some());
    }
}
