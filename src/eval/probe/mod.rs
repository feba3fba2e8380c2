//! Probes: what a linear or nearest-neighbour reader can make of frozen features.
//!
//! Features are `rows × dim`, row-major. Everything is float64 inside and summed in a fixed order, so
//! that scores depend neither on threads nor on the machine. How few shots are drawn is the business
//! of `data`; these functions are given the rows.

pub mod cholesky;
pub mod knn;
pub mod logistic;
pub mod ridge;

/// Σ aᵢ·bᵢ in eight interleaved sums that are then added in order: the same on every machine, and
/// shaped so that compilers use vector registers.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (ca, cb) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = ca.remainder().iter().zip(cb.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in ca.zip(cb) {
        for l in 0..8 {
            lanes[l] += x[l] * y[l];
        }
    }
    lanes.iter().sum::<f64>() + tail
}

/// Mean and standard deviation (n in the denominator) of every column.
pub(crate) fn moments<T: Copy + Into<f64>>(x: &[T], dim: usize) -> (Vec<f64>, Vec<f64>) {
    let n = (x.len() / dim.max(1)) as f64;
    let mut mean = vec![0.0; dim];
    for row in x.chunks_exact(dim) {
        row.iter().zip(&mut mean).for_each(|(&v, m)| *m += v.into());
    }
    mean.iter_mut().for_each(|m| *m /= n);
    let mut deviation = vec![0.0; dim];
    for row in x.chunks_exact(dim) {
        for ((&v, m), d) in row.iter().zip(&mean).zip(&mut deviation) {
            let off = v.into() - m;
            *d += off * off;
        }
    }
    deviation.iter_mut().for_each(|d| *d = (*d / n).sqrt());
    (mean, deviation)
}
