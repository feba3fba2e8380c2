//! A program that is one rank of a cell: `mpirun -n 4 scaleshot-mpi KEY --store PLACE`.
//!
//! The library has no such program of its own, since it links to no MPI: `scaleshot-mpi` is this function and an
//! implementation of [`Collective`].

use std::process::ExitCode;

use clap::Parser;

use super::{output::complain, session::StoreArguments};
use crate::{digest::Digest, error::Result, run::run_rank, train::collective::Collective};

/// One rank of a cell's training. `scaleshot run --ranks-with` and `scaleshot cell --ranks-with` start it.
#[derive(Debug, Parser)]
#[command(version)]
struct Typed {
    /// Key of a saved task
    #[arg(value_name = "KEY")]
    key: Digest,
    #[command(flatten)]
    store: StoreArguments,
    /// Threads of this rank
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
}

/// Runs this process's rank. Exit code 1 where it failed: all other ranks have to be ended then.
pub fn main(start: impl FnOnce() -> Result<Box<dyn Collective>>) -> ExitCode {
    let typed = Typed::parse();
    let mut rank = None;
    let done = start().and_then(|collective| {
        rank = Some(collective.rank());
        let store = typed.store.open_existing().map_err(|e| crate::error::Error::invalid(e.text()))?;
        run_rank(&store, &typed.key, typed.threads as usize, &*collective)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let who = rank.map_or("a rank without MPI".into(), |rank| format!("rank {rank}"));
            complain(&format!("error: {who}: {e}\n"));
            ExitCode::FAILURE
        }
    }
}
