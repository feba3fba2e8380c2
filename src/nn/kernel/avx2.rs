//! The inner loops in AVX2 with FMA: tiles of 6 pixels by 16 outputs in the 16 registers.
//!
//! A panel of 64 outputs is walked in fours of 16; the packed order is the same for all families.

use super::{Outer, Panel};
use std::arch::x86_64::*;

const LANES: usize = 8;
/// Outputs of a tile: two vectors.
const SPAN: usize = 16;

macro_rules! by_rows {
    ($function:ident, $rows:expr, $($arg:expr),*) => {
        match $rows {
            1 => $function::<1>($($arg),*),
            2 => $function::<2>($($arg),*),
            3 => $function::<3>($($arg),*),
            4 => $function::<4>($($arg),*),
            5 => $function::<5>($($arg),*),
            _ => $function::<6>($($arg),*),
        }
    };
}

/// # Safety
/// See [`super::panel`].
pub unsafe fn panel(job: &Panel<'_>) {
    for lane in (0..job.width).step_by(SPAN) {
        for row in (0..job.rows).step_by(6) {
            // SAFETY: the caller's promise; lane and row stay within width and rows.
            unsafe { by_rows!(tile, job.rows - row, job, row, lane) }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize>(job: &Panel<'_>, row: usize, lane: usize) {
    // SAFETY: `panel` keeps row + R within rows; the rest is the caller's promise.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for (tap, &weights) in job.weights.iter().enumerate() {
            let mut x = [std::ptr::null::<f32>(); R];
            for (r, x) in x.iter_mut().enumerate() {
                *x = (*job.inputs.get_unchecked(tap * job.pitch + row + r)).add(job.channel);
            }
            let mut w = weights.add(lane);
            for c in 0..job.channels {
                let b = [_mm256_loadu_ps(w), _mm256_loadu_ps(w.add(LANES))];
                w = w.add(job.stride);
                for r in 0..R {
                    let a = _mm256_set1_ps(*x[r].add(c));
                    sums[r][0] = _mm256_fmadd_ps(a, b[0], sums[r][0]);
                    sums[r][1] = _mm256_fmadd_ps(a, b[1], sums[r][1]);
                }
            }
        }
        let width = (job.width - lane).min(SPAN);
        for (r, sums) in sums.iter().enumerate() {
            let place = *job.places.get_unchecked(row + r) as usize + lane;
            let mut line = [0f32; SPAN];
            _mm256_storeu_ps(line.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(line.as_mut_ptr().add(LANES), sums[1]);
            for (v, sum) in line[..width].iter().enumerate() {
                let base = if job.base.is_null() { 0.0 } else { *job.base.add(place + v) };
                *job.out.add(place + v) = base + sum;
            }
        }
    }
}

/// # Safety
/// The lengths must be as [`Outer`] checks them.
pub unsafe fn outer(job: &mut Outer<'_, f32>) {
    for lane in (0..job.stride).step_by(SPAN) {
        for c in (0..job.channels).step_by(6) {
            // SAFETY: the caller's promise; lane and c stay within stride and channels.
            unsafe { by_rows!(outer_tile, job.channels - c, job, c, lane) }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn outer_tile<const R: usize>(job: &mut Outer<'_, f32>, c: usize, lane: usize) {
    // SAFETY: `outer` keeps c + R within channels; the rest is the caller's promise.
    unsafe {
        let pixels = job.x.len() / job.channels;
        let (mut x, mut y) = (job.x.as_ptr().add(c), job.y.as_ptr().add(lane));
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for _ in 0..pixels {
            let b = [_mm256_loadu_ps(y), _mm256_loadu_ps(y.add(LANES))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = _mm256_set1_ps(*x.add(r));
                sums[0] = _mm256_fmadd_ps(a, b[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(a, b[1], sums[1]);
            }
            x = x.wrapping_add(job.channels);
            y = y.wrapping_add(job.stride);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let at = job.sums.as_mut_ptr().add((c + r) * job.stride + lane + v * LANES);
                _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), sum));
            }
        }
    }
}
