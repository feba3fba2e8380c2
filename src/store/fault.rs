//! Labelled points at which a test may kill the program, to prove that a crash leaves the store valid.
//!
//! It writes nothing and repairs nothing. Without `SCALESHOT_FAULT` a point costs one atomic load.
//!
//! `SCALESHOT_FAULT=record.put:3` ends the process the third time it passes the point `record.put`, without
//! running destructors or flushing anything, as `kill -9` would.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// Points that every run passes which computes a cell, in the order in which a cell passes them.
pub const POINTS: &[&str] = &[
    "lease.owned",
    "lease.taken",
    "log.opened",
    "blob.hashed",
    "blob.staged",
    "blob.published",
    "record.before",
    "record.published",
    "lease.released",
    "last.before",
    "last.published",
    "sources.staged",
];

/// Points that are passed only where the lease of a dead process is taken over in a folder.
pub const TAKEOVER_POINTS: &[&str] = &["lease.stale", "lease.moved"];

static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
static PASSED: AtomicU64 = AtomicU64::new(0);

/// Points of a collection of garbage.
pub const GC_POINTS: &[&str] = &["gc.marked", "gc.record", "gc.blob"];

/// Points of a training's checkpoint.
pub const CHECKPOINT_POINTS: &[&str] = &["checkpoint.before", "checkpoint.published"];

/// Ends the process here if the environment asked for it.
pub fn point(label: &str) {
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("SCALESHOT_FAULT").ok()?;
        let (label, count) = text.rsplit_once(':').unwrap_or((&text, "1"));
        Some((label.to_string(), count.parse().ok()?))
    });
    if let Some((wanted, count)) = armed
        && wanted == label
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        std::process::abort();
    }
}
