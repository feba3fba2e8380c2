//! Patients and images on both sides of a line that they must not cross: between splits of one dataset, or
//! between a pre-training source and a transfer target.
//!
//! Images are compared by the digest of their files: exact copies only. Near-duplicates are not found here.

use std::{collections::HashSet, hash::Hash};

use arrow::array::Array;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use crate::error::{Error, Result};

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
    /// Some of what is shared, in the order of the right side.
    pub examples: Vec<String>,
}

impl Overlap {
    pub fn is_empty(&self) -> bool {
        self.patients == 0 && self.images == 0
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
        if !self.examples.is_empty() {
            write!(f, ": {}", self.examples.join(", "))?;
        }
        Ok(())
    }
}

const EXAMPLES: usize = 5;

/// Every pair of splits that shares something: train with valid and test, valid with test.
pub fn across_splits(d: &Dataset) -> Result<Vec<Overlap>> {
    let parts = ["train", "valid", "test"].map(|s| (s, d.split(s)));
    let mut found = Vec::new();
    for (i, (left, a)) in parts.iter().enumerate() {
        for (right, b) in &parts[i + 1..] {
            let (a, b) = (a.as_ref().map_err(clone)?, b.as_ref().map_err(clone)?);
            found.extend(Some(between((left, a), (right, b))).filter(|o| !o.is_empty()));
        }
    }
    Ok(found)
}

fn clone(e: &Error) -> Error {
    Error::invalid(e.to_string())
}

/// What the right dataset shares with the left one, each with the name it goes by.
pub fn between((left, a): (&str, &Dataset), (right, b): (&str, &Dataset)) -> Overlap {
    let mut examples = Vec::new();
    let (mut patients, mut right_patients, mut right_rows) = (0, 0, 0);
    if let Some(theirs) = b.text("patient") {
        let ours: HashSet<&str> = a.text("patient").map(|p| p.iter().flatten().collect()).unwrap_or_default();
        let mut seen = HashSet::new();
        for patient in theirs.iter().flatten() {
            let new = seen.insert(patient);
            right_patients += u64::from(new);
            if ours.contains(patient) {
                right_rows += 1;
                patients += u64::from(new);
                example(&mut examples, new, || patient.to_string());
            }
        }
    }
    let mut images = 0;
    if let (Some(ours), Some(theirs), Ok(names)) = (a.binary("digest"), b.binary("digest"), b.images()) {
        let (our_records, their_records) = (a.integers("record"), b.integers("record"));
        let ours = keys(ours, our_records);
        for i in (0..theirs.len()).filter(|&i| theirs.is_valid(i)) {
            if ours.contains(&(theirs.value(i), record(their_records, i))) {
                images += 1;
                example(&mut examples, true, || names.value(i).to_string());
            }
        }
    }
    Overlap {
        left: left.into(),
        right: right.into(),
        patients,
        right_patients,
        right_rows,
        right_rows_total: b.rows() as u64,
        images,
        examples,
    }
}

fn example(examples: &mut Vec<String>, new: bool, text: impl FnOnce() -> String) {
    if new && examples.len() < EXAMPLES {
        examples.push(text());
    }
}

/// A packed file has one digest for all its images; the record tells them apart.
fn keys<'a>(
    digests: &'a arrow::array::BinaryArray,
    records: Option<&arrow::array::UInt32Array>,
) -> HashSet<(&'a [u8], Option<u32>)> {
    (0..digests.len()).filter(|&i| digests.is_valid(i)).map(|i| (digests.value(i), record(records, i))).collect()
}

pub(super) fn record(records: Option<&arrow::array::UInt32Array>, i: usize) -> Option<u32> {
    records.filter(|r| r.is_valid(i)).map(|r| r.value(i))
}

/// Sentences for the record under `report`, an error under `deny`, nothing under `allow`.
pub fn judge(policy: Leakage, overlaps: &[Overlap]) -> Result<Vec<String>> {
    let sentences: Vec<String> = overlaps.iter().filter(|o| !o.is_empty()).map(Overlap::to_string).collect();
    match policy {
        Leakage::Allow => Ok(Vec::new()),
        Leakage::Report => Ok(sentences),
        Leakage::Deny if sentences.is_empty() => Ok(sentences),
        Leakage::Deny => Err(Error::invalid(format!("leakage: {}", sentences.join("; ")))
            .with_hint("split by patient, drop duplicates, or set leakage: report to go on all the same")),
    }
}

/// Rows whose value was there before, by any key; `None` keys are never duplicates.
pub(super) fn repeats<K: Hash + Eq>(keys: impl Iterator<Item = Option<K>>) -> Vec<bool> {
    let mut seen = HashSet::new();
    keys.map(|k| k.is_some_and(|k| !seen.insert(k))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Columns;
    use arrow::array::BinaryArray;
    use std::sync::Arc;

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
}
