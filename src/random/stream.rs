//! Counter-based random numbers: the n-th number of (seed, purpose, epoch, example) is a pure function.
//!
//! Nothing is carried from one example to the next, so a result depends neither on threads nor on
//! where a run was interrupted. SplitMix64 (Steele, Lea, Flood 2014) over a mixed key; not for secrets.

/// The finaliser of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The numbers of one (seed, purpose, epoch, example).
#[derive(Clone, Debug)]
pub struct Stream {
    key: u64,
    counter: u64,
}

impl Stream {
    pub fn new(seed: u64, purpose: &str, epoch: u64, example: u64) -> Self {
        let mut key = mix(seed.wrapping_add(GOLDEN));
        for byte in purpose.bytes() {
            key = mix(key ^ u64::from(byte)).wrapping_add(GOLDEN);
        }
        key = mix(key ^ epoch).wrapping_add(GOLDEN);
        key = mix(key ^ example.rotate_left(32)).wrapping_add(GOLDEN);
        Stream { key, counter: 0 }
    }

    pub fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(self.key.wrapping_add(self.counter.wrapping_mul(GOLDEN)))
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform in 0..n, without modulo bias (Lemire 2019). `n` must be at least 1.
    pub fn below(&mut self, n: u64) -> u64 {
        loop {
            let wide = u128::from(self.bits()) * u128::from(n);
            let low = wide as u64;
            if low >= n.wrapping_neg() % n {
                return (wide >> 64) as u64;
            }
        }
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Standard normal (Box-Muller, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let u = 1.0 - self.uniform();
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_repeatable_and_differ_by_every_part() {
        let first = |s: u64, p: &str, e: u64, x: u64| Stream::new(s, p, e, x).bits();
        let base = first(1, "crop", 2, 3);
        assert_eq!(base, first(1, "crop", 2, 3));
        for other in [first(0, "crop", 2, 3), first(1, "flip", 2, 3), first(1, "crop", 3, 3), first(1, "crop", 2, 2)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn numbers_have_the_moments_they_claim() {
        let mut s = Stream::new(7, "test", 0, 0);
        let n = 100_000;
        let mean = (0..n).map(|_| s.uniform()).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let z = s.normal();
            sum += z;
            squares += z * z;
        }
        assert!((sum / f64::from(n)).abs() < 0.015 && (squares / f64::from(n) - 1.0).abs() < 0.02);
        let mut seen = [0u32; 3];
        (0..30_000).for_each(|_| seen[s.below(3) as usize] += 1);
        assert!(seen.iter().all(|&k| (9_500..10_500).contains(&k)), "{seen:?}");
    }
}
