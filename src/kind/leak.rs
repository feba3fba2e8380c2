//! Leakage as cells meet it: what a test set shares with what was trained on, judged and written down.

use std::collections::HashSet;

use arrow::array::Array;

use super::{Cell, trained::content};
use crate::{
    data::{
        dataset::Dataset,
        leakage::{self, Leakage, Overlap},
    },
    error::Result,
};

/// Compares the rows that are tested with those that were learned from; names are for people.
pub fn check(cell: &Cell, policy: Leakage, learned: (&str, &Dataset), tested: (&str, &Dataset)) -> Result<()> {
    judge(cell, policy, &[leakage::between(learned, tested)])
}

/// Compares the splits of one dataset.
pub fn within(cell: &Cell, policy: Leakage, rows: &Dataset) -> Result<()> {
    judge(cell, policy, &leakage::across_splits(rows)?)
}

fn judge(cell: &Cell, policy: Leakage, overlaps: &[Overlap]) -> Result<()> {
    for sentence in leakage::judge(policy, overlaps)? {
        cell.note("leakage", overlaps.iter().map(|o| o.patients + o.images).sum(), sentence);
    }
    Ok(())
}

/// The rows whose patient and image are not among those that `others` is tested on: its split `test`, or all of
/// its rows where it has no splits.
pub fn without(rows: &Dataset, others: &Dataset) -> Result<Dataset> {
    let others = if others.text("split").is_some() { &others.split("test")? } else { others };
    let patients: HashSet<&str> = others.text("patient").into_iter().flat_map(|p| p.iter().flatten()).collect();
    let images: HashSet<Vec<u8>> = content(others).into_iter().flatten().collect();
    let own_patients = rows.text("patient");
    let own_images = content(rows);
    let keep: Vec<u32> = (0..rows.rows())
        .filter(|&i| {
            let patient = own_patients.filter(|p| p.is_valid(i)).map(|p| p.value(i));
            !patient.is_some_and(|p| patients.contains(p))
                && !own_images[i].as_ref().is_some_and(|d| images.contains(d))
        })
        .map(|i| i as u32)
        .collect();
    if keep.len() == rows.rows() { Ok(rows.clone()) } else { rows.take(&keep) }
}
