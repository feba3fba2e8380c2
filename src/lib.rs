//! scaleshot: studies of how the scale of pre-training carries over to new image tasks.
//!
//! A file imports from lower layers or its own folder; `ARCHITECTURE.md` has the map.

// Checks of reference numbers are written against the public name and run as unit tests too.
#[cfg(test)]
extern crate self as scaleshot;

pub mod aside;
pub mod digest;
pub mod error;
pub mod memory;
pub mod npy;
pub mod pickle;
pub mod progress;
pub mod random;
pub mod thread;

pub mod nn;
pub mod store;

pub mod data;
pub mod model;

pub mod eval;
pub mod train;

pub mod report;

pub mod kind;

pub mod pipeline;

pub mod plan;

pub mod run;

pub mod cli;
