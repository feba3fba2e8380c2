//! A perceptual hash: 256 bits that stay nearly the same when a picture is turned a little, brightened,
//! re-encoded or scaled, so that near-duplicates are found without looking at pixels again.
//!
//! The picture is squashed to 32 x 32 grey pixels g. With the window w, 1 inside the inscribed circle and fading
//! to 0 over its last 4 pixels (what a turn brings in at the corners does not count), and the window's mean m,
//!
//! C = D (w ∘ (g - m)) Dᵀ, D(k, x) = cos(π k (2 x + 1) / 64), k < 18
//!
//! is the discrete cosine transform (DCT-II). The bits are the signs of its 256 lowest coefficients by k² + l²,
//! the constant left out (after pHash: Zauner 2010). Signs do not see gain and offset.
//!
//! A hash holds the bits of the picture as it is, then as turned by each of [`ANGLES`]: two pictures are
//! compared by one's upright bits and all of the other's. Within the bounds of [`BOUNDS`] the distance is at most
//! [`RADIUS`] for 98 of 100 pictures or more: the tests turn, brighten and re-encode generated ones, and real ones
//! where there are any, as far as chance says within the bounds. Where turn and brightness are at their ends at once,
//! nine of ten are.
//! Two X-rays of the same patient in the same pose can be as near as that: what is found is to be looked at.
//! Mirrored, cropped or inverted pictures are other pictures. A picture without structure has no hash.

use std::sync::LazyLock;

use super::{Pixels, resize};
use crate::error::Result;

/// The column of a dataset table that holds hashes.
pub const COLUMN: &str = "phash";
/// Bits compared.
pub const BITS: usize = 256;
/// Bytes of one orientation.
pub const BYTES: usize = BITS / 8;
/// Degrees by which the picture is turned for the orientations after the upright one.
pub const ANGLES: [f32; 4] = [-4.0, -2.0, 2.0, 4.0];
/// Bytes of a whole hash: upright, then turned.
pub const WHOLE: usize = BYTES * (1 + ANGLES.len());
/// Pictures whose bits differ in at most this many places are near-duplicates.
pub const RADIUS: u32 = 27;
/// What the radius covers, all at once.
pub const BOUNDS: &str = "turned by up to 5 degrees, brightness times 0.8 to 1.25 plus up to 20 of 255 where it is \
                          not cut off, re-encoded as JPEG of quality 60 or better, scaled down to 0.7 or less of \
                          the side while that stays above 48 px";

/// Bits of one orientation.
pub type Bits = [u64; 4];

const SIDE: usize = 32;
/// Beyond the highest frequency that a bit has.
const HIGHEST: usize = 18;
/// As many or more, a multiple of what is added side by side.
const FREQUENCIES: usize = 24;
/// Standard deviation, in grey levels inside the window, below which a picture is flat.
const FLAT: f32 = 1.0;

struct Tables {
    /// By pixel, then by frequency.
    cosines: [[f32; FREQUENCIES]; SIDE],
    window: [[f32; SIDE]; SIDE],
    /// (k, l) of each bit.
    order: Vec<(usize, usize)>,
    /// Where each pixel of the picture turned by each of [`ANGLES`] comes from.
    turns: [Vec<Between>; ANGLES.len()],
}

/// A place between four pixels.
struct Between {
    /// The upper left one.
    at: usize,
    /// How far the place is down and to the right of it, 0 to 1.
    down: f32,
    right: f32,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let cosine = |k: usize, x: usize| (std::f64::consts::PI * k as f64 * (2 * x + 1) as f64 / 64.0).cos() as f32;
    let middle = (SIDE as f64 - 1.0) / 2.0;
    let fade = |y: usize, x: usize| {
        let r = (y as f64 - middle).hypot(x as f64 - middle);
        ((SIDE as f64 / 2.0 - r) / 4.0).clamp(0.0, 1.0) as f32
    };
    let mut order: Vec<(usize, usize)> =
        (0..FREQUENCIES * FREQUENCIES).map(|i| (i / FREQUENCIES, i % FREQUENCIES)).collect();
    order.sort_by_key(|&(k, l)| (k * k + l * l, k, l));
    Tables {
        cosines: std::array::from_fn(|x| std::array::from_fn(|k| cosine(k, x))),
        window: std::array::from_fn(|y| std::array::from_fn(|x| fade(y, x))),
        order: order.into_iter().skip(1).take(BITS).collect(),
        turns: ANGLES.map(turn),
    }
});

/// A turn about the centre; beyond the border the border goes on.
fn turn(degrees: f32) -> Vec<Between> {
    let (sin, cos) = f64::from(degrees).to_radians().sin_cos();
    let (middle, last) = ((SIDE as f64 - 1.0) / 2.0, (SIDE - 1) as f64);
    let from = |i: usize| {
        let (dy, dx) = ((i / SIDE) as f64 - middle, (i % SIDE) as f64 - middle);
        let sx = (cos * dx - sin * dy + middle).clamp(0.0, last);
        let sy = (sin * dx + cos * dy + middle).clamp(0.0, last);
        let (x, y) = ((sx as usize).min(SIDE - 2), (sy as usize).min(SIDE - 2));
        Between { at: y * SIDE + x, down: (sy - y as f64) as f32, right: (sx - x as f64) as f32 }
    };
    (0..SIDE * SIDE).map(from).collect()
}

/// The hash of a picture: [`WHOLE`] bytes, or `None` where it has no structure.
pub fn phash(image: &Pixels) -> Result<Option<Vec<u8>>> {
    let small = resize(image, SIDE as u32, SIDE as u32)?.with_channels(1, Default::default());
    let grey: Grey = std::array::from_fn(|i| f32::from(small.data[i]));
    Ok(orientations_of(&grey).map(|all| all.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()))
}

/// The bits of a picture upright and turned, or `None` where it has no structure.
fn orientations_of(grey: &Grey) -> Option<[Bits; 1 + ANGLES.len()]> {
    let mut turned = [*grey; 1 + ANGLES.len()];
    for (turned, turn) in turned[1..].iter_mut().zip(&TABLES.turns) {
        *turned = turn_by(grey, turn);
    }
    let looks = looks(&turned);
    if looks[0].1 < FLAT * FLAT {
        return None;
    }
    let upright = bits(grey, looks[0].0);
    let mut all = [upright; 1 + ANGLES.len()];
    for (all, (grey, (mean, variance))) in all[1..].iter_mut().zip(turned[1..].iter().zip(&looks[1..])) {
        if *variance >= FLAT * FLAT {
            *all = bits(grey, *mean);
        }
    }
    Some(all)
}

/// Grey levels of [`SIDE`] x [`SIDE`] pixels.
type Grey = [f32; SIDE * SIDE];

/// The upright bits of a hash, which are all that the side which is looked up needs.
pub fn upright(hash: &[u8]) -> Option<Bits> {
    orientations(hash).next()
}

/// Every orientation that a hash holds, the upright one first.
pub fn orientations(hash: &[u8]) -> impl Iterator<Item = Bits> + '_ {
    hash.chunks_exact(BYTES)
        .map(|part| std::array::from_fn(|i| u64::from_le_bytes(part[8 * i..8 * i + 8].try_into().unwrap_or_default())))
}

/// Places in which two orientations differ.
pub fn distance(a: &Bits, b: &Bits) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// Mean and variance of each picture inside the window. Each sum is one chain of additions, so all are made at once.
fn looks<const N: usize>(pictures: &[Grey; N]) -> [(f32, f32); N] {
    let window = || TABLES.window.iter().flatten().enumerate();
    let (mut mass, mut sums, mut squares) = (0.0f32, [0.0f32; N], [0.0f32; N]);
    for (i, w) in window() {
        mass += w;
        sums.iter_mut().zip(pictures).for_each(|(s, grey)| *s += grey[i] * w);
    }
    let means = sums.map(|s| s / mass);
    for (i, w) in window() {
        for ((s, grey), mean) in squares.iter_mut().zip(pictures).zip(&means) {
            *s += w * (grey[i] - mean) * (grey[i] - mean);
        }
    }
    std::array::from_fn(|k| (means[k], squares[k] / mass))
}

fn bits(grey: &Grey, mean: f32) -> Bits {
    let t = &*TABLES;
    // By column, then by row: what is added side by side lies side by side.
    let mut seen = [[0.0f32; SIDE]; SIDE];
    for (y, (row, window)) in grey.chunks_exact(SIDE).zip(&t.window).enumerate() {
        for ((seen, value), window) in seen.iter_mut().zip(row).zip(window) {
            seen[y] = (value - mean) * window;
        }
    }
    let mut across = [[0.0f32; SIDE]; HIGHEST];
    for (k, across) in across.iter_mut().enumerate() {
        *across = sums(&seen, |x| t.cosines[x][k]);
    }
    let mut coefficients = [[0.0f32; FREQUENCIES]; HIGHEST];
    for (sum, across) in coefficients.iter_mut().zip(&across) {
        *sum = sums(&t.cosines, |y| across[y]);
    }
    let mut out = [0u64; 4];
    for (out, order) in out.iter_mut().zip(t.order.chunks(64)) {
        for (i, &(k, l)) in order.iter().enumerate() {
            *out |= u64::from(coefficients[l][k] > 0.0) << i;
        }
    }
    out
}

/// The sum of `N` columns of 32 rows, each row times its factor. Every eighth row is added up first, then the eight
/// sums in order, so that the result is the same everywhere.
fn sums<const N: usize>(rows: &[[f32; N]; SIDE], factor: impl Fn(usize) -> f32) -> [f32; N] {
    let mut total = [0.0f32; N];
    for lane in 0..8 {
        let mut sum = [0.0f32; N];
        for i in (lane..SIDE).step_by(8) {
            let f = factor(i);
            sum.iter_mut().zip(&rows[i]).for_each(|(s, value)| *s += value * f);
        }
        total.iter_mut().zip(sum).for_each(|(t, s)| *t += s);
    }
    total
}

/// The picture turned, bilinear.
fn turn_by(grey: &Grey, turn: &[Between]) -> Grey {
    let mut out = [0.0; SIDE * SIDE];
    for (out, &Between { at, down, right }) in out.iter_mut().zip(turn) {
        let Some(&[a, b]) = grey.get(at..).and_then(|g| g.first_chunk()) else { continue };
        let Some(&[c, d]) = grey.get(at + SIDE..).and_then(|g| g.first_chunk()) else { continue };
        let upper = a * (1.0 - right) + b * right;
        let lower = c * (1.0 - right) + d * right;
        *out = upper * (1.0 - down) + lower * down;
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{
        super::{DecodeRule, GreyRule, ImageSize, decode, encode},
        *,
    };
    use crate::random::stream::Stream;

    /// A grey picture with details of every size, as photographs have them; another one for every seed. Its levels
    /// are far enough from black and white to be brightened.
    pub(crate) fn picture(seed: u64, height: u32, width: u32) -> Pixels {
        let mut s = Stream::new(seed, "picture", 0, 0);
        let waves: Vec<[f64; 4]> = (0..40)
            .map(|i| {
                let (frequency, direction) = (2.0 * 1.1f64.powi(i), s.range(0.0, 6.3));
                let (sin, cos) = direction.sin_cos();
                [frequency * cos, frequency * sin, s.range(0.0, 6.3), frequency.powf(-0.5)]
            })
            .collect();
        let values: Vec<f64> = (0..height * width)
            .map(|i| {
                let (y, x) = (f64::from(i / width) / f64::from(height), f64::from(i % width) / f64::from(width));
                waves.iter().map(|[ky, kx, at, high]| high * (ky * y + kx * x + at).sin()).sum()
            })
            .collect();
        let most = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let data = values.iter().map(|v| (105.0 + 70.0 * v / most) as u8).collect();
        Pixels { size: ImageSize { height, width, channels: 1 }, data }
    }

    /// What the bounds allow: turned, brightened, scaled and re-encoded.
    pub(crate) fn disturbed(image: &Pixels, degrees: f64, gain: f64, offset: f64) -> Pixels {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (h, w) = (image.size.height as usize, image.size.width as usize);
        let (cy, cx) = ((h as f64 - 1.0) / 2.0, (w as f64 - 1.0) / 2.0);
        let mut data = Vec::with_capacity(h * w);
        for i in 0..h * w {
            let (dy, dx) = ((i / w) as f64 - cy, (i % w) as f64 - cx);
            let (sy, sx) = ((sin * dx + cos * dy + cy).round(), (cos * dx - sin * dy + cx).round());
            let inside = sy >= 0.0 && sx >= 0.0 && sy < h as f64 && sx < w as f64;
            let value = if inside { f64::from(image.data[sy as usize * w + sx as usize]) } else { 0.0 };
            data.push((value * gain + offset).clamp(0.0, 255.0) as u8);
        }
        let turned = Pixels { size: image.size, data };
        let scaled = resize(&turned, (h * 7 / 10) as u32, (w * 7 / 10) as u32).unwrap();
        let rule = DecodeRule { channels: 1, ..Default::default() };
        decode(&encode::jpeg(&scaled, 60).unwrap(), &rule).unwrap()
    }

    /// The least distance between one picture's upright bits and any orientation of the other.
    pub(crate) fn apart(a: &Pixels, b: &Pixels) -> u32 {
        let (a, b) = (phash(a).unwrap().unwrap(), phash(b).unwrap().unwrap());
        let upright = upright(&a).unwrap();
        orientations(&b).map(|o| distance(&upright, &o)).min().unwrap()
    }

    #[test]
    fn generated_pictures_stay_within_the_radius_inside_the_bounds_and_strangers_outside() {
        let (mut outside, mut near) = (0, u32::MAX);
        for seed in 0..60 {
            let mut s = Stream::new(seed, "disturb", 0, 0);
            let image = picture(seed, 160, 200);
            let other = disturbed(&image, s.range(-5.0, 5.0), s.range(0.8, 1.25), s.range(-20.0, 20.0));
            outside += usize::from(apart(&image, &other) > RADIUS);
            near = near.min(apart(&image, &picture(seed + 1_000, 160, 200)));
        }
        assert!(outside <= 1, "{outside} of 60 near-duplicates are missed");
        assert!(near > 2 * RADIUS, "a stranger is {near} away");
    }

    /// Where the bounds end in every respect at once, turned as far as may be and brightened or darkened as far, one in
    /// ten is missed, and none by far.
    #[test]
    fn generated_pictures_at_the_corners_of_the_bounds_are_mostly_within_the_radius() {
        let (mut outside, mut worst, mut all) = (0, 0, 0);
        for seed in 0..40 {
            let image = picture(seed, 160, 200);
            for degrees in [-5.0, 5.0] {
                for (gain, offset) in [(0.8, -20.0), (0.8, 20.0), (1.25, -20.0), (1.25, 20.0)] {
                    let apart = apart(&image, &disturbed(&image, degrees, gain, offset));
                    worst = worst.max(apart);
                    outside += usize::from(apart > RADIUS);
                    all += 1;
                }
            }
        }
        println!("corners: worst {worst}, {outside} of {all} outside");
        assert!(outside * 9 <= all, "{outside} of {all} near-duplicates are missed");
        assert!(worst < 2 * RADIUS, "the worst is {worst} away, as strangers are");
    }

    /// Hashes lie in tables that others made: not one bit may depend on how the sums are laid out.
    #[test]
    fn sums_are_added_in_eight_lanes_to_the_bit() {
        let mut s = Stream::new(3, "sums", 0, 0);
        let cosines = &TABLES.cosines;
        for _ in 0..50 {
            let values: [f32; SIDE] = std::array::from_fn(|_| s.range(-128.0, 128.0) as f32);
            for (k, sum) in sums(cosines, |i| values[i]).into_iter().enumerate() {
                let mut lanes = [0.0f32; 8];
                (0..SIDE).for_each(|i| lanes[i % 8] += values[i] * cosines[i][k]);
                assert_eq!(sum, lanes.iter().sum::<f32>(), "frequency {k}");
            }
        }
    }

    #[test]
    fn the_bounds_end_somewhere() {
        let image = picture(1, 160, 200);
        assert!(apart(&image, &disturbed(&image, 25.0, 1.0, 0.0)) > RADIUS, "25 degrees are another picture");
        let mut mirrored = image.clone();
        mirrored.data.chunks_exact_mut(200).for_each(<[u8]>::reverse);
        assert!(apart(&image, &mirrored) > RADIUS);
    }

    #[test]
    fn colour_and_size_do_not_matter_and_a_flat_picture_has_no_hash() {
        let image = picture(2, 200, 160);
        let rgb = image.clone().with_channels(3, GreyRule::Luma);
        assert_eq!(phash(&image).unwrap(), phash(&rgb).unwrap());
        assert!(apart(&image, &resize(&image, 64, 64).unwrap()) <= RADIUS);
        let flat = Pixels { data: vec![77; image.data.len()], ..image };
        assert_eq!(phash(&flat).unwrap(), None);
    }

    /// Real X-rays and photographs under `SCALESHOT_REAL_DATA`, each disturbed within the bounds.
    #[test]
    fn real_pictures_stay_within_the_radius_inside_the_bounds() {
        let Some(root) = std::env::var_os("SCALESHOT_REAL_DATA").filter(|r| !r.is_empty()) else {
            println!("left out: SCALESHOT_REAL_DATA is not set");
            return;
        };
        let rule = DecodeRule { channels: 1, ..Default::default() };
        for folder in ["NIH-ChestXRay-14/images", "covid-chestxray-dataset/images", "oxford-iiit-pet/images"] {
            let folder = std::path::Path::new(&root).join(folder);
            let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
            files.sort();
            let (mut outside, mut worst) = (0, 0);
            let step = files.len() / 100;
            let files: Vec<_> = files.into_iter().step_by(step.max(1)).take(100).collect();
            for (i, file) in files.iter().enumerate() {
                let image = decode(&std::fs::read(file).unwrap(), &rule).unwrap();
                let mut s = Stream::new(i as u64, "disturb", 0, 0);
                let other = disturbed(&image, s.range(-5.0, 5.0), s.range(0.8, 1.25), s.range(-20.0, 20.0));
                let apart = apart(&image, &other);
                worst = worst.max(apart);
                outside += usize::from(apart > RADIUS);
            }
            println!("{}: worst {worst}, {outside} of {} outside", folder.display(), files.len());
            assert!(outside * 50 <= files.len(), "{}: {outside} of {} are missed", folder.display(), files.len());
        }
    }
}
