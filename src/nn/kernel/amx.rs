//! The inner loop of forward and input gradient for bfloat16 in AMX tiles: 32 pixels by 32 outputs at a time.
//!
//! The blocking is written over [`Tiles`], which the instructions implement and, for tests on
//! machines without them, a mirror that follows Intel's description of each (SDM, volume 2). The
//! weight gradient, which would need its inputs transposed, stays with `vdpbf16ps`, which every CPU
//! with AMX has. No machine with AMX was at hand where this was written: [`usable`] compares with the
//! plain kernel before the first use.

use super::{Panel, plain};
use crate::nn::element::{Bf16, Element};
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::cell::Cell;
use std::sync::OnceLock;

/// Rows of a tile, and 4-byte values of a row.
const SIDE: usize = 16;
/// Pixels and outputs of a block: two tiles each.
const BLOCK: usize = 2 * SIDE;

/// Operations on tiles of 16 rows of 64 bytes, named by number.
trait Tiles {
    fn zero<const T: usize>(&mut self);

    /// # Safety
    /// 16 rows of 64 bytes must lie `stride` bytes apart from `from` on.
    unsafe fn load<const T: usize>(&mut self, from: *const u32, stride: usize);

    /// Adds the products of pairs: `sum[m][n] += sum over k of a[m][k] . b[k][n]`.
    fn dot<const SUM: usize, const A: usize, const B: usize>(&mut self);

    /// Writes a tile to rows of [`BLOCK`] values.
    ///
    /// # Safety
    /// 16 values must lie in each of 16 rows from `to` on.
    unsafe fn store<const T: usize>(&mut self, to: *mut f32);
}

/// The CPU's tiles. Made only by [`Instructions::configured`].
struct Instructions(());

/// What `ldtilecfg` reads: palette 1, and 16 rows of 64 bytes for each of 8 tiles.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Instructions {
    /// # Safety
    /// The CPU must have AMX, and the system must have permitted it to this process.
    unsafe fn configured() -> Self {
        thread_local!(static CONFIGURED: Cell<bool> = const { Cell::new(false) });
        if !CONFIGURED.get() {
            let mut configuration =
                Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
            configuration.row_bytes[..8].fill(64);
            configuration.rows[..8].fill(SIDE as u8);
            // SAFETY: a valid configuration; the caller promises the instruction.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack)) };
            CONFIGURED.set(true);
        }
        Instructions(())
    }
}

impl Tiles for Instructions {
    #[inline(always)]
    fn zero<const T: usize>(&mut self) {
        // SAFETY: this thread's tiles are configured.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, nomem)) }
    }

    #[inline(always)]
    unsafe fn load<const T: usize>(&mut self, from: *const u32, stride: usize) {
        // SAFETY: as above; the caller promises the memory.
        unsafe {
            asm!("tileloadd tmm{t}, [{p} + {s}]", t = const T, p = in(reg) from, s = in(reg) stride, options(nostack))
        }
    }

    #[inline(always)]
    fn dot<const SUM: usize, const A: usize, const B: usize>(&mut self) {
        // SAFETY: as above.
        unsafe {
            asm!("tdpbf16ps tmm{c}, tmm{a}, tmm{b}", c = const SUM, a = const A, b = const B, options(nostack, nomem))
        }
    }

    #[inline(always)]
    unsafe fn store<const T: usize>(&mut self, to: *mut f32) {
        // SAFETY: as above; the caller promises the memory.
        unsafe {
            asm!("tilestored [{p} + {s}], tmm{t}", t = const T, p = in(reg) to, s = in(reg) 4 * BLOCK, options(nostack))
        }
    }
}

/// As [`super::pair_panel`].
///
/// # Safety
/// As for [`super::pair_panel`]; [`usable`] must have said yes.
pub unsafe fn pair_panel(job: &Panel<'_, Bf16>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn wide(job: &Panel<'_, Bf16>) {
        // SAFETY: the caller's promise.
        unsafe { blocks(&mut Instructions::configured(), job) }
    }
    // SAFETY: the caller's promise.
    unsafe { wide(job) }
}

/// # Safety
/// The pointers of `job` must be good for what its fields say.
#[inline(always)]
unsafe fn blocks(tiles: &mut impl Tiles, job: &Panel<'_, Bf16>) {
    for row in (0..job.rows).step_by(BLOCK) {
        let rows = BLOCK.min(job.rows - row);
        for lane in (0..job.stride).step_by(BLOCK) {
            let mut sums = [0f32; BLOCK * BLOCK];
            // SAFETY: row and lane stay within the job; the rest is the caller's promise.
            unsafe {
                if lane + SIDE < job.stride {
                    block::<true>(tiles, job, row, rows, lane, &mut sums);
                } else {
                    block::<false>(tiles, job, row, rows, lane, &mut sums);
                }
                let width = BLOCK.min(job.width - lane);
                for (sums, &place) in sums.chunks_exact(BLOCK).zip(&job.places[row..row + rows]) {
                    for (j, sum) in sums[..width].iter().enumerate() {
                        let at = place as usize + lane + j;
                        *job.out.add(at) = if job.base.is_null() { *sum } else { *job.base.add(at) + sum };
                    }
                }
            }
        }
    }
}

/// The products of up to 32 pixels and 16 outputs, or 32 where `TWO`.
///
/// # Safety
/// As for [`blocks`]; `row + rows` and `lane` within the job, and 16 lanes more where `TWO`.
#[inline(always)]
unsafe fn block<const TWO: bool>(
    tiles: &mut impl Tiles,
    job: &Panel<'_, Bf16>,
    row: usize,
    rows: usize,
    lane: usize,
    sums: &mut [f32; BLOCK * BLOCK],
) {
    // Pixels that lie apart, and the end of channels that fill no tile, go by way of copies; what is
    // beyond stays zero.
    let mut x = [0u32; BLOCK * SIDE];
    let mut w = [0u32; SIDE * BLOCK];
    let pairs = job.channels / 2;
    tiles.zero::<0>();
    tiles.zero::<1>();
    tiles.zero::<2>();
    tiles.zero::<3>();
    for (tap, weights) in job.weights.iter().enumerate() {
        let inputs = &job.inputs[tap * job.pitch + row..][..rows];
        let even = if rows == BLOCK { spacing(inputs) } else { None };
        for k in (0..pairs).step_by(SIDE) {
            let count = SIDE.min(pairs - k);
            // SAFETY: every pixel has `channels` values from `channel` on; a tap's weights have
            // `pairs` rows of `stride` pairs; copies have what is loaded from them.
            unsafe {
                let (mut from, mut step) = (inputs[0].add(job.channel + 2 * k).cast::<u32>(), even.unwrap_or(0));
                if even.is_none() || count < SIDE {
                    for (copy, input) in x.chunks_exact_mut(SIDE).zip(inputs) {
                        let input = input.add(job.channel + 2 * k).cast::<u32>();
                        for (i, copy) in copy.iter_mut().enumerate() {
                            *copy = if i < count { input.add(i).read_unaligned() } else { 0 };
                        }
                    }
                    (from, step) = (x.as_ptr(), 4 * SIDE);
                }
                let (mut to, mut pitch) = (weights.cast::<u32>().add(k * job.stride + lane), job.stride);
                if count < SIDE {
                    let lanes = if TWO { BLOCK } else { SIDE };
                    for (i, copy) in w.chunks_exact_mut(BLOCK).enumerate() {
                        for (j, copy) in copy[..lanes].iter_mut().enumerate() {
                            *copy = if i < count { to.add(i * pitch + j).read_unaligned() } else { 0 };
                        }
                    }
                    (to, pitch) = (w.as_ptr(), BLOCK);
                }
                tiles.load::<4>(from, step);
                tiles.load::<6>(to, 4 * pitch);
                tiles.dot::<0, 4, 6>();
                if TWO {
                    tiles.load::<7>(to.add(SIDE), 4 * pitch);
                    tiles.dot::<1, 4, 7>();
                }
                if rows > SIDE {
                    tiles.load::<5>(from.byte_add(SIDE * step), step);
                    tiles.dot::<2, 5, 6>();
                    if TWO {
                        tiles.dot::<3, 5, 7>();
                    }
                }
            }
        }
    }
    let out = sums.as_mut_ptr();
    // SAFETY: the four quarters of 32 rows of 32 values.
    unsafe {
        tiles.store::<0>(out);
        tiles.store::<1>(out.add(SIDE));
        tiles.store::<2>(out.add(SIDE * BLOCK));
        tiles.store::<3>(out.add(SIDE * BLOCK + SIDE));
    }
}

/// The bytes from each input to the next, where they are the same and not negative.
fn spacing(inputs: &[*const Bf16]) -> Option<usize> {
    let step = inputs[1].addr().checked_sub(inputs[0].addr())?;
    inputs.windows(2).all(|w| w[1].addr().wrapping_sub(w[0].addr()) == step).then_some(step)
}

/// Whether this CPU has AMX for bfloat16, the system permits it, and it agrees with the plain
/// kernel; an error says that it does not agree.
pub fn usable() -> Result<bool, &'static str> {
    static USABLE: OnceLock<Result<bool, &'static str>> = OnceLock::new();
    *USABLE.get_or_init(|| {
        if !present() {
            return Ok(false);
        }
        // SAFETY: CPU and system have just said that tiles may be used.
        let agrees = check(|job| unsafe { pair_panel(job) });
        if agrees { Ok(true) } else { Err("AMX on this CPU disagrees with the plain kernel and is not used") }
    })
}

fn present() -> bool {
    const REQUEST_PERMISSION: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
    #[allow(unused_unsafe)] // Safe in newer compilers.
    // SAFETY: every x86-64 CPU has the instruction.
    let leaf = unsafe { __cpuid_count(7, 0) };
    if leaf.edx & BF16_AND_TILE != BF16_AND_TILE || !super::has_bf16() || !cfg!(target_os = "linux") {
        return false;
    }
    // SAFETY: asks the kernel to let this process use tiles; touches no memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 }
}

/// Compares with the plain kernel on some shapes.
fn check(run: impl Fn(&Panel<'_, Bf16>)) -> bool {
    // Rows, taps, channels, outputs, values from one pixel to the next.
    let shapes =
        [(32, 1, 32, 64, 32), (5, 2, 34, 16, 40), (33, 9, 64, 48, 64), (47, 3, 6, 30, 6), (96, 1, 128, 64, 256)];
    shapes.into_iter().all(|(rows, taps, channels, outputs, apart)| {
        let stride = usize::next_multiple_of(outputs, SIDE);
        let value = |i: usize| Bf16::narrow(((i * 37 + i / 11) % 29) as f32 / 16.0 - 0.9);
        let x: Vec<Bf16> = (0..(rows + taps) * apart + channels).map(value).collect();
        let w: Vec<Bf16> = (0..taps * channels * stride).map(|i| value(3 * i + 1)).collect();
        let inputs: Vec<*const Bf16> = (0..taps)
            .flat_map(|tap| (0..rows).map(move |row| (tap, row)))
            // The second tap's pixels are out of order, so that they are copied.
            .map(|(tap, row)| x[(if tap == 1 { rows - 1 - row } else { row } + tap) * apart..].as_ptr())
            .collect();
        let weights: Vec<*const Bf16> = (0..taps).map(|tap| w[tap * channels * stride..].as_ptr()).collect();
        let places: Vec<u32> = (0..rows).map(|row| (row * outputs) as u32).collect();
        let base: Vec<f32> = (0..rows * outputs).map(|i| value(i).wide()).collect();
        let job = |out: &mut [f32]| Panel {
            inputs: &inputs,
            pitch: rows,
            rows,
            weights: &weights,
            channel: 0,
            channels,
            stride,
            width: outputs,
            out: out.as_mut_ptr(),
            base: base.as_ptr(),
            places: &places,
        };
        let (mut found, mut wanted) = (vec![f32::NAN; base.len()], vec![f32::NAN; base.len()]);
        run(&job(&mut found));
        // SAFETY: all pointers lead into vectors of the lengths that the job reads and writes.
        unsafe { plain::pair_panel(super::Kernel::Plain, &job(&mut wanted)) };
        let size = (taps * channels) as f32;
        found.iter().zip(&wanted).all(|(f, w)| (f - w).abs() <= 1e-6 * size)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight tiles in memory, with what Intel says of each instruction.
    struct Mirror([[u32; SIDE * SIDE]; 8]);

    /// Denormals are zero, as inputs and as results.
    fn flush(value: f32) -> f32 {
        if value.is_subnormal() { 0.0 } else { value }
    }

    impl Tiles for Mirror {
        fn zero<const T: usize>(&mut self) {
            self.0[T].fill(0);
        }

        unsafe fn load<const T: usize>(&mut self, from: *const u32, stride: usize) {
            for (row, line) in self.0[T].chunks_exact_mut(SIDE).enumerate() {
                for (i, value) in line.iter_mut().enumerate() {
                    // SAFETY: the caller's promise.
                    *value = unsafe { from.byte_add(row * stride).add(i).read_unaligned() };
                }
            }
        }

        /// TDPBF16PS: the lower halves and the upper halves are summed over k apart, then both are added.
        fn dot<const SUM: usize, const A: usize, const B: usize>(&mut self) {
            let (low, high) =
                (|v: u32| flush(f32::from_bits(v << 16)), |v: u32| flush(f32::from_bits(v & 0xffff_0000)));
            for m in 0..SIDE {
                for n in 0..SIDE {
                    let (mut even, mut odd) = (0f32, 0f32);
                    for k in 0..SIDE {
                        let (a, b) = (self.0[A][m * SIDE + k], self.0[B][k * SIDE + n]);
                        even = flush(low(a).mul_add(low(b), even));
                        odd = flush(high(a).mul_add(high(b), odd));
                    }
                    let sum = &mut self.0[SUM][m * SIDE + n];
                    *sum = flush(f32::from_bits(*sum) + flush(even + odd)).to_bits();
                }
            }
        }

        unsafe fn store<const T: usize>(&mut self, to: *mut f32) {
            for (row, line) in self.0[T].chunks_exact(SIDE).enumerate() {
                for (i, &value) in line.iter().enumerate() {
                    // SAFETY: the caller's promise.
                    unsafe { *to.add(row * BLOCK + i) = f32::from_bits(value) };
                }
            }
        }
    }

    #[test]
    fn blocks_of_tiles_agree_with_the_plain_kernel() {
        // Tiles begin with what would be seen if a block forgot to clear or to load them.
        // SAFETY: `check` makes jobs whose pointers are good.
        assert!(check(|job| unsafe { blocks(&mut Mirror([[0x7fc0_7fc0; SIDE * SIDE]; 8]), job) }));
    }

    #[test]
    fn the_check_notices_a_wrong_sum() {
        assert!(!check(|job| {
            // SAFETY: as above; every job has at least one output.
            unsafe {
                blocks(&mut Mirror([[0; SIDE * SIDE]; 8]), job);
                *job.out.add(job.places[job.rows - 1] as usize + job.width - 1) += 0.01;
            }
        }));
    }
}
