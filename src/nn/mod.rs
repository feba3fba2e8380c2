//! The operators of a BiT network with their gradients, on the CPU, and the kernels below them.
//!
//! | file | operator |
//! |---|---|
//! | `conv` | convolution: forward and input gradient |
//! | `weight` | convolution: weight gradient |
//! | `winograd` | 3x3 convolutions of stride 1 in f32, with fewer products |
//! | `prepared` | convolution: by whichever way is fastest |
//! | `standardise` | weight standardisation, forward and backward, in packed order |
//! | `norm` | GroupNorm + ReLU, fused both ways, recomputed rather than stored |
//! | `pool` | zero padding, root max-pool, global average |
//! | `loss` | softmax and masked sigmoid cross-entropies |
//! | `sgd_agc` | SGD with Nesterov momentum and adaptive gradient clipping |
//! | `adamw` | AdamW |
//! | `optimizer` | what every optimiser can do |
//! | `kernel` | the inner loops, one family for each kind of CPU |
//! | `element` | f32 or bfloat16 activations |
//! | `packing` | the order in which weights lie in memory |
//! | `parameter` | a weight with its gradient, in packed or plain order |
//! | `buffer` | aligned memory, planned and reused |
//! | `cuda` | all of it on a GPU |
//! | `looks` | images that a GPU is to render |
//!
//! Activations are NHWC. Every sum has a fixed order that depends neither on the number of
//! threads nor on what else is in the batch. There is no graph and no autograd here: who calls
//! an operator calls its gradient too.

pub mod adamw;
pub mod buffer;
pub mod conv;
pub mod cuda;
pub mod element;
pub mod kernel;
pub mod looks;
pub mod loss;
pub mod norm;
pub mod optimizer;
pub mod packing;
pub mod parameter;
pub mod pool;
pub mod prepared;
pub mod sgd_agc;
pub mod standardise;
pub mod weight;
pub mod winograd;

#[cfg(test)]
mod differences;
#[cfg(test)]
mod properties;

pub use loss::Targets;
pub use optimizer::Optimizer;
pub use sgd_agc::SgdAgc;

/// The shape of a feature map: NHWC, channels innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    pub n: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Map {
    /// Values of one image.
    pub fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Values of the whole batch.
    pub fn len(&self) -> usize {
        self.n * self.image()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
