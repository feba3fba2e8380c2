//! Numbers that are sorted on disk: what a rule asks of all rows of a table, while memory holds a few thousand of them.
//!
//! Records are `N` words and are ordered as tuples. They gather in memory; when there are too many, they go to a file
//! without a name as a sorted run, and all runs are merged as they are read (external merge sort). Equal records come
//! back as often as they were put in.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rayon::slice::ParallelSliceMut;

use crate::error::{Error, Result};

/// Bytes of records that are held before they go to disk.
const HELD_BYTES: usize = 1 << 19;
/// Bytes of a run that are read at a time.
const READ_BYTES: usize = 1 << 12;

/// Records that come back in order.
pub struct Runs<const N: usize> {
    scratch: Option<PathBuf>,
    held: Vec<[u64; N]>,
    most_held: usize,
    file: Option<File>,
    /// Where each run ends in the file, in records.
    ends: Vec<u64>,
}

impl<const N: usize> Runs<N> {
    /// Runs lie in the folder `scratch`; without one, all records stay in memory.
    pub fn new(scratch: Option<&Path>) -> Self {
        Self::holding(scratch, HELD_BYTES / size_of::<[u64; N]>())
    }

    fn holding(scratch: Option<&Path>, most_held: usize) -> Self {
        Runs { scratch: scratch.map(Into::into), held: Vec::new(), most_held, file: None, ends: Vec::new() }
    }

    /// # Errors
    /// A folder that cannot be written to.
    pub fn push(&mut self, record: [u64; N]) -> Result<()> {
        if self.held.len() >= self.most_held && self.scratch.is_some() {
            self.spill()?;
        }
        self.held.push(record);
        Ok(())
    }

    fn at(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_default()
    }

    fn spill(&mut self) -> Result<()> {
        self.held.par_sort_unstable();
        let at = self.at();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&at).map_err(Error::io(&at))?),
        };
        let words = self.held.iter().flatten().flat_map(|word| word.to_le_bytes());
        file.write_all(&words.collect::<Vec<_>>()).map_err(Error::io(&at))?;
        self.ends.push(self.ends.last().unwrap_or(&0) + self.held.len() as u64);
        self.held.clear();
        Ok(())
    }

    /// All records in order; may be asked for again, and more may be put in afterwards.
    ///
    /// # Errors
    /// As the items, a folder that cannot be read.
    pub fn sorted(&mut self) -> Result<Sorted<'_, N>> {
        self.held.par_sort_unstable();
        let starts = std::iter::once(&0).chain(&self.ends);
        let stored = starts.zip(&self.ends).filter_map(|(&next, &end)| {
            Some(Cursor { file: Some((self.file.as_ref()?, self.at())), next, end, read: Vec::new(), at: 0 })
        });
        let held = Cursor { file: None, next: 0, end: self.held.len() as u64, read: Vec::new(), at: 0 };
        let mut sorted = Sorted { held: &self.held, cursors: stored.chain([held]).collect(), heads: BinaryHeap::new() };
        for at in 0..sorted.cursors.len() {
            sorted.refill(at)?;
        }
        Ok(sorted)
    }
}

/// See [`Runs::sorted`].
pub struct Sorted<'a, const N: usize> {
    held: &'a [[u64; N]],
    cursors: Vec<Cursor<'a, N>>,
    /// The next record of every cursor that has one.
    heads: BinaryHeap<Reverse<([u64; N], usize)>>,
}

/// A place in a run, of the file or in memory.
struct Cursor<'a, const N: usize> {
    file: Option<(&'a File, PathBuf)>,
    next: u64,
    end: u64,
    read: Vec<[u64; N]>,
    at: usize,
}

impl<const N: usize> Cursor<'_, N> {
    fn step(&mut self, held: &[[u64; N]]) -> Result<Option<[u64; N]>> {
        let Some((file, path)) = &self.file else {
            self.next += 1;
            return Ok(held.get(self.next as usize - 1).copied());
        };
        if self.at == self.read.len() {
            let record = size_of::<[u64; N]>();
            let count = (READ_BYTES / record).min((self.end - self.next) as usize);
            let mut bytes = vec![0; count * record];
            file.read_exact_at(&mut bytes, self.next * record as u64).map_err(Error::io(path))?;
            let (words, _) = bytes.as_chunks::<8>();
            let word = |i: usize| u64::from_le_bytes(words[i]);
            self.read = (0..count).map(|r| std::array::from_fn(|k| word(r * N + k))).collect();
            self.next += count as u64;
            self.at = 0;
        }
        self.at += 1;
        Ok(self.read.get(self.at - 1).copied())
    }
}

impl<const N: usize> Sorted<'_, N> {
    fn refill(&mut self, at: usize) -> Result<()> {
        if let Some(record) = self.cursors[at].step(self.held)? {
            self.heads.push(Reverse((record, at)));
        }
        Ok(())
    }
}

impl<const N: usize> Iterator for Sorted<'_, N> {
    type Item = Result<[u64; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut head = self.heads.peek_mut()?;
        let Reverse((record, at)) = *head;
        // In its place, so that the heap is put in order once.
        match self.cursors[at].step(self.held) {
            Ok(Some(next)) => *head = Reverse((next, at)),
            Ok(None) => _ = PeekMut::pop(head),
            Err(e) => return Some(Err(e)),
        }
        Some(Ok(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream::Stream;

    fn sorted(runs: &mut Runs<2>) -> Vec<[u64; 2]> {
        runs.sorted().unwrap().collect::<Result<_>>().unwrap()
    }

    #[test]
    fn records_come_back_in_order_from_memory_and_from_disk() {
        let dir = tempfile::tempdir().unwrap();
        for (rows, held) in [(0, 4), (3, 4), (4, 4), (5, 4), (4_000, 4), (4_000, 1_000)] {
            let mut s = Stream::new(rows, "runs", 0, 0);
            let records: Vec<[u64; 2]> = (0..rows).map(|_| [s.below(50), s.bits()]).collect();
            let mut expected = records.clone();
            expected.sort_unstable();
            let mut stored = Runs::holding(Some(dir.path()), held);
            let mut kept = Runs::holding(None, held);
            for record in records {
                stored.push(record).unwrap();
                kept.push(record).unwrap();
            }
            assert_eq!(stored.file.is_some(), rows as usize > held);
            assert!(stored.held.len() <= held && kept.file.is_none());
            for _ in 0..2 {
                assert!(sorted(&mut stored) == expected && sorted(&mut kept) == expected, "{rows} by {held}");
            }
            // More may come after it was read.
            stored.push([0, 0]).unwrap();
            expected.insert(0, [0, 0]);
            assert!(sorted(&mut stored) == expected);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "runs lie in files without a name");
        let mut nowhere = Runs::<1>::holding(Some(&dir.path().join("gone")), 1);
        nowhere.push([1]).unwrap();
        assert!(nowhere.push([2]).unwrap_err().to_string().contains("gone"));
    }
}
