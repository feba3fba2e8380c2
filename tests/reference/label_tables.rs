//! The label matrices of the real tables, and the counts under the merge's filters: `chest_label_tables.json`
//! and `metadata_counts.json`, computed with the published readers.
//!
//! The tables come with the PyPI package torchxrayvision 1.5.7 (`make real-tables`); their terms forbid to
//! pass them on. `tables` is the folder that holds them. Without it the checks are left out, and say so.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    path::Path,
};

use arrow::array::Array;
use scaleshot::data::{
    dataset::Dataset,
    format::{Format, Read, Skipped},
    labels, leakage,
    merge::{MergeSpec, merge},
};
use serde_json::{Value, json};
use sha2::Digest as _;

type Checked = Result<Vec<String>, String>;

/// Whether `json` has one of the two forms.
pub fn knows(json: &Value) -> bool {
    is_matrices(json) || is_counts(json)
}

fn is_matrices(json: &Value) -> bool {
    json.as_object().is_some_and(|o| !o.is_empty() && o.values().all(|v| v["digest_rule"].is_string()))
}

fn is_counts(json: &Value) -> bool {
    json["merge_intersection_chexpert_mimic_nih_padchest"].is_array()
}

/// Holds the readers against the numbers; one line for each thing that was checked.
pub fn check(json: &Value, tables: Option<&Path>) -> Checked {
    let Some(tables) = tables else {
        return Ok(vec!["left out: the real label tables are not there (make real-tables)".into()]);
    };
    let trees = Trees::new(tables)?;
    if is_matrices(json) { matrices(json, &trees) } else { counts(json, &trees) }
}

/// Folders in the published layouts, with links to the tables and without images.
struct Trees(tempfile::TempDir);

impl Trees {
    fn new(tables: &Path) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let tables = tables.canonicalize().map_err(|e| format!("{}: {e}", tables.display()))?;
        let padchest = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz";
        for (set, from, to) in [
            ("chexpert", "chexpert_train.csv.gz", "train.csv.gz"),
            ("nih", "Data_Entry_2017_v2020.csv.gz", "Data_Entry_2017_v2020.csv.gz"),
            ("padchest", padchest, padchest),
        ] {
            let from = tables.join(from);
            if !from.is_file() {
                return Err(format!("{}: no such file", from.display()));
            }
            let folder = dir.path().join(set);
            std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
            std::os::unix::fs::symlink(from, folder.join(to)).map_err(|e| e.to_string())?;
        }
        let trees = Trees(dir);
        trees.nih_lists()?;
        trees.tiny_mimic()?;
        Ok(trees)
    }

    /// NIH's own lists are not in the package; the reference numbers take every fifth patient for the test.
    fn nih_lists(&self) -> Result<(), String> {
        let folder = self.0.path().join("nih");
        let file = std::fs::File::open(folder.join("Data_Entry_2017_v2020.csv.gz")).map_err(|e| e.to_string())?;
        let mut table = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
        let (mut train, mut test) = (String::new(), String::new());
        for row in table.records() {
            let row = row.map_err(|e| e.to_string())?;
            let patient: u32 = row[3].parse().map_err(|e| format!("Patient ID {}: {e}", &row[3]))?;
            let list = if patient.is_multiple_of(5) { &mut test } else { &mut train };
            let _ = writeln!(list, "{}", &row[0]);
        }
        std::fs::write(folder.join("train_val_list.txt"), train).map_err(|e| e.to_string())?;
        std::fs::write(folder.join("test_list.txt"), test).map_err(|e| e.to_string())
    }

    /// MIMIC-CXR is under agreement; one row in its layout is enough to know its labels.
    fn tiny_mimic(&self) -> Result<(), String> {
        let folder = self.0.path().join("mimic_cxr");
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).map_err(|e| e.to_string());
        write(
            "mimic-cxr-2.0.0-chexpert.csv",
            "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices\n1,2,,,,,,,,,1.0,,,,,\n",
        )?;
        write("mimic-cxr-2.0.0-metadata.csv", "dicom_id,subject_id,study_id,ViewPosition\na,1,2,PA\n")?;
        write("mimic-cxr-2.0.0-split.csv", "dicom_id,study_id,subject_id,split\na,2,1,train\n")
    }

    /// Reads one set; `more` are further options.
    fn read(&self, set: &str, more: Value) -> Result<(Dataset, Skipped), String> {
        let mut options = json!({"format": set, "root": self.0.path().join(set), "missing": "keep"});
        if set == "chexpert" {
            options["splits"] = json!(["train"]);
        }
        for (key, value) in more.as_object().into_iter().flatten() {
            options[key] = value.clone();
        }
        let format: Format = serde_json::from_value(options).map_err(|e| e.to_string())?;
        let mut skipped = Skipped::default();
        let dataset = format.read(&mut skipped).map_err(|e| format!("{set}: {e}"))?;
        Ok((dataset, skipped))
    }
}

/// What the published tables call an image.
fn id(image: &str) -> String {
    match image.strip_prefix("images/") {
        Some(nih) => nih.into(),
        None if image.starts_with("train/") => format!("CheXpert-v1.0-small/{image}"),
        None => image.into(),
    }
}

fn ids(d: &Dataset) -> Result<Vec<String>, String> {
    Ok(d.images().map_err(|e| e.to_string())?.iter().flatten().map(id).collect())
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what}: {ours:?}, expected {theirs:?}")) }
}

fn patients(d: &Dataset) -> usize {
    d.text("patient").map_or(0, |p| p.iter().flatten().collect::<HashSet<_>>().len())
}

fn sha256(text: &str) -> String {
    sha2::Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// 1, 0 or n for every label of a row.
fn row_labels(columns: &[(String, arrow::array::Int8Array)], row: usize) -> String {
    columns.iter().map(|(_, c)| if c.is_null(row) { 'n' } else { char::from(b'0' + c.value(row) as u8) }).collect()
}

fn matrices(json: &Value, trees: &Trees) -> Checked {
    let mut lines = Vec::new();
    for (key, expected) in json.as_object().into_iter().flatten() {
        let words: Vec<&str> = key.split(' ').collect();
        let [set, split, views] = words[..] else { return Err(format!("{key}: expected SET SPLIT VIEWS")) };
        let views: Vec<&str> = views.split('+').collect();
        let (whole, _) = trees.read(set, json!({ "views": views }))?;
        let d = whole.split(split).map_err(|e| e.to_string())?;
        let at = |what: &str| format!("{key}: {what}");
        equal(&at("rows"), Some(d.rows() as u64), expected["rows"].as_u64())?;
        equal(&at("pathologies"), json!(d.task().names()), expected["pathologies"].clone())?;
        equal(&at("patients"), Some(patients(&d) as u64), expected["patients"].as_u64())?;
        for count in labels::counts(&d) {
            for (what, n) in [("positive", count.positives), ("negative", count.negatives), ("unknown", count.unknowns)]
            {
                equal(&at(&format!("{what} {}", count.name)), Some(n), expected[what][&count.name].as_u64())?;
            }
        }
        let ids = ids(&d)?;
        let columns = labels::columns(&d);
        for (i, first) in expected["first"].as_array().into_iter().flatten().enumerate() {
            equal(&at("id"), Some(ids[i].as_str()), first["id"].as_str())?;
            let theirs: String = first["labels"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|l| l.as_u64().map_or('n', |l| char::from(b'0' + l as u8)))
                .collect();
            equal(&at("labels"), row_labels(&columns, i), theirs)?;
        }
        let mut rows: Vec<String> =
            ids.iter().enumerate().map(|(i, id)| format!("{id}\t{}\n", row_labels(&columns, i))).collect();
        rows.sort();
        equal(&at("digest"), Some(sha256(&rows.concat()).as_str()), expected["digest"].as_str())?;
        lines.push(format!("{key}: {} rows, {} labels, {} patients", d.rows(), columns.len(), patients(&d)));
    }
    Ok(lines)
}

/// The views of the published X-ray pre-training.
const VIEWS: [&str; 5] = ["PA", "AP", "AP Supine", "L", "COSTAL"];

fn counts(json: &Value, trees: &Trees) -> Checked {
    let mut lines = Vec::new();
    for (key, views) in
        [("chexpert_train_views_AP_PA", json!(["AP", "PA"])), ("chexpert_train_views_config", json!(VIEWS))]
    {
        let (all, _) = trees.read("chexpert", json!({}))?;
        check_views(key, &all, &json[key]["view_counts"])?;
        let (d, _) = trees.read("chexpert", json!({ "views": views }))?;
        check_set(key, &d, &json[key], &json[key]["labels"])?;
        equal(key, Some(sha256(&ids(&d)?.join("\n")).as_str()), json[key]["path_sha256"].as_str())?;
        lines.push(format!("{key}: {} rows", d.rows()));
    }
    let (nih, _) = trees.read("nih", json!({}))?;
    check_views("nih", &nih, &json["nih_all"]["view_counts"])?;
    check_set("nih_all", &nih, &json["nih_all"], &json["nih_all"]["labels"])?;
    let healthy = nih.batch().column_by_name("healthy").and_then(|c| {
        let c = c.as_any().downcast_ref::<arrow::array::BooleanArray>()?;
        Some(c.true_count() as u64)
    });
    equal("nih no_finding", healthy, json["nih_all"]["no_finding"].as_u64())?;
    lines.push(format!("nih_all: {} rows", nih.rows()));
    lines.extend(padchest(&json["padchest_views_config"], trees)?);

    let mut parts = Vec::new();
    for set in ["chexpert", "mimic_cxr", "nih", "padchest"] {
        parts.push((set.to_string(), trees.read(set, json!({ "views": VIEWS }))?.0));
    }
    let (merged, _) = merge(&parts, &MergeSpec::default()).map_err(|e| e.to_string())?;
    let theirs = &json["merge_intersection_chexpert_mimic_nih_padchest"];
    equal("intersection of four", &json!(merged.task().names()), theirs)?;
    lines.push(format!("intersection of four: {} labels, {} rows", merged.task().names().len(), merged.rows()));
    Ok(lines)
}

fn padchest(expected: &Value, trees: &Trees) -> Checked {
    let at = |what: &str| format!("padchest: {what}");
    let raw = json!({"blacklist": "none", "split": "none"});
    let (all, skipped) = trees.read("padchest", raw)?;
    let blank = skipped.of("the labels are blank");
    equal(&at("raw rows"), Some(all.rows() as u64 + blank), expected["raw_rows"].as_u64())?;
    equal(&at("null labels"), Some(blank), expected["null_labels"].as_u64())?;
    // Views are counted over all rows, those with blank labels among them.
    let mut views = serde_json::Map::new();
    for view in expected["view_counts"].as_object().into_iter().flat_map(|v| v.keys()) {
        let (d, skipped) = trees.read("padchest", json!({"blacklist": "none", "split": "none", "views": [view]}))?;
        views.insert(view.clone(), (d.rows() as u64 + skipped.of("the labels are blank")).into());
    }
    equal(&at("views"), Value::from(views), expected["view_counts"].clone())?;
    let (d, skipped) = trees.read("padchest", json!({ "views": VIEWS }))?;
    let blacklisted = skipped.of("the image is blacklisted");
    let rows = d.rows() as u64;
    equal(&at("rows"), Some(rows), expected["rows"].as_u64())?;
    equal(&at("after null"), Some(rows + blacklisted), expected["after_null"].as_u64())?;
    equal(&at("after views"), Some(rows + blacklisted + blank), expected["after_views"].as_u64())?;
    // The published list has one name more than there are such rows; the digests below tell that no row is missed.
    let named = expected["missing_list"].as_u64();
    equal(&at("no more than are named"), named.is_some_and(|named| blacklisted <= named), true)?;
    check_labels("padchest all", &d, &expected["labels_all"])?;
    for split in ["train", "test"] {
        let part = d.split(split).map_err(|e| e.to_string())?;
        equal(&at(split), Some(part.rows() as u64), expected[split].as_u64())?;
        check_labels(&at(split), &part, &expected[format!("labels_{split}")])?;
        let ids = ids(&part)?;
        equal(&at("first"), json!(ids[..5]), expected[format!("first_{split}")].clone())?;
        let digest = sha256(&ids.join("\n"));
        equal(&at("digest"), Some(digest.as_str()), expected[format!("{split}_sha256")].as_str())?;
    }
    // The published split tears patients apart; the design counted them before the blacklist.
    let mut shared = Vec::new();
    for (blacklist, expected) in [("none", (10_963, 13_825)), ("published", (10_919, 13_808))] {
        let (d, _) = trees.read("padchest", json!({"views": VIEWS, "blacklist": blacklist}))?;
        shared = leakage::across_splits(&d).map_err(|e| e.to_string())?;
        equal(&at("shared patients"), (shared[0].patients, shared[0].right_patients), expected)?;
    }
    Ok(vec![format!("padchest_views_config: {rows} rows; {}", shared[0])])
}

fn check_set(what: &str, d: &Dataset, expected: &Value, counts: &Value) -> Result<(), String> {
    equal(&format!("{what}: rows"), Some(d.rows() as u64), expected["rows"].as_u64())?;
    equal(&format!("{what}: patients"), Some(patients(d) as u64), expected["patients"].as_u64())?;
    check_labels(what, d, counts)
}

fn check_labels(what: &str, d: &Dataset, expected: &Value) -> Result<(), String> {
    equal(what, labels::counts(d).len(), expected.as_object().map_or(0, |o| o.len()))?;
    for c in labels::counts(d) {
        let ours = json!({"pos": c.positives, "neg": c.negatives, "nan": c.unknowns});
        equal(&format!("{what}: {}", c.name), &ours, &expected[&c.name])?;
    }
    Ok(())
}

fn check_views(what: &str, d: &Dataset, expected: &Value) -> Result<(), String> {
    let mut views: BTreeMap<&str, u64> = BTreeMap::new();
    for view in d.text("view").into_iter().flat_map(|v| v.iter()).flatten() {
        *views.entry(view).or_default() += 1;
    }
    equal(&format!("{what}: views"), &json!(views), expected)
}
