//! Maps and sets of what is only looked up.
//!
//! The standard library's hash costs more than the rest of a row of a table. This one is seeded anew in every process
//! too, so that no table can be made to collide; like it, it decides no order that a result could show.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash},
};

use foldhash::fast::RandomState;
use rayon::slice::ParallelSliceMut;

pub type QuickMap<K, V> = HashMap<K, V, RandomState>;
pub type QuickSet<K> = HashSet<K, RandomState>;

/// Whether no two items are equal, by 8 bytes each: cheaper than a set of them. Items that differ may be taken for
/// equal, though hardly ever, so `false` only says that a set must tell.
pub fn all_differ(items: impl Iterator<Item = impl Hash>) -> bool {
    let state = RandomState::default();
    let mut hashes: Vec<u64> = items.map(|item| state.hash_one(item)).collect();
    hashes.par_sort_unstable();
    hashes.windows(2).all(|pair| pair[0] != pair[1])
}

/// 128 bits of a text, the same in every process: for counting texts that differ, not for telling them apart where
/// someone may have made them collide.
pub fn wide(text: &str) -> [u64; 2] {
    [0, 1].map(|seed| foldhash::quality::FixedState::with_seed(seed).hash_one(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_items_are_found_and_others_are_not() {
        let texts: Vec<String> = (0..10_000).map(|i| i.to_string()).collect();
        assert!(all_differ(texts.iter()));
        assert!(!all_differ(texts.iter().chain(&texts[77..78])));
        // Each half tells them apart, so that both are needed for none of them to be taken for another by chance.
        for half in 0..2 {
            let halves: QuickSet<u64> = texts.iter().map(|t| wide(t)[half]).collect();
            assert_eq!(halves.len(), texts.len());
        }
    }
}
