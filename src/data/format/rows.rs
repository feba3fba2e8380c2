//! The rows of a dataset while a reader collects them, and the checks that every format shares:
//! paths that stay inside the root, images that exist, ids that are unique.
//!
//! It knows nothing of any format.

use std::{
    borrow::Cow,
    fmt::Write,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, BooleanBuilder, Float32Builder, Int8Array, Int32Builder, StringArray,
        StringBuilder, UInt32Array, UInt32Builder,
    },
    buffer::{BooleanBuffer, NullBuffer},
};
use rayon::prelude::*;

use super::skipped::{Missing, OddRows, Skipped};
use crate::{
    data::{
        dataset::{Dataset, Task, label_column},
        hashed::{QuickMap, QuickSet, all_differ},
    },
    error::{Error, Result},
};

/// Columns named `uncertain:NAME` say where the label NAME is unknown because the report hedges.
pub const UNCERTAIN: &str = "uncertain:";

/// One row on its way in. Fields left at their default make no column where all rows leave them.
#[derive(Default)]
pub(super) struct NewRow<'a> {
    /// Path relative to the root, with forward slashes.
    pub(super) image: Cow<'a, str>,
    pub(super) record: Option<u32>,
    pub(super) split: Option<&'static str>,
    /// Without the dataset's name; [`Rows`] adds it.
    pub(super) patient: Option<Cow<'a, str>>,
    pub(super) study: Option<Cow<'a, str>>,
    pub(super) view: Option<Cow<'a, str>>,
    pub(super) sex: Option<&'static str>,
    pub(super) age: Option<f32>,
    pub(super) healthy: Option<bool>,
    pub(super) class: Option<i32>,
    /// Where findings were outlined, as JSON.
    pub(super) boxes: Option<String>,
}

/// Rows of one dataset, column by column: each text goes to the end of its column and is not held by itself.
pub(super) struct Rows {
    name: String,
    /// The name and a colon.
    prefix: String,
    image: StringBuilder,
    record: UInt32Builder,
    split: Vec<Option<&'static str>>,
    patient: StringBuilder,
    study: StringBuilder,
    view: StringBuilder,
    sex: StringBuilder,
    age: Float32Builder,
    healthy: BooleanBuilder,
    boxes: StringBuilder,
    class: Int32Builder,
    /// Which row comes at each place, once they are arranged.
    order: Option<Vec<u32>>,
    /// (table, line) of each row, for messages.
    origin: Vec<(u32, u64)>,
    tables: Vec<PathBuf>,
    classes: Option<Vec<String>>,
    findings: Vec<String>,
    /// Row-major: 1 present, 0 absent, -1 uncertain, i8::MIN unknown.
    labels: Vec<i8>,
    /// Whether `x.dcm` stands in where `x.png` or `x.jpg` is not there.
    dicom: bool,
    /// Bytes that the texts of a column may have, and the row that would have gone beyond.
    most_text: usize,
    too_much: Option<u64>,
}

/// Offsets in a column are 32 bits wide.
const MOST_TEXT: usize = i32::MAX as usize;

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
            prefix: format!("{name}:"),
            image: StringBuilder::new(),
            record: UInt32Builder::new(),
            split: Vec::new(),
            patient: StringBuilder::new(),
            study: StringBuilder::new(),
            view: StringBuilder::new(),
            sex: StringBuilder::new(),
            age: Float32Builder::new(),
            healthy: BooleanBuilder::new(),
            boxes: StringBuilder::new(),
            class: Int32Builder::new(),
            order: None,
            origin: Vec::new(),
            tables: Vec::new(),
            classes,
            findings,
            labels: Vec::new(),
            dicom: false,
            most_text: MOST_TEXT,
            too_much: None,
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
        self.origin.len()
    }

    /// Adds a row found at a line of the current table; `labels` in the order of the findings.
    pub(super) fn push(&mut self, line: u64, row: NewRow<'_>, labels: &[Observation]) {
        debug_assert_eq!(labels.len(), self.findings.len());
        if self.too_much.is_some() || !self.has_room(&row) {
            self.too_much.get_or_insert(line);
            return;
        }
        self.origin.push((self.tables.len().saturating_sub(1) as u32, line));
        self.image.append_value(row.image);
        self.record.append_option(row.record);
        self.split.push(row.split);
        for (column, value) in [(&mut self.patient, row.patient), (&mut self.study, row.study)] {
            match value {
                Some(value) => {
                    // What is written before a value is ended belongs to it. Writing to memory does not fail.
                    let _ = column.write_str(&self.prefix);
                    column.append_value(value);
                }
                None => column.append_null(),
            }
        }
        self.view.append_option(row.view);
        self.sex.append_option(row.sex);
        self.age.append_option(row.age);
        self.healthy.append_option(row.healthy);
        self.boxes.append_option(row.boxes);
        self.class.append_option(row.class);
        self.labels.extend(labels.iter().map(|l| match l {
            Observation::Present => 1,
            Observation::Absent => 0,
            Observation::Uncertain => -1,
            Observation::Unknown => i8::MIN,
        }));
    }

    /// Whether the texts of a row still go into their columns.
    fn has_room(&self, row: &NewRow<'_>) -> bool {
        let length = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| self.prefix.len() + text.len());
        let texts = [
            (&self.image, row.image.len()),
            (&self.patient, length(&row.patient)),
            (&self.study, length(&row.study)),
            (&self.boxes, row.boxes.as_ref().map_or(0, String::len)),
        ];
        texts.into_iter().all(|(column, more)| column.values_slice().len() + more <= self.most_text)
    }

    /// Puts the rows in this order, and gives each its split.
    pub(super) fn arrange(&mut self, order: &[u32], split: impl Fn(usize) -> Option<&'static str>) {
        for (place, &row) in order.iter().enumerate() {
            self.split[row as usize] = split(place);
        }
        self.order = Some(order.into());
    }

    fn at(&self, i: usize) -> (&Path, u64) {
        let (table, line) = self.origin[i];
        (self.tables.get(table as usize).map_or(Path::new(""), |t| t.as_path()), line)
    }

    /// Checks paths, ids and files, and builds the dataset. An image that was listed before is an odd row.
    /// `looks_like` tells where images belong.
    pub(super) fn finish(
        mut self,
        root: &Path,
        policy: (Missing, OddRows),
        skipped: &mut Skipped,
        looks_like: &str,
    ) -> Result<Dataset> {
        if let Some(line) = self.too_much {
            let table = self.tables.last().map_or(root, PathBuf::as_path);
            let message = "one column of the rows up to here has more than 2 GiB of text";
            return Err(Error::data(table, line, message).with_hint("read the set in parts, and merge them"));
        }
        let (images, keep) = self.kept(root, policy, skipped, looks_like)?;
        self.build(images, keep)
    }

    /// The images, and the rows to keep in their order.
    fn kept(
        &mut self,
        root: &Path,
        (missing, odd_rows): (Missing, OddRows),
        skipped: &mut Skipped,
        looks_like: &str,
    ) -> Result<(StringArray, Vec<u32>)> {
        let (mut images, records) = (self.image.finish(), self.record.finish_cloned());
        let files: Vec<File> = match missing {
            Missing::Keep => {
                skipped.images_not_looked_for();
                vec![File::Present; images.len()]
            }
            _ => {
                let inside = Inside::of(root, images.iter().flatten())?;
                let look = |i: usize| match inside.look(images.value(i)) {
                    File::Absent if self.dicom => {
                        let other = Path::new(images.value(i)).with_extension("dcm").to_string_lossy().into_owned();
                        match inside.look(&other) {
                            File::Absent => (File::Absent, None),
                            found => (found, Some(other)),
                        }
                    }
                    found => (found, None),
                };
                let looked: Vec<(File, Option<String>)> = (0..images.len()).into_par_iter().map(look).collect();
                if looked.iter().any(|(_, other)| other.is_some()) {
                    let names = images.iter().zip(&looked).map(|(name, (_, other))| other.as_deref().or(name));
                    images = names.collect();
                }
                looked.into_iter().map(|(file, _)| file).collect()
            }
        };
        let record = |i: usize| records.is_valid(i).then(|| records.value(i));
        let each = |i: usize| (images.value(i), record(i));
        // Where all images differ, as they nearly always do, none need be remembered.
        let mut seen = (!all_differ((0..images.len()).map(each))).then(QuickSet::default);
        // In the table's order, which memory is read fastest in.
        let inside: Vec<bool> = images.iter().map(|image| image.is_some_and(stays_inside)).collect();
        let order = self.order.take().unwrap_or_else(|| (0..images.len() as u32).collect());
        let mut keep = Vec::with_capacity(images.len());
        for row in order {
            let i = row as usize;
            let wrong = if !inside[i] {
                "the path leaves the root"
            } else if seen.as_mut().is_some_and(|seen| !seen.insert(each(i))) {
                let (table, line) = self.at(i);
                skipped.odd(odd_rows, "the image was listed before", table, line, images.value(i))?;
                continue;
            } else {
                match files[i] {
                    File::Present => {
                        keep.push(row);
                        continue;
                    }
                    File::Absent => "the image file is missing",
                    File::Outside => "the image is a link that leaves the root",
                }
            };
            let (image, (table, line)) = (images.value(i), self.at(i));
            if missing == Missing::Error {
                let message = format!("{wrong}: {image}");
                return Err(Error::data(table, line, message).with_hint("set missing: skip to count them and go on"));
            }
            skipped.row(wrong, table, line, image);
        }
        if keep.is_empty() {
            let message = match images.iter().flatten().next() {
                Some(first) => format!("none of the {} images is there; the first is {first}", images.len()),
                None => "no row is left".to_string(),
            };
            return Err(Error::data(root, None, message).with_hint(looks_like));
        }
        drop(seen);
        Ok((images, keep))
    }

    fn build(mut self, images: StringArray, keep: Vec<u32>) -> Result<Dataset> {
        let in_order = keep.len() == images.len() && keep.iter().enumerate().all(|(i, &row)| row as usize == i);
        let rows = UInt32Array::from(keep);
        let read: [ArrayRef; 10] = [
            Arc::new(images),
            Arc::new(self.patient.finish()),
            Arc::new(self.study.finish()),
            Arc::new(self.view.finish()),
            Arc::new(self.sex.finish()),
            Arc::new(self.age.finish()),
            Arc::new(self.class.finish()),
            Arc::new(self.record.finish()),
            Arc::new(self.healthy.finish()),
            Arc::new(self.boxes.finish()),
        ];
        // Side by side: of a large set this takes as long as a quarter of its reading.
        let kept = || match in_order {
            true => Ok(read.to_vec()),
            false => read.par_iter().map(|column| arrow::compute::take(column, &rows, None)).collect(),
        };
        let splits = || rows.values().iter().map(|&row| self.split[row as usize]).collect::<StringArray>();
        let (kept, (splits, (labels, hedged))) =
            rayon::join(kept, || rayon::join(splits, || self.findings(rows.values())));
        let kept: std::result::Result<[ArrayRef; 10], _> = kept?.try_into();
        let [image, patient, study, view, sex, age, class, record, healthy, boxes] =
            kept.map_err(|_| Error::invalid("bug: columns were lost"))?;
        let names = StringArray::new_repeated(self.name.as_str(), rows.len());
        let mut columns: Vec<(String, ArrayRef)> = vec![("image".into(), image), ("dataset".into(), Arc::new(names))];
        // A column that no row fills is not there.
        let filled = |(_, column): &(&str, ArrayRef)| column.null_count() < column.len();
        let named = |(name, column): (&str, ArrayRef)| (name.to_string(), column);
        let splits: ArrayRef = Arc::new(splits);
        let described =
            [("split", splits), ("patient", patient), ("study", study), ("view", view), ("sex", sex), ("age", age)];
        columns.extend(described.into_iter().filter(filled).map(named));
        let task = match self.classes.take() {
            Some(names) => {
                columns.push(("class".into(), class));
                Task::Single(names)
            }
            None => Task::Multi(self.findings.clone()),
        };
        columns.extend(self.findings.iter().map(|name| label_column(name)).zip(labels));
        let further = [("record", record), ("healthy", healthy), ("boxes", boxes)];
        columns.extend(further.into_iter().filter(filled).map(named));
        columns.extend(hedged);
        Dataset::from_columns(columns, task)
    }

    /// A column for each finding, and one for each that is uncertain somewhere.
    fn findings(&self, keep: &[u32]) -> (Vec<ArrayRef>, Vec<(String, ArrayRef)>) {
        let wide = self.findings.len();
        let mut columns = vec![Vec::with_capacity(keep.len()); wide];
        let at_once = wide.div_ceil(rayon::current_num_threads()).max(1);
        columns.par_chunks_mut(at_once).enumerate().for_each(|(part, columns)| {
            // So few rows at a time that they are still near when the next column takes its part of them.
            for rows in keep.chunks(1 << 10) {
                for (k, column) in (part * at_once..).zip(columns.iter_mut()) {
                    column.extend(rows.iter().map(|&row| self.labels[row as usize * wide + k]));
                }
            }
        });
        let is_hedged = |column: &&Vec<i8>| column.contains(&-1);
        let hedged = self.findings.iter().zip(&columns).filter(|(_, c)| is_hedged(c)).map(|(name, column)| {
            let there = BooleanArray::from(BooleanBuffer::collect_bool(column.len(), |i| column[i] == -1));
            (format!("{UNCERTAIN}{name}"), Arc::new(there) as ArrayRef)
        });
        let hedged = hedged.collect();
        let label = |mut column: Vec<i8>| {
            let unknown = column.iter().any(|&l| l < 0);
            let known = unknown.then(|| NullBuffer::new(BooleanBuffer::collect_bool(column.len(), |i| column[i] >= 0)));
            column.iter_mut().for_each(|l| *l = (*l).max(0));
            Arc::new(Int8Array::new(column.into(), known)) as ArrayRef
        };
        (columns.into_par_iter().map(label).collect(), hedged)
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
    folders: QuickMap<PathBuf, bool>,
}

impl Inside {
    fn of<'a>(root: &Path, images: impl Iterator<Item = &'a str>) -> Result<Self> {
        let root = root.canonicalize().map_err(Error::io(root))?;
        let mut folders = QuickMap::default();
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
    policy: (Missing, OddRows),
    skipped: &mut Skipped,
) -> Result<Dataset> {
    let mut rows = Rows::multi("", [] as [&str; 0]);
    rows.table(table);
    let records = d.integers("record");
    for (i, image) in d.images()?.iter().enumerate() {
        let record = records.filter(|r| r.is_valid(i)).map(|r| r.value(i));
        rows.push(i as u64 + 1, NewRow { image: image.unwrap_or("").into(), record, ..Default::default() }, &[]);
    }
    let (_, keep) = rows.kept(root, policy, skipped, "image paths are relative to root")?;
    d.take(&keep)
}

/// Whether a relative path names something below its root.
fn stays_inside(path: &str) -> bool {
    // Nearly every path: nothing in it can lead out.
    if !path.is_empty() && !path.starts_with('/') && !path.contains("..") {
        return true;
    }
    !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(images: &[&str]) -> Rows {
        let mut rows = Rows::multi("toy", ["Edema"]);
        rows.table(Path::new("t.csv"));
        for (i, image) in images.iter().enumerate() {
            let row = NewRow { image: (*image).into(), patient: Some(i.to_string().into()), ..Default::default() };
            rows.push(i as u64 + 2, row, &[Observation::Uncertain]);
        }
        rows
    }

    #[test]
    fn more_text_than_a_column_holds_is_an_error_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut few = rows(&["abcd.png", "efgh.png"]);
        few.most_text = 20;
        for line in [7, 8] {
            few.push(line, NewRow { image: "ijkl.png".into(), ..Default::default() }, &[Observation::Absent]);
        }
        let policy = (Missing::Keep, OddRows::Error);
        let e = few.finish(dir.path(), policy, &mut Skipped::default(), "").unwrap_err();
        assert!(e.to_string().starts_with("t.csv:7: one column"), "{e}");
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
        let d = rows(&images).finish(&root, (Missing::Skip, OddRows::Skip), &mut skipped, "").unwrap();
        let kept: Vec<&str> = d.images().unwrap().iter().flatten().collect();
        assert_eq!(kept, ["a.png", "inner.png"]);
        assert_eq!(d.text("patient").unwrap().value(1), "toy:6");
        assert_eq!(skipped.of("the path leaves the root"), 2);
        assert_eq!(skipped.of("the image file is missing"), 1);
        assert_eq!(skipped.of("the image was listed before"), 1);
        assert_eq!(skipped.of("the image is a link that leaves the root"), 2);
        assert_eq!(skipped.reasons()[0].examples[0], "t.csv:3: ../secret.png");
        let e = rows(&["b.png"]).finish(&root, (Missing::Error, OddRows::Skip), &mut skipped, "").unwrap_err();
        assert_eq!(e.to_string(), "t.csv:2: the image file is missing: b.png");
        let e = rows(&["b.png"])
            .finish(&root, (Missing::Skip, OddRows::Skip), &mut skipped, "images lie in x")
            .unwrap_err();
        assert_eq!(e.hint(), Some("images lie in x"));
        let e = rows(&["a.png", "a.png"]).finish(&root, (Missing::Skip, OddRows::Error), &mut skipped, "").unwrap_err();
        assert_eq!(e.to_string(), "t.csv:3: the image was listed before: a.png");
        assert!(!skipped.images_unseen());
    }

    #[test]
    fn a_dicom_file_stands_in_where_asked() {
        let dir = tempfile::tempdir().unwrap();
        for f in ["a.dcm", "b.png", "b.dcm"] {
            std::fs::write(dir.path().join(f), "x").unwrap();
        }
        let read = |r: Rows| r.finish(dir.path(), (Missing::Skip, OddRows::Skip), &mut Skipped::default(), "").unwrap();
        let names = |d: Dataset| d.images().unwrap().iter().flatten().map(String::from).collect::<Vec<_>>();
        assert_eq!(names(read(rows(&["a.png", "b.png", "c.png"]).or_dicom())), ["a.dcm", "b.png"]);
        assert_eq!(names(read(rows(&["a.png", "b.png", "c.png"]))), ["b.png"]);
    }

    #[test]
    fn uncertain_is_unknown_and_remembered() {
        let d = rows(&["a.png"])
            .finish(Path::new(""), (Missing::Keep, OddRows::Skip), &mut Skipped::default(), "")
            .unwrap();
        assert_eq!(d.label("Edema").unwrap().null_count(), 1);
        assert!(d.batch().column_by_name("uncertain:Edema").is_some());
    }
}
