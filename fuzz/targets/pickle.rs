//! Python's pickles, as CIFAR's batches are: values, or what is wrong in words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaleshot::{data::format::packed::Packed, pickle::Pickle};
use scaleshot_fuzz::file;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(pickle) = Pickle::read(bytes) {
        for key in ["data", "labels", "fine_labels", "filenames"] {
            if let Some(value) = pickle.entry(key) {
                let _ = (pickle.integers(value), pickle.texts(value));
            }
        }
    }
    let _ = Pickle::read_around_code(bytes);
    if bytes.first() == Some(&0x80) {
        let path = file("data_batch_1", bytes);
        if let Ok(batch) = Packed::open(&path, &std::env::temp_dir()) {
            let _ = (batch.record(&path, 0), batch.record(&path, u32::MAX));
        }
    }
});
