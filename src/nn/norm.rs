//! GroupNorm followed by ReLU, fused both ways; the normalised map is recomputed, never stored.
//!
//! For a group of an image with mean m and r = 1 / sqrt(var + 1e-5) (biased):
//! `y = max(0, a x + b)` with `a = weight r`, `b = bias - m a` for each channel. With g the gradient
//! of y where y > 0 and 0 elsewhere, xh = (x - m) r, and means over the group,
//! `dx = r (weight g - mean(weight g) - xh mean(weight g xh))`, `dweight = sum(g xh)`, `dbias = sum(g)`.
//!
//! Only the sums of 64 pixels are f32; those above are f64.

use super::Map;
use super::element::Element;
use super::kernel::{Kernel, versions};
use rayon::prelude::*;

pub const EPSILON: f64 = 1e-5;

/// Groups for `channels`: 32, or the largest power of two that divides the channels where 32 does not.
pub fn groups(channels: usize) -> usize {
    1 << channels.trailing_zeros().min(5)
}

/// Pixels summed in f32 before the sum is added in f64.
const BLOCK: usize = 64;

/// Runs `$body` for blocks of channels of a size that is known when compiling.
macro_rules! blocks {
    ($channels:expr, |$first:ident, $size:ident| $body:block) => {{
        let mut $first = 0usize;
        while $first + 64 <= $channels {
            const $size: usize = 64;
            $body
            $first += 64;
        }
        while $first + 16 <= $channels {
            const $size: usize = 16;
            $body
            $first += 16;
        }
        while $first < $channels {
            const $size: usize = 1;
            $body
            $first += 1;
        }
    }};
}

versions! {
    /// For one image: mean and 1/sqrt(var + eps) of each group, one after the other.
    fn image_moments<T: Element>(x: &[T], channels: usize, moments: &mut [f32]) {
        let groups = groups(channels);
        let (size, pixels) = (channels / groups, x.len() / channels);
        let (mut sums, mut squares) = (vec![0f64; channels], vec![0f64; channels]);
        blocks!(channels, |o, B| {
            // Differences from the first pixel keep a large mean from swallowing the variance.
            let shift: [f32; B] = std::array::from_fn(|j| x[o + j].wide());
            for first in (0..pixels).step_by(BLOCK) {
                let (mut a, mut b) = ([0f32; B], [0f32; B]);
                for p in first..(first + BLOCK).min(pixels) {
                    let row = &x[p * channels + o..][..B];
                    for j in 0..B {
                        let d = row[j].wide() - shift[j];
                        a[j] += d;
                        b[j] += d * d;
                    }
                }
                for j in 0..B {
                    sums[o + j] += f64::from(a[j]);
                    squares[o + j] += f64::from(b[j]);
                }
            }
        });
        let n = pixels as f64;
        for (g, out) in moments.chunks_exact_mut(2).enumerate() {
            let range = g * size..(g + 1) * size;
            let mean = range.clone().map(|c| f64::from(x[c].wide()) * n + sums[c]).sum::<f64>() / (n * size as f64);
            let variance = range
                .map(|c| {
                    let d = mean - f64::from(x[c].wide());
                    squares[c] - 2.0 * d * sums[c] + n * d * d
                })
                .sum::<f64>()
                / (n * size as f64);
            out[0] = mean as f32;
            out[1] = (1.0 / (variance.max(0.0) + EPSILON).sqrt()) as f32;
        }
    }
}

/// `a` and `b` of `y = max(0, a x + b)` for each channel of one image.
fn line(channels: usize, moments: &[f32], weight: &[f32], bias: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let size = channels / groups(channels);
    let (mut a, mut b) = (vec![0f32; channels], vec![0f32; channels]);
    for (g, moments) in moments.chunks_exact(2).enumerate() {
        for c in g * size..(g + 1) * size {
            a[c] = weight[c] * moments[1];
            b[c] = bias[c] - moments[0] * a[c];
        }
    }
    (a, b)
}

/// Images that a task takes at least, so that it is worth handing to another thread.
fn images_a_task(map: Map) -> usize {
    (1usize << 14).div_ceil(map.image())
}

versions! {
    fn image_forward<T: Element>(x: &[T], a: &[f32], b: &[f32], y: &mut [T]) {
        let channels = a.len();
        for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
            for (((y, x), a), b) in y.iter_mut().zip(x).zip(a).zip(b) {
                let z = x.wide() * a + b;
                // Unlike `f32::max`, this lets a NaN through, so that it is seen in the loss.
                *y = T::narrow(if z < 0.0 { 0.0 } else { z });
            }
        }
    }
}

versions! {
    /// Sums of g and of g x for each channel of one image.
    fn image_sums<T: Element>(x: &[T], dy: &[T], a: &[f32], b: &[f32], sums: &mut [f64], dots: &mut [f64]) {
        let channels = a.len();
        let pixels = x.len() / channels;
        blocks!(channels, |o, B| {
            let ca: [f32; B] = std::array::from_fn(|j| a[o + j]);
            let cb: [f32; B] = std::array::from_fn(|j| b[o + j]);
            let (mut sum, mut dot) = ([0f64; B], [0f64; B]);
            for first in (0..pixels).step_by(BLOCK) {
                let (mut s, mut t) = ([0f32; B], [0f32; B]);
                for p in first..(first + BLOCK).min(pixels) {
                    let row = &x[p * channels + o..][..B];
                    let grad = &dy[p * channels + o..][..B];
                    for j in 0..B {
                        let x = row[j].wide();
                        let z = x * ca[j] + cb[j];
                        let g = if z > 0.0 { grad[j].wide() } else { 0.0 };
                        s[j] += g;
                        t[j] += g * x;
                    }
                }
                for j in 0..B {
                    sum[j] += f64::from(s[j]);
                    dot[j] += f64::from(t[j]);
                }
            }
            sums[o..o + B].copy_from_slice(&sum);
            dots[o..o + B].copy_from_slice(&dot);
        });
    }
}

versions! {
    /// `dx = a g + p x + q (+ residual)`.
    fn image_backward<T: Element>(x: &[T], dy: &[T], residual: &[T], a: &[f32], b: &[f32], p: &[f32], q: &[f32], dx: &mut [T]) {
        let channels = a.len();
        for (i, dx) in dx.chunks_exact_mut(channels).enumerate() {
            let x = &x[i * channels..][..channels];
            let dy = &dy[i * channels..][..channels];
            let (a, b, p, q) = (&a[..channels], &b[..channels], &p[..channels], &q[..channels]);
            if residual.is_empty() {
                for j in 0..channels {
                    let x = x[j].wide();
                    let g = if x * a[j] + b[j] > 0.0 { dy[j].wide() } else { 0.0 };
                    dx[j] = T::narrow(a[j] * g + p[j] * x + q[j]);
                }
            } else {
                let residual = &residual[i * channels..][..channels];
                for j in 0..channels {
                    let x = x[j].wide();
                    let g = if x * a[j] + b[j] > 0.0 { dy[j].wide() } else { 0.0 };
                    dx[j] = T::narrow(a[j] * g + p[j] * x + q[j] + residual[j].wide());
                }
            }
        }
    }
}

/// Mean and 1/sqrt(var + eps) of every group of every image: `n * groups * 2` values.
pub fn moments<T: Element>(kernel: Kernel, x: &[T], map: Map) -> Vec<f32> {
    let mut moments = vec![0f32; map.n * groups(map.channels) * 2];
    moments
        .par_chunks_mut(groups(map.channels) * 2)
        .zip(x.par_chunks(map.image()))
        .with_min_len(images_a_task(map))
        .for_each(|(moments, x)| image_moments(kernel, x, map.channels, moments));
    moments
}

/// `y = relu(group_norm(x))`.
pub fn forward<T: Element>(
    kernel: Kernel,
    x: &[T],
    map: Map,
    moments: &[f32],
    weight: &[f32],
    bias: &[f32],
    y: &mut [T],
) {
    let per = groups(map.channels) * 2;
    let images = y.par_chunks_mut(map.image()).zip(x.par_chunks(map.image())).zip(moments.par_chunks(per));
    images.with_min_len(images_a_task(map)).for_each(|((y, x), moments)| {
        let (a, b) = line(map.channels, moments, weight, bias);
        image_forward(kernel, x, &a, &b, y);
    });
}

/// The two gradients that a norm's parameters receive.
pub struct Gradients<'a> {
    pub weight: &'a mut [f32],
    pub bias: &'a mut [f32],
}

/// `dx` (with `residual` added, if any) from the gradient `dy` of the ReLU's output; adds to the
/// gradients of weight and bias.
#[allow(clippy::too_many_arguments)]
pub fn backward<T: Element>(
    kernel: Kernel,
    x: &[T],
    map: Map,
    moments: &[f32],
    weight: &[f32],
    bias: &[f32],
    dy: &[T],
    residual: Option<&[T]>,
    dx: &mut [T],
    gradients: Gradients<'_>,
) {
    let (channels, groups) = (map.channels, groups(map.channels));
    let size = channels / groups;
    let image = map.image();
    let n = (map.height * map.width * size) as f64;
    let parts: Vec<Vec<f64>> = dx
        .par_chunks_mut(image)
        .enumerate()
        .with_min_len(images_a_task(map))
        .map(|(i, dx)| {
            let (x, dy) = (&x[i * image..][..image], &dy[i * image..][..image]);
            let moments = &moments[i * groups * 2..][..groups * 2];
            let (a, b) = line(channels, moments, weight, bias);
            let mut sums = vec![0f64; 2 * channels];
            let (sum, dot) = sums.split_at_mut(channels);
            image_sums(kernel, x, dy, &a, &b, sum, dot);
            let (mut p, mut q) = (vec![0f32; channels], vec![0f32; channels]);
            for g in 0..groups {
                let (mean, r) = (f64::from(moments[2 * g]), f64::from(moments[2 * g + 1]));
                let (mut first, mut second) = (0.0, 0.0);
                for c in g * size..(g + 1) * size {
                    dot[c] = (dot[c] - mean * sum[c]) * r;
                    first += f64::from(weight[c]) * sum[c];
                    second += f64::from(weight[c]) * dot[c];
                }
                let (first, second) = (first / n, second / n);
                p[g * size..(g + 1) * size].fill((-r * r * second) as f32);
                q[g * size..(g + 1) * size].fill((-r * first + r * r * mean * second) as f32);
            }
            let residual = residual.map_or(&[][..], |r| &r[i * image..][..image]);
            image_backward(kernel, x, dy, residual, &a, &b, &p, &q, dx);
            sums
        })
        .collect();
    let mut totals = vec![0f64; 2 * channels];
    for part in &parts {
        totals.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    gradients.bias.iter_mut().zip(&totals[..channels]).for_each(|(g, &t)| *g += t as f32);
    gradients.weight.iter_mut().zip(&totals[channels..]).for_each(|(g, &t)| *g += t as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream::Stream;

    fn draw(seed: u64, n: usize, offset: f64) -> Vec<f32> {
        let mut stream = Stream::new(seed, "norm", 0, 0);
        (0..n).map(|_| (offset + stream.normal()) as f32).collect()
    }

    /// relu(group_norm(x)) in f64, by the definition.
    fn definition(x: &[f64], map: Map, weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let (c, size) = (map.channels, map.channels / groups(map.channels));
        let mut y = vec![0.0; x.len()];
        for image in 0..map.n {
            let at = |p: usize, ch: usize| image * map.image() + p * c + ch;
            for g in 0..groups(c) {
                let members: Vec<(usize, usize)> = (0..map.height * map.width)
                    .flat_map(|p| (g * size..(g + 1) * size).map(move |ch| (p, ch)))
                    .collect();
                let n = members.len() as f64;
                let mean = members.iter().map(|&(p, ch)| x[at(p, ch)]).sum::<f64>() / n;
                let var = members.iter().map(|&(p, ch)| (x[at(p, ch)] - mean).powi(2)).sum::<f64>() / n;
                for (p, ch) in members {
                    let z = (x[at(p, ch)] - mean) / (var + EPSILON).sqrt() * weight[ch] + bias[ch];
                    y[at(p, ch)] = z.max(0.0);
                }
            }
        }
        y
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&v| f64::from(v)).collect()
    }

    #[test]
    fn forward_and_gradients_match_the_definition() {
        for (channels, height, width) in [(32, 3, 2), (96, 9, 8), (16, 2, 5), (40, 1, 3), (256, 5, 1)] {
            let map = Map { n: 2, height, width, channels };
            let x = draw(1, map.len(), 3.0);
            let (weight, bias) = (draw(2, channels, 1.0), draw(3, channels, 0.0));
            let (dy, residual) = (draw(4, map.len(), 0.0), draw(5, map.len(), 0.0));
            let (wx, ww, wb) = (wide(&x), wide(&weight), wide(&bias));
            let truth = definition(&wx, map, &ww, &wb);
            let value = |x: &[f64], w: &[f64], b: &[f64]| -> f64 {
                definition(x, map, w, b).iter().zip(&dy).map(|(y, &d)| y * f64::from(d)).sum()
            };
            for family in Kernel::available() {
                let moments = moments(family, &x, map);
                let mut y = vec![f32::NAN; map.len()];
                forward(family, &x, map, &moments, &weight, &bias, &mut y);
                for (y, t) in y.iter().zip(&truth) {
                    assert!((f64::from(*y) - t).abs() < 1e-5, "{y} {t}");
                }
                let mut dx = vec![f32::NAN; map.len()];
                let (mut dweight, mut dbias) = (vec![1.0; channels], vec![2.0; channels]);
                let gradients = Gradients { weight: &mut dweight, bias: &mut dbias };
                backward(family, &x, map, &moments, &weight, &bias, &dy, Some(&residual), &mut dx, gradients);
                let check = |what: &str, found: f64, values: &[f64], i: usize, f: &dyn Fn(&[f64]) -> f64| {
                    let slope = |h: f64| {
                        let (mut up, mut down) = (values.to_vec(), values.to_vec());
                        up[i] += h;
                        down[i] -= h;
                        (f(&up) - f(&down)) / (2.0 * h)
                    };
                    // A step across a ReLU's corner spoils one difference, not both.
                    let off = [1e-4, 1e-6].map(|h| (slope(h) - found).abs()).into_iter().fold(f64::MAX, f64::min);
                    assert!(off < 2e-4, "{} {what} {i} of {map:?}: {found} off by {off}", family.name());
                };
                for i in (0..map.len()).step_by(7) {
                    let found = f64::from(dx[i]) - f64::from(residual[i]);
                    check("dx", found, &wx, i, &|x| value(x, &ww, &wb));
                }
                for c in (0..channels).step_by(5) {
                    check("dweight", f64::from(dweight[c]) - 1.0, &ww, c, &|w| value(&wx, w, &wb));
                    check("dbias", f64::from(dbias[c]) - 2.0, &wb, c, &|b| value(&wx, &ww, b));
                }
            }
        }
    }

    #[test]
    fn bfloat16_is_the_f32_result_rounded() {
        use crate::nn::element::Bf16;
        let map = Map { n: 2, height: 5, width: 3, channels: 80 };
        let narrow = |values: &[f32]| -> Vec<Bf16> { values.iter().map(|&v| Bf16::narrow(v)).collect() };
        let wide = |values: &[Bf16]| -> Vec<f32> { values.iter().map(|v| v.wide()).collect() };
        let x = narrow(&draw(1, map.len(), 3.0));
        let (dy, residual) = (narrow(&draw(4, map.len(), 0.0)), narrow(&draw(5, map.len(), 0.0)));
        let (weight, bias) = (draw(2, 80, 1.0), draw(3, 80, 0.0));
        for family in Kernel::available() {
            let moments = super::moments(family, &wide(&x), map);
            assert_eq!(moments, super::moments(family, &x, map));
            let (mut y, mut wanted) = (vec![Bf16(0); map.len()], vec![0f32; map.len()]);
            forward(family, &x, map, &moments, &weight, &bias, &mut y);
            forward(family, &wide(&x), map, &moments, &weight, &bias, &mut wanted);
            assert_eq!(y, narrow(&wanted));
            let mut sums = [vec![0f32; 80], vec![0f32; 80], vec![0f32; 80], vec![0f32; 80]];
            let [w1, b1, w2, b2] = &mut sums;
            let first = Gradients { weight: w1, bias: b1 };
            backward(family, &x, map, &moments, &weight, &bias, &dy, Some(&residual), &mut y, first);
            let (dy, residual) = (wide(&dy), wide(&residual));
            let second = Gradients { weight: w2, bias: b2 };
            backward(family, &wide(&x), map, &moments, &weight, &bias, &dy, Some(&residual), &mut wanted, second);
            assert_eq!(y, narrow(&wanted));
            assert!(sums[0] == sums[2] && sums[1] == sums[3]);
        }
    }

    #[test]
    fn a_large_mean_keeps_its_variance() {
        let map = Map { n: 1, height: 8, width: 8, channels: 32 };
        let x = draw(9, map.len(), 1000.0);
        let found = moments(Kernel::Plain, &x, map);
        let first: Vec<f64> = x.iter().step_by(32).map(|&v| f64::from(v)).collect();
        let mean = first.iter().sum::<f64>() / 64.0;
        let var = first.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 64.0;
        assert!((f64::from(found[1]) * var.sqrt() - 1.0).abs() < 1e-4, "{} {}", found[1], 1.0 / var.sqrt());
    }
}
