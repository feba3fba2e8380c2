//! Maps and sets of what is only looked up.
//!
//! The standard library's hash costs more than the rest of a row of a table. This one is seeded anew in every process
//! too, so that no table can be made to collide; like it, it decides no order that a result could show.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

pub type QuickMap<K, V> = HashMap<K, V, RandomState>;
pub type QuickSet<K> = HashSet<K, RandomState>;
