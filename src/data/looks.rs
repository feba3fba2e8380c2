//! From views and augmentations to what a device renders by ([`Looks`]).
//!
//! The device's kernels (`nn/cuda/source/image.cu`, `operate.cu`) give the very values of [`super::sampling::render`]
//! and [`super::randaugment`]. Nothing is decoded, drawn or computed here.

use super::normalise::Levels;
use super::randaugment::Operation;
use super::sampling::{Geometry, ImageDims};
use crate::nn::looks::Looks;

impl Looks {
    /// No look yet at `n` images; all will be scaled by `levels`.
    pub fn new(n: usize, (height, width): (usize, usize), levels: &Levels) -> Self {
        let shares = !levels.alike;
        Looks { n, height, width, scaling: levels.numbers(), shares, warped: shares, ..Looks::default() }
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
