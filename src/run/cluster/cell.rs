//! One cell of a saved plan, as a job computes it: `scaleshot cell PLAN INDEX`.
//!
//! Inputs looked up in the store, key made as `plan` makes it, result looked for, lease taken, result looked for
//! again, computed in a private folder, published exclusively: all but the first by the same code as a local run.
//! It may be started any number of times, anywhere, by any launcher.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::saved::{Done, SavedPlan};
use crate::{
    digest::Digest,
    error::{Error, Result},
    plan::{PlanOptions, Planner},
    progress::Cancel,
    run::{
        attempt::{Attempt, Shared},
        event::Observer,
        executor::{Executor, InProcess},
        meter,
        slots::Share,
    },
    store::{Last, Mark, Store, source::SourceIndex},
};

/// How a job's cell ended.
#[derive(Debug)]
pub enum Ended {
    /// It is current; whether this process computed it.
    Current {
        key: Digest,
        ran: bool,
    },
    /// Stopped at a checkpoint: start it again.
    Stopped,
    /// These cells have no result.
    InputsMissing(Vec<String>),
    Failed(Error),
}

impl Ended {
    /// 0 done, 1 failed, 3 inputs missing, 75 start it again (`EX_TEMPFAIL`).
    pub fn exit_code(&self) -> u8 {
        match self {
            Ended::Current { .. } => 0,
            Ended::Failed(_) => 1,
            Ended::InputsMissing(_) => 3,
            Ended::Stopped => 75,
        }
    }
}

/// What a failed job leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    pub job: Option<String>,
    pub host: String,
    pub exit: u8,
    pub error: String,
    pub hint: Option<String>,
    /// Name of the cell's log in the store.
    pub log: Option<String>,
    /// Its last lines.
    pub tail: Vec<String>,
    pub unix_ms: u64,
}

impl Failed {
    /// Why, where, and how its log ends, in one line.
    pub fn told(&self) -> String {
        let tail = self.tail.last().map(|l| format!("; its log ends with: {}", l.trim())).unwrap_or_default();
        format!("{} (on {}{tail})", self.error, self.host)
    }
}

/// What a job leaves when it begins to compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    pub key: Digest,
    pub job: Option<String>,
    pub host: String,
    pub unix_ms: u64,
}

/// A shared folder may show a file late.
const LATE: Duration = Duration::from_secs(5);
/// Lines of a log that a failure carries.
const TAIL: usize = 20;

/// Where and with what a cell runs.
pub struct Site<'a> {
    pub store: &'a Store,
    pub sources: &'a SourceIndex,
    pub threads: usize,
    pub observer: &'a dyn Observer,
    pub cancel: &'a Cancel,
    pub executor: &'a dyn Executor,
    /// Of the queue, as the follower knows it.
    pub job: Option<String>,
    /// How long to look for an input that is not there.
    pub patience: Duration,
}

impl<'a> Site<'a> {
    pub fn new(
        store: &'a Store,
        sources: &'a SourceIndex,
        threads: usize,
        observer: &'a dyn Observer,
        cancel: &'a Cancel,
    ) -> Self {
        Site { store, sources, threads, observer, cancel, executor: &InProcess, job: slurm_job(), patience: LATE }
    }
}

/// This process's job as `squeue` names it: `17`, or `17_4` in an array.
pub fn slurm_job() -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let task = set("SLURM_ARRAY_JOB_ID").zip(set("SLURM_ARRAY_TASK_ID")).map(|(job, task)| format!("{job}_{task}"));
    task.or_else(|| set("SLURM_JOB_ID"))
}

/// Computes a cell and leaves a mark of how that went.
///
/// # Errors
/// The store cannot be used at all; what goes wrong with the cell itself is in [`Ended`].
pub fn run_cell(plan: &SavedPlan, index: usize, site: &Site) -> Result<Ended> {
    let Some(cell) = plan.pipeline.cells.get(index) else {
        return Err(Error::invalid(format!("the plan has {} cells, no number {index}", plan.pipeline.cells.len())));
    };
    let mut log = None;
    let ended = compute(plan, index, site, &mut log).unwrap_or_else(|e| match e {
        Error::Interrupted => Ended::Stopped,
        e => Ended::Failed(e),
    });
    let (error, hint) = match &ended {
        Ended::Current { .. } => {
            site.store.clear_mark(&plan.digest, Mark::Failed, index)?;
            return Ok(ended);
        }
        Ended::Stopped => return Ok(ended),
        Ended::InputsMissing(cells) => (format!("{}: no result of {}", cell.id, cells.join(", ")), None),
        Ended::Failed(e) => (e.to_string(), e.hint().map(Into::into)),
    };
    let key = log.as_ref().and_then(|name: &String| name.strip_prefix("logs/")?.strip_suffix(".log")?.parse().ok());
    let text = key.and_then(|key| site.store.read_log(&key).ok().flatten()).unwrap_or_default();
    let lines: Vec<String> = text.lines().map(Into::into).collect();
    let failed = Failed {
        job: site.job.clone(),
        host: meter::machine().host,
        exit: ended.exit_code(),
        error,
        hint,
        log,
        tail: lines[lines.len().saturating_sub(TAIL)..].to_vec(),
        unix_ms: meter::unix_ms(),
    };
    site.store.put_mark(&plan.digest, Mark::Failed, index, &failed)?;
    Ok(ended)
}

fn compute(plan: &SavedPlan, index: usize, site: &Site, log: &mut Option<String>) -> Result<Ended> {
    let Site { store, sources, .. } = *site;
    let options = PlanOptions::default();
    // What was current last time makes reasons richer, which no job tells: it is not read.
    let planner = Planner::unread(&plan.pipeline, store, sources, &options)?;
    let _live = store.live()?;
    let cell = &plan.pipeline.cells[index];
    let parents: Vec<usize> =
        cell.inputs.values().flatten().map(|i| i.cell).collect::<BTreeSet<_>>().into_iter().collect();
    let began = Instant::now();
    let current = loop {
        let found = plan.resolve(store, &planner, &parents)?;
        if found.len() == parents.len() {
            break found;
        }
        if began.elapsed() >= site.patience {
            let missing = parents.iter().filter(|p| !found.contains_key(p));
            return Ok(Ended::InputsMissing(missing.map(|&p| plan.pipeline.cells[p].id.clone()).collect()));
        }
        site.cancel.check()?;
        std::thread::sleep(store.patience());
    };
    look_at_sources(plan, index, sources)?;
    let shared = Shared {
        pipeline: &plan.pipeline,
        store,
        sources,
        planner: &planner,
        executor: site.executor,
        observer: &Marking { plan, index, site },
        cancel: site.cancel,
        current: RwLock::new(current),
        logs: Mutex::new(HashMap::new()),
        computing: Mutex::new(HashMap::new()),
    };
    // The queue has seen to it that nobody else has them; CUDA counts what it gave from 0.
    let gpus = cell.limits.gpus.map_or_else(|| cell.kind.gpus(&cell.params), Ok)?;
    let share = Share { threads: site.threads, memory_bytes: 0, gpus: (0..gpus).collect() };
    let (last, ran): (Arc<Last>, bool) = loop {
        let attempt = shared.attempt(index, &share);
        *log = shared.log_of(index);
        match attempt? {
            Attempt::Ran(last) => break (last, true),
            Attempt::Spared(last, _) => break (last, false),
            Attempt::Busy(_) => {
                site.cancel.check()?;
                std::thread::sleep(store.patience());
            }
        }
    };
    let done = Done { key: last.key, wall_ms: last.wall_ms, ran, job: site.job.clone() };
    store.put_mark(&plan.digest, Mark::Done, index, &done)?;
    Ok(Ended::Current { key: last.key, ran })
}

/// Outside files must be what they were at submission: other contents would give another key, which nobody awaits.
fn look_at_sources(plan: &SavedPlan, index: usize, sources: &SourceIndex) -> Result<()> {
    let mut cells = vec![index];
    if plan.pipeline.cells[index].kind.finds_sources() {
        // It finds files by content, whichever cell named their folder.
        let mut seen = BTreeSet::from([index]);
        let mut open = cells.clone();
        while let Some(cell) = open.pop() {
            for parent in plan.pipeline.cells[cell].inputs.values().flatten().map(|i| i.cell) {
                if seen.insert(parent) {
                    open.push(parent);
                }
            }
        }
        cells = seen.into_iter().collect();
    }
    for cell in cells {
        for (path, digest) in &plan.sources[cell] {
            if sources.digest_tree(path)?.digest != *digest {
                return Err(Error::invalid(format!("{}: not what it was when the plan was submitted", path.display()))
                    .with_hint("run again to submit the plan with what is there now"));
            }
        }
    }
    Ok(())
}

/// Marks the cell as started, and passes everything on.
struct Marking<'a> {
    plan: &'a SavedPlan,
    index: usize,
    site: &'a Site<'a>,
}

impl Observer for Marking<'_> {
    fn event(&self, event: &crate::run::Event) {
        if let crate::run::Event::Started { key, .. } = event {
            let (job, host) = (self.site.job.clone(), meter::machine().host);
            let started = Started { key: *key, job, host, unix_ms: meter::unix_ms() };
            // It tells followers where to look for a beat; without it they believe the queue.
            let _ = self.site.store.put_mark(&self.plan.digest, Mark::Started, self.index, &started);
        }
        self.site.observer.event(event);
    }
}
