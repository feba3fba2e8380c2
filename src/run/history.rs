//! What happened to each cell of a run, kept for the run page while another observer tells people.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use super::event::{Event, Observer};

/// How one cell fared. `None` where it did not get that far.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Since the run began.
    pub start_ms: Option<u64>,
    pub wall_ms: Option<u64>,
    pub cpu_ms: Option<u64>,
    pub peak_rss_bytes: Option<u64>,
    pub threads: Option<usize>,
    pub end: End,
    /// Why it ran, or what went wrong.
    pub reason: String,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Nothing was done: it was current.
    #[default]
    Fresh,
    Done,
    Failed,
    Skipped,
    Interrupted,
}

/// Passes events on and remembers them by cell.
pub struct History<'a> {
    inner: &'a dyn Observer,
    began: Instant,
    courses: Mutex<HashMap<String, Course>>,
}

impl<'a> History<'a> {
    pub fn new(inner: &'a dyn Observer) -> Self {
        History { inner, began: Instant::now(), courses: Mutex::default() }
    }

    /// By cell; cells that nothing was heard of were fresh.
    pub fn courses(self) -> HashMap<String, Course> {
        self.courses.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, cell: &str, change: impl FnOnce(&mut Course)) {
        let mut courses = self.courses.lock().unwrap_or_else(PoisonError::into_inner);
        change(courses.entry(cell.to_string()).or_default());
    }
}

impl Observer for History<'_> {
    fn event(&self, event: &Event) {
        match event {
            Event::Started { cell, reasons, threads, .. } => self.note(cell, |c| {
                c.start_ms = Some(self.began.elapsed().as_millis() as u64);
                c.reason = reasons.join("; ");
                c.threads = Some(*threads);
                c.end = End::Interrupted;
            }),
            Event::Done { cell, wall_ms, cpu_ms, peak_rss_bytes, .. } => self.note(cell, |c| {
                c.wall_ms = Some(*wall_ms);
                c.cpu_ms = *cpu_ms;
                c.peak_rss_bytes = *peak_rss_bytes;
                c.end = End::Done;
            }),
            Event::Failed(failure) => self.note(&failure.cell, |c| {
                c.reason = failure.error.clone();
                c.end = End::Failed;
            }),
            Event::Skipped(skip) => self.note(&skip.cell, |c| {
                c.reason = format!("{} failed", skip.because);
                c.end = End::Skipped;
            }),
            Event::Blocked { cell, reasons } => self.note(cell, |c| {
                c.reason = reasons.join("; ");
                c.end = End::Skipped;
            }),
            Event::Interrupted { cell } => self.note(cell, |c| c.end = End::Interrupted),
            _ => {}
        }
        self.inner.event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{digest::Digest, run::event::Nobody};

    #[test]
    fn a_cell_that_never_ended_was_interrupted() {
        let history = History::new(&Nobody);
        let key = Digest([0; 32]);
        let started = |cell: &str| Event::Started {
            cell: cell.into(),
            key,
            reasons: vec!["never ran".into()],
            threads: 2,
            resumes: false,
            log: String::new(),
        };
        history.event(&started("a"));
        history.event(&started("b"));
        history.event(&Event::Done { cell: "a".into(), key, wall_ms: 5, cpu_ms: None, peak_rss_bytes: None, bytes: 1 });
        let courses = history.courses();
        assert_eq!((courses["a"].end, courses["b"].end), (End::Done, End::Interrupted));
        assert_eq!(courses["a"].reason, "never ran");
    }
}
