//! Tests of the difference of two methods measured on the same seeds, folds or targets.
//!
//! All are two-sided. With n pairs the exact tests cannot give less than 2/2ⁿ: 0.0625 for five seeds,
//! which [`smallest_p`] says so that a report can put it in words.

use super::{distribution::t_two_sided, mean, variance};

/// A statistic and its two-sided p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Test {
    pub statistic: f64,
    pub p: f64,
}

/// Beyond this many non-zero differences, exact tests would need more than 2²⁴ sign patterns.
const EXACT: usize = 24;

/// x − y, pair by pair; `None` where lengths differ or a value is not finite.
pub fn differences(x: &[f64], y: &[f64]) -> Option<Vec<f64>> {
    let d: Vec<f64> = x.iter().zip(y).map(|(a, b)| a - b).collect();
    (x.len() == y.len() && d.iter().all(|v| v.is_finite())).then_some(d)
}

/// The smallest two-sided p that an exact test of `n` pairs can give.
pub fn smallest_p(n: usize) -> f64 {
    2.0f64.powi(1 - n.min(1000) as i32).min(1.0)
}

/// Paired t test. `None` with fewer than two pairs or with equal differences.
pub fn t_test(d: &[f64]) -> Option<Test> {
    corrected(d, 0.0)
}

/// The t test of Nadeau and Bengio (2003) for overlapping training sets: the variance is multiplied
/// by 1/n + `rho`, where `rho` is test size / training size.
pub fn nadeau_bengio(d: &[f64], rho: f64) -> Option<Test> {
    corrected(d, rho)
}

fn corrected(d: &[f64], rho: f64) -> Option<Test> {
    let (m, v) = (mean(d)?, variance(d)?);
    let n = d.len() as f64;
    // Differences that are equal but for their last bits have no spread to test against.
    if v.sqrt() <= 1e-12 * d.iter().fold(0.0f64, |m, v| m.max(v.abs())) {
        return None;
    }
    let t = m / ((1.0 / n + rho) * v).sqrt();
    t.is_finite().then(|| Test { statistic: t, p: t_two_sided(t, n - 1.0) })
}

/// Wilcoxon's signed-rank test, exact over all sign patterns of the ranks (mid-ranks where
/// differences tie, zeros dropped). The statistic is the smaller rank sum.
///
/// Differences of decimals (0.81 − 0.79, 0.85 − 0.83) are equal only up to their last bits: what is
/// within 1e-12 of the largest is a tie, or a zero.
/// `None` without a non-zero difference. Beyond 24 pairs the distribution is still exact, by
/// counting rank sums.
pub fn wilcoxon(d: &[f64]) -> Option<Test> {
    if d.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let noise = 1e-12 * d.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let mut d: Vec<f64> = d.iter().copied().filter(|v| v.abs() > noise).collect();
    if d.is_empty() {
        return None;
    }
    d.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Twice the mid-rank is an integer, so rank sums are counted exactly.
    let mut twice = vec![0usize; d.len()];
    let mut start = 0;
    while start < d.len() {
        let mut end = start + 1;
        while end < d.len() && d[end].abs() - d[start].abs() <= noise {
            end += 1;
        }
        twice[start..end].fill(start + end + 1);
        start = end;
    }
    let total: usize = twice.iter().sum();
    let plus: usize = twice.iter().zip(&d).filter(|(_, v)| **v > 0.0).map(|(r, _)| r).sum();
    let small = plus.min(total - plus);
    // probability[s]: share of sign patterns whose positive rank sum (doubled) is s.
    let mut probability = vec![0.0f64; total + 1];
    probability[0] = 1.0;
    let mut reach = 0;
    for &r in &twice {
        for s in (0..=reach).rev() {
            let half = probability[s] / 2.0;
            probability[s] = half;
            probability[s + r] += half;
        }
        reach += r;
    }
    let p = 2.0 * probability[..=small].iter().sum::<f64>();
    Some(Test { statistic: small as f64 / 2.0, p: p.min(1.0) })
}

/// The exact sign-flip (permutation) test of the mean difference: the share of all 2ⁿ sign patterns
/// whose |mean| is at least the observed one. The statistic is the mean difference.
///
/// `None` without pairs, or with more than 24 of them (use [`t_test`] or a bootstrap there).
pub fn sign_flip(d: &[f64]) -> Option<Test> {
    if d.is_empty() || d.len() > EXACT || d.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let sum: f64 = d.iter().sum();
    // Sums that are equal in decimals differ in the last bits; such a difference is no evidence.
    let bound = sum.abs() - 1e-12 * d.iter().map(|v| v.abs()).sum::<f64>();
    let hits = (0..1u32 << d.len())
        .filter(|pattern| {
            let flipped: f64 = d.iter().enumerate().map(|(i, v)| if pattern >> i & 1 == 1 { -v } else { *v }).sum();
            flipped.abs() >= bound
        })
        .count();
    Some(Test { statistic: sum / d.len() as f64, p: hits as f64 / f64::from(1u32 << d.len()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_differences_have_no_t() {
        let d: Vec<f64> = [(0.7, 0.5), (0.8, 0.6), (0.9, 0.7)].iter().map(|(a, b)| a - b).collect();
        assert!(d[0] != d[2] && t_test(&d).is_none() && nadeau_bengio(&d, 0.25).is_none());
    }

    #[test]
    fn five_seeds_cannot_reach_five_percent() {
        let d = [0.1, 0.2, 0.15, 0.3, 0.05];
        assert_eq!(sign_flip(&d).unwrap().p, smallest_p(5));
        assert_eq!(wilcoxon(&d).unwrap().p, 0.0625);
        assert!(t_test(&d).unwrap().p < 0.05);
    }

    /// scipy.stats.wilcoxon([1, -2, 3, 4, 5, -6, 7, 8]): statistic 8.0, p 0.1953125.
    #[test]
    fn wilcoxon_without_ties_is_scipys() {
        let t = wilcoxon(&[1.0, -2.0, 3.0, 4.0, 5.0, -6.0, 7.0, 8.0, 0.0]).unwrap();
        assert_eq!((t.statistic, t.p), (8.0, 0.1953125));
    }

    #[test]
    fn no_difference_is_undefined_where_it_must_be() {
        assert_eq!(t_test(&[0.0, 0.0, 0.0]), None);
        assert_eq!(wilcoxon(&[0.0, 0.0]), None);
        assert_eq!(sign_flip(&[0.0, 0.0]).unwrap().p, 1.0);
        assert_eq!(t_test(&[0.3]), None);
        assert_eq!(differences(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(sign_flip(&[0.1; 25]), None);
    }
}
