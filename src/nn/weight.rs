//! The gradient of a convolution's weights: products of inputs and output gradients, summed over pixels.
//!
//! The gradient is cut into blocks of taps, channels and one panel of outputs; a task sums its
//! block over all pixels in their order, so that neither the cut nor the threads show in a result.
//! Sums are made in two levels, of [`PIXELS`] pixels and of all.

use super::Map;
use super::conv::{Conv, WORTH};
use super::element::Element;
use super::kernel::{self, Kernel, Outer, PairOuter, versions};
use super::packing::{PANEL, Packed};
use rayon::prelude::*;
use std::ops::Range;

/// Pixels that are summed at a time.
const PIXELS: usize = 64;

impl Conv {
    /// `dw = sum over pixels of x dy`, packed as [`Conv::packing`] says. `map` is the shape of x.
    pub fn weight_gradient<T: Element>(&self, kernel: Kernel, x: &[T], map: Map, dy: &[T], dw: &mut [f32]) {
        let out = self.output(map);
        let packing = self.packing();
        assert_eq!((x.len(), dy.len(), dw.len()), (map.len(), out.len(), packing.len()), "bug: {self:?} {map:?}");
        let (taps, channels) = self.reads();
        let pixels = out.height * out.width;
        // Whole images at a time, enough of them to fill chunks of pixels also where maps are small.
        let group = (4 * PIXELS).div_ceil(pixels).clamp(1, map.n);
        let lists: Vec<Vec<(u32, u32)>> = (0..taps).map(|tap| self.list(map, tap, group)).collect();
        let worth = map.n * pixels * packing.len() / WORTH;
        let wanted = (6 * rayon::current_num_threads()).min(worth).max(1);
        let tasks = weight_tasks(packing, taps, channels, wanted, dw);
        let work = WeightWork { kernel, x, map, dy, out, packing, group, lists };
        tasks.into_par_iter().for_each_init(WeightScratch::default, |scratch, task| work.sum(task, scratch));
    }

    /// Where tap `tap` of output pixel (y, x) reads in an image of `map`, or None for padding.
    fn reach(&self, map: Map, tap: usize, y: usize, x: usize) -> Option<usize> {
        let (a, b) = if self.merged() { (tap, 0) } else { (tap / self.kernel, tap % self.kernel) };
        let (y, x) = ((y * self.stride + a).checked_sub(self.pad)?, (x * self.stride + b).checked_sub(self.pad)?);
        (y < map.height && x < map.width).then(|| (y * map.width + x) * map.channels)
    }

    /// Where tap `tap` reads for each output pixel of `images` images, padding left out.
    fn list(&self, map: Map, tap: usize, images: usize) -> Vec<(u32, u32)> {
        let out = self.output(map);
        let mut list = Vec::with_capacity(images * out.height * out.width);
        let mut pixel = 0;
        for image in 0..images {
            for y in 0..out.height {
                for x in 0..out.width {
                    if let Some(from) = self.reach(map, tap, y, x) {
                        list.push(((image * map.image() + from) as u32, pixel));
                    }
                    pixel += 1;
                }
            }
        }
        list
    }
}

/// A block of the weight gradient that one task sums over all pixels: some channels of some taps.
struct WeightTask<'a> {
    panel: usize,
    /// The first tap.
    tap: usize,
    /// The first channel.
    channel: usize,
    /// One slice a tap.
    sums: Vec<&'a mut [f32]>,
}

/// Cuts the gradient into about `wanted` blocks. The cut does not show in the result: each value
/// is summed by one task, over all pixels in their order.
fn weight_tasks<'a>(
    packing: Packed,
    taps: usize,
    channels: usize,
    wanted: usize,
    dw: &'a mut [f32],
) -> Vec<WeightTask<'a>> {
    let blocks = wanted.div_ceil(packing.panels()).min(channels.div_ceil(48));
    let tap_groups = wanted.div_ceil(packing.panels() * blocks).min(taps);
    let blocks = wanted.div_ceil(packing.panels() * tap_groups).min(channels.div_ceil(8)).max(blocks);
    let block = channels.div_ceil(blocks);
    let block = block.next_multiple_of(if block > 24 { 12 } else { 4 });
    let group = taps.div_ceil(tap_groups);
    let mut tasks = Vec::new();
    for (panel, sums) in dw.chunks_mut(packing.step()).enumerate() {
        let stride = packing.pitch(panel);
        for (g, sums) in sums.chunks_mut(group * channels * stride).enumerate() {
            let first = tasks.len();
            tasks.extend((0..channels.div_ceil(block)).map(|i| WeightTask {
                panel,
                tap: g * group,
                channel: i * block,
                sums: Vec::with_capacity(group),
            }));
            for sums in sums.chunks_mut(channels * stride) {
                for (i, sums) in sums.chunks_mut(block * stride).enumerate() {
                    tasks[first + i].sums.push(sums);
                }
            }
        }
    }
    tasks
}

/// What every task of a weight gradient reads.
struct WeightWork<'a, T> {
    kernel: Kernel,
    x: &'a [T],
    map: Map,
    dy: &'a [T],
    out: Map,
    packing: Packed,
    /// Images that `lists` are for.
    group: usize,
    /// For each tap, where each pixel reads and the pixel's number, see [`Conv::list`].
    lists: Vec<Vec<(u32, u32)>>,
}

#[derive(Default)]
struct WeightScratch {
    copy: Vec<f32>,
    x: Vec<u32>,
    y: Vec<u32>,
}

impl<T: Element> WeightWork<'_, T> {
    /// Sums a task's block over all pixels, some at a time.
    fn sum(&self, mut task: WeightTask<'_>, scratch: &mut WeightScratch) {
        task.sums.iter_mut().for_each(|sums| sums.fill(0.0));
        let pixels = self.out.height * self.out.width;
        for first in (0..self.map.n).step_by(self.group) {
            let (x, dy) = (&self.x[first * self.map.image()..], &self.dy[first * self.out.image()..]);
            let mut cursors = vec![0; task.sums.len()];
            let end = self.group.min(self.map.n - first) * pixels;
            for from in (0..end).step_by(PIXELS) {
                let range = from..end.min(from + PIXELS);
                if T::NARROW {
                    self.pairs(&mut task, x, dy, range, &mut cursors, scratch);
                } else {
                    self.pixels(&mut task, x, dy, range, &mut cursors, &mut scratch.copy);
                }
            }
        }
    }

    /// The part of a tap's list that is in `range`, from its cursor on.
    fn part(&self, tap: usize, range: &Range<usize>, cursor: &mut usize) -> &[(u32, u32)] {
        let list = &self.lists[tap][*cursor..];
        let count = list.iter().take(PIXELS).take_while(|&&(_, pixel)| (pixel as usize) < range.end).count();
        *cursor += count;
        &list[..count]
    }

    fn pixels(
        &self,
        task: &mut WeightTask<'_>,
        x: &[T],
        dy: &[T],
        range: Range<usize>,
        cursors: &mut [usize],
        copy: &mut Vec<f32>,
    ) {
        let (lane, width) = (task.panel * PANEL, self.packing.width(task.panel));
        let stride = self.packing.pitch(task.panel);
        // Only f32 comes here.
        let (mut y, mut step) = (dy.as_ptr().wrapping_add(lane).cast::<f32>(), self.out.channels);
        if step > PANEL {
            // Lines that lie far apart would fall into the same few sets of the cache: copy them side by side.
            copy.resize(PIXELS * stride, 0.0);
            let rows = dy[range.start * step..range.end * step].chunks_exact(step);
            for (copy, dy) in copy.chunks_exact_mut(stride).zip(rows) {
                for (copy, dy) in copy[..width].iter_mut().zip(&dy[lane..lane + width]) {
                    *copy = dy.wide();
                }
            }
            (y, step) = (copy.as_ptr().wrapping_sub(range.start * stride), stride);
        }
        for ((tap, sums), cursor) in (task.tap..).zip(&mut task.sums).zip(cursors) {
            let job = Outer {
                x: x[task.channel..].as_ptr().cast::<f32>(),
                y,
                pixels: self.part(tap, &range, cursor),
                step,
                channels: sums.len() / stride,
                sums: sums.as_mut_ptr(),
                stride,
                width,
            };
            // SAFETY: x offsets come from `reach` within one group of whole images; pixels are in
            // `range`, which y holds at `step` apart; `sums` is this task's own.
            unsafe { kernel::outer(self.kernel, &job) };
        }
    }

    fn pairs(
        &self,
        task: &mut WeightTask<'_>,
        x: &[T],
        dy: &[T],
        range: Range<usize>,
        cursors: &mut [usize],
        scratch: &mut WeightScratch,
    ) {
        let (lane, width) = (task.panel * PANEL, self.packing.width(task.panel));
        let stride = self.packing.pitch(task.panel);
        let pairs = range.len().div_ceil(2);
        scratch.y.clear();
        scratch.y.resize(pairs * stride, 0);
        let rows = dy[range.start * self.out.channels..range.end * self.out.channels].chunks_exact(self.out.channels);
        for (i, row) in rows.enumerate() {
            put(self.kernel, &row[lane..lane + width], i % 2 == 1, &mut scratch.y[i / 2 * stride..][..width]);
        }
        for ((tap, sums), cursor) in (task.tap..).zip(&mut task.sums).zip(cursors) {
            let channels = sums.len() / stride;
            scratch.x.clear();
            // Pixels whose tap lies outside stay zero.
            scratch.x.resize(pairs * channels, 0);
            for &(from, pixel) in self.part(tap, &range, cursor) {
                let (i, values) = (pixel as usize - range.start, &x[from as usize + task.channel..][..channels]);
                put(self.kernel, values, i % 2 == 1, &mut scratch.x[i / 2 * channels..][..channels]);
            }
            let mut job = PairOuter { x: &scratch.x, y: &scratch.y, channels, sums, stride };
            kernel::pair_outer(self.kernel, &mut job);
        }
    }
}

versions! {
    /// Puts bfloat16 values into the lower or the upper halves of pairs; the lower ones come first.
    fn put<T: Element>(values: &[T], upper: bool, pairs: &mut [u32]) {
        for (pair, value) in pairs.iter_mut().zip(values) {
            let bits = value.wide().to_bits();
            *pair = if upper { *pair | bits } else { bits >> 16 };
        }
    }
}
