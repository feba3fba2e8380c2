//! Which rows share a shard.
//!
//! A shard ends where the next image would make it too large, or once it is half full at an image whose name says
//! so. Names, unlike positions, stay when an image is added or removed before them: after such a change the cuts
//! fall into step again within a few shards, and the shards beyond are what they were.

use std::ops::Range;

use crate::digest::Digest;

/// Rows in the order of their table, cut into shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPlan {
    /// Where each shard ends; the last is the number of rows.
    ends: Vec<usize>,
}

/// `shard-00000.arrow` …
pub fn shard_name(shard: usize) -> String {
    format!("shard-{shard:05}.arrow")
}

impl ShardPlan {
    /// `images` has the bytes and the name of every row's image. A shard holds at least one image, and no more
    /// than `shard_bytes` if it holds several.
    pub fn new(images: impl Iterator<Item = (u64, impl AsRef<str>)>, shard_bytes: u64) -> Self {
        let mut planner = ShardPlanner::new(shard_bytes);
        images.for_each(|(bytes, name)| planner.push(bytes, name.as_ref()));
        planner.finish()
    }

    pub fn shards(&self) -> usize {
        self.ends.len()
    }

    /// The rows of one shard; none for a shard that does not exist.
    pub fn range(&self, shard: usize) -> Range<usize> {
        let end = self.ends.get(shard).copied().unwrap_or_default();
        let start = shard.checked_sub(1).and_then(|s| self.ends.get(s)).copied().unwrap_or_default();
        start.min(end)..end
    }
}

/// A plan on its way, row by row.
#[derive(Debug)]
pub struct ShardPlanner {
    shard_bytes: u64,
    ends: Vec<usize>,
    rows: usize,
    /// Bytes and images of the shard at hand.
    held: u64,
    count: u64,
}

impl ShardPlanner {
    pub fn new(shard_bytes: u64) -> Self {
        ShardPlanner { shard_bytes, ends: Vec::new(), rows: 0, held: 0, count: 0 }
    }

    /// The next row's image.
    pub fn push(&mut self, bytes: u64, name: &str) {
        let full = self.held + bytes > self.shard_bytes;
        let half = 2 * self.held >= self.shard_bytes;
        // About eight chances of a cut in the second half of a shard.
        let cut = || first(name).is_multiple_of((self.count.next_power_of_two() / 16).max(2));
        if self.count > 0 && (full || half && cut()) {
            self.ends.push(self.rows);
            (self.held, self.count) = (0, 0);
        }
        self.held += bytes;
        self.count += 1;
        self.rows += 1;
    }

    pub fn finish(mut self) -> ShardPlan {
        if self.rows > 0 {
            self.ends.push(self.rows);
        }
        ShardPlan { ends: self.ends }
    }
}

fn first(name: &str) -> u64 {
    Digest::of(name.as_bytes()).0.first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shards(names: &[String], bytes: u64, shard_bytes: u64) -> Vec<Vec<String>> {
        let plan = ShardPlan::new(names.iter().map(|n| (bytes, n)), shard_bytes);
        (0..plan.shards()).map(|s| names[plan.range(s)].to_vec()).collect()
    }

    #[test]
    fn every_row_is_in_one_shard_and_no_shard_is_too_large() {
        let names: Vec<String> = (0..5_000).map(|i| format!("{i}.png")).collect();
        let all = shards(&names, 10, 1_000);
        assert_eq!(all.concat(), names);
        assert!(all.iter().all(|s| s.len() <= 100) && all.len() <= 100, "{} shards", all.len());
        assert!(all[..all.len() - 1].iter().all(|s| s.len() >= 50), "half full at least");
        assert_eq!(shards(&names[..3], 5_000, 1_000).len(), 3, "an image that is too large is a shard");
        let none = ShardPlan::new(Vec::<(u64, &str)>::new().into_iter(), 10);
        assert_eq!((none.shards(), none.range(0)), (0, 0..0));
    }

    #[test]
    fn an_image_more_or_less_leaves_most_shards_as_they_were() {
        let names: Vec<String> = (0..20_000).map(|i| format!("{i}.png")).collect();
        let before: BTreeSet<Vec<String>> = shards(&names, 10, 1_000).into_iter().collect();
        for at in [0, 7_777] {
            let mut changed = names.clone();
            changed.insert(at, "new.png".into());
            let after: BTreeSet<Vec<String>> = shards(&changed, 10, 1_000).into_iter().collect();
            let lost = before.difference(&after).count();
            assert!(lost <= 12, "{lost} of {} shards changed", before.len());
        }
    }
}
