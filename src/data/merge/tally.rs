//! The merge's table: what was read, dropped and kept of each source, counted piece by piece.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, StringArray, UInt64Array},
    datatypes::{DataType, Field, Schema},
    record_batch::RecordBatch,
};
use serde::{Deserialize, Serialize};

use crate::{
    data::{
        dataset::Dataset,
        hashed,
        labels::{self, LabelCount},
        runs::Runs,
    },
    error::Result,
};

/// One line of the merge's table: what was counted, of what, in which source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRow {
    /// Name of the source, or `total`.
    pub source: String,
    /// `rows_read`, `rows_kept`, `dropped`, `positives`, `negatives`, `unknowns`, `patients`, `view`, `split`.
    pub measure: String,
    /// The rule that dropped, the label, the view or the split.
    pub item: Option<String>,
    pub count: u64,
}

/// What came from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergeReport {
    pub rows: Vec<ReportRow>,
    /// What the reader of the result should know besides.
    pub notes: Vec<MergeNote>,
}

/// Something that the merge was told and that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeNote {
    /// `unknown_names` or `rows_without_split`.
    pub what: &'static str,
    pub count: u64,
    pub detail: String,
}

impl MergeReport {
    pub(super) fn add(&mut self, source: &str, measure: &str, item: Option<&str>, count: u64) {
        self.rows.push(ReportRow { source: source.into(), measure: measure.into(), item: item.map(Into::into), count });
    }

    /// One count; `None` where it was not taken.
    pub fn get(&self, source: &str, measure: &str, item: Option<&str>) -> Option<u64> {
        let fits = |r: &&ReportRow| r.source == source && r.measure == measure && r.item.as_deref() == item;
        self.rows.iter().find(fits).map(|r| r.count)
    }

    /// The table: `source`, `measure`, `item`, `count`.
    pub fn batch(&self) -> Result<RecordBatch> {
        let text = |get: &dyn Fn(&ReportRow) -> Option<String>| -> ArrayRef {
            Arc::new(self.rows.iter().map(get).collect::<StringArray>())
        };
        let fields = vec![
            Field::new("source", DataType::Utf8, false),
            Field::new("measure", DataType::Utf8, false),
            Field::new("item", DataType::Utf8, true),
            Field::new("count", DataType::UInt64, false),
        ];
        let columns = vec![
            text(&|r| Some(r.source.clone())),
            text(&|r| Some(r.measure.clone())),
            text(&|r| r.item.clone()),
            Arc::new(self.rows.iter().map(|r| r.count).collect::<UInt64Array>()),
        ];
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

/// Counts of rows that were kept.
#[derive(Default)]
pub(super) struct Tally {
    pub rows: u64,
    labels: Vec<LabelCount>,
    /// Patients, where there is such a column; see [`Patients`].
    pub patients: Option<u64>,
    values: [Option<BTreeMap<Option<String>, u64>>; 2],
}

/// Columns whose values are counted.
const COUNTED: [&str; 2] = ["view", "split"];

impl Tally {
    pub fn add(&mut self, d: &Dataset) {
        self.rows += d.rows() as u64;
        merge_counts(&mut self.labels, labels::counts(d));
        for (name, of) in COUNTED.iter().zip(&mut self.values) {
            let Some(column) = d.text(name) else { continue };
            // Few values, each for many rows: those of this piece first.
            let mut met: Vec<(Option<&str>, u64)> = Vec::new();
            for value in column {
                match met.iter_mut().find(|(known, _)| *known == value) {
                    Some((_, n)) => *n += 1,
                    None => met.push((value, 1)),
                }
            }
            let of = of.get_or_insert_default();
            for (value, n) in met {
                *of.entry(value.map(Into::into)).or_default() += n;
            }
        }
    }

    /// Rows that are in no split.
    pub fn without_split(&self) -> u64 {
        let splits = self.values[COUNTED.len() - 1].as_ref();
        splits.map_or(self.rows, |of| of.get(&None).copied().unwrap_or(0))
    }

    /// Adds what another one counted.
    pub fn join(&mut self, other: Tally) {
        self.rows += other.rows;
        merge_counts(&mut self.labels, other.labels);
        for (ours, theirs) in self.values.iter_mut().zip(other.values) {
            for (value, n) in theirs.into_iter().flatten() {
                *ours.get_or_insert_default().entry(value).or_default() += n;
            }
        }
    }

    pub fn tell(&self, source: &str, report: &mut MergeReport) {
        report.add(source, "rows_kept", None, self.rows);
        for count in &self.labels {
            report.add(source, "positives", Some(&count.name), count.positives);
            report.add(source, "negatives", Some(&count.name), count.negatives);
            report.add(source, "unknowns", Some(&count.name), count.unknowns);
        }
        if let Some(patients) = self.patients {
            report.add(source, "patients", None, patients);
        }
        for (name, of) in COUNTED.iter().zip(&self.values) {
            for (value, count) in of.iter().flatten() {
                report.add(source, name, Some(value.as_deref().unwrap_or("unknown")), *count);
            }
        }
    }
}

/// Patients that differ, of each source and of all; by 128 bits of their names.
pub(super) struct Patients {
    /// A patient and a source.
    met: Runs<3>,
    /// Whether any table has the column.
    told: bool,
}

impl Patients {
    pub fn new(scratch: Option<&Path>) -> Self {
        Patients { met: Runs::new(scratch), told: false }
    }

    pub fn add(&mut self, source: usize, d: &Dataset) -> Result<()> {
        let Some(column) = d.text("patient") else { return Ok(()) };
        self.told = true;
        let mut before = None;
        for patient in column.iter().flatten() {
            // Most tables list a patient's images one after the other.
            if before.replace(patient) != Some(patient) {
                let [a, b] = hashed::wide(patient);
                self.met.push([a, b, source as u64])?;
            }
        }
        Ok(())
    }

    /// Writes down what was counted.
    pub fn tell(mut self, sources: &mut [Tally], total: &mut Tally) -> Result<()> {
        if !self.told {
            return Ok(());
        }
        let mut counts = vec![0; sources.len()];
        let (mut all, mut last) = (0, None);
        for record in self.met.sorted()? {
            let record @ [a, b, source] = record?;
            if last != Some(record) {
                counts[source as usize] += 1;
                all += u64::from(last.is_none_or(|[x, y, _]| [x, y] != [a, b]));
                last = Some(record);
            }
        }
        sources.iter_mut().zip(counts).for_each(|(tally, count)| tally.patients = Some(count));
        total.patients = Some(all);
        Ok(())
    }
}

fn merge_counts(ours: &mut Vec<LabelCount>, theirs: Vec<LabelCount>) {
    for count in theirs {
        match ours.iter_mut().find(|c| c.name == count.name) {
            Some(c) => {
                c.positives += count.positives;
                c.negatives += count.negatives;
                c.unknowns += count.unknowns;
            }
            None => ours.push(count),
        }
    }
}
