//! What the labels of a dataset say: counts, names, and the rules that settle what a report left open.
//!
//! Three values: present, absent, unknown. A rule here never makes an unknown label absent unless it was
//! asked for by name (`uncertain: zero`, `healthy: true`).

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray, Int8Array, Int32Array};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    dataset::{Dataset, Task},
    format::UNCERTAIN,
};
use crate::error::{Error, Result, nearest};

/// What a label is where the report mentions the finding but does not commit itself (-1 in CheXpert).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Uncertain {
    /// Left out of the loss and of the metrics, as published.
    #[default]
    Unknown,
    /// Absent.
    Zero,
    /// Present.
    One,
}

/// New names of labels or classes: two that get one name are joined, null drops.
pub type LabelMap = BTreeMap<String, Option<String>>;

/// A single-label set as findings, one a class: present in the rows of the class, absent in those of the others,
/// unknown where the class is. So it can be merged with multi-label sets.
pub fn as_findings(d: &Dataset) -> Result<Dataset> {
    let (Task::Single(names), Some(classes)) = (d.task(), d.classes()) else { return Ok(d.clone()) };
    let finding = |k: usize| classes.iter().map(|c| c.map(|c| i8::from(c as usize == k))).collect::<Int8Array>();
    d.with_labels(names.iter().enumerate().map(|(k, n)| (n.clone(), finding(k))).collect())
}

/// How often a label is what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCount {
    pub name: String,
    /// Rows where it is present; of a class, the rows of that class.
    pub positives: u64,
    /// Rows where it is absent; of a class, the rows of other classes.
    pub negatives: u64,
    pub unknowns: u64,
}

/// Counts of every label or class, in the dataset's order.
pub fn counts(d: &Dataset) -> Vec<LabelCount> {
    let rows = d.rows() as u64;
    match d.task() {
        Task::Single(names) => {
            let mut of = vec![0u64; names.len()];
            let mut known = 0;
            for class in d.classes().into_iter().flatten().flatten() {
                known += 1;
                if let Some(slot) = usize::try_from(class).ok().and_then(|c| of.get_mut(c)) {
                    *slot += 1;
                }
            }
            let count = |(name, positives): (&String, u64)| LabelCount {
                name: name.clone(),
                positives,
                negatives: known - positives,
                unknowns: rows - known,
            };
            names.iter().zip(of).map(count).collect()
        }
        Task::Multi(_) => columns(d)
            .into_iter()
            .map(|(name, column)| {
                let positives = match column.null_count() {
                    0 => column.values().iter().filter(|&&v| v == 1).count() as u64,
                    _ => column.iter().filter(|v| *v == Some(1)).count() as u64,
                };
                let unknowns = column.null_count() as u64;
                LabelCount { name, positives, negatives: rows - positives - unknowns, unknowns }
            })
            .collect(),
    }
}

/// The label columns of a multi-label set.
pub fn columns(d: &Dataset) -> Vec<(String, Int8Array)> {
    match d.task() {
        Task::Multi(names) => names.iter().filter_map(|n| Some((n.clone(), d.label(n)?.clone()))).collect(),
        Task::Single(_) => Vec::new(),
    }
}

/// Settles labels that a reader marked as uncertain, and forgets the marks.
pub fn settle_uncertain(d: &Dataset, rule: Uncertain) -> Result<Dataset> {
    let value = match rule {
        Uncertain::Unknown => None,
        Uncertain::Zero => Some(0),
        Uncertain::One => Some(1),
    };
    let mut labels = columns(d);
    for (name, column) in &mut labels {
        let marks = d.batch().column_by_name(&format!("{UNCERTAIN}{name}")).and_then(|c| c.as_boolean_opt());
        if let (Some(marks), Some(value)) = (marks, value) {
            let settled =
                column.iter().zip(marks).map(|(l, m)| if l.is_none() && m == Some(true) { Some(value) } else { l });
            *column = settled.collect();
        }
    }
    let bare = d.without(|n| n.starts_with(UNCERTAIN))?;
    if labels.is_empty() { Ok(bare) } else { bare.with_labels(labels) }
}

/// Makes unknown labels of rows absent where the reader noted that nothing was found (`healthy`).
pub fn spread_healthy(d: &Dataset) -> Result<Dataset> {
    let Some(healthy) = d.batch().column_by_name("healthy").and_then(|c| c.as_boolean_opt()) else {
        return Ok(d.clone());
    };
    let spread = |column: &Int8Array, healthy: &BooleanArray| -> Int8Array {
        column.iter().zip(healthy).map(|(l, h)| if l.is_none() && h == Some(true) { Some(0) } else { l }).collect()
    };
    let labels: Vec<_> = columns(d).into_iter().map(|(n, c)| (n, spread(&c, healthy))).collect();
    if labels.is_empty() { Ok(d.clone()) } else { d.with_labels(labels) }
}

/// Renames, joins and drops. A joined label is present where any part is, absent where all are, and unknown
/// else. Rows whose class is dropped are dropped; their number comes back too.
pub fn rename(d: &Dataset, map: &LabelMap) -> Result<(Dataset, u64)> {
    let names = d.task().names();
    if let Some(stranger) = map.keys().find(|k| !names.contains(k)) {
        let e = Error::invalid(format!("the label map names {stranger}, which the dataset does not have"));
        return Err(e.with_hint(match nearest(stranger, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("its labels are: {}", names.join(", ")),
        }));
    }
    if map.is_empty() {
        return Ok((d.clone(), 0));
    }
    // Names after the map, in the order in which they are met, and where each old name goes.
    let mut new: Vec<String> = Vec::new();
    let goes: Vec<Option<usize>> = names
        .iter()
        .map(|old| {
            let name = map.get(old).cloned().unwrap_or_else(|| Some(old.clone()))?;
            Some(new.iter().position(|n| *n == name).unwrap_or_else(|| {
                new.push(name);
                new.len() - 1
            }))
        })
        .collect();
    match d.task() {
        Task::Multi(_) => {
            let mut joined: Vec<Option<Int8Array>> = vec![None; new.len()];
            for ((_, column), to) in columns(d).into_iter().zip(&goes) {
                if let Some(to) = *to {
                    joined[to] = Some(match joined[to].take() {
                        Some(before) => before.iter().zip(&column).map(|(a, b)| either(a, b)).collect(),
                        None => column,
                    });
                }
            }
            let labels = new.into_iter().zip(joined).filter_map(|(n, c)| Some((n, c?))).collect();
            Ok((d.with_labels(labels)?, 0))
        }
        Task::Single(_) => reclass(d, new, &goes),
    }
}

/// Present if either is, absent if both are, else unknown.
fn either(a: Option<i8>, b: Option<i8>) -> Option<i8> {
    match (a, b) {
        (Some(1), _) | (_, Some(1)) => Some(1),
        (Some(_), Some(_)) => Some(0),
        _ => None,
    }
}

/// Gives every class its new place; rows whose class has none are dropped and counted.
fn reclass(d: &Dataset, names: Vec<String>, goes: &[Option<usize>]) -> Result<(Dataset, u64)> {
    let old = d.classes().ok_or_else(|| Error::invalid("bug: a single-label set without classes"))?;
    let to = |c: i32| usize::try_from(c).ok().and_then(|c| goes.get(c).copied().flatten());
    let keep: Vec<u32> =
        (0..old.len()).filter(|&i| old.is_null(i) || to(old.value(i)).is_some()).map(|i| i as u32).collect();
    let class: Int32Array = keep
        .iter()
        .map(|&i| if old.is_null(i as usize) { None } else { to(old.value(i as usize)).map(|c| c as i32) })
        .collect();
    let dropped = (d.rows() - keep.len()) as u64;
    Ok((d.take(&keep)?.with_classes(names, class)?, dropped))
}

/// The dataset with exactly these labels in this order. Labels that it does not have are unknown in every
/// row; rows of classes that are not listed are dropped, and their number comes back too.
pub fn select(d: &Dataset, names: &[String]) -> Result<(Dataset, u64)> {
    match d.task() {
        Task::Multi(_) => {
            let unknown = || Int8Array::new_null(d.rows());
            let labels = names.iter().map(|n| (n.clone(), d.label(n).cloned().unwrap_or_else(unknown))).collect();
            Ok((d.with_labels(labels)?, 0))
        }
        Task::Single(old) => {
            let goes: Vec<Option<usize>> = old.iter().map(|o| names.iter().position(|n| n == o)).collect();
            reclass(d, names.to_vec(), &goes)
        }
    }
}

/// A multi-label set as a single-label one: the rows with exactly one present finding, which becomes their
/// class. This is how the published study drew few examples per class from PadChest; unknown counts as not
/// present here.
pub fn single_label(d: &Dataset) -> Result<Dataset> {
    let Task::Multi(names) = d.task() else { return Ok(d.clone()) };
    let columns = columns(d);
    let mut keep = Vec::new();
    let mut class = Vec::new();
    for i in 0..d.rows() {
        let mut present = columns.iter().enumerate().filter(|(_, (_, c))| c.is_valid(i) && c.value(i) == 1);
        if let (Some((at, _)), None) = (present.next(), present.next()) {
            keep.push(i as u32);
            class.push(Some(at as i32));
        }
    }
    let bare = d.without(|n| n.starts_with(UNCERTAIN) || n == "healthy")?;
    bare.take(&keep)?.with_classes(names.clone(), Int32Array::from(class))
}

/// The rows' classes; an error where the set has many labels, or a row has no class.
pub fn class_indices(d: &Dataset) -> Result<Vec<i32>> {
    let class = d.classes().ok_or_else(|| {
        Error::invalid("the dataset has many labels a row, not one class").with_hint("set single_label: true")
    })?;
    if class.null_count() > 0 {
        return Err(Error::invalid(format!("{} rows have no class", class.null_count())));
    }
    Ok(class.values().to_vec())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::dataset::Columns;
    use std::sync::Arc;

    pub(crate) fn multi(labels: &[(&str, &[Option<i8>])]) -> Dataset {
        let rows = labels[0].1.len();
        Columns {
            image: (0..rows).map(|i| format!("{i}.png")).collect(),
            dataset: "toy".into(),
            labels: labels.iter().map(|(n, c)| (n.to_string(), c.to_vec())).collect(),
            ..Default::default()
        }
        .build()
        .unwrap()
    }

    fn single(names: &[&str], class: &[Option<i32>]) -> Dataset {
        Columns {
            image: (0..class.len()).map(|i| format!("{i}.png")).collect(),
            dataset: "toy".into(),
            class: Some((names.iter().map(|n| n.to_string()).collect(), class.to_vec())),
            ..Default::default()
        }
        .build()
        .unwrap()
    }

    fn values(d: &Dataset, label: &str) -> Vec<Option<i8>> {
        d.label(label).unwrap().iter().collect()
    }

    #[test]
    fn uncertain_marks_are_settled_and_gone() {
        let d = multi(&[("Edema", &[None, None, Some(1)])]);
        let d = d.with_column("uncertain:Edema", Arc::new(BooleanArray::from(vec![true, false, false]))).unwrap();
        for (rule, first) in [(Uncertain::Unknown, None), (Uncertain::Zero, Some(0)), (Uncertain::One, Some(1))] {
            let s = settle_uncertain(&d, rule).unwrap();
            assert_eq!(values(&s, "Edema"), [first, None, Some(1)]);
            assert!(s.batch().column_by_name("uncertain:Edema").is_none());
        }
    }

    #[test]
    fn healthy_fills_unknowns_only() {
        let d = multi(&[("A", &[None, Some(1), None])]);
        let healthy: BooleanArray = [Some(true), Some(true), None].into_iter().collect();
        let d = d.with_column("healthy", Arc::new(healthy)).unwrap();
        assert_eq!(values(&spread_healthy(&d).unwrap(), "A"), [Some(0), Some(1), None]);
    }

    #[test]
    fn joined_labels_follow_three_valued_or() {
        let d = multi(&[
            ("A", &[Some(1), Some(0), Some(0), None]),
            ("B", &[None, Some(0), None, Some(0)]),
            ("C", &[Some(0), Some(0), Some(0), Some(0)]),
        ]);
        let map: LabelMap = [("A".into(), Some("X".into())), ("B".into(), Some("X".into())), ("C".into(), None)].into();
        let (joined, dropped) = rename(&d, &map).unwrap();
        assert_eq!((joined.task().names(), dropped), (&["X".to_string()][..], 0));
        assert_eq!(values(&joined, "X"), [Some(1), Some(0), None, None]);
        let e = rename(&d, &[("AA".to_string(), None)].into()).unwrap_err();
        assert!(e.to_string().contains("AA") && e.hint().is_some(), "{e}");
    }

    #[test]
    fn classes_are_renamed_joined_and_dropped_with_their_rows() {
        let d = single(&["cat", "dog", "fish"], &[Some(0), Some(1), Some(2), None]);
        let map: LabelMap = [("dog".into(), Some("cat".into())), ("fish".into(), None)].into();
        let (d, dropped) = rename(&d, &map).unwrap();
        assert_eq!((d.task().names(), dropped), (&["cat".to_string()][..], 1));
        assert_eq!(d.classes().unwrap().iter().collect::<Vec<_>>(), [Some(0), Some(0), None]);
    }

    #[test]
    fn one_present_finding_becomes_the_class() {
        let d = multi(&[("A", &[Some(1), Some(1), None, Some(0)]), ("B", &[Some(0), Some(1), Some(1), None])]);
        let s = single_label(&d).unwrap();
        assert_eq!(s.classes().unwrap().values(), &[0, 1]);
        assert_eq!(s.images().unwrap().value(1), "2.png");
        assert!(s.label("A").is_none());
    }

    #[test]
    fn counts_keep_unknown_apart() {
        let c = counts(&multi(&[("A", &[Some(1), Some(0), None])]));
        assert_eq!((c[0].positives, c[0].negatives, c[0].unknowns), (1, 1, 1));
        let c = counts(&single(&["x", "y"], &[Some(1), Some(1), None]));
        assert_eq!((c[0].positives, c[0].negatives, c[0].unknowns), (0, 2, 1));
        assert_eq!((c[1].positives, c[1].negatives, c[1].unknowns), (2, 0, 1));
    }
}
