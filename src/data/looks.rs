//! Images that a device is to render: their stored bytes, and how each is looked at, as numbers.
//!
//! The device's kernels (`nn/cuda/source/image.cu`, `operate.cu`) give the very values of [`super::sampling::render`]
//! and [`super::randaugment`]. Nothing is decoded, drawn or computed here.

use super::normalise::Levels;
use super::randaugment::Operation;
use super::sampling::{Geometry, ImageDims};

/// Looks at images of any sizes that all become `height` x `width`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Looks {
    pub height: usize,
    pub width: usize,
    /// Stored images one after the other.
    pub bytes: Vec<u8>,
    /// Eighteen words a look: see `image.cu`.
    pub table: Vec<u64>,
    /// RandAugment's operations in order, each with eight words a look: see `operate.cu`.
    pub operations: Vec<Vec<u64>>,
    /// Some look is rotated, scaled or shifted, or has to be scaled after it was resized.
    pub warped: bool,
    /// What each level of each channel becomes, and the channels' means and deviations.
    pub scaling: Vec<f32>,
    /// Channels are scaled differently, so that grey is resized as it is and scaled afterwards.
    pub shares: bool,
}

impl Looks {
    /// No look yet; all will be scaled by `levels`.
    pub fn new((height, width): (usize, usize), levels: &Levels) -> Self {
        let shares = !levels.alike;
        Looks { height, width, scaling: levels.numbers(), shares, warped: shares, ..Looks::default() }
    }

    /// Adds one look at an image.
    pub fn push(&mut self, dims: ImageDims, bytes: &[u8], geometry: &Geometry) {
        let Geometry { y, x, mirrored, warp } = geometry;
        let mut words = vec![self.bytes.len() as u64, dims.height as u64, dims.width as u64, dims.channels as u64];
        for axis in [y, x] {
            words.extend([axis.start, axis.length, axis.resized, axis.first].map(|v| v as u64));
        }
        words.extend([u64::from(*mirrored), u64::from(warp.is_some())]);
        let of_warp = warp.map_or([0.0; 4], |warp| {
            let (sin, cos) = warp.angle.sin_cos();
            let (down, right) = (warp.shift_y * y.count as f64, warp.shift_x * x.count as f64);
            [sin / warp.scale, cos / warp.scale, down, right]
        });
        words.extend(of_warp.map(f64::to_bits));
        self.warped |= warp.is_some();
        self.table.extend(words);
        self.bytes.extend_from_slice(bytes);
    }

    /// Says which operations follow, as many on each look.
    pub fn operate(&mut self, drawn: &[Vec<(Operation, f64)>]) {
        let slots = drawn.iter().map(Vec::len).max().unwrap_or(0);
        let words = |slot: usize| {
            let of = |look: &Vec<(Operation, f64)>| {
                let (operation, magnitude) = look.get(slot).copied().unwrap_or((Operation::Identity, 0.0));
                operation.words(magnitude, self.height, self.width)
            };
            drawn.iter().flat_map(of).collect()
        };
        self.operations = (0..slots).map(words).collect();
    }
}
