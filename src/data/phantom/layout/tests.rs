//! Every layout: tables with the published columns, files that decode, and no label outside the images.

use std::{collections::BTreeMap, path::PathBuf};

use super::super::*;
use crate::{
    data::image::{DecodeRule, Pixels, decode},
    progress::Silent,
};

fn options(layout: Layout, patients: u32) -> Options {
    Options { layout, patients, seed: 7, size_px: 48, odd_rows: true }
}

fn written(options: &Options) -> (tempfile::TempDir, Summary) {
    let dir = tempfile::tempdir().unwrap();
    let summary = write_tree(options, dir.path(), &Silent, &Cancel::default()).unwrap();
    (dir, summary)
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                out.insert(path.strip_prefix(root).unwrap().to_path_buf(), std::fs::read(&path).unwrap());
            }
        }
    }
    out
}

fn table(bytes: &[u8]) -> (Vec<String>, Vec<BTreeMap<String, String>>) {
    let mut text = Vec::new();
    if bytes.starts_with(&[0x1F, 0x8B]) {
        std::io::copy(&mut flate2::read::GzDecoder::new(bytes), &mut text).unwrap();
    } else {
        text = bytes.to_vec();
    }
    let mut reader = csv::Reader::from_reader(&text[..]);
    let header: Vec<String> = reader.headers().unwrap().iter().map(String::from).collect();
    let rows =
        reader.records().map(|r| header.iter().cloned().zip(r.unwrap().iter().map(String::from)).collect()).collect();
    (header, rows)
}

fn grey(bytes: &[u8]) -> Pixels {
    decode(bytes, &DecodeRule { channels: 1, ..Default::default() }).unwrap()
}

/// Probability that a positive scores above a negative, ties half.
fn auroc(scores: &[f64], labels: &[bool]) -> f64 {
    let (mut wins, mut pairs) = (0.0, 0.0);
    for (a, _) in scores.iter().zip(labels).filter(|(_, l)| **l) {
        for (b, _) in scores.iter().zip(labels).filter(|(_, l)| !**l) {
            wins += if a > b {
                1.0
            } else if a == b {
                0.5
            } else {
                0.0
            };
            pairs += 1.0;
        }
    }
    wins / pairs
}

#[test]
fn every_layout_is_the_same_bytes_on_any_number_of_threads() {
    for layout in [Layout::Chexpert, Layout::MimicCxr, Layout::Nih, Layout::Padchest, Layout::Tuberculosis] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (dir, _) = pool.install(|| written(&options(layout, 6)));
            files(dir.path())
        };
        assert!(run(1) == run(3), "{layout:?}");
    }
}

#[test]
fn chexpert_has_blanks_and_uncertainties_in_train_and_none_in_valid() {
    let (dir, summary) = written(&options(Layout::Chexpert, 48));
    let files = files(dir.path());
    let (header, train) = table(&files[Path::new("train.csv")]);
    let published = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,\
        Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,\
        Pleural Other,Fracture,Support Devices";
    assert_eq!(header.join(","), published);
    let (_, valid) = table(&files[Path::new("valid.csv")]);
    assert_eq!(summary.images as usize, train.len() + valid.len());
    let said = |rows: &[BTreeMap<String, String>], what: &str| {
        rows.iter().flat_map(|r| header[5..].iter().map(|c| &r[c])).filter(|v| *v == what).count()
    };
    assert!(["", "1.0", "0.0", "-1.0"].iter().all(|v| said(&train, v) > 5));
    assert_eq!((said(&valid, ""), said(&valid, "-1.0")), (0, 0));
    assert!(train.iter().any(|r| r["Sex"] == "Unknown" && r["Age"] == "0") && train.iter().any(|r| r["AP/PA"] == "LL"));
    assert!(train.iter().any(|r| r["Frontal/Lateral"] == "Lateral"));
    let mut portrait = 0;
    for row in train.iter().chain(&valid) {
        let path = row["Path"].strip_prefix("CheXpert-v1.0-small/").unwrap();
        let image = grey(&files[Path::new(path)]);
        assert_ne!(image.size.height, image.size.width, "square images hide transposition");
        assert_eq!(image.size.height.min(image.size.width), 48);
        portrait += usize::from(image.size.height > image.size.width);
    }
    assert!(portrait > 5 && portrait < train.len() + valid.len() - 5);
}

#[test]
fn mimic_cxr_tables_agree_on_their_keys() {
    let (dir, summary) = written(&options(Layout::MimicCxr, 48));
    let files = files(dir.path());
    let read = |name: &str| table(&files[Path::new(&format!("mimic-cxr-2.0.0-{name}.csv.gz"))]);
    let ((split_header, split), (_, metadata), (header, labels)) = (read("split"), read("metadata"), read("chexpert"));
    assert_eq!(split_header.join(","), "dicom_id,study_id,subject_id,split");
    assert_eq!(header[..3].join(","), "subject_id,study_id,Atelectasis");
    assert_eq!((split.len(), metadata.len()), (summary.images as usize, summary.images as usize));
    for (s, m) in split.iter().zip(&metadata) {
        assert_eq!((&s["dicom_id"], &s["study_id"]), (&m["dicom_id"], &m["study_id"]));
        let (subject, study) = (&s["subject_id"], &s["study_id"]);
        let path = format!("files/p{}/p{subject}/s{study}/{}.jpg", &subject[..2], s["dicom_id"]);
        let image = grey(&files[Path::new(&path)]);
        assert_eq!(
            (image.size.height.to_string(), image.size.width.to_string()),
            (m["Rows"].clone(), m["Columns"].clone())
        );
    }
    let count = |rows: &[BTreeMap<String, String>], c: &str| {
        rows.iter().map(|r| r[c].clone()).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!((count(&split, "subject_id"), count(&split, "dicom_id")), (48, split.len()));
    assert!(
        count(&labels, "study_id") == labels.len() && labels.len() < count(&split, "study_id"),
        "one is unlabelled"
    );
    assert!(
        metadata.iter().any(|m| m["ViewPosition"].is_empty()) && metadata.iter().any(|m| m["ViewPosition"] == "LL")
    );
}

#[test]
fn nih_lists_cover_the_table_and_share_no_patient() {
    let (dir, _) = written(&options(Layout::Nih, 48));
    let files = files(dir.path());
    let (header, rows) = table(&files[Path::new("Data_Entry_2017_v2020.csv")]);
    let published = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
        OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]";
    assert_eq!(header.join(","), published);
    let list = |name: &str| -> Vec<String> {
        String::from_utf8(files[Path::new(name)].clone()).unwrap().lines().map(String::from).collect()
    };
    let (train, test) = (list("train_val_list.txt"), list("test_list.txt"));
    assert_eq!(train.len() + test.len(), rows.len());
    assert!(!test.is_empty() && test.iter().all(|t| train.iter().all(|r| r[..8] != t[..8])));
    let rgba = rows.iter().filter(|r| files[&Path::new("images").join(&r["Image Index"])][25] == 6).count();
    assert!(rgba > 0 && rgba < rows.len() / 4, "{rgba} with alpha");
    assert!(rows.iter().any(|r| r["Patient Age"].parse::<u32>().unwrap() > 120));
    assert!(
        rows.iter().any(|r| r["Finding Labels"].contains('|'))
            && rows.iter().any(|r| r["Finding Labels"] == "No Finding")
    );
}

#[test]
fn padchest_has_sixteen_bits_and_its_oddities() {
    let (dir, summary) = written(&options(Layout::Padchest, 48));
    let files = files(dir.path());
    let (header, rows) = table(&files[Path::new(layout::padchest::TABLE)]);
    assert_eq!((header.len(), rows.len()), (36, summary.images as usize));
    assert!(rows.iter().all(|r| r["LocalizationsCUIS"].contains('\n')));
    let any = |c: &str, v: &str| rows.iter().any(|r| r[c] == v);
    assert!(["COSTAL", "EXCLUDE", "UNK", "L", "PA", "AP_horizontal"].iter().all(|v| any("Projection", v)));
    assert!(any("PatientBirth", "") && any("Labels", "") && any("Labels", "['']") && any("Labels", "['normal']"));
    let (mut missing, mut broken, mut whole) = (0, 0, 0);
    for row in &rows {
        match files.get(&Path::new(&row["ImageDir"]).join(&row["ImageID"])) {
            None => missing += 1,
            Some(bytes) => match decode(bytes, &DecodeRule::default()) {
                Ok(_) => {
                    assert_eq!(bytes[24], 16, "bit depth");
                    whole += 1;
                }
                Err(_) => broken += 1,
            },
        }
    }
    assert!(missing > 0 && broken > 0 && whole > rows.len() * 3 / 4, "{missing} {broken} {whole}");
}

#[test]
fn tuberculosis_can_be_read_from_nothing_but_the_image() {
    let (dir, _) = written(&options(Layout::Tuberculosis, 600));
    let files: Vec<(PathBuf, Vec<u8>)> = files(dir.path()).into_iter().collect();
    assert_eq!(files.len(), 600);
    let stem = |p: &Path| p.file_stem().unwrap().to_str().unwrap().to_string();
    let labels: Vec<bool> = files.iter().map(|(p, _)| stem(p).ends_with("_1")).collect();
    assert_eq!(labels.iter().filter(|l| **l).count(), 300);
    let images: Vec<Pixels> = files.iter().map(|(_, b)| grey(b)).collect();
    let mean = |p: &Pixels| p.data.iter().map(|v| f64::from(*v)).sum::<f64>() / p.data.len() as f64;
    let by = |score: &dyn Fn(usize) -> f64| (0..600).map(score).collect::<Vec<f64>>();
    let number =
        |i: usize| stem(&files[i].0)[..stem(&files[i].0).len() - 2].rsplit('_').next().unwrap().parse().unwrap();
    // The standard error of an AUROC of 0.5 with 300 against 300 is 0.024.
    for (name, scores) in [
        ("file size", by(&|i| files[i].1.len() as f64)),
        ("mean grey", by(&|i| mean(&images[i]))),
        ("bytes a pixel", by(&|i| files[i].1.len() as f64 / images[i].data.len() as f64)),
        ("aspect", by(&|i| f64::from(images[i].size.height) / f64::from(images[i].size.width))),
        ("number", by(&number)),
        ("number modulo 2", by(&|i| number(i) % 2.0)),
    ] {
        let a = auroc(&scores, &labels);
        assert!((0.41..0.59).contains(&a), "{name} predicts the label: AUROC {a:.3}");
    }
}

#[test]
fn impossible_options_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = |o: Options| write_tree(&o, dir.path(), &Silent, &Cancel::default()).unwrap_err().to_string();
    assert_eq!(run(Options { size_px: 8, ..options(Layout::Nih, 3) }), "size_px is 8, phantoms have 16 to 2048 px");
    assert!(run(options(Layout::Nih, 0)).contains("patients is 0"));
    assert!(serde_json::from_str::<Options>(r#"{"layout": "nih", "patients": 3, "sizes_px": 4}"#).is_err());
}
