//! The readers on real data, where `SCALESHOT_REAL_DATA` names a folder that has them.

use std::{path::PathBuf, sync::Arc};

use arrow::array::BinaryArray;

use super::{Format, Read, Skipped};
use crate::{
    data::{
        dataset::Dataset,
        labels::counts,
        leakage::{across_splits, between},
    },
    digest::Digest,
};

fn root(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("SCALESHOT_REAL_DATA").map(|r| PathBuf::from(r).join(name)).filter(|p| p.is_dir());
    if found.is_none() {
        println!("left out: {name} is not there (SCALESHOT_REAL_DATA)");
    }
    found
}

fn read(mut json: serde_json::Value, name: &str) -> Option<(Dataset, Skipped)> {
    json["root"] = serde_json::json!(root(name)?);
    let format: Format = serde_json::from_value(json).unwrap();
    let mut skipped = Skipped::default();
    let d = format.read(&mut skipped).unwrap();
    Some((d, skipped))
}

fn rows(d: &Dataset) -> [usize; 2] {
    ["train", "test"].map(|s| d.split(s).unwrap().rows())
}

/// The digest column that whoever runs a reader fills in.
fn digested(d: &Dataset, name: &str) -> Dataset {
    let root = root(name).unwrap();
    let all: Vec<[u8; 32]> =
        d.images().unwrap().iter().flatten().map(|i| Digest::of_file(&root.join(i)).unwrap().0).collect();
    d.with_column("digest", Arc::new(BinaryArray::from_iter_values(all.iter()))).unwrap()
}

#[test]
fn nih_has_every_image_and_no_patient_on_both_sides() {
    let Some((d, skipped)) = read(serde_json::json!({"format": "nih"}), "NIH-ChestXRay-14") else { return };
    assert_eq!((d.rows(), skipped.rows(), d.task().names().len()), (1345, 0, 14));
    assert_eq!(rows(&d).iter().sum::<usize>(), 1345);
    assert!(across_splits(&d).unwrap().is_empty());
}

#[test]
fn cifar_records_are_in_their_original_order() {
    if let Some((d, skipped)) = read(serde_json::json!({"format": "cifar10"}), "cifar-10-batches-bin") {
        assert_eq!((rows(&d), skipped.rows()), ([5 * 1017, 1017], 0));
        // The first images of data_batch_1 are a frog and two trucks.
        let first: Vec<&str> =
            d.classes().unwrap().values()[..3].iter().map(|&c| d.task().names()[c as usize].as_str()).collect();
        assert_eq!(first, ["frog", "truck", "truck"]);
    }
    if let Some((d, skipped)) = read(serde_json::json!({"format": "cifar100"}), "cifar-100-binary") {
        assert_eq!((rows(&d), skipped.rows()), ([1117, 916], 0));
        assert_eq!(d.task().names()[d.classes().unwrap().value(0) as usize], "cattle");
    }
}

#[test]
fn natural_image_sets_have_their_splits() {
    if let Some((d, skipped)) = read(serde_json::json!({"format": "pets"}), "oxford-iiit-pet") {
        assert_eq!((rows(&d), skipped.rows()), ([300, 298], 0));
        assert_eq!(d.task().names(), ["Abyssinian", "Bengal", "american_bulldog"]);
    }
    if let Some((d, skipped)) = read(serde_json::json!({"format": "flowers102"}), "oxford-102-flowers") {
        assert_eq!((rows(&d), skipped.rows()), ([200, 200], 0));
        assert_eq!(d.task().names()[..2], ["26", "57"]);
        assert!(counts(&d).iter().all(|c| c.positives == 40));
    }
}

#[test]
fn chest_folders_and_file_names_give_classes() {
    if let Some((d, _)) = read(serde_json::json!({"format": "image_folder"}), "kermany_imagefolder") {
        assert_eq!((d.rows(), d.task().names()), (800, &["NORMAL".to_string(), "PNEUMONIA".into()][..]));
    }
    if let Some((d, _)) = read(serde_json::json!({"format": "tuberculosis"}), "Tuberculosis_dataset_standin") {
        assert_eq!(d.rows(), 300);
        assert!(across_splits(&d).unwrap().is_empty());
    }
    if let Some((d, _)) = read(serde_json::json!({"format": "tuberculosis"}), "shenzhen_originals") {
        assert_eq!((d.rows(), counts(&d)[0].positives, rows(&d)), (11, 11, [9, 2]));
    }
}

#[test]
fn the_covid_sets_share_patients_and_images_and_it_shows() {
    let declared = serde_json::json!({
        "format": "image_table", "name": "covid", "file": "metadata.csv", "image": "filename", "folder": "images",
        "patient": "patientid", "patient_prefix": "cohen", "view": "view", "sex": "sex", "age": "age",
        "keep": {"modality": ["X-ray"]},
        "labels": {"findings": {"column": "finding", "separators": ",/"}},
    });
    let Some((declared, _)) = read(declared, "covid-chestxray-dataset") else { return };
    let Some((covid, skipped)) = read(serde_json::json!({"format": "covid"}), "covid-chestxray-dataset") else {
        return;
    };
    assert_eq!(covid.batch(), declared.batch());
    assert_eq!(super::inspect(&root("covid-chestxray-dataset").unwrap())[0].format, "covid");
    assert_eq!((covid.rows() as u64 + skipped.rows(), skipped.of("the image file is missing")), (306, 0));
    let positive = counts(&covid).into_iter().find(|c| c.name == "COVID-19").unwrap();
    assert!(positive.positives > 150 && positive.unknowns == 0, "{positive:?}");
    let Some((covidx, skipped)) = read(serde_json::json!({"format": "covidx"}), "COVIDx-CXR2") else { return };
    assert_eq!((covidx.rows(), skipped.rows()), (535, 0));
    assert!(across_splits(&covidx).unwrap().is_empty());
    let (covid, covidx) = (digested(&covid, "covid-chestxray-dataset"), digested(&covidx, "COVIDx-CXR2"));
    let shared = between(("covid", &covid), ("covidx", &covidx)).unwrap();
    // Its 77 negatives and all positives come from there.
    assert!(shared.images >= 200 && shared.right_rows >= shared.images, "{shared}");
    let nih = covidx.text("patient").unwrap().iter().flatten().filter(|p| p.starts_with("nih:")).count();
    assert_eq!(shared.right_rows + nih as u64, 535, "{shared}");
}
