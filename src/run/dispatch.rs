//! The dispatcher: holds the slots, starts cells on threads, and knows how each one ended.
//!
//! It runs on the thread that called [`super::run`], and hears of everything over one channel: from the graph
//! (ready, skipped) and from cells (ended). It computes nothing and never looks into the store, but for the
//! latest keys, which it writes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    thread::Scope,
    time::{Duration, Instant},
};

use super::{
    attempt::{Attempt, Shared},
    event::{By, Event, Failure, Skip, Summary},
    graph::Reply,
    slots::{Need, Share, Slots},
};
use crate::{
    error::{Error, Result},
    pipeline::Limits,
    plan::Planned,
    store::Last,
};

/// What the dispatcher hears. A place is one in its list of cells.
pub enum Message {
    /// All parents are current.
    Ready {
        place: usize,
        reply: Reply,
    },
    /// A parent is not current and will not be.
    Skipped {
        place: usize,
        because: usize,
    },
    Ended {
        place: usize,
        ended: Result<Attempt>,
    },
    /// Every node has had its say.
    GraphOver(Result<()>),
}

/// How a cell ended.
#[derive(Clone)]
enum Outcome {
    Current,
    Failed,
    /// Because of the failure of the cell at this place.
    Skipped(usize),
    Unfinished,
}

/// A cell that is to run.
pub struct Job<'a> {
    pub planned: &'a Planned,
    pub need: Need,
    pub limits: &'a Limits,
    /// Places of the cells it has to wait for.
    pub parents: Vec<usize>,
}

/// Tries after the first where the pipeline says nothing, for what can pass.
const RETRIES: u32 = 2;
/// Before the first of them; each further one waits twice as long, up to the last figure.
const RETRY_WAIT_S: f64 = 1.0;
const RETRY_WAIT_MOST: Duration = Duration::from_secs(60);
/// How often a stop is noticed while there is nothing else to hear.
const HEARTBEAT: Duration = Duration::from_millis(100);

pub struct Dispatcher<'scope, 'env> {
    pub scope: &'scope Scope<'scope, 'env>,
    pub shared: &'scope Shared<'scope>,
    pub jobs: &'scope [Job<'scope>],
    pub keep_going: bool,
    pub slots: Slots,
    pub tell: Sender<Message>,
    state: State,
}

#[derive(Default)]
struct State {
    outcomes: Vec<Option<Outcome>>,
    replies: HashMap<usize, Reply>,
    shares: HashMap<usize, Share>,
    /// Places that can start.
    ready: BTreeSet<usize>,
    /// Places that another process computes, or that are to be tried again, with the time to look again.
    busy: Vec<(Instant, usize)>,
    told_busy: HashSet<usize>,
    /// Failed tries by place.
    tries: HashMap<usize, u32>,
    /// Parents that are not current yet.
    open_parents: Vec<usize>,
    children: Vec<Vec<usize>>,
    /// Cells that have not begun though all their parents are current, told by the graph or not yet.
    startable: usize,
    first_failure: Option<usize>,
    stopping: bool,
    changed: BTreeMap<String, Last>,
    /// When the latest keys were last written, and how long that took.
    flushed: Option<(Instant, Duration)>,
}

impl<'scope, 'env> Dispatcher<'scope, 'env> {
    pub fn new(
        scope: &'scope Scope<'scope, 'env>,
        shared: &'scope Shared<'scope>,
        jobs: &'scope [Job<'scope>],
        keep_going: bool,
        slots: Slots,
        tell: Sender<Message>,
    ) -> Self {
        let mut state = State { outcomes: vec![None; jobs.len()], ..State::default() };
        state.children = vec![Vec::new(); jobs.len()];
        for (place, job) in jobs.iter().enumerate() {
            state.open_parents.push(job.parents.len());
            for &parent in &job.parents {
                state.children[parent].push(place);
            }
        }
        state.startable = jobs.iter().filter(|job| job.parents.is_empty()).count();
        Dispatcher { scope, shared, jobs, keep_going, slots, tell, state }
    }

    /// Runs until every cell has ended one way or another. `changed` are latest keys to write with the rest.
    ///
    /// Takes the receiver, so that however this ends no node of the graph waits for a word that never comes.
    pub fn run(
        mut self,
        heard: Receiver<Message>,
        summary: &mut Summary,
        changed: BTreeMap<String, Last>,
    ) -> Result<()> {
        self.state.changed = changed;
        // What writing them costs is guessed until it is known, so that a short run writes once.
        let guess = Duration::from_micros(10) * self.shared.pipeline.cells.len() as u32;
        self.state.flushed = Some((Instant::now(), guess));
        let mut open = self.jobs.len();
        while open > 0 {
            self.notice_stop();
            self.start();
            match heard.recv_timeout(self.patience()) {
                Ok(message) => open -= usize::from(self.hear(message, summary)?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Error::invalid("bug: nobody is left to hear of")),
            }
            self.flush(false)?;
        }
        self.flush(true)
    }

    /// Whether the message ends a cell.
    fn hear(&mut self, message: Message, summary: &mut Summary) -> Result<bool> {
        match message {
            Message::GraphOver(ended) => {
                ended?;
                Err(Error::invalid("bug: the graph is over and cells are left"))
            }
            Message::Ready { place, reply } => {
                self.state.replies.insert(place, reply);
                if self.halted() {
                    self.not_started(place, summary);
                    return Ok(true);
                }
                self.state.ready.insert(place);
                Ok(false)
            }
            Message::Skipped { place, because } => {
                match self.state.outcomes[because].clone() {
                    Some(Outcome::Failed) => self.skip(place, because, false, summary),
                    Some(Outcome::Skipped(root)) => self.skip(place, root, false, summary),
                    _ => {
                        summary.unfinished += 1;
                        self.end(place, Outcome::Unfinished);
                    }
                }
                Ok(true)
            }
            Message::Ended { place, ended } => {
                if let Some(share) = self.state.shares.remove(&place) {
                    self.slots.give_back(share);
                }
                let cell = &self.jobs[place].planned.cell;
                match ended {
                    Ok(Attempt::Busy(by)) => {
                        if self.state.told_busy.insert(place) {
                            self.shared.observer.event(&Event::Waiting { cell: cell.clone(), by });
                        }
                        self.state.busy.push((Instant::now() + self.shared.store.patience(), place));
                        self.state.startable += 1;
                        return Ok(false);
                    }
                    Ok(Attempt::Spared(last, by)) => {
                        summary.spared += 1;
                        let by = by.or_else(|| self.state.told_busy.contains(&place).then_some(By::Process));
                        self.shared.observer.event(&Event::Spared { cell: cell.clone(), key: last.key, by });
                        self.current(place, last);
                    }
                    Ok(Attempt::Ran(last)) => {
                        summary.ran += 1;
                        self.current(place, last);
                    }
                    Err(Error::Interrupted) => {
                        summary.unfinished += 1;
                        self.shared.observer.event(&Event::Interrupted { cell: cell.clone() });
                        self.end(place, Outcome::Unfinished);
                    }
                    Err(error) if self.retried(place, &error) => return Ok(false),
                    Err(error) => {
                        let failure = Failure {
                            cell: cell.clone(),
                            error: error.to_string(),
                            hint: error.hint().map(Into::into),
                            log: self.shared.log_of(self.jobs[place].planned.index),
                        };
                        summary.failed += 1;
                        summary.failures.push(failure.clone());
                        self.shared.observer.event(&Event::Failed(failure));
                        self.state.first_failure.get_or_insert(place);
                        self.end(place, Outcome::Failed);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Starts what fits, earliest cells first.
    ///
    /// Nothing starts while the graph has still to tell of a cell that could: it does so in an order of its own.
    fn start(&mut self) {
        if self.halted() || self.state.ready.len() + self.state.busy.len() < self.state.startable {
            return;
        }
        let now = Instant::now();
        let due: Vec<usize> = self.state.busy.extract_if(.., |(at, _)| *at <= now).map(|(_, place)| place).collect();
        self.state.ready.extend(due);
        let mut from = 0;
        while !self.slots.full()
            && let Some(&place) = self.state.ready.range(from..).next()
        {
            from = place + 1;
            let Some(share) = self.slots.take(self.jobs[place].need, self.state.startable) else { continue };
            self.state.ready.remove(&place);
            self.state.shares.insert(place, share.clone());
            self.state.startable -= 1;
            let (shared, tell, index) = (self.shared, self.tell.clone(), self.jobs[place].planned.index);
            let thread = std::thread::Builder::new().name("cell".into());
            let body = move || {
                let attempt = std::panic::AssertUnwindSafe(|| shared.attempt(index, &share));
                let ended = std::panic::catch_unwind(attempt)
                    .unwrap_or_else(|_| Err(Error::invalid("bug: the engine panicked while running this cell")));
                // The dispatcher hears until every cell has ended, so this one is heard.
                let _ = tell.send(Message::Ended { place, ended });
            };
            if let Err(e) = thread.spawn_scoped(self.scope, body) {
                let ended = Err(Error::invalid(format!("cannot start a thread: {e}")));
                let _ = self.tell.send(Message::Ended { place, ended });
            }
        }
    }

    /// Whether a cell that failed is tried again: what went wrong can pass, and there are tries left. Its slots
    /// are free while it waits.
    fn retried(&mut self, place: usize, error: &Error) -> bool {
        let job = &self.jobs[place];
        let declared = |code: &i32| job.limits.transient_exit_codes.contains(code);
        let can_pass = match error {
            Error::Command { code, .. } => code.as_ref().is_some_and(declared),
            error => error.can_pass(),
        };
        let tries = self.state.tries.entry(place).or_default();
        if !can_pass || *tries >= job.limits.retries.unwrap_or(RETRIES) || self.shared.cancel.requested() {
            return false;
        }
        *tries += 1;
        let first = Duration::from_secs_f64(job.limits.retry_wait_s.unwrap_or(RETRY_WAIT_S));
        let wait = first.saturating_mul(1 << (*tries - 1).min(16)).min(RETRY_WAIT_MOST.max(first));
        self.shared.observer.event(&Event::Retrying {
            cell: job.planned.cell.clone(),
            error: error.to_string(),
            attempt: *tries,
            wait_ms: wait.as_millis() as u64,
        });
        self.state.busy.push((Instant::now() + wait, place));
        self.state.startable += 1;
        true
    }

    /// No further cell is started.
    fn halted(&self) -> bool {
        self.state.stopping || (self.state.first_failure.is_some() && !self.keep_going)
    }

    fn notice_stop(&mut self) {
        if self.shared.cancel.requested() && !self.state.stopping {
            self.state.stopping = true;
            self.shared.observer.event(&Event::Stopping);
        }
        if self.halted() {
            // They come back as ready, once, to be ended in `hear`.
            let busy = std::mem::take(&mut self.state.busy).into_iter().map(|(_, place)| place);
            for place in std::mem::take(&mut self.state.ready).into_iter().chain(busy) {
                if let Some(reply) = self.state.replies.remove(&place) {
                    let _ = self.tell.send(Message::Ready { place, reply });
                }
            }
        }
    }

    fn patience(&self) -> Duration {
        let now = Instant::now();
        let next = self.state.busy.iter().map(|(at, _)| at.saturating_duration_since(now)).min();
        next.map_or(HEARTBEAT, |wait| wait.min(HEARTBEAT))
    }

    fn not_started(&mut self, place: usize, summary: &mut Summary) {
        match self.state.first_failure {
            Some(failed) if !self.state.stopping => self.skip(place, failed, true, summary),
            _ => {
                summary.unfinished += 1;
                self.end(place, Outcome::Unfinished);
            }
        }
    }

    fn skip(&mut self, place: usize, because: usize, stopped: bool, summary: &mut Summary) {
        summary.skipped += 1;
        let name = |place: usize| self.jobs[place].planned.cell.clone();
        self.shared.observer.event(&Event::Skipped(Skip { cell: name(place), because: name(because), stopped }));
        self.end(place, Outcome::Skipped(because));
    }

    fn current(&mut self, place: usize, last: Arc<Last>) {
        let planned = self.jobs[place].planned;
        self.state.changed.insert(planned.cell.clone(), (*last).clone());
        self.shared.current.write().unwrap_or_else(|e| e.into_inner()).insert(planned.index, last);
        for &child in &self.state.children[place] {
            self.state.open_parents[child] -= 1;
            self.state.startable += usize::from(self.state.open_parents[child] == 0);
        }
        self.end(place, Outcome::Current);
    }

    fn end(&mut self, place: usize, outcome: Outcome) {
        if let Some(reply) = self.state.replies.remove(&place) {
            // The graph waits for every word it asked for.
            let _ = reply.send(matches!(outcome, Outcome::Current));
        }
        self.state.outcomes[place] = Some(outcome);
    }

    /// Writes the latest keys: at the end, and on the way so often that it takes a twentieth of the time at most.
    fn flush(&mut self, last: bool) -> Result<()> {
        if self.state.changed.is_empty() {
            return Ok(());
        }
        if let Some((at, took)) = self.state.flushed
            && !last
            && at.elapsed() < took * 20
        {
            return Ok(());
        }
        let began = Instant::now();
        let changed = std::mem::take(&mut self.state.changed);
        self.shared.store.update_last(&self.shared.pipeline.name, &changed)?;
        self.state.flushed = Some((Instant::now(), began.elapsed()));
        Ok(())
    }
}
