//! Slots: what cells may take of this machine at one time.
//!
//! Results do not depend on the share that a cell gets, only their time does.

/// What a cell needs at least, or can use at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Threads it can use; 0 is all.
    pub threads: usize,
    pub memory_bytes: u64,
    /// Held whole, never shared.
    pub gpus: u32,
}

/// What a running cell holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub threads: usize,
    pub memory_bytes: u64,
    /// Numbers of its GPUs.
    pub gpus: Vec<u32>,
}

/// What all cells together may take.
#[derive(Clone, Debug)]
pub struct Room {
    pub threads: usize,
    pub memory_bytes: u64,
    /// Numbers of the GPUs.
    pub gpus: Vec<u32>,
    /// Cells at one time, 0 for no limit.
    pub jobs: usize,
}

/// What is free.
#[derive(Debug)]
pub struct Slots {
    room: Room,
    free_threads: usize,
    free_memory_bytes: u64,
    free_gpus: Vec<u32>,
    running: usize,
}

impl Slots {
    pub fn new(room: Room) -> Self {
        let room = Room { threads: room.threads.max(1), ..room };
        let (free_threads, free_memory_bytes, free_gpus) = (room.threads, room.memory_bytes, room.gpus.clone());
        Slots { room, free_threads, free_memory_bytes, free_gpus, running: 0 }
    }

    /// Nothing can start, whatever it needs.
    pub fn full(&self) -> bool {
        self.free_threads == 0 || (self.room.jobs > 0 && self.running >= self.room.jobs)
    }

    /// A share for a cell, if it fits now. `waiting` cells, this one among them, could start now, so a cell that
    /// can use many threads gets its part of the free ones: many cells side by side lose less to waiting for
    /// each other than one cell on many threads does.
    ///
    /// A cell that needs more memory than there is runs alone. One that needs more GPUs than there are never
    /// fits, and is refused before a run begins.
    pub fn take(&mut self, need: Need, waiting: usize) -> Option<Share> {
        if self.full() || need.gpus as usize > self.free_gpus.len() {
            return None;
        }
        let memory_bytes = need.memory_bytes.min(self.room.memory_bytes);
        if memory_bytes > self.free_memory_bytes {
            return None;
        }
        let jobs = self.room.jobs;
        let side_by_side = if jobs > 0 { waiting.min(jobs - self.running) } else { waiting }.max(1);
        let want = if need.threads == 0 { self.room.threads } else { need.threads };
        let threads = want.min(self.free_threads.div_ceil(side_by_side)).max(1);
        self.free_threads -= threads;
        self.free_memory_bytes -= memory_bytes;
        self.running += 1;
        let gpus = self.free_gpus.drain(..need.gpus as usize).collect();
        Some(Share { threads, memory_bytes, gpus })
    }

    pub fn give_back(&mut self, share: Share) {
        self.free_threads += share.threads;
        self.free_memory_bytes += share.memory_bytes;
        self.free_gpus.extend(share.gpus);
        self.free_gpus.sort_unstable();
        self.running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn need(threads: usize, memory_bytes: u64) -> Need {
        Need { threads, memory_bytes, gpus: 0 }
    }

    fn slots(threads: usize, memory_bytes: u64, gpus: u32, jobs: usize) -> Slots {
        Slots::new(Room { threads, memory_bytes, gpus: (0..gpus).collect(), jobs })
    }

    #[test]
    fn threads_are_shared_by_those_who_wait_and_never_oversubscribed() {
        let mut slots = slots(8, 100, 0, 0);
        let all = slots.take(need(0, 0), 1).unwrap();
        assert_eq!(all.threads, 8);
        assert_eq!(slots.take(need(1, 0), 1), None);
        slots.give_back(all);
        let shares: Vec<usize> = [3, 2, 1].iter().map(|&w| slots.take(need(0, 0), w).unwrap().threads).collect();
        assert_eq!(shares, [3, 3, 2]);
        assert_eq!(slots.take(need(1, 0), 1), None);
    }

    #[test]
    fn memory_bounds_what_runs_side_by_side_but_nothing_waits_for_ever() {
        let mut slots = slots(4, 100, 0, 0);
        let big = slots.take(need(1, 70), 2).unwrap();
        assert_eq!(slots.take(need(1, 70), 1), None);
        let small = slots.take(need(1, 30), 1).unwrap();
        slots.give_back(small);
        slots.give_back(big);
        let huge = slots.take(need(1, 1000), 1).unwrap();
        assert_eq!(huge.memory_bytes, 100);
        assert_eq!(slots.take(need(1, 1), 1), None);
    }

    #[test]
    fn a_gpu_is_held_by_one_cell_and_known_by_its_number() {
        let mut slots = slots(8, 0, 2, 0);
        let gpus = |n| Need { gpus: n, ..need(1, 0) };
        let first = slots.take(gpus(1), 3).unwrap();
        let second = slots.take(gpus(1), 2).unwrap();
        assert_eq!((first.gpus.as_slice(), second.gpus.as_slice()), (&[0][..], &[1][..]));
        assert_eq!(slots.take(gpus(1), 1), None);
        assert!(slots.take(gpus(0), 1).is_some());
        slots.give_back(first);
        assert_eq!(slots.take(gpus(2), 1), None);
        slots.give_back(second);
        assert_eq!(slots.take(gpus(2), 1).unwrap().gpus, [0, 1]);
    }

    #[test]
    fn jobs_limit_the_cells_at_one_time() {
        let mut slots = slots(4, 0, 0, 1);
        assert_eq!(slots.take(need(0, 0), 9).unwrap().threads, 4);
        assert_eq!(slots.take(need(1, 0), 9), None);
        assert!(slots.full());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes and goes, what is held never exceeds what there is, and everything comes back.
        #[test]
        fn nothing_is_ever_oversubscribed(
            (threads, memory, gpus, jobs) in (1usize..9, 0u64..100, 0u32..4, 0usize..5),
            steps in prop::collection::vec((any::<bool>(), 0usize..12, 0u64..150, 0u32..4, 1usize..9), 1..60),
        ) {
            let mut slots = slots(threads, memory, gpus, jobs);
            let mut held: Vec<Share> = Vec::new();
            for (take, t, m, g, waiting) in steps {
                if take {
                    held.extend(slots.take(Need { threads: t, memory_bytes: m, gpus: g }, waiting));
                } else if !held.is_empty() {
                    slots.give_back(held.remove(t % held.len()));
                }
                prop_assert!(held.iter().map(|s| s.threads).sum::<usize>() <= threads);
                prop_assert!(held.iter().map(|s| s.memory_bytes).sum::<u64>() <= memory);
                let mut numbers: Vec<u32> = held.iter().flat_map(|s| s.gpus.clone()).collect();
                numbers.sort_unstable();
                numbers.dedup();
                prop_assert_eq!(numbers.len(), held.iter().map(|s| s.gpus.len()).sum::<usize>());
                prop_assert!(numbers.iter().all(|n| *n < gpus));
                prop_assert!(jobs == 0 || held.len() <= jobs);
                prop_assert!(held.iter().all(|s| s.threads > 0));
            }
            held.drain(..).for_each(|s| slots.give_back(s));
            let all = slots.take(Need { threads: 0, memory_bytes: memory, gpus }, 1).unwrap();
            prop_assert_eq!((all.threads, all.memory_bytes, all.gpus.len()), (threads, memory, gpus as usize));
        }
    }
}
