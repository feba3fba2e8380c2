//! How images are looked at: the fixed view of evaluation, and the random views of training.
//!
//! A view fixes the model's input size; augmentations keep it. Every draw comes from the stream of one
//! (seed, epoch, example), so that a view depends neither on threads nor on the batch around it.
//! Mixing two images is not here but with the batches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sampling::{Axis, Geometry, ImageDims, Warp};
use crate::random::stream::Stream;

/// What the model sees of a stored image in evaluation; training sees the same size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum View {
    /// The image as it is stored.
    #[default]
    Stored,
    /// The whole image, resized to a square, as BiT evaluates.
    Whole {
        /// Side of the model's input, pixels.
        px: u32,
    },
    /// The shorter side resized, then a square from the centre, as ImageNet models are evaluated.
    Center {
        /// Length that the shorter side is resized to, pixels.
        resize_px: u32,
        /// Side of the square, pixels.
        px: u32,
    },
}

/// What is done to training images at random. Evaluation never does any of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Augment {
    /// Nothing: training sees what evaluation sees.
    #[default]
    None,
    /// Mirrored left to right, half of the time.
    Flip,
    /// BiT's: resized to a square whatever the shape, then a random part of the view's size, mirrored half of the time.
    Crop {
        /// Side of the square, pixels; at least the view's size.
        resize_px: u32,
    },
    /// A random part of the image, resized (Szegedy et al. 2015), mirrored half of the time.
    RandomResizedCrop(RandomResizedCrop),
    /// Shift, scale, rotate and mirror, as chest X-rays were augmented (Cohen et al. 2020, arXiv 2002.02497).
    Xray(Xray),
}

/// A random part of the image, resized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandomResizedCrop {
    /// Share of the area, smallest and largest.
    pub scale: [f64; 2],
    /// Width over height, smallest and largest.
    pub ratio: [f64; 2],
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        RandomResizedCrop { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] }
    }
}

/// Shift, scale, rotate and mirror; what leaves the image is filled by its mirror image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Xray {
    /// Largest shift to each side, share of the side.
    pub shift: f64,
    /// Largest change of size: 0.1 is from 0.9 to 1.1.
    pub scale: f64,
    /// Largest rotation to each side, degrees.
    pub rotate_degrees: f64,
    /// Chance of mirroring.
    pub flip: f64,
}

impl Default for Xray {
    fn default() -> Self {
        Xray { shift: 0.25, scale: 0.1, rotate_degrees: 45.0, flip: 0.5 }
    }
}

/// The shorter side becomes `short`, the longer keeps the proportion, rounded down as torchvision does.
fn resized(dims: ImageDims, short: usize) -> (usize, usize) {
    let (h, w) = (dims.height, dims.width);
    if h <= w { (short, (short * w / h).max(short)) } else { ((short * h / w).max(short), short) }
}

impl View {
    /// (height, width) of the model's input.
    pub fn size(&self, dims: ImageDims) -> (usize, usize) {
        match *self {
            View::Stored => (dims.height, dims.width),
            View::Whole { px } | View::Center { px, .. } => (px as usize, px as usize),
        }
    }

    /// What cannot work: (field, message).
    pub fn check(&self) -> Vec<(String, String)> {
        match *self {
            View::Whole { px: 0 } | View::Center { px: 0, .. } => {
                vec![("view.px".into(), "must be at least 1".into())]
            }
            View::Center { resize_px, px } if resize_px < px => {
                vec![("view.resize_px".into(), format!("is smaller than px ({resize_px} < {px})"))]
            }
            _ => Vec::new(),
        }
    }

    pub fn geometry(&self, dims: ImageDims) -> Geometry {
        let whole =
            |length: usize, px: u32| Axis { start: 0, length, resized: px as usize, first: 0, count: px as usize };
        let (y, x) = match *self {
            View::Stored => (Axis::whole(dims.height), Axis::whole(dims.width)),
            View::Whole { px } => (whole(dims.height, px), whole(dims.width, px)),
            View::Center { resize_px, px } => {
                let (h, w) = resized(dims, resize_px as usize);
                let px = px as usize;
                let axis = |length, resized: usize| Axis {
                    start: 0,
                    length,
                    resized,
                    // Halves go to the even side, as Python rounds.
                    first: ((resized.saturating_sub(px)) as f64 / 2.0).round_ties_even() as usize,
                    count: px,
                };
                (axis(dims.height, h), axis(dims.width, w))
            }
        };
        Geometry { y, x, mirrored: false, warp: None }
    }
}

impl Augment {
    /// BiT's by its resolution rule: (augmentation, view) for a side to resize to and one to crop.
    pub fn bit((resize_px, crop_px): (u32, u32)) -> (Augment, View) {
        (Augment::Crop { resize_px }, View::Whole { px: crop_px })
    }

    /// What cannot work: (field, message).
    pub fn check(&self, view: &View) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut say = |wrong: bool, field: &str, text: &str| {
            if wrong {
                out.push((format!("augment.{field}"), text.to_string()));
            }
        };
        match self {
            Augment::None | Augment::Flip => {}
            Augment::Crop { resize_px } => {
                say(*resize_px == 0, "resize_px", "must be at least 1");
                if let View::Whole { px } | View::Center { px, .. } = view {
                    say(resize_px < px, "resize_px", "is smaller than the view's px");
                }
            }
            Augment::RandomResizedCrop(r) => {
                let ordered = |[a, b]: [f64; 2]| a > 0.0 && a <= b && b.is_finite();
                say(!ordered(r.scale) || r.scale[1] > 1.0, "scale", "must be two rising shares above 0 and up to 1");
                say(!ordered(r.ratio), "ratio", "must be two rising numbers above 0");
            }
            Augment::Xray(x) => {
                say(!(0.0..=1.0).contains(&x.shift), "shift", "must be from 0 to 1");
                say(!(0.0..1.0).contains(&x.scale), "scale", "must be from 0 to below 1");
                say(!x.rotate_degrees.is_finite(), "rotate_degrees", "must be a number");
                say(!(0.0..=1.0).contains(&x.flip), "flip", "must be from 0 to 1");
            }
        }
        out
    }

    /// What cannot work with images of this size.
    pub fn fits(&self, view: &View, dims: ImageDims) -> Result<(), String> {
        let Augment::Crop { resize_px } = self else { return Ok(()) };
        let (side, (height, width)) = (*resize_px as usize, view.size(dims));
        if side < height.max(width) {
            return Err(format!("images resized to {side} x {side} are smaller than the view of {height} x {width}"));
        }
        Ok(())
    }

    /// One random view of an image; `stream` is that of its (seed, epoch, example).
    pub fn geometry(&self, view: &View, dims: ImageDims, stream: &mut Stream) -> Geometry {
        let fixed = view.geometry(dims);
        let (height, width) = view.size(dims);
        match self {
            Augment::None => fixed,
            Augment::Flip => Geometry { mirrored: stream.chance(0.5), ..fixed },
            Augment::Crop { resize_px } => {
                // Even a view that does not fit (see `fits`) must not read outside.
                let side = (*resize_px as usize).max(height.max(width));
                let mut axis = |length, count: usize| Axis {
                    start: 0,
                    length,
                    resized: side,
                    first: stream.below((side - count) as u64 + 1) as usize,
                    count,
                };
                let (y, x) = (axis(dims.height, height), axis(dims.width, width));
                Geometry { y, x, mirrored: stream.chance(0.5), warp: None }
            }
            Augment::RandomResizedCrop(r) => {
                let (top, left, h, w) = r.draw(dims, stream);
                let axis = |start, length, count| Axis { start, length, resized: count, first: 0, count };
                let (y, x) = (axis(top, h, height), axis(left, w, width));
                Geometry { y, x, mirrored: stream.chance(0.5), warp: None }
            }
            Augment::Xray(x) => {
                let warp = Warp {
                    angle: stream.range(-x.rotate_degrees, x.rotate_degrees).to_radians(),
                    scale: stream.range(1.0 - x.scale, 1.0 + x.scale),
                    shift_x: stream.range(-x.shift, x.shift),
                    shift_y: stream.range(-x.shift, x.shift),
                };
                Geometry { warp: Some(warp), mirrored: stream.chance(x.flip), ..fixed }
            }
        }
    }
}

impl RandomResizedCrop {
    /// (top, left, height, width), by torchvision's rule: ten tries, then the largest centre of an allowed shape.
    fn draw(&self, dims: ImageDims, stream: &mut Stream) -> (usize, usize, usize, usize) {
        let (ih, iw) = (dims.height as f64, dims.width as f64);
        for _ in 0..10 {
            let area = ih * iw * stream.range(self.scale[0], self.scale[1]);
            let ratio = stream.range(self.ratio[0].ln(), self.ratio[1].ln()).exp();
            let (h, w) = ((area / ratio).sqrt().round() as usize, (area * ratio).sqrt().round() as usize);
            if (1..=dims.height).contains(&h) && (1..=dims.width).contains(&w) {
                let top = stream.below((dims.height - h) as u64 + 1) as usize;
                return (top, stream.below((dims.width - w) as u64 + 1) as usize, h, w);
            }
        }
        let ratio = iw / ih;
        let (h, w) = if ratio < self.ratio[0] {
            (((iw / self.ratio[0]).round() as usize).clamp(1, dims.height), dims.width)
        } else if ratio > self.ratio[1] {
            (dims.height, ((ih * self.ratio[1]).round() as usize).clamp(1, dims.width))
        } else {
            (dims.height, dims.width)
        };
        ((dims.height - h) / 2, (dims.width - w) / 2, h, w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: ImageDims = ImageDims { height: 40, width: 60, channels: 1 };

    fn inside(g: &Geometry, dims: ImageDims) -> bool {
        let fits = |a: Axis, side| a.length >= 1 && a.start + a.length <= side && a.first + a.count <= a.resized;
        fits(g.y, dims.height) && fits(g.x, dims.width)
    }

    #[test]
    fn every_draw_stays_inside_and_keeps_the_size_of_the_view() {
        let all = [
            Augment::None,
            Augment::Flip,
            Augment::Crop { resize_px: 48 },
            Augment::RandomResizedCrop(Default::default()),
            Augment::Xray(Default::default()),
        ];
        let tall = ImageDims { height: 61, width: 33, channels: 3 };
        for augment in all {
            for view in [View::Whole { px: 32 }, View::Center { resize_px: 40, px: 32 }] {
                for dims in [WIDE, tall] {
                    for example in 0..200 {
                        let g = augment.geometry(&view, dims, &mut Stream::new(1, "augment", 0, example));
                        assert!(inside(&g, dims) && (g.y.count, g.x.count) == (32, 32), "{augment:?} {g:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn crops_reach_both_borders_and_mirror_half_of_the_time() {
        let view = View::Whole { px: 36 };
        let (mut low, mut high, mut mirrored) = (usize::MAX, 0, 0);
        for example in 0..2_000 {
            let mut stream = Stream::new(3, "augment", 1, example);
            let g = Augment::Crop { resize_px: 40 }.geometry(&view, WIDE, &mut stream);
            (low, high) = (low.min(g.x.first), high.max(g.x.first));
            mirrored += u32::from(g.mirrored);
        }
        assert_eq!((low, high), (0, 40 - 36));
        assert!((900..1100).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn a_centre_view_is_central_and_words_are_checked() {
        let g = View::Center { resize_px: 40, px: 20 }.geometry(WIDE);
        assert_eq!((g.y.first, g.x.first), (10, 20));
        let view = View::Center { resize_px: 10, px: 20 };
        assert_eq!(view.check().len(), 1);
        assert_eq!(Augment::Crop { resize_px: 10 }.check(&View::Whole { px: 20 }).len(), 1);
        let crop = Augment::Crop { resize_px: 60 };
        assert!(crop.fits(&View::Stored, WIDE).is_ok());
        let e = Augment::Crop { resize_px: 30 }.fits(&View::Stored, WIDE).unwrap_err();
        assert_eq!(e, "images resized to 30 x 30 are smaller than the view of 40 x 60");
        let bad = Augment::RandomResizedCrop(RandomResizedCrop { scale: [0.5, 0.2], ratio: [0.0, 1.0] });
        assert_eq!(bad.check(&view).len(), 2);
        let read: Augment = serde_json::from_str(r#"{"xray": {"rotate_degrees": 10}}"#).unwrap();
        assert_eq!(read, Augment::Xray(Xray { rotate_degrees: 10.0, ..Default::default() }));
        assert_eq!(Augment::bit((160, 128)), (Augment::Crop { resize_px: 160 }, View::Whole { px: 128 }));
    }
}
