//! What moves pixels without weights: zero padding, the root's max-pool 3/2, the global average.
//!
//! BiT pads with zeros *before* the max-pool, so a zero can win at a border.

use super::Map;
use super::element::Element;
use super::kernel::{Kernel, versions};
use rayon::prelude::*;

/// `map` with `pad` zeros on every side.
pub fn padded(map: Map, pad: usize) -> Map {
    Map { height: map.height + 2 * pad, width: map.width + 2 * pad, ..map }
}

/// Copies images into the middle of zeros. `out` is of shape [`padded`].
pub fn pad(x: &[f32], map: Map, pad: usize, out: &mut [f32]) {
    let wide = padded(map, pad);
    let (row, wide_row) = (map.width * map.channels, wide.width * wide.channels);
    out.par_chunks_mut(wide.image()).zip(x.par_chunks(map.image())).for_each(|(out, x)| {
        out[..pad * wide_row].fill(0.0);
        out[(pad + map.height) * wide_row..].fill(0.0);
        for y in 0..map.height {
            let line = &mut out[(y + pad) * wide_row..][..wide_row];
            line[..pad * map.channels].fill(0.0);
            line[pad * map.channels..][..row].copy_from_slice(&x[y * row..][..row]);
            line[pad * map.channels + row..].fill(0.0);
        }
    });
}

/// The shape after padding by 1 and max-pooling 3x3 with stride 2.
pub fn pooled(map: Map) -> Map {
    Map { height: (map.height - 1) / 2 + 1, width: (map.width - 1) / 2 + 1, ..map }
}

versions! {
    fn image_max_pool<T: Element>(x: &[f32], map: Map, y: &mut [T], winner: &mut [u8]) {
        let mut line = vec![0f32; map.channels];
        let (h, w, channels) = (map.height, map.width, map.channels);
        let out = pooled(map);
        for oy in 0..out.height {
            for ox in 0..out.width {
                let at = (oy * out.width + ox) * channels;
                let (best, which) = (&mut line[..channels], &mut winner[at..at + channels]);
                best.fill(f32::NEG_INFINITY);
                which.fill(0);
                for tap in 0..9 {
                    let (iy, ix) = (2 * oy + tap / 3, 2 * ox + tap % 3);
                    if iy == 0 || ix == 0 || iy > h || ix > w {
                        for (best, which) in best.iter_mut().zip(which.iter_mut()) {
                            let wins = 0.0 > *best;
                            *best = if wins { 0.0 } else { *best };
                            *which = if wins { tap as u8 } else { *which };
                        }
                    } else {
                        let x = &x[((iy - 1) * w + ix - 1) * channels..][..channels];
                        for ((best, which), &x) in best.iter_mut().zip(which.iter_mut()).zip(x) {
                            // A NaN wins, as in PyTorch, so that it is seen in the loss.
                            let wins = x > *best || x.is_nan();
                            *best = if wins { x } else { *best };
                            *which = if wins { tap as u8 } else { *which };
                        }
                    }
                }
                y[at..at + channels].iter_mut().zip(&line).for_each(|(y, &v)| *y = T::narrow(v));
            }
        }
    }
}

versions! {
    fn image_max_pool_backward<T: Element>(dy: &[T], winner: &[u8], map: Map, dx: &mut [f32]) {
        let channels = map.channels;
        let out = pooled(map);
        for iy in 0..map.height {
            for ix in 0..map.width {
                let dx = &mut dx[(iy * map.width + ix) * channels..][..channels];
                dx.fill(0.0);
                // Input row iy is tap a of output row oy where 2 oy + a - 1 = iy.
                for a in [(iy + 1) % 2, (iy + 1) % 2 + 2] {
                    for b in [(ix + 1) % 2, (ix + 1) % 2 + 2] {
                        if a > 2 || b > 2 || iy + 1 < a || ix + 1 < b {
                            continue;
                        }
                        let (oy, ox) = ((iy + 1 - a) / 2, (ix + 1 - b) / 2);
                        if oy >= out.height || ox >= out.width {
                            continue;
                        }
                        let tap = (a * 3 + b) as u8;
                        let at = (oy * out.width + ox) * channels;
                        let (dy, winner) = (&dy[at..at + channels], &winner[at..at + channels]);
                        for ((dx, &dy), &winner) in dx.iter_mut().zip(dy).zip(winner) {
                            *dx += if winner == tap { dy.wide() } else { 0.0 };
                        }
                    }
                }
            }
        }
    }
}

/// Max-pool 3x3, stride 2, after padding by one zero; `winner` notes which tap won (the first of equals).
pub fn max_pool<T: Element>(kernel: Kernel, x: &[f32], map: Map, y: &mut [T], winner: &mut [u8]) {
    let out = pooled(map).image();
    y.par_chunks_mut(out)
        .zip(winner.par_chunks_mut(out))
        .zip(x.par_chunks(map.image()))
        .for_each(|((y, winner), x)| image_max_pool(kernel, x, map, y, winner));
}

/// The gradient of [`max_pool`]'s input; what padding won is dropped.
pub fn max_pool_backward<T: Element>(kernel: Kernel, dy: &[T], winner: &[u8], map: Map, dx: &mut [f32]) {
    let out = pooled(map).image();
    dx.par_chunks_mut(map.image())
        .zip(winner.par_chunks(out))
        .zip(dy.par_chunks(out))
        .for_each(|((dx, winner), dy)| image_max_pool_backward(kernel, dy, winner, map, dx));
}

/// The mean of each channel of each image: `n * channels`.
pub fn average<T: Element>(x: &[T], map: Map, means: &mut [f32]) {
    let pixels = (map.height * map.width) as f64;
    means.par_chunks_mut(map.channels).zip(x.par_chunks(map.image())).for_each(|(means, x)| {
        let mut sums = vec![0f64; map.channels];
        for row in x.chunks_exact(map.channels) {
            sums.iter_mut().zip(row).for_each(|(s, &v)| *s += f64::from(v.wide()));
        }
        means.iter_mut().zip(sums).for_each(|(m, s)| *m = (s / pixels) as f32);
    });
}

/// The gradient of [`average`]'s input.
pub fn average_backward<T: Element>(dmeans: &[f32], map: Map, dx: &mut [T]) {
    let share = 1.0 / (map.height * map.width) as f32;
    dx.par_chunks_mut(map.image()).zip(dmeans.par_chunks(map.channels)).for_each(|(dx, dmeans)| {
        for row in dx.chunks_exact_mut(map.channels) {
            row.iter_mut().zip(dmeans).for_each(|(d, &m)| *d = T::narrow(m * share));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream::Stream;

    #[test]
    fn max_pool_sees_zeros_at_borders_and_sends_gradients_to_winners() {
        for (height, width) in [(1, 1), (2, 3), (5, 4), (6, 6), (7, 9)] {
            let map = Map { n: 2, height, width, channels: 3 };
            let out = pooled(map);
            let mut stream = Stream::new(1, "pool", height as u64, width as u64);
            // Mostly negative, so that padding wins at borders.
            let x: Vec<f32> = (0..map.len()).map(|_| stream.range(-1.0, 0.3) as f32).collect();
            let dy: Vec<f32> = (0..out.len()).map(|_| stream.range(-1.0, 1.0) as f32).collect();
            let (mut wanted, mut wanted_dx) = (vec![0.0; out.len()], vec![0f32; map.len()]);
            for image in 0..2 {
                for (oy, ox) in (0..out.height).flat_map(|y| (0..out.width).map(move |x| (y, x))) {
                    for c in 0..3 {
                        let to = image * out.image() + (oy * out.width + ox) * 3 + c;
                        let mut best = (f32::NEG_INFINITY, None);
                        for (y, x_) in (0..3).flat_map(|a| (0..3).map(move |b| (2 * oy + a, 2 * ox + b))) {
                            let inside = y > 0 && x_ > 0 && y <= height && x_ <= width;
                            let at = inside.then(|| image * map.image() + ((y - 1) * width + x_ - 1) * 3 + c);
                            let v = at.map_or(0.0, |at| x[at]);
                            if v > best.0 {
                                best = (v, at);
                            }
                        }
                        wanted[to] = best.0;
                        if let Some(at) = best.1 {
                            wanted_dx[at] += dy[to];
                        }
                    }
                }
            }
            for family in Kernel::available() {
                let (mut y, mut winner) = (vec![f32::NAN; out.len()], vec![9u8; out.len()]);
                max_pool(family, &x, map, &mut y, &mut winner);
                assert_eq!(y, wanted);
                let mut dx = vec![f32::NAN; map.len()];
                max_pool_backward(family, &dy, &winner, map, &mut dx);
                for (found, wanted) in dx.iter().zip(&wanted_dx) {
                    assert!((found - wanted).abs() < 1e-6, "{found} {wanted} {map:?}");
                }
            }
        }
    }

    #[test]
    fn padding_and_average() {
        let map = Map { n: 1, height: 2, width: 3, channels: 1 };
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 9.0];
        let mut out = vec![f32::NAN; padded(map, 1).len()];
        pad(&x, map, 1, &mut out);
        let rows: Vec<&[f32]> = out.chunks(5).collect();
        assert_eq!(rows, [&[0.0; 5], &[0.0, 1.0, 2.0, 3.0, 0.0][..], &[0.0, 4.0, 5.0, 9.0, 0.0], &[0.0; 5]]);
        let mut mean = [0.0];
        average(&x, map, &mut mean);
        assert_eq!(mean, [4.0]);
        let mut dx = [0.0; 6];
        average_backward(&[3.0], map, &mut dx);
        assert_eq!(dx, [0.5; 6]);
    }
}
