//! What activations are made of: f32, or bfloat16 with f32 sums.
//!
//! bfloat16 is a storage format here: every operator widens, computes and sums in f32 (or f64) and
//! narrows what it writes, to nearest, ties to even. Weights, gradients, momentum, features and
//! logits stay f32. Inputs, standardised weights and results of convolutions are rounded, the root's as well, on
//! every machine, as PyTorch's autocast does; cuDNN rounds what one call adds to a weight's gradient too.

use super::buffer::{Buffer, Workspace};
use super::kernel::{self, Kernel, Outer, Panel, versions};
use super::packing::Packed;
use rayon::prelude::*;

/// An activation's type. All-zero bits are zero.
pub trait Element: Copy + Default + Send + Sync + std::fmt::Debug + 'static {
    /// Narrower than f32: kernels take products in pairs, and sums pass through f32 memory.
    const NARROW: bool;

    fn wide(self) -> f32;
    fn narrow(value: f32) -> Self;

    /// Rounds f32 values to what this type holds, where they are.
    fn round(kernel: Kernel, values: &mut [f32]);

    /// Packed f32 weights as this type's kernels read them, in another buffer or the same.
    fn weights(kernel: Kernel, packing: Packed, hat: Buffer, workspace: &mut Workspace) -> Buffer<Self>;

    /// # Safety
    /// See [`kernel::panel`].
    #[doc(hidden)]
    unsafe fn panel(kernel: Kernel, job: &Panel<'_, Self>);

    /// What [`Element::outer`] multiplies: one value, or those of two pixels.
    #[doc(hidden)]
    type Factor: Copy + Default + Send + Sync;

    /// Puts `width` values from each start side by side, `pitch` apart and followed by zeros: `[start][pitch]`,
    /// or half as many lines of pairs.
    #[doc(hidden)]
    fn gather(kernel: Kernel, from: &[Self], starts: &[usize], width: usize, pitch: usize, to: &mut Vec<Self::Factor>);

    /// See [`Outer`].
    #[doc(hidden)]
    fn outer(kernel: Kernel, job: &mut Outer<'_, Self::Factor>);
}

impl Element for f32 {
    const NARROW: bool = false;

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }

    fn round(_: Kernel, _: &mut [f32]) {}

    fn weights(_: Kernel, _: Packed, hat: Buffer, _: &mut Workspace) -> Buffer<Self> {
        hat
    }

    unsafe fn panel(kernel: Kernel, job: &Panel<'_, Self>) {
        // SAFETY: the caller's promise.
        unsafe { kernel::panel(kernel, job) }
    }

    type Factor = f32;

    fn gather(kernel: Kernel, from: &[f32], starts: &[usize], width: usize, pitch: usize, to: &mut Vec<f32>) {
        to.resize(starts.len() * pitch, 0.0);
        copy_lines(kernel, from, starts, width, pitch, to);
    }

    fn outer(kernel: Kernel, job: &mut Outer<'_, f32>) {
        kernel::outer(kernel, job);
    }
}

versions! {
    fn copy_lines(from: &[f32], starts: &[usize], width: usize, pitch: usize, to: &mut [f32]) {
        for (to, &start) in to.chunks_exact_mut(pitch).zip(starts) {
            let from = &from[start..start + width];
            let (to, rest) = to.split_at_mut(width);
            to.iter_mut().zip(from).for_each(|(t, &f)| *t = f);
            rest.fill(0.0);
        }
    }
}

/// The upper half of an f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl Element for Bf16 {
    const NARROW: bool = true;

    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
        // Rounding would carry a NaN's bits over into its sign.
        Bf16(if value.is_nan() { 0x7fc0 } else { rounded })
    }

    fn round(kernel: Kernel, values: &mut [f32]) {
        values.par_chunks_mut(1 << 14).for_each(|values| round_line(kernel, values));
    }

    fn weights(kernel: Kernel, packing: Packed, hat: Buffer, workspace: &mut Workspace) -> Buffer<Self> {
        let mut pairs = workspace.take(hat.len());
        pair_weights(kernel, packing, &hat, &mut pairs);
        workspace.give(hat);
        pairs
    }

    unsafe fn panel(kernel: Kernel, job: &Panel<'_, Self>) {
        // SAFETY: the caller's promise.
        unsafe { kernel::pair_panel(kernel, job) }
    }

    type Factor = u32;

    fn gather(kernel: Kernel, from: &[Bf16], starts: &[usize], width: usize, pitch: usize, to: &mut Vec<u32>) {
        to.resize(starts.len().div_ceil(2) * pitch, 0);
        pair_lines(kernel, from, starts, width, pitch, to);
    }

    fn outer(kernel: Kernel, job: &mut Outer<'_, u32>) {
        kernel::pair_outer(kernel, job);
    }
}

versions! {
    fn round_line(values: &mut [f32]) {
        values.iter_mut().for_each(|v| *v = Bf16::narrow(*v).wide());
    }
}

versions! {
    /// The earlier line goes to the lower half of each pair; a missing last one is zero.
    fn pair_lines(from: &[Bf16], starts: &[usize], width: usize, pitch: usize, to: &mut [u32]) {
        for (to, starts) in to.chunks_exact_mut(pitch).zip(starts.chunks(2)) {
            let first = &from[starts[0]..starts[0] + width];
            let (to, rest) = to.split_at_mut(width);
            match starts.get(1) {
                Some(&second) => {
                    let second = &from[second..second + width];
                    for ((to, a), b) in to.iter_mut().zip(first).zip(second) {
                        *to = u32::from(a.0) | u32::from(b.0) << 16;
                    }
                }
                None => to.iter_mut().zip(first).for_each(|(to, a)| *to = u32::from(a.0)),
            }
            rest.fill(0);
        }
    }
}

/// Packed weights with each two rows interleaved: `[rows / 2][lane][2]` in every panel. Rows are even.
fn pair_weights(kernel: Kernel, packing: Packed, hat: &[f32], pairs: &mut [Bf16]) {
    assert!(packing.rows.is_multiple_of(2), "bug: {} rows in pairs", packing.rows);
    let step = packing.step();
    let panels = pairs.par_chunks_mut(step).zip(hat.par_chunks(step)).enumerate();
    panels.with_min_len((1usize << 14).div_ceil(step)).for_each(|(p, (pairs, hat))| {
        pair_rows(kernel, hat, packing.pitch(p), pairs);
    });
}

versions! {
    fn pair_rows(hat: &[f32], pitch: usize, pairs: &mut [Bf16]) {
        for (pairs, rows) in pairs.chunks_exact_mut(2 * pitch).zip(hat.chunks_exact(2 * pitch)) {
            let (first, second) = rows.split_at(pitch);
            for ((pair, &a), &b) in pairs.chunks_exact_mut(2).zip(first).zip(second) {
                pair[0] = Bf16::narrow(a);
                pair[1] = Bf16::narrow(b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_rounds_to_nearest_even_and_keeps_what_is_not_finite() {
        for (value, wanted) in [
            (1.0, 1.0),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
            (1.0 + 1.1 / 256.0, 1.0 + 2.0 / 256.0),
            (-0.0, -0.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
        ] {
            assert_eq!(Bf16::narrow(value).wide().to_bits(), f32::to_bits(wanted), "{value}");
            assert_eq!(half::bf16::from_f32(value).to_bits(), Bf16::narrow(value).0, "{value}");
        }
        assert!(Bf16::narrow(f32::NAN).wide().is_nan());
        assert!(Bf16::narrow(f32::from_bits(0x7fff_ffff)).wide().is_nan());
    }
}
