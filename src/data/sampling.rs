//! From stored bytes to the model's input: crop, resize, flip and warp, with normalisation in the first copy.
//!
//! Resizing is bilinear with antialiasing as Pillow's (a triangle as wide as the scale), in float and
//! without rounding between the passes, so within one grey level of it. Output is height x width x 3, grey repeated,
//! scaled as [`super::normalise`] says. It draws no random numbers.

use super::normalise::Levels;

/// Height, width and channels (1 or 3) of stored images; bytes are row by row, channels innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageDims {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

/// One axis of "take `length` pixels from `start`, resize them to `resized`, keep `count` from `first`".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    pub start: usize,
    pub length: usize,
    pub resized: usize,
    pub first: usize,
    pub count: usize,
}

impl Axis {
    /// The whole axis as it is.
    pub fn whole(length: usize) -> Self {
        Axis { start: 0, length, resized: length, first: 0, count: length }
    }

    fn copies(&self) -> bool {
        self.length == self.resized
    }

    /// For each output pixel its first source pixel, and the weights of the `taps` pixels from there.
    fn taps(&self, mirrored: bool) -> Taps {
        let scale = self.length as f64 / self.resized as f64;
        let support = scale.max(1.0);
        let width = (2.0 * support).ceil() as usize + 1;
        let mut out = Taps { first: Vec::with_capacity(self.count), weights: vec![0.0; self.count * width], width };
        for k in 0..self.count {
            let at = self.first + if mirrored { self.count - 1 - k } else { k };
            let center = (at as f64 + 0.5) * scale;
            let low = ((center - support + 0.5).floor().max(0.0) as usize).min(self.length - 1);
            let high = ((center + support + 0.5).floor() as usize).clamp(low + 1, self.length);
            let row = &mut out.weights[k * width..][..width];
            let mut sum = 0.0;
            for (x, w) in (low..high).zip(row.iter_mut()) {
                let weight = (1.0 - ((x as f64 + 0.5 - center) / support).abs()).max(0.0);
                *w = weight as f32;
                sum += weight;
            }
            row.iter_mut().for_each(|w| *w = (f64::from(*w) / sum) as f32);
            out.first.push(self.start + low);
        }
        out
    }
}

struct Taps {
    first: Vec<usize>,
    weights: Vec<f32>,
    width: usize,
}

impl Taps {
    fn of(&self, k: usize) -> (usize, &[f32]) {
        let row = &self.weights[k * self.width..][..self.width];
        let used = row.iter().rposition(|&w| w != 0.0).map_or(1, |p| p + 1);
        (self.first[k], &row[..used])
    }
}

/// Rotation, scale and shift about the centre of the view, linear, mirrored at the borders.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warp {
    /// Counter-clockwise, radians.
    pub angle: f64,
    pub scale: f64,
    /// Shares of width and height.
    pub shift_x: f64,
    pub shift_y: f64,
}

/// How one image is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    pub y: Axis,
    pub x: Axis,
    pub mirrored: bool,
    pub warp: Option<Warp>,
}

/// Writes `pixels` as seen through `geometry` into `out` (y.count · x.count · 3), scaled by `levels`.
pub fn render(pixels: &[u8], dims: ImageDims, geometry: &Geometry, levels: &Levels, out: &mut [f32]) {
    let Geometry { y, x, mirrored, warp } = *geometry;
    let grey = dims.channels == 1;
    // Channels that are scaled differently come from one grey picture: it is resized as shares, and scaled when repeated.
    let shares = (grey && !levels.alike).then(|| std::array::from_fn(|v| v as f32 / 255.0));
    let tables: Tables = match &shares {
        Some(shares) => [shares; 3],
        None if levels.alike => [&levels.table[0]; 3],
        None => std::array::from_fn(|c| &levels.table[c]),
    };
    match warp {
        None if !grey => resample(pixels, dims, y, x, mirrored, &tables, out),
        None => {
            let mut seen = vec![0.0; y.count * x.count];
            resample(pixels, dims, y, x, mirrored, &tables, &mut seen);
            for (rgb, g) in out.chunks_exact_mut(3).zip(seen) {
                rgb.fill(g);
            }
        }
        Some(warp) => {
            let mut seen = vec![0.0; y.count * x.count * dims.channels];
            resample(pixels, dims, y, x, false, &tables, &mut seen);
            self::warp(&seen, y.count, x.count, dims.channels, warp, mirrored, out);
        }
    }
    if shares.is_some() {
        for rgb in out.chunks_exact_mut(3) {
            rgb.iter_mut().enumerate().for_each(|(c, v)| *v = levels.scale(c, *v));
        }
    }
}

/// What each level of a channel becomes.
type Tables<'a> = [&'a [f32; 256]; 3];

/// Crop and resize into an image of the same channels.
fn resample(pixels: &[u8], dims: ImageDims, y: Axis, x: Axis, mirrored: bool, tables: &Tables, out: &mut [f32]) {
    match dims.channels {
        1 => resample_channels::<1>(pixels, dims.width, y, x, mirrored, tables, out),
        _ => resample_channels::<3>(pixels, dims.width, y, x, mirrored, tables, out),
    }
}

fn resample_channels<const C: usize>(
    pixels: &[u8],
    width: usize,
    y: Axis,
    x: Axis,
    mirrored: bool,
    tables: &Tables,
    out: &mut [f32],
) {
    let stride = width * C;
    let looked_up = |to: &mut [f32; C], from: &[u8; C]| {
        (0..C).for_each(|c| to[c] = tables[c][usize::from(from[c])]);
    };
    if x.copies() && y.copies() {
        for (k, row) in out.chunks_exact_mut(x.count * C).enumerate() {
            let from = (y.start + y.first + k) * stride + (x.start + x.first) * C;
            let (to, _) = row.as_chunks_mut::<C>();
            let (source, _) = pixels[from..from + x.count * C].as_chunks::<C>();
            if mirrored {
                to.iter_mut().zip(source.iter().rev()).for_each(|(t, f)| looked_up(t, f));
            } else {
                to.iter_mut().zip(source).for_each(|(t, f)| looked_up(t, f));
            }
        }
        return;
    }
    let (across, down) = (x.taps(mirrored), y.taps(false));
    // Only the source rows that some output row needs are resized across.
    let top = (0..y.count).map(|k| down.of(k).0).min().unwrap_or(0);
    let bottom = (0..y.count).map(|k| down.of(k).0 + down.of(k).1.len()).max().unwrap_or(0);
    let mut rows = vec![0.0f32; (bottom - top) * x.count * C];
    for (r, row) in rows.chunks_exact_mut(x.count * C).enumerate() {
        let (source, _) = pixels[(top + r) * stride..][..stride].as_chunks::<C>();
        for (k, to) in row.as_chunks_mut::<C>().0.iter_mut().enumerate() {
            let (first, weights) = across.of(k);
            for (pixel, &w) in source[first..].iter().zip(weights) {
                (0..C).for_each(|c| to[c] += w * tables[c][usize::from(pixel[c])]);
            }
        }
    }
    for (k, row) in out.chunks_exact_mut(x.count * C).enumerate() {
        let (first, weights) = down.of(k);
        row.fill(0.0);
        for (j, &w) in weights.iter().enumerate() {
            let source = &rows[(first - top + j) * x.count * C..][..x.count * C];
            row.iter_mut().zip(source).for_each(|(t, &s)| *t += w * s);
        }
    }
}

/// `…2 1 0 1 2…`: mirrored about the border pixel, which is not repeated.
fn reflect(at: i64, length: usize) -> usize {
    if length == 1 {
        return 0;
    }
    let period = 2 * (length as i64 - 1);
    let m = at.rem_euclid(period);
    m.min(period - m) as usize
}

fn warp(from: &[f32], height: usize, width: usize, channels: usize, warp: Warp, mirrored: bool, out: &mut [f32]) {
    let (cy, cx) = ((height as f64 - 1.0) / 2.0, (width as f64 - 1.0) / 2.0);
    let (sin, cos) = warp.angle.sin_cos();
    let (sin, cos) = (sin / warp.scale, cos / warp.scale);
    for (i, to) in out.chunks_exact_mut(3).enumerate() {
        let (row, column) = (i / width, i % width);
        let column = if mirrored { width - 1 - column } else { column };
        let dy = row as f64 - cy - warp.shift_y * height as f64;
        let dx = column as f64 - cx - warp.shift_x * width as f64;
        let (sy, sx) = (cy + sin * dx + cos * dy, cx + cos * dx - sin * dy);
        let (y0, x0) = (sy.floor(), sx.floor());
        let (fy, fx) = ((sy - y0) as f32, (sx - x0) as f32);
        let ys = [reflect(y0 as i64, height), reflect(y0 as i64 + 1, height)];
        let xs = [reflect(x0 as i64, width), reflect(x0 as i64 + 1, width)];
        let at = |y: usize, x: usize, c: usize| from[(y * width + x) * channels + c];
        for (c, t) in to.iter_mut().enumerate() {
            let c = if channels == 1 { 0 } else { c };
            let upper = at(ys[0], xs[0], c) * (1.0 - fx) + at(ys[0], xs[1], c) * fx;
            let lower = at(ys[1], xs[0], c) * (1.0 - fx) + at(ys[1], xs[1], c) * fx;
            *t = upper * (1.0 - fy) + lower * fy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::normalise::{Normalise, Own};

    const WIDE: ImageDims = ImageDims { height: 2, width: 3, channels: 3 };

    /// 2 x 3 pixels; red marks the first corner.
    fn marked() -> Vec<u8> {
        let mut p: Vec<u8> = (0..18).map(|i| i * 10).collect();
        p[0] = 255;
        p
    }

    fn plain(dims: ImageDims) -> Geometry {
        Geometry { y: Axis::whole(dims.height), x: Axis::whole(dims.width), mirrored: false, warp: None }
    }

    fn grey(value: f32) -> f32 {
        (value + 1.0) * 127.5
    }

    fn symmetric() -> Levels {
        Levels::new(Normalise::default())
    }

    #[test]
    fn a_copy_normalises_and_a_mirror_moves_the_marked_corner() {
        let (pixels, mut out) = (marked(), vec![0.0; 18]);
        render(&pixels, WIDE, &plain(WIDE), &symmetric(), &mut out);
        assert!(out.iter().zip(&pixels).all(|(&o, &p)| o == (f32::from(p) / 255.0 - 0.5) / 0.5));
        assert_eq!(out[0], 1.0);
        render(&pixels, WIDE, &Geometry { mirrored: true, ..plain(WIDE) }, &symmetric(), &mut out);
        assert_eq!((out[6], out[7]), (1.0, (10.0 / 255.0 - 0.5) / 0.5));
    }

    #[test]
    fn grey_is_repeated() {
        let dims = ImageDims { channels: 1, ..WIDE };
        let mut out = vec![0.0; 18];
        render(&[255, 0, 0, 0, 0, 128], dims, &plain(dims), &symmetric(), &mut out);
        assert_eq!(out[..4], [1.0, 1.0, 1.0, -1.0]);
        assert_eq!(out[15], out[17]);
    }

    /// Numbers of Pillow 13.0:
    /// `row = np.array([[0, 100, 200, 40, 80, 255, 10]], "u1")`,
    /// `Image.fromarray(row).resize((w, 1), Image.BILINEAR)` for w = 3 and 14, and
    /// `block = np.array([[(y * 37 + x * 53) % 256 for x in range(5)] for y in range(4)], "u1")`
    /// resized to (3, 7).
    #[test]
    fn resizing_is_pillows() {
        let row = vec![0u8, 100, 200, 40, 80, 255, 10];
        let block: Vec<u8> = (0..20).map(|i| (i / 5 * 37 + i % 5 * 53) as u8).collect();
        let cases: [(&[u8], [usize; 4], &[u8]); 3] = [
            (&row, [1, 7, 1, 3], &[86, 103, 130]),
            (&row, [1, 7, 1, 14], &[0, 25, 75, 125, 175, 160, 80, 50, 70, 124, 211, 194, 71, 10]),
            (
                &block,
                [4, 5, 7, 3],
                &[23, 106, 189, 36, 119, 202, 57, 140, 223, 79, 162, 172, 100, 179, 112, 121, 167, 70, 134, 160, 44],
            ),
        ];
        for (pixels, [height, width, h, w], expected) in cases {
            let axis = |length, to| Axis { start: 0, length, resized: to, first: 0, count: to };
            let geometry = Geometry { y: axis(height, h), x: axis(width, w), mirrored: false, warp: None };
            let mut out = vec![0.0; h * w * 3];
            render(pixels, ImageDims { height, width, channels: 1 }, &geometry, &symmetric(), &mut out);
            for (k, &e) in expected.iter().enumerate() {
                let ours = grey(out[k * 3]);
                assert!((ours - f32::from(e)).abs() < 1.0, "{h}x{w} at {k}: {ours} here, {e} by Pillow");
            }
        }
    }

    /// Numbers of torchvision 0.29.2, whose antialiased resize of float images is ours:
    /// ```python
    /// def img(c):
    ///     y, x, k = np.meshgrid(np.arange(4), np.arange(6), np.arange(c), indexing="ij")
    ///     return torch.from_numpy(((x*x*3 + y*7 + x*y*5 + k*50) % 256).astype(np.uint8)).permute(2, 0, 1)
    /// def see(c, to, mean, std):
    ///     x = F.resize(F.to_dtype(img(c), torch.float32, scale=True), to, antialias=True).expand(3, *to).clone()
    ///     print(F.normalize(x, mean, std).permute(1, 2, 0).flatten().tolist())
    /// see(1, [2, 4], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    /// see(3, [2, 3], [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    /// ```
    #[test]
    fn channels_are_scaled_as_torchvision_scales_them() {
        let own = Normalise::Own(Own { mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6] });
        let cases: [(usize, usize, Normalise, &[f32]); 2] = [
            (
                1,
                4,
                Normalise::imagenet(),
                &[
                    -1.99008, -1.90504, -1.67435, -1.74089, -1.65028, -1.42073, -1.28151, -1.18065, -0.95318,
                    -0.638447, -0.523234, -0.298686, -1.75125, -1.66088, -1.43127, -1.31331, -1.21316, -0.985549,
                    -0.659582, -0.54484, -0.320196, 0.172226, 0.305535, 0.526399,
                ],
            ),
            (
                3,
                3,
                own,
                &[
                    -0.146559, 0.07491, 0.222556, 0.092437, 0.266106, 0.381886, 0.503702, 0.595118, 0.656062,
                    0.0163065, 0.205202, 0.331132, 0.392857, 0.506443, 0.582166, 0.941677, 0.945498, 0.640723,
                ],
            ),
        ];
        for (channels, width, normalise, expected) in cases {
            let dims = ImageDims { height: 4, width: 6, channels };
            let at = |i: usize| (i / channels / 6, i / channels % 6, i % channels);
            let level = |(y, x, c): (usize, usize, usize)| ((x * x * 3 + y * 7 + x * y * 5 + c * 50) % 256) as u8;
            let pixels: Vec<u8> = (0..24 * channels).map(|i| level(at(i))).collect();
            let axis = |length, to| Axis { start: 0, length, resized: to, first: 0, count: to };
            let geometry = Geometry { y: axis(4, 2), x: axis(6, width), mirrored: false, warp: None };
            let mut out = vec![0.0; 2 * width * 3];
            render(&pixels, dims, &geometry, &Levels::new(normalise), &mut out);
            for (ours, theirs) in out.iter().zip(expected) {
                assert!((ours - theirs).abs() < 2e-5, "{channels} channels: {ours} here, {theirs} by torchvision");
            }
        }
    }

    #[test]
    fn a_crop_of_a_resize_is_the_resize_cropped() {
        let dims = ImageDims { height: 9, width: 7, channels: 3 };
        let pixels: Vec<u8> = (0..9 * 7 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let axis = |length, resized, first, count| Axis { start: 0, length, resized, first, count };
        let mut whole = vec![0.0; 12 * 5 * 3];
        let all = Geometry { y: axis(9, 12, 0, 12), x: axis(7, 5, 0, 5), mirrored: false, warp: None };
        render(&pixels, dims, &all, &symmetric(), &mut whole);
        let mut part = vec![0.0; 4 * 3 * 3];
        render(&pixels, dims, &Geometry { y: axis(9, 12, 5, 4), x: axis(7, 5, 1, 3), ..all }, &symmetric(), &mut part);
        for y in 0..4 {
            for x in 0..9 {
                assert_eq!(part[y * 9 + x], whole[(y + 5) * 15 + 3 + x]);
            }
        }
    }

    #[test]
    fn an_empty_warp_copies_and_a_quarter_turn_carries_the_corner() {
        let dims = ImageDims { height: 3, width: 3, channels: 1 };
        let pixels = [255, 0, 0, 0, 0, 0, 0, 0, 0];
        let still = Warp { angle: 0.0, scale: 1.0, shift_x: 0.0, shift_y: 0.0 };
        let see = |warp| {
            let mut out = vec![0.0; 27];
            render(&pixels, dims, &Geometry { warp: Some(warp), ..plain(dims) }, &symmetric(), &mut out);
            out.chunks(3).map(|p| grey(p[0]).round()).collect::<Vec<_>>()
        };
        assert_eq!(see(still), pixels.map(f32::from));
        // Counter-clockwise: the top left corner comes to the bottom left.
        let turned = see(Warp { angle: std::f64::consts::FRAC_PI_2, ..still });
        assert_eq!((turned[6], turned.iter().sum::<f32>()), (255.0, 255.0));
        let shifted = see(Warp { shift_x: 1.0 / 3.0, ..still });
        assert_eq!(shifted[1], 255.0);
        assert_eq!([-1, -2, 3, 4].map(|i| reflect(i, 3)), [1, 2, 1, 0]);
    }
}
