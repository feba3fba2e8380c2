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
use super::op::Sums;
use crate::error::{Error, Result};

/// Bytes of the word by which ranks find each other.
const WORD_BYTES: usize = 128;

/// A GPU's link to those of the other ranks.
pub struct Communicator {
    gpu: Gpu,
    comm: sys::ncclComm_t,
    /// One call at a time.
    turn: Mutex<()>,
}

// SAFETY: NCCL's calls on one communicator must not overlap, which the lock around them sees to.
unsafe impl Send for Communicator {}
// SAFETY: as above.
unsafe impl Sync for Communicator {}

fn failed(what: &str) -> impl Fn(result::NcclError) -> Error + '_ {
    move |e| Error::invalid(format!("NCCL: {what}: {e:?}"))
}

/// A word by which the ranks of a new communicator find each other; none where NCCL is missing.
///
/// # Errors
/// NCCL refuses.
pub fn word() -> Result<Option<Vec<u8>>> {
    if !library::present("nccl") {
        return Ok(None);
    }
    let id = result::get_uniqueid().map_err(failed("a new id"))?;
    Ok(Some(id.internal.map(|c| c as u8).to_vec()))
}

impl Communicator {
    /// Joins `ranks` ranks that were given the same word. Returns once all have come.
    ///
    /// # Errors
    /// NCCL or another rank failed.
    pub fn new(gpu: Gpu, word: &[u8], rank: usize, ranks: usize) -> Result<Self> {
        let word: [u8; WORD_BYTES] = word.try_into().map_err(|_| Error::invalid("bug: no word of NCCL's"))?;
        gpu.stream().context().bind_to_thread().map_err(|e| Error::invalid(format!("CUDA: context: {e:?}")))?;
        let id = sys::ncclUniqueId { internal: word.map(|b| b as std::ffi::c_char) };
        let mut comm = std::ptr::null_mut();
        // SAFETY: the pointer leads to a variable of this frame; the GPU's context is this thread's.
        unsafe { result::comm_init_rank(&mut comm, ranks as i32, id, rank as i32) }.map_err(failed("joining"))?;
        Ok(Communicator { gpu, comm, turn: Mutex::new(()) })
    }
}

impl Sums for Communicator {
    fn sum(&self, at: u64, count: usize) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(|e| e.into_inner());
        let _gpu = self.gpu.turn()?;
        let (at, stream) = (at as *mut c_void, self.gpu.stream().cu_stream().cast());
        let (of, add) = (sys::ncclDataType_t::ncclFloat32, sys::ncclRedOp_t::ncclSum);
        // SAFETY: the caller's buffer has `count` values; in place is allowed.
        unsafe { result::all_reduce(at, at, count, of, add, self.comm, stream) }.map_err(failed("a sum"))?;
        Ok(())
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        // SAFETY: made in `new` and destroyed once. A rank that is gone must not keep this one from ending.
        let _ = unsafe { result::comm_abort(self.comm) };
    }
}
