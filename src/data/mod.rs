//! Datasets.
pub mod dataset;
pub mod image;
