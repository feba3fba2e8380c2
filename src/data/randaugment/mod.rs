//! RandAugment (Cubuk et al. 2020, arXiv 1909.13719): N operations drawn from fourteen, all of magnitude M.
//!
//! Operations, magnitudes and signs are torchvision's (`torchvision.transforms.RandAugment`, nearest
//! neighbour, black fill), whose operations on pictures are Pillow's; they are exact to the grey level. The
//! draws are our own streams. It works on 8-bit RGB of the model's input size, after crop and flip, as
//! torchvision's training does.
//!
//! | operation | magnitude at M of 0 to 30 | either sign |
//! |---|---|---|
//! | `shear_x`, `shear_y` | 0 to 0.3 | yes |
//! | `translate_x`, `translate_y` | 0 to 150/331 of the side, px | yes |
//! | `rotate` | 0 to 30 degrees | yes |
//! | `brightness`, `color`, `contrast`, `sharpness` | factor 1 ± 0 to 0.9 | yes |
//! | `posterize` | 8 to 4 bits | no |
//! | `solarize` | from level 255 down to 0 | no |
//! | `identity`, `auto_contrast`, `equalize` | none | no |

mod geometry;
mod tone;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random::stream::Stream;

/// Magnitudes that there are, from none to the strongest.
const BINS: u32 = 31;

/// N operations of magnitude M on each training image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandAugment {
    /// Operations on each image.
    #[serde(default = "two")]
    pub n: u32,
    /// Their strength, from 0 (none) to 30.
    #[serde(default = "nine")]
    pub m: u32,
}

fn two() -> u32 {
    2
}

fn nine() -> u32 {
    9
}

/// A picture's 8-bit RGB, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub height: usize,
    pub width: usize,
    pub data: Vec<u8>,
}

/// One operation of the fourteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

use Operation::*;

/// All of them, in torchvision's order.
pub const OPERATIONS: [(&str, Operation); 14] = [
    ("identity", Identity),
    ("shear_x", ShearX),
    ("shear_y", ShearY),
    ("translate_x", TranslateX),
    ("translate_y", TranslateY),
    ("rotate", Rotate),
    ("brightness", Brightness),
    ("color", Color),
    ("contrast", Contrast),
    ("sharpness", Sharpness),
    ("posterize", Posterize),
    ("solarize", Solarize),
    ("auto_contrast", AutoContrast),
    ("equalize", Equalize),
];

impl Operation {
    fn signed(self) -> bool {
        matches!(self, ShearX | ShearY | TranslateX | TranslateY | Rotate | Brightness | Color | Contrast | Sharpness)
    }

    /// The magnitude of strength `m` for a picture of this size, before any sign. torchvision computes it in float32.
    pub fn magnitude(self, m: u32, height: usize, width: usize) -> f64 {
        let (share, steps) = (m.min(BINS - 1), BINS - 1);
        let most = match self {
            ShearX | ShearY => 0.3,
            TranslateX => 150.0 / 331.0 * width as f64,
            TranslateY => 150.0 / 331.0 * height as f64,
            Rotate => 30.0,
            Brightness | Color | Contrast | Sharpness => 0.9,
            Posterize => return 8.0 - (f64::from(share) / (f64::from(steps) / 4.0)).round_ties_even(),
            Solarize => return spaced(255.0, 0.0, share, steps),
            Identity | AutoContrast | Equalize => return 0.0,
        };
        spaced(0.0, most, share, steps)
    }

    /// The picture after the operation with this magnitude, sign included.
    pub fn apply(self, picture: &Picture, magnitude: f64) -> Picture {
        match self {
            Identity => picture.clone(),
            ShearX => geometry::affine(picture, [1.0, magnitude.atan().tan(), 0.0, 0.0, 1.0, 0.0]),
            ShearY => geometry::affine(picture, [1.0, 0.0, 0.0, magnitude.atan().tan(), 1.0, 0.0]),
            TranslateX => geometry::shift(picture, magnitude as i64, 0),
            TranslateY => geometry::shift(picture, 0, magnitude as i64),
            Rotate => geometry::rotate(picture, magnitude),
            Brightness => tone::brightness(picture, 1.0 + magnitude),
            Color => tone::color(picture, 1.0 + magnitude),
            Contrast => tone::contrast(picture, 1.0 + magnitude),
            Sharpness => tone::sharpness(picture, 1.0 + magnitude),
            Posterize => tone::posterize(picture, magnitude as u32),
            Solarize => tone::solarize(picture, magnitude),
            AutoContrast => tone::auto_contrast(picture),
            Equalize => tone::equalize(picture),
        }
    }
}

/// Words of an operation as a device reads it.
pub const OPERATION_WORDS: usize = 8;

impl Operation {
    /// The operation with this magnitude on a picture of this size, as `nn/cuda/source/operate.cu` reads it: its code
    /// there, the bits of a factor, and where pixels come from.
    pub fn words(self, magnitude: f64, height: usize, width: usize) -> [u64; OPERATION_WORDS] {
        let plain = |code: u64, factor: f64| [code, factor.to_bits(), 0, 0, 0, 0, 0, 0];
        let gather = |steps: [i64; 6]| {
            let [a, b, c, d, e, f] = steps.map(|v| v as u64);
            [1, 0, a, b, c, d, e, f]
        };
        let shear = magnitude.atan().tan();
        match self {
            Identity => plain(0, 0.0),
            ShearX => gather(geometry::steps([1.0, shear, 0.0, 0.0, 1.0, 0.0])),
            ShearY => gather(geometry::steps([1.0, 0.0, 0.0, shear, 1.0, 0.0])),
            TranslateX => gather(geometry::shift_steps(magnitude as i64, 0)),
            TranslateY => gather(geometry::shift_steps(0, magnitude as i64)),
            Rotate => match geometry::rotation(height, width, magnitude) {
                Some(matrix) => gather(geometry::steps(matrix)),
                None => plain(0, 0.0),
            },
            Brightness => plain(2, 1.0 + magnitude),
            Color => plain(3, 1.0 + magnitude),
            Contrast => plain(4, 1.0 + magnitude),
            Sharpness => plain(5, 1.0 + magnitude),
            Posterize => plain(6, f64::from(8u32.saturating_sub(magnitude as u32))),
            Solarize => plain(7, magnitude),
            AutoContrast => plain(8, 0.0),
            Equalize => plain(9, 0.0),
        }
    }
}

/// `torch.linspace(from, to, steps + 1)[at]` in float32: the second half is counted from the end.
fn spaced(from: f64, to: f64, at: u32, steps: u32) -> f64 {
    let (from, to) = (from as f32, to as f32);
    let step = (to - from) / steps as f32;
    f64::from(if at < steps.div_ceil(2) { from + step * at as f32 } else { to - step * (steps - at) as f32 })
}

impl RandAugment {
    /// What cannot work: (field, message).
    pub fn check(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        if self.n == 0 || self.n > 14 {
            out.push(("rand_augment.n".into(), "must be from 1 to 14".into()));
        }
        if self.m >= BINS {
            out.push(("rand_augment.m".into(), "must be from 0 to 30".into()));
        }
        out
    }

    /// The operations of one image of this size with their magnitudes; `stream` is that of the image's (seed, epoch,
    /// example).
    pub fn draw(&self, height: usize, width: usize, stream: &mut Stream) -> Vec<(Operation, f64)> {
        let one = |_| {
            let (_, operation) = OPERATIONS[stream.below(OPERATIONS.len() as u64) as usize];
            let magnitude = operation.magnitude(self.m, height, width);
            (operation, if operation.signed() && stream.chance(0.5) { -magnitude } else { magnitude })
        };
        (0..self.n).map(one).collect()
    }

    /// Draws and applies the operations.
    pub fn apply(&self, picture: Picture, stream: &mut Stream) -> Picture {
        let drawn = self.draw(picture.height, picture.width, stream);
        drawn.into_iter().fold(picture, |picture, (operation, magnitude)| operation.apply(&picture, magnitude))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let data = (0..9 * 7 * 3).map(|i| (i * i * 7 + i * 31) as u8).collect();
        Picture { height: 9, width: 7, data }
    }

    #[test]
    fn draws_repeat_and_every_operation_comes() {
        let how = RandAugment { n: 1, m: 20 };
        let mut seen = std::collections::HashSet::new();
        for example in 0..500 {
            let stream = || Stream::new(1, "rand_augment", 0, example);
            let out = how.apply(picture(), &mut stream());
            assert_eq!(out, how.apply(picture(), &mut stream()));
            assert_eq!(out.data.len(), picture().data.len());
            seen.insert(out.data);
        }
        // Nine operations have two signs, and five have none; some of those agree on so small a picture.
        assert!((20..=23).contains(&seen.len()), "{}", seen.len());
    }

    #[test]
    fn no_strength_changes_nothing_but_the_contrast_stretches() {
        for (name, operation) in OPERATIONS.iter().take(11) {
            let out = operation.apply(&picture(), operation.magnitude(0, 9, 7));
            assert_eq!(out, picture(), "{name}");
        }
        assert_eq!(RandAugment { n: 0, m: 31 }.check().len(), 2);
    }
}
