//! From an input artifact to labelled examples that the trainer takes.
//!
//! An input without decoded images is decoded here, for this cell alone; an `images` node does it once
//! for all cells.

use std::sync::Arc;

use arrow::array::Array;

use super::{Cell, Input, images, rows};
use crate::{
    data::{
        dataset::{Dataset, Task},
        image::{DecodeRule, EncodedImages, Fit, ImageShards, Prepare},
        loader::{Examples, PixelSource},
        normalise::Normalise,
    },
    error::{Error, Result},
};

const SHARD_MIB: u32 = 64;

/// A dataset with its pixels at hand.
pub struct Pictures {
    pub data: Dataset,
    source: Arc<dyn PixelSource>,
    normalise: Normalise,
}

impl Pictures {
    /// Opens an input. Images that are not decoded yet are brought to `px` pixels.
    pub fn open(cell: &Cell, input: &Input, px: Option<u32>) -> Result<Self> {
        if let Some(shards) = rows::shards(cell, input)? {
            let source: Arc<dyn PixelSource> = match EncodedImages::new(shards) {
                Ok(encoded) => Arc::new(encoded),
                Err(pixels) => Arc::new(pixels),
            };
            return Ok(Pictures { data: rows::read(cell, input, false)?, source, normalise: Normalise::default() });
        }
        let px = px.ok_or_else(|| {
            Error::invalid(format!("{}: its images are not decoded, and image_px is not given", input.node))
                .with_hint("put an images node between, or give image_px")
        })?;
        let prepare = Prepare { px, fit: Fit::Squash, decode: DecodeRule::default(), reduce: true };
        let (paths, data) = images::decode_all(cell, input, prepare, SHARD_MIB)?;
        Ok(Pictures { data, source: Arc::new(ImageShards::open(&paths)?), normalise: Normalise::default() })
    }

    /// The same pictures, whose pixels a model sees scaled so; null is as they were.
    pub fn normalised(self, normalise: Option<Normalise>) -> Self {
        Pictures { normalise: normalise.unwrap_or(self.normalise), ..self }
    }

    /// Height and width of the stored images, px.
    pub fn size(&self) -> (usize, usize) {
        let dims = self.source.dims();
        (dims.height, dims.width)
    }

    /// The rows of one split; an error where there are none.
    pub fn split(&self, node: &str, name: &str) -> Result<Dataset> {
        let rows = self.data.split(name)?;
        if rows.rows() == 0 {
            return Err(Error::invalid(format!("{node} has no rows in split {name}"))
                .with_hint("merge gives splits: split: { patient: { train: 0.8 } }"));
        }
        Ok(rows)
    }

    /// Examples of some rows of this dataset.
    pub fn examples(&self, rows: &Dataset) -> Result<Examples> {
        Ok(Examples::of(self.source.clone(), rows)?.normalised(self.normalise))
    }
}

/// Rows that can be learned from or scored: a known class, or at least one known finding.
pub fn known(rows: &Dataset) -> Vec<u32> {
    let keep = |i: usize| match rows.task() {
        Task::Single(_) => rows.classes().is_some_and(|c| c.is_valid(i)),
        Task::Multi(names) => names.iter().any(|n| rows.label(n).is_some_and(|c| c.is_valid(i))),
    };
    (0..rows.rows()).filter(|&i| keep(i)).map(|i| i as u32).collect()
}

/// The rows of [`known`]; what is left out is counted in the record.
pub fn keep_known(cell: &Cell, rows: Dataset, what: &str) -> Result<Dataset> {
    let kept = known(&rows);
    if kept.len() == rows.rows() {
        return Ok(rows);
    }
    let left_out = rows.rows() - kept.len();
    cell.note("unlabelled_rows", left_out as u64, format!("rows of {what} without any known label are left out"));
    if kept.is_empty() {
        return Err(Error::invalid(format!("no row of {what} has a known label")));
    }
    rows.take(&kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Columns;

    #[test]
    fn rows_without_any_known_label_are_left_out() {
        let rows = Columns {
            image: vec!["a".into(), "b".into(), "c".into()],
            labels: vec![("Edema".into(), vec![Some(1), None, None]), ("Mass".into(), vec![None, Some(0), None])],
            ..Default::default()
        }
        .build()
        .unwrap();
        assert_eq!(known(&rows), [0, 1]);
    }
}
