//! Statistics of repeated measurements and of cases.
//!
//! | question | file |
//! |---|---|
//! | how far does the mean of these seeds reach | [`interval`] |
//! | and of these cases, patients, or seeds and cases at once | [`bootstrap`] |
//! | do two methods on the same seeds differ | [`paired`] |
//! | do two scores on the same cases differ in AUC | [`delong`] |
//! | what is left after many such questions | [`correction`] |
//! | several targets as one number | [`aggregate`] |
//!
//! How an error falls with scale is asked in [`super::scaling`]. Nothing here rounds or decides what is significant.

pub mod aggregate;
pub mod bootstrap;
pub mod correction;
pub mod delong;
pub mod distribution;
pub mod interval;
pub mod paired;

/// Arithmetic mean, summed in order; `None` without values.
pub fn mean(x: &[f64]) -> Option<f64> {
    (!x.is_empty()).then(|| x.iter().sum::<f64>() / x.len() as f64)
}

/// Variance with n − 1 in the denominator; `None` with fewer than two values.
pub fn variance(x: &[f64]) -> Option<f64> {
    let m = mean(x)?;
    (x.len() > 1).then(|| x.iter().map(|v| (v - m) * (v - m)).sum::<f64>() / (x.len() - 1) as f64)
}

/// Quantile by linear interpolation between order statistics (NumPy's default) of sorted values.
pub fn quantile_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = q.clamp(0.0, 1.0) * last as f64;
    let low = at.floor() as usize;
    let (a, b) = (sorted[low], sorted[(low + 1).min(last)]);
    Some(a + (b - a) * (at - low as f64))
}
