//! Where to cut a score: operating points of one class against the rest.
//!
//! | rule | the threshold |
//! |---|---|
//! | `youden` | sensitivity + specificity − 1 is largest; of equals the highest |
//! | `sensitivity` | the highest whose sensitivity is at least that asked for |
//! | `specificity` | the lowest whose specificity is at least that asked for |
//!
//! A row is called positive where its score is at or above the threshold; thresholds are scores that occur
//! (scikit-learn's `roc_curve` without its first point at infinity). A threshold chosen on the rows that it is
//! then judged on looks better than it is; choose it on validation rows.

use super::ranking::{Step, steps, totals};

/// How a threshold is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    Youden,
    Sensitivity(f64),
    Specificity(f64),
}

impl Rule {
    pub fn name(self) -> &'static str {
        match self {
            Rule::Youden => "youden",
            Rule::Sensitivity(_) => "sensitivity",
            Rule::Specificity(_) => "specificity",
        }
    }

    /// The share that was asked for; `None` for Youden's rule.
    pub fn asked(self) -> Option<f64> {
        match self {
            Rule::Youden => None,
            Rule::Sensitivity(v) | Rule::Specificity(v) => Some(v),
        }
    }
}

/// A threshold and what it does, in counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperatingPoint {
    pub threshold: f64,
    pub true_positive: u64,
    pub false_positive: u64,
    pub positives: u64,
    pub negatives: u64,
}

impl OperatingPoint {
    pub fn sensitivity(&self) -> f64 {
        self.true_positive as f64 / self.positives as f64
    }

    pub fn specificity(&self) -> f64 {
        (self.negatives - self.false_positive) as f64 / self.negatives as f64
    }

    /// Share of true ones among those called positive; at least one always is.
    pub fn positive_predictive_value(&self) -> f64 {
        self.true_positive as f64 / (self.true_positive + self.false_positive) as f64
    }

    /// `None` where nothing is called negative.
    pub fn negative_predictive_value(&self) -> Option<f64> {
        let (right, wrong) = (self.negatives - self.false_positive, self.positives - self.true_positive);
        (right + wrong > 0).then(|| right as f64 / (right + wrong) as f64)
    }
}

/// The operating point of every rule. `None` for all where there are no positives, no negatives or a NaN; for
/// Youden's where no threshold is better than chance (constant scores); for a specificity that none reaches.
pub fn operating_points(scores: &[f64], positive: &[bool], rules: &[Rule]) -> Vec<Option<OperatingPoint>> {
    let Some((steps, (positives, negatives))) = steps(scores, positive).and_then(|s| totals(&s).map(|t| (s, t))) else {
        return vec![None; rules.len()];
    };
    let points: Vec<OperatingPoint> = points(&steps, positives, negatives).collect();
    rules.iter().map(|rule| choose(&points, *rule)).collect()
}

/// From the highest threshold down.
fn points(steps: &[Step], positives: u64, negatives: u64) -> impl Iterator<Item = OperatingPoint> {
    let (mut tp, mut fp) = (0, 0);
    steps.iter().map(move |s| {
        tp += s.positives;
        fp += s.negatives;
        OperatingPoint { threshold: s.score, true_positive: tp, false_positive: fp, positives, negatives }
    })
}

fn choose(points: &[OperatingPoint], rule: Rule) -> Option<OperatingPoint> {
    match rule {
        Rule::Youden => {
            let j = |p: &OperatingPoint| {
                i128::from(p.true_positive) * i128::from(p.negatives)
                    - i128::from(p.false_positive) * i128::from(p.positives)
            };
            let best = points.iter().map(j).max().filter(|best| *best > 0)?;
            points.iter().find(|p| j(p) == best).copied()
        }
        Rule::Sensitivity(least) => points.iter().find(|p| p.sensitivity() >= least).copied(),
        Rule::Specificity(least) => points.iter().rev().find(|p| p.specificity() >= least).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [Rule; 3] = [Rule::Youden, Rule::Sensitivity(0.9), Rule::Specificity(0.9)];

    #[test]
    fn points_are_read_off_the_curve() {
        let scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4];
        let y = [true, false, true, true, false, false];
        let found = operating_points(&scores, &y, &RULES);
        let at = |i: usize| found[i].map(|p| (p.threshold, p.sensitivity(), p.specificity()));
        assert_eq!(at(0), Some((0.6, 1.0, 2.0 / 3.0)));
        assert_eq!(at(1), Some((0.6, 1.0, 2.0 / 3.0)));
        assert_eq!(at(2), Some((0.9, 1.0 / 3.0, 1.0)));
        let first = found[0].unwrap();
        assert_eq!((first.positive_predictive_value(), first.negative_predictive_value()), (0.75, Some(1.0)));
        assert_eq!(super::super::ranking::youden(&scores, &y).map(|y| y.0), Some(0.6));
    }

    #[test]
    fn constant_scores_and_absent_classes_have_no_threshold_of_youden() {
        let found = operating_points(&[0.5; 4], &[true, false, true, false], &RULES);
        assert_eq!(found[0], None);
        assert_eq!(found[1].map(|p| (p.sensitivity(), p.specificity())), Some((1.0, 0.0)));
        assert_eq!(found[2], None, "no threshold that occurs reaches this specificity");
        assert!(operating_points(&[0.1, 0.2], &[true, true], &RULES).iter().all(Option::is_none));
        assert!(operating_points(&[f64::NAN, 0.2], &[true, false], &RULES).iter().all(Option::is_none));
    }
}
