//! Images: decoded by content, cropped and resized as the published code does, kept in mapped Arrow shards.
//!
//! Everything is uint8, channels last; no floating-point pixels and no normalisation here, which belong
//! to the loader.
//!
//! | file | idea |
//! |---|---|
//! | `decode` | JPEG, PNG and GIF bytes to [`Pixels`], with typed errors |
//! | `grey_png` | the plain grey PNG, four rows at a time |
//! | `dicom` | DICOM bytes to [`Pixels`]: rescale, window, inversion |
//! | `transfer_syntax` | DICOM encodings that are not read, and the way out |
//! | `encode` | [`Pixels`] to PNG and JPEG, for the generated sets |
//! | `resize` | centre-crop and antialiased bilinear resize |
//! | `reduced` | baseline JPEG at a part of its size, from the DCT |
//! | `prepare` | decode + fit in one declared step |
//! | `phash` | 256 bits by which near-duplicates are found |
//! | `plan` | which rows share a shard |
//! | `encoded` | encoded images, decoded as they are looked at |
//! | `shards` | writing shards, in parallel and in order |
//! | `mapped` | reading them without copying; the one `unsafe` of the room |

pub mod decode;
mod dicom;
pub mod encode;
pub mod encoded;
mod grey_png;
pub mod mapped;
pub mod phash;
pub mod plan;
pub mod prepare;
mod reduced;
pub mod resize;
pub mod shards;
mod transfer_syntax;

pub use decode::{DecodeError, DecodeRule, GreyRule, SixteenBit, decode, read_file};
pub use encoded::EncodedImages;
pub use mapped::ImageShards;
pub use plan::{ShardPlan, ShardPlanner, shard_name};
pub use prepare::{Fit, Prepare};
pub use resize::{center_crop, resize, shorter_side};
pub use shards::{Layout, Loaded, write_shard};

use serde::{Deserialize, Serialize};

/// Extent of an image. Channels are 1 (grey) or 3 (RGB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSize {
    pub height: u32,
    pub width: u32,
    pub channels: u32,
}

impl ImageSize {
    /// Bytes of one image: height x width x channels.
    pub fn bytes(self) -> usize {
        self.height as usize * self.width as usize * self.channels as usize
    }
}

impl std::fmt::Display for ImageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} x {} x {}", self.height, self.width, self.channels)
    }
}

/// A decoded image: uint8, height x width x channels, row by row from the top left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    pub size: ImageSize,
    pub data: Vec<u8>,
}

impl Pixels {
    /// `None` where `data` does not have the bytes that `size` asks for.
    pub fn new(size: ImageSize, data: Vec<u8>) -> Option<Self> {
        (data.len() == size.bytes() && matches!(size.channels, 1 | 3)).then_some(Pixels { size, data })
    }

    /// The same image with 1 or 3 channels: grey is repeated, RGB becomes grey by `rule`.
    pub fn with_channels(self, channels: u32, rule: GreyRule) -> Self {
        match (self.size.channels, channels) {
            (1, 3) => {
                let data = self.data.iter().flat_map(|&v| [v; 3]).collect();
                Pixels { size: ImageSize { channels: 3, ..self.size }, data }
            }
            (3, 1) => {
                let data = self.data.chunks_exact(3).map(|p| rule.grey(p[0], p[1], p[2])).collect();
                Pixels { size: ImageSize { channels: 1, ..self.size }, data }
            }
            _ => self,
        }
    }
}
