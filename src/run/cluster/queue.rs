//! What the executor asks of a queue. It knows nothing of Slurm's commands: [`super::slurm`] does, and
//! [`super::simulated`] is a cluster that only exists in memory.

use std::time::Duration;

use super::profile::Request;

/// A queue of jobs. May block; every call ends within its own deadline.
pub trait Queue {
    fn limits(&self) -> Result<Limits, Refusal>;
    /// Whether the queue would ever run this, without submitting it.
    fn check(&self, submission: &Submission) -> Result<(), Refusal>;
    /// The job's id. A submission that was accepted though its answer was lost is found again by its name.
    fn submit(&self, submission: &Submission) -> Result<String, Refusal>;
    /// Jobs whose name begins with `prefix`, tasks of arrays one by one; ended ones for as long as they are known.
    fn jobs(&self, prefix: &str) -> Result<Vec<Job>, Refusal>;
    /// All in one step; those that have ended are passed over.
    fn cancel(&self, ids: &[String]) -> Result<(), Refusal>;
    /// Lets time pass.
    fn pause(&self, time: Duration);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest index of an array's task is below this.
    pub max_array: usize,
}

/// Why a queue did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not answer; ask again later.
    #[error("{0}")]
    Unreachable(String),
    /// It takes no more jobs for now.
    #[error("{0}")]
    Full(String),
    /// It will never take this.
    #[error("{0}")]
    Never(String),
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Whether the node sees the store and has the same program.
    Check,
    /// Nothing: it stands for the many jobs that it waits for.
    Gate,
    Cell(usize),
    /// Cell `base + task` for each task of an array.
    Cells {
        base: usize,
        tasks: Vec<usize>,
    },
}

/// A job, or an array of jobs with equal needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Of this submission alone.
    pub name: String,
    pub work: Work,
    pub request: Request,
    /// Ids of jobs that must have ended well before this one starts.
    pub after: Vec<String>,
    /// What people see beside the name.
    pub comment: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Pending,
    Running,
    /// It will not run by itself: Slurm holds it, or what it waits for has failed.
    Stuck,
    /// Ended with exit code 0.
    Completed,
    /// Ended otherwise.
    Ended,
}

/// A job, or a task of an array, as the queue tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// `17`, `17_4`.
    pub id: String,
    pub task: Option<usize>,
    pub name: String,
    pub phase: Phase,
    /// In the queue's own words: `OUT_OF_MEMORY`.
    pub state: String,
    pub reason: String,
    /// Where it runs or ran.
    pub nodes: String,
    /// When it started, as the queue writes it.
    pub since: String,
}

impl Job {
    /// Jobs are numbered in the order of their submission.
    pub fn number(&self) -> u64 {
        self.id.split('_').next().and_then(|id| id.parse().ok()).unwrap_or(0)
    }

    pub fn lives(&self) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Running)
    }
}

/// Base of the cells that a job's name stands for: `ss-PLAN-17-3fa2` gives 17.
pub fn base_of(name: &str, prefix: &str) -> Option<usize> {
    name.strip_prefix(prefix)?.split('-').next()?.parse().ok()
}
