//! How long a run will still take.
//!
//! A cell is expected to take what it took last, else the mean of its kind in this run, else the mean of all; a
//! running cell that tells its progress is expected to keep its pace. What is left is divided by the number of
//! cells that ran side by side so far, and no shorter than the longest cell that is running. Where nothing has
//! ended yet and nothing is known from before, there is no estimate.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::event::{Event, Todo};

/// Follows the events of one run.
#[derive(Default)]
pub struct Estimate {
    todo: HashMap<String, Todo>,
    running: HashMap<String, Running>,
    began: Option<Instant>,
    /// Number and total seconds of finished cells by kind.
    kinds: HashMap<String, (f64, f64)>,
}

struct Running {
    todo: Option<Todo>,
    began: Instant,
    fraction: f64,
}

impl Estimate {
    pub fn event(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Planned { todo, .. } => {
                self.began = Some(now);
                self.todo = todo.iter().map(|t| (t.cell.clone(), t.clone())).collect();
            }
            Event::Started { cell, .. } => {
                let todo = self.todo.remove(cell);
                self.running.insert(cell.clone(), Running { todo, began: now, fraction: 0.0 });
            }
            Event::Progress { cell, done, total, .. } => {
                if let Some(running) = self.running.get_mut(cell) {
                    running.fraction = if *total > 0 { (*done as f64 / *total as f64).min(1.0) } else { 0.0 };
                }
            }
            Event::Done { cell, wall_ms, .. } => {
                if let Some(Running { todo: Some(todo), .. }) = self.running.remove(cell) {
                    let kind = self.kinds.entry(todo.kind).or_default();
                    *kind = (kind.0 + 1.0, kind.1 + *wall_ms as f64 / 1000.0);
                }
            }
            Event::Spared { cell, .. } | Event::Skipped(super::Skip { cell, .. }) => {
                self.todo.remove(cell);
            }
            Event::Interrupted { cell } | Event::Failed(super::Failure { cell, .. }) => {
                self.todo.remove(cell);
                self.running.remove(cell);
            }
            Event::Retrying { cell, .. } => {
                if let Some(Running { todo: Some(todo), .. }) = self.running.remove(cell) {
                    self.todo.insert(cell.clone(), todo);
                }
            }
            Event::Stopping
            | Event::Finished(_)
            | Event::Blocked { .. }
            | Event::Waiting { .. }
            | Event::Queued { .. } => {}
        }
    }

    pub fn left(&self, now: Instant) -> Option<Duration> {
        let mean = |(count, total): (f64, f64)| (count > 0.0).then(|| total / count);
        let all = self.kinds.values().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let expected = |todo: &Todo| {
            let last = todo.expected_ms.map(|ms| ms as f64 / 1000.0);
            last.or_else(|| mean(*self.kinds.get(&todo.kind)?)).or_else(|| mean(all))
        };
        let mut sum = 0.0;
        let mut longest: f64 = 0.0;
        for running in self.running.values() {
            let spent = now.duration_since(running.began).as_secs_f64();
            let left = match running.fraction {
                f if f > 0.02 => spent * (1.0 - f) / f,
                _ => (running.todo.as_ref().and_then(expected)? - spent).max(0.0),
            };
            sum += left;
            longest = longest.max(left);
        }
        for todo in self.todo.values() {
            sum += expected(todo)?;
        }
        let elapsed = now.duration_since(self.began?).as_secs_f64();
        let spent: f64 = all.1 + self.running.values().map(|r| now.duration_since(r.began).as_secs_f64()).sum::<f64>();
        let side_by_side = if elapsed > 0.0 { (spent / elapsed).max(1.0) } else { 1.0 };
        Some(Duration::from_secs_f64((sum / side_by_side).max(longest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn todo(cell: &str, kind: &str, expected_ms: Option<u64>) -> Todo {
        Todo { cell: cell.into(), kind: kind.into(), expected_ms, unknown: false }
    }

    fn started(cell: &str) -> Event {
        let key = Digest::of(b"");
        Event::Started { cell: cell.into(), key, reasons: vec![], threads: 1, resumes: false, log: String::new() }
    }

    fn done(cell: &str, wall_ms: u64) -> Event {
        let key = Digest::of(b"");
        Event::Done { cell: cell.into(), key, wall_ms, cpu_ms: None, peak_rss_bytes: None, bytes: 0 }
    }

    fn planned(todo: Vec<Todo>) -> Event {
        Event::Planned { cells: todo.len(), fresh: 0, run: todo.len(), blocked: 0, threads: 2, todo }
    }

    #[test]
    fn what_ran_tells_of_what_will() {
        let zero = Instant::now();
        let at = |s: u64| zero + Duration::from_secs(s);
        let mut e = Estimate::default();
        e.event(&planned(vec![todo("a", "x", None), todo("b", "x", None), todo("c", "y", Some(7_000))]), at(0));
        e.event(&started("a"), at(0));
        assert_eq!(e.left(at(1)), None, "nothing is known of kind x");
        e.event(&done("a", 4_000), at(4));
        // One at a time so far: b like a, c like the last time.
        assert_eq!(e.left(at(4)).unwrap().as_secs(), 11);
        e.event(&started("b"), at(4));
        e.event(&Event::Progress { cell: "b".into(), done: 1, total: 4, unit: "rows".into() }, at(6));
        // b took 2 s for a quarter.
        assert_eq!(e.left(at(6)).unwrap().as_secs(), 13);
        e.event(&done("b", 8_000), at(12));
        e.event(&Event::Spared { cell: "c".into(), key: Digest::of(b""), by: None }, at(12));
        assert_eq!(e.left(at(12)).unwrap().as_secs(), 0);
    }

    #[test]
    fn cells_side_by_side_share_the_time() {
        let zero = Instant::now();
        let at = |s: u64| zero + Duration::from_secs(s);
        let mut e = Estimate::default();
        let cells: Vec<Todo> = (0..6).map(|i| todo(&format!("c{i}"), "x", None)).collect();
        e.event(&planned(cells), at(0));
        for cell in ["c0", "c1"] {
            e.event(&started(cell), at(0));
        }
        for cell in ["c0", "c1"] {
            e.event(&done(cell, 10_000), at(10));
        }
        assert_eq!(e.left(at(10)).unwrap().as_secs(), 20);
    }
}
