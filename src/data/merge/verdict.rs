//! Rules that cannot be decided row by row: the first row of a patient, the first of equal images, the split of a
//! patient.
//!
//! The sources are read once ahead. Who is whose is sorted on disk ([`Runs`]), what comes of it is a bit a row and two
//! limits a source, and the second reading follows that. So the memory that these rules take does not grow with the
//! patients and images there are, and what they decide does not depend on the pieces that rows come in.

use std::path::Path;

use crate::{
    data::{
        leakage,
        runs::Runs,
        split::{self, PatientCut, SplitRule},
    },
    error::{Error, Result},
};

use super::{Duplicates, MergeSpec, Source, named::Named};

/// What was decided of a source.
pub(super) struct Verdict {
    kept: Bits,
    pub cut: Option<PatientCut>,
}

impl Verdict {
    /// Those of `count` rows from `start` on that are kept, counted from 0.
    pub fn rows(&self, start: usize, count: usize) -> Vec<u32> {
        (0..count as u32).filter(|i| self.kept.has(start as u32 + i)).collect()
    }
}

/// One bit a row.
struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, row: u32) -> bool {
        self.0[row as usize / 64] >> (row % 64) & 1 == 1
    }

    fn set(&mut self, row: u32, to: bool) {
        let word = &mut self.0[row as usize / 64];
        *word = *word & !(1 << (row % 64)) | u64::from(to) << (row % 64);
    }
}

/// Rows of all sources by something that they may share, to keep the first of those that do.
struct Firsts(Runs<3>);

impl Firsts {
    fn add(&mut self, [a, b]: [u64; 2], source: usize, row: u32) -> Result<()> {
        self.0.push([a, b, (source as u64) << 32 | u64::from(row)])
    }

    /// Drops all but the first of those that are kept so far; for each source how many, and the first of them.
    fn keep(mut self, kept: &mut [Bits]) -> Result<Vec<(u64, u32)>> {
        let mut dropped = vec![(0, u32::MAX); kept.len()];
        let mut last = None;
        for record in self.0.sorted()? {
            let [a, b, at] = record?;
            let (source, row) = ((at >> 32) as usize, at as u32);
            if !kept[source].has(row) {
                continue;
            }
            if last.replace([a, b]) == Some([a, b]) {
                kept[source].set(row, false);
                let (count, first) = &mut dropped[source];
                *count += 1;
                *first = row.min(*first);
            }
        }
        Ok(dropped)
    }
}

/// The number of a row in its source, while its piece is filtered.
const ROW: &str = "merge:row";

/// Whether some rule has to see all rows first.
pub(super) fn asked_for(spec: &MergeSpec) -> bool {
    spec.unique_patients || spec.duplicates != Duplicates::Keep || matches!(spec.split, SplitRule::Patient(_))
}

/// Reads all sources and decides what is kept of each.
///
/// # Errors
/// Equal images under `duplicates: error`.
pub(super) fn decide(
    sources: &mut [Source],
    names: &[String],
    spec: &MergeSpec,
    lists: &mut [Named],
    scratch: Option<&Path>,
) -> Result<Vec<Verdict>> {
    let (mut patients, mut images) = (Firsts(Runs::new(scratch)), Firsts(Runs::new(scratch)));
    let mut drawn = split::Patients::new(scratch);
    let mut kept = Vec::with_capacity(sources.len());
    for (at, source) in sources.iter_mut().enumerate() {
        let table = source.table;
        let (mut start, mut bits) = (0, Bits(vec![0; table.rows().div_ceil(64)]));
        for piece in table.pieces()? {
            let piece = piece?;
            let numbers = arrow::array::UInt32Array::from_iter_values(start..start + piece.rows() as u32);
            start += piece.rows() as u32;
            let piece = piece.with_column(ROW, std::sync::Arc::new(numbers))?;
            let piece = source.map_labels(piece)?;
            let piece = source.filter(piece, lists)?;
            let lost = || Error::invalid("bug: a merge's rows lost their numbers");
            let rows = piece.integers(ROW).ok_or_else(lost)?.values().clone();
            rows.iter().for_each(|&row| bits.set(row, true));
            if let (true, Some(column)) = (spec.unique_patients, piece.text("patient")) {
                for (patient, &row) in column.iter().zip(rows.iter()) {
                    if let Some(patient) = patient {
                        patients.add(leakage::wide(patient.as_bytes()), at, row)?;
                    }
                }
            }
            if spec.duplicates != Duplicates::Keep {
                for (content, &row) in leakage::contents(&piece).zip(rows.iter()) {
                    if let Some(content) = content {
                        images.add(content, at, row)?;
                    }
                }
            }
            if let SplitRule::Patient(ratio) = &spec.split {
                let (picked, _) = source.picked(&piece, names)?;
                let rows = picked.integers(ROW).ok_or_else(lost)?.values().clone();
                drawn.add(&picked, ratio, at, rows.iter().copied())?;
            }
        }
        kept.push(bits);
    }
    // A source that lost nothing may not have the column, and then does not count the rule.
    for (source, (count, _)) in sources.iter_mut().zip(patients.keep(&mut kept)?).filter(|(_, (n, _))| *n > 0) {
        source.note("unique_patients", count);
    }
    for (source, (count, first)) in sources.iter_mut().zip(images.keep(&mut kept)?).filter(|(_, (n, _))| *n > 0) {
        if spec.duplicates == Duplicates::Error {
            let text =
                format!("{}: {count} images are copies of others; the first is {}", source.name, source.image(first)?);
            return Err(Error::invalid(text).with_hint("set duplicates: drop to keep one of each"));
        }
        source.note("duplicates", count);
    }
    let mut cuts = match &spec.split {
        SplitRule::Patient(ratio) => drawn.cut(ratio, kept.len(), |source, row| kept[source].has(row))?,
        _ => Vec::new(),
    }
    .into_iter();
    Ok(kept.into_iter().map(|kept| Verdict { kept, cut: cuts.next() }).collect())
}
