//! Many datasets into one, with a table of what came from where.
//!
//! Each source goes through the same steps in this order, and each step counts what it drops:
//!
//! 1. labels: `uncertain` is settled, the label `map` renames, joins and drops
//! 2. rows: what is kept out, `blacklist`, `views`, `age`, `patients`, `unique_patients`, `duplicates` (over all
//!    sources, the first stays)
//! 3. labels again: `labels` picks the ones of the result, `healthy` fills unknown ones
//! 4. `split` draws the splits, per source, so that adding a source moves no row of those before it; a patient whom an
//!    earlier source has keeps the split drawn there
//!
//! Sources pass through in pieces. Rules that ask for all rows first (`unique_patients`, `duplicates`, `split: patient`)
//! have them read twice, and what they remember is sorted on disk ([`verdict`]): a bit a row stays in memory. Only
//! `split: ratio`, whose published order is a shuffle, holds a whole source. Names in lists that no row has are noted.
//! It reads no image and judges no leakage: that is [`super::leakage`], on the result.

mod named;
mod tally;
mod verdict;

pub use tally::{MergeNote, MergeReport, ReportRow};

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use arrow::array::Array;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    named::{Named, Of},
    tally::{Patients, Tally},
    verdict::Verdict,
};
use super::{
    dataset::{Dataset, Task},
    labels::{self, LabelMap, Uncertain},
    leakage::KeepOut,
    split::{self, SplitRule},
    stream::Table,
};
use crate::error::{Error, Result, nearest};

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
    /// Images to leave out, by path or file name: known to be missing, damaged or mislabelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blacklist: Vec<String>,
    /// Patients to keep or to leave out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patients: Option<PatientFilter>,
    /// Keep the first row of each patient only, over all sources. Rows without a patient stay.
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

/// Patients by their names in the merged table (`nih:00000061`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatientFilter {
    /// Keep only these; all where left out. Rows without a patient are none of them.
    #[serde(default)]
    pub only: Option<BTreeSet<String>>,
    /// Leave these out.
    #[serde(default)]
    pub except: BTreeSet<String>,
}

impl PatientFilter {
    fn takes(&self, patient: Option<String>) -> bool {
        let listed = |list: &BTreeSet<String>| patient.as_ref().is_some_and(|p| list.contains(p));
        self.only.as_ref().is_none_or(listed) && !listed(&self.except)
    }
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

/// Merges the named parts in their order, and hands the result to `sink` piece by piece. Rows that share a patient
/// or an image with `keep_out` are left out. What has to be sorted lies in the folder `scratch`, in files without a
/// name; without a folder it stays in memory.
///
/// # Errors
/// Parts that predict different things, a label that no part has, an empty intersection, no row left, a
/// duplicate under `duplicates: error`.
pub fn merge_into(
    parts: &[(String, &dyn Table)],
    spec: &MergeSpec,
    keep_out: &[KeepOut],
    scratch: Option<&Path>,
    sink: &mut dyn FnMut(&Dataset) -> Result<()>,
) -> Result<MergeReport> {
    if parts.is_empty() {
        return Err(Error::invalid("nothing to merge"));
    }
    if let Some(stranger) = spec.map.keys().find(|k| *k != "*" && !parts.iter().any(|(name, _)| name == *k)) {
        let names: Vec<&str> = parts.iter().map(|(n, _)| n.as_str()).collect();
        let e = Error::invalid(format!("map names {stranger}, which is not a source"));
        return Err(e.with_hint(format!("the sources are: {}", names.join(", "))));
    }
    known_to_some(parts, spec)?;
    let mut sources =
        parts.iter().map(|(name, table)| Source::new(name, *table, spec, keep_out)).collect::<Result<Vec<_>>>()?;
    let names = chosen(&sources, &spec.labels)?;
    // The columns of the result: a head of every source, as its pieces will be.
    let heads = sources
        .iter()
        .map(|s| split::head(&s.picked(&s.labelled, &names)?.0, &spec.split))
        .collect::<Result<Vec<_>>>()?;
    let head = Dataset::concat(&heads)?.slice(0, 0)?;
    let mut lists = lists(spec);
    let verdicts = match verdict::asked_for(spec) {
        true => verdict::decide(&mut sources, &names, spec, &mut lists, scratch)?,
        false => Vec::new(),
    };
    let (mut tallies, mut patients) = (Vec::with_capacity(sources.len()), Patients::new(scratch));
    for (at, source) in sources.iter_mut().enumerate() {
        let mut tally = Tally::default();
        source.run(&names, &mut lists, verdicts.get(at), &mut |piece| {
            // A head with its columns gives every piece the columns of all sources.
            let piece = Dataset::concat(&[head.clone(), piece])?;
            tally.add(&piece);
            patients.add(at, &piece)?;
            if piece.rows() == 0 { Ok(()) } else { sink(&piece) }
        })?;
        tallies.push(tally);
    }
    let (mut report, mut total) = (MergeReport::default(), Tally::default());
    patients.tell(&mut tallies, &mut total)?;
    for (source, tally) in sources.iter().zip(tallies) {
        source.tell(&mut report);
        tally.tell(source.name, &mut report);
        total.join(tally);
    }
    if total.rows == 0 {
        return Err(Error::invalid("no row is left after the merge's filters"));
    }
    for (count, detail) in lists.iter().filter_map(Named::unmet) {
        report.notes.push(MergeNote { what: "unknown_names", count, detail });
    }
    if let SplitRule::Lists(lists) = &spec.split {
        let unlisted = total.without_split();
        if unlisted == total.rows && lists.values().any(|names| !names.is_empty()) {
            return Err(Error::invalid(format!("split: none of the {unlisted} rows is in a list"))
                .with_hint("lists name images by path or file name, or patients as in the merged table (nih:61)"));
        }
        if unlisted > 0 {
            let detail = format!("of {} rows are in no list of split and are in no split now", total.rows);
            report.notes.push(MergeNote { what: "rows_without_split", count: unlisted, detail });
        }
    }
    report.add("total", "rows_read", None, parts.iter().map(|(_, p)| p.rows() as u64).sum());
    total.tell("total", &mut report);
    Ok(report)
}

/// [`merge_into`] for sets that are in memory.
pub fn merge(parts: &[(String, Dataset)], spec: &MergeSpec) -> Result<(Dataset, MergeReport)> {
    let tables: Vec<(String, &dyn Table)> = parts.iter().map(|(n, d)| (n.clone(), d as &dyn Table)).collect();
    let mut pieces = Vec::new();
    let report = merge_into(&tables, spec, &[], None, &mut |piece| {
        pieces.push(piece.clone());
        Ok(())
    })?;
    Ok((Dataset::concat(&pieces)?, report))
}

/// The lists of names that the specification has; the blacklist first.
fn lists(spec: &MergeSpec) -> Vec<Named<'_>> {
    let mut lists = vec![Named::new("blacklist", Of::Images, &spec.blacklist)];
    if let Some(filter) = &spec.patients {
        lists.push(Named::new("patients.only", Of::Patients, filter.only.iter().flatten()));
        lists.push(Named::new("patients.except", Of::Patients, &filter.except));
    }
    if let SplitRule::Lists(of) = &spec.split {
        lists.push(Named::new("split.lists", Of::Both, of.values().flatten()));
    }
    lists
}

/// One part on its way through the steps.
struct Source<'a> {
    name: &'a str,
    table: &'a dyn Table,
    spec: &'a MergeSpec,
    keep_out: &'a [KeepOut],
    /// The head after the label map.
    labelled: Dataset,
    dropped: Vec<(&'static str, u64)>,
}

impl<'a> Source<'a> {
    fn new(name: &'a str, table: &'a dyn Table, spec: &'a MergeSpec, keep_out: &'a [KeepOut]) -> Result<Self> {
        let mut source = Source { name, table, spec, keep_out, labelled: table.head()?, dropped: Vec::new() };
        // Run on no rows, the steps list their rules in order.
        let head = source.map_labels(source.labelled.clone())?;
        source.labelled = source.filter(head, &mut lists(spec))?;
        if spec.unique_patients && source.labelled.text("patient").is_some() {
            source.note("unique_patients", 0);
        }
        if spec.duplicates != Duplicates::Keep && source.labelled.binary("digest").is_some() {
            source.note("duplicates", 0);
        }
        Ok(source)
    }

    /// All pieces through all steps, in order; those that a verdict was given on, as it says.
    fn run(
        &mut self,
        names: &[String],
        lists: &mut [Named],
        verdict: Option<&Verdict>,
        sink: &mut dyn FnMut(Dataset) -> Result<()>,
    ) -> Result<()> {
        let (table, rule) = (self.table, &self.spec.split);
        let mut whole = vec![split::head(&self.picked(&self.labelled, names)?.0, &SplitRule::AsRead)?];
        let mut start = 0;
        for piece in table.pieces()? {
            let piece = piece?;
            let (first, count) = (start, piece.rows());
            start += count;
            let piece = match verdict {
                Some(verdict) => {
                    let rows = verdict.rows(first, count);
                    self.map_labels(if rows.len() < count { piece.take(&rows)? } else { piece })?
                }
                None => {
                    let piece = self.map_labels(piece)?;
                    self.filter(piece, lists)?
                }
            };
            let (piece, other_class) = self.picked(&piece, names)?;
            self.note("class", other_class);
            match (rule, verdict.and_then(|v| v.cut.as_ref())) {
                (SplitRule::Ratio(_), _) => whole.push(piece),
                (_, Some(cut)) => sink(cut.apply(&piece)?)?,
                (_, None) => sink(split::split(&piece, rule)?)?,
            }
        }
        if let SplitRule::Ratio(_) = rule {
            sink(split::split(&Dataset::concat(&whole)?, rule)?)?;
        }
        Ok(())
    }

    fn map_labels(&mut self, piece: Dataset) -> Result<Dataset> {
        let settled = labels::settle_uncertain(&piece, self.spec.uncertain)?;
        let mut map: LabelMap = self.spec.map.get("*").cloned().unwrap_or_default();
        map.retain(|k, _| settled.task().names().contains(k));
        map.extend(self.spec.map.get(self.name).cloned().unwrap_or_default());
        let (mapped, dropped) = labels::rename(&settled, &map).map_err(|e| self.at(e))?;
        self.note("class", dropped);
        Ok(mapped)
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

    fn keep(&mut self, piece: Dataset, rule: &'static str, wanted: impl FnMut(usize) -> bool) -> Result<Dataset> {
        let mut wanted = wanted;
        let rows: Vec<u32> = (0..piece.rows()).filter(|&i| wanted(i)).map(|i| i as u32).collect();
        let dropped = piece.rows() - rows.len();
        self.note(rule, dropped as u64);
        if dropped > 0 { piece.take(&rows) } else { Ok(piece) }
    }

    fn filter(&mut self, mut piece: Dataset, lists: &mut [Named]) -> Result<Dataset> {
        let spec = self.spec;
        lists.iter_mut().try_for_each(|list| list.meet(&piece))?;
        for other in self.keep_out {
            let before = piece.rows();
            piece = other.rest(&piece)?;
            self.note("without", (before - piece.rows()) as u64);
        }
        if let Some(blacklist) = lists.first().filter(|_| !spec.blacklist.is_empty()) {
            let (d, images) = (piece.clone(), piece.images()?.clone());
            piece = self.keep(d, "blacklist", |i| !blacklist.holds(images.value(i)))?;
        }
        if let (Some(wanted), Some(views)) = (&spec.views, piece.text("view").cloned()) {
            piece = self.keep(piece, "views", |i| views.is_valid(i) && wanted.iter().any(|w| w == views.value(i)))?;
        }
        if let Some(range) = spec.age {
            let ages = piece.ages().cloned();
            let age = |i: usize| ages.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i));
            piece =
                self.keep(piece, "age", |i| age(i).map_or(range.unknown, |a| (range.min..=range.max).contains(&a)))?;
        }
        if let Some(filter) = &spec.patients {
            let patients = piece.text("patient").cloned();
            let patient = |i: usize| patients.as_ref().filter(|p| p.is_valid(i)).map(|p| p.value(i).to_string());
            piece = self.keep(piece, "patients", |i| filter.takes(patient(i)))?;
        }
        Ok(piece)
    }

    /// What the result takes of a piece, and how many rows are of no class of it.
    fn picked(&self, piece: &Dataset, names: &[String]) -> Result<(Dataset, u64)> {
        let (data, dropped) = labels::select(piece, names)?;
        Ok((if self.spec.healthy { labels::spread_healthy(&data)? } else { data }, dropped))
    }

    /// The name of a row's image.
    fn image(&self, row: u32) -> Result<String> {
        let mut left = row as usize;
        for piece in self.table.pieces()? {
            let piece = piece?;
            if left < piece.rows() {
                return Ok(piece.images()?.value(left).into());
            }
            left -= piece.rows();
        }
        Err(Error::invalid(format!("bug: {} ends before row {row}", self.name)))
    }

    fn tell(&self, report: &mut MergeReport) {
        report.add(self.name, "rows_read", None, self.table.rows() as u64);
        for (rule, count) in &self.dropped {
            if *rule != "class" || *count > 0 {
                report.add(self.name, "dropped", Some(rule), *count);
            }
        }
    }
}

/// A label that `"*"` maps must be some source's: a misspelt one would do nothing.
fn known_to_some(parts: &[(String, &dyn Table)], spec: &MergeSpec) -> Result<()> {
    let Some(all) = spec.map.get("*") else { return Ok(()) };
    let heads = parts.iter().map(|(_, table)| table.head()).collect::<Result<Vec<_>>>()?;
    let known: BTreeSet<&str> = heads.iter().flat_map(|d| d.task().names()).map(String::as_str).collect();
    let Some(stranger) = all.keys().find(|name| !known.contains(name.as_str())) else { return Ok(()) };
    let e = Error::invalid(format!("map: \"*\" names {stranger}, which no source has"));
    Err(e.with_hint(match nearest(stranger, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("the sources have: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }))
}

/// The names of the result's labels.
fn chosen(sources: &[Source], set: &LabelSet) -> Result<Vec<String>> {
    let single = |s: &&Source| matches!(s.labelled.task(), Task::Single(_));
    let ones = sources.iter().filter(single).count();
    if ones != 0 && ones != sources.len() {
        let kind = |one: bool| -> Vec<&str> { sources.iter().filter(|s| single(s) == one).map(|s| s.name).collect() };
        return Err(Error::invalid(format!(
            "{} have one class an image, {} have many labels: they cannot be merged",
            kind(true).join(", "),
            kind(false).join(", ")
        )));
    }
    let has = |s: &Source, n: &String| s.labelled.task().names().contains(n);
    let mut all: Vec<String> = sources.iter().flat_map(|s| s.labelled.task().names().iter().cloned()).collect();
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
            sources.iter().map(|s| format!("{} has {}", s.name, s.labelled.task().names().join(", "))).collect();
        return Err(Error::invalid("the sources share no label").with_hint(each.join("; ")));
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
