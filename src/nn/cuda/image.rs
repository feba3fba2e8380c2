//! Launches that render images on the device; the kernels are in `source/image.cu` and `source/operate.cu`.

use super::op::{Launch, Op};

/// Images of one size.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub images: usize,
    pub height: usize,
    pub width: usize,
}

/// Addresses of how images are looked at: the table of looks, and what levels become (f32, see `image.cu`).
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub table: u64,
    pub scaling: u64,
    /// Grey is resized as it is and scaled afterwards, by [`Frame::warp`].
    pub shares: bool,
}

impl Frame {
    fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Values of all images, three a pixel.
    pub fn values(&self) -> usize {
        3 * self.images * self.pixels()
    }

    fn by_image(&self, kernel: &'static str) -> Launch {
        let launch = Launch::over(kernel, false, self.pixels());
        Launch { grid: [launch.grid[0], self.images as u32, 1], ..launch }
    }

    /// Crops, resizes and mirrors stored bytes as the table of looks says.
    pub fn render(&self, bytes: u64, how: How, out: u64) -> Op {
        let launch = self.by_image("render").at([bytes, how.table, how.scaling, out]);
        launch.counts([self.height, self.width, how.shares.into()]).into()
    }

    /// Rotates, scales and shifts the looks that are warped, and copies the others.
    pub fn warp(&self, from: u64, how: How, out: u64) -> Op {
        let launch = self.by_image("warp_image").at([from, how.table, how.scaling, out]);
        launch.counts([self.height, self.width, how.shares.into()]).into()
    }

    /// To grey levels of 8 bits.
    pub fn to_levels(&self, x: u64, how: How, levels: u64) -> Op {
        Launch::over("to_levels", false, self.values()).at([x, how.scaling, levels]).counts([self.values()]).into()
    }

    /// Back from them.
    pub fn from_levels(&self, levels: u64, how: How, x: u64) -> Op {
        Launch::over("from_levels", false, self.values()).at([levels, how.scaling, x]).counts([self.values()]).into()
    }

    /// One of RandAugment's operations on every image.
    pub fn operate(&self, from: u64, to: u64, table: u64) -> Op {
        let launch = Launch::new("operate", false, [self.images, 1, 1]);
        launch.at([from, to, table]).counts([self.height, self.width]).into()
    }

    /// `out = share a + (1 - share) b`, where `share` is the address of an f64.
    pub fn mix(&self, a: u64, b: u64, share: u64, out: u64) -> Op {
        Launch::over("mix", false, self.values()).at([a, b, share, out]).counts([self.values()]).into()
    }
}
