//! Many datasets into one, with a table of what came from where.
//!
//! Each source goes through the same steps in this order, and each step counts what it drops:
//!
//! 1. labels: `uncertain` is settled, the label `map` renames, joins and drops
//! 2. rows: `views`, `age`, `unique_patients`, `duplicates` (over all sources, the first stays)
//! 3. labels again: `labels` picks the ones of the result, `healthy` fills unknown ones
//! 4. `split` draws the splits, per source, so that adding a source moves no row of another
//!
//! It reads no files and checks no leakage: that is [`super::leakage`], on the result.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, StringArray, UInt64Array},
    datatypes::{DataType, Field, Schema},
    record_batch::RecordBatch,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    dataset::{Dataset, Task},
    labels::{self, LabelMap, Uncertain},
    leakage,
    split::{self, SplitRule},
};
use crate::error::{Error, Result};

/// How datasets become one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeSpec {
    /// New names for labels or classes, per source: two that get one name are joined, null drops. `"*"` holds
    /// for every source that has the label.
    #[serde(default)]
    pub map: BTreeMap<String, LabelMap>,
    /// The labels or classes of the result.
    #[serde(default)]
    pub labels: LabelSet,
    /// What a label is where the report mentions the finding but does not commit itself.
    #[serde(default)]
    pub uncertain: Uncertain,
    /// Where the report says that nothing was found, make every label of the result absent that is unknown,
    /// those that the source does not have among them.
    #[serde(default)]
    pub healthy: bool,
    /// Views to keep, in the sources' own words, as in `[PA, AP]`; all where left out. Sources without views
    /// are kept whole.
    #[serde(default)]
    pub views: Option<Vec<String>>,
    /// Ages to keep.
    #[serde(default)]
    pub age: Option<AgeRange>,
    /// Keep the first row of each patient only. Rows without a patient stay.
    #[serde(default)]
    pub unique_patients: bool,
    /// What to do with images that are the same, byte for byte.
    #[serde(default)]
    pub duplicates: Duplicates,
    /// How rows come to their split.
    #[serde(default)]
    pub split: SplitRule,
}

/// The labels of the result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelSet {
    /// Those that every source has, sorted, as published.
    #[default]
    Intersection,
    /// Those that any source has, sorted; unknown in the rows of sources that do not have them.
    Union,
    /// These, in this order; each must be in some source.
    #[serde(untagged)]
    List(Vec<String>),
}

/// Ages in years, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgeRange {
    #[serde(default)]
    pub min: f32,
    #[serde(default = "oldest")]
    pub max: f32,
    /// Whether rows without an age stay.
    #[serde(default)]
    pub unknown: bool,
}

fn oldest() -> f32 {
    200.0
}

/// What to do with images that are the same, byte for byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    #[default]
    Keep,
    /// Keep the first.
    Drop,
    /// Stop.
    Error,
}

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
}

impl MergeReport {
    fn add(&mut self, source: &str, measure: &str, item: Option<&str>, count: u64) {
        self.rows.push(ReportRow { source: source.into(), measure: measure.into(), item: item.map(Into::into), count });
    }

    /// Adds rows that were kept out of the named sources before the merge: they were read, and dropped by `without`.
    pub fn keep_out(&mut self, sources: &[&str], counts: &[u64]) {
        let all = counts.iter().sum();
        for (source, count) in sources.iter().copied().zip(counts.iter().copied()).chain([("total", all)]) {
            let read = self.rows.iter().position(|r| r.source == source && r.measure == "rows_read");
            if let Some(at) = read.filter(|_| count > 0) {
                self.rows[at].count += count;
                let (source, item) = (source.to_string(), Some("without".to_string()));
                self.rows.insert(at + 1, ReportRow { source, measure: "dropped".into(), item, count });
            }
        }
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

/// Merges the named parts in their order.
///
/// # Errors
/// Parts that predict different things, a label that no part has, an empty intersection, no row left, a
/// duplicate under `duplicates: error`.
pub fn merge(parts: &[(String, Dataset)], spec: &MergeSpec) -> Result<(Dataset, MergeReport)> {
    if parts.is_empty() {
        return Err(Error::invalid("nothing to merge"));
    }
    if let Some(stranger) = spec.map.keys().find(|k| *k != "*" && !parts.iter().any(|(name, _)| name == *k)) {
        let names: Vec<&str> = parts.iter().map(|(n, _)| n.as_str()).collect();
        let e = Error::invalid(format!("map names {stranger}, which is not a source"));
        return Err(e.with_hint(format!("the sources are: {}", names.join(", "))));
    }
    let mut report = MergeReport::default();
    let mut copies = HashSet::new();
    let mut sources = Vec::with_capacity(parts.len());
    for (name, part) in parts {
        let mut source = Source { name, data: part.clone(), dropped: Vec::new() };
        source.map_labels(spec)?;
        source.filter(spec, &mut copies)?;
        sources.push(source);
    }
    let names = chosen(&sources, &spec.labels)?;
    let mut out = Vec::with_capacity(sources.len());
    for (mut source, (_, read)) in sources.into_iter().zip(parts) {
        source.pick(&names, spec)?;
        source.data = split::split(&source.data, &spec.split)?;
        source.tell(read.rows(), &mut report);
        out.push(source.data);
    }
    let merged = Dataset::concat(&out)?;
    if merged.rows() == 0 {
        return Err(Error::invalid("no row is left after the merge's filters"));
    }
    report.add("total", "rows_read", None, parts.iter().map(|(_, p)| p.rows() as u64).sum());
    describe("total", &merged, &mut report);
    Ok((merged, report))
}

/// One part on its way through the steps.
struct Source<'a> {
    name: &'a str,
    data: Dataset,
    dropped: Vec<(&'static str, u64)>,
}

impl Source<'_> {
    fn map_labels(&mut self, spec: &MergeSpec) -> Result<()> {
        self.data = labels::settle_uncertain(&self.data, spec.uncertain)?;
        let mut map: LabelMap = spec.map.get("*").cloned().unwrap_or_default();
        map.retain(|k, _| self.data.task().names().contains(k));
        map.extend(spec.map.get(self.name).cloned().unwrap_or_default());
        let (data, dropped) = labels::rename(&self.data, &map).map_err(|e| self.at(e))?;
        self.data = data;
        self.note("class", dropped);
        Ok(())
    }

    fn at(&self, e: Error) -> Error {
        let hint = e.hint().map(str::to_string);
        let named = Error::invalid(format!("{}: {e}", self.name));
        if let Some(hint) = hint { named.with_hint(hint) } else { named }
    }

    fn note(&mut self, rule: &'static str, count: u64) {
        match self.dropped.iter_mut().find(|(r, _)| *r == rule) {
            Some((_, n)) => *n += count,
            None => self.dropped.push((rule, count)),
        }
    }

    fn keep(&mut self, rule: &'static str, wanted: impl Fn(usize) -> bool) -> Result<()> {
        let rows: Vec<u32> = (0..self.data.rows()).filter(|&i| wanted(i)).map(|i| i as u32).collect();
        let dropped = self.data.rows() - rows.len();
        self.note(rule, dropped as u64);
        if dropped > 0 {
            self.data = self.data.take(&rows)?;
        }
        Ok(())
    }

    fn filter(&mut self, spec: &MergeSpec, copies: &mut HashSet<(Vec<u8>, Option<u32>)>) -> Result<()> {
        if let (Some(wanted), Some(views)) = (&spec.views, self.data.text("view").cloned()) {
            self.keep("views", |i| views.is_valid(i) && wanted.iter().any(|w| w == views.value(i)))?;
        }
        if let Some(range) = spec.age {
            let ages = self.data.ages().cloned();
            let age = |i: usize| ages.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i));
            self.keep("age", |i| age(i).map_or(range.unknown, |a| (range.min..=range.max).contains(&a)))?;
        }
        if let (true, Some(patients)) = (spec.unique_patients, self.data.text("patient").cloned()) {
            let again = leakage::repeats(patients.iter());
            self.keep("unique_patients", |i| !again[i])?;
        }
        if let (false, Some(digests)) = (spec.duplicates == Duplicates::Keep, self.data.binary("digest").cloned()) {
            let records = self.data.integers("record").cloned();
            let mut again = vec![false; self.data.rows()];
            for (i, copy) in again.iter_mut().enumerate().filter(|(i, _)| digests.is_valid(*i)) {
                *copy = !copies.insert((digests.value(i).to_vec(), leakage::record(records.as_ref(), i)));
            }
            if let (Duplicates::Error, Some(first)) = (spec.duplicates, again.iter().position(|c| *c)) {
                let image = self.data.images()?.value(first).to_string();
                let n = again.iter().filter(|c| **c).count();
                let e = Error::invalid(format!("{}: {n} images are copies of others; the first is {image}", self.name));
                return Err(e.with_hint("set duplicates: drop to keep one of each"));
            }
            self.keep("duplicates", |i| !again[i])?;
        }
        Ok(())
    }

    fn pick(&mut self, names: &[String], spec: &MergeSpec) -> Result<()> {
        let (data, dropped) = labels::select(&self.data, names)?;
        self.data = if spec.healthy { labels::spread_healthy(&data)? } else { data };
        self.note("class", dropped);
        Ok(())
    }

    fn tell(&self, read: usize, report: &mut MergeReport) {
        report.add(self.name, "rows_read", None, read as u64);
        for (rule, count) in &self.dropped {
            if *rule != "class" || *count > 0 {
                report.add(self.name, "dropped", Some(rule), *count);
            }
        }
        describe(self.name, &self.data, report);
    }
}

/// The names of the result's labels.
fn chosen(sources: &[Source], set: &LabelSet) -> Result<Vec<String>> {
    let single = |s: &&Source| matches!(s.data.task(), Task::Single(_));
    let ones = sources.iter().filter(single).count();
    if ones != 0 && ones != sources.len() {
        let kind = |one: bool| -> Vec<&str> { sources.iter().filter(|s| single(s) == one).map(|s| s.name).collect() };
        return Err(Error::invalid(format!(
            "{} have one class an image, {} have many labels: they cannot be merged",
            kind(true).join(", "),
            kind(false).join(", ")
        )));
    }
    let has = |s: &Source, n: &String| s.data.task().names().contains(n);
    let mut all: Vec<String> = sources.iter().flat_map(|s| s.data.task().names().iter().cloned()).collect();
    all.sort();
    all.dedup();
    let names = match set {
        LabelSet::Union => all,
        LabelSet::Intersection => all.into_iter().filter(|n| sources.iter().all(|s| has(s, n))).collect(),
        LabelSet::List(list) => {
            if let Some(stranger) = list.iter().find(|n| !all.contains(n)) {
                let e = Error::invalid(format!("no source has the label {stranger}"));
                return Err(e.with_hint(format!("the sources have: {}", all.join(", "))));
            }
            list.clone()
        }
    };
    if names.is_empty() {
        let each: Vec<String> =
            sources.iter().map(|s| format!("{} has {}", s.name, s.data.task().names().join(", "))).collect();
        return Err(Error::invalid("the sources share no label").with_hint(each.join("; ")));
    }
    Ok(names)
}

/// Counts of the rows as they are now.
fn describe(source: &str, d: &Dataset, report: &mut MergeReport) {
    report.add(source, "rows_kept", None, d.rows() as u64);
    for count in labels::counts(d) {
        report.add(source, "positives", Some(&count.name), count.positives);
        report.add(source, "negatives", Some(&count.name), count.negatives);
        report.add(source, "unknowns", Some(&count.name), count.unknowns);
    }
    if let Some(patients) = d.text("patient") {
        let distinct: HashSet<&str> = patients.iter().flatten().collect();
        report.add(source, "patients", None, distinct.len() as u64);
    }
    for column in ["view", "split"] {
        let Some(values) = d.text(column) else { continue };
        let mut of: BTreeMap<Option<&str>, u64> = BTreeMap::new();
        for value in values {
            *of.entry(value).or_default() += 1;
        }
        for (value, count) in of {
            report.add(source, column, Some(value.unwrap_or("unknown")), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{dataset::Columns, labels::tests::multi};
    use arrow::array::{BinaryArray, BooleanArray};

    fn source(labels: &[(&str, &[Option<i8>])], views: &[&str], patients: &[&str]) -> Dataset {
        let text = |v: &[&str]| Arc::new(StringArray::from(v.to_vec()));
        multi(labels).with_column("view", text(views)).unwrap().with_column("patient", text(patients)).unwrap()
    }

    fn two() -> Vec<(String, Dataset)> {
        let a = source(
            &[("Edema", &[Some(1), Some(0), None]), ("Pleural Effusion", &[Some(1), None, Some(0)])],
            &["PA", "AP", "L"],
            &["a:1", "a:1", "a:2"],
        );
        let b = source(&[("Mass", &[Some(1)]), ("Effusion", &[Some(0)])], &["PA"], &["b:1"]);
        vec![("a".into(), a), ("b".into(), b)]
    }

    fn spec(json: serde_json::Value) -> MergeSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn intersection_after_renaming_with_every_drop_counted() {
        let json = serde_json::json!({"map": {"a": {"Pleural Effusion": "Effusion"}}, "views": ["PA", "AP"],
            "unique_patients": true});
        let (d, report) = merge(&two(), &spec(json)).unwrap();
        assert_eq!(d.task().names(), ["Effusion"]);
        assert_eq!(d.label("Effusion").unwrap().iter().collect::<Vec<_>>(), [Some(1), Some(0)]);
        let get = |s, m, i| report.get(s, m, i);
        assert_eq!((get("a", "rows_read", None), get("a", "rows_kept", None)), (Some(3), Some(1)));
        assert_eq!(get("a", "dropped", Some("views")), Some(1));
        assert_eq!(get("a", "dropped", Some("unique_patients")), Some(1));
        assert_eq!(get("total", "positives", Some("Effusion")), Some(1));
        assert_eq!(get("total", "patients", None), Some(2));
        assert_eq!(get("b", "view", Some("PA")), Some(1));
        assert_eq!(report.batch().unwrap().num_rows(), report.rows.len());
    }

    #[test]
    fn a_union_leaves_unknown_what_a_source_cannot_know_unless_the_row_is_healthy() {
        let mut parts = two();
        let healthy: BooleanArray = [Some(false), Some(true), None].into_iter().collect();
        parts[0].1 = parts[0].1.with_column("healthy", Arc::new(healthy)).unwrap();
        let (d, _) = merge(&parts, &spec(serde_json::json!({"labels": "union"}))).unwrap();
        assert_eq!(d.task().names(), ["Edema", "Effusion", "Mass", "Pleural Effusion"]);
        assert_eq!(d.label("Mass").unwrap().iter().collect::<Vec<_>>(), [None, None, None, Some(1)]);
        let (d, _) = merge(&parts, &spec(serde_json::json!({"labels": "union", "healthy": true}))).unwrap();
        assert_eq!(d.label("Mass").unwrap().iter().collect::<Vec<_>>(), [None, Some(0), None, Some(1)]);
        assert_eq!(d.label("Edema").unwrap().iter().collect::<Vec<_>>(), [Some(1), Some(0), None, None]);
    }

    #[test]
    fn copies_are_dropped_across_sources() {
        let mut parts = two();
        let digests = |v: &[&[u8]]| Arc::new(BinaryArray::from(v.to_vec()));
        parts[0].1 = parts[0].1.with_column("digest", digests(&[b"1", b"2", b"1"])).unwrap();
        parts[1].1 = parts[1].1.with_column("digest", digests(&[b"2"])).unwrap();
        let json = serde_json::json!({"labels": "union", "duplicates": "drop"});
        let (d, report) = merge(&parts, &spec(json)).unwrap();
        assert_eq!(d.rows(), 2);
        assert_eq!(report.get("b", "dropped", Some("duplicates")), Some(1));
        let e = merge(&parts, &spec(serde_json::json!({"labels": "union", "duplicates": "error"}))).unwrap_err();
        assert_eq!(e.to_string(), "a: 1 images are copies of others; the first is 2.png");
    }

    #[test]
    fn what_cannot_be_merged_says_why() {
        let e = merge(&two(), &MergeSpec::default()).unwrap_err();
        assert_eq!(e.to_string(), "the sources share no label");
        assert!(e.hint().unwrap().contains("b has Mass, Effusion"));
        let e = merge(&two(), &spec(serde_json::json!({"labels": ["Gout"]}))).unwrap_err();
        assert_eq!(e.to_string(), "no source has the label Gout");
        let e = merge(&two(), &spec(serde_json::json!({"map": {"c": {}}}))).unwrap_err();
        assert_eq!(e.to_string(), "map names c, which is not a source");
        let mut parts = two();
        parts[1].1 = Columns {
            image: vec!["x.png".into()],
            dataset: "one".into(),
            class: Some((vec!["x".into()], vec![Some(0)])),
            ..Default::default()
        }
        .build()
        .unwrap();
        let e = merge(&parts, &MergeSpec::default()).unwrap_err();
        assert_eq!(e.to_string(), "b have one class an image, a have many labels: they cannot be merged");
        let gone = spec(serde_json::json!({"labels": "union", "views": ["COSTAL"]}));
        assert_eq!(merge(&two(), &gone).unwrap_err().to_string(), "no row is left after the merge's filters");
    }

    #[test]
    fn ages_and_splits_are_per_source() {
        let mut parts = two();
        let ages = arrow::array::Float32Array::from(vec![Some(5.0), Some(50.0), None]);
        parts[0].1 = parts[0].1.with_column("age", Arc::new(ages)).unwrap();
        let json = serde_json::json!({"labels": "union", "age": {"min": 18, "unknown": true},
            "split": {"patient": {"train": 0.5}}});
        let (d, report) = merge(&parts, &spec(json)).unwrap();
        assert_eq!(d.rows(), 3);
        assert_eq!(report.get("a", "dropped", Some("age")), Some(1));
        assert_eq!(report.get("a", "split", Some("train")), Some(1));
    }
}
