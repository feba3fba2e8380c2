//! What the JPEG images inside a DICOM file declare, held against the file around them.
//!
//! Their decoder takes memory by their own headers, and what it returns fills the start of a frame of the file's
//! size: where they differ, the rest would be black. Nothing is decoded here.

use super::{Result, broken};

/// What a frame of the file consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) width: u64,
    pub(super) height: u64,
    /// Values a pixel.
    pub(super) samples: u64,
    /// Bits that a value takes: 8 or 16.
    pub(super) bits: u64,
}

/// Checks every JPEG that begins in one of the `fragments` of encoded pixels.
///
/// # Errors
/// A JPEG of other dimensions than the `frame` has, whose header lies in several fragments or has bytes between its
/// parts, or no JPEG at all.
pub(super) fn check_jpegs(fragments: &[Vec<u8>], frame: Frame) -> Result<()> {
    let begins = |fragment: &[u8]| fragment.starts_with(&[0xFF, 0xD8]);
    // One byte in a fragment and the next in another would make a beginning that is not seen here.
    if !fragments.iter().find(|f| !f.is_empty()).is_some_and(|f| begins(f)) || fragments.iter().any(|f| f.len() == 1) {
        return Err(broken("its pixels do not begin as a JPEG does"));
    }
    for fragment in fragments.iter().filter(|f| begins(f)) {
        let found = header(fragment).ok_or_else(|| broken("a JPEG inside has no plain header"))?;
        if found != frame {
            let told = |f: Frame| format!("{} x {} pixels of {} x {} bits", f.width, f.height, f.samples, f.bits);
            return Err(broken(format!("it declares {}, and the JPEG inside {}", told(frame), told(found))));
        }
    }
    Ok(())
}

/// The frame header of a JPEG, where nothing but tables, comments and application data stand before it.
fn header(bytes: &[u8]) -> Option<Frame> {
    let mut at = 2;
    loop {
        let &[0xFF, marker, high, low] = bytes.get(at..)?.first_chunk()? else { return None };
        match marker {
            // Bytes that fill.
            0xFF => at += 1,
            // Huffman and quantisation tables, restart interval, application data, comments.
            0xC4 | 0xDB | 0xDD | 0xE0..=0xEF | 0xFE => at += 2 + usize::from(u16::from_be_bytes([high, low])),
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                let &[precision, h1, h0, w1, w0, samples] = bytes.get(at + 4..)?.first_chunk()?;
                return Some(Frame {
                    width: u64::from(u16::from_be_bytes([w1, w0])),
                    height: u64::from(u16::from_be_bytes([h1, h0])),
                    samples: samples.into(),
                    // The decoder gives bytes for 8 bits alone.
                    bits: if precision == 8 { 8 } else { 16 },
                });
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame { width: 300, height: 200, samples: 1, bits: 8 };

    fn jpeg(before: &[u8], height: u16, width: u16, precision: u8) -> Vec<u8> {
        let size = [height.to_be_bytes(), width.to_be_bytes()].concat();
        let frame = [&[0xFF, 0xC0, 0, 11, precision], &size[..], &[1, 1, 0x11, 0]].concat();
        [&[0xFF, 0xD8], before, &frame].concat()
    }

    #[test]
    fn a_jpeg_has_the_size_of_the_file_around_it() {
        for before in [&[][..], &[0xFF, 0xE0, 0, 4, 1, 2], &[0xFF, 0xFF, 0xFF, 0xFE, 0, 3, 9]] {
            let whole = jpeg(before, 200, 300, 8);
            assert_eq!(header(&whole), Some(FRAME));
            // What continues a frame is looked at no further.
            check_jpegs(&[whole.clone(), vec![1, 2, 3]], FRAME).unwrap();
            check_jpegs(&[Vec::new(), whole], FRAME).unwrap();
        }
        let told = |fragments: &[Vec<u8>]| check_jpegs(fragments, FRAME).unwrap_err().to_string();
        let e = told(&[jpeg(&[], 60_000, 60_000, 8)]);
        assert!(e.ends_with("300 x 200 pixels of 1 x 8 bits, and the JPEG inside 60000 x 60000 pixels of 1 x 8 bits"));
        assert!(told(&[jpeg(&[], 200, 300, 12)]).contains("inside 300 x 200 pixels of 1 x 16 bits"));
        // The second of two.
        assert!(told(&[jpeg(&[], 200, 300, 8), jpeg(&[], 200, 299, 8)]).contains("inside 299 x 200"));
    }

    #[test]
    fn a_header_that_hides_is_refused() {
        let told = |fragments: &[Vec<u8>]| check_jpegs(fragments, FRAME).unwrap_err().to_string();
        let whole = jpeg(&[0xFF, 0xE0, 0, 4, 1, 2], 200, 300, 8);
        for cut in [2, 5, 9, 15] {
            let parts = [whole[..cut].to_vec(), whole[cut..].to_vec()];
            assert!(told(&parts).contains("no plain header"), "{cut}");
        }
        // Bytes between its parts, an end before it, a length that leads away from it.
        for before in [&[0][..], &[0xFF, 0xD9, 0, 0], &[0xFF, 0xE0, 0xEA, 0x60]] {
            assert!(told(&[jpeg(before, 200, 300, 8)]).contains("no plain header"), "{before:?}");
        }
        for fragments in [vec![], vec![vec![]], vec![vec![0xFF], whole[1..].to_vec()], vec![vec![0, 1], whole]] {
            assert!(told(&fragments).contains("do not begin"), "{fragments:?}");
        }
    }
}
