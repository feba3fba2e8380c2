use super::*;
use std::sync::Arc;

use arrow::array::{BinaryArray, BooleanArray, StringArray};

use crate::data::{dataset::Columns, labels::tests::multi};

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

/// Views of one set, read as two sources: 40 patients have both.
fn views_of_one_set() -> Vec<(String, Dataset)> {
    let source = |from: usize| {
        let patients: Vec<String> = (from..from + 60).map(|i| format!("nih:{i}")).collect();
        let patients: Vec<&str> = patients.iter().map(String::as_str).collect();
        source(&[("Mass", &[Some(1); 60])], &["PA"; 60], &patients)
    };
    vec![("pa".into(), source(0)), ("ap".into(), source(20))]
}

#[test]
fn a_patient_of_two_sources_is_kept_once() {
    let (d, report) = merge(&views_of_one_set(), &spec(serde_json::json!({"unique_patients": true}))).unwrap();
    assert_eq!(d.rows(), 80);
    let dropped = |source| report.get(source, "dropped", Some("unique_patients")).unwrap();
    assert_eq!((dropped("pa"), dropped("ap"), report.get("total", "patients", None)), (0, 40, Some(80)));
}

#[test]
fn a_patient_of_two_sources_stands_in_one_split_and_nobody_else_moves() {
    let json = serde_json::json!({"split": {"patient": {"train": 0.5, "valid": 0.25}}});
    let parts = views_of_one_set();
    let splits = |parts: &[(String, Dataset)]| {
        let (d, _) = merge(parts, &spec(json.clone())).unwrap();
        assert!(super::super::leakage::across_splits(&d).unwrap().is_empty());
        let column = |name: &str| d.text(name).unwrap().iter().flatten().map(String::from).collect::<Vec<_>>();
        column("patient").into_iter().zip(column("split")).collect::<Vec<_>>()
    };
    let (both, first, second) = (splits(&parts), splits(&parts[..1]), splits(&parts[1..]));
    assert_eq!(both[..60], first);
    let alone: BTreeMap<_, _> = first.into_iter().collect();
    let of = |patient: &str| patient[4..].parse::<usize>().unwrap();
    let mut moved = 0;
    for ((patient, split), (_, own)) in both[60..].iter().zip(&second) {
        match alone.get(patient) {
            Some(before) => {
                assert!(of(patient) < 60);
                assert_eq!(split, before, "{patient}");
                moved += usize::from(split != own);
            }
            None => assert_eq!(split, own, "{patient}"),
        }
    }
    assert!(moved > 0, "each source cut alone would have done");
}

#[test]
fn names_that_nothing_has_are_told() {
    let json = serde_json::json!({"labels": "union", "blacklist": ["nope.png", "0.png"],
        "patients": {"except": ["a:9"]}, "split": {"lists": {"test": ["1.png", "b:7"]}}});
    let (d, report) = merge(&two(), &spec(json)).unwrap();
    let told: Vec<(&str, u64, &str)> = report.notes.iter().map(|n| (n.what, n.count, n.detail.as_str())).collect();
    assert_eq!(
        told,
        [
            ("unknown_names", 1, "blacklist: 1 of its 2 names are of no row: nope.png"),
            ("unknown_names", 1, "patients.except: 1 of its 1 names are of no row: a:9"),
            ("unknown_names", 1, "split.lists: 1 of its 2 names are of no row: b:7"),
            ("rows_without_split", 1, "of 2 rows are in no list of split and are in no split now"),
        ]
    );
    assert_eq!(d.rows(), 2);
    let nothing = serde_json::json!({"labels": "union", "split": {"lists": {"test": ["nosuch.png"]}}});
    let e = merge(&two(), &spec(nothing)).unwrap_err();
    assert_eq!(e.to_string(), "split: none of the 4 rows is in a list");
    let e = merge(&two(), &spec(serde_json::json!({"map": {"*": {"Edemaa": "X"}}}))).unwrap_err();
    assert_eq!(
        (e.to_string().as_str(), e.hint()),
        ("map: \"*\" names Edemaa, which no source has", Some("did you mean Edema?"))
    );
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

#[test]
fn blacklists_and_patients_are_counted() {
    let json = serde_json::json!({"labels": "union", "blacklist": ["0.png"], "patients": {"except": ["a:2"]}});
    let (d, report) = merge(&two(), &spec(json)).unwrap();
    assert_eq!(d.images().unwrap().iter().flatten().collect::<Vec<_>>(), ["1.png"]);
    let dropped = |source, rule| report.get(source, "dropped", Some(rule)).unwrap();
    assert_eq!([dropped("a", "blacklist"), dropped("b", "blacklist"), dropped("a", "patients")], [1, 1, 1]);
    let json = serde_json::json!({"labels": "union", "patients": {"only": ["b:1"]}});
    assert_eq!(merge(&two(), &spec(json)).unwrap().0.rows(), 1);
}

/// A long set with repeated patients and copies, as one table and as many tables of one row.
struct Dust(Dataset);

impl Table for Dust {
    fn rows(&self) -> usize {
        self.0.rows()
    }
    fn head(&self) -> Result<Dataset> {
        self.0.slice(0, 0)
    }
    fn pieces(&self) -> Result<super::super::stream::Pieces<'_>> {
        Ok(Box::new((0..self.0.rows()).map(|i| self.0.slice(i, 1))))
    }
}

#[test]
fn pieces_of_any_size_give_one_result() {
    let n = 200;
    let labels: Vec<Option<i8>> = (0..n).map(|i| [Some(1), Some(0), None][i % 3]).collect();
    let text = |f: &dyn Fn(usize) -> String| Arc::new((0..n).map(|i| Some(f(i))).collect::<StringArray>());
    let digests: BinaryArray = (0..n).map(|i| Some(vec![(i * i % 150) as u8; 32])).collect();
    let d = multi(&[("Mass", &labels)]).with_column("patient", text(&|i| format!("p:{}", i * 7 % 90))).unwrap();
    let d = d.with_column("view", text(&|i| ["PA", "AP", "L"][i % 3 * (i % 2)].into())).unwrap();
    let d = d.with_column("digest", Arc::new(digests)).unwrap();
    for split in [
        serde_json::json!("as_read"),
        serde_json::json!({"patient": {"train": 0.5, "valid": 0.2}}),
        serde_json::json!({"ratio": {"train": 0.5}}),
        serde_json::json!({"lists": {"test": ["p:7", "3.png"]}}),
    ] {
        for unique in [false, true] {
            let json = serde_json::json!({"views": ["PA", "AP"], "duplicates": "drop", "unique_patients": unique,
                "split": split});
            let spec = spec(json);
            let (whole, report) = merge(&[("a".into(), d.clone())], &spec).unwrap();
            let mut pieces = Vec::new();
            let (dust, dir) = (Dust(d.clone()), tempfile::tempdir().unwrap());
            let told = merge_into(&[("a".into(), &dust as &dyn Table)], &spec, &[], Some(dir.path()), &mut |p| {
                pieces.push(p.clone());
                Ok(())
            });
            assert_eq!(told.unwrap(), report, "{split}");
            assert_eq!(Dataset::concat(&pieces).unwrap().batch(), whole.batch(), "{split}");
            assert!(report.get("a", "dropped", Some("duplicates")).unwrap() > 0);
            if split.get("patient").is_some() {
                assert!(super::super::leakage::across_splits(&whole).unwrap().is_empty());
            }
        }
    }
}

/// Sources of many rows with patients and images that they share, within and across.
fn crowded(sources: usize, rows: usize, seed: u64) -> Vec<(String, Dataset)> {
    let mut s = crate::random::stream::Stream::new(seed, "crowded", 0, 0);
    let source = |at: usize| {
        let views: Vec<&str> = (0..rows).map(|_| ["PA", "AP", "L"][s.below(3) as usize]).collect();
        let patients: StringArray =
            (0..rows).map(|_| (s.below(20) > 0).then(|| format!("p:{}", s.below(rows as u64)))).collect();
        let digests: BinaryArray = (0..rows)
            .map(|_| (s.below(20) > 0).then(|| crate::digest::Digest::of(&s.below(2 * rows as u64).to_le_bytes()).0))
            .collect();
        let d = source(&[("Mass", &vec![Some(1); rows])], &views, &vec![""; rows]);
        let images: StringArray = (0..rows).map(|i| Some(format!("{at}/{i}.png"))).collect();
        let d = d.with_column("patient", Arc::new(patients)).unwrap().with_column("image", Arc::new(images)).unwrap();
        (format!("s{at}"), d.with_column("digest", Arc::new(digests)).unwrap())
    };
    (0..sources).map(source).collect()
}

#[test]
fn the_first_of_patients_and_images_are_kept_as_a_set_would_keep_them() {
    let mut met = [0, 0];
    for seed in 0..20 {
        let parts = crowded(3, 80, seed);
        let (mut patients, mut images, mut expected) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let mut dropped = [[0, 0]; 3];
        for (at, (_, d)) in parts.iter().enumerate() {
            for i in (0..d.rows()).filter(|&i| d.text("view").unwrap().value(i) != "L") {
                let patient = d.text("patient").filter(|p| p.is_valid(i)).map(|p| p.value(i).to_string());
                let image = d.binary("digest").filter(|p| p.is_valid(i)).map(|p| p.value(i).to_vec());
                if patient.is_some_and(|p| !patients.insert(p)) {
                    dropped[at][0] += 1;
                } else if image.is_some_and(|p| !images.insert(p)) {
                    dropped[at][1] += 1;
                } else {
                    expected.push(d.images().unwrap().value(i).to_string());
                }
            }
        }
        let json = serde_json::json!({"views": ["PA", "AP"], "unique_patients": true, "duplicates": "drop"});
        let (d, report) = merge(&parts, &spec(json)).unwrap();
        assert_eq!(d.images().unwrap().iter().flatten().collect::<Vec<_>>(), expected);
        for (at, [unique, copies]) in dropped.into_iter().enumerate() {
            let count = |rule| report.get(&parts[at].0, "dropped", Some(rule));
            assert_eq!((count("unique_patients"), count("duplicates")), (Some(unique), Some(copies)));
        }
        dropped.into_iter().for_each(|of| met.iter_mut().zip(of).for_each(|(met, n)| *met += n));
    }
    assert!(met.iter().all(|&n| n > 100), "{met:?}");
}

#[test]
fn what_is_sorted_on_disk_decides_as_what_is_sorted_in_memory() {
    let parts = crowded(2, 40_000, 1);
    let tables: Vec<(String, &dyn Table)> = parts.iter().map(|(n, d)| (n.clone(), d as &dyn Table)).collect();
    for rules in [
        serde_json::json!({"duplicates": "drop", "split": {"patient": {"train": 0.6, "valid": 0.2}}}),
        serde_json::json!({"unique_patients": true}),
    ] {
        let (whole, report) = merge(&parts, &spec(rules.clone())).unwrap();
        let (dir, mut pieces) = (tempfile::tempdir().unwrap(), Vec::new());
        let told = merge_into(&tables, &spec(rules), &[], Some(dir.path()), &mut |piece| {
            pieces.push(piece.clone());
            Ok(())
        });
        assert_eq!(told.unwrap(), report);
        assert!(Dataset::concat(&pieces).unwrap().batch() == whole.batch());
    }
}
