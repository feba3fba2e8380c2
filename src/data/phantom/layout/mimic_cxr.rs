//! MIMIC-CXR-JPG 2.0.0: `files/p10/p10000032/s50414267/….jpg` and the split, metadata and label tables.
//!
//! Patients are split 80 : 8 : 12 into train, validate and test. Odd rows: a blank view position, a lateral
//! film named `LL`, and a study that the label tables do not have.

use super::{
    super::{
        Summary,
        cohort::{Encoding, Habits, Patient, View, for_each, save},
    },
    Job,
    report::mention,
    summary,
};
use crate::{error::Result, random::stream::Stream};

const HABITS: Habits = Habits { purpose: "mimic_cxr", follow_up: 0.5, ap: 0.6, lateral: 0.35, healthy: 0.33 };

const LABELS: [&str; 14] = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
];

const METADATA: [&str; 12] = [
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
];

#[derive(Default)]
struct Rows {
    split: Vec<Vec<String>>,
    metadata: Vec<Vec<String>>,
    chexpert: Vec<Vec<String>>,
    negbio: Vec<Vec<String>>,
    bytes: Vec<u64>,
}

/// Five groups of eight hex digits.
fn dicom_id(clerk: &mut Stream) -> String {
    let groups: Vec<String> = (0..5).map(|_| format!("{:08x}", clerk.bits() as u32)).collect();
    groups.join("-")
}

fn film_rows(job: &Job, patient: &Patient, subject: u64, rows: &mut Rows, clerk: &mut Stream) -> Result<()> {
    let split = match clerk.below(25) {
        0..20 => "train",
        20..22 => "validate",
        _ => "test",
    };
    let first_day = clerk.below(20_000);
    for (i, study) in patient.studies.iter().enumerate() {
        // Unique: patients have at most four studies.
        let study_id = 50_000_000 + (subject - 10_000_000) / 10 * 9 + i as u64;
        for film in &study.films {
            let dicom = dicom_id(clerk);
            let path = format!("files/p{}/p{subject}/s{study_id}/{dicom}.jpg", subject / 1_000_000);
            let bytes = patient.encode(study, film, Encoding::Jpeg)?;
            save(job.root, &path, &bytes)?;
            let (mut position, view, orientation) = match film.view {
                View::Pa => ("PA", "postero-anterior", "Erect"),
                View::Ap => ("AP", "antero-posterior", "Recumbent"),
                View::Lateral => ("LATERAL", "lateral", "Erect"),
            };
            if job.odd(patient.number, 0) {
                position = "";
            } else if film.view == View::Lateral && clerk.chance(0.4) {
                position = "LL";
            }
            let procedure = if film.view == View::Ap { "CHEST (PORTABLE AP)" } else { "CHEST (PA AND LAT)" };
            let day = first_day + u64::from(study.day);
            let date = format!("{}{:02}{:02}", 2110 + day / 360, day / 30 % 12 + 1, day % 30 % 28 + 1);
            let time =
                format!("{}{:02}{:02}.{:03}", clerk.below(24), clerk.below(60), clerk.below(60), clerk.below(1000));
            let ids = [dicom, subject.to_string(), study_id.to_string()];
            let [dicom, subject, study_id] = &ids;
            rows.split.push(vec![dicom.clone(), study_id.clone(), subject.clone(), split.into()]);
            let mut fields = ids.to_vec();
            fields.extend([procedure, position].map(String::from));
            fields.extend([film.exposure.height.to_string(), film.exposure.width.to_string(), date, time]);
            fields.extend([procedure, view, orientation].map(String::from));
            rows.metadata.push(fields);
            rows.bytes.push(bytes.len() as u64);
        }
        let labels: Vec<String> = LABELS.iter().map(|c| mention(c, &study.pathology, clerk)).collect();
        // The second labeller differs from the first in few places.
        let again: Vec<String> =
            labels.iter().map(|l| if l == "-1.0" && clerk.chance(0.2) { "1.0".into() } else { l.clone() }).collect();
        if !job.odd(patient.number, 1) {
            let ids = [subject.to_string(), study_id.to_string()];
            rows.chexpert.push(ids.iter().cloned().chain(labels).collect());
            rows.negbio.push(ids.into_iter().chain(again).collect());
        }
    }
    Ok(())
}

pub fn write(job: &Job) -> Result<Summary> {
    let options = job.options;
    let write = |patient: &Patient| {
        let mut clerk = patient.clerk.clone();
        // Spread over p10 … p19 in a fixed order that no two patients share.
        let number = u64::from(patient.number);
        let subject = 10_000_000 + (number % 10) * 1_000_000 + (number / 10) * 90 + clerk.below(9) * 10;
        let mut rows = Rows::default();
        film_rows(job, patient, subject, &mut rows, &mut clerk)?;
        Ok(vec![rows])
    };
    let draw = |number| Patient::usual(options, &HABITS, number);
    let mut all = for_each(options, job.progress, job.cancel, draw, write)?;
    let mut write = |name: &str, header: &[&str], take: &dyn Fn(&mut Rows) -> Vec<Vec<String>>| {
        let rows: Vec<Vec<String>> = all.iter_mut().flat_map(take).collect();
        job.table(&format!("mimic-cxr-2.0.0-{name}.csv.gz"), header, rows)
    };
    let labels: Vec<&str> = ["subject_id", "study_id"].into_iter().chain(LABELS).collect();
    write("split", &["dicom_id", "study_id", "subject_id", "split"], &|r| std::mem::take(&mut r.split))?;
    write("metadata", &METADATA, &|r| std::mem::take(&mut r.metadata))?;
    write("chexpert", &labels, &|r| std::mem::take(&mut r.chexpert))?;
    write("negbio", &labels, &|r| std::mem::take(&mut r.negbio))?;
    Ok(summary(options, all.iter().flat_map(|r| r.bytes.iter().copied())))
}
