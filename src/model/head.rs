//! What a new head starts from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Bit;
use crate::{error::Result, random::torch::Generator};

/// The first weights of a head for a new task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadInit {
    /// All zeros, as BiT: every class is as likely as another, and the first gradients reach the head alone.
    #[default]
    Zeros,
    /// As `torch.manual_seed(seed)` and then `torch.nn.Linear(features, classes)` draw it: weights, then biases,
    /// uniform within 1/sqrt(features).
    Pytorch,
}

impl HeadInit {
    /// Gives `model` a new head for `classes` classes.
    pub fn replace(self, model: &mut Bit, classes: usize, seed: u64) -> Result<()> {
        model.replace_head(classes);
        if self == HeadInit::Pytorch {
            let (weight, bias) = linear(model.feature_dim(), classes, seed);
            model.set("head.conv.weight", &weight)?;
            model.set("head.conv.bias", &bias)?;
        }
        Ok(())
    }
}

/// Weights (`outputs` x `inputs`) and biases of a linear layer as PyTorch draws them by default.
pub fn linear(inputs: usize, outputs: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut generator = Generator::new(seed);
    // kaiming_uniform_(a = sqrt(5)), in the order of PyTorch's own operations.
    let gain = (2.0 / (1.0 + 5f64.sqrt().powi(2))).sqrt();
    let bound = 3f64.sqrt() * (gain / (inputs as f64).sqrt());
    let weight = generator.uniform(inputs * outputs, -bound, bound);
    let bound = 1.0 / (inputs as f64).sqrt();
    (weight, generator.uniform(outputs, -bound, bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BitConfig;

    #[test]
    fn a_new_head_is_zero_or_pytorchs() {
        let mut model = Bit::new(BitConfig::parse("bit-r14x0.25", 3).unwrap(), 1);
        HeadInit::Pytorch.replace(&mut model, 5, 7).unwrap();
        let (weight, bias) = linear(model.feature_dim(), 5, 7);
        assert_eq!(model.get("head.conv.weight").unwrap(), weight);
        assert_eq!(model.get("head.conv.bias").unwrap(), bias);
        let bound = 1.0 / (model.feature_dim() as f32).sqrt();
        let largest = weight.iter().fold(0f32, |m, w| m.max(w.abs()));
        assert!(largest <= bound && largest > 0.9 * bound, "{largest} {bound}");
        HeadInit::Zeros.replace(&mut model, 2, 7).unwrap();
        assert!(model.get("head.conv.weight").unwrap().iter().all(|&w| w == 0.0));
    }
}
