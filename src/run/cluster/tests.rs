//! The executor on a simulated cluster: a large plan through failures, and real cells of a small one.

use std::{cell::RefCell, collections::HashMap, collections::HashSet};

use serde_json::json;

use super::{
    simulated::{Exit, Simulated, Weather},
    *,
};
use crate::{
    digest::Digest,
    pipeline::Pipeline,
    plan::{PlanOptions, fixture::Builder, fixture::WRITE, plan},
    progress::Cancel,
    run::{Nobody, Summary, event::Observer},
    store::{Mark, Requests, Store, source::SourceIndex},
};

const CALM: Weather = Weather {
    seed: 1,
    nodes: 1000,
    mean_run_s: 600,
    node_fails_every_s: 0,
    preempts_every_s: 0,
    max_array: 1001,
    max_jobs: 100_000,
    remembers_s: 300,
};

/// Ten data sets, ten models of each, `shots` transfers of each model, one report of all.
fn study(shots: usize) -> Pipeline {
    let mut builder = Builder::new();
    for i in 0..10 {
        builder = builder.matrix_cell(&format!("data[i={i}]"), "data", &[], json!({"text": i.to_string()}), &[]);
    }
    for i in 0..100 {
        let id = format!("model[i={i}]");
        builder = builder.matrix_cell(&id, "model", &[], json!({"text": i.to_string()}), &[("data", &[i % 10])]);
    }
    for i in 0..100 * shots {
        let id = format!("transfer[i={i}]");
        let model = [10 + i / shots];
        builder = builder.matrix_cell(&id, "transfer", &[], json!({"text": i.to_string()}), &[("data", &model)]);
    }
    let all: Vec<usize> = (110..110 + 100 * shots).collect();
    builder.cell("report", json!({}), &[("all", &all)]).build()
}

struct Bench {
    store: Store,
    pipeline: Pipeline,
    profile: Profile,
}

impl Bench {
    fn new(pipeline: Pipeline, profile: &str) -> Self {
        Bench { store: Store::open("memory://").unwrap(), pipeline, profile: Profile::parse(profile).unwrap() }
    }

    fn saved(&self) -> SavedPlan {
        let sources = SourceIndex::open(&self.store).unwrap();
        let digest = SavedPlan::save(&self.pipeline, &self.store, &sources).unwrap();
        SavedPlan::load(&self.store, &digest, &[&WRITE]).unwrap()
    }

    fn run(&self, queue: &Simulated, detach: bool, observer: &dyn Observer) -> crate::error::Result<Summary> {
        let options = Options {
            plan: PlanOptions::default(),
            profile: &self.profile,
            detach,
            on_interrupt: OnInterrupt::Leave,
            keep_going: false,
            cancel: Cancel::default(),
        };
        let sources = SourceIndex::open(&self.store).unwrap();
        run(&self.pipeline, &self.store, &sources, &options, &|_| Box::new(Borrowed(queue)), observer)
    }
}

/// The follower owns its queue; the test wants to look at it afterwards.
struct Borrowed<'a, 'b>(&'a Simulated<'b>);

impl Queue for Borrowed<'_, '_> {
    fn limits(&self) -> Result<Limits, Refusal> {
        self.0.limits()
    }
    fn check(&self, submission: &Submission) -> Result<(), Refusal> {
        self.0.check(submission)
    }
    fn submit(&self, submission: &Submission) -> Result<String, Refusal> {
        self.0.submit(submission)
    }
    fn jobs(&self, prefix: &str) -> Result<Vec<Job>, Refusal> {
        self.0.jobs(prefix)
    }
    fn cancel(&self, ids: &[String]) -> Result<(), Refusal> {
        self.0.cancel(ids)
    }
    fn pause(&self, time: std::time::Duration) {
        self.0.pause(time);
    }
}

/// Runs the real cells of a plan as a node would, at the end of their simulated time.
fn node<'a>(bench: &'a Bench, saved: &'a SavedPlan, ran: &'a RefCell<HashMap<usize, usize>>) -> simulated::Body<'a> {
    Box::new(move |cell, job, request| {
        let (sources, cancel) = (SourceIndex::open(&bench.store).unwrap(), Cancel::default());
        let mut site = Site::new(&bench.store, &sources, request.cpus as usize, &Nobody, &cancel);
        (site.job, site.patience) = (Some(job.into()), std::time::Duration::ZERO);
        match run_cell(saved, cell, &site).unwrap() {
            Ended::Current { ran: true, .. } => {
                *ran.borrow_mut().entry(cell).or_default() += 1;
                Exit::Done
            }
            Ended::Current { .. } => Exit::Done,
            _ => Exit::Failed,
        }
    })
}

#[test]
fn real_cells_end_as_in_a_run_of_one_machine() {
    let bench = Bench::new(study(2), "{ check: true, retries: { lost: 50 } }");
    let (saved, ran) = (bench.saved(), RefCell::default());
    let weather = Weather { nodes: 20, node_fails_every_s: 97, preempts_every_s: 61, ..CALM };
    let queue = Simulated::new(weather, node(&bench, &saved, &ran));
    let summary = bench.run(&queue, false, &Nobody).unwrap();
    assert_eq!((summary.ran, summary.failed, summary.unfinished), (311, 0, 0), "{summary:?}");
    assert!(ran.borrow().len() == 311 && ran.borrow().values().all(|n| *n == 1));
    assert!(queue.counts().node_fails > 3 && queue.counts().preemptions > 3, "{:?}", queue.counts());
    let local = crate::run::tests::Bench::new();
    local.run(&study(2));
    let outputs = |store: &Store| {
        let sources = SourceIndex::open(store).unwrap();
        let plan = plan(&bench.pipeline, store, &sources, &PlanOptions::default()).unwrap();
        plan.cells.into_iter().map(|c| c.current.map(|l| (l.key, l.outputs.clone()))).collect::<Vec<_>>()
    };
    assert!(outputs(&bench.store) == outputs(&local.store));
    // Again: nothing to do, nothing submitted.
    let before = queue.counts();
    assert_eq!(bench.run(&queue, false, &Nobody).unwrap().fresh, 311);
    assert_eq!(queue.counts(), before);
}

#[test]
fn a_failed_cell_cancels_what_needs_it_and_nothing_else() {
    let mut pipeline = study(2);
    pipeline.cells[13].params["mode"] = json!("fail");
    let bench = Bench::new(pipeline, "check: false");
    let (saved, ran) = (bench.saved(), RefCell::default());
    let queue = Simulated::new(CALM, node(&bench, &saved, &ran));
    let summary = bench.run(&queue, false, &Nobody).unwrap();
    assert_eq!((summary.failed, summary.skipped, summary.ran), (1, 3, 307), "{summary:?}");
    assert!(summary.failures[0].error.contains("no rows"), "{summary:?}");
    assert_eq!(summary.failures[0].hint.as_deref(), Some("check the filter"));
}

#[test]
fn who_runs_again_adopts_the_jobs_of_who_left() {
    let bench = Bench::new(study(2), "");
    let (saved, ran) = (bench.saved(), RefCell::default());
    let queue = Simulated::new(CALM, node(&bench, &saved, &ran));
    assert_eq!(bench.run(&queue, true, &Nobody).unwrap().unfinished, 311);
    let before = queue.counts();
    let summary = bench.run(&queue, false, &Nobody).unwrap();
    assert_eq!((summary.ran, summary.unfinished), (311, 0), "{summary:?}");
    assert_eq!(queue.counts().submissions, before.submissions, "something was submitted twice");
}

#[test]
fn many_cells_end_each_once_on_a_thousand_nodes_in_bad_weather() {
    // 20,011 cells, or fewer in less time.
    let asked = std::env::var("SCALESHOT_TEST_CELLS").map_or(20_000, |n| n.parse().unwrap());
    let bench = Bench::new(study(asked / 100 - 1), "{ defaults: { memory: 1G }, retries: { lost: 50 } }");
    let cells = bench.pipeline.cells.len();
    assert_eq!(cells, asked + 11);
    let saved = bench.saved();
    let (published, current) = (RefCell::new(HashSet::new()), RefCell::new(HashSet::new()));
    // A cell in brief: inputs checked, result looked for, published once. What it would compute is left out.
    let body: simulated::Body = Box::new(|cell, job, request| {
        let parents = saved.pipeline.cells[cell].inputs.values().flatten();
        if parents.into_iter().any(|p| !current.borrow().contains(&p.cell)) {
            return Exit::Failed;
        }
        // One in fifty needs three times what it is given first.
        if cell % 50 == 7 && request.memory_mib.unwrap() < 3000 {
            return Exit::OutOfMemory;
        }
        let key = Digest::of(format!("cell {cell}").as_bytes());
        let lease = bench.store.try_lease(&key).unwrap().unwrap();
        if !lease.found() {
            let spec = &saved.pipeline.cells[cell];
            lease.publish(&record(key, &spec.id, job)).unwrap();
            assert!(published.borrow_mut().insert(cell), "cell {cell} was published twice");
        }
        let done = Done { key, wall_ms: 1, ran: true, job: Some(job.into()) };
        bench.store.put_mark(&saved.digest, Mark::Done, cell, &done).unwrap();
        current.borrow_mut().insert(cell);
        Exit::Done
    });
    let weather = Weather { node_fails_every_s: 1, preempts_every_s: 1, max_jobs: 12_000, ..CALM };
    let queue = Simulated::new(weather, body);
    let summary = bench.run(&queue, false, &Nobody).unwrap();
    let counts = queue.counts();
    let pages = bench.store.requests().list;
    eprintln!("{counts:?}, {:?} of simulated time, {pages} pages listed", queue.now());
    assert_eq!((summary.ran, summary.failed, summary.skipped, summary.unfinished), (cells, 0, 0, 0), "{counts:?}");
    assert_eq!(published.borrow().len(), cells);
    assert!(counts.node_fails > 3 && counts.preemptions > 3, "{counts:?}");
    // Twice each: 3 GiB is reached at the third attempt.
    assert!(counts.out_of_memory >= 2 * (cells / 50), "{counts:?}");
    // One by one they would be a submission each, and one more for each of the thousands of losses.
    assert!(counts.submissions < cells / 2, "arrays were not used: {counts:?}");
    // Half a day, of which the cells that were done first are old news.
    assert!(counts.looks < 10_000, "{counts:?}");
    assert!(pages < 3 * counts.looks as u64, "{pages} pages of marks were listed: {counts:?}");
}

/// What jobs and their follower ask of a store, for a plan of ten thousand cells.
#[test]
fn many_jobs_make_no_storm() {
    let n = std::env::var("SCALESHOT_TEST_JOBS").map_or(10_000, |n| n.parse().unwrap());
    let mut builder = Builder::new();
    for i in 0..n {
        builder = builder.matrix_cell(&format!("work[i={i}]"), "work", &[], json!({"text": i.to_string()}), &[]);
    }
    let sample = 40;
    for i in 0..sample {
        let id = format!("after[i={i}]");
        builder = builder.matrix_cell(&id, "after", &[], json!({"text": i.to_string()}), &[("data", &[i])]);
    }
    // A folder is asked directly and counts nothing.
    let store = Store::open("memory://").unwrap();
    let bench = Bench { store, pipeline: builder.build(), profile: Profile::parse("{}").unwrap() };
    let saved = bench.saved();
    // What nodes ask: some of them do all that a job does.
    let (nodes, brief) = (RefCell::new((0u64, 0, 0)), RefCell::new((0u64, 0)));
    // Looks and listings are what a metadata server does; the others move contents.
    let metadata = |asked: &Requests| asked.head + asked.list;
    let body: simulated::Body = Box::new(|cell, job, _| {
        let before = bench.store.requests();
        if cell < sample || cell >= n {
            let own = &bench.store;
            let (sources, cancel) = (SourceIndex::open(own).unwrap(), Cancel::default());
            let plan = SavedPlan::load(own, &saved.digest, &[&WRITE]).unwrap();
            let mut site = Site::new(own, &sources, 1, &Nobody, &cancel);
            (site.job, site.patience) = (Some(job.into()), std::time::Duration::ZERO);
            assert!(matches!(run_cell(&plan, cell, &site).unwrap(), Ended::Current { ran: true, .. }));
            let (mut nodes, asked) = (nodes.borrow_mut(), own.requests() - before);
            *nodes = (nodes.0 + 1, nodes.1 + metadata(&asked), nodes.2 + asked.total());
        } else {
            let key = Digest::of(format!("cell {cell}").as_bytes());
            bench.store.put_record(&record(key, &bench.pipeline.cells[cell].id, job)).unwrap();
            let done = Done { key, wall_ms: 1, ran: true, job: Some(job.into()) };
            bench.store.put_mark(&saved.digest, Mark::Done, cell, &done).unwrap();
            // No node would ask this of the follower's store.
            let (mut brief, asked) = (brief.borrow_mut(), bench.store.requests() - before);
            *brief = (brief.0 + metadata(&asked), brief.1 + asked.total());
        }
        Exit::Done
    });
    let queue = Simulated::new(CALM, body);
    let before = bench.store.requests();
    let summary = bench.run(&queue, false, &Nobody).unwrap();
    assert_eq!((summary.ran, summary.failed, summary.unfinished), (n + sample, 0, 0), "{summary:?}");
    let ((jobs, looks, all), brief) = (*nodes.borrow(), *brief.borrow());
    let whole = bench.store.requests() - before;
    let each = |of_jobs: u64, followed: u64| of_jobs as f64 / jobs as f64 + followed as f64 / n as f64;
    // The follower's own are what no job asked.
    let (looks, all) = (each(looks, metadata(&whole) - brief.0 - looks), each(all, whole.total() - brief.1 - all));
    eprintln!("{looks:.2} metadata requests a cell, {all:.2} in all, of {jobs} jobs and their follower");
    assert!(looks > 0.5 && all > 5.0, "nothing was counted: {looks}, {all}");
    assert!(looks < 10.0, "{looks} metadata requests a cell");
    assert!(all < 30.0, "{all} requests a cell");
}

#[test]
fn another_program_on_a_node_is_named() {
    let bench = Bench::new(study(2), "");
    let saved = bench.saved();
    let text = String::from_utf8(bench.store.plan_bytes(&saved.digest).unwrap().unwrap()).unwrap();
    let said = |text: String| {
        let digest = Digest::of(text.as_bytes());
        bench.store.put_plan(&digest, text.into_bytes()).unwrap();
        let e = SavedPlan::load(&bench.store, &digest, &[&WRITE]).err().unwrap();
        format!("{e}; {}", e.hint().unwrap_or_default())
    };
    let older = said(text.replace(PROGRAM, "scaleshot 0.0.9"));
    assert!(older.contains("submitted by scaleshot 0.0.9; this is scaleshot"), "{older}");
    assert!(older.contains("the same program on every node"), "{older}");
    let kind = said(text.replace("\"version\":1", "\"version\":7"));
    assert!(kind.contains("the plan needs kind write 7"), "{kind}");
    let e = SavedPlan::load(&bench.store, &Digest::of(b"elsewhere"), &[&WRITE]).err().unwrap();
    assert!(e.to_string().contains("has no plan"), "{e}");
}

fn record(key: Digest, cell: &str, job: &str) -> crate::store::record::Record {
    crate::store::record::Record {
        key,
        kind: "write".into(),
        kind_version: 1,
        pipeline: "test".into(),
        cell: cell.into(),
        parts: Vec::new(),
        outputs: Default::default(),
        notes: Default::default(),
        wall_ms: 1,
        cpu_ms: None,
        peak_rss_bytes: None,
        threads: 1,
        machine: crate::run::machine(),
        program: job.into(),
        finished_unix_ms: 0,
        log: None,
        measured: Default::default(),
        accepted: None,
    }
}
