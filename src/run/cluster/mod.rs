//! Past one machine: the same pipelines through a queue of jobs.
//!
//! ```text
//! submitter ── SavedPlan::save ──> store: plans/DIGEST
//!           ── group, profile ──> Queue::submit: arrays and jobs, each after its parents
//!
//! job       ── scaleshot cell DIGEST INDEX ──> run_cell: inputs, key, result? lease, result? compute, publish
//!                                              store: record, jobs/DIGEST/done/INDEX
//! follower  ── marks, Queue::jobs, heartbeats ──> done, pending, running, failed, absent
//! ```
//!
//! It schedules nothing: what runs where and when is the queue's matter. The follower may die at any moment and be
//! another process on another machine the next time.

mod cell;
mod estimate;
mod follow;
mod group;
mod profile;
mod queue;
mod saved;
pub mod simulated;
mod slurm;

pub use self::{
    cell::{Ended, Failed, Site, Started, run_cell, slurm_job},
    estimate::{Estimate, Interval, NodeEstimate, estimate},
    follow::{OnInterrupt, Options, Standing, prefix, run, shell_logs, standings},
    profile::{Profile, Request},
    queue::{Job, Limits, Phase, Queue, Refusal, Submission, Work},
    saved::{Done, PROGRAM, SavedPlan},
    slurm::{Slurm, requeue_self},
};

#[cfg(test)]
mod tests;
