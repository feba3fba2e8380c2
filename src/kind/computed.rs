//! How a cell computed: precision, kernels, and what its steps waited for. It goes into the record alone, since it
//! says nothing about the result.

use std::collections::BTreeSet;

use super::{Cell, Leaf};
use crate::{
    error::Result,
    model::{Bit, Precision},
    nn::cuda::Device,
    train::{Fit, FitSpec, hyperrule::HyperRule},
};

/// Puts the model where the cell is to compute, with a GPU for each of its ranks, and says so in the record.
pub fn place(cell: &Cell, model: &mut Bit, device: Option<Device>, ranks: u32) -> Result<()> {
    let machines = device.unwrap_or_default().machines(cell.gpus, ranks as usize)?;
    let names: BTreeSet<String> = machines.iter().map(|machine| machine.name()).collect();
    let names: Vec<String> = names.into_iter().collect();
    cell.measure("device", if names.is_empty() { "cpu".to_string() } else { names.join(", ") });
    model.place_ranks(machines)
}

/// GPUs that a cell holds for a device.
pub fn gpus(device: Option<Device>, ranks: u32) -> u32 {
    device.unwrap_or_default().gpus(ranks)
}

/// The precision, and the family of kernels that computes in it.
pub fn precision(cell: &Cell, model: &Bit, precision: Precision) {
    cell.measure("precision", precision.name());
    cell.measure("kernels", model.family());
}

/// The pace of a training.
pub fn training(cell: &Cell, model: &Bit, spec: &FitSpec, fit: &Fit) {
    precision(cell, model, spec.precision);
    if let Some(seconds) = fit.pace.step_s() {
        cell.measure("step_ms", seconds * 1e3);
    }
    if let Some(share) = fit.pace.wait_share() {
        cell.measure("input_wait_share", share);
        cell.progress.log(&format!(
            "{} steps, of whose time {:.2} % was waiting for images",
            fit.pace.steps,
            100.0 * share
        ));
    }
}

/// Images of all updates of a training on about `rows` images.
pub fn passes(leaf: Leaf, rows: f64) -> f64 {
    match (leaf("steps"), leaf("epochs")) {
        (Some(steps), _) => steps * leaf("batch").unwrap_or(1.0),
        (None, Some(epochs)) => epochs * rows,
        (None, None) => HyperRule::for_size(rows as usize).steps() as f64 * leaf("batch").unwrap_or(1.0),
    }
}
