//! How a cell computed: precision, kernels, and what its steps waited for. It goes into the record alone, since it
//! says nothing about the result.

use super::{Cell, Leaf};
use crate::{
    model::Precision,
    train::{Fit, FitSpec, hyperrule::HyperRule},
};

/// The precision, and the family of kernels that this machine has for it.
pub fn precision(cell: &Cell, precision: Precision) {
    cell.measure("precision", precision.name());
    cell.measure("kernels", precision.kernel_name());
}

/// The pace of a training.
pub fn training(cell: &Cell, spec: &FitSpec, fit: &Fit) {
    precision(cell, spec.precision);
    if let Some(share) = fit.pace.wait_share() {
        cell.measure("step_ms", fit.pace.whole.as_secs_f64() * 1e3 / fit.pace.steps as f64);
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
