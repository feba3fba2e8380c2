//! Oxford 102 Flowers (Nilsback, Zisserman 2008) in the published re-split: `mod_train/CLASS/x.jpg` holds
//! the original test images, `mod_test/CLASS/x.jpg` the original training and validation images.
//!
//! The `.mat` files of the original are not read.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Read, Skipped, folder::read_folders};
use crate::{
    data::dataset::Dataset,
    error::{Error, Result},
};

/// Oxford 102 Flowers, re-split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds `mod_train/` and `mod_test/`.
    pub root: PathBuf,
    /// Name of the set in the column `dataset`.
    #[serde(default = "name")]
    pub name: String,
}

fn name() -> String {
    "flowers102".into()
}

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        "download from www.robots.ox.ac.uk/~vgg/data/flowers/102 and sort the images into mod_train/CLASS/ (tstid) and mod_test/CLASS/ (trnid and valid)"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let folders = [("mod_train".to_string(), Some("train")), ("mod_test".to_string(), Some("test"))];
        for (folder, _) in &folders {
            if !self.root.join(folder).is_dir() {
                return Err(Error::data(self.root.join(folder), None, "no such folder").with_hint(self.obtain()));
            }
        }
        read_folders(self, &folders, skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_keep_the_order_of_their_names_as_text() {
        let dir = tempfile::tempdir().unwrap();
        for f in ["mod_train/2/a.jpg", "mod_train/10/b.jpg", "mod_test/2/c.jpg"] {
            std::fs::create_dir_all(dir.path().join(f).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(f), "x").unwrap();
        }
        let options: Options = serde_json::from_value(serde_json::json!({"root": dir.path()})).unwrap();
        let d = options.read(&mut Skipped::default()).unwrap();
        assert_eq!(d.task().names(), ["10", "2"]);
        assert_eq!(d.classes().unwrap().values(), &[0, 1, 1]);
        assert_eq!(d.split("test").unwrap().rows(), 1);
        std::fs::remove_dir_all(dir.path().join("mod_test")).unwrap();
        assert!(options.read(&mut Skipped::default()).is_err());
    }
}
