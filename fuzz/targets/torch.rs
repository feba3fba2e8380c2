//! PyTorch's `.pth`: a zip with a pickle and tensors. Weights, or an error that names the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaleshot::model::weights;
use scaleshot_fuzz::file;

fuzz_target!(|bytes: &[u8]| {
    let path = file("weights.torch", bytes);
    match weights::torch::read(&path) {
        Ok(_) => drop(weights::read(&path)),
        Err(e) => assert!(e.to_string().contains("weights.torch"), "{e}"),
    }
});
