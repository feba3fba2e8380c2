//! The confusion matrix of a single-label task.

/// `counts[true * width + predicted]`; rows without a prediction are in `unpredicted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    pub width: usize,
    pub counts: Vec<u64>,
    /// Known rows whose scores were NaN.
    pub unpredicted: u64,
}

impl Confusion {
    /// Classes below 0 (unknown) or beyond `width` are left out.
    pub fn new(predicted: &[Option<usize>], class: &[i32], width: usize) -> Self {
        let mut out = Confusion { width, counts: vec![0; width * width], unpredicted: 0 };
        for (p, &c) in predicted.iter().zip(class) {
            match (usize::try_from(c), p) {
                (Ok(c), Some(p)) if c < width && *p < width => out.counts[c * width + p] += 1,
                (Ok(c), None) if c < width => out.unpredicted += 1,
                _ => {}
            }
        }
        out
    }

    pub fn count(&self, class: usize, predicted: usize) -> u64 {
        self.counts[class * self.width + predicted]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_truths_and_columns_predictions() {
        let m = Confusion::new(&[Some(1), Some(1), Some(0), None], &[0, 1, -1, 1], 2);
        assert_eq!((m.count(0, 1), m.count(1, 1), m.count(1, 0), m.unpredicted), (1, 1, 0, 1));
    }
}
