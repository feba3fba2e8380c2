//! Cells whose job has ended without a word in the store: submitted again, as often as that may help, or failed.

use std::time::{Duration, Instant};

use super::{
    super::{
        cell::{Failed, Started},
        queue::Job,
    },
    Follower, NODES,
};
use crate::{
    error::Result,
    run::{event::Summary, unix_ms},
    store::Mark,
};

/// Looks at which an ended job may still owe its mark: a shared folder shows files late.
const GRACE: u32 = 3;
/// A running job's heartbeat is looked for at this distance.
const BEATS_EVERY: Duration = Duration::from_secs(60);
/// Submissions of one cell in one run that the queue cancelled without its fault, beyond those that a lost cell
/// explains: each loss may cancel what waits for it.
const MAX_RETURNS: u32 = 20;
/// Returns of a cell after which it is submitted again at once. Beyond them it rests for 1, 3, 7, … looks: what needs
/// thousands of cells is cancelled by each loss among them, and would be submitted after each, with all its parents.
const AT_ONCE: u32 = 3;
/// The longest rest is below 2 to the power of this, in looks.
const MOST_RESTS: u32 = 6;

impl Follower<'_> {
    /// A job of this run that is over, or unknown to the queue, and has not left its result.
    pub(super) fn ended(&mut self, cell: usize, job: Option<&Job>, summary: &mut Summary) -> Result<bool> {
        if self.marks.may_have_failed(cell)
            && let Some(mark) = self.store.mark::<Failed>(&self.plan, Mark::Failed, cell)?
            && mark.job == self.track(cell).job
        {
            if mark.exit == 3 {
                // Its parents' results have gone, or a dependency was satisfied by a job that the queue forgot.
                return self.lost(cell, &mark.error, summary);
            }
            self.fail(cell, mark.told(), mark.hint, mark.log, summary);
            return Ok(false);
        }
        let track = self.track(cell);
        track.owed += 1;
        let state = job.map_or("unknown to the queue", |j| j.state.as_str()).to_string();
        if state == "OUT_OF_MEMORY" {
            let retries = self.options.profile.retries;
            self.losses += 1;
            let track = self.track(cell);
            track.out_of_memory += 1;
            if track.out_of_memory <= retries.out_of_memory {
                return Ok(true);
            }
            let times = track.out_of_memory;
            // The last attempt is the one that has not grown by its own failure yet.
            let asked = self.request(cell, times - 1)?.memory_mib;
            let asked = asked.map_or("the cluster's default".into(), |m| format!("{m} MiB"));
            let told = format!("out of memory {times} times, the last time with {asked}");
            self.fail(cell, told, Some("ask for more memory in the profile".into()), None, summary);
            return Ok(false);
        }
        if track.owed <= GRACE {
            return Ok(false);
        }
        match state.as_str() {
            // The queue cancels what waits for a cell that ended badly; that cell may be on its way again.
            "CANCELLED" if job.is_some_and(|j| j.reason.contains("Dependency") || j.nodes.is_empty()) => {
                self.returned(cell, summary)
            }
            "CANCELLED" => {
                self.fail(cell, "its job was cancelled".into(), None, None, summary);
                Ok(false)
            }
            "TIMEOUT" | "DEADLINE" => {
                let hint = "ask for more time in the profile, or for a longer grace_s, within which it checkpoints";
                self.fail(cell, "it reached its time limit".into(), Some(hint.into()), None, summary);
                Ok(false)
            }
            "FAILED" => {
                let ours = self.track(cell).job.clone().unwrap_or_default();
                let told = format!("job {ours} ended without a word of the program{}", self.shell(job));
                self.fail(cell, told, Some(NODES.into()), None, summary);
                Ok(false)
            }
            state => self.lost(cell, &state.to_lowercase(), summary),
        }
    }

    /// The queue cancelled it because of another cell, which is not failed for good.
    pub(super) fn returned(&mut self, cell: usize, summary: &mut Summary) -> Result<bool> {
        let track = self.track(cell);
        track.returns += 1;
        let returns = track.returns;
        track.rests = (1 << returns.saturating_sub(AT_ONCE).min(MOST_RESTS)) - 1;
        if returns <= MAX_RETURNS + self.losses {
            return Ok(true);
        }
        self.fail(cell, "the queue cancels its jobs again and again".into(), None, None, summary);
        Ok(false)
    }

    /// Its job is gone without a fault of its own: submitted again, as often as the profile says.
    pub(super) fn lost(&mut self, cell: usize, why: &str, summary: &mut Summary) -> Result<bool> {
        let retries = self.options.profile.retries.lost;
        self.losses += 1;
        let track = self.track(cell);
        track.lost += 1;
        if track.lost <= retries {
            return Ok(true);
        }
        let told = format!("its jobs were lost {} times, the last time: {why}", track.lost);
        self.fail(cell, told, None, None, summary);
        Ok(false)
    }

    /// Whether a cell that the queue calls running has begun, is not done, and nobody holds its lease.
    pub(super) fn silent(&mut self, cell: usize) -> Result<bool> {
        let now = Instant::now();
        let track = self.track(cell);
        if track.beat.is_some_and(|at| now.duration_since(at) < BEATS_EVERY) {
            return Ok(false);
        }
        let first = track.beat.replace(now).is_none();
        let job = track.job.clone();
        if first {
            return Ok(false);
        }
        let Some(started) = self.store.mark::<Started>(&self.plan, Mark::Started, cell)? else { return Ok(false) };
        // A job that was put back into the queue begins anew, with an old mark.
        let age_ms = unix_ms().saturating_sub(started.unix_ms);
        if started.job != job || age_ms < 2 * BEATS_EVERY.as_millis() as u64 {
            return Ok(false);
        }
        Ok(self.store.try_lease(&started.key)?.is_some() && self.store.record_stamp(&started.key)?.is_none())
    }
}
