//! What the CheXpert labeller would read in a report: present, absent, uncertain or not mentioned.
//!
//! Shared by CheXpert and MIMIC-CXR, whose label tables have the same words and the same blanks.

use super::super::finding::{Finding, Pathology};
use crate::random::stream::Stream;

use Finding::*;

/// Whether a study shows what a column means; `None` where the phantoms never draw it.
fn shown(column: &str, p: &Pathology) -> Option<(bool, f32)> {
    let any = |findings: &[Finding]| {
        let severity = findings.iter().filter_map(|f| p.severity(*f)).reduce(f32::max);
        Some((severity.is_some(), severity.unwrap_or(0.0)))
    };
    match column {
        "No Finding" => Some((p.healthy(), 1.0)),
        "Enlarged Cardiomediastinum" | "Cardiomegaly" => any(&[Cardiomegaly]),
        "Lung Opacity" => any(&[Atelectasis, Consolidation, Edema, Infiltration, Mass, Pneumonia]),
        "Lung Lesion" => any(&[Mass, Nodule]),
        "Edema" => any(&[Edema]),
        "Consolidation" => any(&[Consolidation]),
        "Pneumonia" => any(&[Pneumonia]),
        "Atelectasis" => any(&[Atelectasis]),
        "Pneumothorax" => any(&[Pneumothorax]),
        "Pleural Effusion" => any(&[Effusion]),
        "Pleural Other" => any(&[PleuralThickening]),
        "Support Devices" => any(&[SupportDevices]),
        _ => None,
    }
}

/// `1.0`, `0.0`, `-1.0` or blank for a column, as a report would leave it.
pub fn mention(column: &str, p: &Pathology, stream: &mut Stream) -> String {
    let (dice, hedge) = (stream.uniform(), stream.uniform());
    let Some((shown, severity)) = shown(column, p) else {
        return String::new();
    };
    let said = match (column, shown) {
        ("No Finding", true) => "1.0",
        ("No Finding", false) => "",
        ("Enlarged Cardiomediastinum", true) if dice < 0.6 => "",
        ("Pleural Other", false) => "",
        // Faint findings are hedged, clear ones are named, few are passed over.
        (_, true) if hedge < 0.45 - 0.5 * f64::from(severity) => "-1.0",
        (_, true) if dice < 0.04 => "",
        (_, true) => "1.0",
        (_, false) if dice < 0.015 => "-1.0",
        // What reports rule out by name.
        ("Pneumothorax" | "Pleural Effusion", false) if hedge < 0.55 => "0.0",
        (_, false) if hedge < 0.25 => "0.0",
        (_, false) => "",
    };
    said.to_string()
}

/// `1.0` or `0.0` for a column, as radiologists filled in the validation set.
pub fn verdict(column: &str, p: &Pathology) -> String {
    if matches!(shown(column, p), Some((true, _))) { "1.0" } else { "0.0" }.to_string()
}
