//! How a cell computed: precision, kernels, and what its steps waited for. It goes into the record alone, since it
//! says nothing about the result.

use super::Cell;
use crate::{
    model::Precision,
    train::{Fit, FitSpec},
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
