//! Launches of GroupNorm with ReLU; the maths is in [`crate::nn::norm`], the kernels in `source/norm.cu`.
//!
//! Sums over an image are made in two launches: chunks of pixels first, then groups. Chunks follow from the shape
//! alone, so that sums are the same on every device.

use super::op::{BLOCK, Launch, Op};
use crate::nn::Map;
use crate::nn::norm::{EPSILON, groups};

/// Pixels that a thread sums in f32 before f64 takes over.
const SUMMED: usize = 64;
/// Pixels that a thread of an elementwise pass has.
const WALKED: usize = 8;

/// A norm of maps of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    pub map: Map,
    pub narrow: bool,
    /// Addresses of the norm's parameters.
    pub weight: u64,
    pub bias: u64,
}

impl Norm {
    fn pixels(&self) -> usize {
        self.map.height * self.map.width
    }

    /// Pixels of a chunk and the grid, where a thread has `each` pixels.
    fn walk(&self, each: usize) -> (usize, [usize; 3]) {
        assert!(self.map.channels.is_multiple_of(4), "bug: {} channels in fours", self.map.channels);
        let quads = self.map.channels / 4;
        let lanes = quads.min(BLOCK);
        let chunk = BLOCK / lanes * each;
        (chunk, [self.pixels().div_ceil(chunk), quads.div_ceil(lanes), self.map.n])
    }

    fn per_group(&self) -> [usize; 3] {
        [groups(self.map.channels), self.map.n, 1]
    }

    /// Bytes of the moments: mean and 1/sqrt(var + eps), f32, of every group of every image.
    pub fn moments_bytes(&self) -> u64 {
        (self.map.n * groups(self.map.channels) * 2 * size_of::<f32>()) as u64
    }

    /// Bytes of the partial sums, f64, that both passes need for a moment.
    pub fn parts_bytes(&self) -> u64 {
        let (_, [chunks, ..]) = self.walk(SUMMED);
        (self.map.n * chunks * 2 * self.map.channels * size_of::<f64>()) as u64
    }

    /// Bytes of the sums of each channel of each image, f64.
    pub fn totals_bytes(&self) -> u64 {
        (self.map.n * 2 * self.map.channels * size_of::<f64>()) as u64
    }

    pub fn moments(&self, x: u64, parts: u64, moments: u64) -> [Op; 2] {
        let (chunk, grid) = self.walk(SUMMED);
        let Map { channels, .. } = self.map;
        let sums = Launch::new("norm_parts", self.narrow, grid);
        let all = Launch::new("norm_moments", self.narrow, self.per_group());
        [
            sums.at([x, parts]).counts([self.pixels(), channels, chunk, grid[0]]).into(),
            all.at([x, parts, moments])
                .counts([self.pixels(), channels, groups(channels), grid[0]])
                .reals([EPSILON])
                .into(),
        ]
    }

    pub fn forward(&self, x: u64, moments: u64, y: u64) -> Op {
        let (chunk, grid) = self.walk(WALKED);
        let counts = [self.pixels(), self.map.channels, groups(self.map.channels), chunk];
        let launch = Launch::new("norm_forward", self.narrow, grid);
        launch.at([x, moments, self.weight, self.bias, y]).counts(counts).into()
    }

    /// `dx`, with `residual` added where it is not 0, and the gradients of the parameters, which are added to.
    pub fn backward(&self, maps: Backward, scratch: Scratch, dweight: u64, dbias: u64) -> [Op; 4] {
        let Backward { x, dy, residual, moments, dx } = maps;
        let Scratch { parts, totals, slopes } = scratch;
        let (pixels, channels, groups) = (self.pixels(), self.map.channels, groups(self.map.channels));
        let (chunk, grid) = self.walk(SUMMED);
        let sums = Launch::new("norm_sums", self.narrow, grid)
            .at([x, dy, moments, self.weight, self.bias, parts])
            .counts([pixels, channels, groups, chunk, grid[0]]);
        let all = Launch::new("norm_totals", self.narrow, self.per_group())
            .at([parts, moments, self.weight, totals, slopes])
            .counts([pixels, channels, groups, grid[0]]);
        let parameters = Launch::over("norm_gradients", self.narrow, channels)
            .at([totals, dweight, dbias])
            .counts([self.map.n, channels]);
        let (chunk, grid) = self.walk(WALKED);
        let input = Launch::new("norm_backward", self.narrow, grid)
            .at([x, dy, residual, moments, self.weight, self.bias, slopes, dx])
            .counts([pixels, channels, groups, chunk]);
        [sums.into(), all.into(), parameters.into(), input.into()]
    }
}

/// Addresses of what [`Norm::backward`] reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Backward {
    pub x: u64,
    pub dy: u64,
    pub residual: u64,
    pub moments: u64,
    pub dx: u64,
}

/// Addresses of what [`Norm::backward`] needs for a moment; slopes are as large as the moments.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    pub parts: u64,
    pub totals: u64,
    pub slopes: u64,
}
