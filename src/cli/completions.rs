//! `scaleshot completions`: what a shell needs to complete commands, options and their values.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Outcome, Typed, output::print};

/// What `--help` says of the command.
pub const ABOUT: &str = "\
Print what a shell needs to complete this program's commands and options.

  bash        scaleshot completions bash > ~/.local/share/bash-completion/completions/scaleshot
  zsh         scaleshot completions zsh > FOLDER/_scaleshot, FOLDER being one of $fpath
  fish        scaleshot completions fish > ~/.config/fish/completions/scaleshot.fish
  elvish      scaleshot completions elvish >> ~/.config/elvish/rc.elv
  powershell  scaleshot completions powershell >> $PROFILE";

#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(value_enum)]
    pub shell: Shell,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Typed::command(), "scaleshot", &mut text);
    print(&String::from_utf8_lossy(&text));
    Ok(ExitCode::SUCCESS)
}
