//! Datasets.
pub mod dataset;
