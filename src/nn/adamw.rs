//! AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101), as `torch.optim.AdamW`.
//!
//! For weights w with gradient g, in step t (from 1):
//!
//! ```text
//! w = w - lr * weight_decay * w
//! m = beta1 * m + (1 - beta1) * g
//! v = beta2 * v + (1 - beta2) * g²
//! w = w - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//! ```
//!
//! Nothing is clipped.

use super::buffer::Buffer;
use super::kernel::{Kernel, versions};
use super::optimizer::{Optimizer, Parts, Rule, owner};
use super::parameter::Parameter;
use crate::error::{Error, Result};
use rayon::prelude::*;

/// What stays the same from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamWOptions {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub parts: Parts,
}

/// Values of one parameter that a thread updates at a time.
const PIECE: usize = 1 << 14;

/// The optimiser with both moments of each parameter, and the steps taken.
pub struct AdamW {
    options: AdamWOptions,
    moments: Vec<(Buffer, Buffer)>,
    steps: u64,
}

/// Numbers of one update, as the inner loop wants them.
#[derive(Clone, Copy)]
struct Rates {
    keep: f32,
    beta1: f32,
    beta2: f32,
    /// `1 - beta1` and `1 - beta2`, rounded after the subtraction.
    rest1: f32,
    rest2: f32,
    step: f32,
    root: f32,
    eps: f32,
}

versions! {
    fn update(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], r: Rates) {
        for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            *m = r.beta1 * *m + r.rest1 * g;
            *v = r.beta2 * *v + r.rest2 * g * g;
            *w = r.keep * *w - r.step * *m / (v.sqrt() / r.root + r.eps);
        }
    }
}

/// The name of the number of steps in the state; no parameter is called so.
pub const STEPS: &str = "steps";

/// Two halves of a number of steps, each of which an f32 holds exactly.
pub fn halves(steps: u64) -> Vec<f32> {
    vec![(steps >> 20) as f32, (steps & 0xf_ffff) as f32]
}

/// The number whose [`halves`] these are.
pub fn whole([high, low]: [f32; 2]) -> u64 {
    ((high as u64) << 20) | low as u64
}

impl AdamW {
    pub fn new(options: AdamWOptions) -> Self {
        AdamW { options, moments: Vec::new(), steps: 0 }
    }
}

impl Optimizer for AdamW {
    fn rule(&self) -> Rule {
        Rule::AdamW(self.options.clone())
    }

    fn step(&mut self, kernel: Kernel, parameters: &mut [Parameter], _classes: usize, lr: f64) {
        self.moments.resize_with(parameters.len(), Default::default);
        self.steps += 1;
        let AdamWOptions { beta1, beta2, eps, weight_decay, ref parts } = self.options;
        let power = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let (first, root) = (power(beta1), power(beta2).sqrt());
        parameters.par_iter_mut().zip(self.moments.par_iter_mut()).for_each(|(parameter, (m, v))| {
            let Parameter { name, data, gradient, .. } = parameter;
            if gradient.len() != data.len() || parts.is_frozen(name) {
                return;
            }
            if m.len() != data.len() {
                (*m, *v) = (Buffer::zeros(data.len()), Buffer::zeros(data.len()));
            }
            let lr = lr * parts.lr_factor(name);
            let rates = Rates {
                keep: (1.0 - lr * weight_decay) as f32,
                beta1: beta1 as f32,
                beta2: beta2 as f32,
                rest1: (1.0 - beta1) as f32,
                rest2: (1.0 - beta2) as f32,
                step: (lr / first) as f32,
                root: root as f32,
                eps: eps as f32,
            };
            let pieces = data.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
            let pieces = pieces.zip(m.par_chunks_mut(PIECE)).zip(v.par_chunks_mut(PIECE));
            pieces.for_each(|(((w, g), m), v)| update(kernel, w, g, m, v, rates));
        });
    }

    fn state(&self, parameters: &[Parameter]) -> Vec<(String, Vec<f32>)> {
        if self.steps == 0 {
            return Vec::new();
        }
        let mut state = vec![(STEPS.to_string(), halves(self.steps))];
        for ((m, v), p) in self.moments.iter().zip(parameters).filter(|((m, _), _)| !m.is_empty()) {
            state.push((format!("first.{}", p.name), p.unpack(m)));
            state.push((format!("second.{}", p.name), p.unpack(v)));
        }
        state
    }

    fn restore(&mut self, parameters: &[Parameter], state: &[(String, Vec<f32>)]) -> Result<()> {
        let mut moments: Vec<(Buffer, Buffer)> = Vec::new();
        moments.resize_with(parameters.len(), Default::default);
        let mut steps = 0;
        for (name, values) in state {
            if let (STEPS, [high, low]) = (name.as_str(), values.as_slice()) {
                steps = whole([*high, *low]);
                continue;
            }
            let known = |(which, name)| Some((which, name)).filter(|_| ["first", "second"].contains(&which));
            let (which, name) = name
                .split_once('.')
                .and_then(known)
                .ok_or_else(|| Error::invalid(format!("{name} is no state of AdamW")))?;
            let at = owner(parameters, name, values)?;
            let packed = parameters[at].pack(values);
            *(if which == "first" { &mut moments[at].0 } else { &mut moments[at].1 }) = packed;
        }
        (self.moments, self.steps) = (moments, steps);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::parameter::examples;

    fn options() -> AdamWOptions {
        let parts = Parts { frozen: vec!["gn".into()], lr_factors: vec![("head".into(), 3.0)] };
        AdamWOptions { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, parts }
    }

    #[test]
    fn steps_follow_the_rule_on_every_kernel_and_come_back_from_a_checkpoint() {
        let options = options();
        for family in Kernel::available() {
            let mut all = examples("adamw");
            let start: Vec<Vec<f32>> = all.iter().map(|p| p.unpack(&p.data)).collect();
            let mut wanted: Vec<Vec<f64>> = start.iter().map(|w| w.iter().map(|&v| v.into()).collect()).collect();
            let mut moments: Vec<Vec<(f64, f64)>> = start.iter().map(|w| vec![(0.0, 0.0); w.len()]).collect();
            let mut optimizer = AdamW::new(options.clone());
            for t in 1..=4 {
                let base = 0.02 / f64::from(t);
                for ((p, w), moments) in all.iter().zip(&mut wanted).zip(&mut moments).take(2) {
                    let lr = if p.name.starts_with("head") { 3.0 * base } else { base };
                    for ((w, g), (m, v)) in w.iter_mut().zip(p.unpack(&p.gradient)).zip(moments) {
                        let g = f64::from(g);
                        *w -= lr * options.weight_decay * *w;
                        *m = 0.9 * *m + 0.1 * g;
                        *v = 0.999 * *v + 0.001 * g * g;
                        let (first, second) = (1.0 - 0.9f64.powi(t), 1.0 - 0.999f64.powi(t));
                        *w -= lr / first * *m / ((*v / second).sqrt() + 1e-8);
                    }
                }
                // The second step runs from a restored state.
                if t == 2 {
                    let state = optimizer.state(&all);
                    optimizer = AdamW::new(options.clone());
                    optimizer.restore(&all, &state).unwrap();
                    assert_eq!(optimizer.state(&all), state);
                }
                optimizer.step(family, &mut all, 4, base);
            }
            for ((p, wanted), start) in all.iter().zip(&wanted).zip(&start) {
                let found = p.unpack(&p.data);
                assert_eq!(found == *start, p.name == "gn.bias", "{}", p.name);
                for (found, wanted) in found.iter().zip(wanted) {
                    assert!((f64::from(*found) - wanted).abs() < 2e-6, "{}: {found} {wanted}", p.name);
                }
            }
        }
    }

    #[test]
    fn a_state_of_something_else_is_refused() {
        let mut optimizer = AdamW::new(options());
        let say = |optimizer: &mut AdamW, name: &str, n: usize| {
            optimizer.restore(&examples("adamw"), &[(name.into(), vec![0.0; n])]).unwrap_err().to_string()
        };
        assert!(say(&mut optimizer, "first.gn.bias", 3).contains("[30]"));
        assert!(say(&mut optimizer, "first.nobody", 3).contains("nobody"));
        assert!(say(&mut optimizer, "gn.bias", 30).contains("no state of AdamW"));
    }
}
