//! `images`: decode, crop and resize once, to shards that training maps into memory.

use std::{path::PathBuf, sync::Arc};

use arrow::array::{Array, UInt32Array};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cell, InputSpec, Kind, Resources, pixels::Opener, rows};
use crate::{
    data::{
        dataset::Dataset,
        image::{DecodeRule, Fit, Prepare, ShardPlan, ShardSet, SixteenBit, write_shards},
    },
    error::Result,
    store::artifact::{ArtifactType, FileRef},
};

pub struct Images;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The dataset whose images are decoded.
    pub data: String,
    /// Side of the stored square, in pixels.
    #[schemars(range(min = 1, max = 4096))]
    pub size_px: u32,
    /// How a picture of any shape becomes a square.
    #[serde(default)]
    pub fit: Fit,
    /// 1 (grey) or 3 (RGB).
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 3))]
    pub channels: u32,
    /// How 16-bit samples become 8-bit ones.
    #[serde(default)]
    pub sixteen_bit: SixteenBit,
    /// What an image that cannot be read does.
    #[serde(default)]
    pub unreadable: Unreadable,
    /// The most bytes of pixels in one shard, in MiB.
    #[serde(default = "shard_mib")]
    #[schemars(range(min = 1, max = 4096))]
    pub shard_mib: u32,
}

fn three() -> u32 {
    3
}

fn shard_mib() -> u32 {
    64
}

/// What an image that cannot be read does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unreadable {
    /// Ends the cell with an error that names it.
    #[default]
    Error,
    /// Leaves its row out, counted and named in the record.
    Skip,
}

impl Kind for Images {
    const NAME: &'static str = "images";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Decodes, crops and resizes every image once, to Arrow shards that training maps.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::one("data", &[ArtifactType::Dataset])] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("images", ArtifactType::Images)]
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        match params.channels {
            1 | 3 => Vec::new(),
            other => vec![("channels".into(), format!("must be 1 (grey) or 3 (RGB), not {other}"))],
        }
    }

    fn resources(params: &Params) -> Resources {
        Resources { threads: 0, memory_bytes: u64::from(params.shard_mib) << 20 }
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let data = rows::read(cell, cell.one("data")?, true)?;
        let prepare = Prepare {
            px: params.size_px,
            fit: params.fit,
            decode: DecodeRule { channels: params.channels, sixteen_bit: params.sixteen_bit, ..Default::default() },
        };
        let (set, kept) = decode_all(cell, &data, &prepare, params.unreadable, params.shard_mib as usize)?;
        let files = set
            .files
            .iter()
            .map(|(name, path): &(String, PathBuf)| {
                let (digest, bytes) = cell.store.put_file(path)?;
                Ok(FileRef { name: name.clone(), digest, bytes })
            })
            .collect::<Result<Vec<_>>>()?;
        rows::publish(cell, "images", ArtifactType::Images, &kept, &files)
    }
}

/// Writes shards of all readable images into the work folder, and the table of their rows and places.
pub fn decode_all(
    cell: &Cell,
    data: &Dataset,
    prepare: &Prepare,
    unreadable: Unreadable,
    shard_mib: usize,
) -> Result<(ShardSet, Dataset)> {
    let opener = Opener::new(cell, data)?;
    let plan = ShardPlan::new(prepare.size(), data.rows(), shard_mib << 20);
    let mut skipped: Vec<String> = Vec::new();
    let set = write_shards(
        cell.work,
        &plan,
        |row| opener.prepared(row, prepare),
        &mut |_, e| match unreadable {
            Unreadable::Error => Err(e),
            Unreadable::Skip => {
                skipped.push(e.to_string());
                Ok(())
            }
        },
        cell.progress,
        cell.cancel,
    )?;
    if let Some(first) = skipped.first() {
        cell.note("unreadable_images", skipped.len() as u64, first.clone());
    }
    let readable: Vec<u32> = (0..data.rows() as u32).filter(|&i| set.places[i as usize].is_some()).collect();
    let column = |pick: fn(&crate::data::image::Place) -> u32| -> Arc<dyn Array> {
        Arc::new(set.places.iter().flatten().map(pick).collect::<UInt32Array>())
    };
    let kept = data
        .without_column("bytes")?
        .take(&readable)?
        .with_column("shard", column(|p| p.shard))?
        .with_column("slot", column(|p| p.slot))?;
    Ok((set, kept))
}
