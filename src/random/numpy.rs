//! NumPy's legacy `RandomState`, with which the published study shuffled its splits and few-shot sets.
//!
//! Bit for bit the draws of `numpy.random.RandomState(seed)`; NumPy has frozen them. Only the methods
//! that the study used are here. Nothing of our own is drawn with it: that is [`super::stream`].

use super::mt19937::Mt19937;

/// `numpy.random.RandomState(seed)` for an integer seed.
#[derive(Clone)]
pub struct RandomState(Mt19937);

impl RandomState {
    pub fn new(seed: u32) -> Self {
        RandomState(Mt19937::new(seed))
    }

    /// `RandomState([a, b, …])`.
    pub fn by_array(seed: &[u32]) -> Self {
        RandomState(Mt19937::by_array(seed))
    }

    /// Uniform in 0..=max by masks and rejection (`random_interval`).
    fn interval(&mut self, max: u64) -> u64 {
        if max == 0 {
            return 0;
        }
        let mask = u64::MAX >> max.leading_zeros();
        loop {
            let word = if max <= u64::from(u32::MAX) {
                u64::from(self.0.word())
            } else {
                let high = u64::from(self.0.word()) << 32;
                high | u64::from(self.0.word())
            };
            if word & mask <= max {
                return word & mask;
            }
        }
    }

    /// `shuffle`: Fisher-Yates from the end.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.interval(i as u64) as usize);
        }
    }

    /// `permutation(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        self.shuffle(&mut order);
        order
    }

    /// One draw of `randint(low, high)` with the default 64-bit type; `high` is left out and above `low`.
    pub fn randint(&mut self, low: i64, high: i64) -> i64 {
        let span = high.wrapping_sub(low).wrapping_sub(1) as u64;
        low.wrapping_add(self.interval(span) as i64)
    }

    /// `random_sample()`: uniform in [0, 1), 53 bits.
    pub fn random_sample(&mut self) -> f64 {
        let a = f64::from(self.0.word() >> 5);
        let b = f64::from(self.0.word() >> 6);
        (a * 67_108_864.0 + b) / 9_007_199_254_740_992.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // python: numpy 2.4.6, e.g. numpy.random.RandomState(42).permutation(10)
    #[test]
    fn draws_are_those_of_numpy() {
        assert_eq!(RandomState::new(0).permutation(10), [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]);
        assert_eq!(RandomState::new(42).permutation(10), [8, 1, 5, 0, 7, 2, 9, 4, 3, 6]);
        let mut r = RandomState::new(0);
        let ints: Vec<i64> = (0..3).map(|_| r.randint(0, (1 << 31) - 1)).collect();
        assert_eq!(ints, [209_652_396, 398_764_591, 924_231_285]);
        let mut r = RandomState::new(0);
        let uniforms: Vec<f64> = (0..3).map(|_| r.random_sample()).collect();
        assert_eq!(uniforms, [0.548_813_503_927_324_8, 0.715_189_366_372_419_5, 0.602_763_376_071_643_9]);
    }
}
