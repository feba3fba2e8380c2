//! From density to a picture: pose, exposure, noise, collimation and the side marker.
//!
//! The exposure is automatic: the mean grey level of the body is drawn for each film before anything is rendered, so
//! that it says nothing about the findings. Noise is drawn likewise and decides how well a file compresses.

use super::shape::{grain, range, step};
use crate::random::stream::Stream;

/// How one film was taken, drawn independently of the pathology.
#[derive(Clone, Debug)]
pub struct Exposure {
    pub height: u32,
    pub width: u32,
    shift: [f32; 2],
    scale: f32,
    /// Sine of a small rotation.
    tilt: f32,
    mean: f32,
    contrast: f32,
    knee: f32,
    noise: f32,
    /// Black borders: left, right, top, bottom, as fractions of the side.
    border: [f32; 4],
    /// Marker in the upper left (-1) or right (1) corner, none (0).
    marker: f32,
}

impl Exposure {
    /// `size_px` is the shorter side; the longer is up to a quarter longer, mostly the height.
    pub fn draw(stream: &mut Stream, size_px: u32) -> Self {
        let s = stream;
        let long = size_px + (f64::from(size_px) * s.range(0.02, 0.25)) as u32 + 1;
        let (height, width) = if s.chance(0.6) { (long, size_px) } else { (size_px, long) };
        let mut side = |chance: f64| if s.chance(chance) { range(s, 0.005, 0.04) } else { 0.0 };
        let border = [side(0.25), side(0.25), side(0.15), side(0.15)];
        Exposure {
            height,
            width,
            shift: [range(s, -0.05, 0.05), range(s, -0.05, 0.05)],
            scale: range(s, 0.86, 1.02),
            tilt: range(s, -0.05, 0.05),
            mean: range(s, 0.42, 0.58),
            contrast: range(s, 1.5, 2.1),
            knee: range(s, 0.6, 1.0),
            noise: range(s, 0.010, 0.032),
            border,
            marker: [-1.0, 1.0, 0.0][s.below(3) as usize],
        }
    }

    /// Renders `density(x, y)` to grey levels in [0, 1], row by row from the top left.
    pub fn render(&self, density: impl Fn(f32, f32) -> f32, stream: &mut Stream) -> Vec<f32> {
        let (height, width) = (self.height as usize, self.width as usize);
        let half = height.min(width) as f32 / 2.0;
        let cosine = (1.0 - self.tilt * self.tilt).sqrt();
        let mut film = Vec::with_capacity(height * width);
        for row in 0..height {
            let v = (row as f32 + 0.5 - height as f32 / 2.0) / half * self.scale;
            for column in 0..width {
                let u = (column as f32 + 0.5 - width as f32 / 2.0) / half * self.scale;
                let x = cosine * u - self.tilt * v + self.shift[0];
                let y = self.tilt * u + cosine * v + self.shift[1];
                let d = density(x, y);
                film.push(d / (d + self.knee));
            }
        }
        // Metered on the body alone, as the surrounding air says nothing about it.
        let body: Vec<bool> = film.iter().map(|v| *v > 0.05).collect();
        let metered = |film: &[f32]| {
            let (sum, count) =
                film.iter().zip(&body).filter(|(_, b)| **b).fold((0.0, 0u32), |(s, n), (v, _)| (s + v, n + 1));
            sum / count.max(1) as f32
        };
        let mean = metered(&film);
        for value in &mut film {
            // A film's shoulder and toe instead of hard clipping.
            *value = step(-0.25, 1.25, self.mean + self.contrast * (*value - mean));
        }
        // Shoulder and toe move the mean: bring it back to the drawn one.
        for _ in 0..3 {
            let off = self.mean - metered(&film);
            film.iter_mut().for_each(|v| *v = (*v + off).clamp(0.0, 1.0));
        }
        film.iter_mut().zip(&body).filter(|(_, b)| !**b).for_each(|(v, _)| *v *= 0.3);
        for (i, value) in film.iter_mut().enumerate() {
            let (row, column) = (i / width, i % width);
            *value = (*value + self.noise * grain(stream)).clamp(0.0, 1.0);
            self.furnish(value, row as f32 / height as f32, column as f32 / width as f32);
        }
        film
    }

    fn furnish(&self, value: &mut f32, row: f32, column: f32) {
        let [left, right, top, bottom] = self.border;
        if column < left || column >= 1.0 - right || row < top || row >= 1.0 - bottom {
            *value *= 0.05;
        }
        let from_side = if self.marker < 0.0 { column } else { 1.0 - column };
        let glyph = (0.05..0.075).contains(&from_side) && (0.05..0.12).contains(&row)
            || (0.05..0.10).contains(&from_side) && (0.10..0.12).contains(&row);
        if self.marker != 0.0 && glyph {
            *value = 0.97;
        }
    }
}

/// Grey levels in [0, 1] as 8-bit samples.
pub fn eight_bits(film: &[f32]) -> Vec<u8> {
    film.iter().map(|v| (v * 255.0 + 0.5) as u8).collect()
}

/// Grey levels in [0, 1] as 16-bit samples.
pub fn sixteen_bits(film: &[f32]) -> Vec<u16> {
    film.iter().map(|v| (v * 65_535.0 + 0.5) as u16).collect()
}
