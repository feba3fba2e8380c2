//! Chest phantoms: schematic X-rays with anatomy and drawn findings, in the native layouts of real sets.
//!
//! They let the whole program run, and be tested, on data that anyone may have: labels, blanks,
//! uncertainties and odd rows come as in the real tables, and a small network can learn the findings from
//! the images. They are no substitute for X-rays: nothing measured on them says anything about patients.
//!
//! A file's bytes are a function of the options alone, on every host and with any number of threads.

mod anatomy;
mod clutter;
mod cohort;
mod film;
mod finding;
mod frontal;
mod lateral;
mod layout;
mod shape;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    progress::{Cancel, Progress},
};

/// Whose folders and tables are imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// CheXpert-v1.0-small: `train.csv`, `valid.csv`, JPEG; frontal and lateral.
    Chexpert,
    /// MIMIC-CXR-JPG 2.0.0: split, metadata and label tables in gzip, JPEG; frontal and lateral.
    MimicCxr,
    /// NIH ChestX-ray14: one table, two lists, 8-bit PNG; frontal.
    Nih,
    /// PadChest: one table in gzip, 16-bit PNG; frontal and lateral.
    Padchest,
    /// Shenzhen and Montgomery: tuberculosis or not, said by the file's name; PA.
    Tuberculosis,
}

/// What to generate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    pub layout: Layout,
    /// Number of patients, each with one to four studies (one in `tuberculosis`).
    pub patients: u32,
    /// Another seed gives other patients; more patients of one seed begin with the same ones.
    #[serde(default)]
    pub seed: u64,
    /// Shorter side of the images in pixels, 16 to 2048.
    #[serde(default = "default_size_px")]
    pub size_px: u32,
    /// Whether the odd rows of the real tables are imitated: unknown sex, missing files, broken images.
    #[serde(default = "default_odd_rows")]
    pub odd_rows: bool,
}

impl Options {
    /// Whether such a cohort can be drawn.
    pub fn check(&self) -> Result<()> {
        if !(16..=2048).contains(&self.size_px) {
            return Err(Error::invalid(format!("size_px is {}, phantoms have 16 to 2048 px", self.size_px)));
        }
        if !(1..=99_999).contains(&self.patients) {
            return Err(Error::invalid(format!("patients is {}, a cohort has 1 to 99999", self.patients)));
        }
        Ok(())
    }
}

fn default_size_px() -> u32 {
    128
}

fn default_odd_rows() -> bool {
    true
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub patients: u64,
    pub images: u64,
    pub bytes: u64,
}

/// Writes the images and tables of one generated dataset into `root`.
pub fn write_tree(options: &Options, root: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<Summary> {
    options.check()?;
    std::fs::create_dir_all(root).map_err(Error::io(root))?;
    let job = layout::Job { options, root, progress, cancel };
    match options.layout {
        Layout::Chexpert => layout::chexpert::write(&job),
        Layout::MimicCxr => layout::mimic_cxr::write(&job),
        Layout::Nih => layout::nih::write(&job),
        Layout::Padchest => layout::padchest::write(&job),
        Layout::Tuberculosis => layout::tuberculosis::write(&job),
    }
}
