//! Centre-crop and antialiased bilinear resize, as the published code does through Pillow.
//!
//! The library that does it is overtaken, to the same bytes, by own loops on CPUs that can permute 64 bytes at once.
//! Nearest, bicubic and sub-pixel crops are not here; random crops belong to augmentation.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod plans;
#[cfg(target_arch = "x86_64")]
mod taps;

use std::cell::RefCell;

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

use super::{ImageSize, Pixels};
use crate::error::{Error, Result};

/// Resizes to `height` x `width` px, whatever the aspect ratio. When shrinking, the triangle filter
/// widens with the scale (Pillow's `Image.BILINEAR`, torchvision with `antialias=True`); results are
/// within one grey level of Pillow's.
pub fn resize(image: &Pixels, height: u32, width: u32) -> Result<Pixels> {
    if (image.size.height, image.size.width) == (height, width) {
        return Ok(image.clone());
    }
    let whole = Frame { top: 0.0, left: 0.0, height: image.size.height.into(), width: image.size.width.into() };
    resize_frame(image, whole, height, width)
}

/// A part of an image, in pixels and their fractions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    pub top: f64,
    pub left: f64,
    pub height: f64,
    pub width: f64,
}

thread_local! {
    /// Keeps the rows between its two passes from one image to the next.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// Resizes a part of the image as [`resize`] does the whole.
pub fn resize_frame(image: &Pixels, frame: Frame, height: u32, width: u32) -> Result<Pixels> {
    let failed =
        |e: String| Error::invalid(format!("an image of {} cannot be resized to {height} x {width}: {e}", image.size));
    if height == 0 || width == 0 || image.size.bytes() == 0 {
        return Err(failed("no pixels".into()));
    }
    let size = ImageSize { height, width, channels: image.size.channels };
    #[cfg(target_arch = "x86_64")]
    if let Some(data) = plans::resized(image, frame, height, width) {
        return Ok(Pixels { size, data });
    }
    by_library(image, frame, size).map_err(failed)
}

/// As [`resize_frame`], on any CPU.
fn by_library(image: &Pixels, frame: Frame, size: ImageSize) -> std::result::Result<Pixels, String> {
    let kind = if image.size.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let source = images::ImageRef::new(image.size.width, image.size.height, &image.data, kind);
    let source = source.map_err(|e| e.to_string())?;
    let mut target = images::Image::new(size.width, size.height, kind);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false).crop(
        frame.left,
        frame.top,
        frame.width,
        frame.height,
    );
    RESIZER.with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options)).map_err(|e| e.to_string())?;
    Ok(Pixels { size, data: target.into_vec() })
}

/// The largest centred square; for odd remainders the rows and columns that torchxrayvision's
/// `XRayCenterCrop` keeps: from `side / 2 - crop / 2` on.
pub fn center_crop(image: &Pixels) -> Pixels {
    let ImageSize { height, width, channels } = image.size;
    let side = height.min(width);
    let (top, left) = ((height / 2 - side / 2) as usize, (width / 2 - side / 2) as usize);
    let (c, row) = (channels as usize, (width * channels) as usize);
    let mut data = Vec::with_capacity((side * side) as usize * c);
    for y in top..top + side as usize {
        data.extend_from_slice(&image.data[y * row + left * c..][..side as usize * c]);
    }
    Pixels { size: ImageSize { height: side, width: side, channels }, data }
}

/// Resizes so that the shorter side has `px` pixels and the longer `px * long / short`, rounded down, as
/// torchvision's `Resize(px)`.
pub fn shorter_side(image: &Pixels, px: u32) -> Result<Pixels> {
    let (height, width) = shorter_side_size(image.size.height, image.size.width, px);
    resize(image, height, width)
}

/// (height, width) after [`shorter_side`].
pub fn shorter_side_size(height: u32, width: u32, px: u32) -> (u32, u32) {
    let long = |long: u32, short: u32| (u64::from(px) * u64::from(long) / u64::from(short.max(1))) as u32;
    if height <= width { (px, long(width, height)) } else { (long(height, width), px) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The picture of the script below.
    fn picture(height: u32, width: u32, channels: u32) -> Pixels {
        let mut data = Vec::new();
        for y in 0..height {
            for x in 0..width {
                for k in 0..channels {
                    data.push(((x * x * 3 + y * 7 + x * y * 5 + k * 50 + (x / 3 + y / 2) % 2 * 90) % 256) as u8);
                }
            }
        }
        Pixels { size: ImageSize { height, width, channels }, data }
    }

    /// Numbers of Pillow 13.0.0:
    /// ```python
    /// def img(h, w, c):
    ///     y, x, k = np.meshgrid(np.arange(h), np.arange(w), np.arange(c), indexing="ij")
    ///     return ((x*x*3 + y*7 + x*y*5 + k*50 + (x//3 + y//2) % 2 * 90) % 256).astype(np.uint8)
    /// for (h, w, c, oh, ow) in [(9, 13, 1, 4, 5), (11, 7, 3, 3, 2), (4, 5, 1, 7, 9)]:
    ///     a = img(h, w, c)
    ///     o = Image.fromarray(a[:, :, 0] if c == 1 else a).resize((ow, oh), Image.BILINEAR)
    ///     print(np.asarray(o).reshape(-1).tolist())
    /// ```
    #[test]
    fn resizes_within_one_grey_level_of_pillow() {
        type Case = ((u32, u32, u32, u32, u32), &'static [u8]);
        let cases: [Case; 3] = [
            (
                (9, 13, 1, 4, 5),
                &[38, 117, 142, 150, 153, 100, 130, 91, 128, 155, 104, 142, 89, 109, 184, 143, 147, 137, 117, 150],
            ),
            (
                (11, 7, 3, 3, 2),
                &[78, 127, 168, 125, 169, 146, 123, 145, 136, 113, 116, 111, 130, 140, 125, 136, 157, 119],
            ),
            (
                (4, 5, 1, 7, 9),
                &[
                    0, 1, 3, 7, 12, 70, 119, 131, 138, 3, 4, 7, 12, 18, 77, 127, 140, 148, 7, 9, 13, 20, 28, 89, 140,
                    154, 163, 56, 59, 65, 73, 83, 95, 108, 124, 134, 104, 109, 117, 126, 137, 101, 76, 94, 104, 108,
                    114, 123, 135, 147, 113, 89, 108, 119, 111, 117, 127, 140, 153, 120, 97, 117, 129,
                ],
            ),
        ];
        for ((h, w, c, out_h, out_w), expected) in cases {
            let out = resize(&picture(h, w, c), out_h, out_w).unwrap();
            assert_eq!(out.size, ImageSize { height: out_h, width: out_w, channels: c });
            assert_eq!(out.data.len(), expected.len());
            for (i, (a, b)) in out.data.iter().zip(expected).enumerate() {
                assert!(a.abs_diff(*b) <= 1, "{h}x{w}x{c} at {i}: {a}, Pillow {b}");
            }
        }
    }

    #[test]
    fn the_centre_is_torchxrayvisions() {
        // x // 2 - crop // 2 = 3 // 2 - 2 // 2 = 0 for width 3, crop 2; 7 // 2 - 2 // 2 = 2 for width 7.
        for (width, left) in [(3, 0), (7, 2), (4, 1)] {
            let image = picture(2, width, 3);
            let crop = center_crop(&image);
            assert_eq!((crop.size.height, crop.size.width), (2, 2));
            assert_eq!(crop.data[..6], image.data[left * 3..left * 3 + 6]);
        }
        let tall = picture(5, 2, 1);
        assert_eq!(center_crop(&tall).data, tall.data[2..6]);
    }

    #[test]
    fn the_shorter_side_is_as_asked_and_the_corner_stays() {
        let mut image = picture(30, 47, 1);
        image.data.fill(10);
        image.data[..6].fill(255);
        image.data[47..53].fill(255);
        let out = shorter_side(&image, 10).unwrap();
        assert_eq!((out.size.height, out.size.width), (10, 15));
        let brightest = (0..150).max_by_key(|&i| out.data[i]).unwrap();
        assert!(brightest <= 1, "{brightest}");
        assert!(resize(&image, 0, 4).is_err());
    }
}
