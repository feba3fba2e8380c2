//! What a reader left out or could not make sense of: counted by reason, with the first places.
//!
//! It does not decide anything; the reader's `odd_rows` and `missing` options do.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What to do with a row that does not fit its table: too few fields, a label out of range, not UTF-8, an image that
/// was listed before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OddRows {
    /// Count it and go on.
    #[default]
    Skip,
    /// Stop there.
    Error,
}

/// What to do with a row whose image file does not exist, or leaves the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Count it and go on.
    #[default]
    Skip,
    /// Stop there.
    Error,
    /// Keep the row without looking: for work on tables alone.
    Keep,
}

/// One reason with its count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What was wrong, in words that do not depend on the row.
    pub what: String,
    /// How many rows.
    pub count: u64,
    /// True where the rows are gone; false where they stay with an unknown value.
    pub dropped: bool,
    /// The first places, as `file:line: detail`.
    pub examples: Vec<String>,
}

const EXAMPLES: usize = 3;

/// Everything that a reader left out, by reason, in the order in which the reasons were met.
#[derive(Clone, Debug, Default)]
pub struct Skipped {
    reasons: Vec<Reason>,
    images_unseen: bool,
}

impl Skipped {
    fn count(&mut self, what: &str, dropped: bool, example: impl FnOnce() -> String) {
        let at = match self.reasons.iter().position(|r| r.what == what && r.dropped == dropped) {
            Some(at) => at,
            None => {
                self.reasons.push(Reason { what: what.into(), count: 0, dropped, examples: Vec::new() });
                self.reasons.len() - 1
            }
        };
        let reason = &mut self.reasons[at];
        reason.count += 1;
        if reason.examples.len() < EXAMPLES {
            reason.examples.push(example());
        }
    }

    /// A row that is gone. `row` is its line in the file, from 1.
    pub fn row(&mut self, what: &str, file: &Path, row: u64, detail: &str) {
        self.count(what, true, || place(file, row, detail));
    }

    /// A row that stays, with a value that is now unknown.
    pub fn value(&mut self, what: &str, file: &Path, row: u64, detail: &str) {
        self.count(what, false, || place(file, row, detail));
    }

    /// An odd row: gone and counted, or the end.
    pub fn odd(&mut self, policy: OddRows, what: &str, file: &Path, row: u64, detail: &str) -> Result<()> {
        if policy == OddRows::Error {
            let message = if detail.is_empty() { what.to_string() } else { format!("{what}: {detail}") };
            return Err(Error::data(file, row, message).with_hint("set odd_rows: skip to count such rows and go on"));
        }
        self.row(what, file, row, detail);
        Ok(())
    }

    /// Says that rows were kept without a look at their image files (`missing: keep`).
    pub(super) fn images_not_looked_for(&mut self) {
        self.images_unseen = true;
    }

    /// Whether the image files of kept rows may be absent.
    pub fn images_unseen(&self) -> bool {
        self.images_unseen
    }

    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// Rows that are gone.
    pub fn rows(&self) -> u64 {
        self.reasons.iter().filter(|r| r.dropped).map(|r| r.count).sum()
    }

    /// How often a reason was met.
    pub fn of(&self, what: &str) -> u64 {
        self.reasons.iter().filter(|r| r.what == what).map(|r| r.count).sum()
    }
}

/// Names the file without its folder, so that what is kept of a run does not depend on where data lie.
fn place(file: &Path, row: u64, detail: &str) -> String {
    let name = file.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    match (row, detail) {
        (0, "") => name.into_owned(),
        (0, _) => format!("{name}: {detail}"),
        (_, "") => format!("{name}:{row}"),
        _ => format!("{name}:{row}: {detail}"),
    }
}
