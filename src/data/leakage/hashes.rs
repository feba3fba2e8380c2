//! Perceptual hashes of the rows of one side, of which memory holds a few thousand and a file without a name the rest.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    data::image::phash::{BYTES, WHOLE},
    error::{Error, Result},
};

/// Bytes that are held before they go to disk.
const HELD_BYTES: usize = 1 << 19;
/// Before a hash: its row and its length, 32 bits each.
const HEAD: usize = 8;

/// Hashes by row, in the order in which they were put in.
pub(super) struct Hashes {
    scratch: Option<PathBuf>,
    /// Bytes of a hash that are kept.
    most: usize,
    held: Vec<u8>,
    most_held: usize,
    file: Option<File>,
    /// Bytes in the file.
    stored: u64,
}

impl Hashes {
    /// Of each hash the upright part alone, or all. The file lies in `scratch`; without a folder all stay in memory.
    pub(super) fn new(scratch: Option<&Path>, upright: bool) -> Self {
        let most = if upright { BYTES } else { WHOLE };
        let held = Vec::new();
        Hashes { scratch: scratch.map(Into::into), most, held, most_held: HELD_BYTES, file: None, stored: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stored == 0 && self.held.is_empty()
    }

    /// Adds the hash of a row; one without an upright part is none.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub(super) fn push(&mut self, row: u32, hash: &[u8]) -> Result<()> {
        if hash.len() < BYTES {
            return Ok(());
        }
        if self.held.len() >= self.most_held
            && let Some(scratch) = &self.scratch
        {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(tempfile::tempfile_in(scratch).map_err(Error::io(scratch))?),
            };
            file.write_all(&self.held).map_err(Error::io(scratch))?;
            self.stored += self.held.len() as u64;
            self.held.clear();
        }
        let hash = &hash[..hash.len().min(self.most)];
        self.held.extend(row.to_le_bytes());
        self.held.extend((hash.len() as u32).to_le_bytes());
        self.held.extend(hash);
        self.held.resize(self.held.len() + self.most - hash.len(), 0);
        Ok(())
    }

    /// All of them in blocks of so many, to be read by [`Hashes::rows`].
    pub(super) fn blocks(&self, rows: usize) -> impl Iterator<Item = Result<Vec<u8>>> + '_ {
        let at_once = rows * (HEAD + self.most);
        let whole = self.stored + self.held.len() as u64;
        (0..whole).step_by(at_once).map(move |from| {
            let mut block = vec![0; at_once.min((whole - from) as usize)];
            let in_file = self.stored.saturating_sub(from).min(block.len() as u64) as usize;
            if let (Some(file), Some(scratch)) = (&self.file, &self.scratch) {
                file.read_exact_at(&mut block[..in_file], from).map_err(Error::io(scratch))?;
            }
            let held = (from + in_file as u64 - self.stored.min(from + in_file as u64)) as usize;
            let rest = block.len() - in_file;
            block[in_file..].copy_from_slice(&self.held[held..held + rest]);
            Ok(block)
        })
    }

    /// The rows of a block and their hashes.
    pub(super) fn rows<'a>(&self, block: &'a [u8]) -> impl Iterator<Item = (u32, &'a [u8])> {
        let number = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        block.chunks_exact(HEAD + self.most).map(move |record| {
            let (head, hash) = record.split_at(HEAD);
            (number(head), &hash[..number(&head[4..]) as usize])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_come_back_from_memory_and_from_disk() {
        let dir = tempfile::tempdir().unwrap();
        let hash = |row: u32| vec![row as u8; BYTES * (1 + row as usize % 5)];
        for (count, most_held, block) in
            [(0, 1, 1), (1, 1, 3), (50, 1, 7), (50, 4_000, 7), (50, 4_000, 100), (50, 1 << 19, 8)]
        {
            for (scratch, upright) in [(Some(dir.path()), false), (Some(dir.path()), true), (None, false)] {
                let mut hashes = Hashes::new(scratch, upright);
                hashes.most_held = most_held;
                for row in 0..count {
                    hashes.push(3 * row, &hash(row)).unwrap();
                    hashes.push(3 * row + 1, &[1; BYTES - 1]).unwrap();
                }
                assert_eq!(hashes.is_empty(), count == 0);
                let mut found = Vec::new();
                for bytes in hashes.blocks(block) {
                    let bytes = bytes.unwrap();
                    let rows: Vec<_> = hashes.rows(&bytes).map(|(row, hash)| (row, hash.to_vec())).collect();
                    assert!(rows.len() == block || found.len() + rows.len() == count as usize);
                    found.extend(rows);
                }
                let kept = |row: u32| if upright { hash(row)[..BYTES].to_vec() } else { hash(row) };
                assert!(
                    found == (0..count).map(|row| (3 * row, kept(row))).collect::<Vec<_>>(),
                    "{count} {most_held} {block}"
                );
                let before_last = (HEAD + hashes.most) * (count as usize).saturating_sub(1);
                assert_eq!(hashes.file.is_some(), scratch.is_some() && before_last >= most_held);
            }
        }
        let mut nowhere = Hashes::new(Some(&dir.path().join("gone")), true);
        nowhere.most_held = 1;
        nowhere.push(0, &[0; BYTES]).unwrap();
        assert!(nowhere.push(1, &[0; BYTES]).unwrap_err().to_string().contains("gone"));
    }
}
