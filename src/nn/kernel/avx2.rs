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
/// See [`super::outer`].
pub unsafe fn outer(job: &Outer<'_>) {
    for lane in (0..job.width).step_by(SPAN) {
        for c in (0..job.channels).step_by(6) {
            // SAFETY: the caller's promise; lane and c stay within width and channels.
            unsafe { by_rows!(outer_tile, job.channels - c, job, c, lane) }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn outer_tile<const R: usize>(job: &Outer<'_>, c: usize, lane: usize) {
    // SAFETY: `outer` keeps c + R within channels; the rest is the caller's promise.
    unsafe {
        let width = (job.width - lane).min(SPAN);
        let mask = |first: usize| -> __m256i {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(width as i32 - first as i32), lanes)
        };
        let masks = [mask(0), mask(LANES)];
        let x0 = job.x.add(c);
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for &(x, y) in job.pixels {
            let (x, y) = (x0.add(x as usize), job.y.wrapping_add(y as usize * job.step + lane));
            let b = [_mm256_maskload_ps(y, masks[0]), _mm256_maskload_ps(y.add(LANES), masks[1])];
            for r in 0..R {
                let a = _mm256_set1_ps(*x.add(r));
                sums[r][0] = _mm256_fmadd_ps(a, b[0], sums[r][0]);
                sums[r][1] = _mm256_fmadd_ps(a, b[1], sums[r][1]);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let at = job.sums.add((c + r) * job.stride + lane + v * LANES);
                _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), sum));
            }
        }
    }
}
