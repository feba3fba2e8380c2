//! A running mean of the weights: after each step, `mean += (1 - decay) (weights - mean)`.
//!
//! It begins at the first weights, without correction of that beginning. A weight that never moves has
//! exactly itself as its mean. Where a device computes, the means are there.

use rayon::prelude::*;

use crate::{
    error::{Error, Result},
    model::Bit,
    nn::parameter::Parameter,
};

/// The mean of each parameter, in the parameter's own order.
pub struct Ema {
    decay: f64,
    means: Vec<Vec<f32>>,
    /// A device keeps the means, and those here are not looked at.
    placed: bool,
}

impl Ema {
    /// Begins at the weights of `model`.
    pub fn new(decay: f64, model: &Bit) -> Self {
        Ema { decay, means: model.parameters().iter().map(|p| p.data.to_vec()).collect(), placed: false }
    }

    /// Hands the means to the device that computes `model`, if one does.
    ///
    /// # Errors
    /// The device failed.
    pub fn place(&mut self, model: &mut Bit) -> Result<()> {
        let plain: Vec<_> = self.means.iter().zip(model.parameters()).map(|(mean, p)| p.unpack(mean)).collect();
        self.placed = model.begin_means(&plain, 1.0 - self.decay)?;
        Ok(())
    }

    /// Takes in the weights after a step; a device does so itself.
    pub fn update(&mut self, model: &Bit) {
        if self.placed {
            return;
        }
        let share = (1.0 - self.decay) as f32;
        self.means.par_iter_mut().zip(model.parameters()).for_each(|(mean, p)| {
            mean.iter_mut().zip(p.data.iter()).for_each(|(m, w)| *m += share * (w - *m));
        });
    }

    /// Puts the means in the place of the weights, and the weights here; a second call undoes it.
    ///
    /// # Errors
    /// The device failed.
    pub fn swap(&mut self, model: &mut Bit) -> Result<()> {
        if self.placed {
            return model.exchange_means();
        }
        for (mean, p) in self.means.iter_mut().zip(model.parameters_mut()) {
            p.data.swap_with_slice(mean);
        }
        Ok(())
    }

    /// By name, in PyTorch's layout.
    ///
    /// # Errors
    /// The device failed.
    pub fn state(&self, model: &Bit) -> Result<Vec<(String, Vec<f32>)>> {
        let names = model.parameters().iter().map(|p| p.name.clone());
        if self.placed {
            return Ok(names.zip(model.means()?).collect());
        }
        let plain = self.means.iter().zip(model.parameters()).map(|(mean, p)| p.unpack(mean));
        Ok(names.zip(plain).collect())
    }

    /// Takes back what [`Ema::state`] gave; exact to the bit.
    ///
    /// # Errors
    /// A state of another model.
    pub fn restore(&mut self, model: &Bit, state: &[(String, Vec<f32>)]) -> Result<()> {
        let parameters = model.parameters();
        let find = |p: &Parameter| state.iter().find(|(name, values)| *name == p.name && values.len() == p.count());
        let found: Option<Vec<_>> = parameters.iter().map(|p| Some(p.pack(&find(p)?.1).to_vec())).collect();
        self.means = found.ok_or_else(|| Error::invalid("means of the weights of another model"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BitConfig;

    #[test]
    fn means_follow_their_rule_and_change_places() {
        let mut model = Bit::new(BitConfig::parse("bit-r14x0.125", 2).unwrap(), 1);
        let mut ema = Ema::new(0.9, &model);
        let root = model.get("root.conv.weight").unwrap();
        model.set("head.conv.bias", &[1.0, -2.0]).unwrap();
        ema.update(&model);
        ema.update(&model);
        let state = ema.state(&model).unwrap();
        ema.swap(&mut model).unwrap();
        let bias = model.get("head.conv.bias").unwrap();
        assert!((bias[0] - 0.19).abs() < 1e-6 && (bias[1] + 0.38).abs() < 1e-6, "{bias:?}");
        assert_eq!(model.get("root.conv.weight").unwrap(), root);
        ema.swap(&mut model).unwrap();
        assert_eq!(model.get("head.conv.bias").unwrap(), [1.0, -2.0]);
        let mut other = Ema::new(0.9, &model);
        other.restore(&model, &state).unwrap();
        assert_eq!(other.state(&model).unwrap(), state);
        assert!(other.restore(&model, &state[1..]).is_err());
    }
}
