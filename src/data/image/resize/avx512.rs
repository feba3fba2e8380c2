//! Both passes of a resize with 64 bytes at a time: AVX-512 with byte permutations (VBMI) and 16-bit dot products (VNNI).
//!
//! Down first, then across, each rounded to bytes; integers throughout, so that the bytes are the library's.

use std::arch::x86_64::*;

use super::taps::Taps;

/// Whether this CPU has what [`Plan::run`] needs.
pub fn usable() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vnni")
}

/// A resize from one size to another, laid out for the kernel.
pub struct Plan {
    down: Taps,
    /// Bytes of a source row, of the part of it that counts, and of a new row.
    stride: usize,
    part: std::ops::Range<usize>,
    width: usize,
    channels: usize,
    precision: u32,
    groups: Vec<Group>,
    /// For each group and each pair of its taps: where in the source the bytes of 16 sums come from, and their weights.
    from: Vec<[u8; 64]>,
    weights: Vec<[i16; 32]>,
}

/// 16 bytes of a new row, side by side.
struct Group {
    /// The first byte of the part that any of them is made of.
    base: usize,
    pairs: std::ops::Range<usize>,
    /// Everything lies within 64 bytes from `base`; otherwise each pair lies within 128 bytes from its own.
    near: bool,
}

impl Plan {
    /// `None` where the bytes of one group lie too far from each other, or where there is nothing to do in one pass.
    pub fn new(down: Taps, across: &Taps, width: usize, channels: usize) -> Option<Self> {
        let range = across.range();
        let part = range.start * channels..range.end * channels;
        let new = across.pixels.len() * channels;
        let (mut groups, mut from, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for first in (0..new).step_by(16) {
            let lanes = first..(first + 16).min(new);
            // Bytes from the start of the part.
            let start = |lane: usize| (across.pixels[lane / channels].0 - range.start) * channels + lane % channels;
            let of = |lane: usize| &across.pixels[lane / channels].1;
            let base = lanes.clone().map(start).min()?;
            let pairs = lanes.clone().map(|l| of(l).len().div_ceil(2)).max()?.max(1);
            let near = lanes.clone().all(|l| start(l) + of(l).len() * channels <= base + 64);
            let begun = from.len();
            for pair in 0..pairs {
                let (mut at, mut by) = ([0u8; 64], [0i16; 32]);
                for (i, lane) in lanes.clone().enumerate() {
                    for side in 0..2 {
                        let tap = 2 * pair + side;
                        let Some(&weight) = of(lane).get(tap) else { continue };
                        let here = base + if near { 0 } else { 2 * pair * channels };
                        let offset = start(lane) + tap * channels - here;
                        if offset >= 128 {
                            return None;
                        }
                        at[4 * i + 2 * side] = offset as u8;
                        by[2 * i + side] = weight;
                    }
                }
                from.push(at);
                weights.push(by);
            }
            groups.push(Group { base, pairs: begun..from.len(), near });
        }
        let stride = width * channels;
        Some(Plan { down, stride, part, width: new, channels, precision: across.precision, groups, from, weights })
    }

    /// Bytes of the result.
    pub fn bytes(&self) -> usize {
        self.down.pixels.len() * self.width
    }

    /// Appends the result for `source`, rows of `stride` bytes, to `out`; `rows` keeps what lies between the passes.
    ///
    /// # Panics
    /// Where `source` has fewer rows than the plan was made for, or this CPU is not [`usable`].
    pub fn run(&self, source: &[u8], rows: &mut Vec<u8>, out: &mut Vec<u8>) {
        let needed = self.down.range().end * self.stride;
        assert!(usable() && source.len() >= needed, "{} bytes of {needed}", source.len());
        assert!(self.part.end <= self.stride);
        let (part, height) = (self.part.len(), self.down.pixels.len());
        // Nothing but the first bytes is looked at, all of which the first pass writes.
        rows.resize((part * height).max(rows.len()), 0);
        let start = out.len();
        out.resize(start + self.bytes(), 0);
        // SAFETY: the CPU has the features (asserted above).
        unsafe {
            self.downwards(source, &mut rows[..part * height]);
            self.across(&rows[..part * height], &mut out[start..]);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    fn downwards(&self, source: &[u8], rows: &mut [u8]) {
        let part = self.part.len();
        let (round, shift) =
            (_mm512_set1_epi32(1 << (self.down.precision - 1)), _mm_cvtsi32_si128(self.down.precision as i32));
        let zero = _mm512_setzero_si512();
        for ((first, weights), row) in self.down.pixels.iter().zip(rows.chunks_exact_mut(part.max(1))) {
            let begin = first * self.stride + self.part.start;
            for x in (0..part).step_by(64) {
                let mask = first_bytes(part - x);
                let mut sums = [round; 4];
                for (i, pair) in weights.chunks(2).enumerate() {
                    let at = begin + 2 * i * self.stride + x;
                    let upper = load(source, at, mask);
                    let (lower, weight) = match pair {
                        &[a, b] => (load(source, at + self.stride, mask), both(a, b)),
                        _ => (zero, both(pair[0], 0)),
                    };
                    let (left, right) = (_mm512_unpacklo_epi8(upper, lower), _mm512_unpackhi_epi8(upper, lower));
                    let pairs = [
                        _mm512_unpacklo_epi8(left, zero),
                        _mm512_unpackhi_epi8(left, zero),
                        _mm512_unpacklo_epi8(right, zero),
                        _mm512_unpackhi_epi8(right, zero),
                    ];
                    for (sum, pair) in sums.iter_mut().zip(pairs) {
                        *sum = _mm512_dpwssd_epi32(*sum, pair, weight);
                    }
                }
                let [a, b, c, d] = sums.map(|sum| _mm512_sra_epi32(sum, shift));
                let bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
                store(row, x, mask, bytes);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    fn across(&self, rows: &[u8], out: &mut [u8]) {
        // Four rows at a time share what is loaded of the plan.
        for (rows, out) in rows.chunks(4 * self.part.len().max(1)).zip(out.chunks_mut(4 * self.width)) {
            match out.len() / self.width {
                4 => self.rows_across::<4>(rows, out),
                3 => self.rows_across::<3>(rows, out),
                2 => self.rows_across::<2>(rows, out),
                _ => self.rows_across::<1>(rows, out),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    fn rows_across<const N: usize>(&self, rows: &[u8], out: &mut [u8]) {
        let part = self.part.len();
        let (round, shift) = (_mm512_set1_epi32(1 << (self.precision - 1)), _mm_cvtsi32_si128(self.precision as i32));
        // Every other byte stays 0, so that bytes become 16-bit integers.
        const EVEN: u64 = 0x5555_5555_5555_5555;
        for (g, group) in self.groups.iter().enumerate() {
            let mut sums = [round; N];
            let mask = first_bytes(part - group.base);
            if group.near {
                let source: [__m512i; N] =
                    std::array::from_fn(|r| load(&rows[r * part..(r + 1) * part], group.base, mask));
                for pair in group.pairs.clone() {
                    let (from, weight) = (table(&self.from[pair]), table(&self.weights[pair]));
                    for (sum, source) in sums.iter_mut().zip(source) {
                        *sum = _mm512_dpwssd_epi32(*sum, _mm512_maskz_permutexvar_epi8(EVEN, from, source), weight);
                    }
                }
            } else {
                for (i, pair) in group.pairs.clone().enumerate() {
                    let (from, weight) = (table(&self.from[pair]), table(&self.weights[pair]));
                    let base = (group.base + 2 * i * self.channels).min(part);
                    let (mask, beyond) = (first_bytes(part - base), first_bytes((part - base).saturating_sub(64)));
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let row = &rows[r * part..(r + 1) * part];
                        let low = load(row, base, mask);
                        let high = load(row, (base + 64).min(part), beyond);
                        *sum = _mm512_dpwssd_epi32(*sum, _mm512_maskz_permutex2var_epi8(EVEN, low, from, high), weight);
                    }
                }
            }
            for (r, sum) in sums.into_iter().enumerate() {
                let bytes =
                    _mm512_cvtusepi32_epi8(_mm512_max_epi32(_mm512_sra_epi32(sum, shift), _mm512_setzero_si512()));
                let row = &mut out[r * self.width..(r + 1) * self.width];
                match row[16 * g..].first_chunk_mut::<16>() {
                    // SAFETY: the 16 bytes that are written are there.
                    Some(here) => unsafe { _mm_storeu_si128(here.as_mut_ptr().cast(), bytes) },
                    None => {
                        let mut whole = [0u8; 16];
                        // SAFETY: as above.
                        unsafe { _mm_storeu_si128(whole.as_mut_ptr().cast(), bytes) };
                        row[16 * g..].iter_mut().zip(whole).for_each(|(to, byte)| *to = byte);
                    }
                }
            }
        }
    }
}

/// Ones for the first `n` of 64 bytes.
fn first_bytes(n: usize) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

/// Two weights for each pair of 16-bit integers.
#[target_feature(enable = "avx512f")]
fn both(a: i16, b: i16) -> __m512i {
    _mm512_set1_epi32(i32::from(a as u16) | (i32::from(b) << 16))
}

/// The bytes of `mask`, which must be there, from `at` on; 0 for the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(bytes: &[u8], at: usize, mask: u64) -> __m512i {
    assert!(at + (64 - mask.leading_zeros() as usize) <= bytes.len());
    // SAFETY: what the mask leaves out is not touched, and the last byte of the rest is in `bytes` (asserted above).
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().add(at).cast()) }
}

/// Writes the bytes of `mask`, for which there must be room.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(bytes: &mut [u8], at: usize, mask: u64, value: __m512i) {
    assert!(at + (64 - mask.leading_zeros() as usize) <= bytes.len());
    // SAFETY: as for `load`.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().add(at).cast(), mask, value) }
}

/// A row of a plan's tables.
#[inline]
#[target_feature(enable = "avx512f")]
fn table<T>(row: &T) -> __m512i {
    const { assert!(size_of::<T>() == 64) };
    // SAFETY: the row has 64 bytes of integers.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(row).cast()) }
}
