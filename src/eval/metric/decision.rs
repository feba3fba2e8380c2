//! Metrics of yes-or-no decisions: precision, recall and F1 from counts.
//!
//! scikit-learn puts 0 where a share has an empty denominator; here it is `None`
//! (`zero_division=nan`), and [`Counts::or_zero`] gives the published numbers.

/// Decisions against truths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub true_positive: u64,
    pub false_positive: u64,
    pub false_negative: u64,
    pub true_negative: u64,
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Counts {
    pub fn new(decisions: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut out = Counts::default();
        for (decided, truth) in decisions {
            *match (decided, truth) {
                (true, true) => &mut out.true_positive,
                (true, false) => &mut out.false_positive,
                (false, true) => &mut out.false_negative,
                (false, false) => &mut out.true_negative,
            } += 1;
        }
        out
    }

    pub fn precision(&self) -> Option<f64> {
        share(self.true_positive, self.true_positive + self.false_positive)
    }

    pub fn recall(&self) -> Option<f64> {
        share(self.true_positive, self.true_positive + self.false_negative)
    }

    /// 2·TP / (2·TP + FP + FN): defined as soon as there is one positive or one decision for it.
    pub fn f1(&self) -> Option<f64> {
        let tp = 2 * self.true_positive;
        share(tp, tp + self.false_positive + self.false_negative)
    }

    /// Precision, recall and F1 with 0 for what is undefined, as published.
    pub fn or_zero(&self) -> [f64; 3] {
        [self.precision(), self.recall(), self.f1()].map(|v| v.unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_positive_is_undefined_not_zero() {
        let none = Counts::new([(false, false), (false, false)]);
        assert_eq!((none.precision(), none.recall(), none.f1()), (None, None, None));
        assert_eq!(none.or_zero(), [0.0; 3]);
        let alarm = Counts::new([(true, false)]);
        assert_eq!((alarm.precision(), alarm.recall(), alarm.f1()), (Some(0.0), None, Some(0.0)));
    }
}
