//! Runs of other processes, seen through what they leave in the store.
//!
//! | what is seen | through | tells |
//! |---|---|---|
//! | a run on this machine, or one that shares the folder | its news ([`super::news`]) | everything it tells its own terminal |
//! | a saved plan whose jobs run anywhere | marks and leases, and the queue where it is asked | cells that start, end and fail; with the queue also those that wait, and where others run |
//! | a run on another machine | leases, their owners' beats, and records | cells that start and end, but not how many are left |
//!
//! All three become the events of a run, so that one reader shows them all. Nothing is written here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{
    cluster::{Done, Failed, Job, Queue, SavedPlan, Started, prefix, standings},
    event::{Event, Failure, Skip, Summary, Todo},
    news::{Head, Told},
};
use crate::{
    digest::Digest,
    error::Result,
    kind::AnyKind,
    store::{Mark, NewsReader, Owner, Store},
};

/// How what was watched ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// It goes on.
    Open,
    Finished(Summary),
    /// Its process is gone and said nothing of an end.
    Lost,
    /// Nobody computes anything any more; how it went is not known.
    Over,
}

/// Something that can be watched.
pub enum Sight<'a> {
    Run(Box<RunSight>),
    Plan(Box<PlanSight<'a>>),
    Leases(Box<LeaseSight<'a>>),
}

impl Sight<'_> {
    /// What happened since the last look.
    pub fn look(&mut self) -> Result<(Vec<Told>, Ending)> {
        match self {
            Sight::Run(sight) => sight.look(),
            Sight::Plan(sight) => sight.look(),
            Sight::Leases(sight) => sight.look(),
        }
    }

    /// What is watched, for people.
    pub fn name(&self) -> String {
        match self {
            Sight::Run(sight) => sight.head.told(),
            Sight::Plan(sight) => format!("{} (plan {})", sight.plan.pipeline.name, sight.plan.digest.short()),
            Sight::Leases(sight) => format!("cells that are computed in {}", sight.store.url()),
        }
    }

    /// How long to wait before another look: a request over the network costs, a file does not.
    pub fn pause(&self) -> Duration {
        match self {
            Sight::Run(_) => Duration::from_millis(100),
            Sight::Plan(sight) => sight.store.patience() * 4,
            Sight::Leases(sight) => sight.store.patience() * 4,
        }
    }
}

/// The queue of a plan's jobs.
pub type QueueOf<'q> = &'q dyn Fn(&Digest) -> Box<dyn Queue>;

/// Everything of a store that can be watched and whose name holds `word`: what is best to watch comes first.
pub fn sights<'a>(
    store: &'a Store,
    kinds: &[&'static dyn AnyKind],
    word: &str,
    queue: Option<QueueOf<'_>>,
) -> Result<Vec<Sight<'a>>> {
    let mut runs: Vec<RunSight> = store.news().into_iter().filter_map(RunSight::new).collect();
    runs.retain(|run| run.head.pipeline.contains(word));
    runs.sort_by_key(|run| std::cmp::Reverse(run.head.started_unix_ms));
    let mut found: Vec<Sight> = runs.into_iter().map(|run| Sight::Run(Box::new(run))).collect();
    let digests = store.plans()?;
    let held: HashMap<Digest, Owner> = store.held()?.into_iter().filter(|(key, _)| !digests.contains(key)).collect();
    let mut seen: HashSet<Digest> = HashSet::new();
    let mut plans = Vec::new();
    for digest in &digests {
        // One of another program has cells that this one could not name.
        let Ok(plan) = SavedPlan::load(store, digest, kinds) else { continue };
        if !(plan.pipeline.name.contains(word) || (!word.is_empty() && digest.hex().starts_with(word))) {
            continue;
        }
        let sight = PlanSight::new(store, plan, queue.map(|queue| queue(digest)));
        let (running, open) = sight.now()?;
        seen.extend(running.iter().copied().filter(|key| held.contains_key(key)));
        let works = running.iter().any(|key| held.contains_key(key)) || (open && sight.queued());
        // One whose cells nobody computes is watched by its name alone: most plans of a store are of long ago.
        if open && (works || !word.is_empty()) {
            plans.push((works, sight));
        }
    }
    plans.sort_by_key(|(works, _)| !works);
    found.extend(plans.into_iter().map(|(_, plan)| Sight::Plan(Box::new(plan))));
    if found.is_empty() && word.is_empty() && held.keys().any(|key| !seen.contains(key)) {
        found.push(Sight::Leases(Box::new(LeaseSight { store, held: BTreeMap::new(), begun: false })));
    }
    Ok(found)
}

/// A run that leaves news.
pub struct RunSight {
    head: Head,
    reader: NewsReader,
    /// Lines that came with the head.
    first: Vec<String>,
}

impl RunSight {
    /// `None` for one that is over.
    fn new(mut reader: NewsReader) -> Option<Self> {
        let mut lines = reader.lines().ok()?;
        if lines.is_empty() || !reader.live() {
            return None;
        }
        let head = serde_json::from_str(&lines.remove(0)).ok()?;
        Some(RunSight { head, reader, first: lines })
    }

    fn look(&mut self) -> Result<(Vec<Told>, Ending)> {
        // Asked before the last lines are read, so that none is missed.
        let live = self.reader.live();
        let mut lines = std::mem::take(&mut self.first);
        lines.extend(self.reader.lines()?);
        let told: Vec<Told> = lines.iter().filter_map(|line| Told::read(line)).collect();
        let ending = match told.last().map(|t| &t.event) {
            Some(Event::Finished(summary)) => Ending::Finished(summary.clone()),
            _ if live => Ending::Open,
            _ => Ending::Lost,
        };
        Ok((told, ending))
    }
}

/// Between two questions to the queue.
const ASK: Duration = Duration::from_secs(5);

/// How a cell of a plan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Open,
    Running,
    Done,
    Failed,
    Skipped,
}

/// A saved plan, as its jobs' marks show it, and the queue where there is one to ask.
pub struct PlanSight<'a> {
    store: &'a Store,
    queue: Option<Box<dyn Queue>>,
    asked: Option<Instant>,
    /// What the queue last told of each cell.
    heard: HashMap<usize, String>,
    plan: SavedPlan,
    stands: Vec<Stand>,
    /// Keys of cells that have a mark of their beginning.
    keys: HashMap<usize, Started>,
    begun: Option<u64>,
    summary: Summary,
}

impl<'a> PlanSight<'a> {
    fn new(store: &'a Store, plan: SavedPlan, queue: Option<Box<dyn Queue>>) -> Self {
        PlanSight {
            store,
            queue,
            asked: None,
            heard: HashMap::new(),
            stands: vec![Stand::Open; plan.pipeline.cells.len()],
            plan,
            keys: HashMap::new(),
            begun: None,
            summary: Summary::default(),
        }
    }

    /// Whether the queue has jobs of this plan that wait or run.
    fn queued(&self) -> bool {
        let jobs = self.queue.as_ref().and_then(|queue| queue.jobs(&prefix(&self.plan.digest)).ok());
        jobs.is_some_and(|jobs| jobs.iter().any(Job::lives))
    }

    /// News of the queue about cells that have not ended.
    fn ask(&mut self, events: &mut Vec<Event>) {
        let Some(queue) = &self.queue else { return };
        if self.asked.replace(Instant::now()).is_some_and(|at| at.elapsed() < ASK) {
            return;
        }
        let ended = |cell: &usize| !matches!(self.stands[*cell], Stand::Open | Stand::Running);
        let open: Vec<usize> = (0..self.stands.len()).filter(|cell| !ended(cell)).collect();
        // Its controller may be away for a while; marks go on telling.
        let Ok(standing) = standings(&self.plan.pipeline, self.store, &self.plan.digest, &**queue, &open) else {
            return;
        };
        for (cell, found) in open.into_iter().zip(standing) {
            let Some(job) = found.job else { continue };
            // Why a job waits changes all the time and is no news.
            let news = format!("{} {job}", found.state);
            if self.heard.get(&cell) != Some(&news) {
                self.heard.insert(cell, news);
                events.push(Event::Queued { cell: found.cell, job, state: found.state, detail: found.detail });
            }
        }
    }

    fn known(&self) -> BTreeMap<usize, Digest> {
        self.store.known(&self.plan.digest).ok().flatten().unwrap_or_default()
    }

    /// Keys of cells that have begun and not ended, and whether any cell is left.
    fn now(&self) -> Result<(Vec<Digest>, bool)> {
        let digest = &self.plan.digest;
        let ended: BTreeSet<usize> =
            self.store.marked(digest, Mark::Done)?.into_iter().chain(self.known().into_keys()).collect();
        let mut keys = Vec::new();
        for cell in self.store.marked(digest, Mark::Started)?.difference(&ended) {
            keys.extend(self.store.mark::<Started>(digest, Mark::Started, *cell)?.map(|started| started.key));
        }
        Ok((keys, ended.len() < self.stands.len()))
    }

    fn look(&mut self) -> Result<(Vec<Told>, Ending)> {
        let mut events = Vec::new();
        let digest = self.plan.digest;
        let (done, failed) = (self.store.marked(&digest, Mark::Done)?, self.store.marked(&digest, Mark::Failed)?);
        let began = match self.begun {
            Some(began) => began,
            None => {
                // What was there before is not told cell by cell: ten thousand marks would be read for it.
                for cell in self.known().into_keys().chain(done.iter().copied()) {
                    if let Some(stand) = self.stands.get_mut(cell) {
                        *stand = Stand::Done;
                    }
                }
                let todo = self.plan.pipeline.cells.iter().zip(&self.stands).filter(|(_, s)| **s == Stand::Open);
                let todo: Vec<Todo> = todo
                    .map(|(c, _)| Todo {
                        cell: c.id.clone(),
                        kind: c.kind.name().into(),
                        expected_ms: None,
                        unknown: false,
                    })
                    .collect();
                let (cells, run) = (self.stands.len(), todo.len());
                self.summary = Summary { cells, fresh: cells - run, ..Summary::default() };
                events.push(Event::Planned { cells, fresh: cells - run, run, blocked: 0, threads: 0, todo });
                *self.begun.insert(super::unix_ms())
            }
        };
        let held: HashSet<Digest> = self.store.held()?.into_iter().map(|(key, _)| key).collect();
        let started = self.store.marked(&digest, Mark::Started)?;
        for cell in 0..self.stands.len() {
            let was = self.stands[cell];
            if matches!(was, Stand::Done | Stand::Skipped) || (was == Stand::Failed && failed.contains(&cell)) {
                continue;
            }
            self.stands[cell] = self.judge(cell, &done, &failed, &started, &held, &mut events)?;
        }
        self.ask(&mut events);
        let open = self.stands.iter().any(|s| matches!(s, Stand::Open | Stand::Running));
        let ending = if open {
            Ending::Open
        } else {
            self.summary.wall_ms = super::unix_ms().saturating_sub(began);
            events.push(Event::Finished(self.summary.clone()));
            Ending::Finished(self.summary.clone())
        };
        Ok((events.iter().map(Told::now).collect(), ending))
    }

    fn judge(
        &mut self,
        cell: usize,
        done: &BTreeSet<usize>,
        failed: &BTreeSet<usize>,
        started: &BTreeSet<usize>,
        held: &HashSet<Digest>,
        events: &mut Vec<Event>,
    ) -> Result<Stand> {
        let (store, digest) = (self.store, self.plan.digest);
        let spec = &self.plan.pipeline.cells[cell];
        let name = spec.id.clone();
        if done.contains(&cell)
            && let Some(Done { key, wall_ms, ran, .. }) = store.mark(&digest, Mark::Done, cell)?
        {
            events.push(if ran {
                self.summary.ran += 1;
                Event::Done { cell: name, key, wall_ms, cpu_ms: None, peak_rss_bytes: None, bytes: 0 }
            } else {
                self.summary.spared += 1;
                Event::Spared { cell: name, key, by: None }
            });
            return Ok(Stand::Done);
        }
        if failed.contains(&cell)
            && let Some(mark) = store.mark::<Failed>(&digest, Mark::Failed, cell)?
        {
            let failure = Failure { cell: name, error: mark.told(), hint: mark.hint, log: mark.log };
            self.summary.failed += 1;
            self.summary.failures.push(failure.clone());
            events.push(Event::Failed(failure));
            return Ok(Stand::Failed);
        }
        let stopped = |c: &usize| matches!(self.stands[*c], Stand::Failed | Stand::Skipped);
        if let Some(parent) = spec.inputs.values().flatten().map(|i| i.cell).find(stopped) {
            self.summary.skipped += 1;
            let because = self.plan.pipeline.cells[parent].id.clone();
            events.push(Event::Skipped(Skip { cell: name, because, stopped: false }));
            return Ok(Stand::Skipped);
        }
        if !self.keys.contains_key(&cell)
            && started.contains(&cell)
            && let Some(mark) = store.mark::<Started>(&digest, Mark::Started, cell)?
        {
            self.keys.insert(cell, mark);
        }
        let mark = self.keys.get(&cell);
        let runs = mark.is_some_and(|mark| held.contains(&mark.key));
        match (self.stands[cell], runs, mark) {
            (Stand::Running, false, _) => {
                // Put back into the queue, or about to leave its mark: it is looked at again.
                self.keys.remove(&cell);
                events.push(Event::Queued {
                    cell: name,
                    job: String::new(),
                    state: "pending".into(),
                    detail: String::new(),
                });
                Ok(Stand::Open)
            }
            (Stand::Open, true, Some(mark)) => {
                events.push(Event::Started {
                    cell: name,
                    key: mark.key,
                    reasons: vec![match &mark.job {
                        Some(job) => format!("{}, job {job}", mark.host),
                        None => mark.host.clone(),
                    }],
                    threads: 0,
                    resumes: false,
                    log: String::new(),
                });
                Ok(Stand::Running)
            }
            (stand, ..) => Ok(stand),
        }
    }
}

/// Cells of which nothing is known but that somebody computes them.
pub struct LeaseSight<'a> {
    store: &'a Store,
    /// By key: what the cell is called here.
    held: BTreeMap<Digest, String>,
    begun: bool,
}

impl LeaseSight<'_> {
    fn look(&mut self) -> Result<(Vec<Told>, Ending)> {
        let held = self.store.held()?;
        let mut events = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            let run = held.len();
            events.push(Event::Planned { cells: run, fresh: 0, run, blocked: 0, threads: 0, todo: Vec::new() });
        }
        for (key, owner) in &held {
            if self.held.contains_key(key) {
                continue;
            }
            let cell = self.name(key);
            self.held.insert(*key, cell.clone());
            events.push(Event::Started {
                cell,
                key: *key,
                reasons: vec![owner.told()],
                threads: 0,
                resumes: false,
                log: String::new(),
            });
        }
        let still: HashSet<Digest> = held.into_iter().map(|(key, _)| key).collect();
        let gone: Vec<Digest> = self.held.keys().copied().filter(|key| !still.contains(key)).collect();
        for key in gone {
            let cell = self.held.remove(&key).unwrap_or_default();
            events.push(match self.store.record(&key) {
                Ok(Some(record)) => Event::Done {
                    cell,
                    key,
                    wall_ms: record.wall_ms,
                    cpu_ms: record.cpu_ms,
                    peak_rss_bytes: record.peak_rss_bytes,
                    bytes: record.outputs.values().map(|artifact| artifact.bytes()).sum(),
                },
                _ => Event::Interrupted { cell },
            });
        }
        // Between two cells of a run nobody may hold any: its owner tells that it goes on.
        let ending = if self.held.is_empty() && self.store.living_owners()? == 0 { Ending::Over } else { Ending::Open };
        Ok((events.iter().map(Told::now).collect(), ending))
    }

    /// A log begins with its cell's name, where this machine has it.
    fn name(&self, key: &Digest) -> String {
        let log = self.store.read_log(key).ok().flatten().unwrap_or_default();
        let line = log.lines().rev().find(|line| line.ends_with(" threads"));
        let named = line.and_then(|line| Some(line.trim_start().split_once(' ')?.1.split_once(": ")?.0.to_string()));
        named.unwrap_or_else(|| key.short())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        plan::fixture::{Builder, WRITE},
        progress::Cancel,
        run::{
            Nobody,
            cluster::{Limits, Phase, Refusal, Site, Submission, run_cell},
        },
        store::source::SourceIndex,
    };

    /// a -> b -> c, and alone.
    fn saved(store: &Store) -> SavedPlan {
        let pipeline = Builder::new()
            .cell("a", json!({"text": "a"}), &[])
            .cell("b", json!({"text": "b", "mode": "fail"}), &[("data", &[0])])
            .cell("c", json!({"text": "c"}), &[("data", &[1])])
            .cell("alone", json!({"text": "alone"}), &[])
            .build();
        let digest = SavedPlan::save(&pipeline, store, &SourceIndex::open(store).unwrap()).unwrap();
        SavedPlan::load(store, &digest, &[&WRITE]).unwrap()
    }

    /// A job of the plan, from its beginning to its end.
    fn job(store: &Store, plan: &SavedPlan, cell: usize) {
        let (sources, cancel) = (SourceIndex::open(store).unwrap(), Cancel::default());
        let mut site = Site::new(store, &sources, 1, &Nobody, &cancel);
        site.patience = Duration::ZERO;
        run_cell(plan, cell, &site).unwrap();
    }

    /// What is told, as `event cell`.
    fn told(sight: &mut Sight) -> (Vec<String>, Ending) {
        let (told, ending) = sight.look().unwrap();
        let words = told.iter().map(|told| {
            let json = serde_json::to_value(&told.event).unwrap();
            format!("{} {}", json["event"].as_str().unwrap(), json["cell"].as_str().unwrap_or("")).trim().to_string()
        });
        (words.collect(), ending)
    }

    #[test]
    fn jobs_of_a_plan_are_seen_through_their_marks() {
        let store = Store::open("memory://").unwrap();
        let plan = saved(&store);
        // Nobody computes it: it is watched by its name alone.
        assert!(sights(&store, &[&WRITE], "", None).unwrap().is_empty());
        assert!(sights(&store, &[&WRITE], "another", None).unwrap().is_empty());
        let digits = plan.digest.hex()[..10].to_string();
        assert_eq!(sights(&store, &[&WRITE], &digits, None).unwrap().len(), 1);
        job(&store, &plan, 3);
        let mut sight = sights(&store, &[&WRITE], "test", None).unwrap().pop().unwrap();
        assert_eq!(sight.name(), format!("test (plan {})", plan.digest.short()));
        let (telling, _) = sight.look().unwrap();
        let Event::Planned { cells: 4, fresh: 1, run: 3, ref todo, .. } = telling[0].event else {
            panic!("{telling:?}")
        };
        assert_eq!(todo.iter().map(|t| t.cell.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);

        // A job that computes a: its mark, and a lease that lives.
        let key = Digest::of(b"a");
        let started = Started { key, job: Some("17".into()), host: "n1".into(), unix_ms: 1 };
        store.put_mark(&plan.digest, Mark::Started, 0, &started).unwrap();
        assert_eq!(told(&mut sight), (vec![], Ending::Open), "a mark without a lease is of a dead job");
        let lease = store.try_lease(&key).unwrap().unwrap();
        let (telling, _) = sight.look().unwrap();
        let Event::Started { cell, reasons, .. } = &telling[0].event else { panic!("{telling:?}") };
        assert_eq!((cell.as_str(), reasons[0].as_str()), ("a", "n1, job 17"));
        assert_eq!(told(&mut sight), (vec![], Ending::Open));
        assert_eq!(sights(&store, &[&WRITE], "", None).unwrap().len(), 1, "one whose cell is computed needs no name");
        drop(lease);
        assert_eq!(told(&mut sight).0, ["queued a"]);
        job(&store, &plan, 0);
        assert_eq!(told(&mut sight).0, ["done a"]);
        job(&store, &plan, 1);
        let (words, ending) = told(&mut sight);
        assert_eq!(words, ["failed b", "skipped c", "finished"]);
        let Ending::Finished(summary) = ending else { panic!("{ending:?}") };
        assert_eq!((summary.fresh, summary.ran, summary.failed, summary.skipped), (1, 1, 1, 1));
        assert_eq!(summary.exit_code(), 1);
    }

    /// A queue of these jobs.
    struct Jobs(Vec<Job>);

    impl Queue for Jobs {
        fn limits(&self) -> Result<Limits, Refusal> {
            Ok(Limits { max_array: 0 })
        }
        fn check(&self, _: &Submission) -> Result<(), Refusal> {
            Ok(())
        }
        fn submit(&self, _: &Submission) -> Result<String, Refusal> {
            Err(Refusal::Never("nothing is submitted by watching".into()))
        }
        fn jobs(&self, prefix: &str) -> Result<Vec<Job>, Refusal> {
            Ok(self.0.iter().filter(|job| job.name.starts_with(prefix)).cloned().collect())
        }
        fn cancel(&self, _: &[String]) -> Result<(), Refusal> {
            Err(Refusal::Never("nothing is cancelled by watching".into()))
        }
        fn pause(&self, _: Duration) {}
    }

    #[test]
    fn the_queue_tells_what_waits_and_where_jobs_run() {
        let store = Store::open("memory://").unwrap();
        let plan = saved(&store);
        let job = |id: &str, cell: usize, phase: Phase, nodes: &str, reason: &str| Job {
            id: id.into(),
            task: None,
            name: format!("{}{cell}-x", prefix(&plan.digest)),
            phase,
            state: String::new(),
            reason: reason.into(),
            nodes: nodes.into(),
            since: "2026-01-01T00:00:00".into(),
        };
        let jobs = [job("7", 0, Phase::Running, "n1", ""), job("8", 1, Phase::Pending, "", "Dependency")];
        let queue = |_: &Digest| -> Box<dyn Queue> { Box::new(Jobs(jobs.to_vec())) };
        // It is watched without being named, since the queue works at it.
        let mut found = sights(&store, &[&WRITE], "", Some(&queue)).unwrap();
        let mut sight = found.pop().unwrap();
        let (telling, ending) = sight.look().unwrap();
        let queued: Vec<String> = telling
            .iter()
            .filter_map(|told| match &told.event {
                Event::Queued { cell, job, state, detail } => Some(format!("{cell} {job} {state}: {detail}")),
                _ => None,
            })
            .collect();
        assert_eq!(queued, ["a 7 running: on n1 since 2026-01-01T00:00:00", "b 8 pending: Dependency"]);
        assert_eq!((told(&mut sight), ending), ((vec![], Ending::Open), Ending::Open), "the same is told once");
    }

    #[test]
    fn a_cell_of_an_unknown_run_is_seen_through_its_lease_and_record() {
        let store = Store::open("memory://").unwrap();
        assert!(sights(&store, &[&WRITE], "", None).unwrap().is_empty());
        let keys = [Digest::of(b"a"), Digest::of(b"b")];
        let leases = keys.map(|key| store.try_lease(&key).unwrap().unwrap());
        store.log(&keys[0]).unwrap().line("work[seed=0]: never ran; 2 threads");
        let mut found = sights(&store, &[&WRITE], "", None).unwrap();
        let mut sight = found.pop().unwrap();
        let (mut words, ending) = told(&mut sight);
        words.sort();
        let mut expected = ["planned".into(), "started work[seed=0]".into(), format!("started {}", keys[1].short())];
        expected.sort();
        assert_eq!((words, ending), (expected.to_vec(), Ending::Open));
        drop(leases);
        let (mut words, _) = told(&mut sight);
        words.sort();
        let mut expected = ["interrupted work[seed=0]".into(), format!("interrupted {}", keys[1].short())];
        expected.sort();
        assert_eq!(words, expected);
    }
}
