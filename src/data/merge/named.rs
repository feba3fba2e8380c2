//! Names that a merge's lists hold, and which of them some row has: a name that is misspelt must not pass in silence.

use std::collections::HashMap;

use crate::{data::dataset::Dataset, error::Result};

/// One list with what was found of it.
pub(super) struct Named<'a> {
    /// What the list is called in the specification.
    list: &'static str,
    of: Of,
    met: HashMap<&'a str, bool>,
}

/// What the names of a list are.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Of {
    /// Paths or file names.
    Images,
    Patients,
    Both,
}

/// Names that a note gives.
const TOLD: usize = 5;

impl<'a> Named<'a> {
    pub fn new(list: &'static str, of: Of, names: impl IntoIterator<Item = &'a String>) -> Self {
        Named { list, of, met: names.into_iter().map(|name| (name.as_str(), false)).collect() }
    }

    /// Marks the names that rows of a piece have.
    pub fn meet(&mut self, piece: &Dataset) -> Result<()> {
        if self.met.is_empty() {
            return Ok(());
        }
        let mut mark = |name: &str| {
            if let Some(met) = self.met.get_mut(name) {
                *met = true;
            }
        };
        if self.of != Of::Patients {
            for image in piece.images()?.iter().flatten() {
                mark(image);
                mark(file(image));
            }
        }
        if let (true, Some(patients)) = (self.of != Of::Images, piece.text("patient")) {
            patients.iter().flatten().for_each(mark);
        }
        Ok(())
    }

    /// Whether the list names an image by its path or its file name.
    pub fn holds(&self, image: &str) -> bool {
        self.met.contains_key(image) || self.met.contains_key(file(image))
    }

    /// How many names no row has, and some of them; `None` where each was met.
    pub fn unmet(&self) -> Option<(u64, String)> {
        let mut unmet: Vec<&str> = self.met.iter().filter(|(_, met)| !**met).map(|(name, _)| *name).collect();
        unmet.sort_unstable();
        let (n, of) = (unmet.len(), self.met.len());
        let more = if n > TOLD { ", …" } else { "" };
        unmet.truncate(TOLD);
        (n > 0).then(|| {
            (n as u64, format!("{}: {n} of its {of} names are of no row: {}{more}", self.list, unmet.join(", ")))
        })
    }
}

fn file(image: &str) -> &str {
    image.rsplit('/').next().unwrap_or(image)
}
