//! What training adds to a network on a machine: targets, updates, running means, and losses that are read later.

use super::network::{Input, LOSSES, Network, beside_steps, floats, le_bytes, write_words};
use super::plan::{Goal, Places};
use crate::error::{Error, Result};
use crate::model::bit::Skeleton;
use crate::nn::Targets;
use crate::nn::adamw;
use crate::nn::cuda::op::Memory;
use crate::nn::cuda::update::{self, Scalars, Update};
use crate::nn::cuda::weight;
use crate::nn::optimizer::Rule;
use crate::nn::parameter::Parameter;

/// The state of a training on the machine.
pub struct Training {
    scalars: Scalars,
    /// Where noted losses lie, and the word that says that one was no number.
    losses: u64,
    stopped: u64,
    /// Losses that the host has read, of those noted.
    read: u64,
    updates: Option<Updates>,
    means: Option<Means>,
    /// What went wrong where no error could be given.
    failed: Option<Error>,
}

struct Updates {
    rule: Rule,
    states: Vec<Memory>,
    table: Memory,
    units: usize,
}

struct Means {
    memory: Memory,
    /// Share of the weights that a step takes in.
    share: f64,
}

impl Training {
    pub(super) fn new(losses: u64, stopped: u64) -> Self {
        let scalars = Scalars::default();
        Training { scalars, losses, stopped, read: 0, updates: None, means: None, failed: None }
    }
}

impl Network {
    /// Copies of all weights that are held for updates.
    pub(super) fn copies(&self) -> usize {
        let Training { updates, means, .. } = &self.training;
        updates.as_ref().map_or(0, |u| u.states.len()) + usize::from(means.is_some())
    }

    fn note<T>(&mut self, result: Result<T>) {
        if let Err(e) = result {
            self.training.failed.get_or_insert(e);
        }
    }

    /// Keeps an error for the next call that can tell it.
    pub fn fail(&mut self, error: Error) {
        self.note::<()>(Err(error));
    }

    fn failed(&mut self) -> Result<()> {
        self.training.failed.take().map_or(Ok(()), Err)
    }

    fn send_scalars(&self) -> Result<()> {
        let betas = match &self.training.updates {
            Some(Updates { rule: Rule::AdamW(options), .. }) => [options.beta1, options.beta2],
            _ => [0.0; 2],
        };
        self.machine.write(self.places.scalars, &self.training.scalars.bytes(betas))
    }

    /// Adds the gradients of a micro-batch, and its loss to that of the step. Returns before they are computed.
    pub fn accumulate(&mut self, net: &Skeleton<'_>, x: &Input<'_>, targets: &Targets<'_>, scale: f64) -> Result<()> {
        self.failed()?;
        let goal = goal(targets);
        let ends = self.start(net, x, goal)?;
        let multi = |values: Vec<f32>, known: Vec<u8>| {
            self.machine.write(ends.targets, &le_bytes(&values))?;
            self.machine.write(ends.known, &known)
        };
        match targets {
            Targets::Class(y) => {
                let bytes: Vec<u8> = y.iter().flat_map(|c| c.to_le_bytes()).collect();
                self.machine.write(ends.targets, &bytes)?;
            }
            Targets::Soft(y) => self.machine.write(ends.targets, &le_bytes(y))?,
            Targets::Multi(y) => {
                multi(y.iter().map(|&l| f32::from(l.max(0))).collect(), y.iter().map(|&l| u8::from(l >= 0)).collect())?
            }
            Targets::MultiSoft { values, known } => {
                multi(values.to_vec(), known.iter().map(|&k| u8::from(k)).collect())?
            }
        }
        self.training.scalars.scale = scale;
        self.send_scalars()?;
        let (n, height, width) = x.size();
        self.go((n, height, width, goal))
    }

    /// The loss that micro-batches since the last step add up to.
    pub fn loss(&self) -> Result<f64> {
        let mut bytes = [0; 8];
        self.machine.read(self.places.loss, &mut bytes)?;
        Ok(f64::from_le_bytes(bytes))
    }

    /// Forgets that loss.
    pub fn clear_loss(&self) -> Result<()> {
        self.machine.write(self.places.loss, &0f64.to_le_bytes())
    }

    /// Sets the gradients to zero. What goes wrong is told by the next call that can.
    pub fn clear_gradients(&mut self) {
        let clear = update::clear(self.places.gradient, self.training.stopped, self.layout.len);
        let done = self.machine.run(&[clear]);
        self.note(done);
    }

    /// Has `sum` replace the gradients of all parameters, one buffer of f32 in the order that all ranks have.
    /// `there` sums where they lie and says so; else they travel by way of the host.
    pub fn sum_gradients(
        &self,
        there: &dyn Fn(u64, usize) -> Result<bool>,
        here: &dyn Fn(&mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let (at, count) = (self.places.gradient, self.layout.len);
        if there(at, count)? {
            return Ok(());
        }
        let mut bytes = vec![0; 4 * count];
        self.machine.read(at, &mut bytes)?;
        let mut values = floats(&bytes);
        here(&mut values)?;
        self.machine.write(at, &le_bytes(&values))
    }

    /// Whether updates have a rule and its state.
    pub fn has_updates(&self) -> bool {
        self.training.updates.is_some()
    }

    /// Takes up an optimiser's rule and state.
    pub fn begin_updates(
        &mut self,
        parameters: &[Parameter],
        rule: Rule,
        state: &[(String, Vec<f32>)],
        classes: usize,
    ) -> Result<()> {
        let words = update::table(&rule, parameters, &self.layout.starts, classes);
        let table = self.machine.allocate(8 * words.len().max(1) as u64)?;
        write_words(&*self.machine, table.start, &words)?;
        let buffers = (0..update::states(&rule)).map(|_| self.machine.allocate(4 * self.layout.len as u64));
        let buffers = buffers.map(|new| new.map_err(beside_steps("the optimiser's state")));
        let states: Vec<Memory> = buffers.collect::<Result<_>>()?;
        for (at, p) in parameters.iter().enumerate() {
            for (buffer, name) in states.iter().zip(update::state_names(&rule, &p.name)) {
                if let Some((_, values)) = state.iter().find(|(n, _)| *n == name) {
                    self.write_rows(buffer.start, self.layout.starts[at], &weight::to_rows(p, values))?;
                }
            }
        }
        let steps = state.iter().find(|(name, _)| name == adamw::STEPS);
        self.training.scalars.updates = steps.map_or(0, |(_, halves)| adamw::whole([halves[0], halves[1]]));
        self.training.updates = Some(Updates { rule, states, table, units: words.len() / 4 });
        Ok(())
    }

    /// The optimiser's state as it names it; empty where there was no update.
    pub fn state(&self, parameters: &[Parameter]) -> Result<Vec<(String, Vec<f32>)>> {
        let Some(Updates { rule, states, .. }) = &self.training.updates else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        if matches!(rule, Rule::AdamW(_)) {
            all.push((adamw::STEPS.to_string(), adamw::halves(self.training.scalars.updates)));
        }
        let parts = update::parts(rule);
        for (at, p) in parameters.iter().enumerate().filter(|(_, p)| !parts.is_frozen(&p.name)) {
            for (buffer, name) in states.iter().zip(update::state_names(rule, &p.name)) {
                all.push((name, self.plain(buffer.start, at, p)?));
            }
        }
        Ok(all)
    }

    /// Ends a step: notes its loss, updates the weights and their means. What goes wrong is told by the next call
    /// that can.
    pub fn step(&mut self, lr: f64) {
        self.training.scalars.lr = lr;
        self.training.scalars.updates += 1;
        let ops = self.send_scalars().and_then(|()| {
            let Places { data, gradient, scalars, loss, .. } = self.places;
            let Training { losses, stopped, updates, means, .. } = &self.training;
            let mut ops = vec![update::note_loss(loss, *losses, *stopped, scalars, LOSSES)];
            let updates = updates.as_ref().ok_or_else(|| Error::invalid("bug: a step without an optimiser"))?;
            let state = [0, updates.states.len() - 1].map(|i| updates.states[i].start);
            let table = updates.table.start;
            let of = Update { w: data, gradient, state, table, stopped: *stopped, scalars };
            ops.extend(update::update(&updates.rule, updates.units, of));
            if let Some(Means { memory, share }) = means {
                ops.push(update::running_mean(data, memory.start, *stopped, self.layout.len, *share));
            }
            ops.push(self.standardise());
            Ok(ops)
        });
        let done = ops.and_then(|ops| self.repeat(ops));
        self.note(done);
        self.stale = false;
        self.training.scalars.step += 1;
    }

    /// Steps whose losses were not read yet.
    pub fn unread(&self) -> u64 {
        self.training.scalars.step - self.training.read
    }

    /// The losses of the steps since the last call, oldest first. Waits for them.
    pub fn take_losses(&mut self) -> Result<Vec<f64>> {
        self.failed()?;
        if self.unread() == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; 8 * LOSSES];
        self.machine.read(self.training.losses, &mut bytes)?;
        let at = |step: u64| {
            let from = 8 * (step % LOSSES as u64) as usize;
            f64::from_le_bytes(std::array::from_fn(|i| bytes[from + i]))
        };
        let losses = (self.training.read..self.training.scalars.step).map(at).collect();
        self.training.read = self.training.scalars.step;
        Ok(losses)
    }

    /// Keeps a running mean of the weights, of which each step takes in `share`; it begins at `means`.
    pub fn begin_means(&mut self, parameters: &[Parameter], means: &[Vec<f32>], share: f64) -> Result<()> {
        let memory = self.machine.allocate(4 * self.layout.len as u64).map_err(beside_steps("the running means"))?;
        for ((p, values), &start) in parameters.iter().zip(means).zip(&self.layout.starts) {
            self.write_rows(memory.start, start, &weight::to_rows(p, values))?;
        }
        self.training.means = Some(Means { memory, share });
        Ok(())
    }

    /// The means in PyTorch's order; empty where there are none.
    pub fn means(&self, parameters: &[Parameter]) -> Result<Vec<Vec<f32>>> {
        let Some(Means { memory, .. }) = &self.training.means else { return Ok(Vec::new()) };
        parameters.iter().enumerate().map(|(at, p)| self.plain(memory.start, at, p)).collect()
    }

    /// Puts the means in the place of the weights; a second call undoes it.
    pub fn exchange_means(&mut self) -> Result<()> {
        let Some(Means { memory, .. }) = &self.training.means else { return Ok(()) };
        self.stale = true;
        self.machine.run(&[update::exchange(self.places.data, memory.start, self.layout.len)])
    }
}

/// The pass that targets need.
pub fn goal(targets: &Targets<'_>) -> Goal {
    match targets {
        Targets::Class(_) => Goal::Class,
        Targets::Soft(_) => Goal::Soft,
        Targets::Multi(_) | Targets::MultiSoft { .. } => Goal::Multi,
    }
}
