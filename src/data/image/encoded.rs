//! Encoded images as a source of pixels: decoded as they are looked at, at the resolution that they have.
//!
//! What is looked at as stored comes prepared, at the declared size; random crops and resized views are taken from
//! the whole picture, as for ImageNet. Nothing is kept of what was decoded.

use std::borrow::Cow;

use super::{ImageShards, decode};
use crate::{
    data::{loader::PixelSource, sampling::ImageDims},
    error::{Error, Result},
};

/// Shards of encoded images.
pub struct EncodedImages {
    shards: ImageShards,
}

impl EncodedImages {
    /// `None` where the shards hold pixels.
    pub fn new(shards: ImageShards) -> Result<Self, ImageShards> {
        if shards.prepare().is_some() { Ok(EncodedImages { shards }) } else { Err(shards) }
    }
}

impl PixelSource for EncodedImages {
    fn dims(&self) -> ImageDims {
        self.shards.dims()
    }

    fn pixels(&self, shard: u32, slot: u32) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Owned(self.shards.image(shard, slot)?.data))
    }

    fn original(&self, shard: u32, slot: u32) -> Result<Option<(ImageDims, Vec<u8>)>> {
        let (Some(prepare), Some(bytes)) = (self.shards.prepare(), self.shards.encoded(shard, slot)?) else {
            return Err(Error::invalid("bug: encoded images without a rule to decode them"));
        };
        let image = decode(bytes, &prepare.decode)?;
        let (height, width) = (image.size.height as usize, image.size.width as usize);
        Ok(Some((ImageDims { height, width, channels: image.size.channels as usize }, image.data)))
    }
}
