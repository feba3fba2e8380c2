//! Weight gradient: at each point the products of carried-over inputs and output gradients, summed over tiles.
//!
//! Lines of tiles are shared out to a number of parts that follows from the shape alone; a part and panel
//! is a task with sums of its own. Parts are added in their order, so threads do not show in a result.

use super::super::Map;
use super::super::buffer::Workspace;
use super::super::element::Element;
use super::super::kernel::{self, Kernel, Outer, versions};
use super::super::packing::{PANEL, Packed};
use super::{Lanes, POINTS, STEP, TAPS, Tiles, VECTOR, add, halve, lanes, load, packing, spread, store, subtract};
use rayon::prelude::*;

/// Tiles that are summed at a time, at least where a line of tiles is shorter.
const TILES: usize = 96;
/// Channels whose values lie side by side: what the first cache holds beside the sums.
const CHANNELS: usize = 48;
/// Values that the sums of all parts may take, and tiles that a part sums at least.
const PARTS: (usize, usize) = (1 << 21, 256);

/// `dw = sum over pixels of x dy` of a convolution that [`super::suits`]; `map` is the shape of x, `conv`
/// that of the packed dw.
pub fn weight_gradient<T: Element>(
    kernel: Kernel,
    x: &[T],
    map: Map,
    dy: &[T],
    conv: Packed,
    dw: &mut [f32],
    workspace: &mut Workspace,
) {
    let out = Map { channels: conv.lanes, ..map };
    assert_eq!((x.len(), dy.len(), dw.len()), (map.len(), out.len(), conv.len()), "bug: {map:?} to {conv:?}");
    let (points, tiles) = (packing(conv), Tiles::of(map));
    let parts = (PARTS.0 / points.len()).min(tiles.lines() * tiles.across / PARTS.1).clamp(1, tiles.lines());
    let lines = tiles.lines().div_ceil(parts);
    let parts = tiles.lines().div_ceil(lines);
    let mut all = workspace.take::<f32>(parts * points.len());
    let work = Work { kernel, x, dy, tiles, outputs: conv.lanes, zeros: vec![T::default(); map.channels] };
    let tasks: Vec<_> = all
        .chunks_mut(points.len())
        .enumerate()
        .flat_map(|(part, sums)| sums.chunks_mut(points.step()).enumerate().map(move |(panel, s)| (part, panel, s)))
        .collect();
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, (part, panel, sums)| {
        let range = part * lines..tiles.lines().min((part + 1) * lines);
        work.sum(range, panel, points.pitch(panel), points.width(panel), sums, scratch);
    });
    dw.par_chunks_mut(conv.step()).enumerate().for_each(|(panel, dw)| {
        let sums: Vec<&[f32]> = all.chunks(points.len()).map(|part| &part[panel * points.step()..]).collect();
        narrow_panel(kernel, &sums, map.channels, points.pitch(panel), dw);
    });
    workspace.give(all);
}

#[derive(Default)]
struct Scratch {
    /// `[point][block of channels][tile][channel]`
    x: Vec<f32>,
    /// `[point][tile][lane]` of one panel
    dy: Vec<f32>,
}

struct Work<'a, T> {
    kernel: Kernel,
    x: &'a [T],
    dy: &'a [T],
    tiles: Tiles,
    outputs: usize,
    zeros: Vec<T>,
}

impl<T: Element> Work<'_, T> {
    /// Sums one panel over some lines of tiles; `sums` are `[point][channel][pitch]`.
    fn sum(
        &self,
        range: std::ops::Range<usize>,
        panel: usize,
        pitch: usize,
        width: usize,
        sums: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Map { height, width: columns, channels, .. } = self.tiles.map;
        sums.fill(0.0);
        let lines = TILES.div_ceil(self.tiles.across);
        for first in range.clone().step_by(lines) {
            let some = first..range.end.min(first + lines);
            let tiles = some.len() * self.tiles.across;
            scratch.x.resize(POINTS * tiles * channels, 0.0);
            scratch.dy.clear();
            scratch.dy.resize(POINTS * tiles * pitch, 0.0);
            for (tile, place) in self.tiles.each(some).enumerate() {
                let around = self.tiles.around(self.x, place, &self.zeros);
                spread(self.kernel, &around, tiles * channels, tile, tiles, CHANNELS, &mut scratch.x);
                let (image, y, x) = place;
                let lines = std::array::from_fn(|p| {
                    let (y, x) = (y + p / STEP, x + p % STEP);
                    let inside = y < height && x < columns;
                    let from = ((image * height + y) * columns + x) * self.outputs + panel * PANEL;
                    inside.then(|| &self.dy[from..from + width])
                });
                stretch(self.kernel, &lines, width, tiles * pitch, &mut scratch.dy[tile * pitch..]);
            }
            for (point, sums) in sums.chunks_exact_mut(channels * pitch).enumerate() {
                let x = &scratch.x[point * tiles * channels..][..tiles * channels];
                let y = &scratch.dy[point * tiles * pitch..][..tiles * pitch];
                for (x, sums) in x.chunks(CHANNELS * tiles).zip(sums.chunks_mut(CHANNELS * pitch)) {
                    let channels = x.len() / tiles;
                    let ahead = [(&[][..], 0), (&[][..], 0)];
                    kernel::outer(self.kernel, &mut Outer { x, y, channels, sums, stride: pitch, ahead });
                }
            }
        }
    }
}

/// `A` times a column of two output gradients.
#[inline(always)]
fn stretch_column(dy: [Lanes; STEP]) -> [Lanes; 4] {
    [dy[0], add(&dy[0], &dy[1]), subtract(&dy[0], &dy[1]), lanes(|i| -dy[1][i])]
}

/// `G'` times a column of four sums.
#[inline(always)]
fn narrow_column(u: [Lanes; 4]) -> [Lanes; 3] {
    let (plus, minus) = (halve(&add(&u[1], &u[2])), halve(&subtract(&u[1], &u[2])));
    [add(&u[0], &plus), minus, add(&plus, &u[3])]
}

versions! {
    /// Carries the output gradients of one tile and panel over to the points, zero for pixels that are not there.
    fn stretch<T: Element>(lines: &[Option<&[T]>; 4], width: usize, pitch: usize, to: &mut [f32]) {
        for lane in (0..width).step_by(VECTOR) {
            let at = |pixel: usize| lines[pixel].map_or([0.0; VECTOR], |line| load(&line[lane..]));
            let columns = [stretch_column([at(0), at(2)]), stretch_column([at(1), at(3)])];
            for i in 0..4 {
                for (j, values) in stretch_column([columns[0][i], columns[1][i]]).iter().enumerate() {
                    store(&mut to[(4 * i + j) * pitch + lane..], values);
                }
            }
        }
    }
}

versions! {
    /// Adds the parts of one panel and carries the sum back to the taps.
    fn narrow_panel(parts: &[&[f32]], inputs: usize, pitch: usize, dw: &mut [f32]) {
        for input in 0..inputs {
            for lane in (0..pitch).step_by(VECTOR) {
                let at = |point: usize| {
                    let from = (point * inputs + input) * pitch + lane;
                    let mut sum = load(&parts[0][from..]);
                    for part in &parts[1..] {
                        sum = add(&sum, &load(&part[from..]));
                    }
                    sum
                };
                let columns: [[Lanes; 3]; 4] =
                    std::array::from_fn(|j| narrow_column([at(j), at(4 + j), at(8 + j), at(12 + j)]));
                for i in 0..3 {
                    let row = narrow_column([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                    for (j, values) in row.iter().enumerate() {
                        store(&mut dw[((3 * i + j) * inputs + input) * pitch + lane..], values);
                    }
                }
            }
        }
    }
}

const _: () = assert!(TAPS == 9 && CHANNELS.is_multiple_of(VECTOR));
