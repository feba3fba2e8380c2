//! Images sorted into folders by class: `train/CLASS/x.png`, or `CLASS/x.png` without splits.
//!
//! Classes are the folders' names in the order of their bytes and files come sorted by path, both as in
//! torchvision's `ImageFolder`, so that indices agree. Links to folders are not followed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, Read, Skipped,
    layout::Clues,
    rows::{NewRow, Rows},
};
use crate::{
    data::dataset::Dataset,
    error::{Error, Result},
};

/// Images in folders by class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `train/`, `val/` (or `valid/`) and `test/`, or the classes themselves.
    pub root: PathBuf,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name")]
    pub name: String,
}

fn name() -> String {
    "image_folder".into()
}

/// Folder names that are splits.
const SPLITS: [(&str, &str); 5] =
    [("train", "train"), ("val", "valid"), ("valid", "valid"), ("validation", "valid"), ("test", "test")];

/// What torchvision takes for an image, GIF and DICOM.
const EXTENSIONS: [&str; 11] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif", "dcm"];

const LAYOUT: &str = "images belong in train/CLASS/x.png, or CLASS/x.png, below the root";

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        LAYOUT
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let found: Vec<(String, Option<&'static str>)> = SPLITS
            .iter()
            .filter(|(folder, _)| self.root.join(folder).is_dir())
            .map(|(folder, split)| (folder.to_string(), Some(*split)))
            .collect();
        let found = if found.is_empty() { vec![(String::new(), None)] } else { found };
        read_folders(self, &found, skipped)
    }
}

pub(super) fn looks_like(clues: &mut Clues) {
    let root = clues.root();
    let has_image = |folder: &Path| entries(folder).is_ok_and(|e| e.iter().any(|(name, d)| !d && is_image(name)));
    let classes = |folder: &Path| {
        let inside = entries(folder).unwrap_or_default().into_iter();
        inside.filter(|(name, d)| *d && !name.starts_with('.') && has_image(&folder.join(name))).count()
    };
    let split = SPLITS.iter().map(|(folder, _)| root.join(folder)).find(|f| f.is_dir());
    let found = classes(split.as_deref().unwrap_or(root)) >= 2;
    clues.either(1.0, "two or more folders by class (train/CLASS/x.png, CLASS/x.png)", found);
    // Other layouts have folders of images too, and tables or lists beside them.
    let listed = |name: &str| [".csv", ".csv.gz", ".txt", ".mat"].iter().any(|end| name.ends_with(end));
    let bare = !entries(root).unwrap_or_default().iter().any(|(name, d)| !d && listed(name));
    if found {
        clues.either(0.5, "no table beside them", bare);
    }
}

/// Reads `FOLDER/CLASS/…` for every folder with its split; an empty folder is the root itself.
pub(super) fn read_folders(
    of: &dyn Read,
    folders: &[(String, Option<&'static str>)],
    skipped: &mut Skipped,
) -> Result<Dataset> {
    let mut classes = BTreeSet::new();
    for (folder, _) in folders {
        let inside = entries(&of.root().join(folder))?.into_iter();
        classes.extend(inside.filter(|(name, is_folder)| *is_folder && !name.starts_with('.')).map(|e| e.0));
    }
    let classes: Vec<String> = classes.into_iter().collect();
    if classes.is_empty() {
        return Err(Error::data(of.root(), None, "no class folders").with_hint(of.obtain()));
    }
    let mut rows = Rows::single(of.name(), classes.clone());
    for (folder, split) in folders {
        for (class, name) in classes.iter().enumerate() {
            let below = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let path = of.root().join(&below);
            if !path.is_dir() {
                continue;
            }
            rows.table(&path);
            for image in walk(of.root(), &below)? {
                if image.contains("/.") {
                    skipped.row("the file is hidden", &path, 0, &image);
                    continue;
                }
                if !is_image(&image) {
                    skipped.row("the file is no image by its name", &path, 0, &image);
                    continue;
                }
                rows.push(
                    0,
                    NewRow { image: image.into(), split: *split, class: Some(class as i32), ..Default::default() },
                    &[],
                );
            }
        }
    }
    rows.finish(of.root(), (Missing::Skip, super::OddRows::Skip), skipped, of.obtain())
}

/// Whether a file's name ends as an image's does.
pub(super) fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
    EXTENSIONS.contains(&extension.as_str())
}

/// Files below a folder: folders sorted by their path, and files within each by name.
pub(super) fn walk(root: &Path, below: &str) -> Result<Vec<String>> {
    let mut folders = vec![below.to_string()];
    let mut inside = Vec::new();
    while let Some(folder) = folders.pop() {
        for (name, is_folder) in entries(&root.join(&folder))? {
            if is_folder {
                folders.push(format!("{folder}/{name}"));
            } else {
                inside.push((folder.clone(), name));
            }
        }
    }
    inside.sort();
    Ok(inside.into_iter().map(|(folder, name)| format!("{folder}/{name}")).collect())
}

/// Names in a folder, with whether each is a folder itself.
pub(super) fn entries(folder: &Path) -> Result<Vec<(String, bool)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        found.push((name, entry.file_type().map_err(Error::io(folder))?.is_dir()));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> (tempfile::TempDir, Options) {
        let dir = tempfile::tempdir().unwrap();
        for f in files {
            let path = dir.path().join(f);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let options = serde_json::from_value(serde_json::json!({"root": dir.path()})).unwrap();
        (dir, options)
    }

    #[test]
    fn splits_are_found_and_classes_sorted_over_all_of_them() {
        let (_dir, options) = tree(&[
            "train/b/1.png",
            "train/b/deep/0.JPEG",
            "train/b/notes.txt",
            "val/a/2.png",
            "train/.c/1.png",
            "train/b/._1.png",
        ]);
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        let images: Vec<&str> = d.images().unwrap().iter().flatten().collect();
        assert_eq!(images, ["train/b/1.png", "train/b/deep/0.JPEG", "val/a/2.png"]);
        assert_eq!(d.task().names(), ["a", "b"]);
        assert_eq!(d.text("split").unwrap().value(2), "valid");
        assert_eq!(skipped.of("the file is no image by its name"), 1);
        assert_eq!(skipped.of("the file is hidden"), 1);
    }

    #[test]
    fn without_splits_there_is_no_split_column() {
        let (_dir, options) = tree(&["10/1.png", "9/1.png"]);
        let d = options.read(&mut Skipped::default()).unwrap();
        assert_eq!(d.task().names(), ["10", "9"]);
        assert!(d.text("split").is_none());
        let (_dir, empty) = tree(&["x.png"]);
        assert!(empty.read(&mut Skipped::default()).unwrap_err().to_string().ends_with("no class folders"));
    }
}
