//! DICOM files. The preamble and its mark are put before the input, which would seldom guess them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaleshot::data::image::decode::{DecodeRule, decode};
use scaleshot_fuzz::let_caught_panics_pass;

fuzz_target!(
    init: let_caught_panics_pass(),
    |bytes: &[u8]| {
        let mut whole = vec![0; 128];
        whole.extend_from_slice(b"DICM");
        whole.extend_from_slice(bytes);
        if let Ok(image) = decode(&whole, &DecodeRule { max_pixels: 1 << 20, ..DecodeRule::default() }) {
            assert_eq!(image.data.len(), image.size.bytes());
        }
    }
);
