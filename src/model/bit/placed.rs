//! A network whose passes and steps run on a device.
//!
//! The weights go there when they are first needed and come back when they are asked for: whoever reads
//! [`Bit::parameters`] or writes a file after steps on a device calls [`Bit::gather`] before. On the CPU all of this
//! is nothing.

use std::sync::Arc;

use super::{Bit, Images};
use crate::error::Result;
use crate::model::body::{Norm, StdConv, Unit};
use crate::model::device::{Beside, Input, Network, at_once, goal};
use crate::model::{Keep, Precision};
use crate::nn::Targets;
use crate::nn::conv::Conv;
use crate::nn::cuda::Machine;
use crate::nn::looks::Looks;
use crate::nn::optimizer::Optimizer;
use crate::nn::parameter::Parameter;

/// What a network consists of, as a device plans it.
pub struct Skeleton<'a> {
    pub(in crate::model) root: StdConv,
    pub(in crate::model) units: &'a [Unit],
    pub(in crate::model) norm: Norm,
    pub(in crate::model) head: Conv,
    pub(in crate::model) head_weight: usize,
    pub(in crate::model) parameters: &'a [Parameter],
    pub(in crate::model) keep: Keep,
    pub(in crate::model) precision: Precision,
}

impl Skeleton<'_> {
    /// Activations are bfloat16.
    pub(in crate::model) fn narrow(&self) -> bool {
        self.precision == Precision::Bf16
    }
}

impl Bit {
    pub(in crate::model) fn skeleton(&self) -> Skeleton<'_> {
        Skeleton {
            root: self.root,
            units: &self.units,
            norm: self.norm,
            head: self.head,
            head_weight: self.head_weight,
            parameters: &self.parameters,
            keep: self.keep,
            precision: self.precision,
        }
    }

    /// Computes on `machine` from now on, or here again for none. Weights that are newer there come back first.
    ///
    /// # Errors
    /// The machine failed.
    pub fn place(&mut self, machine: Option<Arc<dyn Machine>>) -> Result<()> {
        self.gather()?;
        self.forget(true);
        self.machine = machine;
        self.machines.clear();
        Ok(())
    }

    /// As [`Bit::place`], on the first of the machines; the ranks of a training take one each, in turn.
    ///
    /// # Errors
    /// The machine failed.
    pub fn place_ranks(&mut self, machines: Vec<Arc<dyn Machine>>) -> Result<()> {
        self.place(machines.first().cloned())?;
        self.machines = machines;
        Ok(())
    }

    /// The machine of a rank of a training of this network, if that is not this CPU.
    pub fn machine_of(&self, rank: usize) -> Option<&Arc<dyn Machine>> {
        self.machines.get(rank % self.machines.len().max(1)).or(self.machine.as_ref())
    }

    /// The machine that computes, if it is not this CPU.
    pub fn machine(&self) -> Option<&Arc<dyn Machine>> {
        self.machine.as_ref()
    }

    /// What computes, as records and checkpoints name it. Two that differ give other last digits.
    pub fn family(&self) -> String {
        match &self.machine {
            Some(machine) => machine.family(self.precision == Precision::Bf16),
            None => self.precision.kernel_name(),
        }
    }

    /// Brings the weights back from the device, if those there are newer.
    ///
    /// # Errors
    /// The device failed.
    pub fn gather(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.ahead) {
            return Ok(());
        }
        let network = self.network.get_mut().unwrap_or_else(|e| e.into_inner());
        network.as_ref().map_or(Ok(()), |network| network.download(&mut self.parameters))
    }

    /// Brings the gradients back from the device.
    ///
    /// # Errors
    /// The device failed.
    pub fn gather_gradients(&mut self) -> Result<()> {
        let network = self.network.get_mut().unwrap_or_else(|e| e.into_inner());
        network.as_ref().map_or(Ok(()), |network| network.download_gradients(&mut self.parameters))
    }

    /// Brings the optimiser's state back from the device.
    ///
    /// # Errors
    /// The device failed.
    pub fn gather_state(&mut self, optimizer: &mut dyn Optimizer) -> Result<()> {
        let network = self.network.get_mut().unwrap_or_else(|e| e.into_inner());
        match network.as_ref().filter(|network| network.has_updates()) {
            Some(network) => optimizer.restore(&self.parameters, &network.state(&self.parameters)?),
            None => Ok(()),
        }
    }

    /// Drops what the device holds, since the weights, or what is made of them, are about to change here.
    pub(super) fn forget(&mut self, changed: bool) {
        if changed {
            assert!(!self.ahead, "bug: weights that were not gathered are changed");
            *self.network.get_mut().unwrap_or_else(|e| e.into_inner()) = None;
        }
    }

    /// Calls `act` with the network on the device, which is made where there is none yet.
    fn on_device<R>(&self, act: impl FnOnce(&mut Network, &Skeleton<'_>) -> Result<R>) -> Result<R> {
        let machine = self.machine.as_ref().ok_or_else(|| crate::error::Error::invalid("bug: no device"))?;
        let mut slot = self.network.lock().unwrap_or_else(|e| e.into_inner());
        let net = self.skeleton();
        let network = match &mut *slot {
            Some(network) => network,
            empty => empty.insert(Network::new(machine.clone(), &net)?),
        };
        act(network, &net)
    }

    pub(super) fn infer_placed(&self, x: &Images<'_>, logits: bool) -> Result<Vec<f32>> {
        x.check()?;
        self.on_device(|network, net| network.infer(net, x, logits))
    }

    /// Images of a size that inference on a device takes at a time.
    pub fn inference_batch(size: (usize, usize)) -> usize {
        at_once(size)
    }

    /// Has the device render images and compute their logits, or their features. Returns before it has; the values
    /// come with [`Bit::take_results`]. The CPU renders none.
    ///
    /// # Errors
    /// The device failed, or has no room.
    pub fn submit(&self, x: &Looks, logits: bool) -> Result<()> {
        self.on_device(|network, net| network.submit(net, &Input::Looks(x), logits))
    }

    /// The values of all images that were submitted since the last call, in order. Waits for them.
    ///
    /// # Errors
    /// The device failed.
    pub fn take_results(&self) -> Result<Vec<f32>> {
        self.on_device(|network, _| network.take_results())
    }

    /// As [`Bit::loss_backward`], but returns before a device has computed. Its losses come with
    /// [`Bit::take_losses`], one a step; here, the loss comes at once.
    ///
    /// # Errors
    /// As [`Bit::loss_backward`].
    pub fn accumulate(&mut self, x: &Images<'_>, targets: &Targets<'_>, scale: f64) -> Result<Option<f64>> {
        if self.machine.is_none() {
            return self.loss_backward(x, targets, scale).map(Some);
        }
        x.check()?;
        targets.check(x.n, self.config().classes)?;
        self.on_device(|network, net| network.accumulate(net, &Input::Rendered(*x), targets, scale))?;
        Ok(None)
    }

    /// As [`Bit::accumulate`] of images that the device renders. The CPU renders none.
    ///
    /// # Errors
    /// As [`Bit::loss_backward`].
    pub fn accumulate_looks(&mut self, x: &Looks, targets: &Targets<'_>, scale: f64) -> Result<()> {
        targets.check(x.n, self.config().classes)?;
        self.on_device(|network, net| network.accumulate(net, &Input::Looks(x), targets, scale))
    }

    pub(super) fn loss_backward_placed(&mut self, x: &Images<'_>, targets: &Targets<'_>, scale: f64) -> Result<f64> {
        let loss = self.on_device(|network, net| {
            network.clear_loss()?;
            network.accumulate(net, &Input::Rendered(*x), targets, scale)?;
            network.loss()
        })?;
        self.gather_gradients()?;
        Ok(loss)
    }

    pub(super) fn zero_gradients_placed(&mut self) {
        let cleared = self.on_device(|network, _| {
            network.clear_gradients();
            Ok(())
        });
        // What could not be made now cannot be made for the pass that follows either, which tells why.
        drop(cleared);
    }

    pub(super) fn step_placed(&mut self, optimizer: &mut dyn Optimizer, lr: f64) {
        let classes = self.config().classes;
        let stepped = self.on_device(|network, net| {
            if !network.has_updates() {
                let state = optimizer.state(net.parameters);
                network.begin_updates(net.parameters, optimizer.rule(), &state, classes)?;
            }
            network.step(lr);
            Ok(())
        });
        match stepped {
            Ok(()) => self.ahead = true,
            Err(e) => self.fail(e),
        }
    }

    /// Keeps an error for the next call that can tell it.
    fn fail(&mut self, error: crate::error::Error) {
        if let Some(network) = self.network.get_mut().unwrap_or_else(|e| e.into_inner()) {
            network.fail(error);
        }
    }

    /// The loss of the step on the device that was not made yet. Waits for it.
    ///
    /// # Errors
    /// The device failed.
    pub fn pending_loss(&self) -> Result<f64> {
        self.on_device(|network, _| network.loss())
    }

    /// Steps on the device whose losses were not read yet.
    pub fn unread_losses(&self) -> u64 {
        self.network.lock().unwrap_or_else(|e| e.into_inner()).as_ref().map_or(0, Network::unread)
    }

    /// The losses of the steps on the device since the last call, oldest first. Waits for them. A loss that is no
    /// number stopped all later updates.
    ///
    /// # Errors
    /// The device failed since.
    pub fn take_losses(&mut self) -> Result<Vec<f64>> {
        let network = self.network.get_mut().unwrap_or_else(|e| e.into_inner());
        network.as_mut().map_or(Ok(Vec::new()), Network::take_losses)
    }

    /// Has the gradients on the device replaced by sums over ranks: `there` is offered their address and number of
    /// f32 and says whether it summed them; else `here` gets them by way of the host. Nothing on the CPU.
    ///
    /// # Errors
    /// The device failed, or summing did.
    pub fn sum_gradients(
        &mut self,
        there: &dyn Fn(u64, usize) -> Result<bool>,
        here: &dyn Fn(&mut [f32]) -> Result<()>,
    ) -> Result<()> {
        match self.machine {
            Some(_) => self.on_device(|network, _| network.sum_gradients(there, here)),
            None => Ok(()),
        }
    }

    /// The most images, at most `batch` and in even parts of it, that a step of the device has room for beside what
    /// else its training will take; none on the CPU.
    ///
    /// # Errors
    /// The device failed.
    pub fn fitting(
        &self,
        batch: usize,
        size: (usize, usize),
        targets: &Targets<'_>,
        beside: Beside,
    ) -> Result<Option<usize>> {
        let goal = goal(targets);
        match self.machine {
            Some(_) => self.on_device(|network, net| network.fitting(net, batch, size, goal, beside)).map(Some),
            None => Ok(None),
        }
    }

    /// Has the device keep a running mean of the weights, which begins at `means` (as [`Parameter::unpack`] gives
    /// them) and of which each step takes in `share`. False on the CPU, which is told nothing.
    ///
    /// # Errors
    /// The device failed.
    pub fn begin_means(&mut self, means: &[Vec<f32>], share: f64) -> Result<bool> {
        if self.machine.is_none() {
            return Ok(false);
        }
        self.on_device(|network, net| network.begin_means(net.parameters, means, share))?;
        Ok(true)
    }

    /// The means that the device keeps.
    ///
    /// # Errors
    /// The device failed.
    pub fn means(&self) -> Result<Vec<Vec<f32>>> {
        self.on_device(|network, net| network.means(net.parameters))
    }

    /// Puts the device's means in the place of the weights, or takes them out again.
    ///
    /// # Errors
    /// The device failed.
    pub fn exchange_means(&mut self) -> Result<()> {
        self.on_device(|network, _| network.exchange_means())?;
        self.ahead = true;
        Ok(())
    }
}
