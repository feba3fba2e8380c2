//! Datasets: tables of images with labels, and the images themselves.

pub mod augment;
pub mod dataset;
pub mod fractal;
pub mod image;
pub mod loader;
pub mod phantom;
pub mod sampling;
