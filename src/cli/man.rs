//! `scaleshot man`: manual pages, one for the program and one a command.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory};

use super::{Outcome, Typed, output::complain};
use crate::error::Error;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder for the pages, made where it is missing: ~/.local/share/man/man1 is where `man` looks
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let folder = &arguments.folder;
    let command = Typed::command();
    let pages = 1 + command.get_subcommands().count();
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .map_err(Error::io(folder))?;
    complain(&format!("{pages} pages in {}\n", folder.display()));
    Ok(ExitCode::SUCCESS)
}
