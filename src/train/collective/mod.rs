//! Data parallelism: several ranks train one model, each on its share of every batch.
//!
//! ```text
//! rank r of n:  gradient of its share of the batch  ─┐
//!                                                    ├─ sum over ranks, in rank order ─> the same update everywhere
//! rank 0:       gradient of its share of the batch  ─┘
//! ```
//!
//! Every rank divides its losses by the divisor of the *whole* batch, so that the sum is the batch's mean gradient
//! even where known labels lie unevenly over the ranks: a mean of the ranks' means would not be.
//!
//! | implementation | ranks are |
//! |---|---|
//! | [`Alone`] | one process without others |
//! | [`threads::Member`] | threads of this process |
//! | [`placed::Placed`] | the same, each with a GPU: NCCL sums gradients where they lie |
//! | package `scaleshot-mpi` | processes under MPI, on one node or many |
//!
//! A collective knows nothing of models, batches or checkpoints: [`super::reduce`] cuts gradients into buckets,
//! [`super::fit()`] shares batches.

pub mod placed;
pub mod threads;

use std::ops::Range;

use crate::error::Result;

/// The ranks of one training, as one of them sees them.
///
/// Every rank makes the same calls in the same order; a call returns once all ranks have made it. One thread at a
/// time makes them, not always the same one. Where another rank has failed or is gone, calls fail and never wait.
pub trait Collective: Send + Sync {
    /// This one, from 0.
    fn rank(&self) -> usize;

    /// How many there are, at least 1.
    fn ranks(&self) -> usize;

    /// Replaces each value by its sum over all ranks, added in rank order in f32: the same bits on every rank and
    /// in every implementation that can promise an order (NCCL cannot).
    fn all_reduce(&self, values: &mut [f32]) -> Result<()>;

    /// The same for counters and losses, in f64.
    fn all_reduce_f64(&self, values: &mut [f64]) -> Result<()>;

    /// Replaces `count` f32 on this rank's device, which begin at an address there, by their sums. Says false where
    /// it cannot: they then travel by way of the host.
    fn all_reduce_there(&self, _at: u64, _count: usize) -> Result<bool> {
        Ok(false)
    }

    /// Gives rank 0's bytes to all others.
    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()>;

    /// Waits until all ranks are here.
    fn barrier(&self) -> Result<()> {
        self.all_reduce_f64(&mut [])
    }
}

/// No other ranks: nothing to do.
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn all_reduce(&self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn all_reduce_f64(&self, _: &mut [f64]) -> Result<()> {
        Ok(())
    }

    fn broadcast(&self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

/// What rank `rank` of `ranks` takes of `n` things in order: shares differ by one at most.
pub fn share(n: usize, rank: usize, ranks: usize) -> Range<usize> {
    n * rank / ranks..n * (rank + 1) / ranks
}

/// The values of all ranks at `range`, added in rank order: what [`Collective::all_reduce`] promises.
pub fn sum_in_order<T: Copy + std::ops::AddAssign>(parts: &[&[T]], out: &mut [T]) {
    let Some((first, rest)) = parts.split_first() else { return };
    out.copy_from_slice(first);
    for part in rest {
        out.iter_mut().zip(*part).for_each(|(sum, v)| *sum += *v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for (n, ranks) in [(10, 4), (4, 4), (7, 2), (3, 5)] {
            let shares: Vec<_> = (0..ranks).map(|r| share(n, r, ranks)).collect();
            assert_eq!(shares.iter().cloned().flatten().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
            let sizes: Vec<usize> = shares.iter().map(|s| s.len()).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        }
    }
}
