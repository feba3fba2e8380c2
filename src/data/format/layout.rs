//! Which format a folder looks like: every format says what its published layout has, and what is found of it
//! makes its score.
//!
//! Only names, the first line of tables and the first bytes of files are looked at. A score is the weight of what
//! was found over the weight of all that the layout asks for, so a whole layout scores 1 in every format; among
//! formats that score alike the one that asks for more comes first.

use std::path::Path;

use serde::Serialize;

use super::{OddRows, table::Table};

/// How much of one format's layout a folder has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Likeness {
    /// The format's name in a `dataset` node.
    pub format: &'static str,
    /// Found over asked for, by weight: 0 to 1.
    pub score: f64,
    /// What is there.
    pub found: Vec<String>,
    /// What the layout asks for and is not there.
    pub missing: Vec<String>,
    #[serde(skip)]
    asked: f64,
}

/// A folder under the eyes of one format.
pub(super) struct Clues<'a> {
    root: &'a Path,
    found: Vec<String>,
    missing: Vec<String>,
    weight: f64,
    asked: f64,
}

impl<'a> Clues<'a> {
    pub(super) fn root(&self) -> &'a Path {
        self.root
    }

    /// Something that the layout asks for, found or not.
    pub(super) fn either(&mut self, weight: f64, what: &str, found: bool) -> bool {
        self.asked += weight;
        if found {
            self.weight += weight;
            self.found.push(what.into());
        } else {
            self.missing.push(what.into());
        }
        found
    }

    /// One of these files, as it is or with `.gz`.
    pub(super) fn file(&mut self, names: &[&str], weight: f64) -> bool {
        let there = names.iter().find(|n| self.root.join(n).is_file() || self.root.join(format!("{n}.gz")).is_file());
        self.either(weight, there.unwrap_or(&names[0]), there.is_some())
    }

    /// One of these folders.
    pub(super) fn folder(&mut self, names: &[&str], weight: f64) -> bool {
        let there = names.iter().find(|n| self.root.join(n).is_dir());
        self.either(weight, &format!("{}/", there.unwrap_or(&names[0])), there.is_some())
    }

    /// One of these tables, with these columns in its header.
    pub(super) fn table(&mut self, names: &[&str], columns: &[&str], weight: f64) {
        let candidates = names.iter().flat_map(|n| [n.to_string(), format!("{n}.gz")]);
        let Some(name) = candidates.into_iter().find(|n| self.root.join(n).is_file()) else {
            self.either(weight, names[0], false);
            return;
        };
        match Table::open(&self.root.join(&name), b',', OddRows::Skip) {
            Ok(table) => {
                let lacking: Vec<&str> = columns.iter().copied().filter(|c| table.column(c).is_none()).collect();
                let what = match lacking.is_empty() {
                    true => name,
                    false => format!("{name} with the columns {}", lacking.join(", ")),
                };
                self.either(weight, &what, lacking.is_empty());
            }
            Err(_) => {
                self.either(weight, &format!("{name} that can be read"), false);
            }
        }
    }
}

/// What a format looks for.
pub(super) type Look = fn(&mut Clues);

/// How the folder looks to one format.
pub(super) fn likeness(format: &'static str, root: &Path, look: Look) -> Likeness {
    let mut clues = Clues { root, found: Vec::new(), missing: Vec::new(), weight: 0.0, asked: 0.0 };
    look(&mut clues);
    let score = if clues.asked > 0.0 { clues.weight / clues.asked } else { 0.0 };
    Likeness { format, score, found: clues.found, missing: clues.missing, asked: clues.asked }
}

/// Best first; formats of which nothing was found are left out.
pub(super) fn ranked(mut all: Vec<Likeness>) -> Vec<Likeness> {
    all.retain(|l| l.score > 0.0);
    all.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.asked.total_cmp(&a.asked)).then(a.format.cmp(b.format)));
    all
}
