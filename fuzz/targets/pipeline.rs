//! A pipeline file: read, checked and expanded, or refused with places.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use scaleshot::{
    kind::KINDS,
    pipeline::{LoadOptions, YamlLimits, parse_with},
};

fuzz_target!(|bytes: &[u8]| {
    // Smaller limits than the program's, so that what is slow by being large is not what is found.
    let yaml = YamlLimits { bytes: 1 << 16, depth: 64, values: 5_000 };
    let options = LoadOptions { max_cells: 500, yaml, env: |_| None, ..LoadOptions::default() };
    match parse_with(KINDS, Path::new("fuzzed.yaml"), bytes, &options) {
        Ok(pipeline) => {
            for (at, cell) in pipeline.cells.iter().enumerate() {
                assert!(cell.inputs.values().flatten().all(|input| input.cell < at), "a parent comes after its child");
            }
            assert!(pipeline.select(&[]).is_ok());
        }
        Err(diagnostics) => assert!(!diagnostics.to_string().is_empty()),
    }
});
