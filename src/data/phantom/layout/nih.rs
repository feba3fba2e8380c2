//! NIH ChestX-ray14: `Data_Entry_2017_v2020.csv`, `train_val_list.txt`, `test_list.txt`, `images/*.png`.
//!
//! One film a study; one patient in five is in the test list. Odd rows: images with an alpha channel, as
//! 519 of the real ones have, and an impossible age, as the first release had.

use super::{
    super::{
        Summary,
        cohort::{Encoding, Habits, Patient, View, for_each, save},
        finding::Finding,
    },
    Job, summary,
};
use crate::error::Result;

const HABITS: Habits = Habits { purpose: "nih", follow_up: 0.5, ap: 0.4, lateral: 0.0, healthy: 0.5 };

const HEADER: [&str; 11] = [
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
    "OriginalImage[Width",
    "Height]",
    "OriginalImagePixelSpacing[x",
    "y]",
];

fn word(finding: Finding) -> Option<&'static str> {
    Some(match finding {
        Finding::Atelectasis => "Atelectasis",
        Finding::Cardiomegaly => "Cardiomegaly",
        Finding::Consolidation => "Consolidation",
        Finding::Edema => "Edema",
        Finding::Effusion => "Effusion",
        Finding::Emphysema => "Emphysema",
        Finding::Fibrosis => "Fibrosis",
        Finding::Infiltration => "Infiltration",
        Finding::Mass => "Mass",
        Finding::Nodule => "Nodule",
        Finding::PleuralThickening => "Pleural_Thickening",
        Finding::Pneumonia => "Pneumonia",
        Finding::Pneumothorax => "Pneumothorax",
        Finding::SupportDevices | Finding::Tuberculosis => return None,
    })
}

struct Row {
    test: bool,
    fields: Vec<String>,
    bytes: u64,
}

pub fn write(job: &Job) -> Result<Summary> {
    let options = job.options;
    let write = |patient: &Patient| {
        let mut clerk = patient.clerk.clone();
        let test = clerk.chance(0.2);
        let mut rows = Vec::new();
        for (i, study) in patient.studies.iter().enumerate() {
            for film in &study.films {
                let name = format!("{:08}_{i:03}.png", patient.number);
                let encoding = if job.odd(patient.number, 0) { Encoding::PngRgba } else { Encoding::Png };
                let bytes = patient.encode(study, film, encoding)?;
                save(job.root, &format!("images/{name}"), &bytes)?;
                let found: Vec<&str> = study.pathology.findings.iter().filter_map(|(f, _)| word(*f)).collect();
                let found = if found.is_empty() { "No Finding".into() } else { found.join("|") };
                let age = patient.anatomy.age + study.day / 365 + if job.odd(patient.number, 1) { 360 } else { 0 };
                let spacing = if film.view == View::Ap { "0.139" } else { "0.168" };
                let fields = vec![
                    name,
                    found,
                    i.to_string(),
                    patient.number.to_string(),
                    age.to_string(),
                    if patient.anatomy.female { "F" } else { "M" }.into(),
                    if film.view == View::Ap { "AP" } else { "PA" }.into(),
                    (film.exposure.width * 8).to_string(),
                    (film.exposure.height * 8).to_string(),
                    spacing.into(),
                    spacing.into(),
                ];
                rows.push(Row { test, fields, bytes: bytes.len() as u64 });
            }
        }
        Ok(rows)
    };
    let draw = |number| Patient::usual(options, &HABITS, number);
    let rows = for_each(options, job.progress, job.cancel, draw, write)?;
    job.table("Data_Entry_2017_v2020.csv", &HEADER, rows.iter().map(|r| r.fields.clone()))?;
    for (name, test) in [("train_val_list.txt", false), ("test_list.txt", true)] {
        job.list(name, rows.iter().filter(|r| r.test == test).map(|r| r.fields[0].clone()))?;
    }
    Ok(summary(options, rows.iter().map(|r| r.bytes)))
}
