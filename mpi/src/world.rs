//! [`Collective`] over MPI's own exchanges.
//!
//! A sum is an all-to-all of pieces, the addition of one piece from every rank in rank order, and an all-gather of
//! the sums: what bandwidth-optimal all-reduces do (Rabenseifner 2004), each value crossing the network 2 (n - 1)/n
//! times. `MPI_Allreduce` itself may add in another order on another network or by another algorithm, and a
//! training that is put back into the queue would then continue to other last digits on other nodes.

use mpi::{
    Threading,
    collective::{CommunicatorCollectives, Root},
    environment::Universe,
    topology::{Communicator, SimpleCommunicator},
    traits::Equivalence,
};
use scaleshot::{
    error::Result,
    train::collective::{Collective, sum_in_order},
};

/// Bytes of one broadcast: MPI counts in 32 bits.
const PIECE: usize = 1 << 30;

/// Starts MPI. The flag says whether several threads may call it in turn.
pub fn start() -> Option<(Universe, bool)> {
    let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)?;
    Some((universe, matches!(threading, Threading::Serialized | Threading::Multiple)))
}

/// Ends all ranks.
pub fn abort() -> ! {
    SimpleCommunicator::world().abort(1)
}

/// All ranks that the launcher has started.
pub struct World {
    rank: usize,
    ranks: usize,
}

impl World {
    pub fn new() -> Self {
        let world = SimpleCommunicator::world();
        World { rank: world.rank() as usize, ranks: world.size() as usize }
    }

    fn sum<T: Equivalence + Copy + Default + std::ops::AddAssign>(&self, values: &mut [T]) {
        if values.is_empty() {
            return SimpleCommunicator::world().barrier();
        }
        let world = SimpleCommunicator::world();
        // One piece a rank; the last one is filled up with zeros.
        let piece = values.len().div_ceil(self.ranks);
        let mut sent = vec![T::default(); piece * self.ranks];
        sent[..values.len()].copy_from_slice(values);
        let mut got = vec![T::default(); piece * self.ranks];
        world.all_to_all_into(&sent[..], &mut got[..]);
        let parts: Vec<&[T]> = got.chunks_exact(piece).collect();
        let mut sum = vec![T::default(); piece];
        sum_in_order(&parts, &mut sum);
        world.all_gather_into(&sum[..], &mut sent[..]);
        values.copy_from_slice(&sent[..values.len()]);
    }
}

impl Collective for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        self.sum(values);
        Ok(())
    }

    fn all_reduce_f64(&self, values: &mut [f64]) -> Result<()> {
        self.sum(values);
        Ok(())
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let world = SimpleCommunicator::world();
        let first = world.process_at_rank(0);
        let mut length = bytes.len() as u64;
        first.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        bytes.chunks_mut(PIECE).for_each(|piece| first.broadcast_into(piece));
        Ok(())
    }
}
