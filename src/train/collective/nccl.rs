//! Ranks on GPUs, one each, by NCCL.

use super::Collective;
use crate::{error::Result, nn::cuda::nccl::Communicator};

impl Collective for Communicator {
    fn rank(&self) -> usize {
        Communicator::rank(self)
    }

    fn ranks(&self) -> usize {
        Communicator::ranks(self)
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        Communicator::all_reduce(self, values)
    }

    fn all_reduce_f64(&self, values: &mut [f64]) -> Result<()> {
        Communicator::all_reduce_f64(self, values)
    }

    fn all_reduce_there(&self, at: u64, count: usize) -> Result<bool> {
        self.sum_on_gpu(at, count).map(|()| true)
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        Communicator::broadcast(self, bytes)
    }
}
