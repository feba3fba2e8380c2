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
//! because of it then comes back with it. Only one process submits a plan at a time: it holds the plan's lease.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{
    cell::{Failed, Started},
    group::{Wish, groups},
    profile::{Profile, Request},
    queue::{Job, Phase, Queue, Refusal, Submission, Work, base_of},
    saved::{Done, SavedPlan},
};
use crate::{
    digest::Digest,
    error::{Error, Result},
    pipeline::Pipeline,
    plan::{Force, PlanOptions, Planner, State},
    progress::Cancel,
    run::{
        event::{Event, Failure, Observer, Skip, Summary, Todo},
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

/// Between two looks at the queue.
const PAUSES: std::ops::Range<u64> = 400..15_000;
/// Looks at which an ended job may still owe its mark: a shared folder shows files late.
const GRACE: u32 = 3;
/// Dependencies of one job; more are gathered by gates.
const MAX_AFTER: usize = 1000;
/// A running job's heartbeat is looked for at this distance.
const BEATS_EVERY: Duration = Duration::from_secs(60);
/// Submissions of one cell in one run that the queue cancelled without its fault, beyond those that a lost cell
/// explains: each loss may cancel what waits for it.
const MAX_RETURNS: u32 = 20;

/// Prefix of the names of a plan's jobs.
pub fn prefix(plan: &Digest) -> String {
    format!("ss-{}-", &plan.hex()[..16])
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
    let mut summary = Summary {
        cells: plan.cells.len(),
        fresh: plan.count(State::Fresh),
        frozen: plan.count(State::Frozen),
        blocked: plan.count(State::Blocked),
        ..Summary::default()
    };
    let to_run: Vec<usize> = plan.cells.iter().filter(|c| c.state == State::Run).map(|c| c.index).collect();
    let todo = plan.cells.iter().filter(|c| c.state == State::Run);
    observer.event(&Event::Planned {
        cells: summary.cells,
        fresh: summary.fresh,
        run: to_run.len(),
        blocked: summary.blocked,
        threads: 0,
        todo: todo.map(|c| Todo { cell: c.cell.clone(), kind: c.kind.into(), expected_ms: c.expected_ms }).collect(),
    });
    for cell in plan.cells.iter().filter(|c| c.state == State::Blocked) {
        let reasons = cell.reasons.iter().map(ToString::to_string).collect();
        observer.event(&Event::Blocked { cell: cell.cell.clone(), reasons });
    }
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
    /// Cells of this run, parents first.
    cells: Vec<usize>,
    tracks: HashMap<usize, Track>,
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
            beat: None,
        };
        let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos());
        let token = Digest::of(format!("{clock} {}", std::process::id()).as_bytes()).hex()[..6].to_string();
        Ok(Follower {
            prefix: prefix(&plan),
            tracks: cells.iter().map(|&cell| (cell, track())).collect(),
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
            cells,
        })
    }

    fn follow(&mut self, summary: &mut Summary) -> Result<()> {
        let mut pause = PAUSES.start;
        loop {
            let changed = self.round(summary)?;
            self.first_round = false;
            let open = self.tracks.values().filter(|t| t.stand == Stand::Open).count();
            if open == 0 || self.options.detach {
                return Ok(());
            }
            if self.options.cancel.requested() {
                return self.stop();
            }
            pause = if changed { PAUSES.start } else { (pause * 5 / 4).min(PAUSES.end) };
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
        let done = self.store.marked(&self.plan, Mark::Done)?;
        let failed = self.store.marked(&self.plan, Mark::Failed)?;
        self.look_at_check(&jobs)?;
        let mut newest: HashMap<usize, &Job> = HashMap::new();
        for job in &jobs {
            let Some(base) = base_of(&job.name, &self.prefix) else { continue };
            let job_of = newest.entry(base + job.task.unwrap_or(0)).or_insert(job);
            // A living job counts more than a later one that has ended.
            if (job.lives(), job.number()) > (job_of.lives(), job_of.number()) {
                *job_of = job;
            }
        }
        let mut changed = false;
        let mut absent = Vec::new();
        for cell in self.cells.clone() {
            if self.tracks[&cell].stand != Stand::Open {
                continue;
            }
            let job = newest.get(&cell).copied();
            let was = (self.tracks[&cell].stand.clone(), self.tracks[&cell].told.clone());
            if self.look(cell, job, &done, &failed, summary)? {
                absent.push(cell);
            }
            changed |= was != (self.tracks[&cell].stand.clone(), self.tracks[&cell].told.clone());
        }
        if !self.unwanted.is_empty() {
            let ids = std::mem::take(&mut self.unwanted);
            self.queue.cancel(&ids).map_err(refused)?;
        }
        if !absent.is_empty() && !self.options.cancel.requested() {
            let _alone = match lease {
                Some(lease) => lease,
                None => match self.store.try_lease(&self.plan)? {
                    Some(lease) => lease,
                    None => return Ok(changed),
                },
            };
            changed |= self.submit(&absent)?;
        }
        Ok(changed)
    }

    /// Settles one cell as far as it can be; whether it has to be submitted.
    fn look(
        &mut self,
        cell: usize,
        job: Option<&Job>,
        done: &BTreeSet<usize>,
        failed: &BTreeSet<usize>,
        summary: &mut Summary,
    ) -> Result<bool> {
        let name = self.pipeline.cells[cell].id.clone();
        let ours = self.tracks[&cell].job.clone();
        // A mark from before this run tells of a record that is gone, unless a job of now has put it there.
        if done.contains(&cell)
            && let Some(mark) = self.store.mark::<Done>(&self.plan, Mark::Done, cell)?
            && let Some(record) = self.store.record(&mark.key)?
            && self.store.first_missing(&record.outputs)?.is_none()
        {
            if mark.ran {
                summary.ran += 1;
                let bytes = record.outputs.values().map(|a| a.bytes()).sum();
                self.observer.event(&Event::Done {
                    cell: name,
                    key: mark.key,
                    wall_ms: record.wall_ms,
                    cpu_ms: record.cpu_ms,
                    peak_rss_bytes: record.peak_rss_bytes,
                    bytes,
                });
            } else {
                summary.spared += 1;
                self.observer.event(&Event::Spared { cell: name, key: mark.key });
            }
            self.settle(cell, Stand::Done);
            return Ok(false);
        }
        if let Some(root) = self.failed_parent(cell) {
            if let Some(job) = job.filter(|j| j.phase < Phase::Completed) {
                self.unwanted.push(job.id.clone());
            }
            let because = self.pipeline.cells[root].id.clone();
            summary.skipped += 1;
            self.observer.event(&Event::Skipped(Skip { cell: name, because, stopped: false }));
            self.settle(cell, Stand::Skipped(root));
            return Ok(false);
        }
        match job {
            Some(job) if job.lives() => {
                if job.phase == Phase::Running && self.silent(cell)? {
                    self.tell(cell, job, "lost", "its heartbeat has stopped");
                    self.unwanted.push(job.id.clone());
                    return self.lost(cell, "its heartbeat has stopped", summary);
                }
                let (state, detail) = match job.phase {
                    Phase::Running => ("running", format!("on {} since {}", job.nodes, job.since)),
                    _ if job.reason.is_empty() || job.reason == "None" => ("pending", String::new()),
                    _ => ("pending", job.reason.clone()),
                };
                let adopted = ours.is_none();
                let track = self.track(cell);
                track.job = Some(job.id.clone());
                track.owed = 0;
                self.tell(cell, job, if adopted { "adopted" } else { state }, &detail);
                Ok(false)
            }
            Some(job) if job.phase == Phase::Stuck => {
                self.unwanted.push(job.id.clone());
                if job.reason.contains("Dependency") {
                    return self.returned(cell, summary);
                }
                if ours.is_none() {
                    return Ok(true);
                }
                self.fail(cell, format!("job {} cannot start: {}", job.id, job.reason), None, None, summary);
                Ok(false)
            }
            // Of a run before this one: whatever it was, it is tried again.
            Some(_) | None if ours.is_none() => Ok(true),
            ended => self.ended(cell, ours.as_deref(), ended, failed, summary),
        }
    }

    /// A job of this run that is over, or unknown to the queue, and has not left its result.
    fn ended(
        &mut self,
        cell: usize,
        ours: Option<&str>,
        job: Option<&Job>,
        failed: &BTreeSet<usize>,
        summary: &mut Summary,
    ) -> Result<bool> {
        if failed.contains(&cell)
            && let Some(mark) = self.store.mark::<Failed>(&self.plan, Mark::Failed, cell)?
            && mark.job.as_deref() == ours
        {
            if mark.exit == 3 {
                // Its parents' results have gone, or a dependency was satisfied by a job that the queue forgot.
                return self.lost(cell, &mark.error, summary);
            }
            let tail = mark.tail.last().map(|l| format!("; its log ends with: {}", l.trim())).unwrap_or_default();
            self.fail(cell, format!("{} (on {}{tail})", mark.error, mark.host), mark.hint, mark.log, summary);
            return Ok(false);
        }
        let track = self.track(cell);
        track.owed += 1;
        let state = job.map_or("unknown to the queue", |j| j.state.as_str()).to_string();
        if state == "OUT_OF_MEMORY" {
            let retries = self.options.profile.retries;
            let track = self.track(cell);
            track.out_of_memory += 1;
            if track.out_of_memory <= retries.out_of_memory {
                return Ok(true);
            }
            let (times, asked) = (track.out_of_memory, self.asked(cell)?);
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
                let told =
                    format!("job {} ended without a word of the program{}", ours.unwrap_or("?"), self.shell(job));
                self.fail(cell, told, Some(NODES.into()), None, summary);
                Ok(false)
            }
            state => self.lost(cell, &state.to_lowercase(), summary),
        }
    }

    /// The queue cancelled it because of another cell, which is not failed for good.
    fn returned(&mut self, cell: usize, summary: &mut Summary) -> Result<bool> {
        self.track(cell).returns += 1;
        let explained: u32 = self.tracks.values().map(|t| t.lost + t.out_of_memory).sum();
        if self.track(cell).returns <= MAX_RETURNS + explained {
            return Ok(true);
        }
        self.fail(cell, "the queue cancels its jobs again and again".into(), None, None, summary);
        Ok(false)
    }

    fn lost(&mut self, cell: usize, why: &str, summary: &mut Summary) -> Result<bool> {
        let retries = self.options.profile.retries.lost;
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
    fn silent(&mut self, cell: usize) -> Result<bool> {
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

    fn failed_parent(&self, cell: usize) -> Option<usize> {
        let parents = self.pipeline.cells[cell].inputs.values().flatten().map(|i| i.cell);
        parents.filter_map(|p| self.tracks.get(&p).map(|t| (p, &t.stand))).find_map(|(p, stand)| match stand {
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
    }

    fn track(&mut self, cell: usize) -> &mut Track {
        self.tracks.get_mut(&cell).unwrap_or_else(|| panic!("bug: cell {cell} is not followed"))
    }

    /// Tells of a cell's job where that is news.
    fn tell(&mut self, cell: usize, job: &Job, state: &str, detail: &str) {
        // Why a job waits changes all the time and is no news.
        let news = if state == "pending" { "pending".to_string() } else { format!("{state} {}", job.id) };
        let track = self.track(cell);
        let adopted = !track.told.is_empty() && state == "pending";
        if track.told == news || adopted {
            return;
        }
        track.told = news;
        let (cell, job) = (self.pipeline.cells[cell].id.clone(), job.id.clone());
        self.observer.event(&Event::Queued { cell, job, state: state.into(), detail: detail.into() });
    }

    fn request(&self, cell: usize) -> Result<Request> {
        let spec = &self.pipeline.cells[cell];
        let grown = self.tracks.get(&cell).map_or(0, |t| t.out_of_memory);
        Ok(self.options.profile.request(spec, spec.kind.resources(&spec.params)?, grown))
    }

    fn asked(&self, cell: usize) -> Result<String> {
        let grown = self.tracks.get(&cell).map_or(0, |t| t.out_of_memory.saturating_sub(1));
        let spec = &self.pipeline.cells[cell];
        let request = self.options.profile.request(spec, spec.kind.resources(&spec.params)?, grown);
        Ok(request.memory_mib.map_or("the cluster's default".into(), |m| format!("{m} MiB")))
    }

    /// Submits cells, parents first, as far as the queue takes them. Whether any was.
    fn submit(&mut self, absent: &[usize]) -> Result<bool> {
        let waiting: HashSet<usize> = absent.iter().copied().collect();
        let mut wishes = Vec::with_capacity(absent.len());
        for &cell in absent {
            let spec = &self.pipeline.cells[cell];
            let parents = spec.inputs.values().flatten().map(|i| i.cell);
            let open = |p: &usize| self.tracks.get(p).is_some_and(|t| t.stand == Stand::Open);
            let parents: BTreeSet<usize> = parents.filter(open).collect();
            wishes.push(Wish { cell, node: &spec.node, request: self.request(cell)?, parents });
        }
        for &cell in absent {
            // From here on its old job counts for nothing.
            let track = self.track(cell);
            track.job = None;
            track.owed = 0;
        }
        let groups = groups(wishes, self.max_array);
        if self.first_round {
            self.check_requests(groups.iter().map(|g| (&g[0].request, g[0].cell)))?;
        }
        let mut any = false;
        for group in groups {
            let Some(after) = self.after(&group[0].parents, &waiting)? else { break };
            let base = group[0].cell;
            let work = match group.as_slice() {
                [_] => Work::Cell(base),
                group => Work::Cells { base, tasks: group.iter().map(|w| w.cell - base).collect() },
            };
            let comment = if group.len() == 1 { self.pipeline.cells[base].id.clone() } else { group[0].node.into() };
            let name = format!("{}{base}-", self.prefix);
            let id = match self.send(name, work, group[0].request.clone(), after, comment) {
                Ok(id) => id,
                // What is not submitted yet is absent at the next look.
                Err(Refusal::Full(_)) if any || !self.first_round => break,
                Err(Refusal::Unreachable(_)) if !self.first_round => break,
                Err(e) => return Err(refused(e)),
            };
            any = true;
            if group.len() > 1 {
                self.arrays.insert(id.clone(), group.len());
            }
            for wish in &group {
                let job = if group.len() == 1 { id.clone() } else { format!("{id}_{}", wish.cell - base) };
                let track = self.track(wish.cell);
                track.job = Some(job.clone());
                track.beat = None;
                track.told = format!("submitted {job}");
                let cell = self.pipeline.cells[wish.cell].id.clone();
                let detail = wish.parents.len();
                let detail = if detail == 0 { String::new() } else { format!("after {detail} cells") };
                self.observer.event(&Event::Queued { cell, job, state: "submitted".into(), detail });
            }
        }
        Ok(any)
    }

    /// Every different request once, before anything is submitted.
    fn check_requests<'r>(&self, requests: impl Iterator<Item = (&'r Request, usize)>) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (request, cell) in requests {
            if seen.insert(request.clone()) {
                let submission = Submission {
                    name: format!("{}test", self.prefix),
                    work: Work::Cell(cell),
                    request: request.clone(),
                    after: Vec::new(),
                    comment: String::new(),
                };
                self.queue.check(&submission).map_err(|e| {
                    let cell = &self.pipeline.cells[cell].id;
                    match e {
                        Refusal::Never(m) => Error::invalid(format!("{cell}: the queue refuses its request: {m}"))
                            .with_hint("see partition, account, time, memory, cpus and gpus in the profile"),
                        e => refused(e),
                    }
                })?;
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        name: String,
        work: Work,
        request: Request,
        after: Vec<String>,
        comment: String,
    ) -> Result<String, Refusal> {
        self.submissions += 1;
        let name = format!("{name}{}{:x}", self.token, self.submissions);
        self.queue.submit(&Submission { name, work, request, after, comment })
    }

    /// Ids of the jobs to wait for; `None` where one of them is still to be submitted and the queue is full.
    fn after(&mut self, parents: &BTreeSet<usize>, waiting: &HashSet<usize>) -> Result<Option<Vec<String>>> {
        let mut jobs = BTreeSet::new();
        for parent in parents {
            match &self.tracks[parent].job {
                Some(job) => jobs.insert(job.clone()),
                None if waiting.contains(parent) => return Ok(None),
                // Done a moment ago, or about to be settled.
                None => false,
            };
        }
        let mut tasks: BTreeMap<&str, usize> = BTreeMap::new();
        for job in &jobs {
            if let Some((array, _)) = job.split_once('_') {
                *tasks.entry(array).or_default() += 1;
            }
        }
        let whole: HashSet<String> = tasks
            .into_iter()
            .filter(|(array, n)| self.arrays.get(*array) == Some(n))
            .map(|(array, _)| array.to_string())
            .collect();
        let short = |job: &String| job.split_once('_').map(|(a, _)| a).filter(|a| whole.contains(*a)).map(Into::into);
        let jobs: BTreeSet<String> = jobs.iter().map(|job| short(job).unwrap_or_else(|| job.clone())).collect();
        let mut after: Vec<String> = jobs.into_iter().collect();
        if after.is_empty() && self.options.profile.check {
            after.extend(self.checked()?);
        }
        while after.len() > MAX_AFTER {
            let mut gates = Vec::new();
            for some in after.chunks(MAX_AFTER) {
                let (name, small) = (format!("{}gate-", self.prefix), self.options.profile.small());
                match self.send(name, Work::Gate, small, some.to_vec(), "waits for many".into()) {
                    Ok(id) => gates.push(id),
                    Err(Refusal::Full(_)) => return Ok(None),
                    Err(e) => return Err(refused(e)),
                }
            }
            after = gates;
        }
        Ok(Some(after))
    }

    /// The job that looks from a node, submitted before any other of this run.
    fn checked(&mut self) -> Result<Option<String>> {
        if self.check.is_none() && self.first_round {
            let (name, small) = (format!("{}check-", self.prefix), self.options.profile.small());
            let id = self.send(name, Work::Check, small, Vec::new(), "looks for the store".into());
            self.check = Some(id.map_err(refused)?);
        }
        Ok(self.check.clone())
    }

    /// # Errors
    /// Where the job that looks from a node has failed; the others are cancelled then.
    fn look_at_check(&mut self, jobs: &[Job]) -> Result<()> {
        let Some(check) = &self.check else { return Ok(()) };
        let Some(job) = jobs.iter().find(|j| j.id == *check) else { return Ok(()) };
        match job.phase {
            Phase::Completed => self.check = None,
            Phase::Ended | Phase::Stuck => {
                let ids = jobs.iter().filter(|j| j.phase < Phase::Completed).map(|j| j.id.clone()).collect::<Vec<_>>();
                self.queue.cancel(&ids).map_err(refused)?;
                let node = if job.nodes.is_empty() { "a node" } else { &job.nodes };
                let told = format!(
                    "{node} cannot compute: job {} ended as {}{}; everything was cancelled",
                    job.id,
                    job.state,
                    self.shell(Some(job))
                );
                return Err(Error::invalid(told).with_hint(NODES));
            }
            Phase::Pending | Phase::Running => {}
        }
        Ok(())
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
        summary.unfinished += self.tracks.values().filter(|t| t.stand == Stand::Open).count();
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

/// How the unfinished cells of a plan stand, for `plan` and `ls`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Standing {
    pub cell: String,
    /// `pending`, `running`, `failed`; `absent` where no job is known.
    pub state: String,
    pub job: Option<String>,
    /// Where and since when, or why.
    pub detail: String,
    /// The last lines of the log of a failed cell.
    pub tail: Vec<String>,
}

/// The store first, then the queue. `only` are the cells that are not current.
pub fn standings(
    pipeline: &Pipeline,
    store: &Store,
    plan: &Digest,
    queue: &dyn Queue,
    only: &[usize],
) -> Result<Vec<Standing>> {
    let prefix = prefix(plan);
    let mut newest: HashMap<usize, Job> = HashMap::new();
    for job in queue.jobs(&prefix).map_err(refused)? {
        let Some(base) = base_of(&job.name, &prefix) else { continue };
        let cell = base + job.task.unwrap_or(0);
        if newest.get(&cell).is_none_or(|n| (job.lives(), job.number()) > (n.lives(), n.number())) {
            newest.insert(cell, job);
        }
    }
    let failed = store.marked(plan, Mark::Failed)?;
    let mut out = Vec::new();
    for &cell in only {
        let job = newest.get(&cell);
        let (mut state, mut detail, mut tail) = ("absent".to_string(), String::new(), Vec::new());
        match job {
            Some(job) if job.phase == Phase::Running => {
                (state, detail) = ("running".into(), format!("on {} since {}", job.nodes, job.since));
            }
            Some(job) if job.phase == Phase::Pending => (state, detail) = ("pending".into(), job.reason.clone()),
            Some(job) if job.phase == Phase::Stuck => (state, detail) = ("stuck".into(), job.reason.clone()),
            job => {
                if failed.contains(&cell)
                    && let Some(mark) = store.mark::<Failed>(plan, Mark::Failed, cell)?
                {
                    (state, detail, tail) = ("failed".into(), format!("{} (on {})", mark.error, mark.host), mark.tail);
                } else if let Some(job) = job.filter(|j| j.phase == Phase::Ended) {
                    (state, detail) = ("failed".into(), format!("its job ended as {}", job.state));
                }
            }
        }
        out.push(Standing {
            cell: pipeline.cells[cell].id.clone(),
            state,
            job: job.map(|j| j.id.clone()),
            detail,
            tail,
        });
    }
    Ok(out)
}
