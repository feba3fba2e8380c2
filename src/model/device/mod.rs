//! A network on a device: where its weights lie, what a pass over images does there, and the step that follows.
//!
//! | file | what |
//! |---|---|
//! | `layout` | where each parameter's values lie |
//! | `plan` | the operations and buffers of a pass |
//! | `network` | weights and passes on a machine |
//! | `infer` | features and logits, and where they wait |
//! | `render` | from stored bytes to a pass's input |
//! | `training` | what a step adds: targets, updates, running means, losses |
//!
//! A device is any [`crate::nn::cuda::Machine`]; nothing here knows of CUDA. Weights go there and come back in f32, so
//! that files, checkpoints and records are the same wherever was computed.

mod infer;
mod layout;
mod network;
mod plan;
mod render;
mod training;

pub(super) use infer::at_once;
pub use network::Beside;
pub(super) use network::{Input, Network};
pub(super) use training::goal;

#[cfg(test)]
mod tests;
