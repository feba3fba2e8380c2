//! The inner loops in AVX-512: tiles of pixels by vectors whose sums stay in the 32 registers.
//!
//! Whatever the tile's shape, an output's sum is one chain of fused multiply-adds in the order of
//! taps and channels, so that tiling never shows in a result.

use super::{Outer, Panel};
use std::arch::x86_64::*;

pub(super) const LANES: usize = 16;

/// Calls `$function::<ROWS, VECTORS>` for a number of rows known only at run time.
macro_rules! by_rows {
    ($function:ident, $vectors:literal, $rows:expr, [$($n:literal)*], $job:expr, $at:expr) => {
        match $rows {
            $($n => $function::<$n, $vectors>($job, $at),)*
            rows => unreachable!("bug: a tile of {rows} rows"),
        }
    };
}

pub(super) use by_rows;

/// The mask of the last vector of a panel.
pub(super) fn last_mask(width: usize, vectors: usize) -> __mmask16 {
    let rest = width - (vectors - 1) * LANES;
    ((1u32 << rest) - 1) as __mmask16
}

/// How many of `left` rows the next tile takes: full tiles, then two even ones rather than a thin last one.
pub(super) fn next_rows(left: usize, full: usize) -> usize {
    if left >= 2 * full || left == full {
        full
    } else if left > full {
        left.div_ceil(2)
    } else {
        left
    }
}

/// # Safety
/// See [`super::panel`].
pub unsafe fn panel(job: &Panel<'_>) {
    let mut row = 0;
    while row < job.rows {
        let left = job.rows - row;
        // SAFETY: the caller's promise; `rows` never passes the end.
        unsafe {
            row += match job.stride / LANES {
                4 => {
                    let rows = next_rows(left, 6);
                    by_rows!(tile, 4, rows, [1 2 3 4 5 6], job, row);
                    rows
                }
                3 => {
                    let rows = next_rows(left, 8);
                    by_rows!(tile, 3, rows, [1 2 3 4 5 6 7 8], job, row);
                    rows
                }
                2 => {
                    let rows = next_rows(left, 12);
                    by_rows!(tile, 2, rows, [1 2 3 4 5 6 7 8 9 10 11 12], job, row);
                    rows
                }
                _ => {
                    let rows = next_rows(left, 12);
                    by_rows!(tile, 1, rows, [1 2 3 4 5 6 7 8 9 10 11 12], job, row);
                    rows
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn tile<const R: usize, const V: usize>(job: &Panel<'_>, row: usize) {
    // SAFETY: `panel` keeps row + R within rows; the rest is the caller's promise.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for (tap, &weights) in job.weights.iter().enumerate() {
            let mut x = [std::ptr::null::<f32>(); R];
            for (r, x) in x.iter_mut().enumerate() {
                *x = (*job.inputs.get_unchecked(tap * job.pitch + row + r)).add(job.channel);
            }
            let mut w = weights;
            for c in 0..job.channels {
                let mut b = [_mm512_setzero_ps(); V];
                for (v, b) in b.iter_mut().enumerate() {
                    *b = _mm512_loadu_ps(w.add(v * LANES));
                }
                w = w.add(V * LANES);
                for r in 0..R {
                    let a = _mm512_set1_ps(*x[r].add(c));
                    for v in 0..V {
                        sums[r][v] = _mm512_fmadd_ps(a, b[v], sums[r][v]);
                    }
                }
            }
        }
        let last = last_mask(job.width, V);
        for (r, sums) in sums.iter().enumerate() {
            let place = *job.places.get_unchecked(row + r) as usize;
            for (v, &sum) in sums.iter().enumerate() {
                let mask = if v + 1 == V { last } else { !0 };
                let at = place + v * LANES;
                let sum = if job.base.is_null() {
                    sum
                } else {
                    _mm512_add_ps(_mm512_maskz_loadu_ps(mask, job.base.add(at)), sum)
                };
                _mm512_mask_storeu_ps(job.out.add(at), mask, sum);
            }
        }
    }
}

/// # Safety
/// The lengths must be as [`Outer`] checks them.
pub unsafe fn outer(job: &mut Outer<'_, f32>) {
    let (mut c, mut tile) = (0, 0);
    while c < job.channels {
        let left = job.channels - c;
        // SAFETY: the caller's promise; `c` never passes the end.
        unsafe {
            c += match job.stride / LANES {
                4 => {
                    let rows = next_rows(left, 6);
                    by_rows!(outer_tile, 4, rows, [1 2 3 4 5 6], job, (c, tile));
                    rows
                }
                3 => {
                    let rows = next_rows(left, 8);
                    by_rows!(outer_tile, 3, rows, [1 2 3 4 5 6 7 8], job, (c, tile));
                    rows
                }
                2 => {
                    let rows = next_rows(left, 12);
                    by_rows!(outer_tile, 2, rows, [1 2 3 4 5 6 7 8 9 10 11 12], job, (c, tile));
                    rows
                }
                _ => {
                    let rows = next_rows(left, 16);
                    by_rows!(outer_tile, 1, rows, [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16], job, (c, tile));
                    rows
                }
            };
        }
        tile += 1;
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn outer_tile<const R: usize, const V: usize>(job: &mut Outer<'_, f32>, (c, tile): (usize, usize)) {
    // SAFETY: `outer` keeps c + R within channels; the lengths are the caller's promise.
    unsafe {
        let pixels = job.x.len() / job.channels;
        let (mut x, mut y) = (job.x.as_ptr().add(c), job.y.as_ptr());
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        let (ahead, line) = job.ahead(tile);
        for pixel in 0..pixels {
            if let Some(address) = ahead.get(pixel) {
                _mm_prefetch::<_MM_HINT_T1>((address + line) as *const i8);
            }
            let mut b = [_mm512_setzero_ps(); V];
            for (v, b) in b.iter_mut().enumerate() {
                *b = _mm512_loadu_ps(y.add(v * LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*x.add(r));
                for v in 0..V {
                    sums[v] = _mm512_fmadd_ps(a, b[v], sums[v]);
                }
            }
            x = x.wrapping_add(job.channels);
            y = y.wrapping_add(V * LANES);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let at = job.sums.as_mut_ptr().add((c + r) * job.stride + v * LANES);
                _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), sum));
            }
        }
    }
}
