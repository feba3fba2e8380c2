//! One file a layout: its folders, table columns, words for findings and odd rows.

pub mod chexpert;
pub mod mimic_cxr;
pub mod nih;
pub mod padchest;
pub mod tuberculosis;

mod report;

use std::{io::Write, path::Path};

use super::{Options, Summary, cohort::save};
use crate::{
    error::{Error, Result},
    progress::{Cancel, Progress},
};

/// What a layout is asked to do.
pub struct Job<'a> {
    pub options: &'a Options,
    pub root: &'a Path,
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
}

/// CSV text, quoted where needed, lines ending in LF.
fn csv_text(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |e: csv::Error| Error::invalid(format!("bug: a generated table is uneven: {e}"));
    writer.write_record(header).map_err(failed)?;
    for row in rows {
        writer.write_record(&row).map_err(failed)?;
    }
    writer.into_inner().map_err(|e| Error::invalid(format!("bug: a table in memory cannot be written: {e}")))
}

/// gzip without name and time.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let failed = |e: std::io::Error| Error::invalid(format!("bug: gzip in memory: {e}"));
    encoder.write_all(bytes).map_err(failed)?;
    encoder.finish().map_err(failed)
}

impl Job<'_> {
    fn table(&self, name: &str, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
        let text = csv_text(header, rows)?;
        save(self.root, name, &if name.ends_with(".gz") { gzip(&text)? } else { text })
    }

    fn list(&self, name: &str, lines: impl IntoIterator<Item = String>) -> Result<()> {
        let text: String = lines.into_iter().map(|l| l + "\n").collect();
        save(self.root, name, text.as_bytes())
    }

    /// Whether this patient is the odd one of the `kind`-th kind: one in 40, from the small numbers on.
    fn odd(&self, number: u32, kind: u32) -> bool {
        self.options.odd_rows && number % 40 == 2 + kind
    }
}

/// Sums image counts and sizes of rows.
fn summary(options: &Options, sizes: impl IntoIterator<Item = u64>) -> Summary {
    let mut out = Summary { patients: u64::from(options.patients), ..Default::default() };
    for bytes in sizes {
        out.images += 1;
        out.bytes += bytes;
    }
    out
}

#[cfg(test)]
mod read_back;
#[cfg(test)]
mod tests;
