//! Nearest neighbours by cosine similarity, weighted by exp(similarity / temperature) as in instance
//! discrimination (Wu et al. 2018) and DINO (Caron et al. 2021), whose k is 20 and temperature 0.07.

use rayon::prelude::*;

use super::dot;
use crate::error::{Error, Result};

/// The labelled rows, each of length 1.
#[derive(Clone, Debug)]
pub struct Knn {
    dim: usize,
    rows: Vec<f64>,
    class: Vec<i32>,
    classes: usize,
}

impl Knn {
    /// `class[i]` must be in 0..classes.
    pub fn new<T: Copy + Into<f64>>(x: &[T], dim: usize, class: &[i32], classes: usize) -> Result<Self> {
        if dim == 0 || class.is_empty() || x.len() != class.len() * dim {
            return Err(Error::invalid(format!(
                "probe: {} feature values for {} labelled rows of {dim}",
                x.len(),
                class.len()
            )));
        }
        if let Some((row, c)) = class.iter().enumerate().find(|(_, c)| **c < 0 || **c as usize >= classes) {
            return Err(Error::invalid(format!(
                "probe: row {row} has class {c}, known are 0 to {}",
                classes.max(1) - 1
            )));
        }
        let rows = x.chunks_exact(dim).flat_map(unit).collect();
        Ok(Knn { dim, rows, class: class.to_vec(), classes })
    }

    /// Class probabilities, rows × classes: shares of the weights of the `k` nearest (all where there
    /// are fewer; among equally near ones the earlier row).
    pub fn probabilities<T: Copy + Into<f64> + Sync>(&self, x: &[T], k: usize, temperature: f64) -> Vec<f64> {
        let mut out = vec![0.0; x.len() / self.dim * self.classes];
        out.par_chunks_exact_mut(self.classes.max(1)).zip(x.par_chunks_exact(self.dim)).for_each(|(out, row)| {
            let row = unit(row);
            let mut near: Vec<(f64, usize)> =
                self.rows.chunks_exact(self.dim).enumerate().map(|(i, other)| (dot(&row, other), i)).collect();
            let k = k.clamp(1, near.len());
            let order = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            near.select_nth_unstable_by(k - 1, order);
            near.truncate(k);
            near.sort_by(order);
            let top = near[0].0;
            for &(similarity, i) in &near {
                out[self.class[i] as usize] += ((similarity - top) / temperature).exp();
            }
            let sum: f64 = out.iter().sum();
            out.iter_mut().for_each(|v| *v /= sum);
        });
        out
    }
}

fn unit<T: Copy + Into<f64>>(row: &[T]) -> Vec<f64> {
    let row: Vec<f64> = row.iter().map(|&v| v.into()).collect();
    let length = dot(&row, &row).sqrt().max(1e-12);
    row.into_iter().map(|v| v / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_by_angle_not_by_distance() {
        let knn = Knn::new(&[1.0f32, 0.0, 0.0, 9.0, 0.1, 5.0], 2, &[0, 1, 1], 2).unwrap();
        assert_eq!(knn.probabilities(&[100.0f32, 1.0], 1, 0.07), vec![1.0, 0.0]);
        let p = knn.probabilities(&[1.0f32, 1.0], 3, 1.0);
        assert!(p[1] > p[0] && (p[0] + p[1] - 1.0).abs() < 1e-15);
        assert!(Knn::new(&[1.0f32], 1, &[2], 2).is_err());
    }
}
