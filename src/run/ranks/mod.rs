//! A cell whose ranks are processes: `mpirun -n 4 scaleshot-mpi KEY --store …`, or `srun`, or any launcher.
//!
//! ```text
//! this process          lease, log, heartbeat, record; knows nothing of MPI
//!   └─ launcher         mpirun, srun
//!        ├─ rank 0      computes and publishes files; tells on its stdout how it goes
//!        ├─ rank 1      computes
//!        …              stdin closed, or `stop` on it: rank 0 stops the training at a checkpoint
//! ```
//!
//! The ranks find the cell's [`Task`] in the store. Should this process die, their stdin ends and they stop; should
//! one of them die, the launcher ends the others, and this process says which it was.

mod launched;
mod rank;

pub use self::{launched::Launched, rank::run as run_rank};

use serde::{Deserialize, Serialize};

use super::executor::Made;
#[cfg(doc)]
use super::executor::Task;

/// What rank 0 tells, one line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Begin(u64, String),
    Advance(u64),
    Log(String),
    Done(Box<Made>),
    /// At a checkpoint, as asked.
    Stopped,
    Failed {
        error: String,
        hint: Option<String>,
    },
}

/// What rank 0 hears.
const STOP: &str = "stop";
