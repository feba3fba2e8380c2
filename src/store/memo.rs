//! What a piece of a cell's work came to, by what decided it, so that a cell that runs again does not repeat the
//! pieces that did not change: a shard of images, say.
//!
//! A memo is a shortcut and never a result: it is kept on this machine only, enters no key, and a damaged or
//! missing one costs time. What it names in the store must be looked for before it is trusted.

use serde::{Serialize, de::DeserializeOwned};

use super::Store;
use crate::{
    digest::Digest,
    error::{Error, Result},
};

impl Store {
    /// What was remembered under this key, where it can still be read.
    pub fn memo<T: DeserializeOwned>(&self, key: &Digest) -> Option<T> {
        serde_json::from_slice(&std::fs::read(self.memo_path(key)).ok()?).ok()
    }

    /// Remembers; written aside and renamed.
    pub fn remember<T: Serialize>(&self, key: &Digest, value: &T) -> Result<()> {
        let path = self.memo_path(key);
        let folder = path.parent().unwrap_or(&self.home);
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let aside = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(folder))?;
        std::fs::write(aside.path(), serde_json::to_vec(value)?).map_err(Error::io(aside.path()))?;
        aside.persist(&path).map_err(|e| Error::Io { path, source: e.error })?;
        Ok(())
    }

    fn memo_path(&self, key: &Digest) -> std::path::PathBuf {
        let hex = key.hex();
        self.home.join("memos").join(&hex[..2]).join(format!("{hex}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_memo_is_no_memo() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Digest::of(b"piece");
        assert_eq!(store.memo::<Vec<u32>>(&key), None);
        store.remember(&key, &vec![1u32, 2]).unwrap();
        assert_eq!(store.memo::<Vec<u32>>(&key), Some(vec![1, 2]));
        std::fs::write(store.memo_path(&key), "[1,").unwrap();
        assert_eq!(store.memo::<Vec<u32>>(&key), None);
    }
}
