//! Which rows are for training, validation and test: kept as read, drawn by ratio over rows or patients,
//! or given as lists.
//!
//! It assigns; whether patients are shared across the result is for [`super::leakage`] to say.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use arrow::array::{Array, StringArray};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{dataset::Dataset, hashed::QuickMap, runs::Runs};
use crate::{
    digest::Digest,
    error::{Error, Result},
    random::numpy::RandomState,
};

/// How rows come to their split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SplitRule {
    /// As the sets' own lists say.
    #[default]
    AsRead,
    /// Shuffle the rows of each source with NumPy's `RandomState(seed)` and cut: the published rule of PadChest
    /// (0.9) and tuberculosis (0.85). A patient can end on both sides.
    Ratio(Ratio),
    /// Draw patients, never tearing one apart; a patient's place depends on its id and the seed alone, so that
    /// it stays where it is when other patients come or go; of a patient whom many sources have, the first source
    /// decides. Rows without a patient count as one each.
    Patient(Ratio),
    /// Split names to the images (path or file name) or patients in them. Rows in no list have no split, whatever the
    /// sets' own lists say, and are counted.
    Lists(BTreeMap<String, Vec<String>>),
}

const SPLITS: [&str; 3] = ["train", "valid", "test"];

/// Parts of the whole; what is left over is `test`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// Part for training, between 0 and 1.
    pub train: f64,
    /// Part for validation, between 0 and 1.
    #[serde(default)]
    pub valid: f64,
    #[serde(default = "seed")]
    pub seed: u32,
}

fn seed() -> u32 {
    42
}

impl Ratio {
    /// Problems with the numbers, for checks before anything runs.
    pub fn problem(&self) -> Option<String> {
        let fine = |x: f64| (0.0..=1.0).contains(&x);
        (!fine(self.train) || !fine(self.valid) || self.train + self.valid > 1.0 + 1e-9)
            .then(|| format!("train {} and valid {} are not parts of a whole", self.train, self.valid))
    }

    /// How many of `n` are for training and for validation; cut down, as the published code does.
    fn cut(&self, n: usize) -> (usize, usize) {
        let train = (n as f64 * self.train) as usize;
        let valid = (n as f64 * self.valid) as usize;
        (train, train + valid)
    }

    fn name(&self, place: usize, (train, valid): (usize, usize)) -> &'static str {
        match place {
            p if p < train => "train",
            p if p < valid => "valid",
            _ => "test",
        }
    }
}

/// The dataset with its `split` column filled by the rule; rows stay in their order, except under `ratio`,
/// where they come in the shuffled order as published.
pub fn split(d: &Dataset, rule: &SplitRule) -> Result<Dataset> {
    match rule {
        SplitRule::AsRead => Ok(d.clone()),
        SplitRule::Ratio(r) => by_row(d, r),
        SplitRule::Patient(r) => by_patient(d, r),
        SplitRule::Lists(lists) => by_lists(d, lists),
    }
}

fn checked(r: &Ratio) -> Result<()> {
    match r.problem() {
        Some(p) => Err(Error::invalid(p)),
        None => Ok(()),
    }
}

fn by_row(d: &Dataset, r: &Ratio) -> Result<Dataset> {
    checked(r)?;
    let order = RandomState::new(r.seed).permutation(d.rows());
    let cut = r.cut(d.rows());
    let splits: StringArray = (0..d.rows()).map(|place| Some(r.name(place, cut))).collect();
    d.take(&order)?.with_column("split", Arc::new(splits))
}

fn by_patient(d: &Dataset, r: &Ratio) -> Result<Dataset> {
    let mut patients = Patients::new(None);
    patients.add(d, r, 0, 0..d.rows() as u32)?;
    let cuts = patients.cut(r, 1, |_, _| true)?;
    cuts.first().map_or_else(|| Ok(d.clone()), |cut| cut.apply(d))
}

/// The table without rows, with the columns that the rule gives it.
pub(super) fn head(d: &Dataset, rule: &SplitRule) -> Result<Dataset> {
    match rule {
        SplitRule::AsRead => d.slice(0, 0),
        _ => by_lists(&d.slice(0, 0)?, &BTreeMap::new()),
    }
}

/// The first 128 bits of what decides a patient's place: they decide it too.
type Rank = [u64; 2];

/// The patients of tables that come in pieces, in the order of what decides their place.
pub(super) struct Patients(Runs<4>);

/// Which patients of a source come into which split: those below or above two limits, but for a few.
pub(super) struct PatientCut {
    ratio: Ratio,
    /// The first rank that is not for training, and the first that is for testing; `None` past the end.
    limits: [Option<Rank>; 2],
    /// Patients whom an earlier source has put elsewhere than the limits say.
    moved: QuickMap<Rank, &'static str>,
}

impl Patients {
    pub fn new(scratch: Option<&Path>) -> Self {
        Patients(Runs::new(scratch))
    }

    /// Adds the patients of rows of a source, which are numbered.
    pub fn add(&mut self, d: &Dataset, r: &Ratio, source: usize, rows: impl Iterator<Item = u32>) -> Result<()> {
        let mut before = None;
        for (patient, row) in groups(d)?.into_iter().zip(rows) {
            let [a, b] = match &before {
                Some((known, rank)) if *known == patient => *rank,
                _ => place(r, &patient),
            };
            self.0.push([a, b, source as u64, row.into()])?;
            before = Some((patient, [a, b]));
        }
        Ok(())
    }

    /// The cut of each source, over the patients of whom some row is kept. Where several sources have a patient, the
    /// first decides.
    pub fn cut(&mut self, ratio: &Ratio, sources: usize, kept: impl Fn(usize, u32) -> bool) -> Result<Vec<PatientCut>> {
        checked(ratio)?;
        let mut counts = vec![0; sources];
        self.each(&kept, |_, of| of.iter().for_each(|&source| counts[source] += 1))?;
        let ends: Vec<(usize, usize)> = counts.iter().map(|&n| ratio.cut(n)).collect();
        let cut = |_| PatientCut { ratio: *ratio, limits: [None; 2], moved: QuickMap::default() };
        let mut cuts: Vec<PatientCut> = (0..sources).map(cut).collect();
        let mut met = vec![0; sources];
        self.each(&kept, |rank, of| {
            for &source in of {
                let (train, valid) = ends[source];
                for (limit, end) in cuts[source].limits.iter_mut().zip([train, valid]) {
                    if met[source] == end {
                        *limit = Some(rank);
                    }
                }
                met[source] += 1;
            }
        })?;
        if sources > 1 {
            self.each(&kept, |rank, of| {
                let split = cuts[of[0]].split_of(&rank);
                for &source in &of[1..] {
                    if cuts[source].split_of(&rank) != split {
                        cuts[source].moved.insert(rank, split);
                    }
                }
            })?;
        }
        Ok(cuts)
    }

    /// Every patient in order, with the sources that keep a row of it, in order.
    fn each(&mut self, kept: impl Fn(usize, u32) -> bool, mut visit: impl FnMut(Rank, &[usize])) -> Result<()> {
        let (mut last, mut of) = (None, Vec::new());
        for record in self.0.sorted()? {
            let [a, b, source, row] = record?;
            let (rank, source) = ([a, b], source as usize);
            if !kept(source, row as u32) {
                continue;
            }
            if last != Some(rank) {
                if let Some(last) = last.replace(rank) {
                    visit(last, &of);
                }
                of.clear();
            }
            if of.last() != Some(&source) {
                of.push(source);
            }
        }
        if let Some(last) = last {
            visit(last, &of);
        }
        Ok(())
    }
}

impl PatientCut {
    fn split_of(&self, rank: &Rank) -> &'static str {
        if let Some(split) = self.moved.get(rank) {
            return split;
        }
        let below = |limit: Option<Rank>| limit.is_none_or(|l| *rank < l);
        match self.limits {
            [train, _] if below(train) => "train",
            [_, valid] if below(valid) => "valid",
            _ => "test",
        }
    }

    /// Gives rows of the source their split.
    pub fn apply(&self, d: &Dataset) -> Result<Dataset> {
        let splits: StringArray =
            groups(d)?.iter().map(|patient| Some(self.split_of(&place(&self.ratio, patient)))).collect();
        d.with_column("split", Arc::new(splits))
    }
}

/// A patient's place, from its name and the seed alone.
fn place(r: &Ratio, patient: &str) -> Rank {
    let digest = rank("split", r.seed.into(), patient);
    let (words, _) = digest.0.as_chunks();
    std::array::from_fn(|i| u64::from_be_bytes(words[i]))
}

/// What decides a patient's place.
fn rank(purpose: &str, seed: u64, patient: &str) -> Digest {
    Digest::of(format!("{purpose}\0{seed}\0{patient}").as_bytes())
}

/// Every row's patient; a row without one is its own.
pub(super) fn groups(d: &Dataset) -> Result<Vec<String>> {
    let images = d.images()?;
    let record = d.integers("record");
    let sets = d.text("dataset");
    let patients = d.text("patient");
    let own = |i: usize| {
        let record = record.filter(|r| r.is_valid(i)).map_or(String::new(), |r| format!("#{}", r.value(i)));
        format!("{}/{}{record}", sets.map_or("", |s| s.value(i)), images.value(i))
    };
    let patient = |i: usize| patients.filter(|p| p.is_valid(i)).map(|p| p.value(i).to_string());
    Ok((0..d.rows()).map(|i| patient(i).unwrap_or_else(|| own(i))).collect())
}

/// The distinct patients in an order that depends on each one's id, the seed and the purpose alone.
pub(super) fn patient_order<'a>(patients: &'a [String], seed: u64, purpose: &str) -> Vec<&'a str> {
    let mut distinct: Vec<&str> = patients.iter().map(String::as_str).collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.sort_by_cached_key(|p| (rank(purpose, seed, p), *p));
    distinct
}

fn by_lists(d: &Dataset, lists: &BTreeMap<String, Vec<String>>) -> Result<Dataset> {
    let mut of: HashMap<&str, &str> = HashMap::new();
    for (name, ids) in lists {
        if !SPLITS.contains(&name.as_str()) {
            let e = Error::invalid(format!("{name} is not a split"));
            return Err(e.with_hint("splits are train, valid and test"));
        }
        for id in ids {
            if let Some(before) = of.insert(id, name).filter(|b| b != name) {
                return Err(Error::invalid(format!("{id} is in the lists of {before} and of {name}")));
            }
        }
    }
    let images = d.images()?;
    let patients = d.text("patient");
    let splits: StringArray = (0..d.rows())
        .map(|i| {
            let image = images.value(i);
            let file = image.rsplit('/').next().unwrap_or(image);
            let patient = patients.filter(|p| p.is_valid(i)).map_or("", |p| p.value(i));
            [image, file, patient].iter().find_map(|id| of.get(id)).copied()
        })
        .collect();
    d.with_column("split", Arc::new(splits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Columns;

    fn toy(rows: usize, per_patient: usize) -> Dataset {
        Columns {
            image: (0..rows).map(|i| format!("a/{i}.png")).collect(),
            dataset: "toy".into(),
            patient: Some((0..rows).map(|i| Some(format!("toy:{}", i / per_patient))).collect()),
            class: Some((vec!["x".into()], vec![Some(0); rows])),
            ..Default::default()
        }
        .build()
        .unwrap()
    }

    fn splits(d: &Dataset) -> Vec<Option<&str>> {
        d.text("split").unwrap().iter().collect()
    }

    #[test]
    fn by_ratio_is_the_published_shuffle() {
        let ratio = Ratio { train: 0.9, valid: 0.0, seed: 42 };
        let d = split(&toy(20, 1), &SplitRule::Ratio(ratio)).unwrap();
        let images: Vec<&str> = d.images().unwrap().iter().flatten().collect();
        assert_eq!(images[..3], ["a/0.png", "a/17.png", "a/15.png"]);
        assert_eq!(splits(&d).iter().filter(|s| **s == Some("train")).count(), 18);
        assert_eq!(splits(&d)[18], Some("test"));
        assert!(split(&d, &SplitRule::Ratio(Ratio { train: 0.9, valid: 0.2, seed: 0 })).is_err());
    }

    #[test]
    fn by_patient_tears_nobody_apart_and_keeps_places_when_patients_leave() {
        let rule = SplitRule::Patient(Ratio { train: 0.6, valid: 0.2, seed: 1 });
        let d = split(&toy(300, 3), &rule).unwrap();
        let s = splits(&d);
        assert!(s.chunks(3).all(|c| c[0] == c[1] && c[1] == c[2]));
        for (name, rows) in [("train", 180), ("valid", 60), ("test", 60)] {
            assert_eq!(s.iter().filter(|x| **x == Some(name)).count(), rows);
        }
        let again = split(&d.take(&(0..300).rev().collect::<Vec<_>>()).unwrap(), &rule).unwrap();
        assert_eq!(splits(&again).into_iter().rev().collect::<Vec<_>>(), s);
    }

    #[test]
    fn lists_name_images_files_or_patients() {
        let lists = BTreeMap::from([
            ("train".to_string(), vec!["a/0.png".to_string(), "toy:1".into()]),
            ("test".to_string(), vec!["2.png".to_string()]),
        ]);
        let d = split(&toy(4, 1), &SplitRule::Lists(lists.clone())).unwrap();
        assert_eq!(splits(&d), [Some("train"), Some("train"), Some("test"), None]);
        let mut twice = lists;
        twice.get_mut("test").unwrap().push("toy:1".into());
        assert!(split(&d, &SplitRule::Lists(twice)).unwrap_err().to_string().contains("toy:1"));
    }
}
