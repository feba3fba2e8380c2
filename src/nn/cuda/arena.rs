//! Where the buffers of a step lie: planned once, before any memory is asked for.
//!
//! Buffers are taken and given back in the order of the step; what is never alive at the same time shares its
//! place. The plan knows its peak, and during which layer that is reached.

/// Buffers begin at multiples of this, as wide reads want it.
const ALIGN: u64 = 256;

/// A planned buffer: an address, and its bytes rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub at: u64,
    bytes: u64,
}

/// Memory from `base` on, of which nothing needs to exist while planning.
pub struct Arena {
    base: u64,
    /// Free ranges below `end`, by offset: neither touching nor overlapping.
    free: Vec<(u64, u64)>,
    end: u64,
    layer: String,
    peak_layer: String,
}

impl Arena {
    pub fn new(base: u64) -> Self {
        Arena { base, free: Vec::new(), end: 0, layer: String::new(), peak_layer: String::new() }
    }

    /// Names the layer that takes buffers from now on.
    pub fn enter(&mut self, layer: &str) {
        self.layer = layer.into();
    }

    /// Bytes that all this needs.
    pub fn peak_bytes(&self) -> u64 {
        self.end
    }

    /// The layer during which the peak was reached.
    pub fn peak_layer(&self) -> &str {
        &self.peak_layer
    }

    /// The smallest free place that is large enough, or a new one at the end.
    pub fn take(&mut self, bytes: u64) -> Span {
        let bytes = bytes.max(1).next_multiple_of(ALIGN);
        let fit = (0..self.free.len()).filter(|&i| self.free[i].1 >= bytes).min_by_key(|&i| self.free[i].1);
        let offset = match fit {
            Some(i) => {
                let (offset, room) = self.free[i];
                if room == bytes {
                    self.free.remove(i);
                } else {
                    self.free[i] = (offset + bytes, room - bytes);
                }
                offset
            }
            None => {
                // A free range that reaches the end is the beginning of the new one.
                let offset = match self.free.last() {
                    Some(&(offset, room)) if offset + room == self.end => {
                        self.free.pop();
                        offset
                    }
                    _ => self.end,
                };
                self.end = offset + bytes;
                self.peak_layer.clone_from(&self.layer);
                offset
            }
        };
        Span { at: self.base + offset, bytes }
    }

    pub fn give(&mut self, span: Span) {
        let offset = span.at - self.base;
        let i = self.free.partition_point(|&(o, _)| o < offset);
        self.free.insert(i, (offset, span.bytes));
        // Joins the right neighbour, then the left one.
        for i in [i + 1, i] {
            if i > 0 && i < self.free.len() && self.free[i - 1].0 + self.free[i - 1].1 == self.free[i].0 {
                self.free[i - 1].1 += self.free[i].1;
                self.free.remove(i);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_are_shared_and_the_peak_names_its_layer() {
        let mut arena = Arena::new(1 << 20);
        arena.enter("root");
        let a = arena.take(1000);
        arena.enter("block");
        let b = arena.take(500);
        arena.give(a);
        arena.enter("head");
        let c = arena.take(900);
        assert_eq!((a.at, c.at, arena.peak_bytes()), (1 << 20, a.at, 1536));
        assert_eq!(arena.peak_layer(), "block");
        arena.give(b);
        arena.give(c);
        assert_eq!(arena.take(1536).at, 1 << 20);
        assert_eq!(arena.peak_bytes(), 1536);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// No two buffers that are alive overlap, and all is free again in the end.
        #[test]
        fn living_buffers_never_overlap(steps in prop::collection::vec((any::<bool>(), 1u64..5000, 0usize..9), 1..200)) {
            let mut arena = Arena::new(4096);
            let mut alive: Vec<Span> = Vec::new();
            for (take, bytes, which) in steps {
                if take || alive.is_empty() {
                    let new = arena.take(bytes);
                    for old in &alive {
                        prop_assert!(new.at + new.bytes <= old.at || old.at + old.bytes <= new.at);
                    }
                    prop_assert!(new.at.is_multiple_of(ALIGN) && new.at + new.bytes <= 4096 + arena.peak_bytes());
                    alive.push(new);
                } else {
                    let gone = alive.remove(which % alive.len());
                    arena.give(gone);
                }
            }
            let peak = arena.peak_bytes();
            alive.into_iter().for_each(|span| arena.give(span));
            prop_assert_eq!(arena.take(peak).at, 4096);
        }
    }
}
