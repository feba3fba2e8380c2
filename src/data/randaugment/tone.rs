//! Operations on grey levels and colours, as Pillow's `ImageEnhance` and `ImageOps`.

use super::Picture;

/// Pillow's `Image.blend(from, to, alpha)`: cut down within, clipped outside of 0 to 1.
fn blend(from: impl Fn(usize) -> u8, to: &Picture, alpha: f64) -> Picture {
    let alpha = alpha as f32;
    if alpha == 1.0 {
        return to.clone();
    }
    let one = |(i, &t): (usize, &u8)| {
        let f = f32::from(from(i));
        (f + alpha * (f32::from(t) - f)).clamp(0.0, 255.0) as u8
    };
    Picture { data: to.data.iter().enumerate().map(one).collect(), ..*to }
}

/// ITU-R 601-2 luma, as `convert("L")`.
fn luma(rgb: &[u8]) -> u8 {
    let sum = u32::from(rgb[0]) * 19595 + u32::from(rgb[1]) * 38470 + u32::from(rgb[2]) * 7471;
    ((sum + 0x8000) >> 16) as u8
}

/// Every level of every channel through a table of its own.
fn through(picture: &Picture, tables: &[[u8; 256]; 3]) -> Picture {
    let data = picture.data.iter().enumerate().map(|(i, &v)| tables[i % 3][usize::from(v)]).collect();
    Picture { data, ..*picture }
}

fn table(of: impl Fn(u8) -> u8) -> [u8; 256] {
    std::array::from_fn(|level| of(level as u8))
}

fn histogram(picture: &Picture, channel: usize) -> [u64; 256] {
    let mut counts = [0; 256];
    picture.data.iter().skip(channel).step_by(3).for_each(|&v| counts[usize::from(v)] += 1);
    counts
}

pub(super) fn brightness(picture: &Picture, factor: f64) -> Picture {
    blend(|_| 0, picture, factor)
}

pub(super) fn color(picture: &Picture, factor: f64) -> Picture {
    let grey: Vec<u8> = picture.data.chunks_exact(3).map(luma).collect();
    blend(|i| grey[i / 3], picture, factor)
}

/// Towards the mean grey of the picture.
pub(super) fn contrast(picture: &Picture, factor: f64) -> Picture {
    let sum: u64 = picture.data.chunks_exact(3).map(|p| u64::from(luma(p))).sum();
    let pixels = (picture.data.len() / 3).max(1);
    let mean = (sum as f64 / pixels as f64 + 0.5) as u8;
    blend(|_| mean, picture, factor)
}

/// Towards or away from a smoothed picture, whose border is the picture's.
pub(super) fn sharpness(picture: &Picture, factor: f64) -> Picture {
    let row = picture.width * 3;
    let smooth = |i: usize| {
        let (y, x) = (i / row, i % row / 3);
        if y == 0 || y + 1 >= picture.height || x == 0 || x + 1 >= picture.width {
            return picture.data[i];
        }
        let around = |from: usize| (0..3).map(|k| u32::from(picture.data[from + 3 * k - 3])).sum::<u32>();
        let sum = around(i - row) + around(i) + around(i + row) + 4 * u32::from(picture.data[i]);
        (sum as f32 / 13.0 + 0.5) as u8
    };
    blend(smooth, picture, factor)
}

/// Keeps the highest `bits` of each level.
pub(super) fn posterize(picture: &Picture, bits: u32) -> Picture {
    let lost = 8u32.saturating_sub(bits);
    through(picture, &[table(|v| ((u32::from(v) >> lost) << lost) as u8); 3])
}

/// Inverts levels from the threshold on.
pub(super) fn solarize(picture: &Picture, threshold: f64) -> Picture {
    through(picture, &[table(|v| if f64::from(v) < threshold { v } else { 255 - v }); 3])
}

/// Stretches each channel to the full range.
pub(super) fn auto_contrast(picture: &Picture) -> Picture {
    let tables = std::array::from_fn(|channel| {
        let counts = histogram(picture, channel);
        let low = counts.iter().position(|&n| n > 0).unwrap_or(0);
        let high = counts.iter().rposition(|&n| n > 0).unwrap_or(0);
        if high <= low {
            return table(|v| v);
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        table(|v| (f64::from(v) * scale + offset).clamp(0.0, 255.0) as u8)
    });
    through(picture, &tables)
}

/// Evens out each channel's histogram.
pub(super) fn equalize(picture: &Picture) -> Picture {
    let tables = std::array::from_fn(|channel| {
        let counts = histogram(picture, channel);
        let last = counts.iter().rposition(|&n| n > 0).map_or(0, |at| counts[at]);
        let step = (counts.iter().sum::<u64>() - last) / 255;
        if step == 0 {
            return table(|v| v);
        }
        let mut sum = step / 2;
        counts.map(|n| {
            let level = (sum / step).min(255) as u8;
            sum += n;
            level
        })
    });
    through(picture, &tables)
}
