//! Whether test images were trained on: patients and image contents that two sides share.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cell,
    trained::{Seen, content},
};
use crate::{
    data::dataset::Dataset,
    error::{Error, Result},
};

/// What a test set that shares patients or images with training does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Leakage {
    /// Ends the cell with an error.
    #[default]
    Deny,
    /// Counts it in the record and the report, and goes on.
    Report,
    /// Does not look.
    Allow,
}

/// Compares `test` with what was trained on; `what` names the two sides for people.
pub fn check(cell: &Cell, policy: Leakage, what: &str, seen: &Seen, test: &Dataset) -> Result<()> {
    if policy == Leakage::Allow {
        return Ok(());
    }
    let patients: BTreeSet<&str> = test
        .text("patient")
        .into_iter()
        .flat_map(|p| p.iter().flatten())
        .filter(|p| seen.patients.contains(*p))
        .collect();
    let images = content(test).into_iter().flatten().filter(|d| seen.digests.contains(d)).count();
    if patients.is_empty() && images == 0 {
        return Ok(());
    }
    let example = patients.first().map_or(String::new(), |p| format!(", for one {p}"));
    let found = format!("{} patients and {images} images are on both sides of {what}{example}", patients.len());
    if policy == Leakage::Deny {
        return Err(Error::invalid(format!("leakage: {found}"))
            .with_hint("split by patient, leave the shared rows out (merge: without), or say leakage: report"));
    }
    cell.note("shared_patients", patients.len() as u64, found.clone());
    cell.note("shared_images", images as u64, found);
    Ok(())
}
