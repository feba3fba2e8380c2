//! Part of a dataset: one split, a fraction, k rows of each class, as many of each class as of the rarest.
//!
//! Draws are nested: with one seed, the 10 % set lies in the 50 % set, so that a scale axis compares growing
//! sets and not different ones.

use std::collections::HashMap;

use arrow::array::Array;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    dataset::{Dataset, Task},
    fewshot::{self, Draw},
    labels,
    split::{groups, patient_order},
};
use crate::{
    error::{Error, Result},
    random::numpy::RandomState,
};

/// What to keep. At most one of `fraction`, `shots` and `balanced`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubsetSpec {
    /// Keep rows of this split only.
    #[serde(default)]
    pub split: Option<String>,
    /// The split that is thinned out; rows of other splits stay. Without a split column, every row is.
    #[serde(default = "train")]
    pub of: String,
    /// Part of the patients or rows to keep, above 0, at most 1.
    #[serde(default)]
    pub fraction: Option<f64>,
    /// What a fraction is of.
    #[serde(default)]
    pub by: By,
    /// Rows of each class to keep.
    #[serde(default)]
    pub shots: Option<u32>,
    /// Which published rule draws the shots.
    #[serde(default)]
    pub draw: Draw,
    /// As many rows of each class as the rarest has.
    #[serde(default)]
    pub balanced: bool,
    /// First turn a multi-label set into a single-label one: rows with exactly one finding, which is the class.
    #[serde(default)]
    pub single_label: bool,
    #[serde(default)]
    pub seed: u32,
}

/// What a fraction is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Patients with all their rows. A patient's place depends on its id and the seed alone. Rows without a
    /// patient count as one each.
    #[default]
    Patient,
    /// Rows, as the published `train_ratio`: the first of NumPy's `RandomState(seed)` shuffle, in that order.
    Row,
}

fn train() -> String {
    "train".into()
}

impl Default for SubsetSpec {
    fn default() -> Self {
        SubsetSpec {
            split: None,
            of: train(),
            fraction: None,
            by: By::default(),
            shots: None,
            draw: Draw::default(),
            balanced: false,
            single_label: false,
            seed: 0,
        }
    }
}

impl SubsetSpec {
    /// Problems that the types cannot express: (field, message).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let draws = [self.fraction.is_some(), self.shots.is_some(), self.balanced];
        if draws.iter().filter(|d| **d).count() > 1 {
            found.push(("fraction".into(), "only one of fraction, shots and balanced can be given".into()));
        }
        if let Some(f) = self.fraction.filter(|f| !(*f > 0.0 && *f <= 1.0)) {
            found.push(("fraction".into(), format!("{f} is not above 0 and at most 1")));
        }
        if self.shots == Some(0) {
            found.push(("shots".into(), "0 shots leave nothing to learn from".into()));
        }
        for (field, value) in [("split", self.split.as_deref()), ("of", Some(self.of.as_str()))] {
            if let Some(name) = value.filter(|n| !["train", "valid", "test"].contains(n)) {
                found.push((field.into(), format!("{name} is not train, valid or test")));
            }
        }
        found
    }
}

/// The part of `d` that the spec asks for: drawn rows first, in the order drawn, then rows of other splits in
/// theirs.
pub fn subset(d: &Dataset, spec: &SubsetSpec) -> Result<Dataset> {
    if let Some((field, message)) = spec.problems().into_iter().next() {
        return Err(Error::invalid(format!("{field}: {message}")));
    }
    let mut d = if spec.single_label { labels::single_label(d)? } else { d.clone() };
    if let Some(name) = &spec.split {
        d = d.split(name)?;
        if d.rows() == 0 {
            return Err(Error::invalid(format!("the dataset has no rows of split {name}")));
        }
    }
    if spec.fraction.is_none() && spec.shots.is_none() && !spec.balanced {
        return Ok(d);
    }
    let (thinned, others): (Vec<u32>, Vec<u32>) = match d.text("split") {
        Some(s) => (0..d.rows() as u32).partition(|&i| s.is_valid(i as usize) && s.value(i as usize) == spec.of),
        None => ((0..d.rows() as u32).collect(), Vec::new()),
    };
    if thinned.is_empty() {
        return Err(Error::invalid(format!("the dataset has no rows of split {}", spec.of)));
    }
    let part = d.take(&thinned)?;
    let drawn = if let Some(shots) = spec.shots {
        let class = labels::class_indices(&part)?;
        fewshot::draw(spec.draw, &class, d.task().names().len(), shots as usize, spec.seed)
            .map_err(|e| named_class(e, d.task()))?
    } else if spec.balanced {
        balanced(&part, spec)?
    } else {
        let fraction = spec.fraction.unwrap_or(1.0);
        match spec.by {
            By::Row => {
                let mut order = RandomState::new(spec.seed).permutation(part.rows());
                order.truncate((part.rows() as f64 * fraction) as usize);
                order
            }
            By::Patient => patients(&part, fraction, spec.seed)?,
        }
    };
    if drawn.is_empty() {
        return Err(Error::invalid(format!("nothing is left of {} rows", part.rows())));
    }
    let keep: Vec<u32> = drawn.into_iter().map(|i| thinned[i as usize]).chain(others).collect();
    d.take(&keep)
}

/// The few-shot draw speaks of class numbers; names help more.
fn named_class(e: Error, task: &Task) -> Error {
    let text = e.to_string();
    let number = text.strip_prefix("class ").and_then(|t| t.split(' ').next()).and_then(|t| t.parse::<usize>().ok());
    match number.and_then(|n| task.names().get(n).map(|name| (n, name))) {
        Some((n, name)) => {
            let hint = e.hint().map(str::to_string);
            let named = Error::invalid(text.replacen(&format!("class {n} "), &format!("class {name} "), 1));
            if let Some(hint) = hint { named.with_hint(hint) } else { named }
        }
        None => e,
    }
}

/// Rows of the first `fraction` of the patients, in the dataset's order; at least one patient.
fn patients(d: &Dataset, fraction: f64, seed: u32) -> Result<Vec<u32>> {
    let of_row = groups(d)?;
    let order = patient_order(&of_row, u64::from(seed), "subset");
    let n = ((order.len() as f64 * fraction).round() as usize).max(1);
    let kept: HashMap<&str, ()> = order.into_iter().take(n).map(|p| (p, ())).collect();
    Ok((0..d.rows() as u32).filter(|&i| kept.contains_key(of_row[i as usize].as_str())).collect())
}

fn balanced(d: &Dataset, spec: &SubsetSpec) -> Result<Vec<u32>> {
    let class = labels::class_indices(d)?;
    let mut of: HashMap<i32, usize> = HashMap::new();
    for &c in &class {
        *of.entry(c).or_default() += 1;
    }
    let rarest = of.values().copied().min().unwrap_or(0);
    fewshot::draw(Draw::Labels, &class, d.task().names().len(), rarest, spec.seed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::data::dataset::Columns;

    fn toy() -> Dataset {
        let n = 400;
        Columns {
            image: (0..n).map(|i| format!("{i}.png")).collect(),
            dataset: "toy".into(),
            patient: Some((0..n).map(|i| Some(format!("toy:{}", i / 4))).collect()),
            split: Some((0..n).map(|i| Some(if i < 320 { "train" } else { "test" }.to_string())).collect()),
            class: Some((vec!["a".into(), "b".into()], (0..n).map(|i| Some(i32::from(i % 5 == 0))).collect())),
            ..Default::default()
        }
        .build()
        .unwrap()
    }

    fn images(d: &Dataset) -> BTreeSet<String> {
        d.images().unwrap().iter().flatten().map(str::to_string).collect()
    }

    #[test]
    fn fractions_are_nested_and_leave_the_test_set_alone() {
        for by in [By::Patient, By::Row] {
            let at = |fraction| {
                subset(&toy(), &SubsetSpec { fraction: Some(fraction), by, seed: 3, ..Default::default() }).unwrap()
            };
            let (small, large) = (at(0.1), at(0.5));
            assert_eq!((small.rows(), large.rows()), (32 + 80, 160 + 80), "{by:?}");
            assert!(images(&small).is_subset(&images(&large)), "{by:?}");
            assert_eq!(small.split("test").unwrap().rows(), 80);
        }
        let whole = SubsetSpec { fraction: Some(1.0), ..Default::default() };
        assert_eq!(subset(&toy(), &whole).unwrap().rows(), 400);
    }

    #[test]
    fn by_patient_keeps_or_drops_all_rows_of_one() {
        let spec = SubsetSpec { fraction: Some(0.3), seed: 9, ..Default::default() };
        let d = subset(&toy(), &spec).unwrap().split("train").unwrap();
        let mut rows: HashMap<String, usize> = HashMap::new();
        for p in d.text("patient").unwrap().iter().flatten() {
            *rows.entry(p.into()).or_default() += 1;
        }
        assert_eq!((rows.len(), rows.values().all(|&n| n == 4)), (24, true));
    }

    #[test]
    fn shots_and_balance_are_per_class() {
        let shots = SubsetSpec { shots: Some(7), split: Some("train".into()), ..Default::default() };
        let counts = labels::counts(&subset(&toy(), &shots).unwrap());
        assert_eq!((counts[0].positives, counts[1].positives), (7, 7));
        let even = SubsetSpec { balanced: true, split: Some("train".into()), ..Default::default() };
        let counts = labels::counts(&subset(&toy(), &even).unwrap());
        assert_eq!((counts[0].positives, counts[1].positives), (64, 64));
        let many = SubsetSpec { shots: Some(100), ..Default::default() };
        let e = subset(&toy(), &many).unwrap_err();
        assert_eq!(e.to_string(), "class b has 64 rows, 100 are asked for");
    }

    #[test]
    fn contradictions_are_refused() {
        let both = SubsetSpec { fraction: Some(0.5), shots: Some(1), ..Default::default() };
        assert!(subset(&toy(), &both).is_err());
        assert_eq!(SubsetSpec { fraction: Some(1.5), shots: Some(0), ..both.clone() }.problems().len(), 3);
        let e = subset(&toy(), &SubsetSpec { split: Some("valid".into()), ..Default::default() }).unwrap_err();
        assert_eq!(e.to_string(), "the dataset has no rows of split valid");
    }

    /// Rows with a patient of few, a class of three and a split, in any mixture.
    fn any_rows() -> impl Strategy<Value = Dataset> {
        prop::collection::vec((0..40u32, 0..3i32, prop::bool::weighted(0.8)), 30..200).prop_map(|rows| {
            let text = |f: &dyn Fn(usize) -> String| (0..rows.len()).map(|i| Some(f(i))).collect::<Vec<_>>();
            Columns {
                image: (0..rows.len()).map(|i| format!("{i}.png")).collect(),
                dataset: "any".into(),
                patient: Some(text(&|i| format!("any:{}", rows[i].0))),
                split: Some(text(&|i| if rows[i].2 { "train" } else { "test" }.into())),
                class: Some((["a", "b", "c"].map(String::from).to_vec(), rows.iter().map(|r| Some(r.1)).collect())),
                ..Default::default()
            }
            .build()
            .unwrap()
        })
    }

    proptest! {
        #[test]
        fn a_smaller_fraction_lies_in_a_larger_one(
            d in any_rows(), a in 0.05..1.0f64, b in 0.05..1.0f64, seed in 0..50u32, rows in any::<bool>(),
        ) {
            prop_assume!(d.split("train").unwrap().rows() > 20);
            let by = if rows { By::Row } else { By::Patient };
            let at = |fraction| subset(&d, &SubsetSpec { fraction: Some(fraction), by, seed, ..Default::default() });
            let (small, large) = (at(a.min(b)).unwrap(), at(a.max(b)).unwrap());
            prop_assert!(images(&small).is_subset(&images(&large)));
            prop_assert_eq!(images(&small.split("test").unwrap()), images(&d.split("test").unwrap()));
        }

        #[test]
        fn no_patient_is_torn_apart(d in any_rows(), fraction in 0.05..1.0f64, seed in 0..50u32) {
            prop_assume!(d.split("train").unwrap().rows() > 0);
            let spec = SubsetSpec { fraction: Some(fraction), seed, split: Some("train".into()), ..Default::default() };
            let (train, part) = (d.split("train").unwrap(), subset(&d, &spec).unwrap());
            let count = |d: &Dataset| {
                let mut of: HashMap<String, usize> = HashMap::new();
                d.text("patient").unwrap().iter().flatten().for_each(|p| *of.entry(p.into()).or_default() += 1);
                of
            };
            let all = count(&train);
            prop_assert!(count(&part).iter().all(|(patient, n)| all[patient] == *n));
        }

        #[test]
        fn balance_and_shots_give_every_class_its_rows(d in any_rows(), seed in 0..50u32) {
            let train = d.split("train").unwrap();
            let of = |d: &Dataset| labels::counts(d).iter().map(|c| c.positives).collect::<Vec<_>>();
            let rarest = of(&train).into_iter().min().unwrap();
            prop_assume!(rarest > 1);
            let split = Some("train".to_string());
            let even = SubsetSpec { balanced: true, seed, split: split.clone(), ..Default::default() };
            prop_assert_eq!(of(&subset(&d, &even).unwrap()), vec![rarest; 3]);
            for draw in [Draw::Loader, Draw::Labels] {
                let shots = Some(rarest as u32 - 1);
                let spec = SubsetSpec { shots, seed, draw, split: split.clone(), ..Default::default() };
                let part = subset(&d, &spec).unwrap();
                prop_assert_eq!(of(&part), vec![rarest - 1; 3]);
                prop_assert!(images(&part).is_subset(&images(&train)), "drawn twice or from elsewhere");
            }
        }
    }
}
