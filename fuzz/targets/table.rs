//! The tables and lists of dataset readers; the first byte says whose.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaleshot::data::format::{Format, Read, Skipped, count_rows};
use scaleshot_fuzz::{file, folder};
use serde_json::json;

/// Format, its table, and what is declared beside the root.
fn layouts() -> Vec<(&'static str, &'static str, serde_json::Value)> {
    let labels = json!({"columns": ["a", "b"]});
    vec![
        ("chexpert", "train.csv", json!({"missing": "keep", "splits": ["train"]})),
        ("nih", "Data_Entry_2017.csv", json!({"missing": "keep"})),
        ("nih", "BBox_List_2017.csv", json!({"missing": "keep"})),
        ("padchest", "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", json!({"missing": "keep"})),
        ("covidx", "train.txt", json!({"missing": "keep"})),
        ("pets", "annotations/trainval.txt", json!({"missing": "keep"})),
        ("mimic_cxr", "mimic-cxr-2.0.0-chexpert.csv", json!({"missing": "keep"})),
        ("mimic_cxr", "mimic-cxr-2.0.0-metadata.csv", json!({"missing": "keep"})),
        ("image_table", "t.csv", json!({"file": "t.csv", "image": "image", "labels": labels, "missing": "keep"})),
    ]
}

/// What stands beside the table that is fuzzed.
const BESIDE: [(&str, &str, &str); 8] = [
    (
        "nih",
        "Data_Entry_2017.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\na.png,Edema,0,1,50,M,PA\n",
    ),
    ("nih", "train_val_list.txt", "a.png\n"),
    ("nih", "test_list.txt", "b.png\n"),
    ("covidx", "test.txt", "1 b.png negative nih\n"),
    ("pets", "annotations/test.txt", "Bengal_2 2 1 1\n"),
    (
        "mimic_cxr",
        "mimic-cxr-2.0.0-chexpert.csv",
        "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices\n1,2,1.0,,,,,,,,,,,,,\n",
    ),
    ("mimic_cxr", "mimic-cxr-2.0.0-metadata.csv", "dicom_id,subject_id,study_id,ViewPosition\na,1,2,PA\n"),
    ("mimic_cxr", "mimic-cxr-2.0.0-split.csv", "dicom_id,study_id,subject_id,split\na,2,1,train\n"),
];

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, table)) = bytes.split_first() else { return };
    let layouts = layouts();
    let at = usize::from(which) % layouts.len();
    let (format, name, mut declared) = layouts[at].clone();
    let root = format!("{at}-{format}");
    for (of, beside, text) in BESIDE {
        if of == format && beside != name && !folder().join(&root).join(beside).exists() {
            file(&format!("{root}/{beside}"), text.as_bytes());
        }
    }
    let path = file(&format!("{root}/{name}"), table);
    declared["format"] = json!(format);
    declared["root"] = json!(folder().join(&root));
    let format: Format = serde_json::from_value(declared).unwrap_or_else(|e| panic!("{format}: {e}"));
    let mut skipped = Skipped::default();
    match format.read(&mut skipped) {
        Ok(dataset) => assert!(dataset.rows() > 0),
        Err(e) => assert!(!e.to_string().starts_with("bug:"), "{e}"),
    }
    let _ = count_rows(&path, b',');
});
