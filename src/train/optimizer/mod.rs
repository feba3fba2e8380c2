//! How weights follow gradients, as pipelines declare it: the registry of optimisers.
//!
//! Adding one is a file here with its [`Algorithm`], a line in [`Optimizer`] and one in its `algorithm`; the
//! update itself is an operator of `nn`.

mod adamw;
mod sgd_agc;

pub use adamw::AdamWSpec;
pub use sgd_agc::SgdAgcSpec;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::nn::optimizer::{Optimizer as Update, Parts};

/// What a spec of an optimiser can say and make.
pub trait Algorithm {
    /// The rate that schedules start from.
    fn lr(&self) -> f64;
    /// What cannot work: (field, message).
    fn check(&self) -> Vec<(&'static str, &'static str)>;
    /// The optimiser before its first step.
    fn build(&self, parts: Parts) -> Box<dyn Update>;
}

/// How weights follow gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Optimizer {
    /// SGD with Nesterov momentum and adaptive gradient clipping, as the study trained.
    SgdAgc(SgdAgcSpec),
    /// Adam with decoupled weight decay, as `torch.optim.AdamW`.
    #[serde(rename = "adamw")]
    AdamW(AdamWSpec),
}

impl Optimizer {
    fn algorithm(&self) -> (&'static str, &dyn Algorithm) {
        match self {
            Optimizer::SgdAgc(s) => ("sgd_agc", s),
            Optimizer::AdamW(s) => ("adamw", s),
        }
    }

    /// The rate that schedules start from.
    pub fn lr(&self) -> f64 {
        self.algorithm().1.lr()
    }

    /// What cannot work: (field, message).
    pub fn check(&self) -> Vec<(String, String)> {
        let (name, algorithm) = self.algorithm();
        let located = |(field, text): (&str, &str)| (format!("optimizer.{name}.{field}"), text.to_string());
        algorithm.check().into_iter().map(located).collect()
    }

    /// The optimiser before its first step.
    pub fn build(&self, parts: Parts) -> Box<dyn Update> {
        self.algorithm().1.build(parts)
    }
}

/// Whether `x` is below `low` or no number.
fn below(x: f64, low: f64) -> bool {
    !(x >= low && x.is_finite())
}

/// The problems whose condition holds.
fn found<const N: usize>(problems: [(bool, &'static str, &'static str); N]) -> Vec<(&'static str, &'static str)> {
    problems.into_iter().filter(|(wrong, ..)| *wrong).map(|(_, field, text)| (field, text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optimisers_are_read_by_name_and_checked() {
        let read = |json: &str| serde_json::from_str::<Optimizer>(json);
        let adam = read(r#"{"adamw": {"lr": 0.001, "weight_decay": 0.1}}"#).unwrap();
        assert_eq!((adam.lr(), adam.check().len()), (0.001, 0));
        let fields = |json: &str| read(json).unwrap().check().into_iter().map(|(f, _)| f).collect::<Vec<_>>();
        assert_eq!(fields(r#"{"adamw": {"lr": -1, "beta2": 1}}"#), ["optimizer.adamw.lr", "optimizer.adamw.beta2"]);
        assert_eq!(fields(r#"{"sgd_agc": {"lr": 0.1, "clipping": 0}}"#), ["optimizer.sgd_agc.clipping"]);
        assert!(read(r#"{"adam": {"lr": 1}}"#).unwrap_err().to_string().contains("adamw"));
    }
}
