//! SGD with Nesterov momentum and adaptive gradient clipping (Brock et al. 2021, arXiv 2102.06171).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Algorithm, Parts, Update, below, found};
use crate::nn::sgd_agc::{SgdAgc, SgdAgcOptions};

/// SGD with Nesterov momentum and adaptive gradient clipping (Brock et al. 2021, arXiv 2102.06171).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SgdAgcSpec {
    /// Learning rate that the schedule starts from.
    pub lr: f64,
    /// Share of the last movement that is kept.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Share of the weights that is added to the gradient, after clipping.
    #[serde(default)]
    pub weight_decay: f64,
    /// Largest gradient norm of an output unit, as a share of its weights' norm; null: no clipping.
    #[serde(default = "clipping")]
    pub clipping: Option<f64>,
    /// Smallest norm of weights that clipping assumes.
    #[serde(default = "eps")]
    pub eps: f64,
}

fn momentum() -> f64 {
    0.9
}

fn clipping() -> Option<f64> {
    Some(0.01)
}

fn eps() -> f64 {
    1e-3
}

impl SgdAgcSpec {
    /// All defaults around one rate.
    pub fn new(lr: f64) -> Self {
        SgdAgcSpec { lr, momentum: momentum(), weight_decay: 0.0, clipping: clipping(), eps: eps() }
    }
}

impl Algorithm for SgdAgcSpec {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn check(&self) -> Vec<(&'static str, &'static str)> {
        let clipping = self.clipping.is_some_and(|c| !(c > 0.0 && c.is_finite()));
        found([
            (below(self.lr, 0.0), "lr", "must not be negative"),
            (!(0.0..1.0).contains(&self.momentum), "momentum", "must be from 0 to below 1"),
            (below(self.weight_decay, 0.0), "weight_decay", "must not be negative"),
            (clipping, "clipping", "must be above 0, or null for no clipping"),
            (below(self.eps, 0.0), "eps", "must not be negative"),
        ])
    }

    fn build(&self, parts: Parts) -> Box<dyn Update> {
        Box::new(SgdAgc::new(SgdAgcOptions {
            momentum: self.momentum,
            nesterov: true,
            weight_decay: self.weight_decay,
            clipping: self.clipping,
            eps: self.eps,
            frozen: parts.frozen,
            lr_factors: parts.lr_factors,
        }))
    }
}
