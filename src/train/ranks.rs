//! A training on several ranks of this process: each has a copy of the network, a share of the threads and, where the
//! training has several, a GPU.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    Session,
    collective::{Collective, placed::Placed, threads},
    fit::{Fit, fit_rank},
    spec::FitSpec,
};
use crate::{
    data::loader::Examples,
    error::{Error, Result},
    model::bit::Bit,
    progress::Silent,
    thread,
};

/// Trains `model` as rank 0 of `ranks` threads; the others train copies of it, which end as it does.
///
/// # Errors
/// Those of the first rank that ended, with its number where it is not 0.
pub fn in_threads(
    ranks: usize,
    model: &mut Bit,
    train: &Examples,
    valid: Option<&Examples>,
    spec: &FitSpec,
    session: &Session,
) -> Result<Fit> {
    let threads = (rayon::current_num_threads() / ranks).max(1);
    let mut copies = Vec::with_capacity(ranks - 1);
    for rank in 1..ranks {
        copies.push(copy(model, rank)?);
    }
    let machines: Vec<String> = (0..ranks).filter_map(|rank| Some(model.machine_of(rank)?.name())).collect();
    // Ranks that share a machine cannot meet on it.
    let apart = machines.iter().collect::<BTreeSet<_>>().len() == ranks;
    let models = std::iter::once(model).chain(copies.iter_mut());
    let ends: Vec<Result<Fit>> = std::thread::scope(|scope| {
        let ranks: Vec<_> = threads::group(ranks)
            .into_iter()
            .zip(models)
            .map(|(member, model)| {
                scope.spawn(move || {
                    let first = member.rank() == 0;
                    let session = Session {
                        collective: &member,
                        progress: if first { session.progress } else { &Silent },
                        checkpoint: session.checkpoint.filter(|_| first),
                        ..*session
                    };
                    let work = || {
                        let linked = match model.machine().filter(|_| apart) {
                            Some(machine) => Placed::link(&member, &**machine)?,
                            None => None,
                        };
                        let session = match &linked {
                            Some(placed) => Session { collective: placed, ..session },
                            None => session,
                        };
                        if apart && linked.is_none() {
                            session.progress.log("gradients travel by way of the host: there is no NCCL");
                        }
                        let pool = rayon::ThreadPoolBuilder::new()
                            .num_threads(threads)
                            .thread_name(move |i| format!("rank-{i}"))
                            .build()
                            .map_err(|e| Error::invalid(format!("cannot start {threads} threads: {e}")))?;
                        let end = pool.install(|| fit_rank(model, train, valid, spec, &session));
                        thread::count(pool.broadcast(|_| thread::cpu()).into_iter().flatten().sum());
                        end
                    };
                    let panicked = |_| Err(Error::invalid("bug: it panicked; its message stands above"));
                    let end = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked);
                    // Whoever still waits for this rank hears of it.
                    member.leave(end.as_ref().err().unwrap_or(&Error::invalid("it was done before the others")));
                    (end, thread::cpu().unwrap_or_default())
                })
            })
            .collect();
        let joined = ranks.into_iter().map(|rank| match rank.join() {
            Ok((end, took)) => {
                thread::count(took);
                end
            }
            Err(_) => Err(Error::invalid("bug: a rank's thread panicked")),
        });
        joined.collect()
    });
    let mut ends = ends.into_iter();
    let first = ends.next().unwrap_or_else(|| Err(Error::invalid("bug: no ranks")))?;
    for end in ends {
        end?;
    }
    Ok(first)
}

/// A network with the same weights, on the machine of its rank.
fn copy(model: &Bit, rank: usize) -> Result<Bit> {
    let mut copy = Bit::new(model.config().clone(), 0);
    for (to, from) in copy.parameters_mut().iter_mut().zip(model.parameters()) {
        to.data.copy_from_slice(&from.data);
    }
    copy.place(model.machine_of(rank).cloned())?;
    Ok(copy)
}
