//! SGD with Nesterov momentum and adaptive gradient clipping (Brock et al., arXiv 2102.06171), as published with the study.
//!
//! For every unit (an output's weights, or a whole vector) with weights w and gradient g:
//!
//! ```text
//! limit = clipping * max(|w|, eps)
//! g = g * limit / max(|g|, 1e-6)   where |g| > limit
//! g = g + weight_decay * w
//! m = momentum * m + g             (m = g in the first step)
//! w = w - lr * (g + momentum * m)
//! ```
//!
//! Weights of two or four dimensions whose first is the number of classes are not clipped: in the
//! study that is the head, and by the same rule any layer that happens to have as many outputs.

use super::buffer::Buffer;
use super::kernel::{Kernel, versions};
use super::packing::PANEL;
use super::parameter::{Layout, Parameter, norm};
use crate::error::{Error, Result};
use rayon::prelude::*;

/// What stays the same from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct SgdAgcOptions {
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    /// None for no clipping.
    pub clipping: Option<f64>,
    /// The least norm that a unit's weights are taken to have.
    pub eps: f64,
    /// Parameters whose name begins with one of these are left as they are.
    pub frozen: Vec<String>,
    /// Factors on the learning rate by the beginning of a name; the longest that fits counts.
    pub lr_factors: Vec<(String, f64)>,
}

impl Default for SgdAgcOptions {
    fn default() -> Self {
        SgdAgcOptions {
            momentum: 0.9,
            nesterov: true,
            weight_decay: 1e-4,
            clipping: Some(0.01),
            eps: 1e-3,
            frozen: Vec::new(),
            lr_factors: Vec::new(),
        }
    }
}

impl SgdAgcOptions {
    fn is_frozen(&self, name: &str) -> bool {
        self.frozen.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    fn lr_factor(&self, name: &str) -> f64 {
        let fits = self.lr_factors.iter().filter(|(prefix, _)| name.starts_with(prefix.as_str()));
        fits.max_by_key(|(prefix, _)| prefix.len()).map_or(1.0, |&(_, factor)| factor)
    }
}

/// The optimiser with its momentum, one buffer for each parameter.
pub struct SgdAgc {
    options: SgdAgcOptions,
    momentum: Vec<Buffer>,
}

/// Numbers of one update, as the inner loop wants them.
#[derive(Clone, Copy)]
struct Rates {
    lr: f32,
    momentum: f32,
    nesterov: bool,
    weight_decay: f32,
}

versions! {
    /// Updates rows of `factor.len()` values each; `factor` is the clipping of each lane.
    fn update_rows(w: &mut [f32], g: &[f32], m: &mut [f32], factor: &[f32], rates: Rates) {
        let n = factor.len();
        let ahead = if rates.nesterov { rates.momentum } else { 0.0 };
        let own = if rates.nesterov { 1.0 } else { 0.0 };
        for ((w, g), m) in w.chunks_exact_mut(n).zip(g.chunks_exact(n)).zip(m.chunks_exact_mut(n)) {
            for j in 0..n {
                let d = g[j] * factor[j] + rates.weight_decay * w[j];
                m[j] = rates.momentum * m[j] + d;
                let step = if rates.nesterov { own * d + ahead * m[j] } else { m[j] };
                w[j] -= rates.lr * step;
            }
        }
    }
}

versions! {
    /// Sums of squares of each lane of rows of `sums.len()` values.
    fn lane_squares(values: &[f32], sums: &mut [f64]) {
        let n = sums.len();
        for block in values.chunks(64 * n) {
            let mut part = [0f32; PANEL];
            for row in block.chunks_exact(n) {
                for j in 0..n {
                    part[j] += row[j] * row[j];
                }
            }
            for (sum, part) in sums.iter_mut().zip(part) {
                *sum += f64::from(part);
            }
        }
    }
}

/// What a unit's gradient is multiplied by.
fn clip(options: &SgdAgcOptions, weight: f64, gradient: f64) -> f32 {
    match options.clipping {
        Some(clipping) => {
            let limit = clipping * weight.max(options.eps);
            if gradient > limit { (limit / gradient.max(1e-6)) as f32 } else { 1.0 }
        }
        None => 1.0,
    }
}

impl SgdAgc {
    pub fn new(options: SgdAgcOptions) -> Self {
        SgdAgc { options, momentum: Vec::new() }
    }

    pub fn options(&self) -> &SgdAgcOptions {
        &self.options
    }

    /// One update of all parameters that have a gradient and are not frozen. `classes` says which
    /// weights are not clipped.
    pub fn step(&mut self, kernel: Kernel, parameters: &mut [Parameter], classes: usize, lr: f64) {
        self.momentum.resize_with(parameters.len(), Buffer::default);
        let options = &self.options;
        parameters.par_iter_mut().zip(self.momentum.par_iter_mut()).for_each(|(parameter, momentum)| {
            if parameter.gradient.len() != parameter.data.len() || options.is_frozen(&parameter.name) {
                return;
            }
            if momentum.len() != parameter.data.len() {
                *momentum = Buffer::zeros(parameter.data.len());
            }
            let rates = Rates {
                lr: (lr * options.lr_factor(&parameter.name)) as f32,
                momentum: options.momentum as f32,
                nesterov: options.nesterov,
                weight_decay: options.weight_decay as f32,
            };
            let clips = !(matches!(parameter.shape.len(), 2 | 4) && parameter.shape[0] == classes);
            let Parameter { layout, data, gradient, .. } = parameter;
            match *layout {
                Layout::Vector => {
                    let factor = if clips { clip(options, norm(data), norm(gradient)) } else { 1.0 };
                    update_rows(kernel, data, gradient, momentum, &vec![factor; gradient.len()], rates);
                }
                Layout::Packed { packing, .. } => {
                    let step = packing.step();
                    let panels =
                        data.par_chunks_mut(step).zip(gradient.par_chunks(step)).zip(momentum.par_chunks_mut(step));
                    panels.enumerate().for_each(|(p, ((w, g), m))| {
                        let pitch = packing.pitch(p);
                        let mut factor = vec![1f32; pitch];
                        if clips && options.clipping.is_some() {
                            let (mut weights, mut gradients) = (vec![0f64; pitch], vec![0f64; pitch]);
                            lane_squares(kernel, w, &mut weights);
                            lane_squares(kernel, g, &mut gradients);
                            for ((f, w), g) in factor.iter_mut().zip(weights).zip(gradients) {
                                *f = clip(options, w.sqrt(), g.sqrt());
                            }
                        }
                        update_rows(kernel, w, g, m, &factor, rates);
                    });
                }
            }
        });
    }

    /// The momentum of each parameter in PyTorch's layout; empty where there has been no step yet.
    pub fn state(&self, parameters: &[Parameter]) -> Vec<(String, Vec<f32>)> {
        let buffers = self.momentum.iter().zip(parameters).filter(|(m, _)| !m.is_empty());
        buffers.map(|(m, p)| (p.name.clone(), p.unpack(m))).collect()
    }

    /// Takes back what [`SgdAgc::state`] gave; exact to the bit.
    pub fn restore(&mut self, parameters: &[Parameter], state: &[(String, Vec<f32>)]) -> Result<()> {
        let mut momentum = vec![Buffer::default(); parameters.len()];
        for (name, values) in state {
            let at = parameters.iter().position(|p| p.name == *name);
            let at =
                at.ok_or_else(|| Error::invalid(format!("optimiser state for {name}, which the model does not have")))?;
            let parameter = &parameters[at];
            if values.len() != parameter.count() {
                return Err(Error::invalid(format!(
                    "optimiser state of {name} has {} values, the model's {:?} has {}",
                    values.len(),
                    parameter.shape,
                    parameter.count()
                )));
            }
            momentum[at] = parameter.pack(values);
        }
        self.momentum = momentum;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::parameter::examples;

    /// The rule in f64, unit by unit, in PyTorch's layout.
    fn definition(p: &Parameter, m: &mut [f64], options: &SgdAgcOptions, clips: bool, lr: f64) -> Vec<f64> {
        let (w, g) = (p.unpack(&p.data), p.unpack(&p.gradient));
        let unit = if p.shape.len() == 1 { w.len() } else { w.len() / p.shape[0] };
        let mut out = Vec::new();
        for first in (0..w.len()).step_by(unit) {
            let (w, g) = (&w[first..first + unit], &g[first..first + unit]);
            let limit = options.clipping.unwrap_or(f64::MAX) * norm(w).max(options.eps);
            let factor = if clips && norm(g) > limit { limit / norm(g) } else { 1.0 };
            for i in 0..unit {
                let d = f64::from(g[i]) * factor + options.weight_decay * f64::from(w[i]);
                m[first + i] = options.momentum * m[first + i] + d;
                let step = if options.nesterov { d + options.momentum * m[first + i] } else { m[first + i] };
                out.push(f64::from(w[i]) - lr * step);
            }
        }
        out
    }

    #[test]
    fn steps_follow_the_rule_and_come_back_from_a_checkpoint() {
        let options = SgdAgcOptions {
            weight_decay: 0.01,
            lr_factors: vec![("head".into(), 10.0), ("head.conv.w".into(), 2.0)],
            ..SgdAgcOptions::default()
        };
        for family in Kernel::available() {
            let mut all = examples("agc");
            let mut optimizer = SgdAgc::new(options.clone());
            let mut momentum: Vec<Vec<f64>> = all.iter().map(|p| vec![0.0; p.count()]).collect();
            for step in 0..3 {
                let lr = 0.1 / f64::from(step + 1);
                let wanted: Vec<Vec<f64>> = all
                    .iter()
                    .zip(&mut momentum)
                    .map(|(p, m)| {
                        let head = p.name.starts_with("head");
                        definition(p, m, &options, !head, if head { 2.0 * lr } else { lr })
                    })
                    .collect();
                // The second step runs from a restored state.
                if step == 1 {
                    let state = optimizer.state(&all);
                    optimizer = SgdAgc::new(options.clone());
                    optimizer.restore(&all, &state).unwrap();
                    assert_eq!(optimizer.state(&all), state);
                }
                optimizer.step(family, &mut all, 4, lr);
                for (p, wanted) in all.iter().zip(&wanted) {
                    for (found, wanted) in p.unpack(&p.data).iter().zip(wanted) {
                        assert!((f64::from(*found) - wanted).abs() < 1e-5, "{}: {found} {wanted}", p.name);
                    }
                }
            }
        }
    }

    #[test]
    fn frozen_parameters_stay() {
        let (mut all, before) = (examples("agc"), examples("agc"));
        let options = SgdAgcOptions { frozen: vec!["conv".into(), "gn".into()], ..SgdAgcOptions::default() };
        SgdAgc::new(options).step(Kernel::Plain, &mut all, 4, 0.1);
        let same: Vec<bool> = all.iter().zip(&before).map(|(a, b)| a.data[..] == b.data[..]).collect();
        assert_eq!(same, [true, false, true]);
    }

    #[test]
    fn a_state_that_does_not_fit_is_refused() {
        let mut optimizer = SgdAgc::new(SgdAgcOptions::default());
        let wrong = optimizer.restore(&examples("agc"), &[("gn.bias".into(), vec![0.0; 3])]).unwrap_err();
        assert!(wrong.to_string().contains("[30]"), "{wrong}");
        assert!(optimizer.restore(&examples("agc"), &[("nobody".into(), vec![])]).is_err());
    }
}
