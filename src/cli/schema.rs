//! `scaleshot schema`: the JSON Schema of pipelines, for editors.

use std::process::ExitCode;

use clap::Args;

use super::{Outcome, output::print};
use crate::{error::Error, kind::KINDS};

#[derive(Debug, Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Outcome {
    let text = serde_json::to_string_pretty(&crate::pipeline::schema(KINDS)).map_err(Error::from)?;
    print(&(text + "\n"));
    Ok(ExitCode::SUCCESS)
}
