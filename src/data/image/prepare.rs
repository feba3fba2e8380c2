//! Decode and fit in one declared step: what the `images` kind does to every file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DecodeError, DecodeRule, ImageSize, Pixels, center_crop, decode, resize, shorter_side};
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
}

impl Prepare {
    /// The size that every prepared image has.
    pub fn size(&self) -> ImageSize {
        ImageSize { height: self.px, width: self.px, channels: self.decode.channels }
    }

    /// Decodes by content, then [`Prepare::fit`]s.
    pub fn decode(&self, bytes: &[u8]) -> Result<Pixels, DecodeError> {
        decode(bytes, &self.decode)
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

    /// Reads, decodes and fits one file; errors name it.
    pub fn file(&self, path: &std::path::Path) -> Result<Pixels> {
        let bytes = std::fs::read(path).map_err(crate::error::Error::io(path))?;
        self.fit(self.decode(&bytes).map_err(|e| e.at(path))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fit_gives_the_declared_size() {
        let size = ImageSize { height: 20, width: 33, channels: 1 };
        let image = Pixels { size, data: (0..size.bytes()).map(|i| i as u8).collect() };
        for fit in [Fit::CenterCrop, Fit::Squash, Fit::ShorterSide] {
            let prepare = Prepare { px: 8, fit, decode: DecodeRule::default() };
            let out = prepare.fit(image.clone()).unwrap();
            assert_eq!((out.size, out.data.len()), (prepare.size(), 8 * 8 * 3));
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note.png");
        std::fs::write(&path, "hello").unwrap();
        let prepare = Prepare { px: 8, fit: Fit::Squash, decode: DecodeRule::default() };
        assert!(prepare.file(&path).unwrap_err().to_string().contains("note.png: not a JPEG, PNG, GIF or DICOM"));
        assert!(prepare.file(&dir.path().join("absent.png")).unwrap_err().to_string().contains("absent.png"));
    }
}
