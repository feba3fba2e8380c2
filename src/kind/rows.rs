//! Datasets as artifacts: `table.parquet`, and the shards that travel with it where pixels are ready.
//!
//! A dataset whose table has the columns `shard` and `slot` carries its shards. Taking rows of it gives
//! another table over the same shards, so that pixels are never copied.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use arrow::array::{Array, ArrayRef, UInt32Array};

use super::{Cell, Input};
use crate::{
    data::{
        dataset::Dataset,
        image::ImageShards,
        stream::{ParquetTable, Table, TableWriter},
    },
    error::{Error, Result},
    store::artifact::{Artifact, ArtifactType, FileRef},
};

pub const TABLE: &str = "table.parquet";
/// What a record's `measured` calls the rows of the dataset that it made: estimates of time follow it.
pub const ROWS: &str = "rows";

/// The table of an input; `bytes` only where asked for.
pub fn read(cell: &Cell, input: &Input, with_bytes: bool) -> Result<Dataset> {
    Dataset::read_parquet(&cell.file(input, TABLE)?, with_bytes)
}

/// The table of an input, to be read in pieces.
pub fn table(cell: &Cell, input: &Input, with_bytes: bool) -> Result<ParquetTable> {
    ParquetTable::open(&cell.file(input, TABLE)?, |column| with_bytes || column != "bytes")
}

/// The shards of an artifact in the order that the table counts them.
pub fn shard_files(artifact: &Artifact) -> Vec<FileRef> {
    artifact.files.iter().filter(|f| f.name.starts_with("shard-")).cloned().collect()
}

/// Maps the shards of an input; `None` where its images are not decoded yet.
pub fn shards(cell: &Cell, input: &Input) -> Result<Option<ImageShards>> {
    let files = shard_files(&input.artifact);
    if files.is_empty() {
        return Ok(None);
    }
    let paths = files.iter().map(|f| cell.store.local(&f.digest)).collect::<Result<Vec<_>>>()?;
    ImageShards::open(&paths).map(Some)
}

/// Publishes a table together with those of `shards` that its rows lie in, counted anew from 0.
pub fn publish(cell: &Cell, output: &str, kind: ArtifactType, rows: &Dataset, shards: &[FileRef]) -> Result<()> {
    cell.measure(ROWS, rows.rows());
    let (rows, mut files) = keep_used(rows, shards)?;
    let path = cell.work.join(format!("{output}.{TABLE}"));
    rows.write_parquet(&path)?;
    let (digest, bytes) = cell.store.put_file(&path)?;
    files.push(FileRef { name: TABLE.into(), digest, bytes });
    cell.publish_refs(output, kind, files)
}

/// A table on its way out, piece by piece, with the shards that its rows turn out to lie in.
pub struct Writer {
    table: TableWriter,
    used: BTreeSet<u32>,
    rows: u64,
}

impl Writer {
    pub fn new(cell: &Cell, output: &str) -> Self {
        Writer { table: TableWriter::new(cell.work.join(format!("{output}.{TABLE}"))), used: BTreeSet::new(), rows: 0 }
    }

    pub fn append(&mut self, piece: &Dataset) -> Result<()> {
        self.rows += piece.rows() as u64;
        if let Some(column) = piece.integers("shard") {
            self.used.extend(column.iter().flatten());
        }
        self.table.append(piece)
    }

    /// The file, to be read again before it is published.
    pub fn finish(self) -> Result<Written> {
        Ok(Written { path: self.table.finish()?, used: self.used, rows: self.rows })
    }
}

/// A table that was written and is not published yet.
pub struct Written {
    pub path: PathBuf,
    used: BTreeSet<u32>,
    rows: u64,
}

impl Written {
    /// Publishes it as [`publish`] does.
    pub fn publish(mut self, cell: &Cell, output: &str, kind: ArtifactType, shards: &[FileRef]) -> Result<()> {
        cell.measure(ROWS, self.rows);
        let mut files = Vec::new();
        if !shards.is_empty() && !self.used.is_empty() {
            let (used, renumbered) = used_shards(self.used, shards)?;
            files = used;
            if files.len() < shards.len() {
                let table = ParquetTable::open(&self.path, |_| true)?;
                let mut writer = TableWriter::new(cell.work.join(format!("{output}.renumbered.{TABLE}")));
                for piece in table.pieces()? {
                    writer.append(&renumber(&piece?, &renumbered)?)?;
                }
                self.path = writer.finish()?;
            }
        }
        let (digest, bytes) = cell.store.put_file(&self.path)?;
        files.push(FileRef { name: TABLE.into(), digest, bytes });
        cell.publish_refs(output, kind, files)
    }
}

/// The shards that are used, and the new number of each.
fn used_shards(used: BTreeSet<u32>, shards: &[FileRef]) -> Result<(Vec<FileRef>, BTreeMap<u32, u32>)> {
    let (mut files, mut renumbered) = (Vec::with_capacity(used.len()), BTreeMap::new());
    for (new, old) in used.into_iter().enumerate() {
        let file = shards.get(old as usize).ok_or_else(|| {
            Error::invalid(format!("the table speaks of shard {old}, the artifact has {}", shards.len()))
        })?;
        renumbered.insert(old, new as u32);
        files.push(FileRef { name: crate::data::image::shard_name(new), ..file.clone() });
    }
    Ok((files, renumbered))
}

fn renumber(rows: &Dataset, renumbered: &BTreeMap<u32, u32>) -> Result<Dataset> {
    let Some(column) = rows.integers("shard") else { return Ok(rows.clone()) };
    let column: UInt32Array = column.iter().map(|s| s.and_then(|s| renumbered.get(&s).copied())).collect();
    rows.with_column("shard", Arc::new(column) as ArrayRef)
}

fn keep_used(rows: &Dataset, shards: &[FileRef]) -> Result<(Dataset, Vec<FileRef>)> {
    let Some(column) = rows.integers("shard").filter(|_| !shards.is_empty()) else {
        return Ok((rows.clone(), Vec::new()));
    };
    let (files, renumbered) = used_shards(column.iter().flatten().collect(), shards)?;
    Ok((renumber(rows, &renumbered)?, files))
}

/// Several datasets that all carry shards: their shards one after the other, and the first index of each.
pub fn joined_shards(inputs: &[Input]) -> (Vec<FileRef>, Vec<u32>) {
    let (mut all, mut starts) = (Vec::new(), Vec::new());
    for input in inputs {
        starts.push(all.len() as u32);
        all.extend(shard_files(&input.artifact));
    }
    (all, starts)
}

/// The same rows with `by` added to every shard index.
pub fn shift_shards(rows: Dataset, by: u32) -> Result<Dataset> {
    match rows.integers("shard") {
        Some(column) if by > 0 => {
            let shifted: UInt32Array = column.iter().map(|s| s.map(|s| s + by)).collect();
            rows.with_column("shard", Arc::new(shifted))
        }
        _ => Ok(rows),
    }
}

/// Places of all rows in their shards; every row must have one.
pub fn places(rows: &Dataset) -> Result<Vec<(u32, u32)>> {
    let (Some(shard), Some(slot)) = (rows.integers("shard"), rows.integers("slot")) else {
        return Err(Error::invalid("the dataset has no decoded images"));
    };
    if shard.null_count() + slot.null_count() > 0 {
        return Err(Error::invalid("some rows of the dataset have no decoded image"));
    }
    Ok(shard.values().iter().copied().zip(slot.values().iter().copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::dataset::Columns, digest::Digest};

    #[test]
    fn a_subset_names_only_the_shards_that_it_uses() {
        let rows = Columns { image: vec!["a".into(), "b".into()], dataset: "t".into(), ..Default::default() };
        let rows = rows.build().unwrap().with_column("shard", Arc::new(UInt32Array::from(vec![4, 1]))).unwrap();
        let files: Vec<FileRef> = (0..5u8)
            .map(|i| FileRef { name: format!("shard-{i:05}.arrow"), digest: Digest([i; 32]), bytes: 1 })
            .collect();
        let (kept, used) = keep_used(&rows, &files).unwrap();
        assert_eq!(used.iter().map(|f| f.digest.0[0]).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(used[1].name, "shard-00001.arrow");
        assert_eq!(kept.integers("shard").unwrap().values(), &[1, 0]);
        assert!(keep_used(&rows, &files[..2]).is_err());
    }
}
