//! Pixels to PNG and JPEG bytes, for the generated sets. The same pixels always give the same bytes.

use super::Pixels;
use crate::error::{Error, Result};

fn failed(e: impl std::fmt::Display) -> Error {
    Error::invalid(format!("image cannot be encoded: {e}"))
}

fn write_png(height: u32, width: u32, colour: png::ColorType, depth: png::BitDepth, data: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(data).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(out)
}

/// 8-bit grey or RGB PNG.
pub fn png(image: &Pixels) -> Result<Vec<u8>> {
    let colour = if image.size.channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb };
    write_png(image.size.height, image.size.width, colour, png::BitDepth::Eight, &image.data)
}

/// 8-bit PNG with an opaque alpha channel, as some X-rays of NIH ChestX-ray14 come.
pub fn png_rgba(image: &Pixels) -> Result<Vec<u8>> {
    let rgb = image.clone().with_channels(3, super::GreyRule::Luma);
    let data: Vec<u8> = rgb.data.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    write_png(rgb.size.height, rgb.size.width, png::ColorType::Rgba, png::BitDepth::Eight, &data)
}

/// 16-bit grey PNG of `height` x `width` samples.
pub fn png_grey16(height: u32, width: u32, samples: &[u16]) -> Result<Vec<u8>> {
    let data: Vec<u8> = samples.iter().flat_map(|v| v.to_be_bytes()).collect();
    write_png(height, width, png::ColorType::Grayscale, png::BitDepth::Sixteen, &data)
}

/// Baseline JPEG, grey or RGB by the image's channels. `quality` 1..=100; sides up to 65,535 px.
pub fn jpeg(image: &Pixels, quality: u8) -> Result<Vec<u8>> {
    let side = |px: u32| u16::try_from(px).map_err(|_| Error::invalid(format!("JPEG side of {px} px is too long")));
    let colour = if image.size.channels == 1 { jpeg_encoder::ColorType::Luma } else { jpeg_encoder::ColorType::Rgb };
    let mut out = Vec::new();
    jpeg_encoder::Encoder::new(&mut out, quality)
        .encode(&image.data, side(image.size.width)?, side(image.size.height)?, colour)
        .map_err(failed)?;
    Ok(out)
}
