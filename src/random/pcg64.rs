//! NumPy's `default_rng`: `SeedSequence`, PCG64 (O'Neill 2014, XSL-RR 128/64) and the permutation
//! drawn with it. Only what the reference numbers need.

const POOL: usize = 4;

/// Hash-based seeding of `numpy.random.SeedSequence(entropy)` for one integer.
pub struct SeedSequence {
    pool: [u32; POOL],
}

impl SeedSequence {
    pub fn new(entropy: u64) -> Self {
        let words = [entropy as u32, (entropy >> 32) as u32];
        let words = if words[1] == 0 { &words[..1] } else { &words[..] };
        let mut constant = 0x43b0_d7e5u32;
        let mut hash = |value: u32| {
            let mixed = value ^ constant;
            constant = constant.wrapping_mul(0x931e_8875);
            let mixed = mixed.wrapping_mul(constant);
            mixed ^ (mixed >> 16)
        };
        let mix = |x: u32, y: u32| {
            let r = x.wrapping_mul(0xca01_f9dd).wrapping_sub(y.wrapping_mul(0x4973_f715));
            r ^ (r >> 16)
        };
        let mut pool = [0u32; POOL];
        for (i, slot) in pool.iter_mut().enumerate() {
            *slot = hash(words.get(i).copied().unwrap_or(0));
        }
        for source in 0..POOL {
            for target in 0..POOL {
                if source != target {
                    pool[target] = mix(pool[target], hash(pool[source]));
                }
            }
        }
        SeedSequence { pool }
    }

    /// `generate_state(n, numpy.uint64)`.
    pub fn generate(&self, n: usize) -> Vec<u64> {
        let mut constant = 0x8b51_f9ddu32;
        let mut word = |i: usize| {
            let mut value = self.pool[i % POOL] ^ constant;
            constant = constant.wrapping_mul(0x58f3_8ded);
            value = value.wrapping_mul(constant);
            u64::from(value ^ (value >> 16))
        };
        (0..n)
            .map(|i| {
                let low = word(2 * i);
                low | word(2 * i + 1) << 32
            })
            .collect()
    }
}

/// `numpy.random.PCG64(seed)`, and `default_rng(seed)` over it.
#[derive(Clone)]
pub struct Pcg64 {
    state: u128,
    increment: u128,
    /// The upper half of a word of which the lower half was taken.
    half: Option<u32>,
}

impl Pcg64 {
    pub fn new(seed: u64) -> Self {
        let s = SeedSequence::new(seed).generate(4);
        let wide = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        let mut pcg = Pcg64 { state: 0, increment: wide(s[2], s[3]) << 1 | 1, half: None };
        pcg.step();
        pcg.state = pcg.state.wrapping_add(wide(s[0], s[1]));
        pcg.step();
        pcg
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(self.increment);
    }

    /// One raw 64-bit word.
    pub fn bits(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn bits32(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        let word = self.bits();
        self.half = Some((word >> 32) as u32);
        word as u32
    }

    /// Uniform in 0..=max by masks and rejection (`random_interval`).
    fn interval(&mut self, max: u32) -> u32 {
        if max == 0 {
            return 0;
        }
        let mask = u32::MAX >> max.leading_zeros();
        loop {
            let word = self.bits32() & mask;
            if word <= max {
                return word;
            }
        }
    }

    /// `default_rng(seed).shuffle` of a one-dimensional array.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.interval(i as u32) as usize);
        }
    }

    /// `default_rng(seed).permutation(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // python: numpy 2.4.6, SeedSequence(0).generate_state(4, "u8"), PCG64(0).random_raw(3),
    // default_rng(0).permutation(10)
    #[test]
    fn draws_are_those_of_numpy() {
        assert_eq!(
            SeedSequence::new(0).generate(4),
            [
                15_793_235_383_387_715_774,
                12_390_638_538_380_655_177,
                2_361_836_109_651_742_017,
                3_188_717_715_514_472_916
            ]
        );
        let mut pcg = Pcg64::new(0);
        assert_eq!(
            [pcg.bits(), pcg.bits(), pcg.bits()],
            [11_749_869_230_777_074_271, 4_976_686_463_289_251_617, 755_828_109_848_996_024]
        );
        assert_eq!(Pcg64::new(0).permutation(10), [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]);
        assert_eq!(Pcg64::new(42).permutation(10), [5, 6, 0, 7, 3, 2, 4, 9, 1, 8]);
    }
}
