//! What a run tells: typed events to any number of observers, and the summary at the end.
//!
//! Events carry clocks and sizes but decide nothing; a run without observers gives the same results.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    plan::{Plan, Planned, Reason, State},
};

/// Told of everything that happens, from any thread.
pub trait Observer: Send + Sync {
    fn event(&self, event: &Event);
}

/// Tells nobody.
pub struct Nobody;

impl Observer for Nobody {
    fn event(&self, _: &Event) {}
}

/// A cell that has to run, or may have to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Todo {
    pub cell: String,
    pub kind: String,
    /// How long it took the last time.
    pub expected_ms: Option<u64>,
    /// Whether it runs shows only when the cells before it are done.
    #[serde(default)]
    pub unknown: bool,
}

impl From<&Planned> for Todo {
    fn from(planned: &Planned) -> Self {
        Todo {
            cell: planned.cell.clone(),
            kind: planned.kind.into(),
            expected_ms: planned.expected_ms,
            unknown: planned.reasons.iter().all(|reason| matches!(reason, Reason::Waits { .. })),
        }
    }
}

/// One JSON line each under `--json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// First of all: how many cells there are in which state.
    Planned {
        cells: usize,
        fresh: usize,
        run: usize,
        blocked: usize,
        threads: usize,
        #[serde(skip)]
        todo: Vec<Todo>,
    },
    Started {
        cell: String,
        key: Digest,
        reasons: Vec<String>,
        threads: usize,
        /// An interrupted attempt left something to continue from.
        resumes: bool,
        /// The log's name in the store.
        log: String,
    },
    /// At most a few a second for each cell. `total` is 0 where it is not known.
    Progress {
        cell: String,
        done: u64,
        total: u64,
        unit: String,
    },
    /// News of its job in a queue: submitted, adopted (found there), pending, running, lost.
    Queued {
        cell: String,
        job: String,
        state: String,
        /// Where and since when, or what it waits for.
        detail: String,
    },
    /// Its key is being computed.
    Waiting {
        cell: String,
        by: By,
    },
    /// It need not run after all: its inputs came out as they were, or its key was computed meanwhile.
    Spared {
        cell: String,
        key: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
    },
    Done {
        cell: String,
        key: Digest,
        wall_ms: u64,
        cpu_ms: Option<u64>,
        peak_rss_bytes: Option<u64>,
        /// Of all outputs.
        bytes: u64,
    },
    /// What went wrong can pass: it is tried again after a while.
    Retrying {
        cell: String,
        error: String,
        /// Which try failed, from 1.
        attempt: u32,
        wait_ms: u64,
    },
    Failed(Failure),
    Skipped(Skip),
    /// It stopped at a point where it can be resumed.
    Interrupted {
        cell: String,
    },
    Blocked {
        cell: String,
        reasons: Vec<String>,
    },
    /// A stop was asked for; running cells are checkpointing.
    Stopping,
    Finished(Summary),
}

/// Who computes a key in a cell's stead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A cell of this run that has the same key.
    Cell(String),
    Process,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub cell: String,
    pub error: String,
    pub hint: Option<String>,
    /// Where its log is.
    pub log: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    pub cell: String,
    /// The cell that failed.
    pub because: String,
    /// It needs nothing of the failed cell; it was not started since the run stops at the first failure.
    pub stopped: bool,
}

/// How a run went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// All that were asked for, with what they need.
    pub cells: usize,
    /// Current before the run.
    pub fresh: usize,
    /// Frozen: not looked at, whatever changed.
    #[serde(default)]
    pub frozen: usize,
    /// Expected to run, and found current: early cut-off, or computed by another process.
    pub spared: usize,
    pub ran: usize,
    pub failed: usize,
    pub skipped: usize,
    pub blocked: usize,
    /// Stopped, or not started because of a stop.
    pub unfinished: usize,
    pub interrupted: bool,
    pub wall_ms: u64,
    pub failures: Vec<Failure>,
}

impl Summary {
    /// The counts of a plan of which nothing has run yet. Tells what will run, and why what is blocked will not.
    pub(super) fn before(plan: &Plan, threads: usize, observer: &dyn Observer) -> Self {
        let of = |state| plan.cells.iter().filter(move |c| c.state == state);
        let summary = Summary {
            cells: plan.cells.len(),
            fresh: plan.count(State::Fresh),
            frozen: plan.count(State::Frozen),
            blocked: plan.count(State::Blocked),
            ..Summary::default()
        };
        observer.event(&Event::Planned {
            cells: summary.cells,
            fresh: summary.fresh,
            run: plan.count(State::Run),
            blocked: summary.blocked,
            threads,
            todo: of(State::Run).map(Todo::from).collect(),
        });
        for cell in of(State::Blocked) {
            let reasons = cell.reasons.iter().map(ToString::to_string).collect();
            observer.event(&Event::Blocked { cell: cell.cell.clone(), reasons });
        }
        summary
    }

    /// Every cell is current.
    pub fn complete(&self) -> bool {
        self.failed + self.skipped + self.blocked + self.unfinished == 0
    }

    /// 0 done, 1 a node failed or is blocked, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            s if s.interrupted => 130,
            s if s.complete() => 0,
            _ => 1,
        }
    }

    /// `48 cells: 3 ran, 45 fresh, 4.2 s`.
    pub fn sentence(&self) -> String {
        let parts = [
            (self.ran, "ran"),
            (self.fresh, "fresh"),
            (self.frozen, "frozen"),
            (self.spared, "spared"),
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.blocked, "blocked"),
            (self.unfinished, "unfinished"),
        ];
        let counts: Vec<String> =
            parts.iter().filter(|(n, what)| *n > 0 || *what == "ran").map(|(n, what)| format!("{n} {what}")).collect();
        format!("{} cells: {}, {}", self.cells, counts.join(", "), duration(self.wall_ms))
    }
}

/// `0.4 s`, `12 s`, `3 min 5 s`, `2 h 7 min`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..10 => format!("{}.{} s", s, ms % 1000 / 100),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_json_that_reads_back() {
        let events = [
            Event::Stopping,
            Event::Failed(Failure { cell: "a".into(), error: "x\ny".into(), hint: None, log: None }),
            Event::Finished(Summary { cells: 3, ..Summary::default() }),
        ];
        for event in events {
            let line = serde_json::to_string(&event).unwrap();
            assert!(line.starts_with("{\"event\":\"") && !line.contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }

    #[test]
    fn the_exit_code_tells_failure_from_interruption() {
        let code = |summary: Summary| summary.exit_code();
        assert_eq!(code(Summary { cells: 2, ran: 2, ..Summary::default() }), 0);
        assert_eq!(code(Summary { blocked: 1, ..Summary::default() }), 1);
        assert_eq!(code(Summary { failed: 1, ..Summary::default() }), 1);
        assert_eq!(code(Summary { unfinished: 1, interrupted: true, ..Summary::default() }), 130);
    }

    #[test]
    fn durations_stay_short() {
        let told = [400, 9_999, 12_000, 185_000, 7_620_000].map(duration);
        assert_eq!(told, ["0.4 s", "9.9 s", "12 s", "3 min 5 s", "2 h 7 min"]);
    }
}
