//! Records: what a finished cell was.
//!
//! A record is published after every blob it names, so a record that exists is complete. It may hold clocks,
//! hosts and thread counts; artifacts and keys may not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{artifact::Artifact, part::Part};
use crate::{
    digest::{Digest, canonical},
    error::Result,
};

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

/// Everything known of one finished cell. Stored as canonical JSON in `records/KEY.json`, whose last field, `check`, is
/// the digest of all before it.
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
    /// The process's largest resident memory while the cell ran, so an upper bound where cells ran beside it. Of a
    /// command its own and its children's, as looked at while it ran; null where it ended before a look.
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

/// What stands before and after the digest at a record's end.
const CHECK: (&[u8], &[u8]) = (br#","check":""#, br#""}"#);

impl Record {
    /// As it is stored.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        let mut text = canonical(&serde_json::to_value(self)?).into_bytes();
        text.pop();
        let check = Digest::of(&text).hex();
        text.extend([CHECK.0, check.as_bytes(), CHECK.1].concat());
        Ok(text)
    }

    /// What was stored; an error, in words, where a byte of it has changed. One without a check is believed.
    pub(super) fn read(text: &[u8]) -> std::result::Result<Self, String> {
        let end = text.len().saturating_sub(CHECK.0.len() + Digest::of(b"").hex().len() + CHECK.1.len());
        let (before, check) = text.split_at(end);
        if let Some(check) = check.strip_prefix(CHECK.0).and_then(|check| check.strip_suffix(CHECK.1))
            && check != Digest::of(before).hex().as_bytes()
        {
            return Err("its content is not that of its check".into());
        }
        serde_json::from_slice(text).map_err(|e| e.to_string())
    }
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

impl Accepted {
    /// What was taken, against what, and why; without the clock.
    pub fn told(&self) -> String {
        let mut text = match &self.of {
            Some(of) => format!("the result of {}", of.short()),
            None => "no cell's result".into(),
        };
        if !self.files.is_empty() {
            text.push_str(&format!(", with {} put in by hand", self.files.join(", ")));
        }
        if !self.reasons.is_empty() {
            text.push_str(&format!(", although {}", self.reasons.join("; ")));
        }
        if let Some(note) = &self.note {
            text.push_str(&format!(" ({note})"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_found_or_harmless() {
        let record = Record {
            key: Digest::of(b"key"),
            kind: "merge".into(),
            kind_version: 2,
            pipeline: "p".into(),
            cell: "c".into(),
            parts: Vec::new(),
            outputs: Outputs::new(),
            notes: vec![Note { what: "skipped_rows".into(), count: 3, detail: "three".into() }],
            measured: BTreeMap::new(),
            wall_ms: 5,
            cpu_ms: None,
            peak_rss_bytes: Some(1 << 20),
            threads: 2,
            machine: Machine::default(),
            program: "scaleshot".into(),
            finished_unix_ms: 7,
            log: None,
            accepted: None,
        };
        let text = record.text().unwrap();
        assert_eq!(Record::read(&text).as_ref(), Ok(&record));
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut flipped = text.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(read) = Record::read(&flipped) {
                    assert_eq!(read, record, "bit {bit} of byte {at}");
                    assert!(at >= text.len() - 76, "only the check itself may change unseen");
                }
            }
            assert!(Record::read(&text[..at]).is_err(), "cut after {at} bytes");
        }
        // A record of an earlier version has no check.
        let earlier = serde_json::to_vec(&record).unwrap();
        assert_eq!(Record::read(&earlier).as_ref(), Ok(&record));
    }
}
