//! Patients and images on both sides of a line that they must not cross: between splits of one dataset, or
//! between a pre-training source and a transfer target.
//!
//! Images are compared by the digest of their files, which finds copies, and by their perceptual hash
//! ([`phash`]) where they have one, which finds pictures that were turned, brightened or encoded anew. Hashes
//! come with decoded images; a table without them is compared by patients and copies alone.
//!
//! A [`Ledger`] sorts what rows may share on disk and keeps their hashes alone, so that a table need not fit in memory to
//! be checked.

mod hashes;
mod ledger;
pub mod near;

pub use ledger::Ledger;

use std::collections::BTreeSet;

use arrow::array::{Array, BinaryArray, UInt32Array};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::near::NearIndex;
use super::{dataset::Dataset, hashed::QuickSet, image::phash};
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

/// Every pair of splits that shares something: train with valid and test, valid with test.
pub fn across_splits(d: &Dataset) -> Result<Vec<Overlap>> {
    let mut ledger = Ledger::new(None);
    ledger.add(d)?;
    ledger.across_splits_of(d)
}

/// What the right dataset shares with the left one, each with the name it goes by.
pub fn between((left, a): (&str, &Dataset), (right, b): (&str, &Dataset)) -> Result<Overlap> {
    let shared = Ledger::between((left, a), (right, b))?;
    let rows = a.rows();
    Ok(shared.named(|row| Names::of(a, row as usize), |row| Names::of(b, row as usize - rows)))
}

/// What rows must not share with others: their patients, their images, their near-duplicates.
pub struct KeepOut {
    patients: QuickSet<[u64; 2]>,
    contents: QuickSet<[u64; 2]>,
    near: NearIndex,
}

impl KeepOut {
    /// The rows of split `test`, or all rows where there are no splits.
    pub fn tested(others: &Dataset) -> Result<Self> {
        let others = if others.text("split").is_some() { &others.split("test")? } else { others };
        Ok(KeepOut {
            patients: patients(others).flatten().collect(),
            contents: contents(others).flatten().collect(),
            near: NearIndex::new(hashes(others).flatten().filter_map(phash::upright).collect()),
        })
    }

    /// The rows that share nothing.
    pub fn rest(&self, d: &Dataset) -> Result<Dataset> {
        let known: Vec<bool> = patients(d)
            .zip(contents(d))
            .map(|(p, c)| {
                p.is_some_and(|p| self.patients.contains(&p)) || c.is_some_and(|c| self.contents.contains(&c))
            })
            .collect();
        let hashes: Vec<Option<&[u8]>> = if self.near.is_empty() { vec![None; d.rows()] } else { hashes(d).collect() };
        let near = |row: usize| hashes[row].is_some_and(|h| self.near.nearest(phash::orientations(h)).0.is_some());
        let shares = |row: usize| known[row] || near(row);
        let keep: Vec<u32> = (0..d.rows()).into_par_iter().filter(|&i| !shares(i)).map(|i| i as u32).collect();
        if keep.len() == d.rows() { Ok(d.clone()) } else { d.take(&keep) }
    }
}

/// Text or bytes by 128 bits of their digest, which no two of a table share by chance.
pub(super) fn wide(bytes: &[u8]) -> [u64; 2] {
    first(&Digest::of(bytes).0).unwrap_or_default()
}

/// The first 128 bits of a digest; `None` where it is shorter.
fn first(digest: &[u8]) -> Option<[u64; 2]> {
    let (words, _) = digest.as_chunks();
    Some([u64::from_le_bytes(*words.first()?), u64::from_le_bytes(*words.get(1)?)])
}

fn patients(d: &Dataset) -> impl Iterator<Item = Option<[u64; 2]>> + '_ {
    let column = d.text("patient");
    (0..d.rows()).map(move |i| Some(wide(column.filter(|c| c.is_valid(i))?.value(i).as_bytes())))
}

/// What makes each row's image itself: the digest of its file and its place there; `None` where unknown.
pub(super) fn contents(d: &Dataset) -> impl Iterator<Item = Option<[u64; 2]>> + '_ {
    let (column, records) = (d.binary("digest"), d.integers("record"));
    (0..d.rows()).map(move |i| {
        let digest = column.filter(|c| c.is_valid(i))?.value(i);
        Some(match record(records, i) {
            None => first(digest).unwrap_or_else(|| wide(digest)),
            Some(record) => wide(&[digest, &record.to_le_bytes()].concat()),
        })
    })
}

fn hashes(d: &Dataset) -> impl Iterator<Item = Option<&[u8]>> + '_ {
    let column = d.binary(phash::COLUMN);
    (0..d.rows()).map(move |i| Some(column.filter(|c| c.is_valid(i))?.value(i)))
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
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::{
        dataset::Columns,
        image::phash::tests::{disturbed, picture},
    };

    pub(super) fn toy(patients: &[&str], splits: &[&str], digests: &[&[u8]]) -> Dataset {
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
        let shared = between(("a", &a), ("b", &b)).unwrap();
        assert!(shared.is_empty());
        assert!(judge(Leakage::Deny, &[shared]).unwrap().is_empty());
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
        let shared = between(("seen", &seen), ("test", &d.split("test").unwrap())).unwrap();
        assert_eq!((shared.near_images, shared.examples), (Some(1), vec!["2.png like 0.png".to_string()]));
    }
}
