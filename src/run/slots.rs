//! Slots: what cells may take of this machine at one time.
//!
//! Results do not depend on the share that a cell gets, only their time does.

use crate::kind::Resources;

/// Threads and memory that a running cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub threads: usize,
    pub memory_bytes: u64,
}

/// What is free.
#[derive(Debug)]
pub struct Slots {
    threads: usize,
    free_threads: usize,
    memory_bytes: u64,
    free_memory_bytes: u64,
    jobs: usize,
    running: usize,
}

impl Slots {
    /// `jobs` limits the cells at one time, 0 for no limit.
    pub fn new(threads: usize, memory_bytes: u64, jobs: usize) -> Self {
        let threads = threads.max(1);
        Slots { threads, free_threads: threads, memory_bytes, free_memory_bytes: memory_bytes, jobs, running: 0 }
    }

    /// Nothing can start, whatever it needs.
    pub fn full(&self) -> bool {
        self.free_threads == 0 || (self.jobs > 0 && self.running >= self.jobs)
    }

    /// A share for a cell, if it fits now. `waiting` cells, this one among them, could start now, so a cell that
    /// can use many threads gets its part of the free ones: many cells side by side lose less to waiting for
    /// each other than one cell on many threads does.
    ///
    /// A cell that needs more memory than there is runs alone.
    pub fn take(&mut self, need: Resources, waiting: usize) -> Option<Share> {
        if self.full() {
            return None;
        }
        let memory_bytes = need.memory_bytes.min(self.memory_bytes);
        if memory_bytes > self.free_memory_bytes {
            return None;
        }
        let side_by_side = if self.jobs > 0 { waiting.min(self.jobs - self.running) } else { waiting }.max(1);
        let want = if need.threads == 0 { self.threads } else { need.threads };
        let threads = want.min(self.free_threads.div_ceil(side_by_side)).max(1);
        self.free_threads -= threads;
        self.free_memory_bytes -= memory_bytes;
        self.running += 1;
        Some(Share { threads, memory_bytes })
    }

    pub fn give_back(&mut self, share: Share) {
        self.free_threads += share.threads;
        self.free_memory_bytes += share.memory_bytes;
        self.running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(threads: usize, memory_bytes: u64) -> Resources {
        Resources { threads, memory_bytes }
    }

    #[test]
    fn threads_are_shared_by_those_who_wait_and_never_oversubscribed() {
        let mut slots = Slots::new(8, 100, 0);
        assert_eq!(slots.take(need(0, 0), 1).unwrap().threads, 8);
        assert_eq!(slots.take(need(1, 0), 1), None);
        slots.give_back(Share { threads: 8, memory_bytes: 0 });
        let shares: Vec<usize> = [3, 2, 1].iter().map(|&w| slots.take(need(0, 0), w).unwrap().threads).collect();
        assert_eq!(shares, [3, 3, 2]);
        assert_eq!(slots.take(need(1, 0), 1), None);
    }

    #[test]
    fn memory_bounds_what_runs_side_by_side_but_nothing_waits_for_ever() {
        let mut slots = Slots::new(4, 100, 0);
        let big = slots.take(need(1, 70), 2).unwrap();
        assert_eq!(slots.take(need(1, 70), 1), None);
        assert!(slots.take(need(1, 30), 1).is_some());
        slots.give_back(Share { threads: 1, memory_bytes: 30 });
        slots.give_back(big);
        let huge = slots.take(need(1, 1000), 1).unwrap();
        assert_eq!(huge.memory_bytes, 100);
        assert_eq!(slots.take(need(1, 1), 1), None);
    }

    #[test]
    fn jobs_limit_the_cells_at_one_time() {
        let mut slots = Slots::new(4, 0, 1);
        assert_eq!(slots.take(need(0, 0), 9).unwrap().threads, 4);
        assert_eq!(slots.take(need(1, 0), 9), None);
        assert!(slots.full());
    }
}
