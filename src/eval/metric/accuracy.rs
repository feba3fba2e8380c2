//! Shares of rows that are right: accuracy, top-k, balanced.

/// Index of the largest score of a row, the first of equals (NumPy's arg-max). `None` with a NaN.
pub fn arg_max(row: &[f64]) -> Option<usize> {
    if row.iter().any(|x| x.is_nan()) {
        return None;
    }
    let mut best: Option<usize> = None;
    for (i, &x) in row.iter().enumerate() {
        if best.is_none_or(|b| x > row[b]) {
            best = Some(i);
        }
    }
    best
}

/// Share of known rows whose prediction is the class. `class` below 0 is unknown; a row without a
/// prediction (NaN scores) counts as wrong. `None` without a known row.
pub fn accuracy(predicted: &[Option<usize>], class: &[i32]) -> Option<f64> {
    let (mut right, mut known) = (0u64, 0u64);
    for (p, &c) in predicted.iter().zip(class).filter(|(_, c)| **c >= 0) {
        known += 1;
        right += u64::from(*p == Some(c as usize));
    }
    (known > 0).then(|| right as f64 / known as f64)
}

/// Share of known rows whose class is among the `k` largest of `width` scores; among equal scores
/// the later class is preferred, as scikit-learn's `top_k_accuracy_score` does.
///
/// `None` where there are no more than `k` classes, since then it is 1 whatever the scores.
pub fn top_k(scores: &[f64], width: usize, class: &[i32], k: usize) -> Option<f64> {
    if width <= k {
        return None;
    }
    let (mut right, mut known) = (0u64, 0u64);
    for (row, &c) in scores.chunks_exact(width).zip(class).filter(|(_, c)| **c >= 0) {
        known += 1;
        let c = c as usize;
        if c >= width || row.iter().any(|x| x.is_nan()) {
            continue;
        }
        let ahead = row.iter().enumerate().filter(|&(i, &x)| x > row[c] || (x == row[c] && i > c)).count();
        right += u64::from(ahead < k);
    }
    (known > 0).then(|| right as f64 / known as f64)
}

/// Mean recall of the classes that occur (scikit-learn's `balanced_accuracy_score`).
pub fn balanced(predicted: &[Option<usize>], class: &[i32], width: usize) -> Option<f64> {
    let (mut right, mut rows) = (vec![0u64; width], vec![0u64; width]);
    for (p, &c) in predicted.iter().zip(class) {
        if let Some(n) = usize::try_from(c).ok().and_then(|c| rows.get_mut(c)) {
            *n += 1;
            right[c as usize] += u64::from(*p == Some(c as usize));
        }
    }
    super::mean_defined(rows.iter().zip(&right).map(|(&n, &r)| (n > 0).then(|| r as f64 / n as f64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_first_class_and_top_k_to_the_last() {
        assert_eq!(arg_max(&[0.2, 0.4, 0.4]), Some(1));
        assert_eq!(arg_max(&[0.2, f64::NAN]), None);
        // sklearn.metrics.top_k_accuracy_score([0, 1, 2], np.full((3, 3), 1 / 3), k=2) == 2/3 (classes 1 and 2)
        assert_eq!(top_k(&[1.0 / 3.0; 9], 3, &[0, 1, 2], 2), Some(2.0 / 3.0));
        assert_eq!(top_k(&[0.0; 10], 5, &[0, 1], 5), None);
    }

    #[test]
    fn unknown_rows_are_left_out_and_absent_classes_do_not_count() {
        let predicted = [Some(0), Some(1), Some(1), None];
        assert_eq!(accuracy(&predicted, &[0, 1, -1, 0]), Some(2.0 / 3.0));
        assert_eq!(accuracy(&predicted, &[-1; 4]), None);
        assert_eq!(balanced(&predicted, &[0, 1, 1, 0], 3), Some(0.75));
    }
}
