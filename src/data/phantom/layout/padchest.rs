//! PadChest: `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz` and 16-bit PNGs in numbered
//! folders.
//!
//! Labels are Python lists of strings, some with a leading blank, and one column has line breaks inside
//! quotes. Odd rows: projections `COSTAL`, `EXCLUDE` and `UNK`, a blank birth year, blank and empty labels,
//! a row whose file is missing and one whose PNG ends early.

use super::{
    super::{
        Summary,
        cohort::{Encoding, Habits, Patient, View, for_each, save},
        finding::{Finding, Pathology},
    },
    Job, summary,
};
use crate::{error::Result, random::stream::Stream};

const HABITS: Habits = Habits { purpose: "padchest", follow_up: 0.35, ap: 0.2, lateral: 0.45, healthy: 0.4 };

pub const TABLE: &str = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz";

const HEADER: [&str; 36] = [
    "",
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "ViewPosition_DICOM",
    "Projection",
    "MethodProjection",
    "Pediatric",
    "Modality_DICOM",
    "Manufacturer_DICOM",
    "PhotometricInterpretation_DICOM",
    "PixelRepresentation_DICOM",
    "PixelAspectRatio_DICOM",
    "SpatialResolution_DICOM",
    "BitsStored_DICOM",
    "WindowCenter_DICOM",
    "WindowWidth_DICOM",
    "Rows_DICOM",
    "Columns_DICOM",
    "XRayTubeCurrent_DICOM",
    "Exposure_DICOM",
    "ExposureInuAs_DICOM",
    "ExposureTime",
    "RelativeXRayExposure_DICOM",
    "ReportID",
    "Report",
    "MethodLabel",
    "Labels",
    "Localizations",
    "LabelsLocalizationsBySentence",
    "labelCUIS",
    "LocalizationsCUIS",
];

/// PadChest's words for what is drawn, one of several where the set has several.
fn words(p: &Pathology, clerk: &mut Stream) -> Vec<String> {
    let mut out = Vec::new();
    for (finding, _) in &p.findings {
        let choice: &[&str] = match finding {
            Finding::Atelectasis => &["laminar atelectasis", "atelectasis", "atelectasis basal"],
            Finding::Cardiomegaly => &["cardiomegaly"],
            Finding::Consolidation => &["consolidation", "air bronchogram"],
            Finding::Edema => &["pulmonary edema"],
            Finding::Effusion => &["pleural effusion"],
            Finding::Emphysema => &["emphysema"],
            Finding::Fibrosis => &["pulmonary fibrosis"],
            Finding::Infiltration => &["infiltrates", "interstitial pattern", "alveolar pattern"],
            Finding::Mass => &["pulmonary mass", "mass"],
            Finding::Nodule => &["nodule", "multiple nodules"],
            Finding::PleuralThickening => &["pleural thickening", "apical pleural thickening"],
            Finding::Pneumonia => &["pneumonia"],
            Finding::Pneumothorax => &["pneumothorax"],
            Finding::SupportDevices => &["dual chamber device", "pacemaker", "single chamber device"],
            Finding::Tuberculosis => &["tuberculosis"],
        };
        out.push(choice[clerk.below(choice.len() as u64) as usize].to_string());
    }
    for (word, chance) in [("scoliosis", 0.06), ("aortic elongation", 0.06), ("COPD signs", 0.05), ("unchanged", 0.05)]
    {
        if clerk.chance(chance) {
            out.push(word.into());
        }
    }
    if out.is_empty() {
        out.push("normal".into());
    }
    out
}

/// A list as Python prints it.
fn python_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|i| format!("'{i}'")).collect();
    format!("[{}]", quoted.join(", "))
}

/// A long decimal number, as PadChest's identifiers are.
fn identifier(clerk: &mut Stream, first: u64) -> String {
    format!("{first}{:018}{:018}", clerk.below(1_000_000_000_000_000_000), clerk.below(1_000_000_000_000_000_000))
}

struct Row {
    fields: Vec<String>,
    bytes: u64,
}

fn patient_rows(job: &Job, patient: &Patient) -> Result<Vec<Row>> {
    let mut clerk = patient.clerk.clone();
    let clerk = &mut clerk;
    let patient_id = identifier(clerk, u64::from(patient.number));
    let first_year = 2010 + clerk.below(5) as u32;
    let mut rows = Vec::new();
    for study in &patient.studies {
        let study_id = identifier(clerk, u64::from(patient.number));
        let mut labels = words(&study.pathology, clerk);
        if labels.len() > 1 && clerk.chance(0.1) {
            labels[1].insert(0, ' ');
        }
        for film in &study.films {
            let image = format!("{study_id}_{:06x}.png", clerk.bits() & 0xFF_FFFF);
            let folder = (patient.number % 3).to_string();
            let (dicom_view, mut projection) = match film.view {
                View::Pa => ("POSTEROANTERIOR", "PA"),
                View::Ap if clerk.chance(0.6) => ("ANTEROPOSTERIOR", "AP_horizontal"),
                View::Ap => ("ANTEROPOSTERIOR", "AP"),
                View::Lateral => ("LATERAL", "L"),
            };
            for (kind, name) in [(0, "COSTAL"), (1, "EXCLUDE"), (2, "UNK")] {
                if job.odd(patient.number, kind) {
                    projection = name;
                }
            }
            let bytes = patient.encode(study, film, Encoding::Png16)?;
            match () {
                () if job.odd(patient.number, 3) => {}
                () if job.odd(patient.number, 4) => {
                    save(job.root, &format!("{folder}/{image}"), &bytes[..bytes.len() / 2])?
                }
                () => save(job.root, &format!("{folder}/{image}"), &bytes)?,
            }
            let said = match () {
                () if job.odd(patient.number, 5) => String::new(),
                () if job.odd(patient.number, 6) => "['']".into(),
                () => python_list(&labels),
            };
            let birth = first_year - patient.anatomy.age;
            let birth = if job.odd(patient.number, 7) { String::new() } else { format!("{birth}.0") };
            let day = study.day;
            let date = format!("{}{:02}{:02}", first_year + day / 360, day / 30 % 12 + 1, day % 28 + 1);
            let sex = if patient.anatomy.female { "F" } else { "M" };
            let (rows_px, columns_px) = (film.exposure.height.to_string(), film.exposure.width.to_string());
            let report_id = clerk.below(5_000_000).to_string();
            let fields = [
                "",
                &image,
                &folder,
                &date,
                &study_id,
                &patient_id,
                &birth,
                sex,
                dicom_view,
                projection,
                "Manual review of DICOM fields",
                "No",
                "CR",
                "PhilipsMedicalSystems",
                "MONOCHROME2",
                "0",
                "None",
                "None",
                "16",
                "32767",
                "65535",
                &rows_px,
                &columns_px,
                "320",
                "3",
                "3200",
                "10",
                "None",
                &report_id,
                " imag sintet .",
                "Physician",
                &said,
                "['loc basal', 'loc hilar']",
                &format!("[{}]", python_list(&labels)),
                "['C0024117' 'C1145640' 'C0231819']",
                "['C0205099' 'C0444532' 'C0230151' 'C3165182' 'C0205150' 'C1522601'\n 'C0025066']",
            ];
            rows.push(Row { fields: fields.map(String::from).to_vec(), bytes: bytes.len() as u64 });
        }
    }
    Ok(rows)
}

pub fn write(job: &Job) -> Result<Summary> {
    let options = job.options;
    let draw = |number| Patient::usual(options, &HABITS, number);
    let rows = for_each(options, job.progress, job.cancel, draw, |p| patient_rows(job, p))?;
    let sizes: Vec<u64> = rows.iter().map(|r| r.bytes).collect();
    let numbered = rows.into_iter().enumerate().map(|(i, mut row)| {
        row.fields[0] = i.to_string();
        row.fields
    });
    job.table(TABLE, &HEADER, numbered)?;
    Ok(summary(options, sizes))
}
