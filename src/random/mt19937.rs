//! The Mersenne Twister MT19937 (Matsumoto, Nishimura 1998), which NumPy's `RandomState` and
//! PyTorch's CPU generator share. It gives raw 32-bit words only; how they become draws differs
//! between the two and lies with them.

const N: usize = 624;
const M: usize = 397;

#[derive(Clone)]
pub(super) struct Mt19937 {
    state: [u32; N],
    next: usize,
}

impl Mt19937 {
    /// `init_genrand` of the authors' code: Knuth's linear congruential fill.
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        for i in 1..N {
            let previous = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Mt19937 { state, next: N }
    }

    /// `init_by_array` of the authors' code, for seeds that are lists of words.
    pub(super) fn by_array(key: &[u32]) -> Self {
        let key = if key.is_empty() { &[0][..] } else { key };
        let mut mt = Self::new(19_650_218);
        let state = &mut mt.state;
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let p = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ p.wrapping_mul(1_664_525)).wrapping_add(key[j]).wrapping_add(j as u32);
            i += 1;
            j = (j + 1) % key.len();
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        for _ in 0..N - 1 {
            let p = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ p.wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i += 1;
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        mt
    }

    fn twist(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    pub(super) fn word(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words_are_the_authors() {
        // mt19937ar.out: init_by_array({0x123, 0x234, 0x345, 0x456}).
        let mut mt = Mt19937::by_array(&[0x123, 0x234, 0x345, 0x456]);
        let words: Vec<u32> = (0..5).map(|_| mt.word()).collect();
        assert_eq!(words, [1_067_595_299, 955_945_823, 477_289_528, 4_107_218_783, 4_228_976_476]);
        // The default seed of the C++ standard: its 10,000th word is fixed there.
        let mut mt = Mt19937::new(5489);
        assert_eq!((0..10_000).map(|_| mt.word()).last(), Some(4_123_659_995));
    }
}
