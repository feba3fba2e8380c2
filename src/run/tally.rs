//! How a run stands, in one line, whether it has 5 cells or 5,000.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{
    estimate::Estimate,
    event::{Event, duration},
};

/// Counts the events of one run.
#[derive(Default)]
pub struct Tally {
    /// Cells that run, or may have to.
    pub run: usize,
    running: HashSet<String>,
    /// Whether these run shows only when those before them are done.
    unknown: HashSet<String>,
    ended: usize,
    failed: usize,
    skipped: usize,
    began: Option<Instant>,
    estimate: Estimate,
}

impl Tally {
    /// Notes what happened at some time, now or before.
    pub fn event(&mut self, event: &Event, at: Instant) {
        self.estimate.event(event, at);
        match event {
            Event::Planned { run, todo, .. } => {
                self.run = *run;
                self.began = Some(at);
                self.unknown = todo.iter().filter(|t| t.unknown).map(|t| t.cell.clone()).collect();
            }
            Event::Started { cell, .. } => self.starts(cell),
            Event::Queued { cell, state, .. } if state == "running" => self.starts(cell),
            Event::Retrying { cell, .. } | Event::Queued { cell, .. } => drop(self.running.remove(cell)),
            Event::Done { cell, .. } | Event::Spared { cell, .. } | Event::Interrupted { cell } => self.ends(cell),
            Event::Failed(failure) => {
                self.failed += 1;
                self.ends(&failure.cell);
            }
            Event::Skipped(skip) => {
                self.skipped += 1;
                self.ends(&skip.cell);
            }
            Event::Finished(_) => self.running.clear(),
            Event::Progress { .. } | Event::Waiting { .. } | Event::Blocked { .. } | Event::Stopping => {}
        }
    }

    fn starts(&mut self, cell: &str) {
        self.unknown.remove(cell);
        self.running.insert(cell.into());
    }

    fn ends(&mut self, cell: &str) {
        self.unknown.remove(cell);
        self.running.remove(cell);
        self.ended += 1;
    }

    /// Cells that run no more, one way or another.
    pub fn ended(&self) -> usize {
        self.ended
    }

    /// Names of running cells, sorted.
    pub fn running(&self) -> Vec<&str> {
        let mut cells: Vec<&str> = self.running.iter().map(String::as_str).collect();
        cells.sort_unstable();
        cells
    }

    /// `8 running, 1 failed, 2 skipped, 4000 unknown, 3.2 cells/s, 25 min left`; counts of nothing are left out.
    pub fn sentence(&self, now: Instant) -> String {
        let mut text = format!("{} running", self.running.len());
        for (count, what) in [(self.failed, "failed"), (self.skipped, "skipped"), (self.unknown.len(), "unknown")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        let spent = self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        if let Some(pace) = pace(self.ended - self.skipped, spent) {
            text.push_str(&format!(", {pace}"));
        }
        text.push_str(&match self.estimate.left(now) {
            Some(left) => format!(", {} left", duration(left.as_millis() as u64)),
            None => ", time left unknown".into(),
        });
        text
    }
}

/// `3.2 cells/s`, `12 cells/min`, `4 cells/h`; `None` before there is one to speak of.
fn pace(ended: usize, spent: Duration) -> Option<String> {
    const FEWEST: usize = 2;
    let rate = ended as f64 / spent.as_secs_f64().max(1e-3);
    let (rate, unit) = match rate {
        _ if ended < FEWEST => return None,
        r if r >= 1.0 => (r, "s"),
        r if r >= 1.0 / 60.0 => (r * 60.0, "min"),
        r => (r * 3600.0, "h"),
    };
    Some(if rate < 9.95 { format!("{rate:.1} cells/{unit}") } else { format!("{rate:.0} cells/{unit}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        digest::Digest,
        run::{Failure, Skip, Todo},
    };

    #[test]
    fn a_line_tells_how_thousands_stand() {
        let zero = Instant::now();
        let at = |s: u64| zero + Duration::from_secs(s);
        let key = Digest::of(b"");
        let cell = |i: usize| format!("c{i}");
        let todo = (0..5000).map(|i| Todo { cell: cell(i), kind: "x".into(), expected_ms: None, unknown: i >= 1000 });
        let mut tally = Tally::default();
        let planned = Event::Planned { cells: 5000, fresh: 0, run: 5000, blocked: 0, threads: 2, todo: todo.collect() };
        tally.event(&planned, at(0));
        assert_eq!(tally.sentence(at(1)), "0 running, 4000 unknown, time left unknown");
        let started =
            |i| Event::Started { cell: cell(i), key, reasons: vec![], threads: 1, resumes: false, log: String::new() };
        let done = |i| Event::Done { cell: cell(i), key, wall_ms: 1000, cpu_ms: None, peak_rss_bytes: None, bytes: 0 };
        for i in 0..100 {
            tally.event(&started(i), at(i as u64));
            tally.event(&done(i), at(i as u64 + 1));
        }
        for i in [100, 1000] {
            tally.event(&started(i), at(100));
        }
        tally.event(&Event::Failed(Failure { cell: cell(101), error: "x".into(), hint: None, log: None }), at(100));
        tally.event(&Event::Skipped(Skip { cell: cell(1001), because: cell(101), stopped: false }), at(100));
        tally.event(&Event::Spared { cell: cell(1002), key, by: None }, at(100));
        assert_eq!((tally.ended(), tally.running()), (103, vec!["c100", "c1000"]));
        let text = tally.sentence(at(100));
        assert!(text.starts_with("2 running, 1 failed, 1 skipped, 3997 unknown, 1.0 cells/s, "), "{text}");
        assert!(text.ends_with(" min left") || text.ends_with(" s left"), "{text}");
    }

    #[test]
    fn paces_have_the_unit_that_suits_them() {
        let told = |n, s| pace(n, Duration::from_secs(s));
        assert_eq!(told(1, 10), None);
        assert_eq!(told(32, 10).as_deref(), Some("3.2 cells/s"));
        assert_eq!(told(2400, 10).as_deref(), Some("240 cells/s"));
        assert_eq!(told(12, 60).as_deref(), Some("12 cells/min"));
        assert_eq!(told(4, 3600).as_deref(), Some("4.0 cells/h"));
    }
}
