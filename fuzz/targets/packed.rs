//! LMDB and TFRecord files: counted and read record by record, or refused.
//!
//! Pages of LMDB are 4096 bytes; zeros are put behind the input up to a whole page, since a mutation seldom is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaleshot::data::format::packed::{Packed, count, is_packed};
use scaleshot_fuzz::file;

const PAGE_BYTES: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    if !is_packed(&bytes[..bytes.len().min(64)]) || bytes.starts_with(b"PAR1") {
        return;
    }
    for padded in [false, true] {
        let mut whole = bytes.to_vec();
        if padded {
            whole.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
        }
        let path = file("packed", &whole);
        let (_, records) = count(&path);
        if let Ok(packed) = Packed::open(&path, &std::env::temp_dir()) {
            for record in 0..records.unwrap_or(0).min(8) {
                let _ = packed.record(&path, record as u32);
            }
            let _ = packed.record(&path, u32::MAX);
        }
    }
});
