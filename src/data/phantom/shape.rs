//! Soft shapes that the phantoms are made of, and value noise.
//!
//! Only `+ - * /` and square roots, whose results IEEE 754 fixes: library functions such as `exp` or `sin`
//! may differ in the last bit between hosts, and a grey level with them.

use crate::random::stream::Stream;

/// 0 below `low`, 1 above `high`, cubic in between.
pub fn step(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A bump: 1 at 0, 0 from a distance of 1 on.
pub fn bump(t: f32) -> f32 {
    let s = (1.0 - t * t).max(0.0);
    s * s
}

/// [`bump`] over an ellipse's normalised distance.
pub fn ellipse_bump(x: f32, y: f32, rx: f32, ry: f32) -> f32 {
    let (dx, dy) = (x / rx, y / ry);
    let s = (1.0 - dx * dx - dy * dy).max(0.0);
    s * s
}

/// Inside an ellipse 1, outside 0, with an edge of `soft` (a fraction of the radius).
pub fn ellipse(x: f32, y: f32, rx: f32, ry: f32, soft: f32) -> f32 {
    let (dx, dy) = (x / rx, y / ry);
    step(1.0 + soft, 1.0 - soft, (dx * dx + dy * dy).sqrt())
}

/// Distance from a point to the segment a-b.
pub fn to_segment(p: [f32; 2], a: [f32; 2], b: [f32; 2]) -> f32 {
    let (ab, ap) = ([b[0] - a[0], b[1] - a[1]], [p[0] - a[0], p[1] - a[1]]);
    let length = (ab[0] * ab[0] + ab[1] * ab[1]).max(1e-9);
    let t = ((ap[0] * ab[0] + ap[1] * ab[1]) / length).clamp(0.0, 1.0);
    let (dx, dy) = (ap[0] - t * ab[0], ap[1] - t * ab[1]);
    (dx * dx + dy * dy).sqrt()
}

/// Distance to the nearest whole number, 0 to 0.5.
pub fn to_whole(x: f32) -> f32 {
    (x - (x + 0.5).floor()).abs()
}

/// Uniform in [low, high), as f32.
pub fn range(stream: &mut Stream, low: f32, high: f32) -> f32 {
    stream.range(f64::from(low), f64::from(high)) as f32
}

/// Nearly normal with mean 0 and variance 1: the sum of four uniforms (Irwin-Hall), from one draw.
pub fn grain(stream: &mut Stream) -> f32 {
    let bits = stream.bits();
    let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xFFFF).sum();
    (sum as f32 / 65_536.0 - 2.0) * 1.732_050_8
}

/// Smooth noise in [-1, 1] over the plane: random values on a periodic lattice, smoothly joined.
#[derive(Clone, Debug)]
pub struct Noise {
    lattice: Vec<f32>,
}

const CELLS: usize = 32;

impl Noise {
    pub fn new(stream: &mut Stream) -> Self {
        Noise { lattice: (0..CELLS * CELLS).map(|_| range(stream, -1.0, 1.0)).collect() }
    }

    /// At a point measured in lattice cells.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let (fx, fy) = (x.floor(), y.floor());
        let (ix, iy) = (fx as i32 as usize, fy as i32 as usize);
        let value =
            |dx: usize, dy: usize| self.lattice[(iy.wrapping_add(dy) % CELLS) * CELLS + ix.wrapping_add(dx) % CELLS];
        let (tx, ty) = (step(0.0, 1.0, x - fx), step(0.0, 1.0, y - fy));
        let top = value(0, 0) + (value(1, 0) - value(0, 0)) * tx;
        let bottom = value(0, 1) + (value(1, 1) - value(0, 1)) * tx;
        top + (bottom - top) * ty
    }

    /// Two octaves.
    pub fn rough(&self, x: f32, y: f32) -> f32 {
        0.65 * self.at(x, y) + 0.35 * self.at(2.0 * x + 7.3, 2.0 * y + 3.1)
    }

    /// Thin winding ridges, 0 to 1: where the noise crosses zero.
    pub fn ridge(&self, x: f32, y: f32) -> f32 {
        bump(self.at(x, y) * 3.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_their_extent() {
        assert_eq!((step(0.0, 1.0, -1.0), step(0.0, 1.0, 0.5), step(0.0, 1.0, 2.0)), (0.0, 0.5, 1.0));
        assert_eq!((bump(0.0), bump(1.0), bump(-2.0)), (1.0, 0.0, 0.0));
        assert_eq!((ellipse(0.0, 0.0, 1.0, 2.0, 0.1), ellipse(1.2, 0.0, 1.0, 2.0, 0.1)), (1.0, 0.0));
        assert!((to_segment([1.0, 1.0], [0.0, 0.0], [2.0, 0.0]) - 1.0).abs() < 1e-6);
        assert!((to_whole(3.2) - 0.2).abs() < 1e-6 && (to_whole(-0.3) - 0.3).abs() < 1e-6);
    }

    #[test]
    fn noise_is_smooth_bounded_and_defined_left_of_zero() {
        let noise = Noise::new(&mut Stream::new(1, "test", 0, 0));
        let mut last = noise.at(-5.0, 2.5);
        for i in 1..1000 {
            let v = noise.at(-5.0 + i as f32 * 0.01, 2.5);
            assert!(v.abs() <= 1.0 && (v - last).abs() < 0.05, "{i}");
            last = v;
        }
        let mut stream = Stream::new(1, "grain", 0, 0);
        let values: Vec<f32> = (0..20_000).map(|_| grain(&mut stream)).collect();
        let mean = values.iter().sum::<f32>() / 2e4;
        let variance = values.iter().map(|v| v * v).sum::<f32>() / 2e4;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
