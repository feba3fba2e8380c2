//! Files in folders that people and other processes look into: never seen half written.

use std::path::Path;

use crate::error::{Error, Result};

/// Writes `bytes` beside `path`, under a name that is this process's own, and renames them. Makes the folder.
///
/// # Errors
/// The folder cannot be written to.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&aside, bytes).map_err(Error::io(&aside))?;
    std::fs::rename(&aside, path).map_err(Error::io(path))
}
