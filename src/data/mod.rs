//! Datasets.
pub mod dataset;
pub mod fractal;
pub mod image;
pub mod phantom;
