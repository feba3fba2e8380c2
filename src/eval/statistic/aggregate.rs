//! Many runs as one number: interquartile mean and probability of improvement (Agarwal et al. 2021).

use rayon::prelude::*;

use super::{bootstrap::Bootstrap, mean};
use crate::random::stream::Stream;

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

/// Mean over targets of [`probability_of_improvement`] of that target's runs; `None` where one is not defined.
pub fn mean_improvement(x: &[Vec<f64>], y: &[Vec<f64>]) -> Option<f64> {
    let each: Option<Vec<f64>> = x.iter().zip(y).map(|(x, y)| probability_of_improvement(x, y)).collect();
    mean(&each.filter(|_| x.len() == y.len())?)
}

/// Draws runs with replacement within every stratum (a target): how far would the statistic move with other seeds,
/// the targets being these. Resample b has its own stream, so that intervals do not depend on threads.
///
/// `None` where the statistic is not defined on the sample, or a stratum has fewer than two runs.
pub fn stratified(
    strata: &[Vec<f64>],
    resamples: usize,
    seed: u64,
    statistic: impl Fn(&[Vec<f64>]) -> Option<f64> + Sync,
) -> Option<Bootstrap> {
    if strata.is_empty() || strata.iter().any(|s| s.len() < 2) {
        return None;
    }
    let value = statistic(strata).filter(|v| v.is_finite())?;
    let draws = (0..resamples as u64)
        .into_par_iter()
        .map(|b| {
            let mut stream = Stream::new(seed, "bootstrap stratified", 0, b);
            let drawn: Vec<Vec<f64>> = strata
                .iter()
                .map(|s| (0..s.len()).map(|_| s[stream.below(s.len() as u64) as usize]).collect())
                .collect();
            statistic(&drawn).filter(|v| v.is_finite())
        })
        .collect();
    super::bootstrap::summarise(value, draws, None)
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

    #[test]
    fn strata_are_drawn_on_their_own() {
        let strata = [vec![0.0, 0.0, 0.0], vec![10.0, 12.0]];
        let all = |s: &[Vec<f64>]| mean(&s.concat());
        let b = stratified(&strata, 400, 0, all).unwrap();
        let i = b.percentile(0.95).unwrap();
        assert_eq!((b.value, i.low, i.high), (4.4, 4.0, 4.8), "the first stratum never moves, the second has 3 means");
        assert!(stratified(&[vec![1.0], vec![1.0, 2.0]], 10, 0, all).is_none());
        assert_eq!(mean_improvement(&[vec![2.0], vec![0.0]], &[vec![1.0], vec![0.0]]), Some(0.75));
        assert_eq!(mean_improvement(&[vec![2.0]], &[vec![]]), None);
    }
}
