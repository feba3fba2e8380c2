//! Metrics of probabilities as such: log loss, Brier score, expected calibration error.
//!
//! Log loss clips probabilities to [2⁻⁵², 1 − 2⁻⁵²] as scikit-learn does for float64.

const EPSILON: f64 = f64::EPSILON;

/// −mean ln P(truth) of a binary task; `None` without rows or with a NaN.
pub fn log_loss(probability: &[f64], positive: &[bool]) -> Option<f64> {
    mean(probability.iter().zip(positive).map(|(&p, &y)| {
        let p = clip(p);
        -(if y { p } else { 1.0 - p }).ln()
    }))
}

/// −mean ln P(class) over known rows of a single-label task.
pub fn log_loss_classes(probability: &[f64], width: usize, class: &[i32]) -> Option<f64> {
    mean(known(probability, width, class).map(|(row, c)| -clip(row[c]).ln()))
}

/// Mean squared distance to the truth of a binary task.
pub fn brier(probability: &[f64], positive: &[bool]) -> Option<f64> {
    mean(probability.iter().zip(positive).map(|(&p, &y)| {
        let d = p - f64::from(u8::from(y));
        d * d
    }))
}

/// Mean over rows of Σ over classes of the squared distance: between 0 and 2, halved for two
/// classes so that it agrees with the binary score (scikit-learn's `scale_by_half="auto"`).
pub fn brier_classes(probability: &[f64], width: usize, class: &[i32]) -> Option<f64> {
    let scale = if width == 2 { 0.5 } else { 1.0 };
    mean(known(probability, width, class).map(|(row, c)| {
        let sum: f64 = row
            .iter()
            .enumerate()
            .map(|(i, &p)| {
                let d = p - if i == c { 1.0 } else { 0.0 };
                d * d
            })
            .sum();
        scale * sum
    }))
}

/// Expected calibration error over `bins` equal bins (lo, hi] of [0, 1]: Σ share·|mean truth − mean
/// probability|. For a single-label task `probability` is that of the predicted class and `right`
/// whether it was right (Guo et al. 2017); for one finding, its probability and its truth.
pub fn ece(probability: &[f64], right: &[bool], bins: usize) -> Option<f64> {
    if probability.is_empty() || bins == 0 || probability.iter().any(|p| !(0.0..=1.0).contains(p)) {
        return None;
    }
    let mut rows = vec![(0u64, 0u64, 0.0f64); bins];
    for (&p, &y) in probability.iter().zip(right) {
        let bin = ((p * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        rows[bin].0 += 1;
        rows[bin].1 += u64::from(y);
        rows[bin].2 += p;
    }
    let n = probability.len() as f64;
    Some(rows.iter().filter(|b| b.0 > 0).map(|&(_, hits, sum)| (hits as f64 - sum).abs() / n).sum())
}

fn clip(p: f64) -> f64 {
    if p.is_nan() { p } else { p.clamp(EPSILON, 1.0 - EPSILON) }
}

fn known<'a>(probability: &'a [f64], width: usize, class: &'a [i32]) -> impl Iterator<Item = (&'a [f64], usize)> {
    probability
        .chunks_exact(width.max(1))
        .zip(class)
        .filter(move |(_, c)| **c >= 0 && (**c as usize) < width)
        .map(|(row, &c)| (row, c as usize))
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0u64);
    for v in values {
        sum += v;
        n += 1;
    }
    let mean = sum / n as f64;
    mean.is_finite().then_some(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_classes_agree_with_the_binary_scores() {
        let positive = [true, false, true];
        let p = [0.9, 0.4, 0.2];
        let both: Vec<f64> = p.iter().flat_map(|&p| [1.0 - p, p]).collect();
        let class = [1, 0, 1];
        assert!((brier(&p, &positive).unwrap() - brier_classes(&both, 2, &class).unwrap()).abs() < 1e-15);
        assert!((log_loss(&p, &positive).unwrap() - log_loss_classes(&both, 2, &class).unwrap()).abs() < 1e-15);
    }

    #[test]
    fn certainty_that_is_wrong_costs_much_but_not_infinity() {
        let loss = log_loss(&[0.0], &[true]).unwrap();
        assert!((loss - 36.04365338911715).abs() < 1e-12, "{loss}");
        assert_eq!(log_loss(&[f64::NAN], &[true]), None);
        assert_eq!(brier(&[], &[]), None);
    }

    #[test]
    fn perfectly_calibrated_bins_have_no_error() {
        let p = [0.25, 0.25, 0.25, 0.25, 1.0, 0.0];
        assert_eq!(ece(&p, &[true, false, false, false, true, false], 15), Some(0.0));
        assert_eq!(ece(&[1.0], &[false], 15), Some(1.0));
        assert_eq!(ece(&[1.5], &[false], 15), None);
    }
}
