//! The gradient of a convolution's weights: products of inputs and output gradients, summed over pixels.
//!
//! Whole images are shared out to a number of parts that follows from the shape alone; each part
//! sums its own copy of the gradient, and the copies are added in their order. A part's gradient is
//! cut into blocks of panels, taps and channels; a task sums its block over the part's pixels in
//! their order. So neither the cut nor the threads show in a result. Inputs and output gradients of
//! some pixels are first put side by side, because lines that lie a power of two apart fall into
//! the same few sets of the cache.

use super::Map;
use super::buffer::Workspace;
use super::conv::{Conv, WORTH};
use super::element::Element;
use super::kernel::{Kernel, Outer, versions};
use super::packing::{PANEL, Packed};
use rayon::prelude::*;
use std::ops::Range;

/// Pixels that are summed at a time.
const PIXELS: usize = 128;
/// Channels whose inputs are put side by side at a time: what the first cache holds beside the sums.
const CHANNELS: usize = 48;
/// Values of the gradient that a task sums at most, which stay in the second cache.
const BLOCK: usize = 1 << 16;
/// Values that all parts together may take, and pixels that a part sums at least.
const PARTS: (usize, usize) = (1 << 20, 512);

impl Conv {
    /// `dw = sum over pixels of x dy`, packed as [`Conv::packing`] says. `map` is the shape of x.
    pub fn weight_gradient<T: Element>(
        &self,
        kernel: Kernel,
        x: &[T],
        map: Map,
        dy: &[T],
        dw: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let out = self.output(map);
        let packing = self.packing();
        assert_eq!((x.len(), dy.len(), dw.len()), (map.len(), out.len(), packing.len()), "bug: {self:?} {map:?}");
        let (taps, channels) = self.reads();
        let pixels = out.height * out.width;
        // Whole images at a time, enough of them to fill chunks of pixels also where maps are small.
        let group = (4 * PIXELS).div_ceil(pixels).clamp(1, map.n);
        let parts = (PARTS.0 / dw.len()).min(map.n * pixels / PARTS.1).clamp(1, map.n.div_ceil(group));
        let images = map.n.div_ceil(group).div_ceil(parts) * group;
        let parts = map.n.div_ceil(images);
        let lists: Vec<Vec<(u32, u32)>> = (0..taps).map(|tap| self.list(map, tap, group)).collect();
        let worth = WORTH / (images * pixels);
        let block = (parts * dw.len() / (6 * rayon::current_num_threads())).min(BLOCK).max(worth);
        let mut others = workspace.take::<f32>((parts - 1) * dw.len());
        let copies = std::iter::once(&mut *dw).chain(others.chunks_mut(packing.len()));
        let tasks: Vec<_> = copies
            .enumerate()
            .flat_map(|(part, dw)| {
                let first = part * images;
                cut(packing, taps, channels, block, first..map.n.min(first + images), dw)
            })
            .collect();
        let work = WeightWork { kernel, x, map, dy, out, packing, group, lists };
        tasks.into_par_iter().for_each_init(Scratch::default, |scratch, task| work.sum(task, scratch));
        if parts > 1 {
            add_parts(kernel, &others, dw);
        }
        workspace.give(others);
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

/// A block of a part's gradient that one task sums over the part's images.
struct WeightTask<'a> {
    images: Range<usize>,
    panels: Range<usize>,
    taps: Range<usize>,
    /// The first channel.
    channel: usize,
    /// One slice for each tap of each panel.
    sums: Vec<&'a mut [f32]>,
}

/// Cuts a gradient into blocks of at most about `block` values: as many panels as channels, so that
/// neither inputs nor output gradients are put side by side much more often than the other.
fn cut(
    packing: Packed,
    taps: usize,
    channels: usize,
    block: usize,
    images: Range<usize>,
    dw: &mut [f32],
) -> Vec<WeightTask<'_>> {
    let panels = (block.isqrt() / PANEL).clamp(1, packing.panels());
    let width = (block / (panels * PANEL)).next_multiple_of(12).clamp(12, channels.max(12));
    let group = (block / (panels * PANEL * width)).clamp(1, taps);
    let blocks = channels.div_ceil(width);
    let mut tasks: Vec<WeightTask<'_>> = Vec::new();
    for (i, dw) in dw.chunks_mut(panels * packing.step()).enumerate() {
        let (first, panel) = (tasks.len(), i * panels);
        for tap in (0..taps).step_by(group) {
            tasks.extend((0..blocks).map(|block| WeightTask {
                images: images.clone(),
                panels: panel..packing.panels().min(panel + panels),
                taps: tap..taps.min(tap + group),
                channel: block * width,
                sums: Vec::new(),
            }));
        }
        for (panel, dw) in (panel..).zip(dw.chunks_mut(packing.step())) {
            let stride = packing.pitch(panel);
            for (tap, dw) in dw.chunks_mut(channels * stride).enumerate() {
                for (block, dw) in dw.chunks_mut(width * stride).enumerate() {
                    tasks[first + tap / group * blocks + block].sums.push(dw);
                }
            }
        }
    }
    tasks
}

/// Adds the parts' gradients in their order.
fn add_parts(kernel: Kernel, others: &[f32], dw: &mut [f32]) {
    let len = dw.len();
    dw.par_chunks_mut(1 << 12).enumerate().for_each(|(i, dw)| {
        for other in others.chunks_exact(len) {
            add(kernel, &other[i << 12..][..dw.len()], dw);
        }
    });
}

versions! {
    fn add(other: &[f32], dw: &mut [f32]) {
        dw.iter_mut().zip(other).for_each(|(d, o)| *d += o);
    }
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

/// Inputs and output gradients of some pixels, side by side.
struct Scratch<T: Element> {
    starts: Vec<usize>,
    x: Vec<T::Factor>,
    /// One for each panel of a task.
    y: Vec<Vec<T::Factor>>,
    /// Addresses that the next pixels' inputs and output gradients will be read from.
    ahead: [Vec<usize>; 2],
}

impl<T: Element> Default for Scratch<T> {
    fn default() -> Self {
        Scratch { starts: Vec::new(), x: Vec::new(), y: Vec::new(), ahead: Default::default() }
    }
}

/// Some pixels of one tap, and those that come after them.
struct Chunk<'a, T> {
    /// Of the group's images.
    x: &'a [T],
    dy: &'a [T],
    list: &'a [(u32, u32)],
    next: &'a [(u32, u32)],
    /// Where the images of `next` begin.
    next_x: *const T,
    next_dy: *const T,
}

impl<T: Element> WeightWork<'_, T> {
    /// Sums a task's block over all its images, some pixels at a time.
    fn sum(&self, mut task: WeightTask<'_>, scratch: &mut Scratch<T>) {
        task.sums.iter_mut().for_each(|sums| sums.fill(0.0));
        let pixels = self.out.height * self.out.width;
        let mut cursors = vec![0; task.taps.len()];
        for first in task.images.clone().step_by(self.group) {
            let (x, dy) = (&self.x[first * self.map.image()..], &self.dy[first * self.out.image()..]);
            cursors.fill(0);
            let end = self.group.min(task.images.end - first) * pixels;
            for from in (0..end).step_by(PIXELS) {
                let range = from..end.min(from + PIXELS);
                let mut all_at_hand = false;
                for (i, cursor) in cursors.iter_mut().enumerate() {
                    let tap = &self.lists[task.taps.start + i];
                    let list = part(&tap[*cursor..], &range);
                    *cursor += list.len();
                    // What is read next is in this group of images or begins the next one.
                    let skip = if range.end < end { 0 } else { self.group };
                    let chunk = Chunk {
                        x,
                        dy,
                        list,
                        next: if skip == 0 { &tap[*cursor..] } else { tap },
                        next_x: x.as_ptr().wrapping_add(skip * self.map.image()),
                        next_dy: dy.as_ptr().wrapping_add(skip * self.out.image()),
                    };
                    let all = list.len() == range.len();
                    if !(all && all_at_hand) {
                        self.gather_dy(&task, &chunk, scratch);
                        all_at_hand = all;
                    }
                    if !list.is_empty() {
                        self.add_products(&mut task, i, &chunk, scratch);
                    }
                }
            }
        }
    }

    fn gather_dy(&self, task: &WeightTask<'_>, chunk: &Chunk<'_, T>, scratch: &mut Scratch<T>) {
        let Scratch { starts, y, .. } = scratch;
        y.resize_with(y.len().max(task.panels.len()), Vec::new);
        for (panel, y) in task.panels.clone().zip(y) {
            starts.clear();
            starts.extend(chunk.list.iter().map(|&(_, pixel)| pixel as usize * self.out.channels + panel * PANEL));
            T::gather(self.kernel, chunk.dy, starts, self.packing.width(panel), self.packing.pitch(panel), y);
        }
    }

    /// Adds the products of a chunk for one of the task's taps.
    fn add_products(&self, task: &mut WeightTask<'_>, tap: usize, chunk: &Chunk<'_, T>, scratch: &mut Scratch<T>) {
        let channels = task.sums[tap].len() / self.packing.pitch(task.panels.start);
        // Neighbouring taps read the same lines, so one of them looks ahead.
        let next = if tap + 1 == task.taps.len() { &chunk.next[..chunk.next.len().min(PIXELS)] } else { &[] };
        let Scratch { starts, x, y, ahead: [ahead_x, ahead_dy] } = scratch;
        for first in (0..channels).step_by(CHANNELS) {
            let width = CHANNELS.min(channels - first);
            let start = task.channel + first;
            starts.clear();
            starts.extend(chunk.list.iter().map(|&(from, _)| from as usize + start));
            T::gather(self.kernel, chunk.x, starts, width, width, x);
            for (i, panel) in task.panels.clone().enumerate() {
                ahead_x.clear();
                ahead_dy.clear();
                if i == 0 {
                    ahead_x.extend(next.iter().map(|n| chunk.next_x.wrapping_add(n.0 as usize + start).addr()));
                }
                if first == 0 {
                    let lane = panel * PANEL;
                    let place = |n: &(u32, u32)| n.1 as usize * self.out.channels + lane;
                    ahead_dy.extend(next.iter().map(|n| chunk.next_dy.wrapping_add(place(n)).addr()));
                }
                let stride = self.packing.pitch(panel);
                let sums = &mut task.sums[i * task.taps.len() + tap][first * stride..][..width * stride];
                let ahead = [(&ahead_x[..], width * size_of::<T>()), (&ahead_dy[..], stride * size_of::<T>())];
                T::outer(self.kernel, &mut Outer { x, y: &y[i], channels: width, sums, stride, ahead });
            }
        }
    }
}

/// The beginning of a tap's list that is in `range`.
fn part<'a>(list: &'a [(u32, u32)], range: &Range<usize>) -> &'a [(u32, u32)] {
    let list = &list[..list.len().min(range.len())];
    &list[..list.partition_point(|&(_, pixel)| (pixel as usize) < range.end)]
}
