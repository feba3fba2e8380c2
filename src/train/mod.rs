//! Training and inference: the loop, schedules, sampling, mixup and checkpoints.
//!
//! | file | what |
//! |---|---|
//! | `spec`, `optimizer` | what a training is asked to do |
//! | `memory` | micro-batches and recomputation |
//! | `schedule`, `hyperrule` | learning rates, lengths, resolutions |
//! | `sampler`, `mixup`, `targets` | which examples come when, and what the loss compares with |
//! | `course` | a spec bound to one dataset: lengths, rates, batches |
//! | `fit`, `run`, `curve` | the loop, its moving part, and its learning curve |
//! | `ema` | a running mean of the weights |
//! | `checkpoint` | a run on disk, to be continued to the bit |
//! | `infer` | logits and features of a dataset |
//! | `score` | loss and accuracy of validation |
//! | `collective`, `reduce`, `ranks` | several ranks on one training: what they exchange, gradients on the way, threads |
//!
//! A run is a pure function of (model, data, spec): where it was interrupted, how many threads it had and
//! how long it took leave no trace in the weights. Metrics for reports are not made here.

pub mod checkpoint;
pub mod collective;
pub mod course;
pub mod curve;
pub mod ema;
pub mod fit;
pub mod hyperrule;
pub mod infer;
pub mod memory;
pub mod mixup;
pub mod optimizer;
mod ranks;
mod reduce;
mod run;
pub mod sampler;
pub mod schedule;
pub mod score;
pub mod spec;
pub mod targets;

pub use curve::{Best, CurvePoint};
pub use fit::{Fit, Pace, fit};
pub use infer::{embed, predict};
pub use spec::FitSpec;

use std::path::Path;

use collective::Collective;

use crate::progress::{Cancel, Progress};

/// The surroundings of a run; nothing in it changes the result.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
    /// A folder that survives an interruption; without one a run starts over.
    pub checkpoint: Option<&'a Path>,
    /// Seconds between checkpoints; one is also written when the run is cancelled.
    pub checkpoint_every_s: u64,
    /// The other ranks of the same training.
    pub collective: &'a dyn Collective,
}

impl Session<'_> {
    /// The request to stop where one process can heed it by itself. Ranks agree on it at the end of a step, and
    /// nowhere else: one that stopped between two would leave the others waiting.
    fn agreed_cancel(&self) -> Cancel {
        if self.collective.ranks() > 1 { Cancel::default() } else { self.cancel.clone() }
    }
}
