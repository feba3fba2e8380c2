//! The interval of a mean over few repeats, by Student's t.

use super::{distribution::t_quantile, mean, variance};

/// A value and where it may lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// Mean ± t·s/√n at `level` (0.95). `None` with fewer than two repeats: one seed has no interval.
pub fn t_interval(x: &[f64], level: f64) -> Option<Interval> {
    let (m, v) = (mean(x)?, variance(x)?);
    let n = x.len() as f64;
    let half = t_quantile(0.5 + level / 2.0, n - 1.0) * (v / n).sqrt();
    half.is_finite().then_some(Interval { value: m, low: m - half, high: m + half })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_has_no_interval_and_equal_seeds_have_a_point() {
        assert_eq!(t_interval(&[0.8], 0.95), None);
        let i = t_interval(&[0.5, 0.5, 0.5], 0.95).unwrap();
        assert_eq!((i.low, i.high), (0.5, 0.5));
        assert_eq!(t_interval(&[0.5, f64::NAN], 0.95), None);
    }
}
