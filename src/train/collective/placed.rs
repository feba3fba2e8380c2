//! Ranks of this process on machines of their own, which sum gradients where they lie.
//!
//! Gradients alone go that way, by NCCL on GPUs. Losses, requests to stop and words between ranks stay with the
//! threads' group, where a rank that ends is noticed: machines begin a sum once all ranks have come to it, since none
//! would tell of one that never comes.

use super::{Collective, threads::Member};
use crate::{
    error::Result,
    nn::cuda::{Machine, op::Sums},
};

/// One rank of a group, linked to the others' machines.
pub struct Placed<'m> {
    member: &'m Member,
    sums: Box<dyn Sums>,
}

impl<'m> Placed<'m> {
    /// Links this rank's machine to those of all others, each of which has one of its own; returns once all have come.
    /// `None` where such machines cannot sum among themselves.
    ///
    /// # Errors
    /// The machine's own, and those of another rank.
    pub fn link(member: &'m Member, machine: &dyn Machine) -> Result<Option<Self>> {
        let mut word = if member.rank() == 0 { machine.word()?.unwrap_or_default() } else { Vec::new() };
        member.broadcast(&mut word)?;
        if word.is_empty() {
            return Ok(None);
        }
        Ok(Some(Placed { member, sums: machine.join(&word, member.rank(), member.ranks())? }))
    }
}

impl Collective for Placed<'_> {
    fn rank(&self) -> usize {
        self.member.rank()
    }

    fn ranks(&self) -> usize {
        self.member.ranks()
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        self.member.all_reduce(values)
    }

    fn all_reduce_f64(&self, values: &mut [f64]) -> Result<()> {
        self.member.all_reduce_f64(values)
    }

    fn all_reduce_there(&self, at: u64, count: usize) -> Result<bool> {
        self.member.barrier()?;
        self.sums.sum(at, count).map(|()| true)
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        self.member.broadcast(bytes)
    }
}
