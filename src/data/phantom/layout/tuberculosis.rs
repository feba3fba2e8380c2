//! Shenzhen and Montgomery: `ChinaSet_AllFiles/ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png` and
//! `Montgomery/MontgomerySet/CXR_png/MCUCXR_0001_0.png`, where the last digit is 1 for tuberculosis.
//!
//! Half of each set is ill. In the real Shenzhen set the first 326 numbers are healthy; here numbers are
//! shuffled, and neither size, shape, mean grey level nor any table says who is ill. No clinical readings are
//! written: the real ones spell out the label.

use super::{
    super::{
        Summary,
        cohort::{Encoding, Habits, Patient, for_each, save},
        finding::Pathology,
    },
    Job, summary,
};
use crate::{error::Result, random::stream::Stream};

const HABITS: Habits = Habits { purpose: "tuberculosis", follow_up: 0.0, ap: 0.0, lateral: 0.0, healthy: 0.5 };

pub fn write(job: &Job) -> Result<Summary> {
    let options = job.options;
    // Pairs of one ill and one healthy patient in random order: balanced, whatever the number of patients.
    let ill = |number: u32| {
        let pair = u64::from((number - 1) / 2);
        let first = Stream::new(options.seed, "phantom tuberculosis label", 0, pair).chance(0.5);
        first == (number % 2 == 1)
    };
    // One patient in six is of the smaller, second set.
    let shenzhen = options.patients - options.patients / 6;
    let write = |patient: &Patient| {
        let label = u8::from(ill(patient.number));
        let path = if patient.number <= shenzhen {
            format!("ChinaSet_AllFiles/ChinaSet_AllFiles/CXR_png/CHNCXR_{:04}_{label}.png", patient.number)
        } else {
            format!("Montgomery/MontgomerySet/CXR_png/MCUCXR_{:04}_{label}.png", patient.number - shenzhen)
        };
        let mut sizes = Vec::new();
        for study in &patient.studies {
            for film in &study.films {
                let bytes = patient.encode(study, film, Encoding::Png)?;
                save(job.root, &path, &bytes)?;
                sizes.push(bytes.len() as u64);
            }
        }
        Ok(sizes)
    };
    let draw = |number| Patient::draw(options, &HABITS, number, |s| Pathology::tuberculosis(s, ill(number)));
    Ok(summary(options, for_each(options, job.progress, job.cancel, draw, write)?))
}
