//! The executor for a queue: submits a whole plan up front, and follows it for as long as it is let.
//!
//! Nothing of it has to live: the jobs wait for each other in the queue and find each other's results in the store.
//! Who follows, or runs again, sees the same as whoever submitted:
//!
//! ```text
//! a cell is   done      it has the mark of a job that found or made its record
//!             pending   the queue has a job with its name           -> adopted
//!             running   the same, unless its heartbeat has stopped  -> cancelled, submitted again
//!             failed    its last job left word of it, or the queue says how it ended
//!             absent    none of these                               -> submitted
//! ```
//!
//! A failed cell cancels what needs it and nothing else. A lost one (its node failed, its job vanished) is submitted
//! again, one that was out of memory with more of it, as often as the profile says; what the queue cancelled
//! because of it then comes back with it, or after a rest if it has come back often. Only one process submits a plan
//! at a time: it holds the plan's lease.
//!
//! A look costs what is open, not what is done, and is taken the more rarely the more that is and the longer it lasts.

mod ended;
mod marks;
mod standing;
mod submit;

pub use self::standing::{Standing, standings};

use self::marks::Marks;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::{
    profile::Profile,
    queue::{Job, Phase, Queue, Refusal, base_of},
    saved::{Done, SavedPlan},
};
use crate::{
    digest::Digest,
    error::{Error, Result},
    pipeline::Pipeline,
    plan::{Force, PlanOptions, Planner, State},
    progress::Cancel,
    run::{
        event::{Event, Failure, Observer, Skip, Summary},
        unix_ms,
    },
    store::{Mark, RunEntry, Store, source::SourceIndex},
};

/// What happens to live jobs when the follower is told to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInterrupt {
    #[default]
    Leave,
    Cancel,
}

pub struct Options<'a> {
    pub plan: PlanOptions,
    pub profile: &'a Profile,
    /// Submit and return.
    pub detach: bool,
    pub on_interrupt: OnInterrupt,
    /// Submit what can run beside blocked cells.
    pub keep_going: bool,
    pub cancel: Cancel,
}

/// Between two looks at the queue, in ms.
const PAUSES: std::ops::Range<u64> = 400..15_000;
/// Looks in the time that a run has taken so far: what lasts hours need not be seen to end within a second.
const LOOKS: u64 = 500;

/// The shortest pause before the next look, in ms. An answer lists all jobs: of 20,000 it is asked for every ten
/// seconds, whatever happens meanwhile.
fn least_pause(open: usize, waited: u64) -> u64 {
    (open as u64 / 2).max(waited / LOOKS).clamp(PAUSES.start, PAUSES.end)
}

/// Prefix of the names of a plan's jobs.
pub fn prefix(plan: &Digest) -> String {
    format!("ss-{}-", &plan.hex()[..16])
}

/// The job that tells how a cell stands, by cell.
fn newest<'j>(jobs: &'j [Job], prefix: &str) -> HashMap<usize, &'j Job> {
    let mut newest: HashMap<usize, &Job> = HashMap::with_capacity(jobs.len());
    for job in jobs {
        let Some(base) = base_of(&job.name, prefix) else { continue };
        let job_of = newest.entry(base + job.task.unwrap_or(0)).or_insert(job);
        // A living job counts more than a later one that has ended.
        if (job.lives(), job.number()) > (job_of.lives(), job_of.number()) {
            *job_of = job;
        }
    }
    newest
}

/// Makes the cells that the options ask for current, by jobs.
///
/// # Errors
/// What is wrong before anything is submitted (no such account, impossible requests, a store that nodes cannot
/// see), or the queue's refusal later; jobs that were submitted are adopted by the next run.
pub fn run<'q>(
    pipeline: &Pipeline,
    store: &Store,
    sources: &SourceIndex,
    options: &Options,
    queue: &dyn Fn(&Digest) -> Box<dyn Queue + 'q>,
    observer: &dyn Observer,
) -> Result<Summary> {
    let began = Instant::now();
    let registered = store.live().and_then(|live| Ok((live, store.hold()?)));
    let planner = Planner::new(pipeline, store, sources, &options.plan)?;
    let plan = planner.plan()?;
    let mut summary = Summary::before(&plan, 0, observer);
    let to_run: Vec<usize> = plan.cells.iter().filter(|c| c.state == State::Run).map(|c| c.index).collect();
    if to_run.is_empty() || (summary.blocked > 0 && !options.keep_going) {
        summary.unfinished = to_run.len();
        store.update_last(&pipeline.name, &planner.returned(&plan))?;
    } else {
        let digest = SavedPlan::save(pipeline, store, sources)?;
        let forced = |index: usize| match &options.plan.force {
            Force::None => false,
            Force::All => true,
            Force::Cells(cells) => cells.contains(&index),
        };
        let known: BTreeMap<usize, Digest> =
            plan.cells.iter().filter_map(|c| Some((c.index, c.current.as_ref()?.key))).collect();
        let (_live, hold) = registered?;
        store.rely_on(plan.cells.iter().filter_map(|c| c.key))?;
        drop(hold);
        for cell in plan.cells.iter().filter(|c| c.state == State::Run) {
            // A mark tells of a record that must have gone since, or the cell would be fresh.
            if let (true, Some(key)) = (forced(cell.index), &cell.key) {
                store.delete_record(key)?;
            }
        }
        store.put_known(&digest, &known)?;
        let queue = queue(&digest);
        let mut follower = Follower::new(pipeline, store, options, &*queue, observer, digest, to_run)?;
        let ended = follower.follow(&mut summary);
        follower.count(&mut summary);
        // What became current is known to `ls`, `why` and the reports, whoever computed it.
        let now = PlanOptions { only: options.plan.only.clone(), force: Force::None };
        let planner = Planner::new(pipeline, store, sources, &now)?;
        let plan = planner.plan()?;
        store.update_last(&pipeline.name, &planner.returned(&plan))?;
        let keys = plan.cells.iter().filter_map(|c| Some(c.current.as_ref()?.key)).collect();
        store.note_run(&RunEntry { pipeline: pipeline.name.clone(), finished_unix_ms: unix_ms(), keys })?;
        ended?;
    }
    summary.interrupted = options.cancel.requested() && !summary.complete();
    summary.wall_ms = began.elapsed().as_millis() as u64;
    observer.event(&Event::Finished(summary.clone()));
    Ok(summary)
}

/// How a cell stands in this run.
#[derive(Clone, Debug, PartialEq)]
enum Stand {
    Open,
    Done,
    Failed,
    /// Because of the failure of this cell.
    Skipped(usize),
}

struct Track {
    stand: Stand,
    /// Its job, submitted or adopted by this run.
    job: Option<String>,
    /// What was last told of it.
    told: String,
    /// Looks at which its job had ended without a mark.
    owed: u32,
    lost: u32,
    out_of_memory: u32,
    returns: u32,
    /// Looks for which it is left out of the queue, unless its parents are done before.
    rests: u32,
    beat: Option<Instant>,
}

struct Follower<'a> {
    pipeline: &'a Pipeline,
    store: &'a Store,
    options: &'a Options<'a>,
    queue: &'a dyn Queue,
    observer: &'a dyn Observer,
    plan: Digest,
    prefix: String,
    /// Cells of this run that are not settled yet, parents first.
    open: Vec<usize>,
    /// By cell; those of other runs have none.
    tracks: Vec<Option<Track>>,
    marks: Marks,
    /// Whether this look has settled a cell or told of one.
    changed: bool,
    /// Jobs lost or out of memory, of all cells.
    losses: u32,
    max_array: usize,
    /// Tasks of the arrays that this run submitted.
    arrays: HashMap<String, usize>,
    check: Option<String>,
    /// Ids to cancel in one step.
    unwanted: Vec<String>,
    first_round: bool,
    submissions: u64,
    token: String,
}

impl<'a> Follower<'a> {
    fn new(
        pipeline: &'a Pipeline,
        store: &'a Store,
        options: &'a Options<'a>,
        queue: &'a dyn Queue,
        observer: &'a dyn Observer,
        plan: Digest,
        cells: Vec<usize>,
    ) -> Result<Self> {
        let limits = queue.limits().map_err(refused)?;
        let track = || Track {
            stand: Stand::Open,
            job: None,
            told: String::new(),
            owed: 0,
            lost: 0,
            out_of_memory: 0,
            returns: 0,
            rests: 0,
            beat: None,
        };
        let mut tracks: Vec<Option<Track>> = pipeline.cells.iter().map(|_| None).collect();
        for &cell in &cells {
            tracks[cell] = Some(track());
        }
        let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos());
        let token = Digest::of(format!("{clock} {}", std::process::id()).as_bytes()).hex()[..6].to_string();
        Ok(Follower {
            prefix: prefix(&plan),
            tracks,
            marks: Marks::default(),
            changed: false,
            losses: 0,
            max_array: if options.profile.arrays { limits.max_array } else { 0 },
            arrays: HashMap::new(),
            check: None,
            unwanted: Vec::new(),
            first_round: true,
            submissions: 0,
            token,
            pipeline,
            store,
            options,
            queue,
            observer,
            plan,
            open: cells,
        })
    }

    fn follow(&mut self, summary: &mut Summary) -> Result<()> {
        let (mut pause, mut waited) = (PAUSES.start, 0);
        loop {
            let changed = self.round(summary)?;
            self.first_round = false;
            let open = self.open.len();
            if open == 0 || self.options.detach {
                return Ok(());
            }
            if self.options.cancel.requested() {
                return self.stop();
            }
            let least = least_pause(open, waited);
            pause = if changed { least } else { (pause * 5 / 4).clamp(least, PAUSES.end) };
            waited += pause;
            let began = Instant::now();
            // Ctrl-C is heard soon, however long the pause.
            let steps = pause.div_ceil(500);
            for _ in 0..steps {
                self.queue.pause(Duration::from_millis(pause / steps));
                if self.options.cancel.requested() || began.elapsed() > Duration::from_millis(pause) {
                    break;
                }
            }
        }
    }

    /// Leaves the jobs, or cancels them all in one step.
    fn stop(&mut self) -> Result<()> {
        self.observer.event(&Event::Stopping);
        if self.options.on_interrupt == OnInterrupt::Cancel {
            let jobs = self.queue.jobs(&self.prefix).map_err(refused)?;
            let ids: Vec<String> = jobs.into_iter().filter(|j| j.phase < Phase::Completed).map(|j| j.id).collect();
            self.queue.cancel(&ids).map_err(refused)?;
        }
        Ok(())
    }

    /// Looks at everything once, and submits what is missing. Whether anything changed.
    fn round(&mut self, summary: &mut Summary) -> Result<bool> {
        // Before the queue is asked: what it then calls absent was never there.
        let lease = match self.first_round {
            true => Some(self.store.lease(&self.plan, &self.options.cancel)?),
            false => None,
        };
        let jobs = match self.queue.jobs(&self.prefix) {
            Ok(jobs) => jobs,
            // The jobs go on without being looked at.
            Err(Refusal::Unreachable(_)) if !self.first_round => return Ok(false),
            Err(e) => return Err(refused(e)),
        };
        self.marks.look(self.store, &self.plan)?;
        self.look_at_check(&jobs)?;
        let newest = newest(&jobs, &self.prefix);
        self.changed = false;
        let mut absent = Vec::new();
        let open = std::mem::take(&mut self.open);
        for &cell in &open {
            if self.look(cell, newest.get(&cell).copied(), summary)? {
                absent.push(cell);
                // From here on its old job counts for nothing.
                let track = self.track(cell);
                track.job = None;
                track.owed = 0;
            }
        }
        self.open = open;
        self.open.retain(|&cell| self.tracks[cell].as_ref().is_some_and(|t| t.stand == Stand::Open));
        if !self.unwanted.is_empty() {
            let ids = std::mem::take(&mut self.unwanted);
            self.queue.cancel(&ids).map_err(refused)?;
        }
        if !absent.is_empty() && !self.options.cancel.requested() {
            let _alone = match lease {
                Some(lease) => lease,
                None => match self.store.try_lease(&self.plan)? {
                    Some(lease) => lease,
                    None => return Ok(self.changed),
                },
            };
            self.changed |= self.submit(absent)?;
        }
        Ok(self.changed)
    }

    /// Settles one cell as far as it can be; whether it has to be submitted.
    fn look(&mut self, cell: usize, job: Option<&Job>, summary: &mut Summary) -> Result<bool> {
        let pipeline = self.pipeline;
        let name = || pipeline.cells[cell].id.clone();
        let ours = self.track(cell).job.is_some();
        // The end of its job is what a mark is awaited for.
        let over = ours && !job.is_some_and(Job::lives);
        // A mark from before this run tells of a record that is gone, unless a job of now has put it there.
        if self.marks.may_be_done(cell, over)
            && let Some(mark) = self.store.mark::<Done>(&self.plan, Mark::Done, cell)?
            && let Some(record) = self.store.record(&mark.key)?
            && self.store.first_missing(&record.outputs)?.is_none()
        {
            if mark.ran {
                summary.ran += 1;
                let bytes = record.outputs.values().map(|a| a.bytes()).sum();
                self.observer.event(&Event::Done {
                    cell: name(),
                    key: mark.key,
                    wall_ms: record.wall_ms,
                    cpu_ms: record.cpu_ms,
                    peak_rss_bytes: record.peak_rss_bytes,
                    bytes,
                });
            } else {
                summary.spared += 1;
                self.observer.event(&Event::Spared { cell: name(), key: mark.key, by: None });
            }
            self.settle(cell, Stand::Done);
            return Ok(false);
        }
        if let Some(root) = self.failed_parent(cell, summary) {
            if let Some(job) = job.filter(|j| j.phase < Phase::Completed) {
                self.unwanted.push(job.id.clone());
            }
            let because = self.pipeline.cells[root].id.clone();
            summary.skipped += 1;
            self.observer.event(&Event::Skipped(Skip { cell: name(), because, stopped: false }));
            self.settle(cell, Stand::Skipped(root));
            return Ok(false);
        }
        match job {
            Some(job) if job.lives() => {
                if job.phase == Phase::Running && self.silent(cell)? {
                    self.tell(cell, job, "lost", || "its heartbeat has stopped".into());
                    self.unwanted.push(job.id.clone());
                    return self.lost(cell, "its heartbeat has stopped", summary);
                }
                let state = match job.phase {
                    _ if !ours => "adopted",
                    Phase::Running => "running",
                    _ => "pending",
                };
                let track = self.track(cell);
                if track.job.as_ref() != Some(&job.id) {
                    track.job = Some(job.id.clone());
                }
                track.owed = 0;
                self.tell(cell, job, state, || match job.phase {
                    Phase::Running => format!("on {} since {}", job.nodes, job.since),
                    _ if job.reason == "None" => String::new(),
                    _ => job.reason.clone(),
                });
                Ok(false)
            }
            Some(job) if job.phase == Phase::Stuck => {
                self.unwanted.push(job.id.clone());
                if job.reason.contains("Dependency") {
                    return self.returned(cell, summary);
                }
                if !ours {
                    return Ok(true);
                }
                self.fail(cell, format!("job {} cannot start: {}", job.id, job.reason), None, None, summary);
                Ok(false)
            }
            // Of a run before this one: whatever it was, it is tried again.
            Some(_) | None if !ours => Ok(true),
            ended => self.ended(cell, ended, summary),
        }
    }

    fn failed_parent(&self, cell: usize, summary: &Summary) -> Option<usize> {
        // A report has thousands of parents, and is looked at as often as any cell.
        if summary.failed == 0 {
            return None;
        }
        let parents = self.pipeline.cells[cell].inputs.values().flatten().map(|i| i.cell);
        parents.filter_map(|p| self.tracks[p].as_ref().map(|t| (p, &t.stand))).find_map(|(p, stand)| match stand {
            Stand::Failed => Some(p),
            Stand::Skipped(root) => Some(*root),
            Stand::Open | Stand::Done => None,
        })
    }

    fn fail(&mut self, cell: usize, error: String, hint: Option<String>, log: Option<String>, summary: &mut Summary) {
        let failure = Failure { cell: self.pipeline.cells[cell].id.clone(), error, hint, log };
        summary.failed += 1;
        summary.failures.push(failure.clone());
        self.observer.event(&Event::Failed(failure));
        self.settle(cell, Stand::Failed);
    }

    fn settle(&mut self, cell: usize, stand: Stand) {
        self.track(cell).stand = stand;
        self.changed = true;
    }

    fn track(&mut self, cell: usize) -> &mut Track {
        self.tracks[cell].as_mut().unwrap_or_else(|| panic!("bug: cell {cell} is not followed"))
    }

    /// Tells of a cell's job where that is news.
    fn tell(&mut self, cell: usize, job: &Job, state: &str, detail: impl FnOnce() -> String) {
        let track = self.track(cell);
        let known = match state {
            // Why a job waits changes all the time and is no news.
            "pending" => !track.told.is_empty(),
            _ => track.told.strip_prefix(state).and_then(|told| told.strip_prefix(' ')) == Some(&job.id),
        };
        if known {
            return;
        }
        track.told = format!("{state} {}", job.id);
        self.changed = true;
        let (cell, job) = (self.pipeline.cells[cell].id.clone(), job.id.clone());
        self.observer.event(&Event::Queued { cell, job, state: state.into(), detail: detail() });
    }

    /// The end of what a job's shell said, where that can be read from here.
    fn shell(&self, job: Option<&Job>) -> String {
        let Some(job) = job else { return String::new() };
        let Some(folder) = shell_logs(self.store, self.options.profile, &self.plan) else { return String::new() };
        let path = folder.join(format!("{}-{}.out", job.name, job.id));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        match lines[lines.len().saturating_sub(3)..].join(" / ") {
            said if said.is_empty() => format!(" and wrote nothing to {}", path.display()),
            said => format!(", saying: {said}"),
        }
    }

    /// Cells that are open at the end.
    fn count(&self, summary: &mut Summary) {
        summary.unfinished += self.tracks.iter().flatten().filter(|t| t.stand == Stand::Open).count();
    }
}

const NODES: &str = "do the nodes see the store and the program at the same path? \
                     the profile's program:, prologue: and launcher: say how they reach it";

/// Where the output of a plan's jobs' shells goes: beside the store, where that is a folder.
pub fn shell_logs(store: &Store, profile: &Profile, plan: &Digest) -> Option<std::path::PathBuf> {
    let own = store.folder().map(|folder| folder.join("jobs"));
    let folder = profile.logs.as_ref().map(std::path::PathBuf::from).or(own)?;
    Some(folder.join(plan.hex()).join("logs"))
}

fn refused(e: Refusal) -> Error {
    let hint = match &e {
        Refusal::Unreachable(_) => "jobs that were submitted go on; run again once the controller answers",
        Refusal::Full(_) => "jobs that were submitted go on; run again to submit the rest",
        Refusal::Never(m) if m.starts_with("there is no") => {
            "load Slurm's module or run on a login node; without a queue, leave --executor out"
        }
        Refusal::Never(_) => "see the profile, and `sbatch` by hand",
    };
    Error::invalid(e.to_string()).with_hint(hint)
}
