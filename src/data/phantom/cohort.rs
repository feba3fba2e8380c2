//! Patients, their studies and films: who is X-rayed, how often, from which side, and with what.
//!
//! Everything about a patient is a function of (seed, layout, patient number), so that patients can be
//! drawn in parallel, and a larger cohort begins with the smaller one's patients. Views, numbers of studies,
//! ages and exposures are drawn independently of the findings.

use std::path::Path;

use rayon::prelude::*;

use super::{
    Options,
    anatomy::Anatomy,
    clutter::Clutter,
    film::{Exposure, eight_bits, sixteen_bits},
    finding::Pathology,
    frontal::Frontal,
    lateral::Lateral,
};
use crate::{
    data::image::{ImageSize, Pixels, encode},
    error::{Error, Result},
    progress::{Cancel, Progress},
    random::stream::Stream,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Pa,
    Ap,
    Lateral,
}

pub struct Film {
    pub view: View,
    pub exposure: Exposure,
    clutter: Clutter,
    quality: u8,
    grain: Stream,
}

pub struct Study {
    pub pathology: Pathology,
    pub films: Vec<Film>,
    /// Days since the patient's first study.
    pub day: u32,
}

pub struct Patient {
    /// From 1.
    pub number: u32,
    pub anatomy: Anatomy,
    pub studies: Vec<Study>,
    /// For identifiers, dates and the like: nothing that is drawn of it depends on findings.
    pub clerk: Stream,
}

/// How an image file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Jpeg,
    Png,
    PngRgba,
    Png16,
}

/// What a cohort of some layout looks like.
pub struct Habits {
    /// Mixed into every draw, so that no two layouts share a patient.
    pub purpose: &'static str,
    /// Chances of a second, third and fourth study, each given the one before.
    pub follow_up: f64,
    /// Chance that a frontal film is AP.
    pub ap: f64,
    /// Chance of an additional lateral film.
    pub lateral: f64,
    /// Chance of a study without findings.
    pub healthy: f64,
}

impl Patient {
    /// `pathology` of a study; the stream is the study's own.
    pub fn draw(
        options: &Options,
        habits: &Habits,
        number: u32,
        mut pathology: impl FnMut(&mut Stream) -> Pathology,
    ) -> Self {
        let stream = |purpose: &str, study: u64| {
            Stream::new(options.seed, &format!("phantom {} {purpose}", habits.purpose), study, u64::from(number))
        };
        let anatomy = Anatomy::draw(&mut stream("anatomy", 0));
        let mut visits = stream("visits", 0);
        let mut studies = Vec::new();
        let mut day = 0;
        while studies.is_empty() || studies.len() < 4 && visits.chance(habits.follow_up) {
            let study = studies.len() as u64;
            let ap = visits.chance(habits.ap);
            let mut views = vec![if ap { View::Ap } else { View::Pa }];
            if visits.chance(habits.lateral) {
                views.push(View::Lateral);
            }
            let films = views
                .into_iter()
                .enumerate()
                .map(|(i, view)| {
                    let mut taken = stream("exposure", study * 8 + i as u64);
                    Film {
                        view,
                        exposure: Exposure::draw(&mut taken, options.size_px),
                        clutter: Clutter::draw(&mut taken),
                        quality: 82 + taken.below(14) as u8,
                        grain: stream("grain", study * 8 + i as u64),
                    }
                })
                .collect();
            studies.push(Study { pathology: pathology(&mut stream("findings", study)), films, day });
            day += 3 + visits.below(400) as u32;
        }
        Patient { number, anatomy, studies, clerk: stream("clerk", 0) }
    }

    /// A patient with findings at the usual prevalences; a heart once enlarged tends to stay so.
    pub fn usual(options: &Options, habits: &Habits, number: u32) -> Self {
        let enlarged = Stream::new(options.seed, "phantom chronic", 0, u64::from(number)).chance(0.12);
        Patient::draw(options, habits, number, |s| Pathology::draw(s, habits.healthy, enlarged))
    }

    /// Grey levels in [0, 1] of one film, row by row.
    pub fn render(&self, study: &Study, film: &Film) -> Vec<f32> {
        let (anatomy, pathology) = (&self.anatomy, &study.pathology);
        let mut grain = film.grain.clone();
        match film.view {
            View::Lateral => {
                let scene = Lateral::new(anatomy, pathology, &film.clutter);
                film.exposure.render(|x, y| scene.density(x, y), &mut grain)
            }
            view => {
                let scene = Frontal::new(anatomy, pathology, &film.clutter, view == View::Ap);
                film.exposure.render(|x, y| scene.density(x, y), &mut grain)
            }
        }
    }

    /// The encoded image of one film.
    pub fn encode(&self, study: &Study, film: &Film, encoding: Encoding) -> Result<Vec<u8>> {
        let levels = self.render(study, film);
        let Exposure { height, width, .. } = film.exposure;
        let grey = || Pixels { size: ImageSize { height, width, channels: 1 }, data: eight_bits(&levels) };
        match encoding {
            Encoding::Jpeg => encode::jpeg(&grey(), film.quality),
            Encoding::Png => encode::png(&grey()),
            Encoding::PngRgba => encode::png_rgba(&grey()),
            Encoding::Png16 => encode::png_grey16(height, width, &sixteen_bits(&levels)),
        }
    }
}

/// Draws every patient in parallel and gives `write`'s rows in patient order.
pub fn for_each<R: Send>(
    options: &Options,
    progress: &dyn Progress,
    cancel: &Cancel,
    draw: impl Fn(u32) -> Patient + Sync,
    write: impl Fn(&Patient) -> Result<Vec<R>> + Sync,
) -> Result<Vec<R>> {
    progress.begin(u64::from(options.patients), "patients");
    let rows = (1..=options.patients)
        .into_par_iter()
        .map(|number| {
            cancel.check()?;
            let rows = write(&draw(number));
            progress.advance(1);
            rows
        })
        .collect::<Result<Vec<Vec<R>>>>()?;
    Ok(rows.into_iter().flatten().collect())
}

/// Writes a file below `root`, making its folders.
pub fn save(root: &Path, relative: &str, bytes: &[u8]) -> Result<()> {
    let path = root.join(relative);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    std::fs::write(&path, bytes).map_err(Error::io(&path))
}
