//! The findings of the CheXpert labeler (Irvin et al. 2019) as CheXpert and MIMIC-CXR write them:
//! 1 present, 0 absent, -1 uncertain, blank not mentioned.
//!
//! `No Finding` is no finding: where it is 1, the published study makes every finding absent, whatever
//! else is written.

use super::{
    rows::Observation,
    table::{Row, Table},
};
use crate::error::Result;

/// Column in the table, and the name that all X-ray sets share, in the published order.
pub(super) const FINDINGS: [(&str, &str); 13] = [
    ("Atelectasis", "Atelectasis"),
    ("Cardiomegaly", "Cardiomegaly"),
    ("Consolidation", "Consolidation"),
    ("Edema", "Edema"),
    ("Enlarged Cardiomediastinum", "Enlarged Cardiomediastinum"),
    ("Fracture", "Fracture"),
    ("Lung Lesion", "Lung Lesion"),
    ("Lung Opacity", "Lung Opacity"),
    ("Pleural Effusion", "Effusion"),
    ("Pleural Other", "Pleural Other"),
    ("Pneumonia", "Pneumonia"),
    ("Pneumothorax", "Pneumothorax"),
    ("Support Devices", "Support Devices"),
];

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FINDINGS.iter().map(|(_, name)| *name)
}

/// Where the findings stand in one table.
pub(super) struct Labels {
    no_finding: usize,
    findings: Vec<usize>,
}

impl Labels {
    pub(super) fn locate(table: &Table) -> Result<Self> {
        let mut columns = vec!["No Finding"];
        columns.extend(FINDINGS.iter().map(|(column, _)| *column));
        let found = table.list(&columns)?;
        Ok(Labels { no_finding: found[0], findings: found[1..].to_vec() })
    }

    /// Whether nothing was found, and the findings; `Err` names the column and the value out of range.
    pub(super) fn read(&self, row: &Row, healthy_rule: bool) -> Result<(bool, [Observation; FINDINGS.len()]), String> {
        let seen = |at: usize, column: &str| -> Result<Observation, String> {
            // Nearly all that there is.
            match row.raw(at).as_bytes() {
                b"" => Ok(Observation::Unknown),
                b"1.0" => Ok(Observation::Present),
                b"0.0" => Ok(Observation::Absent),
                _ => observation(row.text(at)).map_err(|v| format!("{column} is {v}")),
            }
        };
        let healthy = seen(self.no_finding, "No Finding")? == Observation::Present;
        let mut findings = [Observation::Absent; FINDINGS.len()];
        for ((finding, &at), (column, _)) in findings.iter_mut().zip(&self.findings).zip(FINDINGS) {
            let seen = seen(at, column)?;
            if !(healthy && healthy_rule) {
                *finding = seen;
            }
        }
        Ok((healthy, findings))
    }
}

/// 1, 0, -1 or blank; anything else comes back as the error.
pub(super) fn observation(text: Option<&str>) -> Result<Observation, String> {
    match text {
        None => Ok(Observation::Unknown),
        Some("1.0" | "1") => Ok(Observation::Present),
        Some("0.0" | "0") => Ok(Observation::Absent),
        Some("-1.0" | "-1") => Ok(Observation::Uncertain),
        Some(other) => Err(other.into()),
    }
}

/// What is said of a row whose label is none of these.
pub(super) const OUT_OF_RANGE: &str = "a label is not 1, 0, -1 or blank";
