//! One rank of a cell under MPI: `mpirun -n 4 scaleshot-mpi KEY --store PLACE`, as `scaleshot --ranks-with` starts it.

mod world;

use std::process::ExitCode;

use scaleshot::{cli, error::Error};

fn main() -> ExitCode {
    // Dropped last: MPI is finalised once all ranks have come to their end.
    let Some((universe, threading)) = world::start() else {
        eprintln!("error: MPI cannot be started");
        return ExitCode::FAILURE;
    };
    let ended = cli::rank::main(|| match threading {
        true => Ok(Box::new(world::World::new())),
        false => Err(Error::invalid("this MPI was built without MPI_THREAD_SERIALIZED")
            .with_hint("gradients travel on a thread of their own")),
    });
    if ended == ExitCode::FAILURE {
        // The others wait for this rank; only the launcher can end them.
        world::abort();
    }
    drop(universe);
    ended
}
