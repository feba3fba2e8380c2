//! What every optimiser can do: an update of all parameters, and a state that goes to disk and back.
//!
//! One file an optimiser. How a pipeline names it is in `train/optimizer`.

use super::adamw::AdamWOptions;
use super::sgd_agc::{SgdAgc, SgdAgcOptions};
use super::{kernel::Kernel, parameter::Parameter};
use crate::error::{Error, Result};

/// An update as a device knows it, with all that stays the same from step to step.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    SgdAgc(SgdAgcOptions),
    AdamW(AdamWOptions),
}

/// From gradients to new weights.
pub trait Optimizer: Send {
    /// The same update for another machine.
    fn rule(&self) -> Rule;

    /// One update of all parameters that have a gradient and are not frozen. `classes` is the number of the
    /// head's outputs.
    fn step(&mut self, kernel: Kernel, parameters: &mut [Parameter], classes: usize, lr: f64);

    /// All that a continued run needs, in PyTorch's layout; empty where there has been no step yet.
    fn state(&self, parameters: &[Parameter]) -> Vec<(String, Vec<f32>)>;

    /// Takes back what [`Optimizer::state`] gave; exact to the bit.
    ///
    /// # Errors
    /// A state of another model.
    fn restore(&mut self, parameters: &[Parameter], state: &[(String, Vec<f32>)]) -> Result<()>;
}

impl Optimizer for SgdAgc {
    fn rule(&self) -> Rule {
        Rule::SgdAgc(self.options().clone())
    }

    fn step(&mut self, kernel: Kernel, parameters: &mut [Parameter], classes: usize, lr: f64) {
        SgdAgc::step(self, kernel, parameters, classes, lr);
    }

    fn state(&self, parameters: &[Parameter]) -> Vec<(String, Vec<f32>)> {
        SgdAgc::state(self, parameters)
    }

    fn restore(&mut self, parameters: &[Parameter], state: &[(String, Vec<f32>)]) -> Result<()> {
        SgdAgc::restore(self, parameters, state)
    }
}

/// Which parameters an optimiser leaves alone, and which have a rate of their own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// Beginnings of the names of parameters that are left as they are.
    pub frozen: Vec<String>,
    /// Factors on the learning rate by the beginning of a name; the longest that fits counts.
    pub lr_factors: Vec<(String, f64)>,
}

impl Parts {
    pub fn is_frozen(&self, name: &str) -> bool {
        self.frozen.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    pub fn lr_factor(&self, name: &str) -> f64 {
        let fits = self.lr_factors.iter().filter(|(prefix, _)| name.starts_with(prefix.as_str()));
        fits.max_by_key(|(prefix, _)| prefix.len()).map_or(1.0, |&(_, factor)| factor)
    }
}

/// The parameter that a piece of state belongs to, by name and size.
pub(super) fn owner(parameters: &[Parameter], name: &str, values: &[f32]) -> Result<usize> {
    let at = parameters.iter().position(|p| p.name == name);
    let at = at.ok_or_else(|| Error::invalid(format!("optimiser state for {name}, which the model does not have")))?;
    let (count, shape) = (parameters[at].count(), &parameters[at].shape);
    if values.len() != count {
        let have = values.len();
        return Err(Error::invalid(format!(
            "optimiser state of {name} has {have} values, the model's {shape:?} has {count}"
        )));
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_counts() {
        let parts = Parts {
            frozen: vec!["root".into()],
            lr_factors: vec![("body".into(), 0.5), ("body.block4".into(), 0.8), ("".into(), 0.1)],
        };
        assert!(parts.is_frozen("root.conv.weight") && !parts.is_frozen("body.block1.unit01.gn1.bias"));
        let factors = ["body.block4.unit01.gn1.bias", "body.block3.unit01.gn1.bias", "head.gn.bias"];
        assert_eq!(factors.map(|name| parts.lr_factor(name)), [0.8, 0.5, 0.1]);
    }
}
