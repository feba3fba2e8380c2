//! Logits to probabilities, in float64.
//!
//! The published numbers come from `exp(x) / Σ exp(x)` without subtracting the largest logit. Ranks
//! across rows depend on such last bits where probabilities tie, so the same expression is used as
//! long as it cannot overflow.

/// Beyond this, `exp` of a row could overflow in a sum, and the largest logit is subtracted first.
const SAFE: f64 = 500.0;

/// Softmax of every row of `width` logits. A row with a NaN stays NaN.
pub fn softmax<T: Copy + Into<f64>>(logits: &[T], width: usize) -> Vec<f64> {
    let mut out: Vec<f64> = logits.iter().map(|&x| x.into()).collect();
    if width == 0 {
        return out;
    }
    for row in out.chunks_exact_mut(width) {
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let low = row.iter().copied().fold(f64::INFINITY, f64::min);
        let shift = if top > SAFE || low < -SAFE { top } else { 0.0 };
        let mut sum = 0.0;
        for x in row.iter_mut() {
            *x = (*x - shift).exp();
            sum += *x;
        }
        row.iter_mut().for_each(|x| *x /= sum);
    }
    out
}

/// 1 / (1 + exp(-x)), without overflow.
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_survives_huge_logits_and_sums_to_one() {
        let p = softmax(&[1000.0, 0.0, -1000.0, 1.0, 2.0, 3.0], 3);
        assert_eq!(&p[..3], &[1.0, 0.0, 0.0]);
        assert!((p[3..].iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert!(softmax(&[f64::NAN, 1.0], 2).iter().all(|x| x.is_nan()));
    }

    #[test]
    fn sigmoid_is_symmetric_at_both_ends() {
        for x in [0.0, 0.3, 5.0, 700.0, 1e5] {
            assert!((sigmoid(x) + sigmoid(-x) - 1.0).abs() < 1e-15, "{x}");
        }
        assert!(sigmoid(-700.0) > 0.0);
    }
}
