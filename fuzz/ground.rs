//! Where fuzz targets put files, for readers that want one.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// This process's folder in memory, or in the temporary folder where there is none.
///
/// libFuzzer ends its process without unwinding, so the folder is left to who started it: `fuzz/run.sh` removes it.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let made = tempfile::Builder::new().prefix("scaleshot-fuzz-").tempdir();
        made.unwrap_or_else(|e| panic!("no folder to fuzz in: {e}")).keep()
    })
}

/// A file of this name with this content, made anew.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    let written = std::fs::write(&path, bytes).or_else(|_| {
        std::fs::create_dir_all(path.parent().unwrap_or(folder())).and_then(|()| std::fs::write(&path, bytes))
    });
    written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}

/// Lets panics pass that the reader catches itself: libFuzzer's own hook would end the process at each.
///
/// One that nobody catches still ends it.
pub fn let_caught_panics_pass() {
    std::panic::set_hook(Box::new(|_| {}));
}
