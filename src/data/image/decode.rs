//! Encoded bytes to pixels. What a file is, is read from its content and never from its name.
//!
//! DICOM is read by [`super::dicom`]. No animation (a GIF gives its first frame), no colour management. Nothing is repaired: an
//! image that ends early is an error, never a picture whose rest is grey or black.

use std::io::Cursor;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

use super::{ImageSize, Pixels, dicom, grey_png, reduced};
use crate::error::Error;

/// How an RGB image becomes grey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GreyRule {
    /// ITU-R 601-2 luma with Pillow's integer weights.
    #[default]
    Luma,
    /// The first channel, as torchxrayvision takes it of RGB and RGBA X-rays.
    First,
}

impl GreyRule {
    pub fn grey(self, r: u8, g: u8, b: u8) -> u8 {
        match self {
            GreyRule::Luma => {
                ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
            }
            GreyRule::First => r,
        }
    }
}

/// How 16-bit samples become 8-bit ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SixteenBit {
    /// 0..=65535 to 0..=255, rounded: what is dark stays dark.
    #[default]
    FullRange,
    /// The image's own smallest and largest sample to 0 and 255, for 10 and 12-bit values in 16-bit files.
    MinMax,
}

/// What a decoded image shall look like, and how large a file may claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DecodeRule {
    /// 1 (grey) or 3 (RGB).
    pub channels: u32,
    /// How RGB becomes grey where `channels` is 1.
    pub grey: GreyRule,
    /// How 16-bit samples become 8-bit ones.
    pub sixteen_bit: SixteenBit,
    /// The most pixels that a file may declare; more is refused before anything is allocated.
    pub max_pixels: u64,
}

impl Default for DecodeRule {
    fn default() -> Self {
        DecodeRule {
            channels: 3,
            grey: GreyRule::default(),
            sixteen_bit: SixteenBit::default(),
            max_pixels: 100_000_000,
        }
    }
}

impl DecodeRule {
    /// The most bytes that a file of `max_pixels` has: four samples of 16 bits a pixel, uncompressed, and 64 MiB of
    /// whatever else a format holds.
    fn max_bytes(&self) -> u64 {
        self.max_pixels.saturating_mul(8).saturating_add(64 << 20)
    }
}

/// The content of an image file.
///
/// # Errors
/// A file that is longer than any image that `rule` allows, found before it is read.
pub fn read_file(path: &std::path::Path, rule: &DecodeRule) -> crate::error::Result<Vec<u8>> {
    let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
    if bytes > rule.max_bytes() {
        return Err(DecodeError::TooLong { bytes, limit: rule.max_bytes(), pixels: rule.max_pixels }.into());
    }
    std::fs::read(path).map_err(Error::io(path))
}

/// Why bytes are not an image that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the file is empty")]
    Empty,
    #[error("not a JPEG, PNG, GIF or DICOM image: it looks like {0}")]
    Unsupported(&'static str),
    #[error("declares {width} x {height} pixels, more than the {limit} allowed")]
    TooLarge { width: u64, height: u64, limit: u64 },
    #[error("the file has {bytes} bytes, more than the {limit} that an image of {pixels} pixels takes")]
    TooLong { bytes: u64, limit: u64, pixels: u64 },
    #[error("{format} image ends early")]
    Truncated { format: &'static str },
    #[error("DICOM transfer syntax {name} ({uid}) is not read")]
    Syntax { uid: String, name: &'static str, convert: &'static str },
    #[error("broken {format} image: {message}")]
    Broken { format: &'static str, message: String },
}

impl DecodeError {
    /// The same as an error about a file.
    pub fn at(self, file: impl AsRef<std::path::Path>) -> Error {
        let e = Error::data(file, None, self.to_string());
        if let Some(hint) = self.hint() { e.with_hint(hint) } else { e }
    }

    /// The way out, where there is one.
    fn hint(&self) -> Option<String> {
        match self {
            DecodeError::Syntax { convert, .. } => Some(format!("convert the files first: {convert}")),
            DecodeError::TooLarge { .. } | DecodeError::TooLong { .. } => {
                Some("raise max_pixels if the image is meant to be this large".into())
            }
            DecodeError::Unsupported("a git-lfs pointer") => Some("run git lfs pull".into()),
            _ => None,
        }
    }
}

impl From<DecodeError> for Error {
    fn from(e: DecodeError) -> Self {
        let hint = e.hint();
        let e = Error::invalid(e.to_string());
        if let Some(hint) = hint { e.with_hint(hint) } else { e }
    }
}

type Result<T> = std::result::Result<T, DecodeError>;

/// Decodes a JPEG (baseline or progressive), a PNG (1 to 16 bits; grey, RGB, palette, with or without
/// alpha or interlacing), or the first frame of a GIF or a DICOM file. Alpha is dropped, as Pillow's `convert` does.
pub fn decode(bytes: &[u8], rule: &DecodeRule) -> Result<Pixels> {
    match bytes {
        [] => Err(DecodeError::Empty),
        [0xFF, 0xD8, 0xFF, ..] => jpeg(bytes, rule),
        [0x89, b'P', b'N', b'G', ..] => png(bytes, rule),
        [b'G', b'I', b'F', b'8', ..] => gif(bytes, rule),
        _ if dicom::is_dicom(bytes) => dicom::decode(bytes, rule),
        _ => Err(DecodeError::Unsupported(guess(bytes))),
    }
}

/// A picture that may be smaller than its file says.
pub struct Reduced {
    pub image: Pixels,
    /// Height and width in the file.
    pub original: (u32, u32),
    /// The picture has 1 / `by` of the original's sides, rounded up; beyond the original it goes on somehow.
    pub by: u32,
}

/// Decodes as [`decode`] does, but a large JPEG to a half, a quarter or an eighth of its sides straight from its
/// frequencies: `by` says which for a height and width, and 1 is the whole picture, as is whatever else it says.
/// Where the file's kind has no short way, the whole picture comes back.
pub fn decode_reduced(bytes: &[u8], rule: &DecodeRule, by: &dyn Fn(u32, u32) -> u32) -> Result<Reduced> {
    match bytes {
        [0xFF, 0xD8, 0xFF, ..] => jpeg_reduced(bytes, rule, by),
        _ => decode(bytes, rule).map(Reduced::whole),
    }
}

impl Reduced {
    fn whole(image: Pixels) -> Self {
        Reduced { original: (image.size.height, image.size.width), image, by: 1 }
    }
}

/// A name for content that is not decoded, so that the message says what was found.
fn guess(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'B', b'M', ..] => "a BMP image",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "a TIFF image",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "a WebP image",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [0x1F, 0x8B, ..] => "gzip data",
        _ if bytes.starts_with(b"version https://git-lfs") => "a git-lfs pointer",
        _ if bytes.trim_ascii_start().starts_with(b"<") => "a web page or XML",
        _ => "unknown data",
    }
}

pub(super) fn check_size(width: u64, height: u64, format: &'static str, rule: &DecodeRule) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(DecodeError::Broken { format, message: format!("{width} x {height} pixels") });
    }
    if width.saturating_mul(height) > rule.max_pixels {
        return Err(DecodeError::TooLarge { width, height, limit: rule.max_pixels });
    }
    Ok(())
}

fn finish(
    width: u64,
    height: u64,
    channels: u32,
    data: Vec<u8>,
    format: &'static str,
    rule: &DecodeRule,
) -> Result<Pixels> {
    let size = ImageSize { height: height as u32, width: width as u32, channels };
    let pixels = Pixels::new(size, data)
        .ok_or_else(|| DecodeError::Broken { format, message: format!("its data does not fill {size}") })?;
    Ok(pixels.with_channels(rule.channels, rule.grey))
}

/// Whether an end-of-image marker follows the first scan. Inside entropy-coded data 0xFF is always
/// followed by 0x00 or a restart marker, so FFD9 after the first SOS cannot be anything else.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xFF, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            // From the end, where it nearly always is.
            0xDA => return bytes[at..].windows(2).rev().any(|w| w == [0xFF, 0xD9]),
            0xFF => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    // An unusual header: leave the judgement to the decoder.
    bytes.windows(2).any(|w| w == [0xFF, 0xD9])
}

fn jpeg(bytes: &[u8], rule: &DecodeRule) -> Result<Pixels> {
    Ok(jpeg_reduced(bytes, rule, &|_, _| 1)?.image)
}

fn jpeg_reduced(bytes: &[u8], rule: &DecodeRule, by: &dyn Fn(u32, u32) -> u32) -> Result<Reduced> {
    let broken = |e: zune_jpeg::errors::DecodeErrors| DecodeError::Broken { format: "JPEG", message: format!("{e:?}") };
    // zune-jpeg refuses sides above these before allocating; the product is checked below.
    let base = DecoderOptions::default().set_strict_mode(true).set_max_width(65_535).set_max_height(65_535);
    let mut header = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), base.set_strict_mode(false));
    header
        .decode_headers()
        .map_err(|e| if jpeg_is_whole(bytes) { broken(e) } else { DecodeError::Truncated { format: "JPEG" } })?;
    let (width, height) = header.dimensions().unwrap_or((0, 0));
    check_size(width as u64, height as u64, "JPEG", rule)?;
    if !jpeg_is_whole(bytes) {
        return Err(DecodeError::Truncated { format: "JPEG" });
    }
    // The luma plane of YCbCr is the grey image (within rounding), without the way through RGB and back.
    let (space, channels) = match (header.input_colorspace(), rule.channels, rule.grey) {
        (Some(ColorSpace::Luma), _, _) | (Some(ColorSpace::YCbCr), 1, GreyRule::Luma) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    let by = by(height as u32, width as u32);
    if by > 1
        && let Some(image) = reduced::decode(bytes, by, channels == 1)
    {
        let image = image.with_channels(rule.channels, rule.grey);
        return Ok(Reduced { image, original: (height as u32, width as u32), by });
    }
    let options = base.jpeg_set_out_colorspace(space);
    let data = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options).decode().map_err(broken)?;
    finish(width as u64, height as u64, channels, data, "JPEG", rule).map(Reduced::whole)
}

fn png(bytes: &[u8], rule: &DecodeRule) -> Result<Pixels> {
    let broken = |e: png::DecodingError| match &e {
        png::DecodingError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: "PNG" }
        }
        _ => DecodeError::Broken { format: "PNG", message: e.to_string() },
    };
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::EXPAND);
    let info = decoder.read_header_info().map_err(broken)?;
    let (width, height) = (u64::from(info.width), u64::from(info.height));
    check_size(width, height, "PNG", rule)?;
    if let Some((_, _, data)) = grey_png::decode(bytes) {
        return finish(width, height, 1, data, "PNG", rule);
    }
    let mut reader = decoder.read_info().map_err(broken)?;
    let (colour, depth) = reader.output_color_type();
    let size = reader.output_buffer_size().ok_or(DecodeError::TooLarge { width, height, limit: rule.max_pixels })?;
    let mut data = vec![0; size];
    reader.next_frame(&mut data).map_err(broken)?;
    if depth == png::BitDepth::Sixteen {
        data = to_eight_bits(&data, colour.samples(), rule.sixteen_bit);
    }
    let (channels, data) = match colour {
        png::ColorType::Grayscale => (1, data),
        png::ColorType::GrayscaleAlpha => (1, data.chunks_exact(2).map(|p| p[0]).collect()),
        png::ColorType::Rgb => (3, data),
        png::ColorType::Rgba => (3, data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()),
        png::ColorType::Indexed => {
            return Err(DecodeError::Broken { format: "PNG", message: "palette image without palette".into() });
        }
    };
    finish(width, height, channels, data, "PNG", rule)
}

/// Big-endian 16-bit samples to 8 bits. `samples` a pixel; an alpha sample does not enter the range.
fn to_eight_bits(data: &[u8], samples: usize, rule: SixteenBit) -> Vec<u8> {
    let values = data.chunks_exact(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]])));
    match rule {
        SixteenBit::FullRange => values.map(|v| ((v * 255 + 32_767) / 65_535) as u8).collect(),
        SixteenBit::MinMax => {
            let is_alpha = |i: usize| samples.is_multiple_of(2) && i % samples == samples - 1;
            let range = values.clone().enumerate().filter(|(i, _)| !is_alpha(*i)).map(|(_, v)| v);
            let (low, high) = range.fold((u32::MAX, 0), |(l, h), v| (l.min(v), h.max(v)));
            let span = high.saturating_sub(low).max(1);
            values.map(|v| ((v.clamp(low, high.max(low)) - low) * 255 + span / 2).div_euclid(span) as u8).collect()
        }
    }
}

fn gif(bytes: &[u8], rule: &DecodeRule) -> Result<Pixels> {
    let broken = |e: gif::DecodingError| match &e {
        gif::DecodingError::UnexpectedEof => DecodeError::Truncated { format: "GIF" },
        gif::DecodingError::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: "GIF" }
        }
        _ => DecodeError::Broken { format: "GIF", message: e.to_string() },
    };
    let wrong = |message: &str| DecodeError::Broken { format: "GIF", message: message.into() };
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    options.check_frame_consistency(true);
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(broken)?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    check_size(width as u64, height as u64, "GIF", rule)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let background = decoder.bg_color().unwrap_or(0);
    let frame = decoder.read_next_frame().map_err(broken)?.ok_or_else(|| wrong("no frame"))?;
    let palette = frame.palette.as_deref().or(global.as_deref()).ok_or_else(|| wrong("no palette"))?;
    let colour =
        |palette: &[u8], i: usize| -> [u8; 3] { palette.get(3 * i..3 * i + 3).map_or([0; 3], |c| [c[0], c[1], c[2]]) };
    let fill = colour(global.as_deref().unwrap_or(palette), background);
    let mut data: Vec<u8> = fill.iter().copied().cycle().take(width * height * 3).collect();
    let (left, top, frame_width) = (usize::from(frame.left), usize::from(frame.top), usize::from(frame.width));
    for (y, row) in frame.buffer.chunks_exact(frame_width.max(1)).enumerate() {
        for (x, &i) in row.iter().enumerate() {
            let at = 3 * ((top + y) * width + left + x);
            if let Some(pixel) = data.get_mut(at..at + 3) {
                pixel.copy_from_slice(&colour(palette, usize::from(i)));
            }
        }
    }
    finish(width as u64, height as u64, 3, data, "GIF", rule)
}

#[cfg(test)]
mod tests {
    use super::{super::encode, *};

    /// 5 x 3 pixels, dark but for a bright corner at the top left: transposition and flips show.
    fn marked(channels: u32) -> Pixels {
        let size = ImageSize { height: 3, width: 5, channels };
        let mut data: Vec<u8> = (0..size.bytes()).map(|i| (i * 2) as u8).collect();
        data[..channels as usize].fill(250);
        Pixels { size, data }
    }

    fn rule(channels: u32) -> DecodeRule {
        DecodeRule { channels, ..Default::default() }
    }

    fn png_of(
        colour: png::ColorType,
        depth: png::BitDepth,
        data: &[u8],
        adjust: impl FnOnce(&mut png::Info),
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let mut info = png::Info::with_size(5, 3);
        info.color_type = colour;
        info.bit_depth = depth;
        adjust(&mut info);
        let mut writer = png::Encoder::with_info(&mut out, info).unwrap().write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        out
    }

    #[test]
    fn png_of_every_colour_type_keeps_its_corner() {
        use png::{BitDepth::*, ColorType::*};
        let grey = marked(1);
        assert_eq!(decode(&png_of(Grayscale, Eight, &grey.data, |_| ()), &rule(1)).unwrap(), grey);
        let rgb = marked(3);
        assert_eq!(decode(&png_of(Rgb, Eight, &rgb.data, |_| ()), &rule(3)).unwrap(), rgb);
        let rgba: Vec<u8> = rgb.data.chunks(3).flat_map(|p| [p[0], p[1], p[2], 7]).collect();
        assert_eq!(decode(&png_of(Rgba, Eight, &rgba, |_| ()), &rule(3)).unwrap(), rgb);
        let grey_alpha: Vec<u8> = grey.data.iter().flat_map(|&v| [v, 9]).collect();
        assert_eq!(decode(&png_of(GrayscaleAlpha, Eight, &grey_alpha, |_| ()), &rule(1)).unwrap(), grey);
        let indices: Vec<u8> = (0..15).map(|i| u8::from(i == 0)).collect();
        let palette = png_of(Indexed, Eight, &indices, |i| i.palette = Some(vec![10, 20, 30, 250, 250, 250].into()));
        let image = decode(&palette, &rule(3)).unwrap();
        assert_eq!((&image.data[..6], image.size.width), (&[250, 250, 250, 10, 20, 30][..], 5));
        // One bit a pixel: rows of 5 pixels in one byte, the first pixel white.
        let bits = decode(&png_of(Grayscale, One, &[0x80, 0, 0], |_| ()), &rule(1)).unwrap();
        assert_eq!(bits.data.iter().position(|&v| v == 255), Some(0));
        assert_eq!(bits.data.iter().filter(|&&v| v == 255).count(), 1);
    }

    #[test]
    fn interlaced_png_equals_the_plain_one() {
        // PyPNG 0.20220715: png.Writer(5, 3, greyscale=True, interlace=True)
        //     .write(f, [[250, 2, 4, 6, 8], [10, 12, 14, 16, 18], [20, 22, 24, 26, 28]])
        const ADAM7: &[u8] = &[
            137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 5, 0, 0, 0, 3, 8, 0, 0, 0, 1, 9, 90,
            170, 178, 0, 0, 0, 30, 73, 68, 65, 84, 120, 156, 99, 248, 197, 192, 193, 192, 194, 32, 34, 33, 195, 192,
            196, 198, 32, 38, 197, 192, 197, 195, 39, 32, 4, 0, 27, 210, 1, 205, 105, 178, 9, 178, 0, 0, 0, 0, 73, 69,
            78, 68, 174, 66, 96, 130,
        ];
        assert_eq!(decode(ADAM7, &rule(1)).unwrap(), marked(1));
    }

    #[test]
    fn sixteen_bits_become_eight_as_declared() {
        let values: Vec<u16> = (0..15).map(|i| if i == 0 { 4095 } else { 100 + 10 * i }).collect();
        let bytes = encode::png_grey16(3, 5, &values).unwrap();
        let full = decode(&bytes, &rule(1)).unwrap();
        assert_eq!(full.data[0], 16); // 4095 * 255 / 65535 = 15.93
        let stretched = decode(&bytes, &DecodeRule { sixteen_bit: SixteenBit::MinMax, ..rule(1) }).unwrap();
        assert_eq!((stretched.data[0], stretched.data[1]), (255, 0));
        // Alpha at 65535 must not widen the range of grey that ends at 4095.
        let with_alpha: Vec<u8> = values.iter().flat_map(|v| [v.to_be_bytes(), [255, 255]]).flatten().collect();
        let alpha = png_of(png::ColorType::GrayscaleAlpha, png::BitDepth::Sixteen, &with_alpha, |_| ());
        assert_eq!(decode(&alpha, &DecodeRule { sixteen_bit: SixteenBit::MinMax, ..rule(1) }).unwrap(), stretched);
    }

    #[test]
    fn jpeg_is_read_within_its_own_loss() {
        let size = ImageSize { height: 24, width: 40, channels: 1 };
        let data = (0..size.bytes()).map(|i| ((i % 40) * 3 + (i / 40) * 4) as u8).collect();
        let grey = Pixels { size, data };
        let bytes = encode::jpeg(&grey, 95).unwrap();
        let back = decode(&bytes, &rule(1)).unwrap();
        assert_eq!(back.size, size);
        assert!(back.data.iter().zip(&grey.data).all(|(a, b)| a.abs_diff(*b) <= 4));
        let colour = encode::jpeg(&grey.clone().with_channels(3, GreyRule::Luma), 95).unwrap();
        let luma = decode(&colour, &rule(1)).unwrap();
        let first = decode(&colour, &DecodeRule { grey: GreyRule::First, ..rule(1) }).unwrap();
        assert!(luma.data.iter().zip(&first.data).all(|(a, b)| a.abs_diff(*b) <= 2));
    }

    #[test]
    fn the_first_frame_of_a_gif_lands_where_it_says() {
        let mut bytes = Vec::new();
        let mut encoder = gif::Encoder::new(&mut bytes, 5, 3, &[1, 2, 3, 200, 100, 50]).unwrap();
        let frame =
            gif::Frame { left: 3, top: 1, width: 2, height: 1, buffer: vec![1u8, 0].into(), ..Default::default() };
        encoder.write_frame(&frame).unwrap();
        drop(encoder);
        let image = decode(&bytes, &rule(3)).unwrap();
        let at = |y: usize, x: usize| &image.data[3 * (y * 5 + x)..][..3];
        assert_eq!((at(1, 3), at(1, 4), at(0, 0)), (&[200, 100, 50][..], &[1, 2, 3][..], &[1, 2, 3][..]));
        assert_eq!(decode(&bytes[..bytes.len() - 6], &rule(3)), Err(DecodeError::Truncated { format: "GIF" }),);
    }

    #[test]
    fn whatever_ends_early_is_an_error_and_never_black() {
        let image = marked(1).with_channels(3, GreyRule::Luma);
        let image = super::super::resize(&image, 60, 80).unwrap();
        let jpeg = encode::jpeg(&image, 90).unwrap();
        let png = encode::png(&image).unwrap();
        for keep in [0.3, 0.6, 0.97] {
            for bytes in [&jpeg, &png] {
                let cut = &bytes[..(bytes.len() as f64 * keep) as usize];
                assert!(matches!(decode(cut, &rule(3)), Err(DecodeError::Truncated { .. })), "{keep}");
            }
        }
    }

    #[test]
    fn bombs_are_refused_before_anything_is_allocated() {
        let mut bomb = png_of(png::ColorType::Grayscale, png::BitDepth::Eight, &marked(1).data, |_| ());
        bomb[16..20].copy_from_slice(&50_000u32.to_be_bytes());
        bomb[20..24].copy_from_slice(&40_000u32.to_be_bytes());
        let crc = {
            let mut c = flate2::Crc::new();
            c.update(&bomb[12..29]);
            c.sum()
        };
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        let e = decode(&bomb, &rule(1)).unwrap_err();
        assert_eq!(e, DecodeError::TooLarge { width: 50_000, height: 40_000, limit: 100_000_000 });
        assert!(e.at("a.png").hint().is_some());
        let mut jpeg = encode::jpeg(&marked(1), 90).unwrap();
        let sof = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
        jpeg[sof + 5..sof + 9].copy_from_slice(&[0xEA, 0x60, 0xEA, 0x60]);
        assert!(matches!(decode(&jpeg, &rule(1)), Err(DecodeError::TooLarge { width: 60_000, .. })));
    }

    #[test]
    fn content_counts_and_strangers_are_named() {
        assert_eq!(decode(b"", &rule(1)), Err(DecodeError::Empty));
        let name = |bytes: &[u8]| decode(bytes, &rule(1)).unwrap_err().to_string();
        assert_eq!(name(b"<!DOCTYPE html>"), "not a JPEG, PNG, GIF or DICOM image: it looks like a web page or XML");
        assert_eq!(name(b"BM123"), "not a JPEG, PNG, GIF or DICOM image: it looks like a BMP image");
    }
}
