//! Datasets.
pub mod augment;
pub mod dataset;
pub mod loader;
pub mod sampling;
