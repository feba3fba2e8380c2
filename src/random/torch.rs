//! PyTorch's CPU generator, with which the published study ordered the examples of its few-shot draw and
//! PyTorch draws the first weights of a linear layer.
//!
//! Only `randperm` and uniform numbers are here. Nothing of our own is drawn with it: that is [`super::stream`].

use super::mt19937::Mt19937;

/// `torch.Generator().manual_seed(seed)` on the CPU.
#[derive(Clone)]
pub struct Generator(Mt19937);

impl Generator {
    /// PyTorch seeds its Mersenne Twister with the low 32 bits.
    pub fn new(seed: u64) -> Self {
        Generator(Mt19937::new(seed as u32))
    }

    /// The seed for workers that a `DataLoader` takes from its generator before its sampler draws;
    /// one 64-bit number, two words of the twister.
    pub fn skip_base_seed(&mut self) {
        self.0.word();
        self.0.word();
    }

    /// `torch.randperm(n, generator=…)`: Fisher-Yates from the front, with the modulo's bias.
    /// `n` is below 2^32 / 20, from where PyTorch draws 64 bits.
    pub fn randperm(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in 0..n.saturating_sub(1) {
            let other = i + self.0.word() as usize % (n - i);
            order.swap(i, other);
        }
        order
    }
    /// `torch.empty(n).uniform_(low, high)` in float32: 24 bits of each word, scaled in f64.
    pub fn uniform(&mut self, n: usize, low: f64, high: f64) -> Vec<f32> {
        let (low, high) = (low as f32, high as f32);
        let one = |word: u32| f64::from(word & 0xff_ffff) / f64::from(1u32 << 24);
        (0..n).map(|_| (one(self.0.word()) * f64::from(high - low) + f64::from(low)) as f32).collect()
    }
}
