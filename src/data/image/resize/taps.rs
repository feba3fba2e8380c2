//! What each pixel of a smaller or larger row is made of: the weights of a triangle filter as 16-bit integers.
//!
//! The numbers are those of fast_image_resize 6, so that both give the same bytes.

/// The weights of one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taps {
    /// The sum of a pixel's weights is 2 to this power, but for rounding.
    pub precision: u32,
    /// Of each new pixel: the first old one, and its weights.
    pub pixels: Vec<(usize, Vec<i16>)>,
}

impl Taps {
    /// From `size` old pixels, of which those from `from` to `to` are spread over `out` new ones.
    pub fn new(size: u32, from: f64, to: f64, out: u32) -> Self {
        let scale = (to - from) / f64::from(out);
        let radius = scale.max(1.0);
        let mut pixels: Vec<(usize, Vec<f64>)> = Vec::with_capacity(out as usize);
        for x in 0..out {
            let middle = from + (f64::from(x) + 0.5) * scale;
            let first = (middle - radius).floor().max(0.0) as u32;
            let end = (middle + radius).ceil().min(f64::from(size)) as u32;
            let centre = middle - 0.5;
            let weight = |x: u32| (1.0 - ((f64::from(x) - centre) * (1.0 / radius)).abs()).max(0.0);
            let first = (first..end).find(|&x| weight(x) != 0.0).unwrap_or(end);
            let mut weights: Vec<f64> = (first..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|w| *w /= sum);
            }
            while weights.last() == Some(&0.0) {
                weights.pop();
            }
            pixels.push((first as usize, weights));
        }
        // The most bits with which the largest weight still is a 16-bit integer.
        let largest = pixels.iter().flat_map(|(_, w)| w).copied().fold(0.0, f64::max);
        let fits = |precision: u32| (largest * f64::from(1 << (precision + 1))).round() < 32_768.0;
        let precision = (0..22).find(|&p| !fits(p)).unwrap_or(21);
        let whole = |w: f64| (w * f64::from(1 << precision)).round() as i16;
        let pixels = pixels.into_iter().map(|(first, w)| (first, w.into_iter().map(whole).collect())).collect();
        Taps { precision, pixels }
    }

    /// The old pixels that count at all.
    pub fn range(&self) -> std::ops::Range<usize> {
        let start = self.pixels.first().map_or(0, |p| p.0);
        let end = self.pixels.last().map_or(0, |p| p.0 + p.1.len());
        start..end.max(start)
    }
}
