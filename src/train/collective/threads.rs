//! Ranks as threads of this process: for tests, and for `ranks` on one machine without MPI.
//!
//! One primitive: everybody lays a payload down and gets everybody's. A rank that ends before the others breaks the
//! group, and whoever waits hears which one and why.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::{Collective, sum_in_order};
use crate::error::{Error, Result};

/// What ranks exchange.
enum Payload {
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes(Vec<u8>),
}

/// Ranks of one training in one process.
struct Group {
    ranks: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Exchanges that were completed.
    rounds: u64,
    laid: Vec<Option<Arc<Payload>>>,
    /// Of the last completed exchange.
    whole: Vec<Arc<Payload>>,
    broken: Option<Broken>,
}

#[derive(Clone)]
struct Broken {
    rank: usize,
    why: String,
    interrupted: bool,
}

impl Broken {
    fn error(&self) -> Error {
        match self.interrupted {
            true => Error::Interrupted,
            false => Error::invalid(format!("rank {} ended: {}", self.rank, self.why)),
        }
    }
}

/// One rank of a group.
pub struct Member {
    rank: usize,
    group: Arc<Group>,
}

/// The members of a group of `ranks`, by rank.
pub fn group(ranks: usize) -> Vec<Member> {
    let state = State { laid: (0..ranks).map(|_| None).collect(), ..State::default() };
    let group = Arc::new(Group { ranks, state: Mutex::new(state), changed: Condvar::new() });
    (0..ranks).map(|rank| Member { rank, group: group.clone() }).collect()
}

impl Member {
    /// Tells all others that this rank makes no more calls. The first to say so counts.
    pub fn leave(&self, e: &Error) {
        let mut state = self.state();
        let interrupted = matches!(e, Error::Interrupted);
        state.broken.get_or_insert(Broken { rank: self.rank, why: e.to_string(), interrupted });
        self.group.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.group.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn exchange(&self, payload: Payload) -> Result<Vec<Arc<Payload>>> {
        let mut state = self.state();
        if let Some(broken) = &state.broken {
            return Err(broken.error());
        }
        state.laid[self.rank] = Some(Arc::new(payload));
        if state.laid.iter().all(Option::is_some) {
            state.whole = state.laid.iter_mut().filter_map(Option::take).collect();
            state.rounds += 1;
            self.group.changed.notify_all();
            return Ok(state.whole.clone());
        }
        let round = state.rounds;
        // Nobody can complete the next exchange before this rank has lain down for it, so `whole` stays.
        while state.rounds == round {
            if let Some(broken) = &state.broken {
                return Err(broken.error());
            }
            state = self.group.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        Ok(state.whole.clone())
    }

    fn out_of_step() -> Error {
        Error::invalid("bug: ranks are out of step: they exchange different things")
    }
}

impl Collective for Member {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.group.ranks
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        let all = self.exchange(Payload::F32(values.to_vec()))?;
        let parts: Option<Vec<&[f32]>> = all
            .iter()
            .map(|p| match &**p {
                Payload::F32(v) if v.len() == values.len() => Some(v.as_slice()),
                _ => None,
            })
            .collect();
        sum_in_order(&parts.ok_or_else(Self::out_of_step)?, values);
        Ok(())
    }

    fn all_reduce_f64(&self, values: &mut [f64]) -> Result<()> {
        let all = self.exchange(Payload::F64(values.to_vec()))?;
        let parts: Option<Vec<&[f64]>> = all
            .iter()
            .map(|p| match &**p {
                Payload::F64(v) if v.len() == values.len() => Some(v.as_slice()),
                _ => None,
            })
            .collect();
        sum_in_order(&parts.ok_or_else(Self::out_of_step)?, values);
        Ok(())
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let own = if self.rank == 0 { std::mem::take(bytes) } else { Vec::new() };
        let all = self.exchange(Payload::Bytes(own))?;
        match all.first().map(|p| &**p) {
            Some(Payload::Bytes(first)) => bytes.clone_from(first),
            _ => return Err(Self::out_of_step()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each rank of a group comes to.
    fn on_each<T: Send>(ranks: usize, work: impl Fn(&Member) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = group(ranks).into_iter().map(|m| scope.spawn(move || work(&m))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    #[test]
    fn sums_are_in_rank_order_and_the_same_everywhere() {
        // 1e8 + 1 is 1e8 in f32: another order would give another sum.
        let terms = [1e8f32, 1.0, -1e8, 1.0];
        let sums = on_each(4, |m| {
            let mut values = vec![terms[m.rank()], 2.0];
            for _ in 0..50 {
                m.all_reduce(&mut values).unwrap();
                values = vec![terms[m.rank()], values[1] / 4.0];
            }
            m.all_reduce(&mut values).unwrap();
            values
        });
        let expected = ((terms[0] + terms[1]) + terms[2]) + terms[3];
        assert!(sums.iter().all(|s| s == &[expected, 8.0]), "{sums:?}");
        let bytes = on_each(3, |m| {
            let mut bytes = vec![m.rank() as u8; m.rank() + 1];
            m.broadcast(&mut bytes).unwrap();
            m.barrier().unwrap();
            bytes
        });
        assert!(bytes.iter().all(|b| b == &[0]));
    }

    #[test]
    fn a_rank_that_ends_is_named_to_those_who_wait() {
        let told = on_each(3, |m| {
            if m.rank() == 1 {
                m.leave(&Error::invalid("a bad image"));
                return String::new();
            }
            m.all_reduce(&mut [1.0]).unwrap_err().to_string()
        });
        assert_eq!(told, ["rank 1 ended: a bad image", "", "rank 1 ended: a bad image"]);
        let stopped = on_each(2, |m| match m.rank() {
            0 => m.barrier().unwrap_err(),
            _ => {
                m.leave(&Error::Interrupted);
                Error::Interrupted
            }
        });
        assert!(matches!(stopped[0], Error::Interrupted));
    }
}
