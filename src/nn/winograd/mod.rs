//! 3x3 convolutions of stride 1 by Winograd's minimal filtering F(2x2, 3x3), in f32.
//!
//! A tile of 2x2 outputs takes 36 products a channel by the definition and 16 here: tiles of 4x4
//! inputs and the weights are carried over to sixteen points, multiplied there as sixteen matrix
//! products, and the sums are carried back (Lavin and Gray, arXiv 1509.09308):
//!
//! ```text
//! forward          y  = A' [ (G w G') * (B' x B) ] A       summed over channels
//! input gradient   the same of dy, with weights turned by 180 degrees and transposed
//! weight gradient  dw = G' [ (B' x B) * (A dy A') ] G      summed over tiles
//! ```
//!
//! The carrying over and back adds values and halves weights, so the error stays that of a few more
//! additions in f32. bfloat16 has too few bits for that and takes the direct way.
//!
//! | file | |
//! |---|---|
//! | `mod` | which convolutions, the transforms of weights |
//! | `data` | forward and input gradient |
//! | `gradient` | weight gradient |

mod data;
mod gradient;

pub use data::convolve;
pub use gradient::weight_gradient;

use super::Map;
use super::conv::Conv;
use super::element::Element;
use super::kernel::{Kernel, versions};
use super::packing::Packed;
use rayon::prelude::*;

/// Products of one tile and channel.
const POINTS: usize = 16;
/// Taps of the convolution.
const TAPS: usize = 9;
/// The side of a map from which it pays, as measured: of a tile that one output fills, most products are wasted.
const SMALLEST_SIDE: usize = 2;
/// Outputs of a tile in each direction; its inputs reach one pixel further on every side.
const STEP: usize = 2;

/// Values that the transforms take at a time.
const VECTOR: usize = 16;
type Lanes = [f32; VECTOR];

/// Whether a convolution of `map` with activations `T` is computed this way. Narrow ones and small maps are not:
/// carrying over costs more than the products it saves.
pub fn suits<T: Element>(conv: &Conv, map: Map) -> bool {
    let wide = |channels: usize| channels >= 32 && channels.is_multiple_of(VECTOR);
    let large = map.width.min(map.height) >= SMALLEST_SIDE;
    !T::NARROW && (conv.kernel, conv.stride, conv.pad) == (3, 1, 1) && wide(conv.inputs) && wide(conv.outputs) && large
}

/// Whether the weight gradient of a convolution that [`suits`] is, too: its sums at the points of many channels
/// outgrow the cache, which only pays where few tiles reach past the edge.
pub fn suits_weight_gradient(map: Map) -> bool {
    let reached = map.width.next_multiple_of(STEP) * map.height.next_multiple_of(STEP);
    5 * reached <= 6 * map.width * map.height
}

/// Weights at the points: sixteen matrices of inputs by outputs, one after the other in every panel.
pub fn packing(conv: Packed) -> Packed {
    Packed { rows: conv.rows / TAPS * POINTS, lanes: conv.lanes }
}

/// Carries the weights of a convolution, packed as `conv`, over to the points, packed as [`packing`]
/// says; turned by 180 degrees if `turned`, as the input gradient needs them.
pub fn filters(kernel: Kernel, conv: Packed, weights: &[f32], turned: bool, to: &mut [f32]) {
    let (points, inputs) = (packing(conv), conv.rows / TAPS);
    assert_eq!((weights.len(), to.len()), (conv.len(), points.len()), "bug: {conv:?}");
    to.par_chunks_mut(points.step()).zip(weights.par_chunks(conv.step())).enumerate().for_each(|(p, (to, w))| {
        filter_panel(kernel, w, inputs, points.pitch(p), turned, to);
    });
}

versions! {
    fn filter_panel(w: &[f32], inputs: usize, pitch: usize, turned: bool, to: &mut [f32]) {
        for input in 0..inputs {
            for lane in (0..pitch).step_by(VECTOR) {
                let tap = |tap: usize| {
                    let tap = if turned { TAPS - 1 - tap } else { tap };
                    load(&w[(tap * inputs + input) * pitch + lane..])
                };
                let rows: [[Lanes; 3]; 4] = {
                    let column = |j: usize| widen_filter([tap(j), tap(3 + j), tap(6 + j)]);
                    let columns = [column(0), column(1), column(2)];
                    std::array::from_fn(|i| std::array::from_fn(|j| columns[j][i]))
                };
                for (i, row) in rows.into_iter().enumerate() {
                    for (j, values) in widen_filter(row).iter().enumerate() {
                        store(&mut to[((4 * i + j) * inputs + input) * pitch + lane..], values);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn lanes(value: impl Fn(usize) -> f32) -> Lanes {
    let mut out = [0.0; VECTOR];
    for (i, out) in out.iter_mut().enumerate() {
        *out = value(i);
    }
    out
}

#[inline(always)]
fn load<T: Element>(from: &[T]) -> Lanes {
    let from = &from[..VECTOR];
    lanes(|i| from[i].wide())
}

#[inline(always)]
fn store(to: &mut [f32], values: &Lanes) {
    to[..VECTOR].copy_from_slice(values);
}

#[inline(always)]
fn add(a: &Lanes, b: &Lanes) -> Lanes {
    lanes(|i| a[i] + b[i])
}

#[inline(always)]
fn subtract(a: &Lanes, b: &Lanes) -> Lanes {
    lanes(|i| a[i] - b[i])
}

#[inline(always)]
fn halve(a: &Lanes) -> Lanes {
    lanes(|i| 0.5 * a[i])
}

/// `G` times a column of three weights.
#[inline(always)]
fn widen_filter(w: [Lanes; 3]) -> [Lanes; 4] {
    let (outer, middle) = (halve(&add(&w[0], &w[2])), halve(&w[1]));
    [w[0], add(&outer, &middle), subtract(&outer, &middle), w[2]]
}

/// `B'` times a column of four inputs.
#[inline(always)]
fn spread_column(x: [Lanes; 4]) -> [Lanes; 4] {
    [subtract(&x[0], &x[2]), add(&x[1], &x[2]), subtract(&x[2], &x[1]), subtract(&x[1], &x[3])]
}

versions! {
    /// Carries one tile over to the points. `lines` are the channels of its 4x4 pixels. Channel c of
    /// point p goes to `to[p * pitch + place]`, where channels lie in blocks of `block`, a block of
    /// all `tiles` before the next one, and `to` begins at the first block of this tile.
    fn spread<T: Element>(lines: &[&[T]; POINTS], pitch: usize, tile: usize, tiles: usize, block: usize, to: &mut [f32]) {
        let channels = lines[0].len();
        for first in (0..channels).step_by(block) {
            let width = block.min(channels - first);
            let start = first * tiles + tile * width;
            for c in (0..width).step_by(VECTOR) {
                let at = |pixel: usize| load(&lines[pixel][first + c..]);
                let rows: [[Lanes; 4]; 4] =
                    std::array::from_fn(|i| spread_column([at(4 * i), at(4 * i + 1), at(4 * i + 2), at(4 * i + 3)]));
                for j in 0..4 {
                    let column = spread_column([rows[0][j], rows[1][j], rows[2][j], rows[3][j]]);
                    for (i, values) in column.iter().enumerate() {
                        store(&mut to[(4 * i + j) * pitch + start + c..], values);
                    }
                }
            }
        }
    }
}

/// The tiles of a batch of maps, in lines of tiles from the first image's top to the last one's bottom.
#[derive(Clone, Copy)]
struct Tiles {
    map: Map,
    across: usize,
    down: usize,
}

impl Tiles {
    fn of(map: Map) -> Self {
        Tiles { map, across: map.width.div_ceil(STEP), down: map.height.div_ceil(STEP) }
    }

    /// Lines of tiles.
    fn lines(&self) -> usize {
        self.map.n * self.down
    }

    /// The first row of pixels, of all images under each other, that a line of tiles covers.
    fn row(&self, line: usize) -> usize {
        line / self.down * self.map.height + line % self.down * STEP
    }

    /// Image, row and column of the first output of each tile of some lines.
    fn each(&self, lines: std::ops::Range<usize>) -> impl Iterator<Item = (usize, usize, usize)> {
        let Tiles { across, down, .. } = *self;
        lines.flat_map(move |line| (0..across).map(move |x| (line / down, line % down * STEP, x * STEP)))
    }

    /// The channels of the 4x4 pixels around a tile of `x`, `zeros` for what lies outside.
    fn around<'x, T>(&self, x: &'x [T], (image, y0, x0): (usize, usize, usize), zeros: &'x [T]) -> [&'x [T]; POINTS] {
        let super::Map { height, width, channels, .. } = self.map;
        std::array::from_fn(|p| {
            // A pixel before the first wraps to a number beyond the last.
            let (y, x_) = ((y0 + p / 4).wrapping_sub(1), (x0 + p % 4).wrapping_sub(1));
            if y < height && x_ < width {
                &x[((image * height + y) * width + x_) * channels..][..channels]
            } else {
                &zeros[..channels]
            }
        })
    }
}

#[cfg(test)]
mod tests;
