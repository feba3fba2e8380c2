//! Leakage as cells meet it: what a test set shares with what was trained on, judged and written down.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use super::Cell;
use crate::{
    data::{
        dataset::Dataset,
        leakage::{self, Leakage, Ledger, Names, Overlap, Shared},
        stream::{ParquetTable, Table},
    },
    error::Result,
};

/// Compares the splits of a table that was written piece by piece, from what was kept of its rows.
pub fn within_file(cell: &Cell, policy: Leakage, mut ledger: Ledger, table: &Path) -> Result<()> {
    if policy == Leakage::Allow {
        return Ok(());
    }
    tell_not_looked_at(cell, &ledger);
    let shared = ledger.across_splits()?;
    drop(ledger);
    let wanted: BTreeSet<u32> = shared.iter().map(Shared::rows).flat_map(|(l, r)| l.into_iter().chain(r)).collect();
    let mut names: HashMap<u32, Names> = HashMap::new();
    if !wanted.is_empty() {
        let table = ParquetTable::open(table, |c| ["image", "patient", "dataset"].contains(&c))?;
        let mut start = 0;
        for piece in table.pieces()? {
            let piece = piece?;
            let end = start + piece.rows() as u32;
            names.extend(wanted.range(start..end).map(|&row| (row, Names::of(&piece, (row - start) as usize))));
            start = end;
        }
    }
    let name = |row: u32| names.get(&row).cloned().unwrap_or_default();
    judge(cell, policy, &shared.into_iter().map(|s| s.named(name, name)).collect::<Vec<_>>())
}

/// Compares the rows that are tested with those that were learned from; names are for people.
pub fn check(cell: &Cell, policy: Leakage, learned: (&str, &Dataset), tested: (&str, &Dataset)) -> Result<()> {
    if policy == Leakage::Allow {
        return Ok(());
    }
    judge(cell, policy, &[leakage::between(learned, tested)?])
}

/// Compares the splits of one dataset.
pub fn within(cell: &Cell, policy: Leakage, rows: &Dataset) -> Result<()> {
    if policy == Leakage::Allow {
        return Ok(());
    }
    let mut ledger = Ledger::new(Some(cell.work));
    ledger.add(rows)?;
    tell_not_looked_at(cell, &ledger);
    judge(cell, policy, &ledger.across_splits_of(rows)?)
}

/// Silence about near-duplicates must not be taken for their absence.
fn tell_not_looked_at(cell: &Cell, ledger: &Ledger) {
    match ledger.not_looked_at() {
        0 => {}
        rows => cell.note(
            "not_looked_at_for_near_duplicates",
            rows,
            "their images are not decoded yet; the images node looks across splits",
        ),
    }
}

/// An error under `deny`, a note for each sentence under `report`.
fn judge(cell: &Cell, policy: Leakage, overlaps: &[Overlap]) -> Result<()> {
    for sentence in leakage::judge(policy, overlaps)? {
        cell.note("leakage", overlaps.iter().map(Overlap::shared).sum(), sentence);
    }
    Ok(())
}
