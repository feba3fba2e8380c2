//! Losses on logits with their gradients: softmax cross-entropy and masked sigmoid cross-entropy.
//!
//! Each is a sum of terms times a scale given by the caller, so that micro-batches add up to the
//! whole batch exactly. A term is an example for classes and a *known* label for multi-label
//! targets; an unknown label is no term and has no gradient.

use crate::error::{Error, Result};

/// What the logits should say. Row-major, `n * classes` where there is more than one value an example.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// A class index for each example.
    Class(&'a [i32]),
    /// Class probabilities for each example, as mixup and label smoothing make them.
    Soft(&'a [f32]),
    /// 1, 0 or -1 for unknown, for each label of each example.
    Multi(&'a [i8]),
    /// Probabilities of labels and which of them are known.
    MultiSoft { values: &'a [f32], known: &'a [bool] },
}

impl Targets<'_> {
    /// The number of terms that a mean loss divides by: examples, or known labels.
    pub fn terms(&self, classes: usize) -> usize {
        match self {
            Targets::Class(y) => y.len(),
            Targets::Soft(y) => y.len() / classes,
            Targets::Multi(y) => y.iter().filter(|&&v| v >= 0).count(),
            Targets::MultiSoft { known, .. } => known.iter().filter(|&&k| k).count(),
        }
    }

    /// An error unless there is one target for each of `n` examples and `classes` logits.
    pub fn check(&self, n: usize, classes: usize) -> Result<()> {
        let (found, wanted) = match self {
            Targets::Class(y) => (y.len(), n),
            Targets::Soft(y) => (y.len(), n * classes),
            Targets::Multi(y) => (y.len(), n * classes),
            Targets::MultiSoft { values, known } if values.len() == known.len() => (values.len(), n * classes),
            Targets::MultiSoft { values, known } => {
                return Err(Error::invalid(format!("{} label values but {} known flags", values.len(), known.len())));
            }
        };
        if found != wanted {
            return Err(Error::invalid(format!(
                "{found} targets for {n} images and {classes} classes, expected {wanted}"
            )));
        }
        if let Targets::Class(y) = self
            && let Some(bad) = y.iter().find(|&&c| c < 0 || c as usize >= classes)
        {
            return Err(Error::invalid(format!("class {bad} is not one of {classes} classes")));
        }
        Ok(())
    }

    /// The sum of the terms times `scale`; writes the gradient of that sum to `gradient`.
    ///
    /// `logits` and `gradient` are `n * classes`; call [`Targets::check`] first.
    pub fn loss(&self, logits: &[f32], classes: usize, scale: f64, gradient: &mut [f32]) -> f64 {
        let rows = logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).enumerate();
        let terms = rows.map(|(i, (z, g))| match self {
            Targets::Class(y) => {
                let y = y[i] as usize;
                softmax(z, g, scale, |j| if j == y { 1.0 } else { 0.0 })
            }
            Targets::Soft(y) => softmax(z, g, scale, |j| f64::from(y[i * classes + j])),
            Targets::Multi(y) => sigmoid(z, g, scale, |j| match y[i * classes + j] {
                v if v < 0 => None,
                v => Some(f64::from(v)),
            }),
            Targets::MultiSoft { values, known } => {
                sigmoid(z, g, scale, |j| known[i * classes + j].then(|| f64::from(values[i * classes + j])))
            }
        });
        terms.sum::<f64>() * scale
    }
}

/// `sum_j y_j (log sum_k exp z_k - z_j)`; its gradient is `p_j sum_k y_k - y_j`.
fn softmax(z: &[f32], gradient: &mut [f32], scale: f64, y: impl Fn(usize) -> f64) -> f64 {
    let top = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let top = f64::from(if z.iter().any(|v| v.is_nan()) { f32::NAN } else { top });
    let total: f64 = z.iter().map(|&v| (f64::from(v) - top).exp()).sum();
    let log_total = total.ln() + top;
    let mass: f64 = (0..z.len()).map(&y).sum();
    let mut loss = 0.0;
    for (j, (&v, g)) in z.iter().zip(gradient).enumerate() {
        let (v, y) = (f64::from(v), y(j));
        if y != 0.0 {
            loss += y * (log_total - v);
        }
        *g = (scale * ((v - log_total).exp() * mass - y)) as f32;
    }
    loss
}

/// `sum_j max(z, 0) - z y + log(1 + exp(-|z|))` over known labels; its gradient is `sigmoid(z) - y`.
fn sigmoid(z: &[f32], gradient: &mut [f32], scale: f64, y: impl Fn(usize) -> Option<f64>) -> f64 {
    let mut loss = 0.0;
    for (j, (&v, g)) in z.iter().zip(gradient).enumerate() {
        let z = f64::from(v);
        match y(j) {
            None => *g = 0.0,
            Some(y) => {
                // `f64::max` would hide a NaN.
                let positive = if z < 0.0 { 0.0 } else { z };
                loss += positive - z * y + (-z.abs()).exp().ln_1p();
                let e = (-z.abs()).exp();
                let p = if z >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
                *g = (scale * (p - y)) as f32;
            }
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(targets: &Targets<'_>, z: &[f32], classes: usize) -> f64 {
        targets.loss(z, classes, 0.25, &mut vec![0.0; z.len()])
    }

    #[test]
    fn gradients_match_differences() {
        let z = [0.3f32, -1.5, 2.0, 8.0, -6.0, 0.1];
        let all: [(Targets<'_>, usize); 4] = [
            (Targets::Class(&[2, 0]), 3),
            (Targets::Soft(&[0.2, 0.5, 0.3, 0.0, 0.9, 0.0]), 3),
            (Targets::Multi(&[1, 0, -1, -1, 1, 0]), 3),
            (
                Targets::MultiSoft {
                    values: &[0.9, 0.1, 0.5, 0.3, 1.0, 0.0],
                    known: &[true, true, false, true, true, true],
                },
                3,
            ),
        ];
        for (targets, classes) in all {
            let mut gradient = vec![0.0; z.len()];
            targets.check(2, classes).unwrap();
            targets.loss(&z, classes, 0.25, &mut gradient);
            for i in 0..z.len() {
                let (mut up, mut down) = (z, z);
                up[i] += 1e-2;
                down[i] -= 1e-2;
                let slope =
                    (value(&targets, &up, classes) - value(&targets, &down, classes)) / f64::from(up[i] - down[i]);
                assert!((slope - f64::from(gradient[i])).abs() < 1e-5, "{targets:?} {i}: {slope} {}", gradient[i]);
            }
        }
    }

    #[test]
    fn confident_logits_stay_finite_and_nan_stays_nan() {
        let mut gradient = [0.0; 2];
        let loss = Targets::Multi(&[0, 1]).loss(&[500.0, -500.0], 2, 1.0, &mut gradient);
        assert_eq!((loss, gradient), (1000.0, [1.0, -1.0]));
        assert!(Targets::Class(&[1]).loss(&[f32::NAN, 0.0], 2, 1.0, &mut gradient).is_nan());
        assert!(Targets::Multi(&[1, 0]).loss(&[f32::NAN, 0.0], 2, 1.0, &mut gradient).is_nan());
    }

    #[test]
    fn unknown_labels_are_no_terms() {
        assert_eq!(Targets::Multi(&[1, -1, 0, -1]).terms(2), 2);
        assert!(Targets::Multi(&[1, -1, 0]).check(2, 2).is_err());
        assert!(Targets::Class(&[0, 2]).check(2, 2).unwrap_err().to_string().contains("class 2"));
    }
}
