//! Images rendered on the machine: from stored bytes to the input of a pass.

use super::network::{Network, beside_steps, le_bytes, write_words};
use crate::error::Result;
use crate::nn::cuda::Machine;
use crate::nn::cuda::image::{Frame, How};
use crate::nn::cuda::op::{Memory, Op};
use crate::nn::looks::Looks;

/// Memory of rendering, which grows to the largest micro-batch.
#[derive(Default)]
pub struct Rendering {
    bytes: Slot,
    tables: Slot,
    scaling: Slot,
    values: [Slot; 2],
    levels: [Slot; 2],
}

#[derive(Default)]
struct Slot(Option<Memory>);

impl Slot {
    /// The address of at least `bytes` bytes.
    fn take(&mut self, machine: &dyn Machine, bytes: usize) -> Result<u64> {
        if self.0.as_ref().is_none_or(|memory| memory.bytes < bytes as u64) {
            self.0 = None;
            self.0 = Some(machine.allocate(bytes.max(1) as u64).map_err(beside_steps("rendering images"))?);
        }
        Ok(self.0.as_ref().map_or(0, |memory| memory.start))
    }
}

/// Bytes that rendering so many images may take: two buffers of values and two of levels, and stored images of up to
/// twice the sides.
pub(super) fn rendering_bytes(images: usize, (height, width): (usize, usize)) -> u64 {
    let values = (images * height * width * 3) as u64;
    2 * 4 * values + 2 * values + 4 * values
}

impl Network {
    /// Renders looks into the input of a pass at `x`.
    pub(super) fn render(&mut self, looks: &Looks, x: u64) -> Result<()> {
        let machine = self.machine.clone();
        let machine = &*machine;
        let mixed = looks.share.is_some();
        let one = Frame { images: looks.n, height: looks.height, width: looks.width };
        let all = Frame { images: if mixed { 2 * looks.n } else { looks.n }, ..one };
        let room = &mut self.rendering;
        let bytes = room.bytes.take(machine, looks.bytes.len())?;
        // The looks, then each operation's table, then the share of what is mixed.
        let share = looks.share.map(|share| f64::from(share).to_bits());
        let tables = [&looks.table].into_iter().chain(&looks.operations).flatten().copied().chain(share);
        let tables: Vec<u64> = tables.collect();
        let table = room.tables.take(machine, 8 * tables.len())?;
        let mut at = table + 8 * looks.table.len() as u64;
        let scaling = room.scaling.take(machine, 4 * looks.scaling.len())?;
        let how = How { table, scaling, shares: looks.shares };
        machine.write(scaling, &le_bytes(&looks.scaling))?;
        machine.feed(bytes, &looks.bytes)?;
        write_words(machine, table, &tables)?;

        // Without anything to follow, the first kernel writes where the pass reads.
        let last = !looks.warped && looks.operations.is_empty() && !mixed;
        let mut now = if last { x } else { room.values[0].take(machine, 4 * all.values())? };
        let mut ops = vec![all.render(bytes, how, now)];
        if looks.warped {
            let to = room.values[1].take(machine, 4 * all.values())?;
            ops.push(all.warp(now, how, to));
            now = to;
        }
        if !looks.operations.is_empty() {
            let mut levels = [0, 0];
            for (level, slot) in levels.iter_mut().zip(&mut room.levels) {
                *level = slot.take(machine, all.values())?;
            }
            ops.push(all.to_levels(now, how, levels[0]));
            for operation in &looks.operations {
                ops.push(all.operate(levels[0], levels[1], at));
                at += 8 * operation.len() as u64;
                levels.swap(0, 1);
            }
            ops.push(all.from_levels(levels[0], how, now));
        }
        let half = now + 4 * one.values() as u64;
        match share {
            Some(_) => ops.push(one.mix(now, half, at, x)),
            None if now != x => ops.push(Op::Copy { from: now, to: x, bytes: 4 * one.values() as u64 }),
            None => {}
        }
        self.repeat(ops)
    }
}
