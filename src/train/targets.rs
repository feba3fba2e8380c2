//! From labels to what the loss compares with: mixing, smoothing, class weights, and the divisor of a batch.
//!
//! The loss of a batch is a mean: over examples (their weights, where classes are weighted) for classes,
//! over known labels for findings. Its divisor is that of the *whole* batch, whatever the micro-batches, so
//! that accumulated gradients are those of the batch. With mixup a finding counts where both images know it.

use super::mixup::Mix;
use crate::{
    data::loader::{Draw, Labels},
    nn::Targets,
};

/// Targets of one micro-batch, owned.
pub enum Owned {
    Class(Vec<i32>),
    Soft(Vec<f32>),
    Multi(Vec<i8>),
    MultiSoft { values: Vec<f32>, known: Vec<bool> },
}

impl Owned {
    pub fn borrow(&self) -> Targets<'_> {
        match self {
            Owned::Class(y) => Targets::Class(y),
            Owned::Soft(t) => Targets::Soft(t),
            Owned::Multi(y) => Targets::Multi(y),
            Owned::MultiSoft { values, known } => Targets::MultiSoft { values, known },
        }
    }
}

/// How labels become targets in one run.
pub struct TargetRule {
    pub smoothing: f64,
    /// Weight of each class in the loss.
    pub weights: Option<Vec<f64>>,
}

/// Examples of each class; unknown ones are not counted.
pub fn class_counts(classes: usize, y: &[i32]) -> Vec<usize> {
    let mut counts = vec![0; classes];
    y.iter().filter(|&&c| c >= 0).for_each(|&c| counts[c as usize] += 1);
    counts
}

/// The rarest class that occurs counts 1, others less in proportion; a class that does not occur counts 0.
pub fn balanced(counts: &[usize]) -> Vec<f64> {
    let least = counts.iter().copied().filter(|&n| n > 0).min().unwrap_or(1) as f64;
    counts.iter().map(|&n| if n > 0 { least / n as f64 } else { 0.0 }).collect()
}

impl TargetRule {
    fn weight(&self, class: i32) -> f64 {
        self.weights.as_ref().map_or(1.0, |w| w[class as usize])
    }

    /// What the summed losses of a whole batch are divided by; 0 where nothing is known.
    pub fn divisor(&self, labels: &Labels, draws: &[Draw], mix: Option<&Mix>) -> f64 {
        match labels {
            Labels::Class { y, .. } => draws.iter().map(|d| self.weight(y[d.example as usize])).sum(),
            Labels::Multi { labels, y } => {
                let row = |d: &Draw| &y[d.example as usize * labels..][..*labels];
                let known = |k: usize| -> usize {
                    let own = row(&draws[k]);
                    match mix {
                        None => own.iter().filter(|&&l| l >= 0).count(),
                        Some(m) => {
                            let other = row(&draws[m.partners[k] as usize]);
                            own.iter().zip(other).filter(|&(&a, &b)| a >= 0 && b >= 0).count()
                        }
                    }
                };
                (0..draws.len()).map(known).sum::<usize>() as f64
            }
        }
    }

    /// Targets of the draws in `range` of a batch.
    pub fn of(&self, labels: &Labels, draws: &[Draw], mix: Option<&Mix>, range: std::ops::Range<usize>) -> Owned {
        let partner = |k: usize| mix.map(|m| (&draws[m.partners[k] as usize], m.share));
        match labels {
            Labels::Class { classes, y } => {
                let class = |d: &Draw| y[d.example as usize];
                if mix.is_none() && self.smoothing == 0.0 && self.weights.is_none() {
                    return Owned::Class(draws[range].iter().map(class).collect());
                }
                let mut soft = vec![0.0f32; range.len() * classes];
                for (row, k) in soft.chunks_exact_mut(*classes).zip(range) {
                    let mut add = |class: i32, share: f64| {
                        let mass = share * self.weight(class);
                        let spread = (mass * self.smoothing / *classes as f64) as f32;
                        row.iter_mut().for_each(|t| *t += spread);
                        row[class as usize] += (mass * (1.0 - self.smoothing)) as f32;
                    };
                    match partner(k) {
                        None => add(class(&draws[k]), 1.0),
                        Some((other, share)) => {
                            add(class(&draws[k]), share);
                            add(class(other), 1.0 - share);
                        }
                    }
                }
                Owned::Soft(soft)
            }
            Labels::Multi { labels, y } => {
                let row = |d: &Draw| &y[d.example as usize * labels..][..*labels];
                if mix.is_none() && self.smoothing == 0.0 {
                    return Owned::Multi(draws[range].iter().flat_map(|d| row(d).iter().copied()).collect());
                }
                let (mut values, mut known) = (Vec::new(), Vec::new());
                let smooth = |l: i8| f64::from(l) * (1.0 - self.smoothing) + self.smoothing / 2.0;
                for k in range {
                    let own = row(&draws[k]);
                    let (other, share) = partner(k).map_or((own, 1.0), |(d, share)| (row(d), share));
                    for (&a, &b) in own.iter().zip(other) {
                        let both = a >= 0 && b >= 0;
                        known.push(both);
                        values.push(if both { (share * smooth(a) + (1.0 - share) * smooth(b)) as f32 } else { 0.0 });
                    }
                }
                Owned::MultiSoft { values, known }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(examples: &[u32]) -> Vec<Draw> {
        examples.iter().map(|&example| Draw { example, epoch: 0, number: 0 }).collect()
    }

    const PLAIN: TargetRule = TargetRule { smoothing: 0.0, weights: None };

    #[test]
    fn plain_labels_pass_through_and_divisors_count_the_whole_batch() {
        let class = Labels::Class { classes: 3, y: vec![2, 0, 1] };
        let d = draws(&[0, 2]);
        assert!(matches!(PLAIN.of(&class, &d, None, 1..2), Owned::Class(y) if y == [1]));
        assert_eq!(PLAIN.divisor(&class, &d, None), 2.0);
        let multi = Labels::Multi { labels: 2, y: vec![1, -1, 0, 1] };
        assert_eq!(PLAIN.divisor(&multi, &draws(&[0, 1]), None), 3.0);
    }

    #[test]
    fn mixing_and_smoothing_keep_the_mass_of_a_target() {
        let class = Labels::Class { classes: 4, y: vec![0, 3] };
        let mix = Mix { share: 0.75, partners: vec![1, 0] };
        let rule = TargetRule { smoothing: 0.2, weights: None };
        let Owned::Soft(t) = rule.of(&class, &draws(&[0, 1]), Some(&mix), 0..2) else { panic!() };
        assert!(t.chunks(4).all(|r| (r.iter().sum::<f32>() - 1.0).abs() < 1e-6), "{t:?}");
        assert!((t[0] - (0.75 * 0.8 + 0.05)).abs() < 1e-6 && (t[3] - (0.25 * 0.8 + 0.05)).abs() < 1e-6);
    }

    #[test]
    fn a_mixed_finding_is_known_where_both_know_it() {
        let multi = Labels::Multi { labels: 2, y: vec![1, -1, 0, 1] };
        let mix = Mix { share: 0.25, partners: vec![1, 0] };
        let d = draws(&[0, 1]);
        let Owned::MultiSoft { values, known } = PLAIN.of(&multi, &d, Some(&mix), 0..2) else { panic!() };
        assert_eq!(known, [true, false, true, false]);
        assert_eq!((values[0], values[2]), (0.25, 0.75));
        assert_eq!(PLAIN.divisor(&multi, &d, Some(&mix)), 2.0);
    }

    #[test]
    fn the_rarest_class_counts_one() {
        let weights = balanced(&class_counts(3, &[0, 0, 0, 0, 1, -1]));
        assert_eq!(weights, [0.25, 1.0, 0.0]);
        let class = Labels::Class { classes: 3, y: vec![0, 1] };
        let rule = TargetRule { smoothing: 0.0, weights: Some(weights) };
        assert_eq!(rule.divisor(&class, &draws(&[0, 1]), None), 1.25);
        let Owned::Soft(t) = rule.of(&class, &draws(&[0, 1]), None, 0..2) else { panic!() };
        assert_eq!(t, [0.25, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }
}
