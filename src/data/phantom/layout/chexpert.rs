//! CheXpert-v1.0-small: `train.csv`, `valid.csv`, `train/patientNNNNN/studyN/viewN_frontal.jpg`.
//!
//! The last eighth of the patients makes the validation set, whose labels have no blanks. Odd rows: an
//! unknown sex with age 0, and a frontal film whose AP/PA column says `LL`.

use super::{
    super::{
        Summary,
        cohort::{Encoding, Habits, Patient, View, for_each, save},
    },
    Job,
    report::{mention, verdict},
    summary,
};
use crate::error::Result;

const HABITS: Habits = Habits { purpose: "chexpert", follow_up: 0.42, ap: 0.7, lateral: 0.25, healthy: 0.25 };

/// Columns as in the published tables.
const HEADER: [&str; 19] = [
    "Path",
    "Sex",
    "Age",
    "Frontal/Lateral",
    "AP/PA",
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
];

struct Row {
    valid: bool,
    fields: Vec<String>,
    bytes: u64,
}

pub fn write(job: &Job) -> Result<Summary> {
    let options = job.options;
    let first_valid = options.patients - options.patients / 8 + 1;
    let write = |patient: &Patient| {
        let mut rows = Vec::new();
        let mut clerk = patient.clerk.clone();
        let valid = patient.number >= first_valid;
        let set = if valid { "valid" } else { "train" };
        for (i, study) in patient.studies.iter().enumerate() {
            let mut label = |column: &&str| {
                let said = mention(column, &study.pathology, &mut clerk);
                if valid { verdict(column, &study.pathology) } else { said }
            };
            let labels: Vec<String> = HEADER[5..].iter().map(&mut label).collect();
            for (j, film) in study.films.iter().enumerate() {
                let (face, mut position) = match film.view {
                    View::Pa => ("Frontal", "PA"),
                    View::Ap => ("Frontal", "AP"),
                    View::Lateral => ("Lateral", ""),
                };
                let path = format!(
                    "{set}/patient{:05}/study{}/view{}_{}.jpg",
                    patient.number,
                    i + 1,
                    j + 1,
                    face.to_lowercase()
                );
                let bytes = patient.encode(study, film, Encoding::Jpeg)?;
                save(job.root, &path, &bytes)?;
                let mut sex = if patient.anatomy.female { "Female" } else { "Male" };
                let mut age = patient.anatomy.age + study.day / 365;
                if job.odd(patient.number, 0) {
                    (sex, age) = ("Unknown", 0);
                }
                if job.odd(patient.number, 1) && face == "Frontal" {
                    position = "LL";
                }
                let mut fields = vec![
                    format!("CheXpert-v1.0-small/{path}"),
                    sex.into(),
                    age.to_string(),
                    face.into(),
                    position.into(),
                ];
                fields.extend(labels.iter().cloned());
                rows.push(Row { valid, fields, bytes: bytes.len() as u64 });
            }
        }
        Ok(rows)
    };
    let draw = |number| Patient::usual(options, &HABITS, number);
    let rows = for_each(options, job.progress, job.cancel, draw, write)?;
    for (name, valid) in [("train.csv", false), ("valid.csv", true)] {
        job.table(name, &HEADER, rows.iter().filter(|r| r.valid == valid).map(|r| r.fields.clone()))?;
    }
    Ok(summary(options, rows.iter().map(|r| r.bytes)))
}
