//! Forward and input gradient: tiles carried over, sixteen matrix products, sums carried back.

use super::super::Map;
use super::super::conv::{Base, CHAIN};
use super::super::element::Element;
use super::super::kernel::{self, Kernel, Panel, versions};
use super::super::packing::{PANEL, Packed};
use super::{Lanes, POINTS, STEP, Tiles, VECTOR, add, load, spread, subtract};
use rayon::prelude::*;
use std::ops::Range;

/// Tiles that a panel's weights meet while they are in the cache.
const TILES: usize = 64;

/// `y = x * w (+ base)`, where `map` is the shape of x, and `filters` of shape `packing` are its weights
/// at the points. Channels are multiples of 16.
pub fn convolve<T: Element>(
    kernel: Kernel,
    x: &[T],
    map: Map,
    packing: Packed,
    filters: &[f32],
    base: Base<'_, T>,
    y: &mut [T],
) {
    let row = map.width * packing.lanes;
    assert_eq!((x.len(), y.len()), (map.len(), map.n * map.height * row), "bug: {map:?} to {packing:?}");
    assert_eq!((packing.rows, filters.len()), (POINTS * map.channels, packing.len()), "bug: {map:?} to {packing:?}");
    let tiles = Tiles::of(map);
    // Small jobs share the work evenly, large ones read the weights less often.
    let even = tiles.lines().div_ceil(4 * rayon::current_num_threads());
    let lines = (TILES / tiles.across).clamp(1, even);
    let mut jobs = Vec::with_capacity(tiles.lines().div_ceil(lines));
    let mut rest = y;
    for first in (0..tiles.lines()).step_by(lines) {
        let end = tiles.lines().min(first + lines);
        let (out, later) = rest.split_at_mut((tiles.row(end) - tiles.row(first)) * row);
        jobs.push((first..end, out));
        rest = later;
    }
    let zeros = vec![T::default(); map.channels];
    let work = Work { kernel, x, tiles, packing, filters, zeros };
    jobs.into_par_iter().for_each_init(Scratch::default, |scratch, (lines, out)| {
        let base = match base {
            Base::Values(base) => Base::Values(&base[tiles.row(lines.start) * row..][..out.len()]),
            other => other,
        };
        work.run(lines, base, out, scratch);
    });
}

#[derive(Default)]
struct Scratch {
    /// `[point][tile][channel]`
    spread: Vec<f32>,
    /// `[point][tile][lane]` of one panel
    sums: Vec<f32>,
    places: Vec<u32>,
}

struct Work<'a, T> {
    kernel: Kernel,
    x: &'a [T],
    tiles: Tiles,
    packing: Packed,
    filters: &'a [f32],
    zeros: Vec<T>,
}

impl<T: Element> Work<'_, T> {
    /// Writes the outputs of some lines of tiles, which `out` and `base` begin with.
    fn run(&self, lines: Range<usize>, base: Base<'_, T>, out: &mut [T], scratch: &mut Scratch) {
        let channels = self.tiles.map.channels;
        let tiles = lines.len() * self.tiles.across;
        let Scratch { spread: points, sums, places } = scratch;
        points.resize(POINTS * tiles * channels, 0.0);
        sums.resize(POINTS * tiles * PANEL, 0.0);
        places.clear();
        places.extend((0..tiles).map(|tile| (tile * PANEL) as u32));
        for (tile, place) in self.tiles.each(lines.clone()).enumerate() {
            let around = self.tiles.around(self.x, place, &self.zeros);
            spread(self.kernel, &around, tiles * channels, tile, tiles, channels, points);
        }
        let inputs: Vec<*const f32> =
            points[..POINTS * tiles * channels].chunks_exact(channels).map(<[f32]>::as_ptr).collect();
        let Map { height, width, .. } = self.tiles.map;
        let top = self.tiles.row(lines.start);
        for p in 0..self.packing.panels() {
            let (stride, lane) = (self.packing.pitch(p), p * PANEL);
            for (point, sums) in sums[..POINTS * tiles * PANEL].chunks_exact_mut(tiles * PANEL).enumerate() {
                let weights = &self.filters[p * self.packing.step() + point * channels * stride..][..channels * stride];
                let mut from = std::ptr::null();
                for channel in (0..channels).step_by(CHAIN) {
                    let job = Panel {
                        inputs: &inputs[point * tiles..][..tiles],
                        pitch: tiles,
                        rows: tiles,
                        weights: &[weights[channel * stride..].as_ptr()],
                        channel,
                        channels: CHAIN.min(channels - channel),
                        stride,
                        width: stride,
                        out: sums.as_mut_ptr(),
                        base: from,
                        places,
                    };
                    // SAFETY: inputs are lines of `channels` values and weights `channels` lines of `stride`, as the
                    // slices they were taken from; the places are the tiles' lines of this point's sums.
                    unsafe { kernel::panel(self.kernel, &job) };
                    from = job.out.cast_const();
                }
            }
            for (tile, (image, y, x)) in self.tiles.each(lines.clone()).enumerate() {
                let at = |i: usize, j: usize| {
                    let inside = y + i < height && x + j < width;
                    inside.then(|| ((image * height + y + i - top) * width + x + j) * self.packing.lanes + lane)
                };
                let places = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
                collect(self.kernel, &sums[tile * PANEL..], tiles * PANEL, self.packing.width(p), &places, base, out);
            }
        }
    }
}

/// `A'` times a column of four sums.
#[inline(always)]
fn collect_column(m: [Lanes; 4]) -> [Lanes; STEP] {
    [add(&add(&m[0], &m[1]), &m[2]), subtract(&subtract(&m[1], &m[2]), &m[3])]
}

versions! {
    /// Carries the sums of one tile and panel back to its pixels, those that there are.
    fn collect<T: Element>(
        sums: &[f32],
        pitch: usize,
        width: usize,
        places: &[Option<usize>; 4],
        base: Base<'_, T>,
        out: &mut [T],
    ) {
        for lane in (0..width).step_by(VECTOR) {
            let at = |point: usize| load(&sums[point * pitch + lane..]);
            let rows: [[Lanes; STEP]; 4] =
                std::array::from_fn(|i| collect_column([at(4 * i), at(4 * i + 1), at(4 * i + 2), at(4 * i + 3)]));
            for j in 0..STEP {
                let column = collect_column([rows[0][j], rows[1][j], rows[2][j], rows[3][j]]);
                for (i, values) in column.iter().enumerate() {
                    let Some(place) = places[STEP * i + j] else { continue };
                    let out = &mut out[place + lane..][..VECTOR];
                    match base {
                        Base::Zero => out.iter_mut().zip(values).for_each(|(o, &v)| *o = T::narrow(v)),
                        Base::Held => out.iter_mut().zip(values).for_each(|(o, &v)| *o = T::narrow(o.wide() + v)),
                        Base::Values(base) => {
                            let base = &base[place + lane..][..VECTOR];
                            for ((o, &v), b) in out.iter_mut().zip(values).zip(base) {
                                *o = T::narrow(b.wide() + v);
                            }
                        }
                    }
                }
            }
        }
    }
}
