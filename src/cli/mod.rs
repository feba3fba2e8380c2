//! The command line: one file a command. What was typed is a command's `Arguments`; what it means is a
//! [`session::Session`] and the options of the rooms below.
//!
//! Data goes to stdout, messages to stderr. Exit codes: 0 done, 1 a node failed or the store is damaged,
//! 2 the command or the pipeline is invalid, 130 interrupted; `cell` adds 3 and 75. No command is computed here.

mod accept;
mod cell;
mod completions;
mod diff;
mod doctor;
mod exchange;
mod executor;
mod fetch;
mod freeze;
mod gc;
mod generate;
mod graph;
mod inspect;
mod layout;
mod ls;
mod man;
mod output;
mod plan;
pub mod rank;
mod run;
mod schema;
mod session;
mod show;
mod sql;
mod verify;
mod watch;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::output::{Colour, complain};
use crate::{error::Error, kind, pipeline::Diagnostics};

/// Studies of how the scale of pre-training carries over to new image tasks.
#[derive(Debug, Parser)]
#[command(name = "scaleshot", version, propagate_version = true, disable_help_subcommand = true)]
struct Typed {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compute what is not there yet
    Run(run::Arguments),
    /// Compute one cell of a saved plan, as a job of a queue or of any launcher
    Cell(cell::Arguments),
    /// Show what `run` would do, and why
    Plan(plan::Arguments),
    /// Explain one cell: its key, what it is made of, what changed
    #[command(long_about = why::ABOUT)]
    Why(why::Arguments),
    /// Draw the nodes or cells of a pipeline
    Graph(graph::Arguments),
    /// Follow a run of another process
    #[command(long_about = watch::ABOUT)]
    Watch(watch::Arguments),
    /// List finished cells of a store
    Ls(ls::Arguments),
    /// Show a finished cell: record, notes, tables, log
    Show(show::Arguments),
    /// Compare two runs, or two cells: parameters, inputs, metrics
    Diff(diff::Arguments),
    /// Read every file of a store and compare it with its digest
    #[command(long_about = verify::ABOUT)]
    Verify(verify::Arguments),
    /// Take out of a store what nobody needs any more
    #[command(long_about = gc::ABOUT)]
    Gc(gc::Arguments),
    /// Take a result as current that was not computed from the cell's inputs
    #[command(long_about = accept::ABOUT)]
    Accept(accept::Arguments),
    /// Let cells stay as they are, although their inputs, parameters or version change
    #[command(long_about = freeze::ABOUT)]
    Freeze(freeze::Arguments),
    /// Let frozen cells follow their inputs again
    #[command(long_about = freeze::THAW_ABOUT)]
    Thaw(freeze::ThawArguments),
    /// Copy finished cells of this store into another one
    #[command(long_about = exchange::EXPORT_ABOUT)]
    Export(exchange::ExportArguments),
    /// Copy finished cells of another store into this one
    #[command(long_about = exchange::IMPORT_ABOUT)]
    Import(exchange::ImportArguments),
    /// Print the JSON Schema of pipelines, for editors
    Schema(schema::Arguments),
    /// Tell what this machine and this store can do
    Doctor(doctor::Arguments),
    /// Write a generated dataset to a folder, in its native layout
    Generate(generate::Arguments),
    /// Download a public dataset, or tell how to obtain one
    Fetch(fetch::Arguments),
    /// Tell which format a folder or file looks like, and what is missing
    Inspect(inspect::Arguments),
    /// Print what a shell needs to complete this program's commands and options
    #[command(long_about = completions::ABOUT, verbatim_doc_comment)]
    Completions(completions::Arguments),
    /// Write the manual pages
    Man(man::Arguments),
}

/// Why a command ends without its result.
pub enum Failure {
    /// The pipeline file.
    Pipeline(Diagnostics),
    /// The words of the command: (message, hint).
    Words(Vec<(String, Option<String>)>),
    Error(Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Error(e)
    }
}

impl From<Diagnostics> for Failure {
    fn from(d: Diagnostics) -> Self {
        Failure::Pipeline(d)
    }
}

impl Failure {
    fn words(message: impl Into<String>, hint: Option<String>) -> Self {
        Failure::Words(vec![(message.into(), hint)])
    }

    /// In one line.
    fn text(&self) -> String {
        match self {
            Failure::Pipeline(d) => d.to_string(),
            Failure::Words(wrong) => wrong.iter().map(|(message, _)| message.as_str()).collect::<Vec<_>>().join("; "),
            Failure::Error(e) => e.to_string(),
        }
    }

    fn report(&self) -> ExitCode {
        let colour = Colour::stderr();
        match self {
            Failure::Pipeline(d) => {
                complain(&colour.diagnostics(&d.to_string()));
                ExitCode::from(2)
            }
            Failure::Words(wrong) => {
                for (message, hint) in wrong {
                    complain(&colour.error(message, hint.as_deref()));
                }
                ExitCode::from(2)
            }
            Failure::Error(e) => {
                complain(&colour.error(&e.to_string(), e.hint()));
                ExitCode::from(if matches!(e, Error::Interrupted) { 130 } else { 1 })
            }
        }
    }
}

pub type Outcome = Result<ExitCode, Failure>;

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    // Nobody types it, so neither help nor completion tells of it.
    if std::env::args_os().nth(1).is_some_and(|word| word == kind::sql::COMMAND) {
        return sql::run().unwrap_or_else(|failure| failure.report());
    }
    let typed = match Typed::try_parse() {
        Ok(typed) => typed,
        Err(e) => {
            // Help and versions are data; mistakes are messages. A closed pipe is neither.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    kind::sql::answers_itself();
    let outcome = match &typed.command {
        Command::Run(a) => run::run(a),
        Command::Cell(a) => cell::run(a),
        Command::Plan(a) => plan::run(a),
        Command::Why(a) => why::run(a),
        Command::Graph(a) => graph::run(a),
        Command::Ls(a) => ls::run(a),
        Command::Show(a) => show::run(a),
        Command::Diff(a) => diff::run(a),
        Command::Verify(a) => verify::run(a),
        Command::Gc(a) => gc::run(a),
        Command::Accept(a) => accept::run(a),
        Command::Freeze(a) => freeze::run(a),
        Command::Thaw(a) => freeze::thaw(a),
        Command::Export(a) => exchange::export(a),
        Command::Import(a) => exchange::import(a),
        Command::Schema(a) => schema::run(a),
        Command::Doctor(a) => doctor::run(a),
        Command::Generate(a) => generate::run(a),
        Command::Fetch(a) => fetch::run(a),
        Command::Inspect(a) => inspect::run(a),
        Command::Watch(a) => watch::run(a),
        Command::Completions(a) => completions::run(a),
        Command::Man(a) => man::run(a),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Typed::command().debug_assert();
    }

    #[test]
    fn what_is_typed_is_read() {
        let typed = Typed::try_parse_from([
            "scaleshot",
            "run",
            "x.yaml",
            "transfer[shots=5]",
            "-p",
            "lr=0.1",
            "-p",
            "a.b=[1, 2]",
            "--store",
            "s",
            "--jobs",
            "2",
            "--keep-going",
            "--json",
        ]);
        let Ok(Typed { command: Command::Run(run) }) = typed else { panic!("{typed:?}") };
        assert_eq!(run.cells, ["transfer[shots=5]"]);
        assert_eq!(run.pipeline.params, [("lr".to_string(), "0.1".to_string()), ("a.b".into(), "[1, 2]".into())]);
        for wrong in [&["scaleshot", "run"][..], &["scaleshot", "run", "x", "-p", "lr"], &["scaleshot", "fly"]] {
            assert_eq!(Typed::try_parse_from(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }
}
