//! Metrics of an order: area under the ROC curve, average precision, the best threshold.
//!
//! Scores are sorted once (n log n); equal scores are one step of the curve, so the order of ties in
//! the input never matters. Counts stay integers until the last division.

/// Groups of equal score, from the highest down.
pub(super) struct Step {
    pub score: f64,
    pub positives: u64,
    pub negatives: u64,
}

/// `None` where a score is NaN or lengths differ.
pub(super) fn steps(scores: &[f64], positive: &[bool]) -> Option<Vec<Step>> {
    if scores.len() != positive.len() || scores.iter().any(|s| s.is_nan()) {
        return None;
    }
    let mut order: Vec<(f64, bool)> = scores.iter().map(|s| s + 0.0).zip(positive.iter().copied()).collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut out: Vec<Step> = Vec::new();
    for (score, positive) in order {
        let step = match out.last_mut() {
            Some(last) if last.score == score => last,
            _ => {
                out.push(Step { score, positives: 0, negatives: 0 });
                out.last_mut()?
            }
        };
        *(if positive { &mut step.positives } else { &mut step.negatives }) += 1;
    }
    Some(out)
}

pub(super) fn totals(steps: &[Step]) -> Option<(u64, u64)> {
    let positives: u64 = steps.iter().map(|s| s.positives).sum();
    let negatives: u64 = steps.iter().map(|s| s.negatives).sum();
    (positives > 0 && negatives > 0).then_some((positives, negatives))
}

/// Probability that a positive scores above a negative, ties counting half (Mann-Whitney).
///
/// `None` without positives, without negatives, or with a NaN score.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    auroc_of(&steps(scores, positive)?)
}

fn auroc_of(steps: &[Step]) -> Option<f64> {
    let (p, n) = totals(steps)?;
    let mut above: u128 = 0;
    let mut halves: u128 = 0;
    for s in steps {
        halves += u128::from(s.negatives) * (2 * above + u128::from(s.positives));
        above += u128::from(s.positives);
    }
    Some(halves as f64 / 2.0 / (p as f64 * n as f64))
}

/// Σ (Rₖ − Rₖ₋₁)·Pₖ over the distinct scores from the highest down; never interpolated.
///
/// `None` without positives, without negatives (it would be 1 whatever the scores), or with a NaN score.
pub fn average_precision(scores: &[f64], positive: &[bool]) -> Option<f64> {
    average_precision_of(&steps(scores, positive)?)
}

fn average_precision_of(steps: &[Step]) -> Option<f64> {
    let (p, _) = totals(steps)?;
    let (mut hit, mut seen, mut sum) = (0u64, 0u64, 0.0);
    for s in steps {
        hit += s.positives;
        seen += s.positives + s.negatives;
        if s.positives > 0 {
            sum += s.positives as f64 / p as f64 * (hit as f64 / seen as f64);
        }
    }
    Some(sum)
}

/// Scores sorted once, for metrics of many resamples of the same rows: each then takes time in proportion to the
/// rows, not to their sorting.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Number of the row's score among the distinct ones, from the highest down.
    rank: Vec<u32>,
    distinct: usize,
    positive: Vec<Option<bool>>,
}

impl Ranked {
    /// `None` is an unknown truth, whose row never counts. `None` in return where a score is NaN.
    pub fn new(scores: &[f64], positive: Vec<Option<bool>>) -> Option<Self> {
        if scores.len() != positive.len() || scores.iter().any(|s| s.is_nan()) {
            return None;
        }
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| (scores[b as usize] + 0.0).total_cmp(&(scores[a as usize] + 0.0)));
        let mut rank = vec![0; scores.len()];
        let mut distinct = 0;
        for (i, &row) in order.iter().enumerate() {
            if i == 0 || scores[row as usize] != scores[order[i - 1] as usize] {
                distinct += 1;
            }
            rank[row as usize] = distinct as u32 - 1;
        }
        Some(Ranked { rank, distinct, positive })
    }

    fn steps(&self, rows: &[u32]) -> Vec<Step> {
        let mut steps: Vec<Step> =
            (0..self.distinct).map(|_| Step { score: f64::NAN, positives: 0, negatives: 0 }).collect();
        for &row in rows {
            let step = &mut steps[self.rank[row as usize] as usize];
            match self.positive[row as usize] {
                Some(true) => step.positives += 1,
                Some(false) => step.negatives += 1,
                None => {}
            }
        }
        steps
    }

    /// [`auroc`] of some rows, which may repeat.
    pub fn auroc(&self, rows: &[u32]) -> Option<f64> {
        auroc_of(&self.steps(rows))
    }

    /// [`average_precision`] of some rows, which may repeat.
    pub fn average_precision(&self, rows: &[u32]) -> Option<f64> {
        average_precision_of(&self.steps(rows))
    }
}

/// The score at and above which to call positive so that sensitivity + specificity − 1 (Youden's J)
/// is largest, and that J; the highest score of equals. `None` where no threshold is better than chance.
pub fn youden(scores: &[f64], positive: &[bool]) -> Option<(f64, f64)> {
    let steps = steps(scores, positive)?;
    let (p, n) = totals(&steps)?;
    let (mut tp, mut fp) = (0u64, 0u64);
    let mut best: Option<(f64, i128)> = None;
    for s in &steps {
        tp += s.positives;
        fp += s.negatives;
        let j = i128::from(tp) * i128::from(n) - i128::from(fp) * i128::from(p);
        if j > best.map_or(0, |b| b.1) {
            best = Some((s.score, j));
        }
    }
    best.map(|(score, j)| (score, j as f64 / (p as f64 * n as f64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every pair, as the definition says.
    fn auroc_slow(scores: &[f64], positive: &[bool]) -> Option<f64> {
        let (mut wins, mut pairs) = (0.0, 0.0);
        for i in 0..scores.len() {
            for j in 0..scores.len() {
                if positive[i] && !positive[j] {
                    pairs += 1.0;
                    wins += match scores[i].partial_cmp(&scores[j])? {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    };
                }
            }
        }
        (pairs > 0.0).then(|| wins / pairs)
    }

    proptest! {
        #[test]
        fn auroc_is_the_share_of_pairs(cases in prop::collection::vec((0u8..6, any::<bool>()), 0..60)) {
            let scores: Vec<f64> = cases.iter().map(|c| f64::from(c.0) / 5.0).collect();
            let positive: Vec<bool> = cases.iter().map(|c| c.1).collect();
            match (auroc(&scores, &positive), auroc_slow(&scores, &positive)) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-12),
                (a, b) => prop_assert_eq!(a, b),
            }
        }

        #[test]
        fn order_of_rows_does_not_matter(mut cases in prop::collection::vec((0u8..4, any::<bool>()), 2..40)) {
            let split = |c: &[(u8, bool)]| -> (Vec<f64>, Vec<bool>) {
                c.iter().map(|c| (f64::from(c.0), c.1)).unzip()
            };
            let (s, y) = split(&cases);
            let before = (auroc(&s, &y), average_precision(&s, &y), youden(&s, &y));
            cases.reverse();
            let (s, y) = split(&cases);
            prop_assert_eq!(before, (auroc(&s, &y), average_precision(&s, &y), youden(&s, &y)));
        }
    }

    #[test]
    fn sorted_once_or_anew_a_resample_has_the_same_numbers() {
        let scores = [0.3, 0.9, 0.3, 0.1, 0.0, -0.0, 0.9];
        let truth = [true, false, false, true, true, false, true];
        let mut known: Vec<Option<bool>> = truth.iter().map(|&t| Some(t)).collect();
        known.push(None);
        let ranked = Ranked::new(&[&scores[..], &[0.5]].concat(), known).unwrap();
        for rows in [vec![0, 1, 2, 3, 4, 5, 6], vec![6, 6, 2, 0, 0, 1, 5], vec![3, 5, 4]] {
            let s: Vec<f64> = rows.iter().map(|&r| scores[r as usize]).collect();
            let y: Vec<bool> = rows.iter().map(|&r| truth[r as usize]).collect();
            let with_unknown = [&rows[..], &[7, 7]].concat();
            assert_eq!(ranked.auroc(&with_unknown), auroc(&s, &y));
            assert_eq!(ranked.average_precision(&with_unknown), average_precision(&s, &y));
        }
        assert_eq!(ranked.auroc(&[0, 3]), None, "no negative was drawn");
    }

    #[test]
    fn constant_scores_are_chance() {
        let y = [true, false, false, false];
        assert_eq!(auroc(&[0.5; 4], &y), Some(0.5));
        assert_eq!(average_precision(&[0.5; 4], &y), Some(0.25));
        assert_eq!(youden(&[0.5; 4], &y), None);
    }

    #[test]
    fn one_class_nan_and_zero_signs() {
        assert_eq!(auroc(&[0.1, 0.9], &[true, true]), None);
        assert_eq!(average_precision(&[0.1, 0.9], &[false, false]), None);
        assert_eq!(auroc(&[f64::NAN, 0.9], &[true, false]), None);
        assert_eq!(auroc(&[0.0, -0.0], &[true, false]), Some(0.5));
    }
}
