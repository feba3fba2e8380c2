//! `scaleshot generate`: a generated dataset as a folder in its native layout, to look at or to share.
//!
//! Pipelines generate theirs as `dataset` nodes; this writes the same files outside of any store.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{Failure, Outcome, output::complain};
use crate::{
    data::format::{Format, Read, Skipped},
    pipeline::parse_value,
    progress::{Cancel, Silent},
    run::stop_on_signals,
};

#[derive(Debug, Args)]
pub struct Arguments {
    /// What a `dataset` node would say: {format: phantom, layout: nih, patients: 20, seed: 1}
    #[arg(value_name = "DATASET")]
    pub dataset: String,
    /// The folder to write, which must not exist
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let wrong = |message: String| {
        Failure::words(message, Some("for example {format: phantom, layout: nih, patients: 20, seed: 1}".into()))
    };
    let value = parse_value(&arguments.dataset).map_err(|e| wrong(format!("not a dataset: {e}")))?;
    let format: Format = serde_json::from_value(value).map_err(|e| wrong(format!("not a dataset: {e}")))?;
    let generator = format.generator().ok_or_else(|| wrong("this format is read, not generated".into()))?;
    if let Some((_, problem)) = generator.problems().into_iter().next() {
        return Err(wrong(problem));
    }
    if arguments.folder.exists() {
        return Err(Failure::words(format!("{} exists already", arguments.folder.display()), None));
    }
    let cancel = Cancel::default();
    stop_on_signals(&cancel)?;
    let native = generator.generate(&arguments.folder, &Silent, &cancel)?;
    let mut skipped = Skipped::default();
    let rows = native.read(&mut skipped)?.rows();
    complain(&format!("{}: {rows} images, {} odd rows\n", arguments.folder.display(), skipped.rows()));
    Ok(ExitCode::SUCCESS)
}
