//! Loss and accuracy of logits against labels: what choosing the best weights and the curve need.
//!
//! Both count known labels only. Reports use the metrics of `eval` on kept predictions, not these.

use crate::{data::loader::Labels, nn::Targets};

/// Means over a dataset; null where no label is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Mean cross-entropy over examples, or over known labels.
    pub loss: Option<f64>,
    /// Share of examples whose largest logit is their class, or of known labels on the right side of 0.
    pub accuracy: Option<f64>,
}

/// `logits` has one row an example, `labels.outputs()` wide.
pub fn score(labels: &Labels, logits: &[f32]) -> Score {
    let outputs = labels.outputs();
    let (mut loss, mut right, mut known) = (0.0, 0u64, 0u64);
    let mut unused = vec![0.0; outputs];
    for (i, row) in logits.chunks_exact(outputs).enumerate() {
        match labels {
            Labels::Class { y, .. } if y[i] < 0 => {}
            Labels::Class { y, .. } => {
                loss += Targets::Class(&y[i..=i]).loss(row, outputs, 1.0, &mut unused);
                // The first of equal logits, as argmax takes it.
                let largest = (1..outputs).fold(0, |best, c| if row[c] > row[best] { c } else { best });
                right += u64::from(largest as i32 == y[i]);
                known += 1;
            }
            Labels::Multi { y, .. } => {
                let y = &y[i * outputs..][..outputs];
                loss += Targets::Multi(y).loss(row, outputs, 1.0, &mut unused);
                for (&l, &z) in y.iter().zip(row).filter(|&(&l, _)| l >= 0) {
                    right += u64::from((z > 0.0) == (l == 1));
                    known += 1;
                }
            }
        }
    }
    let mean = |sum: f64| (known > 0).then(|| sum / known as f64);
    Score { loss: mean(loss), accuracy: mean(right as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_labels_do_not_count() {
        let class = Labels::Class { classes: 2, y: vec![1, -1, 0] };
        let s = score(&class, &[0.0, 0.0, 9.0, 0.0, 1.0, 0.0]);
        assert_eq!(s.accuracy, Some(0.5));
        let expected = (2.0f64.ln() + (1.0 + (-1.0f64).exp()).ln()) / 2.0;
        assert!((s.loss.unwrap() - expected).abs() < 1e-7);
        let multi = Labels::Multi { labels: 2, y: vec![1, -1, 0, 0] };
        let s = score(&multi, &[2.0, 5.0, -1.0, 1.0]);
        assert_eq!(s.accuracy, Some(2.0 / 3.0));
        let none = Labels::Multi { labels: 1, y: vec![-1] };
        assert_eq!(score(&none, &[0.0]), Score { loss: None, accuracy: None });
    }
}
