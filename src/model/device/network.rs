//! A network's weights on a machine, and the passes over images that were made ready there.

use std::collections::HashMap;
use std::sync::Arc;

use super::infer::Results;
use super::layout::Layout;
use super::plan::{self, Ends, Goal, Places, Plan};
use super::render::{Rendering, rendering_bytes};
use super::training::Training;
use crate::error::{Error, Result};
use crate::model::Keep;
use crate::model::bit::Skeleton;
use crate::model::images::Images;
use crate::nn::cuda::Machine;
use crate::nn::cuda::op::{Memory, Op, Recorded};
use crate::nn::cuda::update::{self, Scalars};
use crate::nn::cuda::weight;
use crate::nn::looks::Looks;
use crate::nn::optimizer::Rule;
use crate::nn::parameter::Parameter;

/// Losses that may wait to be read.
pub const LOSSES: usize = 256;
/// Short lists that stay recorded: of full and partial batches, mixed or not, of training and validation.
const REPEATED: usize = 8;
/// Bytes beside planned buffers that are left alone: cuDNN's workspace and what the driver itself needs.
const SPARE: u64 = 1 << 30;

/// Images of a pass, and what it is for.
type Shape = (usize, usize, usize, Goal);

/// Images of a pass: rendered by the host, or to be rendered here.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    Rendered(Images<'a>),
    Looks(&'a Looks),
}

impl Input<'_> {
    /// Images, height and width.
    pub fn size(&self) -> (usize, usize, usize) {
        match self {
            Input::Rendered(x) => (x.n, x.height, x.width),
            Input::Looks(looks) => (looks.n, looks.height, looks.width),
        }
    }
}

/// What a training takes of a device's memory beside a step's buffers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// Copies of all weights: the optimiser's state, and running means.
    pub copies: usize,
    /// Images that the device renders for each one that it computes: 2 where images are mixed.
    pub images: usize,
}

impl Beside {
    /// Of a training that keeps `means`, and computes on images that are `mixed` or not.
    pub fn training(rule: &Rule, means: bool, mixed: bool) -> Self {
        Beside { copies: update::states(rule) + usize::from(means), images: 1 + usize::from(mixed) }
    }
}

struct Pass {
    ends: Ends,
    recorded: Box<dyn Recorded>,
}

/// Weights and passes on one machine.
pub struct Network {
    pub(super) machine: Arc<dyn Machine>,
    pub(super) layout: Layout,
    pub(super) places: Places,
    pub(super) training: Training,
    pub(super) rendering: Rendering,
    /// Master weights have changed since what convolutions read was made of them.
    pub(super) stale: bool,
    narrow: bool,
    passes: HashMap<Shape, Pass>,
    /// Short lists that come again and again: what ends a step, and what renders.
    repeated: Vec<(Vec<Op>, Box<dyn Recorded>)>,
    pub(super) results: Results,
    arena: Option<Memory>,
    table: u64,
    /// Kept alive for their addresses: weights, what is made of them, and small things.
    _memory: Vec<Memory>,
}

impl Network {
    /// Puts the weights of a network on a machine.
    pub fn new(machine: Arc<dyn Machine>, net: &Skeleton<'_>) -> Result<Self> {
        let narrow = net.narrow();
        let layout = Layout::new(net, narrow);
        let mut memory = Vec::new();
        let mut take = |bytes: usize| -> Result<u64> {
            let new = machine.allocate(bytes as u64).map_err(beside_steps("the weights"))?;
            let start = new.start;
            memory.push(new);
            Ok(start)
        };
        let table = layout.table();
        let places = Places {
            data: take(4 * layout.len)?,
            gradient: take(4 * layout.len)?,
            hat: take(layout.hat_len * if narrow { 2 } else { 4 })?,
            moments: take(8 * layout.row_count)?,
            scalars: take(Scalars::BYTES as usize)?,
            loss: take(8)?,
        };
        let table_at = take(8 * table.len())?;
        let training = Training::new(take(8 * LOSSES)?, take(8)?);
        write_words(&*machine, table_at, &table)?;
        let passes = HashMap::new();
        let network = Network {
            machine,
            layout,
            places,
            training,
            rendering: Rendering::default(),
            stale: true,
            narrow,
            passes,
            repeated: Vec::new(),
            results: Results::default(),
            arena: None,
            table: table_at,
            _memory: memory,
        };
        for (p, &start) in net.parameters.iter().zip(&network.layout.starts) {
            network.write_rows(network.places.data, start, &weight::to_rows(p, &p.unpack(&p.data)))?;
        }
        Ok(network)
    }

    /// Brings the weights back.
    pub fn download(&self, parameters: &mut [Parameter]) -> Result<()> {
        for (at, p) in parameters.iter_mut().enumerate() {
            p.data = p.pack(&self.plain(self.places.data, at, p)?);
        }
        Ok(())
    }

    /// Brings the gradients back.
    pub fn download_gradients(&self, parameters: &mut [Parameter]) -> Result<()> {
        for (at, p) in parameters.iter_mut().enumerate() {
            p.gradient = p.pack(&self.plain(self.places.gradient, at, p)?);
        }
        Ok(())
    }

    /// One parameter's values in a buffer that has all of them, in PyTorch's order.
    pub(super) fn plain(&self, buffer: u64, parameter: usize, p: &Parameter) -> Result<Vec<f32>> {
        let mut bytes = vec![0u8; 4 * p.count()];
        self.machine.read(buffer + 4 * self.layout.starts[parameter] as u64, &mut bytes)?;
        Ok(weight::from_rows(p, &floats(&bytes)))
    }

    pub(super) fn write_rows(&self, buffer: u64, start: usize, rows: &[f32]) -> Result<()> {
        self.machine.write(buffer + 4 * start as u64, &le_bytes(rows))
    }

    /// Makes what convolutions read of the master weights.
    pub(super) fn standardise(&self) -> Op {
        let Places { data, hat, moments, .. } = self.places;
        weight::standardise(self.narrow, self.layout.row_count, data, hat, moments, self.table)
    }

    /// Makes the pass ready and sends it its images.
    pub(super) fn start(&mut self, net: &Skeleton<'_>, input: &Input<'_>, goal: Goal) -> Result<Ends> {
        if self.stale {
            self.machine.run(&[self.standardise()])?;
            self.stale = false;
        }
        let (n, height, width) = input.size();
        let ends = self.ready(net, (n, height, width, goal))?;
        match input {
            Input::Rendered(x) => {
                // SAFETY: any f32 is four bytes; the view ends with this call.
                let bytes = unsafe { std::slice::from_raw_parts(x.data.as_ptr().cast::<u8>(), 4 * x.data.len()) };
                self.machine.feed(ends.x, bytes)?;
            }
            Input::Looks(looks) => self.render(looks, ends.x)?,
        }
        Ok(ends)
    }

    /// Runs a pass that was started.
    pub(super) fn go(&self, shape: Shape) -> Result<()> {
        let pass = self.passes.get(&shape).ok_or_else(|| Error::invalid("bug: a pass that was not made ready"))?;
        pass.recorded.run(&*self.machine)
    }

    /// Runs a list that is recorded where it comes again. What changes from one time to the next is not in the list
    /// but where it points, so that lists which are the same do the same.
    pub(super) fn repeat(&mut self, ops: Vec<Op>) -> Result<()> {
        let entry = match self.repeated.iter().position(|(known, _)| *known == ops) {
            Some(at) => self.repeated.remove(at),
            None => (ops.clone(), self.machine.record(ops)?),
        };
        let done = entry.1.run(&*self.machine);
        // The one that was not needed for longest makes way.
        self.repeated.push(entry);
        if self.repeated.len() > REPEATED {
            self.repeated.remove(0);
        }
        done
    }

    fn ready(&mut self, net: &Skeleton<'_>, shape: Shape) -> Result<Ends> {
        if let Some(pass) = self.passes.get(&shape) {
            return Ok(pass.ends);
        }
        let (n, height, width, goal) = shape;
        let needs = self.plan(net, 0, shape);
        if self.arena.as_ref().is_none_or(|arena| arena.bytes < needs.bytes) {
            // What was recorded holds addresses of the old memory.
            self.passes.clear();
            self.arena = None;
            let room = self.machine.room()?.saturating_sub(SPARE);
            if needs.bytes > room {
                return Err(self.too_large(net, shape, &needs, room));
            }
            self.arena =
                Some(self.machine.allocate(needs.bytes).map_err(|_| self.too_large(net, shape, &needs, room))?);
        }
        let base = self.arena.as_ref().map_or(0, |arena| arena.start);
        let Plan { ops, ends, .. } = self.plan(net, base, (n, height, width, goal));
        let recorded = self.machine.record(ops)?;
        self.passes.insert(shape, Pass { ends, recorded });
        Ok(ends)
    }

    fn plan(&self, net: &Skeleton<'_>, base: u64, (n, height, width, goal): Shape) -> Plan {
        plan::plan(net, &self.layout, self.places, base, (n, height, width), goal)
    }

    /// The most images, at most `batch` and in even parts of it, that a step has room for; 0 where one is too many.
    pub fn fitting(
        &self,
        net: &Skeleton<'_>,
        batch: usize,
        size: (usize, usize),
        goal: Goal,
        beside: Beside,
    ) -> Result<usize> {
        let held = self.arena.as_ref().map_or(0, |arena| arena.bytes);
        let copies = beside.copies.saturating_sub(self.copies());
        let room = (self.machine.room()? + held).saturating_sub(SPARE + 4 * (copies * self.layout.len) as u64);
        Ok(self.fits(net, batch, size, goal, beside.images, room))
    }

    /// `rendered` is the number of images that are rendered for each one that is computed.
    fn fits(
        &self,
        net: &Skeleton<'_>,
        batch: usize,
        (height, width): (usize, usize),
        goal: Goal,
        rendered: usize,
        room: u64,
    ) -> usize {
        let parts = (1..=batch).map(|parts| batch.div_ceil(parts));
        let mut last = 0;
        for n in parts {
            let rendering = rendering_bytes(n * rendered, (height, width));
            if n != last && self.plan(net, 0, (n, height, width, goal)).bytes + rendering <= room {
                return n;
            }
            last = n;
        }
        0
    }

    fn too_large(&self, net: &Skeleton<'_>, shape: Shape, needs: &Plan, room: u64) -> Error {
        let (n, height, width, goal) = shape;
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let error = Error::invalid(format!(
            "{}: {n} images of {height} x {width} px need {:.2} GiB of buffers, most of them at {}, and {:.2} GiB are free",
            self.machine.name(),
            gib(needs.bytes),
            needs.peak_layer,
            gib(room),
        ));
        // What is rendered has its memory by now.
        let fits = self.fits(net, n, (height, width), goal, 0, room);
        let less = if net.keep == Keep::Input { "" } else { "checkpoint: blocks keeps less; " };
        let hint = match (goal, fits) {
            (Goal::Infer, _) => "compute on the CPU, or with smaller images".to_string(),
            (_, 0) => format!("{less}smaller images or a smaller model take less"),
            (_, fits) => format!("{less}micro_batch: {fits} fits, and micro_batch: auto finds it"),
        };
        error.with_hint(hint)
    }
}

/// Says what memory was for that a device did not have, and what takes less of it.
pub(super) fn beside_steps(what: &str) -> impl Fn(Error) -> Error + '_ {
    move |e| {
        Error::invalid(format!("no room for {what}: {e}")).with_hint(
            "a smaller micro_batch, checkpoint: blocks or a smaller model takes less; other programs may hold memory",
        )
    }
}

pub(super) fn write_words(machine: &dyn Machine, to: u64, words: &[u64]) -> Result<()> {
    machine.write(to, &words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>())
}

pub(super) fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub(super) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
