//! Multinomial logistic regression on features, by L-BFGS.
//!
//! minimise (1/n) Σ −ln softmax(W·x + b)\[class\] + (λ/2)‖W‖², bias unpenalised: scikit-learn's
//! `LogisticRegression` with C = 1/(λ·n). Of two classes only the difference of the rows of W matters, and
//! scikit-learn penalises that difference w by (λ/2)‖w‖²; since the two rows share it as ±w/2, λ is doubled there.
//! Findings of a multi-label set are such two-class problems, each on the rows where it is known. Gradients are
//! summed over chunks of fixed size in order.

use rayon::prelude::*;

use super::{dot, moments};
use crate::{
    error::{Error, Result},
    eval::lbfgs,
    progress::Cancel,
};

const CHUNK: usize = 128;

/// A fitted classifier.
#[derive(Clone, Debug)]
pub struct Logistic {
    dim: usize,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// One row of `dim + 1` weights (the bias last) a class.
    weights: Vec<f64>,
    /// Whether the gradient tolerance was met.
    pub converged: bool,
}

impl Logistic {
    /// A path over `penalties` (λ), each starting where the last ended; features are standardised
    /// with the training rows' moments. One classifier a penalty, in the order given.
    ///
    /// # Errors
    /// Features or classes do not fit together; [`Error::Interrupted`] within a pass over the rows of the request.
    pub fn path<T: Copy + Into<f64> + Sync>(
        x: &[T],
        dim: usize,
        class: &[i32],
        classes: usize,
        penalties: &[f64],
        cancel: &Cancel,
    ) -> Result<Vec<Self>> {
        let n = class.len();
        if dim == 0 || n == 0 || x.len() != n * dim {
            return Err(Error::invalid(format!("probe: {} feature values for {n} labelled rows of {dim}", x.len())));
        }
        if let Some((row, c)) = class.iter().enumerate().find(|(_, c)| **c < 0 || **c as usize >= classes) {
            return Err(Error::invalid(format!(
                "probe: row {row} has class {c}, known are 0 to {}",
                classes.max(1) - 1
            )));
        }
        let (mean, mut deviation) = moments(x, dim);
        deviation.iter_mut().for_each(|d| *d = if *d > 0.0 { *d } else { 1.0 });
        let rows: Vec<f64> = x.chunks_exact(dim).flat_map(|r| standardise(r, &mean, &deviation)).collect();
        let mut weights = vec![0.0; classes * (dim + 1)];
        let mut out = Vec::with_capacity(penalties.len());
        for &penalty in penalties {
            let penalty = if classes == 2 { 2.0 * penalty } else { penalty };
            // A step to no number is refused, and with all of them the search ends.
            let objective = |w: &[f64], g: &mut [f64]| match cancel.requested() {
                true => f64::NAN,
                false => loss(w, g, &rows, dim + 1, class, penalty),
            };
            let options = lbfgs::Options { iterations: 500, gradient: 1e-8, memory: 10 };
            let minimum = lbfgs::minimise(objective, &weights, options);
            cancel.check()?;
            if !minimum.value.is_finite() {
                return Err(
                    Error::invalid("probe: the logistic loss is not finite").with_hint("look for NaN in the features")
                );
            }
            weights = minimum.x;
            out.push(Logistic {
                dim,
                mean: mean.clone(),
                deviation: deviation.clone(),
                weights: weights.clone(),
                converged: minimum.converged,
            });
        }
        Ok(out)
    }

    /// Logits, rows × classes.
    pub fn logits<T: Copy + Into<f64> + Sync>(&self, x: &[T]) -> Vec<f64> {
        let classes = self.weights.len() / (self.dim + 1);
        let mut out = vec![0.0; x.len() / self.dim * classes];
        out.par_chunks_exact_mut(classes.max(1)).zip(x.par_chunks_exact(self.dim)).for_each(|(out, row)| {
            let row = standardise(row, &self.mean, &self.deviation);
            out.iter_mut().zip(self.weights.chunks_exact(self.dim + 1)).for_each(|(o, w)| *o = dot(&row, w));
        });
        out
    }
}

fn standardise<T: Copy + Into<f64>>(row: &[T], mean: &[f64], deviation: &[f64]) -> Vec<f64> {
    row.iter().zip(mean).zip(deviation).map(|((&v, m), d)| (v.into() - m) / d).chain([1.0]).collect()
}

/// Objective and gradient; `dim` includes the bias column.
fn loss(w: &[f64], gradient: &mut [f64], rows: &[f64], dim: usize, class: &[i32], penalty: f64) -> f64 {
    let n = class.len() as f64;
    let classes = w.len() / dim;
    let parts: Vec<(f64, Vec<f64>)> = rows
        .par_chunks(CHUNK * dim)
        .zip(class.par_chunks(CHUNK))
        .map(|(rows, class)| {
            let mut sum = 0.0;
            let mut gradient = vec![0.0; w.len()];
            let mut z = vec![0.0; classes];
            for (row, &c) in rows.chunks_exact(dim).zip(class) {
                z.iter_mut().zip(w.chunks_exact(dim)).for_each(|(z, w)| *z = dot(row, w));
                let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = z.iter().map(|z| (z - top).exp()).sum();
                sum += total.ln() + top - z[c as usize];
                for (k, g) in gradient.chunks_exact_mut(dim).enumerate() {
                    let p = (z[k] - top).exp() / total - if k == c as usize { 1.0 } else { 0.0 };
                    g.iter_mut().zip(row).for_each(|(g, v)| *g += p * v);
                }
            }
            (sum, gradient)
        })
        .collect();
    gradient.fill(0.0);
    let mut sum = 0.0;
    for (part, g) in &parts {
        sum += part;
        gradient.iter_mut().zip(g).for_each(|(a, b)| *a += b / n);
    }
    let mut norm = 0.0;
    for (g, w) in gradient.chunks_exact_mut(dim).zip(w.chunks_exact(dim)) {
        for (g, w) in g.iter_mut().zip(w).take(dim - 1) {
            *g += penalty * w;
            norm += w * w;
        }
    }
    sum / n + penalty / 2.0 * norm
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::metric::probability::softmax;

    /// from sklearn.linear_model import LogisticRegression; X = [[0, 1], [1, 0], [1, 1], [2, 0], [0, 2], [2, 2]];
    /// y = [0, 1, 2, 1, 0, 2]; Z = (X - X.mean(0)) / X.std(0); LogisticRegression(C=1/(0.1 * 6), tol=1e-12).fit(Z, y).predict_proba(Z)[0]
    #[test]
    fn probabilities_are_scikit_learns() {
        let x = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 2.0, 0.0, 0.0, 2.0, 2.0, 2.0f64];
        let fit = &Logistic::path(&x, 2, &[0, 1, 2, 1, 0, 2], 3, &[1.0, 0.1], &Cancel::default()).unwrap()[1];
        assert!(fit.converged);
        let p = softmax(&fit.logits(&x[..2]), 3);
        for (a, b) in p.iter().zip(SKLEARN) {
            assert!((a - b).abs() < 1e-6, "{p:?}");
        }
    }

    const SKLEARN: [f64; 3] = [0.740_830_872_566_854_9, 0.103_011_043_003_018_68, 0.156_158_084_430_126_5];

    #[test]
    fn sums_do_not_depend_on_threads() {
        let mut s = crate::random::stream::Stream::new(0, "logistic test", 0, 0);
        let x: Vec<f32> = (0..600 * 4).map(|_| s.normal() as f32).collect();
        let class: Vec<i32> = (0..600).map(|i| i % 3).collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Logistic::path(&x, 4, &class, 3, &[0.01], &Cancel::default()).unwrap()[0].logits(&x))
        };
        assert_eq!(run(1), run(2));
    }
}
