//! AUCs of correlated ROC curves on the same cases, after DeLong et al. (1988), in O(n log n) by
//! mid-ranks (Sun & Xu 2014).
//!
//! For scorer r, V₁₀(i) is the share of negatives that positive i outscores and V₀₁(j) the share of
//! positives that outscore negative j (ties half). Their covariances over positives and over negatives,
//! divided by the counts and added, are the covariance of the AUCs.

use super::{
    distribution::{normal_quantile, normal_two_sided},
    interval::Interval,
    paired::Test,
};

/// AUCs of several scorers on the same cases.
#[derive(Clone, Debug)]
pub struct DeLong {
    pub auc: Vec<f64>,
    /// Row-major, scorers × scorers.
    pub covariance: Vec<f64>,
}

/// Mid-ranks (1-based) in the order given.
fn mid_ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let mut out = vec![0.0; x.len()];
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && x[order[end]] == x[order[start]] {
            end += 1;
        }
        for &i in &order[start..end] {
            out[i] = (start + end + 1) as f64 / 2.0;
        }
        start = end;
    }
    out
}

impl DeLong {
    /// `scores`: one slice a scorer, each with a score for every case. `None` with fewer than two
    /// positives or negatives, with a NaN, or where lengths differ.
    pub fn new(scores: &[&[f64]], positive: &[bool]) -> Option<Self> {
        let m = positive.iter().filter(|&&y| y).count();
        let n = positive.len() - m;
        if m < 2 || n < 2 || scores.iter().any(|s| s.len() != positive.len() || s.iter().any(|v| v.is_nan())) {
            return None;
        }
        let mut auc = Vec::new();
        let mut of_positive: Vec<Vec<f64>> = Vec::new();
        let mut of_negative: Vec<Vec<f64>> = Vec::new();
        for s in scores {
            let s: Vec<f64> = s.iter().map(|v| v + 0.0).collect();
            let pick = |want: bool| -> Vec<f64> {
                s.iter().zip(positive).filter(|(_, y)| **y == want).map(|(v, _)| *v).collect()
            };
            let (x, y) = (pick(true), pick(false));
            let all: Vec<f64> = x.iter().chain(&y).copied().collect();
            let (tx, ty, tz) = (mid_ranks(&x), mid_ranks(&y), mid_ranks(&all));
            let v10: Vec<f64> = (0..m).map(|i| (tz[i] - tx[i]) / n as f64).collect();
            let v01: Vec<f64> = (0..n).map(|j| 1.0 - (tz[m + j] - ty[j]) / m as f64).collect();
            auc.push(v10.iter().sum::<f64>() / m as f64);
            of_positive.push(v10);
            of_negative.push(v01);
        }
        let k = scores.len();
        let mut covariance = vec![0.0; k * k];
        for r in 0..k {
            for s in 0..k {
                covariance[r * k + s] =
                    cov(&of_positive[r], &of_positive[s]) / m as f64 + cov(&of_negative[r], &of_negative[s]) / n as f64;
            }
        }
        Some(DeLong { auc, covariance })
    }

    pub fn variance(&self, scorer: usize) -> f64 {
        self.covariance[scorer * self.auc.len() + scorer]
    }

    /// AUC ± z·SE. It can leave [0, 1] near a perfect score; it is not clipped, so that this shows. `None` where
    /// the variance is 0 (a perfect or a constant score), from which no interval follows.
    pub fn interval(&self, scorer: usize, level: f64) -> Option<Interval> {
        around(self.auc[scorer], self.variance(scorer), level)
    }

    /// AUC(a) − AUC(b) ± z·SE; `None` where the difference has no variance.
    pub fn difference(&self, a: usize, b: usize, level: f64) -> Option<Interval> {
        around(self.auc[a] - self.auc[b], self.variance_of_difference(a, b), level)
    }

    fn variance_of_difference(&self, a: usize, b: usize) -> f64 {
        self.variance(a) + self.variance(b) - 2.0 * self.covariance[a * self.auc.len() + b]
    }

    /// z and two-sided p of AUC(a) − AUC(b); `None` where the difference has no variance.
    pub fn test(&self, a: usize, b: usize) -> Option<Test> {
        let v = self.variance_of_difference(a, b);
        let z = (self.auc[a] - self.auc[b]) / v.sqrt();
        (v > 0.0 && z.is_finite()).then(|| Test { statistic: z, p: normal_two_sided(z) })
    }
}

fn around(value: f64, variance: f64, level: f64) -> Option<Interval> {
    let half = normal_quantile(0.5 + level / 2.0) * variance.sqrt();
    (variance > 0.0 && half.is_finite()).then_some(Interval { value, low: value - half, high: value + half })
}

fn cov(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum::<f64>() / (n - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scorer_does_not_differ_from_itself() {
        let s = [0.1, 0.4, 0.35, 0.8, 0.4];
        let y = [false, false, true, true, true];
        let d = DeLong::new(&[&s, &s], &y).unwrap();
        assert_eq!(Some(d.auc[0]), crate::eval::metric::ranking::auroc(&s, &y));
        assert_eq!((d.test(0, 1), d.difference(0, 1, 0.95)), (None, None));
        let constant = DeLong::new(&[&[0.5; 5]], &y).unwrap();
        assert_eq!((constant.auc[0], constant.interval(0, 0.95)), (0.5, None));
        assert!(DeLong::new(&[&s], &[false, true, false, false, false]).is_none());
    }
}
