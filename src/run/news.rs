//! What a run tells to other processes, and how it reads there.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    event::{Event, Observer, Todo},
    meter::{machine, unix_ms},
};
use crate::store::{News, Store};

/// The first line of a run's news.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub pipeline: String,
    pub host: String,
    pub pid: u32,
    pub started_unix_ms: u64,
}

impl Head {
    /// For messages: `study (host, process 17)`.
    pub fn told(&self) -> String {
        format!("{} ({}, process {})", self.pipeline, self.host, self.pid)
    }
}

/// Any other line: an event and when it was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub unix_ms: u64,
    /// Of [`Event::Planned`], which does not write them itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub todo: Vec<Todo>,
    #[serde(flatten)]
    pub event: Event,
}

impl Told {
    pub fn now(event: &Event) -> Self {
        let todo = if let Event::Planned { todo, .. } = event { todo.clone() } else { Vec::new() };
        Told { unix_ms: unix_ms(), todo, event: event.clone() }
    }

    /// `None` for lines of another program's events.
    pub fn read(line: &str) -> Option<Self> {
        let mut told: Told = serde_json::from_str(line).ok()?;
        if let Event::Planned { todo, .. } = &mut told.event {
            *todo = std::mem::take(&mut told.todo);
        }
        Some(told)
    }

    /// When it was told, on this process's clock; a wall clock that was set meanwhile makes it now.
    pub fn at(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(Duration::from_millis(unix_ms().saturating_sub(self.unix_ms))).unwrap_or(now)
    }
}

/// Passes events on, and leaves those of a run with something to do where other processes see them.
pub struct Herald<'a> {
    inner: &'a dyn Observer,
    store: &'a Store,
    pipeline: &'a str,
    /// `None` where the store can only be read.
    news: OnceLock<Option<News>>,
}

impl<'a> Herald<'a> {
    pub fn new(inner: &'a dyn Observer, store: &'a Store, pipeline: &'a str) -> Self {
        Herald { inner, store, pipeline, news: OnceLock::new() }
    }

    fn begin(&self) -> Option<News> {
        let head = Head {
            pipeline: self.pipeline.into(),
            host: machine().host,
            pid: std::process::id(),
            started_unix_ms: unix_ms(),
        };
        self.store.begin_news(&head).ok()
    }
}

impl Observer for Herald<'_> {
    fn event(&self, event: &Event) {
        if let Event::Planned { run: 1.., .. } = event {
            self.news.get_or_init(|| self.begin());
        }
        if let Some(Some(news)) = self.news.get() {
            news.tell(&Told::now(event));
        }
        self.inner.event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Nobody;

    #[test]
    fn what_is_told_reads_back_elsewhere() {
        let store = Store::open("memory://").unwrap();
        let herald = Herald::new(&Nobody, &store, "study");
        let planned = |run: usize| Event::Planned {
            cells: 3,
            fresh: 3 - run,
            run,
            blocked: 0,
            threads: 2,
            todo: vec![Todo { cell: "a".into(), kind: "x".into(), expected_ms: Some(7), unknown: true }; run],
        };
        herald.event(&planned(0));
        assert!(store.news().is_empty(), "a run without anything to do tells nobody");
        herald.event(&planned(2));
        herald.event(&Event::Stopping);
        let mut reader = store.news().pop().unwrap();
        let lines = reader.lines().unwrap();
        let head: Head = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((head.pipeline.as_str(), head.pid), ("study", std::process::id()));
        let events: Vec<Event> = lines[1..].iter().map(|l| Told::read(l).unwrap().event).collect();
        assert_eq!(events, [planned(2), Event::Stopping]);
        assert_eq!(Told::read(r#"{"unix_ms":1,"event":"unheard_of"}"#), None);
        drop(herald);
        assert!(!reader.live());
    }
}
