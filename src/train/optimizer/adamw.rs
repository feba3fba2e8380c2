//! Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Algorithm, Parts, Update, below, found};
use crate::nn::adamw::{AdamW, AdamWOptions};

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101); defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdamWSpec {
    /// Learning rate that the schedule starts from.
    pub lr: f64,
    /// Share of the mean gradient that is kept from step to step.
    #[serde(default = "beta1")]
    pub beta1: f64,
    /// Share of the mean squared gradient that is kept from step to step.
    #[serde(default = "beta2")]
    pub beta2: f64,
    /// Added to the root of the mean squared gradient.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Share of the weights that a step with rate 1 takes away.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
}

fn beta1() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.999
}

fn eps() -> f64 {
    1e-8
}

fn weight_decay() -> f64 {
    0.01
}

impl Algorithm for AdamWSpec {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn check(&self) -> Vec<(&'static str, &'static str)> {
        let share = |beta: f64| !(0.0..1.0).contains(&beta);
        found([
            (below(self.lr, 0.0), "lr", "must not be negative"),
            (share(self.beta1), "beta1", "must be from 0 to below 1"),
            (share(self.beta2), "beta2", "must be from 0 to below 1"),
            (!(self.eps > 0.0 && self.eps.is_finite()), "eps", "must be above 0"),
            (below(self.weight_decay, 0.0), "weight_decay", "must not be negative"),
        ])
    }

    fn build(&self, parts: Parts) -> Box<dyn Update> {
        Box::new(AdamW::new(AdamWOptions {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            parts,
        }))
    }
}
