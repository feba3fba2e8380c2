//! What a training step needs in memory, and how many images of a batch are computed at once.
//!
//! Neither changes the update but for rounding: micro-batches add up to the batch, and recomputing gives the
//! same bits. `auto` follows from the network, the image size and a fixed budget alone, so that a result does
//! not depend on the machine's memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{BitConfig, Keep, Precision};

/// Images of a batch that are computed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MicroBatch {
    Images(usize),
    Auto(Auto),
}

/// As many as keep 4 GiB of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    Auto,
}

/// What is computed twice to save memory (Chen et al. 2016, arXiv 1604.06174).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checkpointing {
    /// Nothing: the activations of a step are kept.
    #[default]
    None,
    /// Only what goes into each residual block is kept; the rest is computed again on the way back.
    Blocks,
}

impl Checkpointing {
    pub fn keep(self) -> Keep {
        match self {
            Checkpointing::None => Keep::Inner,
            Checkpointing::Blocks => Keep::Input,
        }
    }
}

/// Activations that `auto` lets a micro-batch keep, bytes.
pub const BUDGET_BYTES: u64 = 4 << 30;

/// Bytes of activations that one image of `height` x `width` px keeps until the backward pass, buffers that
/// are used in turn included.
pub fn activation_bytes(
    config: &BitConfig,
    (height, width): (usize, usize),
    precision: Precision,
    checkpoint: Checkpointing,
) -> u64 {
    let bytes = match precision {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    };
    let halved = |(h, w): (usize, usize)| (h.div_ceil(2), w.div_ceil(2));
    let padded = (height + 6) * (width + 6) * 3;
    let root = halved((height, width));
    // The root's convolution is f32 in both precisions, and is not kept.
    let root_values = root.0 * root.1 * config.channels(64);
    let mut side = halved(root);
    let mut channels = config.channels(64);
    let (mut kept, mut widest) = (0, 0);
    for (block, (&units, base)) in config.blocks.iter().zip([256, 512, 1024, 2048]).enumerate() {
        let (outputs, inner) = (config.channels(base), config.channels(base / 4));
        for unit in 0..units {
            let before = side.0 * side.1;
            if block > 0 && unit == 0 {
                side = halved(side);
            }
            let after = side.0 * side.1;
            kept += before * channels;
            if checkpoint == Checkpointing::None {
                kept += before * inner + after * inner;
            }
            widest = widest.max(before * (channels.max(outputs) + inner));
            channels = outputs;
        }
    }
    let turns = 4 * widest;
    (bytes * (kept + turns) + 4 * (padded + 2 * root_values)) as u64
}

/// Images computed at once, at most the batch: as given, or as many as [`BUDGET_BYTES`] lets be, in even parts.
pub fn micro_batch(asked: Option<MicroBatch>, batch: usize, image_bytes: u64) -> usize {
    let batch = batch.max(1);
    match asked {
        None => batch,
        Some(MicroBatch::Images(n)) => n.clamp(1, batch),
        Some(MicroBatch::Auto(_)) => {
            let most = (BUDGET_BYTES / image_bytes.max(1)).clamp(1, batch as u64) as usize;
            batch.div_ceil(batch.div_ceil(most))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTO: Option<MicroBatch> = Some(MicroBatch::Auto(Auto::Auto));

    #[test]
    fn auto_cuts_a_batch_into_even_parts_within_the_budget() {
        let config = BitConfig::parse("bit-r50x1", 10).unwrap();
        let image = |px, p, c| activation_bytes(&config, (px, px), p, c);
        let large = image(480, Precision::F32, Checkpointing::None);
        let micro = micro_batch(AUTO, 32, large);
        assert!(micro < 32 && micro as u64 * large <= BUDGET_BYTES, "{micro} of {large} bytes");
        assert!((micro + 1) * 32usize.div_ceil(micro) > 32, "{micro}");
        assert_eq!(micro_batch(AUTO, 32, image(32, Precision::F32, Checkpointing::None)), 32);
        assert!(image(480, Precision::F32, Checkpointing::Blocks) < large);
        assert!(image(480, Precision::Bf16, Checkpointing::None) < large);
        assert_eq!(micro_batch(AUTO, 5, u64::MAX), 1);
        assert_eq!(micro_batch(Some(MicroBatch::Images(40)), 32, 1), 32);
    }

    #[test]
    fn numbers_and_the_word_are_read() {
        let read = |json: &str| serde_json::from_str::<MicroBatch>(json);
        assert_eq!(read("4").unwrap(), MicroBatch::Images(4));
        assert_eq!(Some(read("\"auto\"").unwrap()), AUTO);
        assert!(read("\"some\"").is_err());
    }
}
