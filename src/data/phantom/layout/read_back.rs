//! Every layout is what its reader expects: written here, read there.

use std::path::Path;

use arrow::array::Array;

use super::super::*;
use crate::{
    data::{
        dataset::{Dataset, Task},
        format::{Format, Read, Skipped},
        image::{DecodeRule, decode},
    },
    progress::Silent,
};

fn read(layout: Layout, format: &str) -> (tempfile::TempDir, Summary, Dataset, Skipped) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { layout, patients: 48, seed: 11, size_px: 32, odd_rows: true };
    let summary = write_tree(&options, dir.path(), &Silent, &Cancel::default()).unwrap();
    let (dataset, skipped) = open(dir.path(), format);
    (dir, summary, dataset, skipped)
}

fn open(root: &Path, format: &str) -> (Dataset, Skipped) {
    let format: Format = serde_json::from_value(serde_json::json!({"format": format, "root": root})).unwrap();
    let mut skipped = Skipped::default();
    let dataset = format.read(&mut skipped).unwrap();
    (dataset, skipped)
}

/// How many of the dataset's images decode.
fn decoded(root: &Path, dataset: &Dataset) -> usize {
    let images = dataset.images().unwrap();
    images
        .iter()
        .flatten()
        .filter(|name| decode(&std::fs::read(root.join(name)).unwrap(), &DecodeRule::default()).is_ok())
        .count()
}

/// (positive, negative, unknown) rows of a finding.
fn counts(dataset: &Dataset, finding: &str) -> (usize, usize, usize) {
    let label = dataset.label(finding).unwrap_or_else(|| panic!("no label {finding}"));
    let of = |v: i8| label.iter().filter(|l| *l == Some(v)).count();
    (of(1), of(0), label.null_count())
}

fn patients(dataset: &Dataset, rows: &Dataset) -> usize {
    assert!(rows.rows() <= dataset.rows());
    rows.text("patient").unwrap().iter().flatten().collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn chexpert_reads_back() {
    let (dir, summary, dataset, skipped) = read(Layout::Chexpert, "chexpert");
    assert_eq!((dataset.rows() as u64 + skipped.rows(), patients(&dataset, &dataset)), (summary.images, 48));
    assert_eq!(decoded(dir.path(), &dataset), dataset.rows());
    let (positive, negative, unknown) = counts(&dataset, "Cardiomegaly");
    assert!(positive > 4 && negative > 4 && unknown > 4);
    assert_eq!(patients(&dataset, &dataset.split("valid").unwrap()), 6);
}

#[test]
fn mimic_cxr_reads_back() {
    let (dir, summary, dataset, _) = read(Layout::MimicCxr, "mimic_cxr");
    // The unlabelled study is lost or without labels, never negative.
    assert!(dataset.rows() as u64 <= summary.images && dataset.rows() as u64 + 16 > summary.images);
    assert_eq!(decoded(dir.path(), &dataset), dataset.rows());
    let (positive, negative, unknown) = counts(&dataset, "Pneumothorax");
    assert!(positive > 2 && negative > 4 && unknown > 4);
    assert!(dataset.split("train").unwrap().rows() > dataset.split("test").unwrap().rows());
}

#[test]
fn nih_reads_back() {
    let (dir, summary, dataset, skipped) = read(Layout::Nih, "nih");
    assert_eq!((dataset.rows() as u64, skipped.rows()), (summary.images, 0));
    assert_eq!((patients(&dataset, &dataset), decoded(dir.path(), &dataset)), (48, dataset.rows()));
    let table = std::fs::read_to_string(dir.path().join("Data_Entry_2017_v2020.csv")).unwrap();
    let listed = table.lines().filter(|l| l.split([',', '|']).any(|w| w == "Effusion")).count();
    assert_eq!(counts(&dataset, "Effusion"), (listed, dataset.rows() - listed, 0));
    assert!(dataset.ages().unwrap().iter().flatten().all(|a| a < 120.0), "an impossible age is unknown");
}

#[test]
fn padchest_reads_back() {
    let (dir, summary, dataset, skipped) = read(Layout::Padchest, "padchest");
    assert_eq!(dataset.rows() as u64 + skipped.rows(), summary.images);
    assert!(skipped.of("the image file is missing") > 0 && skipped.reasons().len() > 1);
    let whole = decoded(dir.path(), &dataset);
    assert!(whole < dataset.rows() && whole + 12 > dataset.rows(), "one patient's files end early");
    let (positive, negative, _) = counts(&dataset, "Cardiomegaly");
    assert!(positive > 4 && negative > 20);
}

#[test]
fn tuberculosis_reads_back() {
    let (dir, summary, dataset, skipped) = read(Layout::Tuberculosis, "tuberculosis");
    assert_eq!((dataset.rows() as u64, skipped.rows()), (summary.images, 0));
    assert_eq!(decoded(dir.path(), &dataset), 48);
    let classes = dataset.classes().unwrap();
    assert_eq!(classes.iter().flatten().sum::<i32>(), 24);
    for (name, class) in dataset.images().unwrap().iter().zip(classes) {
        assert!(name.unwrap().ends_with(&format!("_{}.png", class.unwrap())));
    }
}

#[test]
fn fractals_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let json = r#"{"categories": 3, "per_category": 4, "test_per_category": 2, "size_px": 16}"#;
    let options: crate::data::fractal::Options = serde_json::from_str(json).unwrap();
    crate::data::fractal::write_tree(&options, dir.path(), &Silent, &Cancel::default()).unwrap();
    let (dataset, skipped) = open(dir.path(), "image_folder");
    assert_eq!((dataset.rows(), skipped.rows()), (18, 0));
    assert_eq!(dataset.task(), &Task::Single(vec!["c00000".into(), "c00001".into(), "c00002".into()]));
    assert_eq!(dataset.split("test").unwrap().rows(), 6);
    assert_eq!(decoded(dir.path(), &dataset), 18);
}
