//! From stored bytes to the model's input: crop, resize, flip and warp, with normalisation in the first copy.
//!
//! Resizing is bilinear with antialiasing as Pillow's (a triangle as wide as the scale), in float and
//! without rounding between the passes, so within one grey level of it. Normalisation is BiT's:
//! (x / 255 - 0.5) / 0.5. Output is height x width x 3, grey repeated. It draws no random numbers.

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

/// (x / 255 - 0.5) / 0.5 in f32, the order of operations torchvision has.
pub(super) fn normal(value: f32) -> f32 {
    (value / 255.0 - 0.5) / 0.5
}

/// Writes `pixels` as seen through `geometry` into `out` (y.count · x.count · 3).
pub fn render(pixels: &[u8], dims: ImageDims, geometry: &Geometry, out: &mut [f32]) {
    let Geometry { y, x, mirrored, warp } = *geometry;
    match warp {
        None if dims.channels == 3 => resample(pixels, dims, y, x, mirrored, out),
        None => {
            let mut grey = vec![0.0; y.count * x.count];
            resample(pixels, dims, y, x, mirrored, &mut grey);
            for (rgb, g) in out.chunks_exact_mut(3).zip(grey) {
                rgb.fill(g);
            }
        }
        Some(warp) => {
            let mut seen = vec![0.0; y.count * x.count * dims.channels];
            resample(pixels, dims, y, x, false, &mut seen);
            self::warp(&seen, y.count, x.count, dims.channels, warp, mirrored, out);
        }
    }
}

/// Crop and resize into an image of the same channels, normalised.
fn resample(pixels: &[u8], dims: ImageDims, y: Axis, x: Axis, mirrored: bool, out: &mut [f32]) {
    let (c, stride) = (dims.channels, dims.width * dims.channels);
    let mut table = [0.0f32; 256];
    table.iter_mut().enumerate().for_each(|(i, t)| *t = normal(i as f32));
    if x.copies() && y.copies() {
        for (k, row) in out.chunks_exact_mut(x.count * c).enumerate() {
            let from = (y.start + y.first + k) * stride + (x.start + x.first) * c;
            let source = &pixels[from..from + x.count * c];
            if mirrored {
                for (to, from) in row.chunks_exact_mut(c).zip(source.chunks_exact(c).rev()) {
                    to.iter_mut().zip(from).for_each(|(t, &f)| *t = table[usize::from(f)]);
                }
            } else {
                row.iter_mut().zip(source).for_each(|(t, &f)| *t = table[usize::from(f)]);
            }
        }
        return;
    }
    let (across, down) = (x.taps(mirrored), y.taps(false));
    // Only the source rows that some output row needs are resized across.
    let top = (0..y.count).map(|k| down.of(k).0).min().unwrap_or(0);
    let bottom = (0..y.count).map(|k| down.of(k).0 + down.of(k).1.len()).max().unwrap_or(0);
    let mut rows = vec![0.0f32; (bottom - top) * x.count * c];
    for (r, row) in rows.chunks_exact_mut(x.count * c).enumerate() {
        let source = &pixels[(top + r) * stride..][..stride];
        for (k, to) in row.chunks_exact_mut(c).enumerate() {
            let (first, weights) = across.of(k);
            for (pixel, &w) in source[first * c..].chunks_exact(c).zip(weights) {
                to.iter_mut().zip(pixel).for_each(|(t, &p)| *t += w * table[usize::from(p)]);
            }
        }
    }
    for (k, row) in out.chunks_exact_mut(x.count * c).enumerate() {
        let (first, weights) = down.of(k);
        row.fill(0.0);
        for (j, &w) in weights.iter().enumerate() {
            let source = &rows[(first - top + j) * x.count * c..][..x.count * c];
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

    #[test]
    fn a_copy_normalises_and_a_mirror_moves_the_marked_corner() {
        let (pixels, mut out) = (marked(), vec![0.0; 18]);
        render(&pixels, WIDE, &plain(WIDE), &mut out);
        assert!(out.iter().zip(&pixels).all(|(&o, &p)| o == (f32::from(p) / 255.0 - 0.5) / 0.5));
        assert_eq!(out[0], 1.0);
        render(&pixels, WIDE, &Geometry { mirrored: true, ..plain(WIDE) }, &mut out);
        assert_eq!((out[6], out[7]), (1.0, (10.0 / 255.0 - 0.5) / 0.5));
    }

    #[test]
    fn grey_is_repeated() {
        let dims = ImageDims { channels: 1, ..WIDE };
        let mut out = vec![0.0; 18];
        render(&[255, 0, 0, 0, 0, 128], dims, &plain(dims), &mut out);
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
            render(pixels, ImageDims { height, width, channels: 1 }, &geometry, &mut out);
            for (k, &e) in expected.iter().enumerate() {
                let ours = grey(out[k * 3]);
                assert!((ours - f32::from(e)).abs() < 1.0, "{h}x{w} at {k}: {ours} here, {e} by Pillow");
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
        render(&pixels, dims, &all, &mut whole);
        let mut part = vec![0.0; 4 * 3 * 3];
        render(&pixels, dims, &Geometry { y: axis(9, 12, 5, 4), x: axis(7, 5, 1, 3), ..all }, &mut part);
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
            render(&pixels, dims, &Geometry { warp: Some(warp), ..plain(dims) }, &mut out);
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
