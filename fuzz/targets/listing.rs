//! A store whose folders hold files with any names: listed, judged and collected without a stumble.
//!
//! The input is lines, each the name of an empty file; a line that is no usable path is left out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaleshot::store::{Keep, Store};
use scaleshot_fuzz::folder;

const MOST_LINES: usize = 12;

fuzz_target!(|bytes: &[u8]| {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Component};
    let place = folder().join("store");
    let _ = std::fs::remove_dir_all(&place);
    for line in bytes.split(|&b| b == b'\n').take(MOST_LINES) {
        let name = std::path::Path::new(OsStr::from_bytes(line));
        let inside = name.components().all(|c| matches!(c, Component::Normal(_)));
        if line.is_empty() || line.len() > 200 || line.contains(&0) || !inside {
            continue;
        }
        let path = place.join(name);
        if let Some(parent) = path.parent()
            && std::fs::create_dir_all(parent).is_ok()
        {
            let _ = std::fs::write(&path, b"");
        }
    }
    let Ok(store) = Store::open(&place) else { return };
    let records = store.records();
    for key in records.iter().flatten() {
        assert!(!matches!(store.record(key), Ok(Some(_))), "an empty record was read");
    }
    let blobs = store.blobs();
    for (digest, size) in blobs.iter().flatten() {
        assert_eq!(*size, 0);
        let _ = store.verify_blob(digest);
    }
    let _ = store.last_names().map(|names| names.iter().map(|n| store.last_of(n).is_ok()).count());
    let _ = (store.owners(), store.broken_indexes(), store.run_names());
    let _ = store.garbage(&Keep::default());
    let _ = store.collect(&Keep::default());
});
