//! Many runs as one number: interquartile mean and probability of improvement (Agarwal et al. 2021).

use super::mean;

/// Mean of the middle half: a quarter of the values (rounded down) is cut off at each end.
pub fn interquartile_mean(x: &[f64]) -> Option<f64> {
    if x.iter().any(|v| v.is_nan()) {
        return None;
    }
    let mut sorted = x.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 4;
    mean(&sorted[cut..sorted.len() - cut])
}

/// P(X > Y) + ½ P(X = Y) over all pairs; `None` where one side is empty or holds a NaN.
pub fn probability_of_improvement(x: &[f64], y: &[f64]) -> Option<f64> {
    let scores: Vec<f64> = x.iter().chain(y).copied().collect();
    let from_x: Vec<bool> = (0..scores.len()).map(|i| i < x.len()).collect();
    crate::eval::metric::ranking::auroc(&scores, &from_x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_half_ignores_outliers() {
        assert_eq!(interquartile_mean(&[1.0, 2.0, 3.0, 1000.0]), Some(2.5));
        assert_eq!(interquartile_mean(&[]), None);
        assert_eq!(probability_of_improvement(&[2.0, 3.0], &[1.0, 2.0]), Some(0.875));
        assert_eq!(probability_of_improvement(&[], &[1.0]), None);
    }
}
