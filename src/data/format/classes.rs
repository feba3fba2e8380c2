//! Images in packed files whose class is a number or a name, as rows: which classes there are, and what is out of range.
//!
//! | labels | classes |
//! |---|---|
//! | any, with declared names | the names; a number is a place among them |
//! | texts | the texts that occur, sorted |
//! | numbers alone | `0` to the largest that occurs |

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use super::{
    Missing, OddRows, Skipped,
    rows::{NewRow, Rows},
    shards::{self, MOST_CLASSES},
};
use crate::{data::dataset::Dataset, error::Result};

/// What stands for the class in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// Counted from 0.
    Number(i64),
    Name(String),
}

/// One image of a packed file.
pub(super) struct Entry {
    /// The file, relative to the root.
    pub(super) file: String,
    /// The image's place there, from 0; messages count from 1.
    pub(super) record: u32,
    pub(super) split: Option<&'static str>,
    pub(super) label: Label,
}

/// A set of packed files while its labels become classes.
pub(super) struct Set<'a> {
    /// Name of the set.
    pub(super) name: &'a str,
    pub(super) root: &'a Path,
    /// Names of the classes, where they are declared.
    pub(super) names: Option<Vec<String>>,
    /// What the file calls the first class, for messages.
    pub(super) first_label: i64,
    /// What a label out of range does.
    pub(super) odd_rows: OddRows,
    pub(super) obtain: &'static str,
}

impl Set<'_> {
    /// The rows in the order of `entries`.
    ///
    /// # Errors
    /// A label out of range where odd rows are errors; what [`Rows::finish`] finds.
    pub(super) fn rows(self, entries: &[Entry], skipped: &mut Skipped) -> Result<Dataset> {
        let classes = self.names.clone().unwrap_or_else(|| occurring(entries));
        let place: HashMap<&str, usize> = classes.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
        let mut rows = Rows::single(self.name, classes.clone());
        for Entry { file, record, split, label } in entries {
            let (path, line) = (self.root.join(file), u64::from(*record) + 1);
            let class = match label {
                Label::Number(n) => usize::try_from(*n).ok().filter(|&n| n < classes.len()),
                Label::Name(n) => place.get(n.as_str()).copied(),
            };
            let Some(class) = class else {
                let told = match label {
                    Label::Number(n) => n.saturating_add(self.first_label).to_string(),
                    Label::Name(n) => n.clone(),
                };
                skipped.odd(self.odd_rows, "the label is out of range", &path, line, &told)?;
                continue;
            };
            rows.table(&path);
            let class = Some(class as i32);
            let new = NewRow {
                image: file.as_str().into(),
                record: Some(*record),
                split: *split,
                class,
                ..Default::default()
            };
            rows.push(line, new, &[]);
        }
        rows.finish(self.root, (Missing::Skip, self.odd_rows), skipped, self.obtain)
    }
}

/// The classes of labels without declared names.
fn occurring(entries: &[Entry]) -> Vec<String> {
    let (mut names, mut classes) = (BTreeSet::new(), 0);
    for entry in entries {
        match &entry.label {
            Label::Name(name) => _ = names.insert(name.clone()),
            Label::Number(n) if (0..MOST_CLASSES).contains(n) => classes = classes.max(*n as usize + 1),
            Label::Number(_) => {}
        }
    }
    if names.is_empty() { shards::numbered(classes) } else { names.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &[Label], names: Option<&[&str]>, odd_rows: OddRows) -> (Result<Dataset>, Skipped) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.pack"), b"x").unwrap();
        let entry = |(i, label): (usize, &Label)| Entry {
            file: "a.pack".into(),
            record: i as u32,
            split: Some("train"),
            label: label.clone(),
        };
        let entries: Vec<Entry> = labels.iter().enumerate().map(entry).collect();
        let names = names.map(|n| n.iter().map(|n| n.to_string()).collect());
        let set = Set { name: "s", root: dir.path(), names, first_label: 1, odd_rows, obtain: "ask" };
        let mut skipped = Skipped::default();
        (set.rows(&entries, &mut skipped), skipped)
    }

    fn names(list: &[&str]) -> Vec<Label> {
        list.iter().map(|n| Label::Name(n.to_string())).collect()
    }

    #[test]
    fn classes_are_declared_or_what_occurs() {
        let (d, _) = read(&names(&["b", "a", "b"]), None, OddRows::Error);
        let d = d.unwrap();
        assert_eq!(
            (d.task().names(), d.classes().unwrap().values().as_ref()),
            (&["a".into(), "b".into()][..], &[1, 0, 1][..])
        );
        let (d, _) = read(&[Label::Number(2), Label::Number(0)], None, OddRows::Error);
        let d = d.unwrap();
        assert_eq!((d.task().names().len(), d.classes().unwrap().values().as_ref()), (3, &[2, 0][..]));
        let (d, _) = read(&[Label::Number(1), Label::Name("cat".into())], Some(&["cat", "dog"]), OddRows::Error);
        assert_eq!(d.unwrap().classes().unwrap().values(), &[1, 0]);
    }

    #[test]
    fn labels_out_of_range_are_counted_by_their_own_number_or_refused() {
        // A damaged label must not become millions of classes.
        let wild = [Label::Number(0), Label::Number(MOST_CLASSES), Label::Number(-1), Label::Number(i64::MAX)];
        let (d, skipped) = read(&wild, None, OddRows::Skip);
        assert_eq!((d.unwrap().rows(), skipped.of("the label is out of range")), (1, 3));
        assert_eq!(skipped.reasons()[0].examples[1], "a.pack:3: 0", "told as the file counts, from 1");
        let (d, _) = read(&names(&["cat", "cow"]), Some(&["cat"]), OddRows::Error);
        assert!(d.unwrap_err().to_string().ends_with("a.pack:2: the label is out of range: cow"));
    }
}
