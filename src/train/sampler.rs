//! Which examples come when: a pure function of (seed, epoch), so that a run can continue at any step.
//!
//! Batches are cut from one endless sequence, epoch after epoch: every batch is full, batches may span two
//! epochs, and a set smaller than the batch repeats within it (each look with its own augmentation), as
//! few-shot fine-tuning needs. Published loaders draw with replacement there; here every example comes
//! equally often.

use crate::{data::loader::Draw, random::stream::Stream};

/// The order of `examples` examples.
pub struct Sampler {
    examples: usize,
    seed: u64,
    /// Running sums of the chances of each example, where they are drawn with replacement.
    chances: Option<Vec<f64>>,
    epoch: Option<(u64, Vec<u32>)>,
}

impl Sampler {
    /// Every example once an epoch, shuffled. `examples` must be at least 1.
    pub fn shuffled(examples: usize, seed: u64) -> Self {
        Sampler { examples, seed, chances: None, epoch: None }
    }

    /// As many draws an epoch as there are examples, with replacement, by `weights` (not negative, some above 0).
    pub fn weighted(weights: &[f64], seed: u64) -> Self {
        let mut sum = 0.0;
        let chances = weights
            .iter()
            .map(|w| {
                sum += w;
                sum
            })
            .collect();
        Sampler { examples: weights.len(), seed, chances: Some(chances), epoch: None }
    }

    fn order(&self, epoch: u64) -> Vec<u32> {
        match &self.chances {
            None => {
                let mut order: Vec<u32> = (0..self.examples as u32).collect();
                Stream::new(self.seed, "shuffle", epoch, 0).shuffle(&mut order);
                order
            }
            Some(sums) => {
                let mut stream = Stream::new(self.seed, "oversample", epoch, 0);
                let total = sums.last().copied().unwrap_or(0.0);
                (0..self.examples)
                    .map(|_| {
                        let at = stream.uniform() * total;
                        sums.partition_point(|&s| s <= at).min(self.examples - 1) as u32
                    })
                    .collect()
            }
        }
    }

    /// The draws of step `step` (from 0) with batches of `size`.
    pub fn batch(&mut self, step: u64, size: usize) -> Vec<Draw> {
        let n = self.examples as u64;
        (step * size as u64..(step + 1) * size as u64)
            .map(|position| {
                let (epoch, at) = (position / n, position % n);
                if self.epoch.as_ref().is_none_or(|(e, _)| *e != epoch) {
                    self.epoch = Some((epoch, self.order(epoch)));
                }
                let example = self.epoch.as_ref().map_or(0, |(_, order)| order[at as usize]);
                // An example drawn twice in an epoch is looked at in two ways.
                let number = if self.chances.is_some() { at } else { u64::from(example) };
                Draw { example, epoch, number }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_comes_once_an_epoch_and_any_step_can_be_had_alone() {
        let mut s = Sampler::shuffled(10, 4);
        let all: Vec<Draw> = (0..5).flat_map(|step| s.batch(step, 4)).collect();
        for epoch in 0..2 {
            let mut seen: Vec<u32> = all.iter().filter(|d| d.epoch == epoch).map(|d| d.example).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..10).collect::<Vec<_>>());
        }
        assert_eq!(Sampler::shuffled(10, 4).batch(3, 4), all[12..16]);
        assert_ne!(Sampler::shuffled(10, 5).batch(0, 10), s.batch(0, 10));
    }

    #[test]
    fn a_small_set_fills_a_large_batch_evenly() {
        let draws = Sampler::shuffled(3, 0).batch(0, 9);
        for example in 0..3 {
            assert_eq!(draws.iter().filter(|d| d.example == example).count(), 3);
        }
    }

    #[test]
    fn weights_even_out_the_classes() {
        // Nine of one class, one of another: each should come half of the time.
        let weights: Vec<f64> = (0..10).map(|i| if i == 9 { 1.0 } else { 1.0 / 9.0 }).collect();
        let mut s = Sampler::weighted(&weights, 1);
        let draws = s.batch(0, 10_000);
        let rare = draws.iter().filter(|d| d.example == 9).count();
        assert!((4_700..5_300).contains(&rare), "{rare}");
        assert_eq!(s.batch(0, 10_000), draws);
    }
}
