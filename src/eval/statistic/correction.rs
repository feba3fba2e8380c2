//! p values adjusted for having asked many questions.

fn order(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]).then(a.cmp(&b)));
    order
}

/// Holm's step-down adjustment (family-wise error). Same order as given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; p.len()];
    let mut largest: f64 = 0.0;
    for (rank, i) in order(p).into_iter().enumerate() {
        largest = largest.max((p.len() - rank) as f64 * p[i]);
        out[i] = largest.min(1.0);
    }
    out
}

/// Benjamini and Hochberg's step-up adjustment (false discovery rate). Same order as given.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; p.len()];
    let mut smallest: f64 = 1.0;
    for (rank, i) in order(p).into_iter().enumerate().rev() {
        smallest = smallest.min(p[i] * (p.len() as f64 / (rank + 1) as f64));
        out[i] = smallest;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjusted_p_keep_the_order_and_never_exceed_one() {
        let p = [0.9, 0.04, 0.5, 0.04];
        for adjusted in [holm(&p), benjamini_hochberg(&p)] {
            assert!(adjusted.iter().zip(&p).all(|(a, p)| a >= p && *a <= 1.0), "{adjusted:?}");
            assert_eq!(adjusted[1], adjusted[3]);
        }
        assert!(holm(&[]).is_empty());
    }
}
