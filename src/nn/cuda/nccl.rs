//! Sums over several GPUs by NCCL, one rank a GPU.
//!
//! Gradients are summed where they lie, on the stream that computes them. NCCL promises no order of addition, so a
//! training on several GPUs is not the same to the bit from one number of ranks to another; each rank gets the same
//! sums. It has run on no GPU yet.

use std::ffi::c_void;
use std::sync::Mutex;

use cudarc::nccl::{result, sys};

use super::device::Gpu;
use super::library;
use super::op::{Machine, Memory};
use crate::error::{Error, Result};

/// Bytes of the word by which ranks find each other.
pub const ID_BYTES: usize = 128;

/// The ranks of one training, as one of them sees them.
pub struct Communicator {
    gpu: Gpu,
    rank: usize,
    ranks: usize,
    comm: sys::ncclComm_t,
    /// Where values of the host travel; one call at a time.
    scratch: Mutex<Option<Memory>>,
}

// SAFETY: NCCL's calls on one communicator must not overlap, which the lock around them sees to.
unsafe impl Send for Communicator {}
// SAFETY: as above.
unsafe impl Sync for Communicator {}

fn failed(what: &str) -> impl Fn(result::NcclError) -> Error + '_ {
    move |e| Error::invalid(format!("NCCL: {what}: {e:?}"))
}

/// A word by which the ranks of a new communicator find each other: rank 0 makes it and gives it to all.
///
/// # Errors
/// NCCL is missing.
pub fn id() -> Result<[u8; ID_BYTES]> {
    if !library::present("nccl") {
        return Err(Error::invalid("libnccl is not found: several GPUs")
            .with_hint("pip install nvidia-nccl-cu13, and put its lib folder with libnccl.so on LD_LIBRARY_PATH"));
    }
    let id = result::get_uniqueid().map_err(failed("a new id"))?;
    Ok(id.internal.map(|c| c as u8))
}

impl Communicator {
    /// Joins `ranks` ranks that were given the same `id`. Returns once all have come.
    ///
    /// # Errors
    /// NCCL or another rank failed.
    pub fn new(gpu: Gpu, rank: usize, ranks: usize, id: [u8; ID_BYTES]) -> Result<Self> {
        gpu.stream().context().bind_to_thread().map_err(|e| Error::invalid(format!("CUDA: context: {e:?}")))?;
        let id = sys::ncclUniqueId { internal: id.map(|b| b as std::ffi::c_char) };
        let mut comm = std::ptr::null_mut();
        // SAFETY: the pointer leads to a variable of this frame; the GPU's context is this thread's.
        unsafe { result::comm_init_rank(&mut comm, ranks as i32, id, rank as i32) }.map_err(failed("joining"))?;
        Ok(Communicator { gpu, rank, ranks, comm, scratch: Mutex::new(None) })
    }

    /// This one, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// Replaces `count` f32 on the GPU by their sums over all ranks, behind what was told the GPU before.
    ///
    /// # Errors
    /// NCCL or another rank failed.
    pub fn sum_on_gpu(&self, at: u64, count: usize) -> Result<()> {
        let _turn = self.scratch.lock().unwrap_or_else(|e| e.into_inner());
        self.sum(at, count, sys::ncclDataType_t::ncclFloat32)
    }

    fn sum(&self, at: u64, count: usize, of: sys::ncclDataType_t) -> Result<()> {
        let (at, stream) = (at as *mut c_void, self.gpu.stream().cu_stream().cast());
        let add = sys::ncclRedOp_t::ncclSum;
        // SAFETY: the caller's buffer has `count` values; in place is allowed.
        unsafe { result::all_reduce(at, at, count, of, add, self.comm, stream) }.map_err(failed("a sum"))?;
        Ok(())
    }

    /// Takes bytes to the GPU, lets `act` work on them there, and brings them back.
    fn by_way_of_gpu(&self, bytes: &mut [u8], act: impl FnOnce(u64) -> Result<()>) -> Result<()> {
        let mut scratch = self.scratch.lock().unwrap_or_else(|e| e.into_inner());
        if scratch.as_ref().is_none_or(|memory| memory.bytes < bytes.len() as u64) {
            *scratch = Some(self.gpu.allocate(bytes.len().max(1 << 16) as u64)?);
        }
        let at = scratch.as_ref().map_or(0, |memory| memory.start);
        self.gpu.write(at, bytes)?;
        act(at)?;
        self.gpu.read(at, bytes)
    }

    /// Replaces each value by its sum over all ranks.
    ///
    /// # Errors
    /// NCCL or another rank failed.
    pub fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let count = values.len();
        self.by_way_of_gpu(&mut bytes, |at| self.sum(at, count, sys::ncclDataType_t::ncclFloat32))?;
        for (value, b) in values.iter_mut().zip(bytes.chunks_exact(4)) {
            *value = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }
        Ok(())
    }

    /// The same for f64.
    ///
    /// # Errors
    /// NCCL or another rank failed.
    pub fn all_reduce_f64(&self, values: &mut [f64]) -> Result<()> {
        // A barrier sums nothing, but NCCL waits for nobody without a value.
        let mut bytes: Vec<u8> = values.iter().chain(&[0.0]).flat_map(|v| v.to_le_bytes()).collect();
        let count = values.len() + 1;
        self.by_way_of_gpu(&mut bytes, |at| self.sum(at, count, sys::ncclDataType_t::ncclFloat64))?;
        for (value, b) in values.iter_mut().zip(bytes.chunks_exact(8)) {
            *value = f64::from_le_bytes(std::array::from_fn(|i| b[i]));
        }
        Ok(())
    }

    /// Gives rank 0's bytes to all others: their number first.
    ///
    /// # Errors
    /// NCCL or another rank failed.
    pub fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let mut length = (bytes.len() as u64).to_le_bytes();
        self.send(&mut length)?;
        bytes.resize(u64::from_le_bytes(length) as usize, 0);
        self.send(bytes)
    }

    fn send(&self, bytes: &mut [u8]) -> Result<()> {
        let (count, stream) = (bytes.len(), self.gpu.stream().cu_stream().cast());
        self.by_way_of_gpu(bytes, |at| {
            let (at, of) = (at as *mut c_void, sys::ncclDataType_t::ncclUint8);
            // SAFETY: the scratch has `count` bytes on every rank.
            unsafe { result::broadcast(at, at, count, of, 0, self.comm, stream) }.map_err(failed("a broadcast"))?;
            Ok(())
        })
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        // SAFETY: made in `new` and destroyed once. A rank that is gone must not keep this one from ending.
        let _ = unsafe { result::comm_abort(self.comm) };
    }
}
