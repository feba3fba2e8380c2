//! Records: what a finished cell was.
//!
//! A record is published after every blob it names, so a record that exists is complete. It may hold clocks,
//! hosts and thread counts; artifacts and keys may not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{artifact::Artifact, part::Part};
use crate::digest::Digest;

/// Artifacts of a cell by output name.
pub type Outputs = BTreeMap<String, Artifact>;

/// Something a reader of the record should know: rows skipped, a head replaced, patients shared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// A short stable word: `skipped_rows`, `shared_patients`, `undefined_metric`.
    pub what: String,
    pub count: u64,
    pub detail: String,
}

/// Where a cell ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub host: String,
    pub os: String,
    pub cpu: String,
    /// Logical processors that this process may use.
    pub cores: usize,
    pub memory_bytes: u64,
}

/// Everything known of one finished cell. Stored as canonical JSON in `records/KEY.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub key: Digest,
    pub kind: String,
    pub kind_version: u32,
    /// The pipeline and the cell that computed it first; others with the same key share it.
    pub pipeline: String,
    pub cell: String,
    pub parts: Vec<Part>,
    pub outputs: Outputs,
    pub notes: Vec<Note>,
    /// How the kind computed, where it says so: `precision`, `kernels`, `input_wait_share`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measured: BTreeMap<String, serde_json::Value>,
    pub wall_ms: u64,
    /// Over all threads of the cell; null where the system does not tell.
    pub cpu_ms: Option<u64>,
    /// The process's largest resident memory while the cell ran, so an upper bound where cells ran beside it.
    pub peak_rss_bytes: Option<u64>,
    pub threads: usize,
    pub machine: Machine,
    /// `scaleshot 0.1.0`.
    pub program: String,
    pub finished_unix_ms: u64,
    /// The name of the cell's log in the store.
    pub log: Option<String>,
    /// Somebody took this result as current instead of computing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
}

/// How a result came to be current without being computed from its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    pub unix_ms: u64,
    /// The record whose outputs were taken, where one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Digest>,
    /// What was different when it was accepted, as sentences.
    pub reasons: Vec<String>,
    /// Files that were put in by hand: `OUTPUT/FILE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Why, in the words of who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
