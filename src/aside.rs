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

/// Name of the file for the cell `id`: letters, digits and a few signs of the name; what else it holds becomes a dash.
pub fn file_name(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || "._=,".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_name_makes_a_file_name() {
        assert_eq!(file_name("report[target=a/b,x=1]"), "report-target=a-b,x=1-");
        assert_eq!(file_name("../é"), "..--");
    }
}
