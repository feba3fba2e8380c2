//! DICOM images to 8-bit pixels, the way a viewer shows them: stored values through the modality rescale,
//! then the first VOI table or window of the file, then inverted where 0 means white.
//!
//! | step | attribute | rule |
//! |---|---|---|
//! | stored value | Bits Stored, Pixel Representation | the low bits, two's complement where signed |
//! | modality | Rescale Slope and Intercept | `slope * stored + intercept` |
//! | VOI | VOI LUT Sequence, else Window Center and Width | PS3.3 C.11.2.1.2, functions LINEAR, LINEAR_EXACT, SIGMOID |
//! | VOI, absent | | the image's own smallest and largest value to 0 and 255 |
//! | inversion | MONOCHROME1 | `255 - v` |
//!
//! Of many frames the first is read. Pixels may be native, RLE or JPEG (baseline, extended, lossless); JPEG-LS,
//! JPEG 2000, deflated files (whose size is not known before they are unpacked) and others are refused by name, with
//! a way to convert them. What a file declares is checked before the parser believes it (`declared`, `fragment`). No
//! overlays, no palettes, no presentation states.

mod declared;
mod fragment;

#[cfg(test)]
mod fixture;

use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_object::{DefaultDicomObject, FileMetaTable, OpenFileOptions, Tag};
use dicom_pixeldata::{
    DecodedPixelData, PhotometricInterpretation, PixelDecoder, PixelRepresentation, PlanarConfiguration, Rescale,
    VoiLutFunction, WindowLevelTransform,
};

use super::{
    ImageSize, Pixels,
    decode::{DecodeError, DecodeRule, check_size},
    transfer_syntax::unread,
};

const FORMAT: &str = "DICOM";
const SAMPLES_PER_PIXEL: Tag = Tag(0x0028, 0x0002);
const ROWS: Tag = Tag(0x0028, 0x0010);
const COLUMNS: Tag = Tag(0x0028, 0x0011);
const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);
/// The transfer syntaxes of JPEG begin so: baseline, extended, lossless.
const JPEG: &str = "1.2.840.10008.1.2.4.";

type Result<T> = std::result::Result<T, DecodeError>;

fn broken(message: impl ToString) -> DecodeError {
    DecodeError::Broken { format: FORMAT, message: message.to_string() }
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT }
}

/// Whether the bytes are a DICOM file: 128 bytes of anything, then `DICM`.
pub(super) fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM")
}

/// The first frame as grey or RGB pixels, channels as `rule` says.
///
/// # Errors
/// More pixels than `rule` allows (found before anything is allocated for them), a transfer syntax that is not
/// read, colour that is neither monochrome nor RGB, or a file that contradicts itself.
pub(super) fn decode(bytes: &[u8], rule: &DecodeRule) -> Result<Pixels> {
    // The parser's codecs index by what the file declares; a malformed one must not end the program.
    catch_unwind(AssertUnwindSafe(|| decode_trusting(bytes, rule)))
        .unwrap_or_else(|_| Err(broken("it contradicts itself")))
}

fn decode_trusting(bytes: &[u8], rule: &DecodeRule) -> Result<Pixels> {
    declared::check_meta(&bytes[128..])?;
    let meta = FileMetaTable::from_reader(&bytes[128..]).map_err(broken)?;
    let syntax = meta.transfer_syntax().trim_end_matches(|c: char| c == '\0' || c.is_whitespace());
    if let Some(unread) = unread(syntax) {
        let (name, convert) = (unread.name, unread.convert);
        return Err(DecodeError::Syntax { uid: syntax.into(), name, convert });
    }
    declared::check_data_set(&bytes[128..], syntax)?;
    let object = OpenFileOptions::new().from_reader(bytes).map_err(|e| match ended(&e) {
        true => truncated(),
        false => broken(e),
    })?;
    check_frame(&object, syntax, rule)?;
    let frame = object.decode_pixel_data_frame(0).map_err(|e| broken(format!("{e} (transfer syntax {syntax})")))?;
    let size =
        ImageSize { height: frame.rows(), width: frame.columns(), channels: u32::from(frame.samples_per_pixel()) };
    let data = match (frame.photometric_interpretation(), size.channels) {
        (PhotometricInterpretation::Monochrome1, 1) => grey(&frame)?.into_iter().map(|v| 255 - v).collect(),
        (PhotometricInterpretation::Monochrome2, 1) => grey(&frame)?,
        (PhotometricInterpretation::Rgb, 3) if frame.bits_allocated() == 8 => interleaved(&frame, size),
        (other, n) => return Err(broken(format!("{n} samples a pixel of {other} are not read"))),
    };
    let pixels = Pixels::new(size, data).ok_or_else(truncated)?;
    Ok(pixels.with_channels(rule.channels, rule.grey))
}

/// Whether an error goes back to the end of the file.
fn ended(e: &(dyn std::error::Error + 'static)) -> bool {
    let io = e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof);
    io || e.source().is_some_and(ended)
}

/// What the file says of a frame, before memory is taken for one.
fn check_frame(object: &DefaultDicomObject, syntax: &str, rule: &DecodeRule) -> Result<()> {
    let number = |tag: Tag, name: &str| -> Result<u64> {
        let element = object.element(tag).map_err(|_| broken(format!("it has no {name}")))?;
        element.to_int::<u16>().map(u64::from).map_err(broken)
    };
    let (width, height) = (number(COLUMNS, "Columns")?, number(ROWS, "Rows")?);
    check_size(width, height, FORMAT, rule)?;
    let samples = number(SAMPLES_PER_PIXEL, "Samples per Pixel")?;
    let bits = number(BITS_ALLOCATED, "Bits Allocated")?;
    if !matches!((samples, bits), (1, 8 | 16) | (3, 8)) {
        return Err(broken(format!("{samples} samples of {bits} bits a pixel are not read")));
    }
    let pixels = object.element(PIXEL_DATA).map_err(|_| broken("it has no pixel data"))?;
    match pixels.value().fragments() {
        Some(fragments) if syntax.starts_with(JPEG) => {
            fragment::check_jpegs(fragments, fragment::Frame { width, height, samples, bits })
        }
        _ => Ok(()),
    }
}

/// RGB bytes channels last, however the file lays out its planes.
fn interleaved(frame: &DecodedPixelData, size: ImageSize) -> Vec<u8> {
    let bytes = &frame.data()[..size.bytes().min(frame.data().len())];
    if frame.planar_configuration() == PlanarConfiguration::Standard {
        return bytes.to_vec();
    }
    let plane = size.bytes() / 3;
    (0..plane).flat_map(|i| [0, 1, 2].map(|c| bytes.get(c * plane + i).copied().unwrap_or(0))).collect()
}

/// Stored values to 0..=255 by a table over every value that the bits can hold.
fn grey(frame: &DecodedPixelData) -> Result<Vec<u8>> {
    let (stored, allocated) = (frame.bits_stored(), frame.bits_allocated());
    if !matches!(allocated, 8 | 16) || stored == 0 || stored > allocated || frame.high_bit() + 1 != stored {
        let high = frame.high_bit();
        return Err(broken(format!("{stored} of {allocated} bits up to bit {high} are not read")));
    }
    let mask = (1u32 << stored) - 1;
    let raw: Vec<u16> = match allocated {
        8 => frame.data().iter().map(|&b| u16::from(b) & mask as u16).collect(),
        _ => frame.data().chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]]) & mask as u16).collect(),
    };
    let rescale = frame.rescale().map_err(broken)?.first().copied().unwrap_or(Rescale::new(1.0, 0.0));
    let signed = frame.pixel_representation() == PixelRepresentation::Signed;
    let value = |raw: u32| {
        let wide = i64::from(raw) - if signed && raw >> (stored - 1) == 1 { 1i64 << stored } else { 0 };
        rescale.apply(wide as f64)
    };
    let show = Shown::of(frame, raw.iter().map(|&r| value(u32::from(r))))?;
    let table: Vec<u8> = (0..=mask).map(|r| show.level(value(r))).collect();
    Ok(raw.into_iter().map(|r| table[usize::from(r)]).collect())
}

/// From a modality value to what a viewer shows.
enum Shown<'a> {
    /// The entries, and the modality value of the first.
    Table(&'a [u16], f64),
    Window(WindowLevelTransform),
    /// Smallest value, and the span to the largest.
    Range(f64, f64),
}

impl<'a> Shown<'a> {
    fn of(frame: &'a DecodedPixelData, values: impl Iterator<Item = f64>) -> Result<Self> {
        if let Some(lut) = frame.voi_lut_sequence().map_err(broken)?.and_then(<[_]>::first)
            && !lut.data.is_empty()
        {
            return Ok(Shown::Table(&lut.data, f64::from(lut.min_pixel_value)));
        }
        if let Some(&window) = frame.window().map_err(broken)?.and_then(<[_]>::first) {
            let function = frame.voi_lut_function().map_err(broken)?.and_then(<[_]>::first).copied();
            if !(window.width > 0.0 && window.width.is_finite() && window.center.is_finite()) {
                return Err(broken(format!("a window of width {} around {}", window.width, window.center)));
            }
            return Ok(Shown::Window(WindowLevelTransform::new(function.unwrap_or(VoiLutFunction::Linear), window)));
        }
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        Ok(Shown::Range(low, if high > low { high - low } else { 1.0 }))
    }

    fn level(&self, value: f64) -> u8 {
        let level = match self {
            Shown::Table(entries, first) => {
                let at = (value.round() - first).clamp(0.0, (entries.len() - 1) as f64) as usize;
                255.0 * f64::from(entries[at]) / f64::from(top(entries))
            }
            Shown::Window(window) => window.apply(value, 255.0),
            Shown::Range(low, span) => 255.0 * (value - low) / span,
        };
        level.round().clamp(0.0, 255.0) as u8
    }
}

/// The largest value that a VOI table's entries can have: that of the bits that they use, because some devices
/// declare 16 bits for entries of 12.
fn top(entries: &[u16]) -> u32 {
    let largest = entries.iter().copied().max().unwrap_or(0);
    let used = (16 - largest.leading_zeros()).max(1);
    (1 << used) - 1
}

#[cfg(test)]
mod tests {
    use super::{
        fixture::{EXPLICIT as NATIVE, Elements, file, head},
        *,
    };

    /// 2 rows of 3 pixels of 12 stored bits.
    fn twelve(photometric: &[u8], signed: bool, more: impl FnOnce(Elements) -> Elements, values: [i16; 6]) -> Vec<u8> {
        let head = Elements::default()
            .us(2, 1)
            .put(0x28, 4, b"CS", photometric)
            .us(0x10, 2)
            .us(0x11, 3)
            .us(0x100, 16)
            .us(0x101, 12)
            .us(0x102, 11)
            .us(0x103, u16::from(signed));
        let data: Vec<u8> = values.iter().flat_map(|v| (*v as u16 & 0x0FFF).to_le_bytes()).collect();
        file(NATIVE, more(head).put(0x7FE0, 0x10, b"OW", &data))
    }

    fn rule() -> DecodeRule {
        DecodeRule { channels: 1, ..Default::default() }
    }

    fn levels(bytes: &[u8]) -> Vec<u8> {
        let p = super::super::decode(bytes, &rule()).unwrap();
        assert_eq!((p.size.height, p.size.width), (2, 3));
        p.data
    }

    #[test]
    fn without_a_window_the_range_is_stretched_and_monochrome1_inverted() {
        let values = [0, 100, 200, 300, 400, 4095];
        let plain = levels(&twelve(b"MONOCHROME2", false, |e| e, values));
        assert_eq!(plain, [0, 6, 12, 19, 25, 255]);
        let inverted = levels(&twelve(b"MONOCHROME1", false, |e| e, values));
        assert_eq!(inverted, plain.iter().map(|v| 255 - v).collect::<Vec<_>>());
        // The same at every value: nothing to stretch, and nothing to divide by.
        assert_eq!(levels(&twelve(b"MONOCHROME2", false, |e| e, [7; 6])), [0; 6]);
    }

    #[test]
    fn rescale_comes_before_the_window() {
        // -1000 + 2 x, window 100 around 0: PS3.3 C.11.2.1.2.1, y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255.
        let window = |e: Elements| {
            e.put(0x28, 0x1050, b"DS", b"0\\500")
                .put(0x28, 0x1051, b"DS", b"100\\50")
                .put(0x28, 0x1052, b"DS", b"-1000")
                .put(0x28, 0x1053, b"DS", b"2")
        };
        let shown = levels(&twelve(b"MONOCHROME2", false, window, [0, 475, 490, 500, 510, 600]));
        let expected = |x: f64| (((x + 0.5) / 99.0 + 0.5) * 255.0).round() as u8;
        assert_eq!(shown, [0, 0, expected(-20.0), expected(0.0), expected(20.0), 255]);
        let exact = |e: Elements| {
            let e = e.put(0x28, 0x1050, b"DS", b"0").put(0x28, 0x1051, b"DS", b"100");
            e.put(0x28, 0x1056, b"CS", b"LINEAR_EXACT")
        };
        // Signed 12-bit values; 0 lies at half of the range.
        let shown = levels(&twelve(b"MONOCHROME2", true, exact, [-2048, -50, -25, 0, 25, 50]));
        assert_eq!(shown, [0, 0, 64, 128, 191, 255]);
    }

    #[test]
    fn pydicoms_windows_and_codecs_are_met() {
        use crate::data::format::fixtures;
        // tests/fixtures/make.py: every 7th pixel as pydicom 3.0.2 shows it.
        let expected: serde_json::Value = serde_json::from_slice(&fixtures::read("dicom.json")).unwrap();
        for name in ["window", "inverted", "plain", "rle"] {
            let p = super::super::decode(&fixtures::read(&format!("dicom_{name}.dcm.gz")), &rule()).unwrap();
            assert_eq!((p.size.height, p.size.width), (12, 20), "{name}");
            let expected: Vec<f64> = expected[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            let ours: Vec<u8> = p.data.iter().copied().step_by(7).collect();
            assert_eq!(ours.len(), expected.len());
            for (ours, theirs) in ours.iter().zip(&expected) {
                assert!((f64::from(*ours) - theirs).abs() <= 0.51, "{name}: {ours} {theirs}");
            }
        }
        // JPEG inside: a ramp from top left to bottom right, stretched to the whole range.
        let p = super::super::decode(&fixtures::read("dicom_jpeg.dcm.gz"), &rule()).unwrap();
        assert!(p.data[0] < 4 && p.data[239] > 251 && p.data[19] > p.data[220], "{:?}", p.data);
    }

    #[test]
    fn rgb_planes_and_channels_last_agree() {
        let rgb = |planar: u16, data: [u8; 18]| {
            file(NATIVE, head(2, 3, 3, b"RGB").us(6, planar).put(0x7FE0, 0x10, b"OB", &data))
        };
        let last: [u8; 18] = std::array::from_fn(|i| 10 * i as u8);
        let planes: [u8; 18] = std::array::from_fn(|i| last[3 * (i % 6) + i / 6]);
        let rule = DecodeRule::default();
        let read = |bytes: &[u8]| super::super::decode(bytes, &rule).unwrap();
        assert_eq!(read(&rgb(0, last)).data, last);
        assert_eq!(read(&rgb(1, planes)).data, last);
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        let fail = |bytes: &[u8]| super::super::decode(bytes, &rule()).unwrap_err();
        let good = twelve(b"MONOCHROME2", false, |e| e, [1; 6]);
        assert_eq!(fail(&good[..good.len() - 4]), DecodeError::Truncated { format: FORMAT });
        let palette = twelve(b"PALETTE COLOR", false, |e| e, [1; 6]);
        assert!(fail(&palette).to_string().contains("PALETTE COLOR are not read"), "{}", fail(&palette));
        let narrow = |e: Elements| e.put(0x28, 0x1050, b"DS", b"0").put(0x28, 0x1051, b"DS", b"0");
        let e = fail(&twelve(b"MONOCHROME2", false, narrow, [1; 6]));
        assert!(e.to_string().contains("a window of width 0"), "{e}");
        for (syntax, name, convert) in [
            ("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", "dcmconv +te IN OUT (DCMTK)"),
            ("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless", "dcmdjpls IN OUT (DCMTK)"),
            ("1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless", "gdcmconv --raw IN OUT (GDCM)"),
        ] {
            let e = fail(&file(syntax, head(2, 3, 1, b"MONOCHROME2").put(0x7FE0, 0x10, b"OB", &[0; 6]))).at("x.dcm");
            assert_eq!(e.to_string(), format!("x.dcm: DICOM transfer syntax {name} ({syntax}) is not read"));
            assert_eq!(e.hint(), Some(format!("convert the files first: {convert}").as_str()));
        }
    }

    #[test]
    fn a_declared_size_is_checked_before_anything_is_allocated() {
        let fail = |syntax: &str, e: Elements| super::super::decode(&file(syntax, e), &rule()).unwrap_err();
        let pixels = |e: Elements| e.put(0x7FE0, 0x10, b"OB", &[0; 6]);
        let e = fail(NATIVE, pixels(head(60_000, 60_000, 1, b"MONOCHROME2")));
        assert_eq!(e, DecodeError::TooLarge { width: 60_000, height: 60_000, limit: 100_000_000 });
        // As many pixels as are allowed, with 65,535 values each.
        let e = fail("1.2.840.10008.1.2.5", pixels(head(10_000, 10_000, u16::MAX, b"MONOCHROME2")));
        assert_eq!(e.to_string(), "broken DICOM image: 65535 samples of 8 bits a pixel are not read");
        // A small DICOM file around a JPEG that claims 60,000 x 60,000.
        let sof = [0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 1, 2, 0xFF, 0xC1, 0, 11, 8, 0xEA, 0x60, 0xEA, 0x60, 1, 1, 0x11, 0, 0];
        let mut file = head(2, 3, 1, b"MONOCHROME2").0;
        file.extend([0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        file.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
        file.extend([0xFE, 0xFF, 0x00, 0xE0, sof.len() as u8, 0, 0, 0]);
        file.extend(sof);
        file.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
        let e = fail("1.2.840.10008.1.2.4.50", Elements(file));
        assert!(e.to_string().contains("the JPEG inside 60000 x 60000"), "{e}");
    }
}
