//! The inner loops without any vector instruction named: what every other family is tested against.

use super::{Outer, Panel};
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

/// # Safety
/// See [`super::outer`].
pub unsafe fn outer(job: &Outer<'_>) {
    for c in 0..job.channels {
        let mut sums = [0f32; PANEL];
        for &(x, y) in job.pixels {
            // SAFETY: `channels` values lie at each pixel of x, `width` at each of y.
            let (x, y) = unsafe {
                (
                    *job.x.add(x as usize + c),
                    std::slice::from_raw_parts(job.y.wrapping_add(y as usize * job.step), job.width),
                )
            };
            for (sum, y) in sums.iter_mut().zip(y) {
                *sum += x * y;
            }
        }
        for (lane, sum) in sums[..job.width].iter().enumerate() {
            // SAFETY: `channels * stride` values lie at sums.
            unsafe { *job.sums.add(c * job.stride + lane) += sum };
        }
    }
}
