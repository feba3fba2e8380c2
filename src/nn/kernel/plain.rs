//! The inner loops without any vector instruction named: what every other family is tested against.

use super::{Kernel, Outer, Panel, versions};
use crate::nn::element::{Bf16, Element};
use crate::nn::packing::PANEL;

/// # Safety
/// See [`super::panel`].
pub unsafe fn panel(job: &Panel<'_>) {
    for row in 0..job.rows {
        let mut sums = [0f32; PANEL];
        for (tap, &weights) in job.weights.iter().enumerate() {
            let x = job.inputs[tap * job.pitch + row];
            for c in 0..job.channels {
                // SAFETY: `channels` values lie at x, `channels * stride` at the tap's weights.
                let (x, weights) = unsafe {
                    (*x.add(job.channel + c), std::slice::from_raw_parts(weights.add(c * job.stride), job.width))
                };
                for (sum, w) in sums.iter_mut().zip(weights) {
                    *sum += x * w;
                }
            }
        }
        let place = job.places[row] as usize;
        for (lane, sum) in sums[..job.width].iter().enumerate() {
            // SAFETY: `width` values lie at each place of out, and of base where it is not null.
            unsafe {
                let base = if job.base.is_null() { 0.0 } else { *job.base.add(place + lane) };
                *job.out.add(place + lane) = base + sum;
            }
        }
    }
}

pub fn outer(job: &mut Outer<'_, f32>) {
    for c in 0..job.channels {
        let mut sums = [0f32; PANEL];
        for (x, y) in job.x.chunks_exact(job.channels).zip(job.y.chunks_exact(job.stride)) {
            for (sum, y) in sums.iter_mut().zip(y) {
                *sum += x[c] * y;
            }
        }
        for (total, sum) in job.sums[c * job.stride..][..job.stride].iter_mut().zip(sums) {
            *total += sum;
        }
    }
}

versions! {
    /// `sums[lane] += a * low half of w[lane] + b * high half of w[lane]`.
    fn add_pairs(a: f32, b: f32, w: &[u32], sums: &mut [f32]) {
        for (sum, &w) in sums.iter_mut().zip(w) {
            *sum += a * f32::from_bits(w << 16) + b * f32::from_bits(w & 0xffff_0000);
        }
    }
}

/// # Safety
/// See [`super::panel`].
pub unsafe fn pair_panel(kernel: Kernel, job: &Panel<'_, Bf16>) {
    for row in 0..job.rows {
        let mut sums = [0f32; PANEL];
        for (tap, &weights) in job.weights.iter().enumerate() {
            let x = job.inputs[tap * job.pitch + row];
            for c in (0..job.channels).step_by(2) {
                // SAFETY: `channel + channels` values lie at x, `channels * stride` at the tap's
                // weights, which are aligned to the pair as every packed row is.
                let (a, b, w) = unsafe {
                    let x = x.add(job.channel + c);
                    (*x, *x.add(1), std::slice::from_raw_parts(weights.add(c * job.stride).cast::<u32>(), job.width))
                };
                add_pairs(kernel, a.wide(), b.wide(), w, &mut sums);
            }
        }
        let place = job.places[row] as usize;
        for (lane, sum) in sums[..job.width].iter().enumerate() {
            // SAFETY: `width` values lie at each place of out, and of base where it is not null.
            unsafe {
                let base = if job.base.is_null() { 0.0 } else { *job.base.add(place + lane) };
                *job.out.add(place + lane) = base + sum;
            }
        }
    }
}

pub fn pair_outer(kernel: Kernel, job: &mut Outer<'_, u32>) {
    for c in 0..job.channels {
        let mut sums = [0f32; PANEL];
        for (x, y) in job.x.chunks_exact(job.channels).zip(job.y.chunks_exact(job.stride)) {
            add_pairs(kernel, f32::from_bits(x[c] << 16), f32::from_bits(x[c] & 0xffff_0000), y, &mut sums);
        }
        for (total, sum) in job.sums[c * job.stride..][..job.stride].iter_mut().zip(sums) {
            *total += sum;
        }
    }
}
