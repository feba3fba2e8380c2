//! Patients and images on both sides of a line that they must not cross: between splits of one dataset, or
//! between a pre-training source and a transfer target.
//!
//! Images are compared by the digest of their files, which finds copies, and by their perceptual hash
//! ([`phash`]) where they have one, which finds pictures that were turned, brightened or encoded anew. Hashes
//! come with decoded images; a table without them is compared by patients and copies alone.
//!
//! A [`Ledger`] keeps 17 bytes a row (and the hash), so that a table need not fit in memory to be checked.

pub mod near;

use std::collections::{BTreeSet, HashSet};

use arrow::array::{Array, BinaryArray, UInt32Array};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::near::NearIndex;
use super::{
    dataset::Dataset,
    image::phash::{self, Bits},
};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// What to do about leakage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Leakage {
    /// Stop.
    #[default]
    Deny,
    /// Go on, and say so in the record and the report.
    Report,
    /// Do not look.
    Allow,
}

/// What two sides share. `left` is the side that learns, `right` the one that is tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    pub left: String,
    pub right: String,
    /// Patients on both sides.
    pub patients: u64,
    /// Patients of the right side in all.
    pub right_patients: u64,
    /// Rows of the right side whose patient is on the left as well.
    pub right_rows: u64,
    /// Rows of the right side in all.
    pub right_rows_total: u64,
    /// Rows of the right side whose image, byte for byte, is on the left as well.
    pub images: u64,
    /// Further rows of the right side whose image is a near-duplicate of one on the left; `None` where a side
    /// has no perceptual hashes.
    pub near_images: Option<u64>,
    /// Some of what is shared, in the order of the right side.
    pub examples: Vec<String>,
}

impl Overlap {
    pub fn is_empty(&self) -> bool {
        self.shared() == 0
    }

    /// Patients and images that both sides have.
    pub fn shared(&self) -> u64 {
        self.patients + self.images + self.near_images.unwrap_or(0)
    }
}

impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(
            f,
            "{} of {} patients of {} are in {} as well ({} of {} rows), and {} images",
            self.patients,
            self.right_patients,
            self.right,
            self.left,
            self.right_rows,
            self.right_rows_total,
            self.images
        )?;
        if let Some(near) = self.near_images {
            write!(f, ", and {near} near-duplicates")?;
        }
        if !self.examples.is_empty() {
            write!(f, ": {}", self.examples.join(", "))?;
        }
        Ok(())
    }
}

const EXAMPLES: usize = 5;
/// Splits by their number in a ledger; 0 is a row without one.
const SPLITS: [&str; 3] = ["train", "valid", "test"];

/// What leakage needs to know of rows, in their order.
#[derive(Default)]
pub struct Ledger {
    splits: Vec<u8>,
    /// The first 64 bits of a digest; 0 where unknown. Two of a million are the same by chance once in 10⁷ sets.
    patients: Vec<u64>,
    contents: Vec<u64>,
    /// Empty as long as no row has a hash.
    hashes: Vec<Option<Box<[u8]>>>,
    /// Whether splits alone will be compared: rows without one need no hash, those of `train` the upright one.
    within: bool,
}

/// Rows of a ledger that stand on one side.
struct Side<'a> {
    name: &'a str,
    ledger: &'a Ledger,
    rows: Vec<u32>,
}

/// What two sides share, before its rows have names.
pub struct Shared {
    overlap: Overlap,
    examples: Vec<Example>,
}

/// Rows of the right side, and of the left where it matters which.
enum Example {
    Patient(u32),
    Copy(u32),
    Near(u32, u32),
}

/// What a row is called in examples.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub patient: String,
    pub image: String,
}

impl Names {
    pub fn of(d: &Dataset, row: usize) -> Self {
        let text = |column: &str| d.text(column).filter(|c| c.is_valid(row)).map_or("", |c| c.value(row)).to_string();
        Names { patient: text("patient"), image: text("image") }
    }
}

impl Ledger {
    /// For comparing the splits of one table, in less memory.
    pub fn within() -> Self {
        Ledger { within: true, ..Default::default() }
    }

    /// Rows in splits of which there are several, where none of them has a hash: their near-duplicates cannot be found.
    pub fn not_looked_at(&self) -> u64 {
        let of = |split: u8| self.splits.iter().filter(|s| **s == split).count() as u64;
        let rows = [1, 2, 3].map(of);
        let several = rows.iter().filter(|n| **n > 0).count() > 1;
        if several && self.hashes.is_empty() { rows.iter().sum() } else { 0 }
    }

    /// Adds the rows of a table after those that are there.
    pub fn add(&mut self, d: &Dataset) {
        let before = self.splits.len();
        let number = |name: &str| SPLITS.iter().position(|s| *s == name).map_or(0, |at| at as u8 + 1);
        match d.text("split") {
            Some(column) => self.splits.extend(column.iter().map(|s| s.map_or(0, number))),
            None => self.splits.resize(before + d.rows(), 0),
        }
        match d.text("patient") {
            Some(column) => self.patients.extend(column.iter().map(|p| p.map_or(0, |p| short(p.as_bytes())))),
            None => self.patients.resize(before + d.rows(), 0),
        }
        match d.binary("digest") {
            Some(column) => {
                let records = d.integers("record");
                let content = |i: usize| match (column.is_valid(i), record(records, i)) {
                    (false, _) => 0,
                    (true, None) => first(column.value(i)),
                    (true, Some(record)) => short(&[column.value(i), &record.to_le_bytes()].concat()),
                };
                self.contents.extend((0..d.rows()).map(content));
            }
            None => self.contents.resize(before + d.rows(), 0),
        }
        if let Some(column) = d.binary(phash::COLUMN) {
            self.hashes.resize(before, None);
            let splits = &self.splits[before..];
            let needed = |hash: &[u8], split: u8| match split {
                0 if self.within => None,
                1 if self.within => hash.get(..phash::BYTES).map(Into::into),
                _ => Some(hash.into()),
            };
            self.hashes.extend(column.iter().zip(splits).map(|(hash, split)| needed(hash?, *split)));
        } else if !self.hashes.is_empty() {
            self.hashes.resize(before + d.rows(), None);
        }
    }

    pub fn of(d: &Dataset) -> Self {
        let mut ledger = Ledger::default();
        ledger.add(d);
        ledger
    }

    /// Every pair of splits that shares something: train with valid and test, valid with test.
    pub fn across_splits(&self) -> Vec<Shared> {
        let side = |at: usize| {
            let rows = (0..self.splits.len() as u32).filter(|&i| usize::from(self.splits[i as usize]) == at + 1);
            Side { name: SPLITS[at], ledger: self, rows: rows.collect() }
        };
        let sides = [0, 1, 2].map(side);
        let pairs = [(0, 1), (0, 2), (1, 2)];
        pairs.iter().map(|&(a, b)| compare(&sides[a], &sides[b])).filter(|s| !s.overlap.is_empty()).collect()
    }

    /// The same of the one table that was added, each with the names that it goes by there.
    pub fn across_splits_of(&self, d: &Dataset) -> Vec<Overlap> {
        let name = |row: u32| Names::of(d, row as usize);
        self.across_splits().into_iter().map(|s| s.named(name, name)).collect()
    }

    fn hash(&self, row: u32) -> Option<&[u8]> {
        self.hashes.get(row as usize)?.as_deref()
    }
}

impl Side<'_> {
    fn all<'a>(name: &'a str, ledger: &'a Ledger) -> Side<'a> {
        Side { name, ledger, rows: (0..ledger.splits.len() as u32).collect() }
    }

    fn values(&self, of: fn(&Ledger) -> &[u64]) -> HashSet<u64> {
        self.rows.iter().map(|&i| of(self.ledger)[i as usize]).filter(|&v| v != 0).collect()
    }

    fn hashed(&self) -> impl Iterator<Item = (u32, Bits)> + '_ {
        self.rows.iter().filter_map(|&i| Some((i, phash::upright(self.ledger.hash(i)?)?)))
    }
}

impl Shared {
    /// The numbers of rows whose names the examples need: (left, right).
    pub fn rows(&self) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let (mut left, mut right) = (BTreeSet::new(), BTreeSet::new());
        for example in &self.examples {
            match *example {
                Example::Patient(r) | Example::Copy(r) => _ = right.insert(r),
                Example::Near(r, l) => _ = (right.insert(r), left.insert(l)),
            }
        }
        (left, right)
    }

    /// With the examples spelled out.
    pub fn named(mut self, left: impl Fn(u32) -> Names, right: impl Fn(u32) -> Names) -> Overlap {
        let text = |example: &Example| match *example {
            Example::Patient(r) => right(r).patient,
            Example::Copy(r) => right(r).image,
            Example::Near(r, l) => match left(l).image {
                other if other.is_empty() => right(r).image,
                other => format!("{} like {other}", right(r).image),
            },
        };
        self.overlap.examples = self.examples.iter().map(text).collect();
        self.overlap
    }
}

fn compare(left: &Side, right: &Side) -> Shared {
    let mut examples = Vec::new();
    let mut example = |e: Example| {
        if examples.len() < EXAMPLES {
            examples.push(e);
        }
    };
    let ours = left.values(|l| &l.patients);
    let (mut seen, mut patients, mut right_rows) = (HashSet::new(), 0, 0);
    for &row in &right.rows {
        let patient = right.ledger.patients[row as usize];
        if patient == 0 {
            continue;
        }
        let new = seen.insert(patient);
        if ours.contains(&patient) {
            right_rows += 1;
            patients += u64::from(new);
            if new {
                example(Example::Patient(row));
            }
        }
    }
    let copies = left.values(|l| &l.contents);
    let is_copy = |row: u32| copies.contains(&right.ledger.contents[row as usize]);
    let mut images = 0;
    for &row in right.rows.iter().filter(|&&r| is_copy(r)) {
        images += 1;
        example(Example::Copy(row));
    }
    let (rows, bits): (Vec<u32>, Vec<Bits>) = left.hashed().unzip();
    let others: Vec<u32> = right.hashed().map(|(row, _)| row).filter(|&r| !is_copy(r)).collect();
    let mut near_images = (!rows.is_empty() && right.hashed().next().is_some()).then_some(0);
    if near_images.is_some() {
        let index = NearIndex::new(bits);
        let nearest = |&row: &u32| index.nearest(phash::orientations(right.ledger.hash(row)?)).0;
        let found: Vec<_> = others.par_iter().map(nearest).collect();
        for (&row, found) in others.iter().zip(found) {
            if let Some(found) = found {
                near_images = near_images.map(|n| n + 1);
                example(Example::Near(row, rows[found.at as usize]));
            }
        }
    }
    let overlap = Overlap {
        left: left.name.into(),
        right: right.name.into(),
        patients,
        right_patients: seen.len() as u64,
        right_rows,
        right_rows_total: right.rows.len() as u64,
        images,
        near_images,
        examples: Vec::new(),
    };
    Shared { overlap, examples }
}

/// Every pair of splits that shares something: train with valid and test, valid with test.
pub fn across_splits(d: &Dataset) -> Result<Vec<Overlap>> {
    Ok(Ledger::of(d).across_splits_of(d))
}

/// What the right dataset shares with the left one, each with the name it goes by.
pub fn between((left, a): (&str, &Dataset), (right, b): (&str, &Dataset)) -> Overlap {
    let (ours, theirs) = (Ledger::of(a), Ledger::of(b));
    let shared = compare(&Side::all(left, &ours), &Side::all(right, &theirs));
    shared.named(|row| Names::of(a, row as usize), |row| Names::of(b, row as usize))
}

/// What rows must not share with others: their patients, their images, their near-duplicates.
pub struct KeepOut {
    patients: HashSet<u64>,
    contents: HashSet<u64>,
    near: NearIndex,
}

impl KeepOut {
    /// The rows of split `test`, or all rows where there are no splits.
    pub fn tested(others: &Dataset) -> Result<Self> {
        let others = if others.text("split").is_some() { &others.split("test")? } else { others };
        let ledger = Ledger::of(others);
        let side = Side::all("", &ledger);
        Ok(KeepOut {
            patients: side.values(|l| &l.patients),
            contents: side.values(|l| &l.contents),
            near: NearIndex::new(side.hashed().map(|(_, bits)| bits).collect()),
        })
    }

    /// The rows that share nothing.
    pub fn rest(&self, d: &Dataset) -> Result<Dataset> {
        let ledger = Ledger::of(d);
        let shares = |row: usize| {
            let near = || self.near.nearest(phash::orientations(ledger.hash(row as u32)?)).0;
            self.patients.contains(&ledger.patients[row])
                || self.contents.contains(&ledger.contents[row])
                || (!self.near.is_empty() && near().is_some())
        };
        let keep: Vec<u32> = (0..d.rows()).into_par_iter().filter(|&i| !shares(i)).map(|i| i as u32).collect();
        if keep.len() == d.rows() { Ok(d.clone()) } else { d.take(&keep) }
    }
}

/// The first 64 bits of a digest, or of its own digest where it is shorter; never 0, which stands for unknown.
fn first(digest: &[u8]) -> u64 {
    match digest.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes).max(1),
        None => short(digest),
    }
}

/// A text or bytes by 64 bits of its digest.
pub(super) fn short(bytes: &[u8]) -> u64 {
    first(&Digest::of(bytes).0)
}

/// What makes each row's image itself, in 64 bits: the digest of its file and its place there; 0 where unknown.
pub(super) fn contents(d: &Dataset) -> Vec<u64> {
    Ledger::of(d).contents
}

fn record(records: Option<&UInt32Array>, i: usize) -> Option<u32> {
    records.filter(|r| r.is_valid(i)).map(|r| r.value(i))
}

/// The hashes of rows, cut to what the side that is looked up needs.
pub fn upright_hashes(d: &Dataset) -> Option<BinaryArray> {
    Some(d.binary(phash::COLUMN)?.iter().map(|h| h.and_then(|h| h.get(..phash::BYTES))).collect())
}

/// Sentences for the record under `report`, an error under `deny`, nothing under `allow`.
pub fn judge(policy: Leakage, overlaps: &[Overlap]) -> Result<Vec<String>> {
    let sentences: Vec<String> = overlaps.iter().filter(|o| !o.is_empty()).map(Overlap::to_string).collect();
    match policy {
        Leakage::Allow => Ok(Vec::new()),
        Leakage::Report => Ok(sentences),
        Leakage::Deny if sentences.is_empty() => Ok(sentences),
        Leakage::Deny => Err(Error::invalid(format!("leakage: {}", sentences.join("; "))).with_hint(way_out(overlaps))),
    }
}

/// What helps against what was found.
fn way_out(overlaps: &[Overlap]) -> String {
    let any = |shared: fn(&Overlap) -> u64| overlaps.iter().any(|o| shared(o) > 0);
    let mut ways = Vec::new();
    if any(|o| o.patients) {
        ways.push("split by patient");
    }
    if any(|o| o.images) {
        ways.push("drop copies (merge: duplicates: drop)");
    }
    if any(|o| o.near_images.unwrap_or(0)) {
        ways.push("put near-duplicates into a blacklist");
    }
    format!("{}, or set leakage: report to go on all the same", ways.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::{
        dataset::Columns,
        image::phash::tests::{disturbed, picture},
    };

    fn toy(patients: &[&str], splits: &[&str], digests: &[&[u8]]) -> Dataset {
        let d = Columns {
            image: (0..patients.len()).map(|i| format!("{i}.png")).collect(),
            dataset: "toy".into(),
            patient: Some(patients.iter().map(|p| Some(p.to_string())).collect()),
            split: Some(splits.iter().map(|p| Some(p.to_string())).collect()),
            class: Some((vec!["x".into()], vec![Some(0); patients.len()])),
            ..Default::default()
        };
        d.build().unwrap().with_column("digest", Arc::new(BinaryArray::from(digests.to_vec()))).unwrap()
    }

    #[test]
    fn shared_patients_and_copies_are_counted_apart() {
        let d = toy(
            &["a", "b", "a", "a", "c", "d"],
            &["train", "train", "test", "test", "test", "valid"],
            &[b"1", b"2", b"3", b"4", b"2", b"6"],
        );
        let found = across_splits(&d).unwrap();
        assert_eq!(found.len(), 1);
        let o = &found[0];
        assert_eq!((o.left.as_str(), o.right.as_str()), ("train", "test"));
        assert_eq!((o.patients, o.right_patients, o.right_rows, o.right_rows_total, o.images), (1, 2, 2, 3, 1));
        assert_eq!(o.examples, ["a", "4.png"]);
        assert!(judge(Leakage::Deny, &found).unwrap_err().to_string().starts_with("leakage: 1 of 2 patients"));
        assert_eq!(judge(Leakage::Report, &found).unwrap().len(), 1);
        assert!(judge(Leakage::Allow, &found).unwrap().is_empty());
    }

    #[test]
    fn sets_without_patients_share_nothing() {
        let a = toy(&["a"], &["train"], &[b"1"]);
        let b = a.without(|n| n == "patient" || n == "digest").unwrap();
        assert!(between(("a", &a), ("b", &b)).is_empty());
        assert!(judge(Leakage::Deny, &[between(("a", &a), ("b", &b))]).unwrap().is_empty());
    }

    #[test]
    fn near_duplicates_are_found_across_splits_and_kept_out_of_a_source() {
        let hash = |p: &crate::data::image::Pixels| phash::phash(p).unwrap();
        let image = picture(1, 160, 200);
        let hashes = [
            hash(&image),
            hash(&picture(2, 160, 200)),
            hash(&disturbed(&image, 4.0, 1.2, -15.0)),
            hash(&picture(3, 160, 200)),
            None,
        ];
        let splits = ["train", "train", "test", "test", "test"];
        let d = toy(&["a", "b", "c", "d", "e"], &splits, &[b"1", b"2", b"3", b"4", b"5"]);
        let column: BinaryArray = hashes.iter().map(|h| h.as_deref()).collect();
        let d = d.with_column(phash::COLUMN, Arc::new(column)).unwrap();
        let found = across_splits(&d).unwrap();
        assert_eq!((found[0].patients, found[0].images, found[0].near_images), (0, 0, Some(1)));
        assert_eq!(found[0].examples, ["2.png like 0.png"]);
        assert!(judge(Leakage::Deny, &found).unwrap_err().to_string().contains("1 near-duplicates"));

        let train = d.split("train").unwrap();
        let kept = KeepOut::tested(&d).unwrap().rest(&train).unwrap();
        assert_eq!(kept.images().unwrap().iter().flatten().collect::<Vec<_>>(), ["1.png"]);
        // What a model has seen keeps upright bits only, and finds the same.
        let seen = train.with_column(phash::COLUMN, Arc::new(upright_hashes(&train).unwrap())).unwrap();
        assert_eq!(between(("seen", &seen), ("test", &d.split("test").unwrap())).near_images, Some(1));
    }

    #[test]
    fn a_table_in_parts_gives_the_ledger_of_the_whole() {
        let d = toy(&["a", "b", "a"], &["train", "test", "test"], &[b"1", b"1", b"2"]);
        let mut parts = Ledger::default();
        parts.add(&d.take(&[0]).unwrap());
        parts.add(&d.take(&[1, 2]).unwrap());
        let name = |row: u32| Names::of(&d, row as usize);
        let found: Vec<Overlap> = parts.across_splits().into_iter().map(|s| s.named(name, name)).collect();
        assert_eq!(found, across_splits(&d).unwrap());
        assert_eq!((found[0].patients, found[0].images), (1, 1));
    }
}
