//! What long work tells its caller, and how its caller tells it to stop.
//!
//! Layer 0, so that training and data rooms can report without knowing about terminals or graphs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::error::{Error, Result};

/// A place to report to. All methods may be called from any thread.
pub trait Progress: Send + Sync {
    /// Work to do, in `unit`s (`images`, `rows`, `steps`).
    fn begin(&self, total: u64, unit: &'static str);
    fn advance(&self, by: u64);
    /// One line for the cell's log.
    fn log(&self, line: &str);
}

/// Reports to nobody.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64, _: &'static str) {}
    fn advance(&self, _: u64) {}
    fn log(&self, _: &str) {}
}

/// A request to stop, seen by every clone. Work checks it at points where it can be resumed.
#[derive(Clone, Default, Debug)]
pub struct Cancel {
    asked: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Cancel {
    pub fn request(&self) {
        self.asked.store(true, Ordering::SeqCst);
    }

    /// The same request, which also comes by itself at a time.
    pub fn by(&self, deadline: Option<Instant>) -> Self {
        Cancel { asked: self.asked.clone(), deadline }
    }

    pub fn requested(&self) -> bool {
        self.asked.load(Ordering::SeqCst) || self.expired()
    }

    /// The time of [`Cancel::by`] has come.
    pub fn expired(&self) -> bool {
        self.deadline.is_some_and(|at| Instant::now() >= at)
    }

    /// `Err(Interrupted)` once a stop was asked for.
    pub fn check(&self) -> Result<()> {
        if self.requested() { Err(Error::Interrupted) } else { Ok(()) }
    }
}
