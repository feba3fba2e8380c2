//! Datasets: tables of images with labels, and the images themselves.

pub mod augment;
pub mod dataset;
pub mod fetch;
pub mod fewshot;
pub mod format;
pub mod fractal;
mod hashed;
pub mod image;
pub mod labels;
pub mod leakage;
pub mod loader;
pub mod looks;
pub mod merge;
pub mod normalise;
pub mod phantom;
pub mod randaugment;
pub mod recognize;
mod runs;
pub mod sampling;
pub mod split;
pub mod stream;
pub mod subset;
