//! Generated datasets: written in a native layout, then read like any other.

use std::path::Path;

use serde_json::json;

use super::{Format, Generate};
use crate::{
    data::{
        fractal,
        phantom::{self, Layout},
    },
    error::Result,
    progress::{Cancel, Progress},
};

impl Generate for phantom::Options {
    fn generate(&self, root: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<Format> {
        phantom::write_tree(self, root, progress, cancel)?;
        let format = match self.layout {
            Layout::Chexpert => "chexpert",
            Layout::MimicCxr => "mimic_cxr",
            Layout::Nih => "nih",
            Layout::Padchest => "padchest",
            Layout::Tuberculosis => "tuberculosis",
        };
        // A set of one seed is a hospital of its own: its patients are not those of another seed.
        Ok(serde_json::from_value(
            json!({"format": format, "root": root, "name": format!("phantom-{format}-{}", self.seed)}),
        )?)
    }

    fn problems(&self) -> Vec<(String, String)> {
        self.check().err().map(|e| (String::new(), e.to_string())).into_iter().collect()
    }
}

impl Generate for fractal::Options {
    fn generate(&self, root: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<Format> {
        fractal::write_tree(self, root, progress, cancel)?;
        Ok(serde_json::from_value(json!({"format": "image_folder", "root": root, "name": "fractal"}))?)
    }

    fn problems(&self) -> Vec<(String, String)> {
        self.check().err().map(|e| (String::new(), e.to_string())).into_iter().collect()
    }
}
