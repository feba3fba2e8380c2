//! Weights on a device: where each parameter's values lie, and launches of weight standardisation.
//!
//! All parameters of a network lie one after the other in f32: a convolution's as rows of `[tap][input]`, one an
//! output; a vector as it is. Gradients and the optimiser's state have the same order. What convolutions read is
//! in the activations' type, with inputs padded to 16 bytes, as cuDNN's tensor kernels want them.

use super::op::{Launch, Op};
use crate::nn::parameter::{Layout, Parameter};
use crate::nn::standardise::EPSILON;

/// A convolution's weights among all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Where its master weights begin, in f32 values.
    pub start: usize,
    /// Where what convolutions read begins, in values of the activations' type.
    pub hat: usize,
    /// The first of its rows among all standardised ones.
    pub first: usize,
    pub outputs: usize,
    pub taps: usize,
    pub inputs: usize,
    pub padded: usize,
}

impl Rows {
    /// Values of what convolutions read.
    pub fn hat_len(&self) -> usize {
        self.outputs * self.taps * self.padded
    }

    /// Five words for each row: see `source/standardise.cu`.
    pub fn table(&self) -> impl Iterator<Item = u64> + '_ {
        let Rows { start, hat, taps, inputs, padded, .. } = *self;
        (0..self.outputs).flat_map(move |o| {
            [start + o * taps * inputs, hat + o * taps * padded, taps, inputs, padded].map(|v| v as u64)
        })
    }
}

/// Channels of `inputs` with zeros up to 16 bytes.
pub fn padded(inputs: usize, narrow: bool) -> usize {
    inputs.next_multiple_of(if narrow { 8 } else { 4 })
}

/// Standardises `rows` rows of all convolutions at once.
pub fn standardise(narrow: bool, rows: usize, w: u64, hat: u64, moments: u64, table: u64) -> Op {
    let launch = Launch::new("standardise", narrow, [rows, 1, 1]);
    launch.at([w, hat, moments, table]).reals([EPSILON]).into()
}

/// Adds to the gradient `dw` of one convolution's weights `w`.
pub fn standardise_backward(narrow: bool, rows: &Rows, w: u64, moments: u64, dhat: u64, dw: u64) -> Op {
    let launch = Launch::new("standardise_backward", narrow, [rows.outputs, 1, 1]);
    launch.at([w, moments, dhat, dw]).counts([rows.taps, rows.inputs, rows.padded]).into()
}

/// Values of PyTorch's order in the device's.
pub fn to_rows(parameter: &Parameter, plain: &[f32]) -> Vec<f32> {
    exchange(parameter, plain, true)
}

/// Values of the device's order in PyTorch's.
pub fn from_rows(parameter: &Parameter, rows: &[f32]) -> Vec<f32> {
    exchange(parameter, rows, false)
}

/// Between `[output][input][tap]` and `[output][tap][input]`.
fn exchange(parameter: &Parameter, values: &[f32], to_rows: bool) -> Vec<f32> {
    let Layout::Packed { packing, taps } = parameter.layout else { return values.to_vec() };
    let inputs = packing.rows / taps;
    let (outer, inner) = if to_rows { (taps, inputs) } else { (inputs, taps) };
    let row = |row: &[f32]| -> Vec<f32> {
        (0..outer).flat_map(|a| (0..inner).map(move |b| (a, b))).map(|(a, b)| row[b * outer + a]).collect()
    };
    values.chunks_exact(taps * inputs).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        let parameter = Parameter::conv("w".into(), [5, 3, 2, 2]);
        let plain: Vec<f32> = (0..60).map(|v| v as f32).collect();
        let rows = to_rows(&parameter, &plain);
        // Output 1, tap 2, input 1.
        assert_eq!(rows[12 + 2 * 3 + 1], plain[12 + 4 + 2]);
        assert_eq!(from_rows(&parameter, &rows), plain);
        assert_eq!((padded(3, true), padded(3, false), padded(16, true)), (8, 4, 16));
    }
}
