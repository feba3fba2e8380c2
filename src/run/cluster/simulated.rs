//! A cluster that exists in memory: discrete events, no clock, the same course for the same seed.
//!
//! It behaves as Slurm was observed to: dependencies by `afterok` with `--kill-on-invalid-dep`, a job whose node
//! fails goes back into the queue or is lost, a preempted one goes back, ended jobs are forgotten after a while, and
//! a dependency on a forgotten job counts as satisfied. One job takes one node.

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
    time::Duration,
};

use super::{
    profile::Request,
    queue::{Job, Limits, Phase, Queue, Refusal, Submission, Work},
};
use crate::digest::Digest;

/// What goes wrong, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub seed: u64,
    pub nodes: usize,
    /// Of a cell; the shortest takes half of it, the longest one and a half.
    pub mean_run_s: u64,
    /// Between two failures of nodes anywhere, 0 for never. Every fourth takes its job out of the queue.
    pub node_fails_every_s: u64,
    /// Between two preemptions, 0 for never.
    pub preempts_every_s: u64,
    pub max_array: usize,
    /// Jobs and tasks that the queue holds at most.
    pub max_jobs: usize,
    /// For how long ended jobs are known.
    pub remembers_s: u64,
}

/// How a cell ended on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    Failed,
    OutOfMemory,
}

/// What a node does when a cell's time is over: cell, job, what it was given.
pub type Body<'a> = Box<dyn FnMut(usize, &str, &Request) -> Exit + 'a>;

pub struct Simulated<'a>(RefCell<State<'a>>);

struct State<'a> {
    weather: Weather,
    body: Body<'a>,
    now_ms: u64,
    draws: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    jobs: Vec<Simjob>,
    /// By id of a job, of a whole array, and of each of its tasks.
    ids: HashMap<String, Vec<usize>>,
    /// Jobs that are not forgotten yet, in the order of their submission.
    known: Vec<usize>,
    ready: VecDeque<usize>,
    free: Vec<usize>,
    running: BTreeMap<usize, usize>,
    /// Jobs that have not ended.
    open: usize,
    submitted: u64,
    counts: Counts,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions for all jobs.
    pub looks: usize,
    pub submissions: usize,
    pub node_fails: usize,
    pub preemptions: usize,
    pub out_of_memory: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Of a job in its so-many-th start: one that was put back meanwhile starts anew.
    Ends(usize, u32),
    NodeFails,
    NodeReturns(usize),
    Preempts,
}

struct Simjob {
    job: Job,
    cell: Option<usize>,
    request: Request,
    /// Jobs it still waits for, and those that wait for it.
    waits: usize,
    children: Vec<usize>,
    starts: u32,
    /// Where it runs.
    node: Option<usize>,
    ended_ms: u64,
}

impl<'a> Simulated<'a> {
    pub fn new(weather: Weather, body: Body<'a>) -> Self {
        let mut state = State {
            weather,
            body,
            now_ms: 0,
            draws: 0,
            events: BinaryHeap::new(),
            jobs: Vec::new(),
            ids: HashMap::new(),
            known: Vec::new(),
            ready: VecDeque::new(),
            free: (0..weather.nodes).rev().collect(),
            running: BTreeMap::new(),
            open: 0,
            submitted: 0,
            counts: Counts::default(),
        };
        for (every, event) in
            [(weather.node_fails_every_s, Event::NodeFails), (weather.preempts_every_s, Event::Preempts)]
        {
            if every > 0 {
                state.at(every * 1000, event);
            }
        }
        Simulated(RefCell::new(state))
    }

    pub fn counts(&self) -> Counts {
        self.0.borrow().counts
    }

    /// Since the cluster began.
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.0.borrow().now_ms)
    }
}

impl Queue for Simulated<'_> {
    fn limits(&self) -> Result<Limits, Refusal> {
        Ok(Limits { max_array: self.0.borrow().weather.max_array })
    }

    fn check(&self, _: &Submission) -> Result<(), Refusal> {
        Ok(())
    }

    fn submit(&self, submission: &Submission) -> Result<String, Refusal> {
        self.0.borrow_mut().submit(submission)
    }

    fn jobs(&self, prefix: &str) -> Result<Vec<Job>, Refusal> {
        let mut state = self.0.borrow_mut();
        state.counts.looks += 1;
        let State { jobs, known, weather, now_ms, .. } = &mut *state;
        let remembered = weather.remembers_s * 1000;
        known.retain(|&place| {
            let j = &jobs[place];
            j.job.phase < Phase::Completed || *now_ms < j.ended_ms + remembered
        });
        let named = known.iter().map(|&place| &jobs[place].job).filter(|job| job.name.starts_with(prefix));
        Ok(named.cloned().collect())
    }

    fn cancel(&self, ids: &[String]) -> Result<(), Refusal> {
        let mut state = self.0.borrow_mut();
        for id in ids {
            for place in state.ids.get(id).cloned().unwrap_or_default() {
                state.end(place, Phase::Ended, "CANCELLED", "None");
            }
        }
        Ok(())
    }

    fn pause(&self, time: Duration) {
        self.0.borrow_mut().pass(time.as_millis() as u64);
    }
}

impl State<'_> {
    /// A number below `below`, of the seed and how many were drawn before.
    fn draw(&mut self, below: u64) -> u64 {
        self.draws += 1;
        let digest = Digest::of(format!("{} {}", self.weather.seed, self.draws).as_bytes());
        u64::from_le_bytes(digest.0[..8].try_into().unwrap_or_default()) % below.max(1)
    }

    fn at(&mut self, ms: u64, event: Event) {
        self.draws += 1;
        self.events.push(Reverse((ms, self.draws, event)));
    }

    fn submit(&mut self, submission: &Submission) -> Result<String, Refusal> {
        let tasks: Vec<(Option<usize>, Option<usize>)> = match &submission.work {
            Work::Check | Work::Gate => vec![(None, None)],
            Work::Cell(cell) => vec![(None, Some(*cell))],
            Work::Cells { base, tasks } => tasks.iter().map(|&task| (Some(task), Some(base + task))).collect(),
        };
        if self.open + tasks.len() > self.weather.max_jobs {
            return Err(Refusal::Full("the queue takes no more jobs".into()));
        }
        if tasks.iter().any(|(task, _)| task.is_some_and(|t| t >= self.weather.max_array)) {
            return Err(Refusal::Never("invalid job array specification".into()));
        }
        self.submitted += 1;
        self.counts.submissions += 1;
        let id = self.submitted.to_string();
        let parents: Vec<usize> =
            submission.after.iter().flat_map(|id| self.ids.get(id).cloned().unwrap_or_default()).collect();
        let remembered = self.weather.remembers_s * 1000;
        let mut broken = false;
        let mut waits_for = Vec::new();
        for parent in parents {
            let j = &self.jobs[parent];
            match j.job.phase {
                Phase::Completed => {}
                Phase::Ended => broken |= self.now_ms < j.ended_ms + remembered,
                _ => waits_for.push(parent),
            }
        }
        for (task, cell) in tasks {
            let place = self.jobs.len();
            let own = task.map_or(id.clone(), |task| format!("{id}_{task}"));
            self.ids.entry(id.clone()).or_default().push(place);
            if own != id {
                self.ids.entry(own.clone()).or_default().push(place);
            }
            for &parent in &waits_for {
                self.jobs[parent].children.push(place);
            }
            let job = Job {
                id: own,
                task,
                name: submission.name.clone(),
                phase: Phase::Pending,
                state: "PENDING".into(),
                reason: if waits_for.is_empty() { "Resources".into() } else { "Dependency".into() },
                nodes: String::new(),
                since: String::new(),
            };
            let request = submission.request.clone();
            let waits = waits_for.len();
            self.jobs.push(Simjob {
                job,
                cell,
                request,
                waits,
                children: Vec::new(),
                starts: 0,
                node: None,
                ended_ms: 0,
            });
            self.known.push(place);
            self.open += 1;
            if broken {
                self.end(place, Phase::Ended, "CANCELLED", "DependencyNeverSatisfied");
            } else if waits == 0 {
                self.ready.push_back(place);
            }
        }
        self.start();
        Ok(id)
    }

    fn start(&mut self) {
        while let (Some(&node), Some(&place)) = (self.free.last(), self.ready.front()) {
            self.ready.pop_front();
            if self.jobs[place].job.phase != Phase::Pending {
                continue;
            }
            self.free.pop();
            self.running.insert(node, place);
            let mean_ms = self.weather.mean_run_s * 1000;
            let ms = if self.jobs[place].cell.is_some() { mean_ms / 2 + self.draw(mean_ms) } else { 1000 };
            let since = format!("{} s", self.now_ms / 1000);
            let j = &mut self.jobs[place];
            j.starts += 1;
            j.job.phase = Phase::Running;
            (j.job.state, j.job.reason, j.job.since) = ("RUNNING".into(), "None".into(), since);
            j.node = Some(node);
            j.job.nodes = format!("n{node}");
            let event = Event::Ends(place, j.starts);
            self.at(self.now_ms + ms, event);
        }
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while let Some(Reverse((at, _, event))) = self.events.peek().copied() {
            if at > until {
                break;
            }
            self.events.pop();
            self.now_ms = at;
            self.happen(event);
            self.start();
        }
        self.now_ms = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ends(place, starts) => {
                let j = &self.jobs[place];
                if j.job.phase != Phase::Running || j.starts != starts {
                    return;
                }
                let exit = match j.cell {
                    Some(cell) => (self.body)(cell, &j.job.id, &j.request),
                    None => Exit::Done,
                };
                match exit {
                    Exit::Done => self.end(place, Phase::Completed, "COMPLETED", "None"),
                    Exit::Failed => self.end(place, Phase::Ended, "FAILED", "NonZeroExitCode"),
                    Exit::OutOfMemory => {
                        self.counts.out_of_memory += 1;
                        self.end(place, Phase::Ended, "OUT_OF_MEMORY", "OutOfMemory");
                    }
                }
            }
            Event::NodeFails => {
                if let Some((node, place)) = self.victim() {
                    self.counts.node_fails += 1;
                    if self.counts.node_fails.is_multiple_of(4) {
                        self.end(place, Phase::Ended, "NODE_FAIL", "NodeDown");
                    } else {
                        self.put_back(place);
                    }
                    self.free.retain(|n| *n != node);
                    self.at(self.now_ms + 600_000, Event::NodeReturns(node));
                }
                self.at(self.now_ms + self.weather.node_fails_every_s * 1000, Event::NodeFails);
            }
            Event::NodeReturns(node) => self.free.push(node),
            Event::Preempts => {
                if let Some((_, place)) = self.victim() {
                    self.counts.preemptions += 1;
                    self.put_back(place);
                }
                self.at(self.now_ms + self.weather.preempts_every_s * 1000, Event::Preempts);
            }
        }
    }

    /// What runs on a node that is drawn from all, so that the last jobs are struck no more often than the first.
    fn victim(&mut self) -> Option<(usize, usize)> {
        let node = self.draw(self.weather.nodes as u64) as usize;
        self.running.get(&node).map(|place| (node, *place))
    }

    fn leave_node(&mut self, place: usize) {
        if let Some(node) = self.jobs[place].node.take() {
            self.running.remove(&node);
            self.free.push(node);
        }
    }

    fn put_back(&mut self, place: usize) {
        self.leave_node(place);
        let job = &mut self.jobs[place].job;
        (job.phase, job.state, job.nodes) = (Phase::Pending, "PENDING".into(), String::new());
        self.ready.push_back(place);
    }

    fn end(&mut self, place: usize, phase: Phase, state: &str, reason: &str) {
        let mut open = vec![(place, phase, state, reason)];
        while let Some((place, phase, state, reason)) = open.pop() {
            if self.jobs[place].job.phase >= Phase::Completed {
                continue;
            }
            if self.jobs[place].job.phase == Phase::Running {
                self.leave_node(place);
            }
            self.open -= 1;
            let now_ms = self.now_ms;
            let j = &mut self.jobs[place];
            (j.job.phase, j.job.state, j.job.reason, j.ended_ms) = (phase, state.into(), reason.into(), now_ms);
            for child in std::mem::take(&mut j.children) {
                if phase == Phase::Completed {
                    self.jobs[child].waits -= 1;
                    if self.jobs[child].waits == 0 && self.jobs[child].job.phase == Phase::Pending {
                        self.ready.push_back(child);
                    }
                } else {
                    open.push((child, Phase::Ended, "CANCELLED", "DependencyNeverSatisfied"));
                }
            }
        }
    }
}
