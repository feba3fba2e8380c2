//! Launches that end a step: updates of all parameters at once, running means, and the note of the loss.

use super::op::{Launch, Op};
use crate::nn::adamw::AdamWOptions;
use crate::nn::optimizer::{Parts, Rule};
use crate::nn::parameter::{Layout, Parameter};

/// Numbers that change from step to step, as kernels read them: f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scalars {
    /// What every term of the loss is multiplied by.
    pub scale: f64,
    pub lr: f64,
    /// Steps noted so far.
    pub step: u64,
    /// Updates of AdamW, this one included.
    pub updates: u64,
}

impl Scalars {
    pub const BYTES: u64 = 5 * 8;

    /// `betas` are AdamW's.
    pub fn bytes(&self, betas: [f64; 2]) -> Vec<u8> {
        let [first, second] = betas.map(|beta| 1.0 - beta.powf(self.updates as f64));
        [self.scale, self.lr, self.step as f64, first, second].iter().flat_map(|v| v.to_le_bytes()).collect()
    }
}

/// Addresses of what an update reads and writes. The second state is AdamW's.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    pub w: u64,
    pub gradient: u64,
    pub state: [u64; 2],
    pub table: u64,
    pub stopped: u64,
    pub scalars: u64,
}

/// Buffers as large as all parameters that a rule keeps beside them.
pub fn states(rule: &Rule) -> usize {
    match rule {
        Rule::SgdAgc(_) => 1,
        Rule::AdamW(_) => 2,
    }
}

/// What the state of a rule is called in checkpoints: the name of each of its buffers for one parameter.
pub fn state_names(rule: &Rule, parameter: &str) -> Vec<String> {
    match rule {
        Rule::SgdAgc(_) => vec![parameter.to_string()],
        Rule::AdamW(_) => vec![format!("first.{parameter}"), format!("second.{parameter}")],
    }
}

/// Which parameters a rule leaves alone, and their factors on the rate.
pub fn parts(rule: &Rule) -> Parts {
    match rule {
        Rule::SgdAgc(o) => Parts { frozen: o.frozen.clone(), lr_factors: o.lr_factors.clone() },
        Rule::AdamW(AdamWOptions { parts, .. }) => parts.clone(),
    }
}

/// Four words for each unit that moves: see `source/optimizer.cu`. `starts` says where each parameter begins.
pub fn table(rule: &Rule, parameters: &[Parameter], starts: &[usize], classes: usize) -> Vec<u64> {
    let parts = parts(rule);
    let mut words = Vec::new();
    for (p, &start) in parameters.iter().zip(starts).filter(|(p, _)| !parts.is_frozen(&p.name)) {
        // As nn/sgd_agc.rs: the head, and any layer that happens to have as many outputs, is not clipped.
        let clips = !(matches!(p.shape.len(), 2 | 4) && p.shape[0] == classes);
        let units = if p.layout == Layout::Vector { 1 } else { p.shape[0] };
        let length = p.count() / units;
        let factor = parts.lr_factor(&p.name).to_bits();
        words.extend((0..units).flat_map(|u| [(start + u * length) as u64, length as u64, factor, u64::from(clips)]));
    }
    words
}

/// One update of the `units` of the table.
pub fn update(rule: &Rule, units: usize, u: Update) -> Option<Op> {
    if units == 0 {
        return None;
    }
    let grid = [units, 1, 1];
    let launch = match rule {
        Rule::SgdAgc(o) => Launch::new("sgd_agc", false, grid)
            .at([u.w, u.gradient, u.state[0], u.table, u.stopped, u.scalars])
            .reals([o.momentum, o.weight_decay, o.clipping.unwrap_or(-1.0), o.eps])
            .counts([usize::from(o.nesterov)]),
        Rule::AdamW(o) => Launch::new("adamw", false, grid)
            .at([u.w, u.gradient, u.state[0], u.state[1], u.table, u.stopped, u.scalars])
            .reals([o.beta1, o.beta2, o.eps, o.weight_decay]),
    };
    Some(launch.into())
}

/// Gradients to zero, unless a loss was no number.
pub fn clear(gradient: u64, stopped: u64, count: usize) -> Op {
    Launch::over("clear", false, count).at([gradient, stopped]).counts([count]).into()
}

/// `mean += share (w - mean)`.
pub fn running_mean(w: u64, mean: u64, stopped: u64, count: usize, share: f64) -> Op {
    Launch::over("running_mean", false, count).at([w, mean, stopped]).counts([count]).reals([share]).into()
}

/// Two buffers change places.
pub fn exchange(a: u64, b: u64, count: usize) -> Op {
    Launch::over("exchange", false, count).at([a, b]).counts([count]).into()
}

/// Puts the step's loss into a ring of `room` f64 and begins the next.
pub fn note_loss(loss: u64, losses: u64, stopped: u64, scalars: u64, room: usize) -> Op {
    Launch::new("note_loss", false, [1, 1, 1]).at([loss, losses, stopped, scalars]).counts([room]).into()
}
