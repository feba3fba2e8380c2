//! What files of many images have in common: splits by name, and class names beside them.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The split that a file's or folder's name begins with or holds: `train-00000-of-01024`, `ilsvrc12_val_lmdb`.
pub(super) fn split_of(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let words = || name.split(|c: char| !c.is_ascii_alphanumeric());
    [
        ("train", "train"),
        ("training", "train"),
        ("val", "valid"),
        ("valid", "valid"),
        ("validation", "valid"),
        ("test", "test"),
    ]
    .into_iter()
    .find(|(word, _)| words().any(|w| w == *word))
    .map(|(_, split)| split)
}

/// Files below `root` (and its direct subfolders) that `wanted` takes, sorted, with forward slashes.
pub(super) fn files(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let at = root.join(&folder);
        for entry in std::fs::read_dir(&at).map_err(Error::io(&at))? {
            let entry = entry.map_err(Error::io(&at))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let below = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if entry.path().is_dir() {
                if folder.is_empty() && !name.starts_with('.') {
                    folders.push(below);
                }
            } else if wanted(&name) {
                found.push(below);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Class names, one a line; of `n01440764 tench, Tinca tinca` the whole line. `None` where no file is declared.
pub(super) fn class_names(root: &Path, file: Option<&str>) -> Result<Option<Vec<String>>> {
    let Some(file) = file else { return Ok(None) };
    let path: PathBuf = root.join(file);
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(Into::into).collect();
    if names.is_empty() {
        return Err(Error::data(&path, None, "no class names"));
    }
    Ok(Some(names))
}

/// `0`, `1`, … for classes that have no names.
pub(super) fn numbered(classes: usize) -> Vec<String> {
    (0..classes).map(|c| c.to_string()).collect()
}

/// The most classes that labels without names may spread over: a damaged label must not become millions of them.
pub(super) const MOST_CLASSES: i64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_whole_words_of_a_name() {
        for (name, split) in [
            ("train-00000-of-01024", Some("train")),
            ("validation-00000-of-00128", Some("valid")),
            ("ilsvrc12_val_lmdb", Some("valid")),
            ("test.tfrecord", Some("test")),
            ("data.mdb", None),
            ("trained_models", None),
        ] {
            assert_eq!(split_of(name), split, "{name}");
        }
    }
}
