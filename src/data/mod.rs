//! Datasets.
pub mod dataset;
pub mod fewshot;
pub mod format;
pub mod fractal;
pub mod image;
pub mod labels;
pub mod leakage;
pub mod merge;
pub mod phantom;
pub mod split;
pub mod subset;
