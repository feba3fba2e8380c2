//! What is known of rows while their sides are compared: splits, or two datasets.
//!
//! Patients and images are sorted on disk ([`Runs`]), so that those who share one come one after the other. Perceptual
//! hashes lie there as well: some thousands of one side at a time are in memory, where [`NearIndex`] looks all of the
//! other side up among them.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use arrow::array::Array;
use rayon::prelude::*;

use super::{EXAMPLES, Example, Names, Overlap, SPLITS, Shared, contents, hashes::Hashes, near::NearIndex, wide};
use crate::{
    data::{
        dataset::Dataset,
        hashed::{QuickMap, QuickSet},
        image::phash::{self, Bits},
        runs::Runs,
    },
    error::{Error, Result},
};

/// What leakage needs to know of rows that stand on up to three sides: splits, or two datasets.
pub struct Ledger {
    rows: u32,
    /// Rows of each side.
    counts: [u64; 3],
    /// 128 bits of the digest of a row's patient and of its image, each with [`place`].
    patients: Runs<3>,
    contents: Runs<3>,
    hashes: [Hashes; 3],
}

/// Rows whose hashes are indexed together, and rows that are looked up together.
const AT_ONCE: [usize; 2] = [1 << 14, 1 << 12];

/// A row and its side, so that rows are in their order.
fn place(row: u32, side: usize) -> u64 {
    u64::from(row) << 2 | side as u64
}

impl Ledger {
    /// What has to be sorted lies in the folder `scratch`, in files without a name; without a folder it stays in memory.
    pub fn new(scratch: Option<&Path>) -> Self {
        let (patients, contents) = (Runs::new(scratch), Runs::new(scratch));
        // Nothing is before the first side, so that it is never looked at turned.
        let hashes = [true, false, false].map(|upright| Hashes::new(scratch, upright));
        Ledger { rows: 0, counts: [0; 3], patients, contents, hashes }
    }

    /// Rows in splits of which there are several, where none of them has a hash: their near-duplicates cannot be found.
    pub fn not_looked_at(&self) -> u64 {
        let several = self.counts.iter().filter(|n| **n > 0).count() > 1;
        if several && self.hashes.iter().all(Hashes::is_empty) { self.counts.iter().sum() } else { 0 }
    }

    /// Adds the rows of a table after those that are there, each on the side of its split; those without one count as
    /// rows alone.
    pub fn add(&mut self, d: &Dataset) -> Result<()> {
        let splits = d.text("split");
        let side = |i: usize| {
            let split = splits.filter(|s| s.is_valid(i))?.value(i);
            SPLITS.iter().position(|s| *s == split)
        };
        self.add_to(d, side)
    }

    fn add_to(&mut self, d: &Dataset, side: impl Fn(usize) -> Option<usize>) -> Result<()> {
        let patients = d.text("patient");
        let hashes = d.binary(phash::COLUMN);
        for (i, content) in contents(d).enumerate() {
            let row = self.rows;
            self.rows += 1;
            let Some(side) = side(i) else { continue };
            self.counts[side] += 1;
            if let Some(patient) = patients.filter(|p| p.is_valid(i)) {
                let [a, b] = wide(patient.value(i).as_bytes());
                self.patients.push([a, b, place(row, side)])?;
            }
            if let Some([a, b]) = content {
                self.contents.push([a, b, place(row, side)])?;
            }
            if let Some(hash) = hashes.filter(|h| h.is_valid(i)).map(|h| h.value(i)) {
                self.hashes[side].push(row, hash)?;
            }
        }
        Ok(())
    }

    /// What the second dataset shares with the first; its rows are counted on from those of the first.
    pub(super) fn between((left, a): (&str, &Dataset), (right, b): (&str, &Dataset)) -> Result<Shared> {
        let mut ledger = Ledger::new(None);
        ledger.add_to(a, |_| Some(0))?;
        ledger.add_to(b, |_| Some(1))?;
        let [shared] = ledger.compare([Pair::new(0, 1)], [left, right, ""])?;
        Ok(shared)
    }

    /// Every pair of splits that shares something: train with valid and test, valid with test.
    pub fn across_splits(&mut self) -> Result<Vec<Shared>> {
        let pairs = [(0, 1), (0, 2), (1, 2)].map(|(left, right)| Pair::new(left, right));
        let shared = self.compare(pairs, SPLITS)?;
        Ok(shared.into_iter().filter(|s| !s.overlap.is_empty()).collect())
    }

    /// The same of the one table that was added, each with the names that it goes by there.
    pub fn across_splits_of(&mut self, d: &Dataset) -> Result<Vec<Overlap>> {
        let name = |row: u32| Names::of(d, row as usize);
        Ok(self.across_splits()?.into_iter().map(|s| s.named(name, name)).collect())
    }

    fn compare<const N: usize>(&mut self, mut pairs: [Pair; N], names: [&str; 3]) -> Result<[Shared; N]> {
        each_group(&mut self.patients, |rows| pairs.iter_mut().for_each(|pair| pair.patient(rows)))?;
        let hashes = &self.hashes;
        each_group(&mut self.contents, |rows| {
            pairs.iter_mut().for_each(|pair| pair.content(rows, !hashes[pair.left].is_empty()));
        })?;
        let mut shared = Vec::with_capacity(N);
        for pair in pairs {
            shared.push(pair.shared(&self.counts, hashes, names)?);
        }
        shared.try_into().map_err(|_| Error::invalid("bug: pairs of sides were lost"))
    }
}

/// Calls `visit` with the places of all rows that share something, in their order.
fn each_group(runs: &mut Runs<3>, mut visit: impl FnMut(&[u64])) -> Result<()> {
    let (mut key, mut rows) = (None, Vec::new());
    for record in runs.sorted()? {
        let [a, b, place] = record?;
        if key.replace([a, b]) != Some([a, b]) {
            visit(&rows);
            rows.clear();
        }
        rows.push(place);
    }
    visit(&rows);
    Ok(())
}

/// Two sides while they are compared.
struct Pair {
    left: usize,
    right: usize,
    patients: u64,
    right_patients: u64,
    right_rows: u64,
    images: u64,
    /// The first rows of shared patients and of copies.
    first_patients: Firsts,
    first_copies: Firsts,
    /// Rows of the right side that are copies, where near-duplicates are looked for.
    copies: HashSet<u32>,
}

/// The least of many rows, in order.
#[derive(Default)]
struct Firsts(BTreeSet<u32>);

impl Firsts {
    fn add(&mut self, row: u32) {
        self.0.insert(row);
        if self.0.len() > EXAMPLES {
            self.0.pop_last();
        }
    }
}

impl Pair {
    fn new(left: usize, right: usize) -> Self {
        let (first_patients, first_copies, copies) = Default::default();
        let (patients, right_patients, right_rows, images) = Default::default();
        Pair { left, right, patients, right_patients, right_rows, images, first_patients, first_copies, copies }
    }

    /// Whether the left side has any of these rows, and those that the right side has.
    fn sides<'a>(&self, rows: &'a [u64]) -> (bool, impl Iterator<Item = u32> + 'a) {
        let on = |side: usize| move |place: &&u64| **place & 3 == side as u64;
        (rows.iter().any(|p| on(self.left)(&p)), rows.iter().filter(on(self.right)).map(|place| (place >> 2) as u32))
    }

    /// Rows of one patient.
    fn patient(&mut self, rows: &[u64]) {
        let (left, mut right) = self.sides(rows);
        let Some(first) = right.next() else { return };
        self.right_patients += 1;
        if left {
            self.patients += 1;
            self.right_rows += 1 + right.count() as u64;
            self.first_patients.add(first);
        }
    }

    /// Rows of one image.
    fn content(&mut self, rows: &[u64], remember: bool) {
        let (left, right) = self.sides(rows);
        if left {
            for row in right {
                self.images += 1;
                self.first_copies.add(row);
                if remember {
                    self.copies.insert(row);
                }
            }
        }
    }

    /// Rows of the right side that are no copies, each with the row of the left side that is nearest to it within the
    /// radius, the first of several.
    fn near(&self, left: &Hashes, right: &Hashes, [indexed, looked_up]: [usize; 2]) -> Result<Vec<(u32, u32)>> {
        let mut found = Vec::new();
        for block in right.blocks(indexed) {
            let block = block?;
            let rows: Vec<_> = right.rows(&block).filter(|(row, _)| !self.copies.contains(row)).collect();
            if rows.is_empty() {
                continue;
            }
            // Equal hashes have the same neighbours, and a set may be full of them.
            let (mut places, mut hashes) = (QuickMap::<&[u8], usize>::default(), Vec::new());
            for (_, hash) in &rows {
                places.entry(hash).or_insert_with(|| {
                    hashes.push(*hash);
                    hashes.len() - 1
                });
            }
            let turned =
                hashes.iter().enumerate().flat_map(|(i, hash)| phash::orientations(hash).map(move |bits| (i, bits)));
            let (hash_of, bits): (Vec<usize>, Vec<Bits>) = turned.unzip();
            let index = NearIndex::new(bits);
            // The distance above the row, so that the least of all is the first of the nearest.
            let nearest: Vec<AtomicU64> = hashes.iter().map(|_| AtomicU64::new(u64::MAX)).collect();
            for block in left.blocks(looked_up) {
                let (block, mut seen) = (block?, QuickSet::default());
                let others: Vec<_> = left.rows(&block).filter(|(_, hash)| seen.insert(*hash)).collect();
                others.par_iter().for_each(|(row, hash)| {
                    phash::upright(hash).iter().for_each(|bits| {
                        index.each_near(bits, &mut |at, distance| {
                            let met = u64::from(distance) << 32 | u64::from(*row);
                            nearest[hash_of[at as usize]].fetch_min(met, Ordering::Relaxed);
                        });
                    });
                });
            }
            for (row, hash) in rows {
                let met = nearest[places[hash]].load(Ordering::Relaxed);
                found.extend((met < u64::MAX).then_some((row, met as u32)));
            }
        }
        Ok(found)
    }

    fn shared(self, counts: &[u64; 3], hashes: &[Hashes; 3], names: [&str; 3]) -> Result<Shared> {
        let (left, right) = (&hashes[self.left], &hashes[self.right]);
        let near = if left.is_empty() || right.is_empty() { None } else { Some(self.near(left, right, AT_ONCE)?) };
        let near_images = near.as_ref().map(|near| near.len() as u64);
        let mut examples: Vec<Example> = self.first_patients.0.into_iter().map(Example::Patient).collect();
        examples.extend(self.first_copies.0.into_iter().map(Example::Copy));
        examples.extend(near.into_iter().flatten().take(EXAMPLES).map(|(row, other)| Example::Near(row, other)));
        examples.truncate(EXAMPLES);
        let overlap = Overlap {
            left: names[self.left].into(),
            right: names[self.right].into(),
            patients: self.patients,
            right_patients: self.right_patients,
            right_rows: self.right_rows,
            right_rows_total: counts[self.right],
            images: self.images,
            near_images,
            examples: Vec::new(),
        };
        Ok(Shared { overlap, examples })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{across_splits, tests::toy},
        *,
    };

    #[test]
    fn a_table_in_parts_gives_the_ledger_of_the_whole() {
        let d = toy(&["a", "b", "a"], &["train", "test", "test"], &[b"1", b"1", b"2"]);
        let mut parts = Ledger::new(None);
        parts.add(&d.take(&[0]).unwrap()).unwrap();
        parts.add(&d.take(&[1, 2]).unwrap()).unwrap();
        let found = parts.across_splits_of(&d).unwrap();
        assert_eq!(found, across_splits(&d).unwrap());
        assert_eq!((found[0].patients, found[0].images), (1, 1));
    }

    #[test]
    fn splits_share_what_comparing_each_with_each_finds() {
        for seed in 0..20 {
            let mut s = crate::random::stream::Stream::new(seed, "ledger", 0, 0);
            let rows = 60;
            let patients: Vec<String> = (0..rows).map(|_| s.below(40).to_string()).collect();
            let digests: Vec<[u8; 1]> = (0..rows).map(|_| [s.below(50) as u8]).collect();
            let splits: Vec<&str> = (0..rows).map(|_| SPLITS[s.below(3) as usize]).collect();
            let text: Vec<&str> = patients.iter().map(String::as_str).collect();
            let d = toy(&text, &splits, &digests.iter().map(|d| d.as_slice()).collect::<Vec<_>>());
            let mut found = across_splits(&d).unwrap().into_iter();
            for (left, right) in [("train", "valid"), ("train", "test"), ("valid", "test")] {
                let of = |side| (0..rows).filter(|&i: &usize| splits[i] == side).collect::<Vec<_>>();
                let (ours, theirs) = (of(left), of(right));
                let known = |i: &&usize| ours.iter().any(|&o| patients[o] == patients[**i]);
                let names = |of: Vec<&usize>| of.into_iter().map(|&i| text[i]).collect::<BTreeSet<_>>();
                let rows_known: Vec<&usize> = theirs.iter().filter(known).collect();
                let copies = theirs.iter().filter(|&&i| ours.iter().any(|&o| digests[o] == digests[i])).count();
                let o = found.next().unwrap();
                assert_eq!((o.left.as_str(), o.right.as_str()), (left, right));
                assert_eq!((o.right_rows, o.right_rows_total), (rows_known.len() as u64, theirs.len() as u64));
                assert_eq!(o.right_patients, names(theirs.iter().collect()).len() as u64);
                // The first that are shared, in the order of the rows.
                let mut first = Vec::new();
                rows_known.iter().for_each(|&&i| {
                    if !first.contains(&text[i]) {
                        first.push(text[i])
                    }
                });
                assert_eq!(o.patients, first.len() as u64);
                first.truncate(EXAMPLES);
                assert_eq!(
                    (o.images, &o.examples[..first.len()]),
                    (copies as u64, &first.iter().map(|p| p.to_string()).collect::<Vec<_>>()[..])
                );
            }
        }
    }

    /// Few bits apart, so that ties are met, and turned in any of the orientations.
    #[test]
    fn the_nearest_rows_are_those_of_comparing_each_with_each() {
        for seed in 0..10 {
            let mut s = crate::random::stream::Stream::new(seed, "near", 0, 0);
            let (mut left, mut right) = (Hashes::new(None, true), Hashes::new(None, false));
            let pictures: Vec<Vec<u8>> =
                (0..9).map(|_| (0..phash::WHOLE).map(|_| s.below(256) as u8).collect()).collect();
            let mut pair = Pair::new(0, 1);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for row in 0..120 {
                let mut hash = pictures[s.below(9) as usize].clone();
                // Some a little too far.
                for _ in 0..s.below(400).saturating_sub(100) {
                    hash[s.below(phash::WHOLE as u64) as usize] ^= 1 << s.below(8);
                }
                match row % 2 {
                    0 => {
                        let turn = phash::BYTES * s.below(5) as usize;
                        hash.rotate_left(turn);
                        left.push(row, &hash).unwrap();
                        ours.push((row, hash));
                    }
                    _ => {
                        right.push(row, &hash).unwrap();
                        if s.below(10) == 0 {
                            pair.copies.insert(row);
                        } else {
                            theirs.push((row, hash));
                        }
                    }
                }
            }
            let nearest = |hash: &[u8]| {
                let upright = |other: &[u8]| phash::upright(other).unwrap();
                let apart = |other| phash::orientations(hash).map(|bits| phash::distance(&bits, &upright(other))).min();
                let all = ours.iter().map(|(row, other)| (apart(other).unwrap(), *row));
                all.min().filter(|(distance, _)| *distance <= phash::RADIUS)
            };
            let expected: Vec<(u32, u32)> =
                theirs.iter().filter_map(|(row, hash)| Some((*row, nearest(hash)?.1))).collect();
            assert!(expected.len() > 10 && expected.len() < theirs.len());
            for at_once in [[1, 1], [7, 5], AT_ONCE] {
                assert_eq!(pair.near(&left, &right, at_once).unwrap(), expected, "{at_once:?}");
            }
        }
    }
}
