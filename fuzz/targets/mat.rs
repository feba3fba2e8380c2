//! MATLAB's `.mat`, as the lists of Flowers-102 are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaleshot::data::format::{Format, Read, Skipped};
use scaleshot_fuzz::{file, folder};
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    file("imagelabels.mat", bytes);
    file("setid.mat", bytes);
    let format = json!({"format": "flowers102", "root": folder()});
    let format: Format = serde_json::from_value(format).unwrap_or_else(|e| panic!("{e}"));
    let _ = format.read(&mut Skipped::default());
});
