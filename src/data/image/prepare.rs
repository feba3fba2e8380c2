//! Decode and fit in one declared step: what the `images` kind does to every file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    DecodeRule, ImageSize, Pixels, center_crop,
    decode::{Reduced, decode_reduced},
    phash::phash,
    resize::{Frame, resize, resize_frame, shorter_side, shorter_side_size},
};
use crate::error::Result;

/// How a picture of any shape becomes a square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Centre-crop to a square, then resize, as torchxrayvision prepares X-rays.
    CenterCrop,
    /// Resize both sides, changing the aspect ratio, as BiT does.
    #[default]
    Squash,
    /// Resize the shorter side, then centre-crop, as torchvision prepares ImageNet for evaluation.
    ShorterSide,
}

/// From encoded bytes to `px` x `px` pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// Side of the square, in pixels.
    pub px: u32,
    #[serde(default)]
    pub fit: Fit,
    #[serde(default)]
    pub decode: DecodeRule,
    /// Decode large JPEG images at a half, a quarter or an eighth of their size where at least twice `px` remains:
    /// some times as fast, and within a grey level or two of decoding them whole.
    #[serde(default = "yes")]
    pub reduce: bool,
}

fn yes() -> bool {
    true
}

/// The smallest side that a perceptual hash is still made of.
const HASHED_PX: u32 = 64;

impl Prepare {
    /// The size that every prepared image has.
    pub fn size(&self) -> ImageSize {
        ImageSize { height: self.px, width: self.px, channels: self.decode.channels }
    }

    /// Brings a decoded image (also one from a packed set) to the declared size and channels.
    pub fn fit(&self, image: Pixels) -> Result<Pixels> {
        let image = image.with_channels(self.decode.channels, self.decode.grey);
        match self.fit {
            Fit::CenterCrop => resize(&center_crop(&image), self.px, self.px),
            Fit::Squash => resize(&image, self.px, self.px),
            Fit::ShorterSide => Ok(center_crop(&shorter_side(&image, self.px)?)),
        }
    }

    /// Encoded bytes to a prepared image and its perceptual hash.
    pub fn whole(&self, bytes: &[u8]) -> Result<(Pixels, Option<Vec<u8>>)> {
        let reduced = decode_reduced(bytes, &self.decode, &|height, width| self.reduction(height, width))?;
        if self.fit == Fit::Squash && self.px >= HASHED_PX {
            // Squashed as the hash squashes: a smaller picture to start from.
            let fitted = self.fit_reduced(reduced)?;
            let hash = phash(&fitted)?;
            return Ok((fitted, hash));
        }
        let hash = phash(&reduced.image)?;
        Ok((self.fit_reduced(reduced)?, hash))
    }

    /// Encoded bytes to prepared pixels alone.
    pub fn pixels(&self, bytes: &[u8]) -> Result<Pixels> {
        self.fit_reduced(decode_reduced(bytes, &self.decode, &|height, width| self.reduction(height, width))?)
    }

    /// A decoded image (one of a packed set) to a prepared one and its perceptual hash.
    pub fn whole_decoded(&self, image: Pixels) -> Result<(Pixels, Option<Vec<u8>>)> {
        let hash = phash(&image)?;
        Ok((self.fit(image)?, hash))
    }

    /// The largest part, 1 / 8 to 1 / 1, that leaves twice the pixels that are asked for.
    fn reduction(&self, height: u32, width: u32) -> u32 {
        let enough = (2 * self.px).max(HASHED_PX);
        let shorter = height.min(width);
        [8, 4, 2].into_iter().find(|by| self.reduce && shorter / by >= enough).unwrap_or(1)
    }

    /// As [`Prepare::fit`], by the geometry of the original.
    fn fit_reduced(&self, reduced: Reduced) -> Result<Pixels> {
        if reduced.by == 1 {
            return self.fit(reduced.image);
        }
        let (by, (height, width)) = (f64::from(reduced.by), reduced.original);
        let frame = |top: u32, left: u32, height: u32, width: u32| Frame {
            top: f64::from(top) / by,
            left: f64::from(left) / by,
            height: f64::from(height) / by,
            width: f64::from(width) / by,
        };
        let image = &reduced.image;
        match self.fit {
            Fit::Squash => resize_frame(image, frame(0, 0, height, width), self.px, self.px),
            Fit::CenterCrop => {
                let side = height.min(width);
                let (top, left) = (height / 2 - side / 2, width / 2 - side / 2);
                resize_frame(image, frame(top, left, side, side), self.px, self.px)
            }
            Fit::ShorterSide => {
                let (high, wide) = shorter_side_size(height, width, self.px);
                Ok(center_crop(&resize_frame(image, frame(0, 0, height, width), high, wide)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            GreyRule, encode,
            phash::{RADIUS, distance, upright},
        },
        *,
    };

    #[test]
    fn every_fit_gives_the_declared_size() {
        let size = ImageSize { height: 20, width: 33, channels: 1 };
        let image = Pixels { size, data: (0..size.bytes()).map(|i| i as u8).collect() };
        for fit in [Fit::CenterCrop, Fit::Squash, Fit::ShorterSide] {
            let prepare = Prepare { px: 8, fit, decode: DecodeRule::default(), reduce: true };
            let out = prepare.fit(image.clone()).unwrap();
            assert_eq!((out.size, out.data.len()), (prepare.size(), 8 * 8 * 3));
        }
    }

    #[test]
    fn a_large_jpeg_is_decoded_small_and_comes_out_as_if_whole() {
        let image = super::super::phash::tests::picture(7, 611, 803).with_channels(3, GreyRule::Luma);
        let bytes = encode::jpeg(&image, 92).unwrap();
        for fit in [Fit::CenterCrop, Fit::Squash, Fit::ShorterSide] {
            let whole = Prepare { px: 64, fit, decode: DecodeRule::default(), reduce: false };
            let quick = Prepare { reduce: true, ..whole };
            assert_eq!(quick.reduction(611, 803), 4);
            let ((a, hash_a), (b, hash_b)) = (whole.whole(&bytes).unwrap(), quick.whole(&bytes).unwrap());
            let apart: Vec<u8> = a.data.iter().zip(&b.data).map(|(a, b)| a.abs_diff(*b)).collect();
            let mean = apart.iter().map(|&d| f64::from(d)).sum::<f64>() / apart.len() as f64;
            let most = apart.iter().max().unwrap();
            assert!(*most <= 4 && mean < 1.0, "{fit:?}: {most} grey levels apart, {mean} on average");
            let (a, b) = (upright(&hash_a.unwrap()).unwrap(), upright(&hash_b.unwrap()).unwrap());
            assert!(distance(&a, &b) <= RADIUS / 2, "{fit:?}: hashes are {} apart", distance(&a, &b));
        }
        assert_eq!(
            Prepare { px: 300, fit: Fit::Squash, decode: DecodeRule::default(), reduce: true }.reduction(611, 803),
            1
        );
    }
}
