//! Datasets as artifacts: `table.parquet`, and the shards that travel with it where pixels are ready.
//!
//! A dataset whose table has the columns `shard` and `slot` carries its shards. Taking rows of it gives
//! another table over the same shards, so that pixels are never copied.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{Array, ArrayRef, UInt32Array};

use super::{Cell, Input};
use crate::{
    data::{dataset::Dataset, image::ImageShards},
    error::{Error, Result},
    store::artifact::{Artifact, ArtifactType, FileRef},
};

pub const TABLE: &str = "table.parquet";

/// The table of an input; `bytes` only where asked for.
pub fn read(cell: &Cell, input: &Input, with_bytes: bool) -> Result<Dataset> {
    Dataset::read_parquet(&cell.file(input, TABLE)?, with_bytes)
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
    let (rows, mut files) = keep_used(rows, shards)?;
    let path = cell.work.join(format!("{output}.{TABLE}"));
    rows.write_parquet(&path)?;
    let (digest, bytes) = cell.store.put_file(&path)?;
    files.push(FileRef { name: TABLE.into(), digest, bytes });
    cell.publish_refs(output, kind, files)
}

fn keep_used(rows: &Dataset, shards: &[FileRef]) -> Result<(Dataset, Vec<FileRef>)> {
    let Some(column) = rows.integers("shard").filter(|_| !shards.is_empty()) else {
        return Ok((rows.clone(), Vec::new()));
    };
    let mut renumbered: BTreeMap<u32, u32> = column.iter().flatten().map(|s| (s, 0)).collect();
    let mut files = Vec::with_capacity(renumbered.len());
    for (new, (old, slot)) in renumbered.iter_mut().enumerate() {
        let file = shards.get(*old as usize).ok_or_else(|| {
            Error::invalid(format!("the table speaks of shard {old}, the artifact has {}", shards.len()))
        })?;
        *slot = new as u32;
        files.push(FileRef { name: crate::data::image::ShardPlan::name(new), ..file.clone() });
    }
    let column: UInt32Array = column.iter().map(|s| s.map(|s| renumbered[&s])).collect();
    Ok((rows.with_column("shard", Arc::new(column) as ArrayRef)?, files))
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
