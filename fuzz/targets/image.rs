//! JPEG, PNG and GIF: decoded to the pixels that the header promises, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaleshot::data::image::decode::{DecodeRule, decode, decode_reduced};

fuzz_target!(|bytes: &[u8]| {
    let rule = DecodeRule { max_pixels: 1 << 20, ..DecodeRule::default() };
    for channels in [1, 3] {
        let rule = DecodeRule { channels, ..rule };
        if let Ok(image) = decode(bytes, &rule) {
            assert_eq!(image.data.len(), image.size.bytes());
            assert_eq!(image.size.channels, channels);
        }
    }
    if let Ok(reduced) = decode_reduced(bytes, &rule, &|_, _| 4) {
        assert_eq!(reduced.image.data.len(), reduced.image.size.bytes());
    }
});
