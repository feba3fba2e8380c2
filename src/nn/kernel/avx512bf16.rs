//! The inner loops for bfloat16 with `vdpbf16ps`: two products a lane and instruction, f32 sums.
//!
//! The instruction takes denormals as zero and rounds to nearest; results therefore differ in the
//! last bits from the plain loops, as those of any two families do.

use super::avx512::{LANES, by_rows, last_mask, next_rows};
use super::{Outer, Panel};
use crate::nn::element::Bf16;
use std::arch::x86_64::*;

/// # Safety
/// See [`super::pair_panel`]. The CPU must have AVX512_BF16.
pub unsafe fn panel(job: &Panel<'_, Bf16>) {
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

/// 16 pairs at an address of any alignment.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn load(pairs: *const u32) -> __m512bh {
    // SAFETY: the caller has 16 values at `pairs`; the two types are the same 64 bytes.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(pairs.cast())) }
}

/// One pair in all lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn spread(pair: *const u32) -> __m512bh {
    // SAFETY: the caller has a value at `pair`; the two types are the same 64 bytes.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair.read_unaligned() as i32)) }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile<const R: usize, const V: usize>(job: &Panel<'_, Bf16>, row: usize) {
    // SAFETY: `panel` keeps row + R within rows; the rest is the caller's promise.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for (tap, &weights) in job.weights.iter().enumerate() {
            let mut x = [std::ptr::null::<u32>(); R];
            for (r, x) in x.iter_mut().enumerate() {
                *x = (*job.inputs.get_unchecked(tap * job.pitch + row + r)).add(job.channel).cast();
            }
            let mut w = weights.cast::<u32>();
            for c in 0..job.channels / 2 {
                let mut b = [load(w); V];
                for (v, b) in b.iter_mut().enumerate() {
                    *b = load(w.add(v * LANES));
                }
                w = w.add(V * LANES);
                for r in 0..R {
                    let a = spread(x[r].add(c));
                    for v in 0..V {
                        sums[r][v] = _mm512_dpbf16_ps(sums[r][v], a, b[v]);
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
/// The lengths must be as [`Outer`] checks them. The CPU must have AVX512_BF16.
pub unsafe fn outer(job: &mut Outer<'_, u32>) {
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

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn outer_tile<const R: usize, const V: usize>(job: &mut Outer<'_, u32>, (c, tile): (usize, usize)) {
    // SAFETY: `outer` keeps c + R within channels; the lengths are the caller's promise.
    unsafe {
        let pairs = job.x.len() / job.channels;
        let (mut x, mut y) = (job.x.as_ptr().add(c), job.y.as_ptr());
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        let (ahead, line) = job.ahead(tile);
        for pair in 0..pairs {
            for address in ahead.iter().skip(2 * pair).take(2) {
                _mm_prefetch::<_MM_HINT_T1>((address + line) as *const i8);
            }
            let mut b = [load(y); V];
            for (v, b) in b.iter_mut().enumerate() {
                *b = load(y.add(v * LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = spread(x.add(r));
                for v in 0..V {
                    sums[v] = _mm512_dpbf16_ps(sums[v], a, b[v]);
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
