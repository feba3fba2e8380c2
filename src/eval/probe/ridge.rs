//! The few-shot probe of big_vision (`fewshot_lsr`): ridge regression onto ±1 in closed form.
//!
//! Features are whitened (mean 0, deviation 1 with 1e-5 added), a constant 100 is appended (so large
//! that the bias is hardly regularised), targets are +1 for the class and −1 for the others, and
//!
//! W = (XᵀX + λI)⁻¹ XᵀY  for N ≥ D,  W = Xᵀ (XXᵀ + λI)⁻¹ Y  for D > N,
//!
//! with λ = 1024 as published. There by eigenvalues, so that many λ are cheap; here by Cholesky.

use rayon::prelude::*;

use super::{cholesky, dot, moments};
use crate::error::{Error, Result};

const BIAS: f64 = 100.0;
/// λ of the published evaluator.
pub const PUBLISHED_L2: f64 = 1024.0;

/// A fitted probe.
#[derive(Clone, Debug)]
pub struct Ridge {
    dim: usize,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// One row of `dim + 1` weights an output.
    weights: Vec<f64>,
}

impl Ridge {
    /// One output a class. `class[i]` must be in 0..classes.
    pub fn fit<T: Copy + Into<f64> + Sync>(
        x: &[T],
        dim: usize,
        class: &[i32],
        classes: usize,
        l2: f64,
    ) -> Result<Self> {
        if let Some((row, c)) = class.iter().enumerate().find(|(_, c)| **c < 0 || **c as usize >= classes) {
            return Err(Error::invalid(format!(
                "probe: row {row} has class {c}, known are 0 to {}",
                classes.max(1) - 1
            ))
            .with_hint("drop rows of unknown class before probing"));
        }
        let sides =
            (0..classes).map(|k| class.iter().map(|&c| if c as usize == k { 1.0 } else { -1.0 }).collect()).collect();
        Self::fit_targets(x, dim, sides, l2)
    }

    /// One output a finding: 1 present, 0 absent, below 0 unknown. Unknown rows of a finding are left
    /// out of its fit; findings with the same known rows share one factor.
    pub fn fit_labels<T: Copy + Into<f64> + Sync>(
        x: &[T],
        dim: usize,
        labels: &[i8],
        width: usize,
        l2: f64,
    ) -> Result<Self> {
        let n = labels.len().checked_div(width).unwrap_or(0);
        let (mean, deviation, white) = whiten_new(x, dim, n)?;
        let mut patterns: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
        for l in 0..width {
            let rows: Vec<usize> = (0..n).filter(|i| labels[i * width + l] >= 0).collect();
            match patterns.iter_mut().find(|(known, _)| *known == rows) {
                Some((_, findings)) => findings.push(l),
                None => patterns.push((rows, vec![l])),
            }
        }
        let mut weights = vec![0.0; width * (dim + 1)];
        for (rows, findings) in patterns.iter().filter(|(rows, _)| !rows.is_empty()) {
            let part: Vec<f64> =
                rows.iter().flat_map(|&i| &white[i * (dim + 1)..(i + 1) * (dim + 1)]).copied().collect();
            let sides = findings
                .iter()
                .map(|l| rows.iter().map(|i| if labels[i * width + l] > 0 { 1.0 } else { -1.0 }).collect())
                .collect();
            let found = solve(&part, dim + 1, sides, l2)?;
            for (l, w) in findings.iter().zip(found.chunks_exact(dim + 1)) {
                weights[l * (dim + 1)..(l + 1) * (dim + 1)].copy_from_slice(w);
            }
        }
        Ok(Ridge { dim, mean, deviation, weights })
    }

    fn fit_targets<T: Copy + Into<f64> + Sync>(x: &[T], dim: usize, sides: Vec<Vec<f64>>, l2: f64) -> Result<Self> {
        let n = sides.first().map_or(0, Vec::len);
        let (mean, deviation, white) = whiten_new(x, dim, n)?;
        let weights = solve(&white, dim + 1, sides, l2)?;
        Ok(Ridge { dim, mean, deviation, weights })
    }

    pub fn outputs(&self) -> usize {
        self.weights.len() / (self.dim + 1)
    }

    /// Scores, rows × outputs; larger is more likely, but they are not probabilities.
    pub fn scores<T: Copy + Into<f64> + Sync>(&self, x: &[T]) -> Vec<f64> {
        let outputs = self.outputs();
        let mut out = vec![0.0; x.len() / self.dim * outputs];
        out.par_chunks_exact_mut(outputs.max(1)).zip(x.par_chunks_exact(self.dim)).for_each(|(out, row)| {
            let white = whiten(row, &self.mean, &self.deviation);
            for (o, w) in out.iter_mut().zip(self.weights.chunks_exact(self.dim + 1)) {
                *o = dot(&white, w);
            }
        });
        out
    }
}

fn whiten<T: Copy + Into<f64>>(row: &[T], mean: &[f64], deviation: &[f64]) -> Vec<f64> {
    row.iter().zip(mean).zip(deviation).map(|((&v, m), d)| (v.into() - m) / d).chain([BIAS]).collect()
}

/// Mean, deviation + 1e-5, and the whitened rows with the bias appended.
fn whiten_new<T: Copy + Into<f64> + Sync>(x: &[T], dim: usize, n: usize) -> Result<(Vec<f64>, Vec<f64>, Vec<f64>)> {
    if dim == 0 || n == 0 || x.len() != n * dim {
        return Err(Error::invalid(format!("probe: {} feature values for {n} labelled rows of {dim}", x.len())));
    }
    let (mean, mut deviation) = moments(x, dim);
    deviation.iter_mut().for_each(|d| *d += 1e-5);
    let white = x.chunks_exact(dim).flat_map(|row| whiten(row, &mean, &deviation)).collect();
    Ok((mean, deviation, white))
}

/// Weights, one row of `dim` an output.
fn solve(x: &[f64], dim: usize, sides: Vec<Vec<f64>>, l2: f64) -> Result<Vec<f64>> {
    let n = x.len() / dim;
    if n >= dim {
        let mut columns = vec![0.0; x.len()];
        for (i, row) in x.chunks_exact(dim).enumerate() {
            row.iter().enumerate().for_each(|(d, v)| columns[d * n + i] = *v);
        }
        let mut factor = cholesky::gram(&columns, dim, l2);
        cholesky::factor(&mut factor, dim)?;
        let mut weights: Vec<f64> =
            sides.iter().flat_map(|y| columns.chunks_exact(n).map(move |column| dot(column, y))).collect();
        cholesky::solve(&factor, dim, &mut weights);
        Ok(weights)
    } else {
        let mut factor = cholesky::gram(x, n, l2);
        cholesky::factor(&mut factor, n)?;
        let mut alpha: Vec<f64> = sides.into_iter().flatten().collect();
        cholesky::solve(&factor, n, &mut alpha);
        let mut weights = vec![0.0; alpha.len() / n * dim];
        weights.par_chunks_exact_mut(dim).zip(alpha.par_chunks_exact(n)).for_each(|(w, alpha)| {
            for (row, a) in x.chunks_exact(dim).zip(alpha) {
                w.iter_mut().zip(row).for_each(|(w, v)| *w += a * v);
            }
        });
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream::Stream;

    fn blobs(n: usize, dim: usize) -> (Vec<f32>, Vec<i32>) {
        let mut s = Stream::new(1, "blobs", 0, 0);
        let class: Vec<i32> = (0..n).map(|i| (i % 3) as i32).collect();
        let x = class
            .iter()
            .flat_map(|&c| {
                (0..dim).map(|d| if d as i32 == c { 3.0 } else { 0.0 } + s.normal() as f32).collect::<Vec<_>>()
            })
            .collect();
        (x, class)
    }

    #[test]
    fn both_closed_forms_agree_where_they_meet() {
        let (x, class) = blobs(12, 30);
        let wide = Ridge::fit(&x, 30, &class, 3, 5.0).unwrap();
        // The same rows repeated until N > D, with λ scaled, is the same problem in the other form.
        let tall: Vec<f32> = x.iter().cycle().take(x.len() * 4).copied().collect();
        let classes: Vec<i32> = class.iter().cycle().take(48).copied().collect();
        let tall = Ridge::fit(&tall, 30, &classes, 3, 20.0).unwrap();
        for (a, b) in wide.scores(&x).iter().zip(tall.scores(&x)) {
            assert!((a - b).abs() < 1e-9, "{a} {b}");
        }
    }

    #[test]
    fn labels_without_unknowns_are_two_class_fits_and_unknown_rows_do_not_matter() {
        let (x, class) = blobs(30, 5);
        let labels: Vec<i8> = class.iter().flat_map(|&c| [i8::from(c == 0), i8::from(c == 1)]).collect();
        let single = Ridge::fit(&x, 5, &class, 3, 1.0).unwrap().scores(&x);
        let multi = Ridge::fit_labels(&x, 5, &labels, 2, 1.0).unwrap();
        for (s, m) in single.chunks(3).zip(multi.scores(&x).chunks(2)) {
            assert!((s[0] - m[0]).abs() < 1e-12 && (s[1] - m[1]).abs() < 1e-12);
        }
        let mut hidden = labels.clone();
        hidden[1] = -1;
        let with = Ridge::fit_labels(&x, 5, &hidden, 2, 1.0).unwrap().scores(&x);
        assert_eq!(with[0], multi.scores(&x)[0]);
        assert_ne!(with[1], multi.scores(&x)[1]);
    }

    #[test]
    fn bad_rows_are_named() {
        let e = Ridge::fit(&[1.0f32, 2.0], 1, &[0, 7], 2, 1.0).unwrap_err();
        assert_eq!(e.to_string(), "probe: row 1 has class 7, known are 0 to 1");
        assert!(Ridge::fit(&[1.0f32, 2.0, 3.0], 2, &[0], 1, 1.0).is_err());
        assert!(Ridge::fit(&[f32::NAN, 2.0], 1, &[0, 1], 2, 1.0).is_err());
    }
}
