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
