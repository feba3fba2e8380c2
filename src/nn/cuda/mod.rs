//! The operators on a GPU: kernels of our own compiled at run time, convolutions by cuDNN, planned buffers.
//!
//! | file | what | needs CUDA |
//! |---|---|---|
//! | `source/*.cu`, `source` | the kernels, in the common part of CUDA C++ and C | no |
//! | `op` | work as data: launches, convolutions, copies; what a machine can do | no |
//! | `arena` | where buffers lie | no |
//! | `norm`, `weight`, `pool`, `head`, `update`, `image` | launches of each operator: grid and arguments | no |
//! | `choice` | where a cell computes | no |
//! | `inventory` | what there is of GPUs, and opening one | no |
//! | `host` | in tests: the same sources on the processor | no |
//! | `device` | a GPU as a machine: context, streams, graphs, copies beside the computing | yes |
//! | `compile` | NVRTC, and compiled programs on disk | yes |
//! | `convolution` | cuDNN: descriptors, algorithms, workspace | yes |
//! | `library` | which libraries are here, and what to install | yes |
//! | `nccl` | gradients of several GPUs | yes, and NCCL |
//!
//! A step is a list of operations made by `model::device`. It is run by a GPU, or in tests by the
//! processor, which compiles the kernels' sources as C and runs every block and barrier of them: grids, arguments,
//! buffers and sums are tested without a GPU, cuDNN and the driver are not. CUDA's libraries are opened when a GPU
//! is asked for, so that a build needs none and a machine without a driver runs on its CPU.

pub mod arena;
pub mod choice;
#[cfg(feature = "cuda")]
mod compile;
#[cfg(feature = "cuda")]
mod convolution;
#[cfg(feature = "cuda")]
pub mod device;
pub mod head;
#[cfg(test)]
pub mod host;
pub mod image;
pub mod inventory;
#[cfg(feature = "cuda")]
pub mod library;
#[cfg(feature = "nccl")]
pub mod nccl;
pub mod norm;
pub mod op;
pub mod pool;
pub mod source;
pub mod update;
pub mod weight;

pub use choice::Device;
pub use inventory::{Inventory, inventory, open};
pub use op::Machine;
