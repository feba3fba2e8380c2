//! Convolution as an implicit matrix product: forward and input gradient; the weight gradient is in [`super::weight`].
//!
//! No image is unfolded and none is padded: for each tap of each output pixel the kernels get a
//! pointer, which leads to a line of zeros where the tap lies outside. The input gradient is the
//! same gathering with inputs and outputs exchanged; with a stride, pixels are sorted by phase so
//! that no product with an inserted zero is ever formed.
//!
//! Sums are made in two levels, at most [`CHAIN`] products each, so that long ones keep their accuracy.

use super::Map;
use super::element::Element;
use super::kernel::{Kernel, Panel, versions};
use super::packing::{PANEL, Packed};
use rayon::prelude::*;
use std::ops::Range;

/// Products that are summed before the sum is added to the total.
pub(super) const CHAIN: usize = 512;
/// Pixels whose inputs a panel's weights meet while they are in the cache.
const ROWS: usize = 96;
/// Products below which handing work to another thread costs more than it saves.
pub(super) const WORTH: usize = 1 << 19;

/// A square convolution without bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

/// Output pixels that share a phase, and the taps that reach them.
struct Phase {
    y: usize,
    x: usize,
    taps: Vec<Tap>,
}

/// Pixel (y, x) of a phase reads at `(y * stride + self.y, x * stride + self.x)`.
#[derive(Clone, Copy)]
struct Tap {
    index: usize,
    y: isize,
    x: isize,
}

/// A pixel that is written: where its image's inputs begin, and its place among those of its phase.
#[derive(Clone, Copy)]
struct Pixel {
    image: usize,
    y: usize,
    x: usize,
}

/// Scratch of one chunk, kept from chunk to chunk.
#[derive(Default)]
struct Scratch {
    pixels: Vec<Pixel>,
    places: Vec<u32>,
    inputs: Vec<Pointer>,
    weights: Vec<Pointer>,
    sums: Vec<f32>,
}

/// A pointer that may sit in scratch that moves between threads; it is only read through by the
/// kernel call that follows its making.
type Pointer = usize;

impl Conv {
    pub fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    pub fn output(&self, x: Map) -> Map {
        let side = |s: usize| (s + 2 * self.pad - self.kernel) / self.stride + 1;
        Map { n: x.n, height: side(x.height), width: side(x.width), channels: self.outputs }
    }

    /// The order of the weights that [`Conv::forward`] reads and [`Conv::weight_gradient`] writes.
    pub fn packing(&self) -> Packed {
        Packed { rows: self.taps() * self.inputs, lanes: self.outputs }
    }

    /// Without padding the taps of a kernel row lie side by side in memory and are read as one.
    pub(super) fn merged(&self) -> bool {
        self.pad == 0 && self.kernel > 1
    }

    /// Taps as read, and values that each reads.
    pub(super) fn reads(&self) -> (usize, usize) {
        if self.merged() { (self.kernel, self.kernel * self.inputs) } else { (self.taps(), self.inputs) }
    }

    /// `y = x * w (+ residual)`. `x` is of shape `map`, `w` is packed as [`Conv::packing`] says
    /// and as [`Element::weights`] makes it.
    pub fn forward<T: Element>(&self, kernel: Kernel, x: &[T], map: Map, w: &[T], residual: Option<&[T]>, y: &mut [T]) {
        let out = self.output(map);
        assert_eq!((x.len(), y.len(), w.len()), (map.len(), out.len(), self.packing().len()), "bug: {self:?} {map:?}");
        let (taps, channels) = self.reads();
        let tap = |index: usize| {
            let (y, x) = if self.merged() { (index, 0) } else { (index / self.kernel, index % self.kernel) };
            Tap { index, y: y as isize - self.pad as isize, x: x as isize - self.pad as isize }
        };
        let phases = [Phase { y: 0, x: 0, taps: (0..taps).map(tap).collect() }];
        let gather = Gather { kernel, x, map, stride: self.stride, channels, w, packing: self.packing(), out, step: 1 };
        gather.run(&phases, residual.map_or(Base::Zero, Base::Values), y);
    }

    /// `dx = dy * w transposed`, or added to what `dx` holds. `map` is the shape of x and dx; `wt`
    /// is packed as [`Packed::transposed`] says.
    pub fn input_gradient<T: Element>(&self, kernel: Kernel, dy: &[T], map: Map, wt: &[T], add: bool, dx: &mut [T]) {
        let out = self.output(map);
        let packing = self.packing().transposed(self.taps());
        assert_eq!((dx.len(), dy.len(), wt.len()), (map.len(), out.len(), packing.len()), "bug: {self:?} {map:?}");
        let (s, k, pad) = (self.stride as isize, self.kernel as isize, self.pad as isize);
        // Input row y is tap a of output row (y + pad - a) / s, where that is whole.
        let phase = |y: isize, x: isize| {
            let taps = (0..k * k).filter_map(|t| {
                let (a, b) = (y + pad - t / k, x + pad - t % k);
                (a % s == 0 && b % s == 0).then(|| Tap { index: t as usize, y: a / s, x: b / s })
            });
            Phase { y: y as usize, x: x as usize, taps: taps.collect() }
        };
        let phases: Vec<_> = (0..s * s).map(|q| phase(q / s, q % s)).collect();
        let (channels, step) = (self.outputs, self.stride);
        let gather = Gather { kernel, x: dy, map: out, stride: 1, channels, w: wt, packing, out: map, step };
        gather.run(&phases, if add { Base::Held } else { Base::Zero }, dx);
    }
}

versions! {
    /// Narrows the f32 sums of some pixels and one panel, with what is added to them.
    fn finish<T: Element>(sums: &[f32], width: usize, lane: usize, places: &[u32], base: Base<'_, T>, out: &mut [T]) {
        for (sums, &place) in sums.chunks_exact(PANEL).zip(places) {
            let from = place as usize + lane;
            let out = &mut out[from..from + width];
            match base {
                Base::Zero => out.iter_mut().zip(sums).for_each(|(o, &s)| *o = T::narrow(s)),
                Base::Held => out.iter_mut().zip(sums).for_each(|(o, &s)| *o = T::narrow(o.wide() + s)),
                Base::Values(base) => {
                    let base = &base[from..from + width];
                    for ((o, &s), b) in out.iter_mut().zip(sums).zip(base) {
                        *o = T::narrow(b.wide() + s);
                    }
                }
            }
        }
    }
}

/// What a gathering adds its sums to.
#[derive(Clone, Copy)]
pub enum Base<'a, T> {
    Zero,
    /// What the output holds.
    Held,
    Values(&'a [T]),
}

/// What gathering needs: inputs, weights and the shape of what is written.
struct Gather<'a, T> {
    kernel: Kernel,
    x: &'a [T],
    /// The shape of `x`.
    map: Map,
    /// Input pixels from one pixel of a phase to the next.
    stride: usize,
    /// Values that one tap reads.
    channels: usize,
    w: &'a [T],
    packing: Packed,
    out: Map,
    /// Phases of the output pixels in each direction.
    step: usize,
}

impl<T: Element> Gather<'_, T> {
    /// Writes `out`, with `base` added.
    fn run(&self, phases: &[Phase], base: Base<'_, T>, out: &mut [T]) {
        let pixels = self.out.n * self.out.height * self.out.width;
        let zeros = vec![T::default(); self.channels];
        // Small chunks share the work evenly, large ones read the weights less often.
        let even = pixels.div_ceil(8 * rayon::current_num_threads()).next_multiple_of(ROWS / 2).min(4 * ROWS);
        let worth = WORTH.div_ceil(self.packing.rows * self.packing.lanes);
        let chunk = even.max(worth) * self.step.min(2);
        let lanes = self.packing.lanes;
        out.par_chunks_mut(chunk * lanes).enumerate().for_each_init(Scratch::default, |scratch, (i, out)| {
            let base = match base {
                Base::Values(base) => Base::Values(&base[i * chunk * lanes..][..out.len()]),
                other => other,
            };
            for phase in phases {
                self.pixels(i * chunk, out.len() / lanes, phase, scratch);
                for first in (0..scratch.pixels.len()).step_by(ROWS) {
                    let rows = ROWS.min(scratch.pixels.len() - first);
                    self.rows(phase, first..first + rows, base, out, scratch, &zeros);
                }
            }
        });
    }

    /// Lists the pixels of one phase among `count` from `first` on.
    fn pixels(&self, first: usize, count: usize, phase: &Phase, scratch: &mut Scratch) {
        scratch.pixels.clear();
        scratch.places.clear();
        let (h, w) = (self.out.height, self.out.width);
        let image = self.map.image();
        let (mut at, mut y, mut x) = (first / (h * w) * image, first / w % h, first % w);
        for i in 0..count {
            if self.step == 1 {
                scratch.pixels.push(Pixel { image: at, y, x });
                scratch.places.push((i * self.packing.lanes) as u32);
            } else if y % self.step == phase.y && x % self.step == phase.x {
                scratch.pixels.push(Pixel { image: at, y: y / self.step, x: x / self.step });
                scratch.places.push((i * self.packing.lanes) as u32);
            }
            x += 1;
            if x == w {
                x = 0;
                y += 1;
                if y == h {
                    y = 0;
                    at += image;
                }
            }
        }
    }

    /// Writes the pixels of one phase that `range` of the scratch's list names.
    fn rows(
        &self,
        phase: &Phase,
        range: Range<usize>,
        base: Base<'_, T>,
        out: &mut [T],
        scratch: &mut Scratch,
        zeros: &[T],
    ) {
        let Scratch { pixels, places, inputs, weights, sums } = scratch;
        let rows = range.len();
        let (pixels, places) = (&pixels[range.clone()], &places[range]);
        if phase.taps.is_empty() {
            for &place in places {
                let range = place as usize..place as usize + self.packing.lanes;
                match base {
                    Base::Zero => out[range].fill(T::default()),
                    Base::Held => {}
                    Base::Values(base) => out[range.clone()].copy_from_slice(&base[range]),
                }
            }
            return;
        }
        inputs.clear();
        let Map { height, width, channels: pitch, .. } = self.map;
        let outside = zeros.as_ptr() as Pointer;
        for tap in &phase.taps {
            inputs.extend(pixels.iter().map(|pixel| {
                let y = ((pixel.y * self.stride) as isize + tap.y) as usize;
                let x = ((pixel.x * self.stride) as isize + tap.x) as usize;
                if y < height && x < width {
                    let from = pixel.image + (y * width + x) * pitch;
                    self.x[from..from + self.channels].as_ptr() as Pointer
                } else {
                    outside
                }
            }));
        }
        // Whole taps while their channels are few, parts of one tap where they are many.
        let parts = self.channels.div_ceil(CHAIN);
        let part = self.channels.div_ceil(parts).next_multiple_of(2);
        let groups = (phase.taps.len() * part).div_ceil(CHAIN);
        let group = phase.taps.len().div_ceil(groups);
        for panel in 0..self.packing.panels() {
            let (stride, width) = (self.packing.pitch(panel), self.packing.width(panel));
            let lane = panel * PANEL;
            let panel = &self.w[panel * self.packing.step()..];
            // f32 sums go straight to the output, narrower ones by way of f32 scratch.
            let (to, mut from, to_places) = if T::NARROW {
                sums.resize(ROWS * PANEL, 0.0);
                (sums.as_mut_ptr(), std::ptr::null(), &SCRATCH_PLACES[..rows])
            } else {
                let to = out.as_mut_ptr().wrapping_add(lane).cast::<f32>();
                let from = match base {
                    Base::Zero => std::ptr::null(),
                    Base::Held => to.cast_const(),
                    Base::Values(base) => base.as_ptr().wrapping_add(lane).cast(),
                };
                (to, from, places)
            };
            for c0 in (0..self.channels).step_by(part) {
                let channels = part.min(self.channels - c0);
                for t0 in (0..phase.taps.len()).step_by(group) {
                    let taps = &phase.taps[t0..(t0 + group).min(phase.taps.len())];
                    weights.clear();
                    weights.extend(taps.iter().map(|tap| {
                        let from = (tap.index * self.channels + c0) * stride;
                        panel[from..from + channels * stride].as_ptr() as Pointer
                    }));
                    let job = Panel {
                        inputs: pointers(&inputs[t0 * rows..]),
                        pitch: rows,
                        rows,
                        weights: pointers(weights),
                        channel: c0,
                        channels,
                        stride,
                        width,
                        out: to,
                        base: from,
                        places: to_places,
                    };
                    // SAFETY: every pointer was taken from a slice of the length that is read; places
                    // are within this chunk, which no other task writes.
                    unsafe { T::panel(self.kernel, &job) };
                    from = to.cast_const();
                }
            }
            if T::NARROW {
                finish(self.kernel, &sums[..rows * PANEL], width, lane, places, base, out);
            }
        }
    }
}

/// Where the sums of each pixel lie in scratch.
const SCRATCH_PLACES: [u32; ROWS] = {
    let mut places = [0; ROWS];
    let mut i = 0;
    while i < ROWS {
        places[i] = (i * PANEL) as u32;
        i += 1;
    }
    places
};

/// Addresses made by `as_ptr` as the pointers they are.
fn pointers<T>(addresses: &[Pointer]) -> &[*const T] {
    // SAFETY: usize and a thin pointer have the same size and alignment.
    unsafe { std::slice::from_raw_parts(addresses.as_ptr().cast(), addresses.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::buffer::{Buffer, Workspace};
    use crate::random::stream::Stream;

    fn draw(seed: u64, n: usize) -> Vec<f32> {
        let mut stream = Stream::new(seed, "conv test", 0, 0);
        (0..n).map(|_| stream.range(-1.0, 1.0) as f32).collect()
    }

    /// Every (output pixel, tap, input pixel) of a convolution, by the definition.
    fn each(conv: &Conv, map: Map, mut visit: impl FnMut(usize, usize, usize)) {
        let out = conv.output(map);
        for image in 0..map.n {
            for (oy, ox) in (0..out.height).flat_map(|y| (0..out.width).map(move |x| (y, x))) {
                for (a, b) in (0..conv.kernel).flat_map(|a| (0..conv.kernel).map(move |b| (a, b))) {
                    let (y, x) = ((oy * conv.stride + a) as isize, (ox * conv.stride + b) as isize);
                    let (y, x) = (y - conv.pad as isize, x - conv.pad as isize);
                    if (0..map.height as isize).contains(&y) && (0..map.width as isize).contains(&x) {
                        let from = (image * map.height + y as usize) * map.width + x as usize;
                        let to = (image * out.height + oy) * out.width + ox;
                        visit(to, a * conv.kernel + b, from);
                    }
                }
            }
        }
    }

    struct Truth {
        y: Vec<f64>,
        dx: Vec<f64>,
        dw: Vec<f64>,
    }

    fn truth(conv: &Conv, map: Map, x: &[f32], w: &[f32], dy: &[f32]) -> Truth {
        let (out, packing, ci) = (conv.output(map), conv.packing(), conv.inputs);
        let mut truth = Truth { y: vec![0.0; out.len()], dx: vec![0.0; map.len()], dw: vec![0.0; packing.len()] };
        each(conv, map, |to, tap, from| {
            for c in 0..ci {
                let xv = f64::from(x[from * ci + c]);
                for o in 0..conv.outputs {
                    let at = packing.at(tap * ci + c, o);
                    let (wv, dv) = (f64::from(w[at]), f64::from(dy[to * conv.outputs + o]));
                    truth.y[to * conv.outputs + o] += xv * wv;
                    truth.dx[from * ci + c] += dv * wv;
                    truth.dw[at] += dv * xv;
                }
            }
        });
        truth
    }

    fn assert_near(what: &str, found: &[f32], wanted: &[f64]) {
        assert_eq!(found.len(), wanted.len());
        let size = wanted.iter().map(|w| w.abs()).fold(1.0, f64::max);
        for (i, (&f, &w)) in found.iter().zip(wanted).enumerate() {
            assert!((f64::from(f) - w).abs() < 2e-6 * size, "{what} at {i}: {f} is not {w}");
        }
    }

    const CASES: [(usize, usize, usize, usize, usize, [usize; 3]); 18] = [
        // inputs, outputs, kernel, stride, pad, [n, height, width]
        (16, 16, 1, 1, 0, [1, 1, 1]),
        (16, 64, 1, 1, 0, [3, 5, 7]),
        (64, 32, 1, 1, 0, [2, 7, 4]),
        (70, 130, 1, 1, 0, [2, 6, 5]),
        (48, 176, 1, 2, 0, [2, 7, 6]),
        (5, 3, 3, 1, 1, [1, 4, 9]),
        (16, 16, 3, 1, 1, [1, 16, 16]),
        (8, 24, 3, 1, 1, [3, 2, 1]),
        (24, 40, 3, 2, 1, [2, 9, 6]),
        (64, 64, 3, 1, 1, [2, 13, 11]),
        (32, 80, 3, 2, 1, [1, 8, 13]),
        (130, 64, 3, 2, 1, [2, 1, 1]),
        (600, 20, 1, 1, 0, [1, 3, 2]),
        (3, 16, 7, 2, 3, [2, 15, 10]),
        (3, 64, 7, 2, 0, [2, 21, 14]),
        (2, 5, 3, 2, 0, [1, 5, 8]),
        // Enough pixels for weight gradients in several parts.
        (8, 16, 3, 1, 1, [5, 23, 25]),
        (16, 24, 1, 1, 0, [40, 7, 9]),
    ];

    #[test]
    fn every_family_computes_the_definition_on_odd_shapes() {
        for (seed, (inputs, outputs, kernel, stride, pad, [n, height, width])) in CASES.into_iter().enumerate() {
            let conv = Conv { inputs, outputs, kernel, stride, pad };
            let map = Map { n, height, width, channels: inputs };
            let (out, packing) = (conv.output(map), conv.packing());
            let x = draw(seed as u64, map.len());
            let dy = draw(seed as u64 + 100, out.len());
            let residual = draw(seed as u64 + 200, out.len());
            let mut w = vec![0.0; packing.len()];
            packing.pack(&draw(seed as u64 + 300, packing.rows * outputs), conv.taps(), &mut w);
            let truth = truth(&conv, map, &x, &w, &dy);
            let mut wt = vec![0.0; packing.transposed(conv.taps()).len()];
            packing.transpose(&w, conv.taps(), &mut wt);
            for family in Kernel::available() {
                let what = |part: &str| format!("{} {part} {conv:?} {map:?}", family.name());
                let mut y = vec![f32::NAN; out.len()];
                conv.forward(family, &x, map, &w, None, &mut y);
                assert_near(&what("forward"), &y, &truth.y);
                conv.forward(family, &x, map, &w, Some(&residual), &mut y);
                let sum: Vec<f64> = truth.y.iter().zip(&residual).map(|(a, &b)| a + f64::from(b)).collect();
                assert_near(&what("forward with residual"), &y, &sum);
                let mut dw = vec![f32::NAN; packing.len()];
                conv.weight_gradient(family, &x, map, &dy, &mut dw, &mut Workspace::default());
                assert_near(&what("weight gradient"), &dw, &truth.dw);
                let mut dx = vec![f32::NAN; map.len()];
                conv.input_gradient(family, &dy, map, &wt, false, &mut dx);
                assert_near(&what("input gradient"), &dx, &truth.dx);
                conv.input_gradient(family, &dy, map, &wt, true, &mut dx);
                let twice: Vec<f64> = truth.dx.iter().map(|d| 2.0 * d).collect();
                assert_near(&what("added input gradient"), &dx, &twice);
            }
        }
    }

    #[test]
    fn bfloat16_computes_the_definition_but_for_its_rounding() {
        use crate::nn::element::Bf16;
        let rounded = |values: Vec<f32>| -> (Vec<Bf16>, Vec<f32>) {
            values.iter().map(|&v| (Bf16::narrow(v), Bf16::narrow(v).wide())).unzip()
        };
        let wide = |values: &[Bf16]| -> Vec<f32> { values.iter().map(|v| v.wide()).collect() };
        // What is written is rounded to 8 bits; weight gradients stay f32.
        let assert_rounded = |what: &str, found: &[Bf16], wanted: &[f64]| {
            for (i, (f, &w)) in wide(found).iter().zip(wanted).enumerate() {
                assert!((f64::from(*f) - w).abs() <= w.abs() / 256.0 + 1e-5, "{what} at {i}: {f} is not {w}");
            }
        };
        for (seed, (inputs, outputs, kernel, stride, pad, [n, height, width])) in CASES.into_iter().enumerate() {
            if inputs % 2 == 1 || outputs % 2 == 1 {
                continue;
            }
            let conv = Conv { inputs, outputs, kernel, stride, pad };
            let map = Map { n, height, width, channels: inputs };
            let (out, packing) = (conv.output(map), conv.packing());
            let (x, wide_x) = rounded(draw(seed as u64, map.len()));
            let (dy, wide_dy) = rounded(draw(seed as u64 + 100, out.len()));
            let (residual, wide_residual) = rounded(draw(seed as u64 + 200, out.len()));
            let (_, weights) = rounded(draw(seed as u64 + 300, packing.rows * outputs));
            let mut w = Buffer::zeros(packing.len());
            packing.pack(&weights, conv.taps(), &mut w);
            let truth = truth(&conv, map, &wide_x, &w, &wide_dy);
            let transposed = packing.transposed(conv.taps());
            let mut wt = Buffer::zeros(transposed.len());
            packing.transpose(&w, conv.taps(), &mut wt);
            for family in Kernel::available() {
                let what = |part: &str| format!("{} {part} {conv:?} {map:?}", family.name());
                let mut workspace = Workspace::default();
                let w = Bf16::weights(family, packing, w.clone(), &mut workspace);
                let wt = Bf16::weights(family, transposed, wt.clone(), &mut workspace);
                let mut y = vec![Bf16(0x7fc0); out.len()];
                conv.forward(family, &x, map, &w, None, &mut y);
                assert_rounded(&what("forward"), &y, &truth.y);
                conv.forward(family, &x, map, &w, Some(&residual), &mut y);
                let sum: Vec<f64> = truth.y.iter().zip(&wide_residual).map(|(a, &b)| a + f64::from(b)).collect();
                assert_rounded(&what("forward with residual"), &y, &sum);
                let mut dw = vec![f32::NAN; packing.len()];
                conv.weight_gradient(family, &x, map, &dy, &mut dw, &mut Workspace::default());
                assert_near(&what("weight gradient"), &dw, &truth.dw);
                let mut dx = vec![Bf16(0x7fc0); map.len()];
                conv.input_gradient(family, &dy, map, &wt, false, &mut dx);
                assert_rounded(&what("input gradient"), &dx, &truth.dx);
                let once = wide(&dx);
                conv.input_gradient(family, &dy, map, &wt, true, &mut dx);
                let twice: Vec<f64> = truth.dx.iter().zip(once).map(|(d, o)| d + f64::from(o)).collect();
                assert_rounded(&what("added input gradient"), &dx, &twice);
            }
        }
    }

    #[test]
    fn an_image_alone_gives_the_bytes_it_gives_in_a_batch() {
        let conv = Conv { inputs: 48, outputs: 80, kernel: 3, stride: 1, pad: 1 };
        let batch = Map { n: 5, height: 7, width: 5, channels: 48 };
        let alone = Map { n: 1, ..batch };
        let x = draw(1, batch.len());
        let w = draw(2, conv.packing().len());
        for family in Kernel::available() {
            let mut all = vec![0.0; conv.output(batch).len()];
            conv.forward(family, &x, batch, &w, None, &mut all);
            let mut one = vec![0.0; conv.output(alone).len()];
            for (i, part) in all.chunks(one.len()).enumerate() {
                conv.forward(family, &x[i * alone.len()..][..alone.len()], alone, &w, None, &mut one);
                assert_eq!(part, one, "{} image {i}", family.name());
            }
        }
    }
}
