//! Symmetric systems: Gram matrices and Cholesky's factor, in parallel, with sums of fixed order.

use rayon::prelude::*;

use super::dot;
use crate::error::{Error, Result};

/// Rows factored together before the rest is updated.
const BLOCK: usize = 48;

/// X·Xᵀ + ridge·I of `n` rows; the lower triangle is filled, the upper is 0.
pub fn gram(x: &[f64], n: usize, ridge: f64) -> Vec<f64> {
    let dim = x.len().checked_div(n).unwrap_or(0);
    let mut out = vec![0.0; n * n];
    out.par_chunks_exact_mut(n.max(1)).enumerate().for_each(|(i, row)| {
        let a = &x[i * dim..(i + 1) * dim];
        for j in 0..=i {
            row[j] = dot(a, &x[j * dim..(j + 1) * dim]);
        }
        row[i] += ridge;
    });
    out
}

/// The lower factor L of a symmetric positive definite matrix, in place of its lower triangle.
///
/// # Errors
/// Where the matrix is not positive definite (features with NaN, or no regularisation).
pub fn factor(matrix: &mut [f64], n: usize) -> Result<()> {
    for start in (0..n).step_by(BLOCK) {
        let end = (start + BLOCK).min(n);
        for i in start..end {
            let (above, row) = matrix.split_at_mut(i * n);
            let row = &mut row[..n];
            for j in start..i {
                let other = &above[j * n..j * n + n];
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
            let pivot = row[i] - dot(&row[..i], &row[..i]);
            if pivot.is_nan() || pivot <= 0.0 {
                return Err(Error::invalid(format!(
                    "features do not determine a ridge solution: pivot {i} of {n} is {pivot}"
                ))
                .with_hint("look for NaN in the features, or raise l2"));
            }
            row[i] = pivot.sqrt();
        }
        let (done, rest) = matrix.split_at_mut(end * n);
        let done = &*done;
        rest.par_chunks_exact_mut(n).for_each(|row| {
            for j in start..end {
                let other = &done[j * n..j * n + n];
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
        });
    }
    Ok(())
}

/// Solves L·Lᵀ·x = b for every right side: `sides` holds them one after the other, `n` values each.
pub fn solve(factor: &[f64], n: usize, sides: &mut [f64]) {
    sides.par_chunks_exact_mut(n.max(1)).for_each(|b| {
        for i in 0..n {
            b[i] = (b[i] - dot(&factor[i * n..i * n + i], &b[..i])) / factor[i * n + i];
        }
        for i in (0..n).rev() {
            b[i] /= factor[i * n + i];
            let value = b[i];
            b[..i].iter_mut().zip(&factor[i * n..i * n + i]).for_each(|(b, l)| *b -= value * l);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream::Stream;

    #[test]
    fn a_solution_solves_its_system() {
        let (n, dim) = (113, 40);
        let mut s = Stream::new(0, "cholesky test", 0, 0);
        let x: Vec<f64> = (0..n * dim).map(|_| s.normal()).collect();
        let matrix = gram(&x, n, 0.5);
        let mut l = matrix.clone();
        factor(&mut l, n).unwrap();
        let right: Vec<f64> = (0..2 * n).map(|_| s.normal()).collect();
        let mut found = right.clone();
        solve(&l, n, &mut found);
        for (b, x) in right.chunks(n).zip(found.chunks(n)) {
            for i in 0..n {
                let sum: f64 = (0..n).map(|j| matrix[i.max(j) * n + i.min(j)] * x[j]).sum();
                assert!((sum - b[i]).abs() < 1e-9, "{sum} {}", b[i]);
            }
        }
    }

    #[test]
    fn a_singular_system_is_an_error() {
        let mut m = gram(&[1.0, 2.0, 2.0, 4.0], 2, 0.0);
        assert!(factor(&mut m, 2).unwrap_err().to_string().contains("pivot 1 of 2"));
    }
}
