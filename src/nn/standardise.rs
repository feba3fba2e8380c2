//! Weight standardisation (Qiao et al., arXiv 1903.10520): each output's weights to mean 0, variance 1.
//!
//! `hat = (w - mean) / sqrt(var + 1e-10)`, variance biased, over all but the output dimension. With
//! g the gradient of hat and r = 1 / sqrt(var + 1e-10),
//! `dw = r (g - mean(g) - hat mean(g hat))`. Both work in packed order, a panel at a time.

use super::kernel::{Kernel, versions};
use super::packing::{PANEL, Packed};
use rayon::prelude::*;

pub const EPSILON: f64 = 1e-10;

/// Rows summed in f32 before the sum is added in f64.
const BLOCK: usize = 32;

type Lanes = [f32; PANEL];

/// Mean and 1/sqrt(var + eps) of each lane.
#[inline(always)]
fn moments<const P: usize>(w: &[f32], rows: usize) -> (Lanes, Lanes) {
    let (mut sum, mut squares) = ([0f64; P], [0f64; P]);
    // Differences from the first row keep a large mean from swallowing the variance.
    let shift: [f32; P] = std::array::from_fn(|j| w[j]);
    for block in w[..rows * P].chunks(BLOCK * P) {
        let (mut a, mut b) = ([0f32; P], [0f32; P]);
        for row in block.chunks_exact(P) {
            for j in 0..P {
                let d = row[j] - shift[j];
                a[j] += d;
                b[j] += d * d;
            }
        }
        for j in 0..P {
            sum[j] += f64::from(a[j]);
            squares[j] += f64::from(b[j]);
        }
    }
    let (mut mean, mut scale) = ([0f32; PANEL], [0f32; PANEL]);
    let n = rows as f64;
    for j in 0..P {
        let d = sum[j] / n;
        mean[j] = (f64::from(shift[j]) + d) as f32;
        scale[j] = (1.0 / ((squares[j] / n - d * d).max(0.0) + EPSILON).sqrt()) as f32;
    }
    (mean, scale)
}

#[inline(always)]
fn forward_panel<const P: usize>(w: &[f32], rows: usize, hat: &mut [f32]) {
    let (mean, scale) = moments::<P>(w, rows);
    for (to, from) in hat.chunks_exact_mut(P).zip(w.chunks_exact(P)) {
        for j in 0..P {
            to[j] = (from[j] - mean[j]) * scale[j];
        }
    }
}

#[inline(always)]
fn backward_panel<const P: usize>(w: &[f32], rows: usize, dhat: &[f32], dw: &mut [f32]) {
    let (mean, scale) = moments::<P>(w, rows);
    let (mut sum, mut dot) = ([0f64; P], [0f64; P]);
    for (g, w) in dhat.chunks(BLOCK * P).zip(w.chunks(BLOCK * P)) {
        let (mut a, mut b) = ([0f32; P], [0f32; P]);
        for (g, w) in g.chunks_exact(P).zip(w.chunks_exact(P)) {
            for j in 0..P {
                a[j] += g[j];
                b[j] += g[j] * (w[j] - mean[j]);
            }
        }
        for j in 0..P {
            sum[j] += f64::from(a[j]);
            dot[j] += f64::from(b[j]);
        }
    }
    let n = rows as f64;
    let (mut a, mut b) = ([0f32; P], [0f32; P]);
    for j in 0..P {
        let r = f64::from(scale[j]);
        a[j] = (sum[j] / n) as f32;
        b[j] = (dot[j] / n * r * r) as f32;
    }
    for ((to, g), w) in dw.chunks_exact_mut(P).zip(dhat.chunks_exact(P)).zip(w.chunks_exact(P)) {
        for j in 0..P {
            to[j] += scale[j] * (g[j] - a[j] - (w[j] - mean[j]) * b[j]);
        }
    }
}

versions! {
    fn standardise_panel(pitch: usize, w: &[f32], rows: usize, hat: &mut [f32]) {
        match pitch {
            16 => forward_panel::<16>(w, rows, hat),
            32 => forward_panel::<32>(w, rows, hat),
            48 => forward_panel::<48>(w, rows, hat),
            _ => forward_panel::<64>(w, rows, hat),
        }
    }
}

versions! {
    fn gradient_panel(pitch: usize, w: &[f32], rows: usize, dhat: &[f32], dw: &mut [f32]) {
        match pitch {
            16 => backward_panel::<16>(w, rows, dhat, dw),
            32 => backward_panel::<32>(w, rows, dhat, dw),
            48 => backward_panel::<48>(w, rows, dhat, dw),
            _ => backward_panel::<64>(w, rows, dhat, dw),
        }
    }
}

/// Panels that a task takes at least, so that it is worth handing to another thread.
fn panels_a_task(packing: Packed) -> usize {
    (1usize << 14).div_ceil(packing.step())
}

/// Writes the standardised weights in the same packed order.
pub fn forward(kernel: Kernel, packing: Packed, w: &[f32], hat: &mut [f32]) {
    let step = packing.step();
    let parts = hat.par_chunks_mut(step).zip(w.par_chunks(step)).enumerate().with_min_len(panels_a_task(packing));
    parts.for_each(|(p, (hat, w))| {
        standardise_panel(kernel, packing.pitch(p), w, packing.rows, hat);
    });
}

/// Adds the gradient of the weights, given that of the standardised ones, to `dw`.
pub fn backward(kernel: Kernel, packing: Packed, w: &[f32], dhat: &[f32], dw: &mut [f32]) {
    let step = packing.step();
    let parts = dw.par_chunks_mut(step).zip(dhat.par_chunks(step)).zip(w.par_chunks(step)).enumerate();
    parts.with_min_len(panels_a_task(packing)).for_each(|(p, ((dw, dhat), w))| {
        gradient_panel(kernel, packing.pitch(p), w, packing.rows, dhat, dw);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream::Stream;

    #[test]
    fn forward_and_gradient_match_the_definition() {
        let packing = Packed { rows: 45, lanes: 83 };
        let mut stream = Stream::new(3, "standardise", 0, 0);
        let mut draw = |offset: f64| -> Vec<f32> {
            let values: Vec<f32> = (0..45 * 83).map(|_| (offset + stream.normal()) as f32).collect();
            let mut packed = vec![0.0; packing.len()];
            packing.pack(&values, 9, &mut packed);
            packed
        };
        // A mean far from zero shows whether the variance loses its digits.
        let (w, g) = (draw(50.0), draw(0.0));
        let lane = |v: &[f32], o: usize| -> Vec<f64> { (0..45).map(|r| f64::from(v[packing.at(r, o)])).collect() };
        for family in Kernel::available() {
            let mut hat = vec![0.0; packing.len()];
            forward(family, packing, &w, &mut hat);
            let mut dw = vec![1.0; packing.len()];
            backward(family, packing, &w, &g, &mut dw);
            for o in 0..83 {
                let (w, g) = (lane(&w, o), lane(&g, o));
                let mean = w.iter().sum::<f64>() / 45.0;
                let var = w.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 45.0;
                let r = 1.0 / (var + EPSILON).sqrt();
                let h: Vec<f64> = w.iter().map(|v| (v - mean) * r).collect();
                let (mg, mgh) =
                    (g.iter().sum::<f64>() / 45.0, g.iter().zip(&h).map(|(g, h)| g * h).sum::<f64>() / 45.0);
                for row in 0..45 {
                    let at = packing.at(row, o);
                    assert!((f64::from(hat[at]) - h[row]).abs() < 2e-5, "{} {} {}", family.name(), hat[at], h[row]);
                    let wanted = 1.0 + r * (g[row] - mg - h[row] * mgh);
                    assert!((f64::from(dw[at]) - wanted).abs() < 2e-5, "{} {} {wanted}", family.name(), dw[at]);
                }
            }
        }
    }
}
