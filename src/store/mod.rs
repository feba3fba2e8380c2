//! The store: where artifacts and records live.
pub mod artifact;
pub mod source;

use std::path::{Path, PathBuf};
use crate::{digest::Digest, error::Result};

pub struct Store {}

impl Store {
    pub fn put_file(&self, _path: &Path) -> Result<(Digest, u64)> { todo!() }
    pub fn local(&self, _digest: &Digest) -> Result<PathBuf> { todo!() }
}
