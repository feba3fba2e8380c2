//! A batch of images as the network reads it. Decoding and augmenting is the data's.

use crate::error::{Error, Result};
use crate::nn::Map;

pub(super) const CHANNELS: usize = 3;

/// A batch of images: NHWC, 3 channels, normalised as the model was trained.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    pub data: &'a [f32],
    pub n: usize,
    pub height: usize,
    pub width: usize,
}

/// Images that a device renders. Tables are as `nn/cuda/source/image.cu` and `operate.cu` read them.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    pub n: usize,
    pub height: usize,
    pub width: usize,
    /// Stored images one after the other: `n`, and as many partners where they are mixed.
    pub bytes: Vec<u8>,
    pub table: Vec<u64>,
    /// Operations on grey levels, in order.
    pub operations: Vec<Vec<u64>>,
    /// Some look is rotated, scaled or shifted, or scaled after it was resized.
    pub warped: bool,
    /// What levels become.
    pub scaling: Vec<f32>,
    /// Grey is scaled after it was resized.
    pub shares: bool,
    /// Share of each image itself, where it is mixed with its partner.
    pub share: Option<f32>,
}

impl Images<'_> {
    pub(super) fn map(&self) -> Map {
        Map { n: self.n, height: self.height, width: self.width, channels: CHANNELS }
    }

    pub(super) fn check(&self) -> Result<()> {
        let Images { data, n, height, width } = *self;
        if height == 0 || width == 0 || data.len() != self.map().len() {
            let found = data.len();
            return Err(Error::invalid(format!("{found} values for {n} images of {height}x{width}x{CHANNELS} (NHWC)")));
        }
        Ok(())
    }
}
