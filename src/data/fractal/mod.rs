//! Fractal images by category: the formula-driven pre-training set of Kataoka et al. 2020 (FractalDB).
//!
//! A category is an iterated function system, an instance a variation of its parameters, seen from one of
//! eight sides, drawn with its own patch and colours. The set can grow at will in both directions; more
//! categories or instances of one seed keep those that were there. No images of anything real.

mod system;

use std::path::Path;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use system::{Frame, Map, Orbit, System};

use crate::{
    data::image::{ImageSize, Pixels, encode},
    error::{Error, Result},
    progress::{Cancel, Progress},
    random::stream::Stream,
};

/// Pixels of the raster per pixel of the image, averaged for smooth edges.
const OVERSAMPLING: usize = 2;

/// What to generate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Number of classes.
    pub categories: u32,
    /// Training images of each class.
    pub per_category: u32,
    /// Test images of each class.
    #[serde(default)]
    pub test_per_category: u32,
    #[serde(default)]
    pub seed: u64,
    /// Side of the square images in pixels, 8 to 1024.
    #[serde(default = "default_size_px")]
    pub size_px: u32,
    /// RGB with colours of each image's own; grey otherwise.
    #[serde(default = "default_color")]
    pub color: bool,
}

fn default_size_px() -> u32 {
    64
}

fn default_color() -> bool {
    true
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub images: u64,
    pub bytes: u64,
}

impl Options {
    /// Whether such a set can be drawn.
    pub fn check(&self) -> Result<()> {
        if !(8..=1024).contains(&self.size_px) {
            return Err(Error::invalid(format!("size_px is {}, fractals have 8 to 1024 px", self.size_px)));
        }
        if !(1..=100_000).contains(&self.categories) {
            return Err(Error::invalid(format!("categories is {}, there can be 1 to 100000", self.categories)));
        }
        if self.per_category + self.test_per_category == 0 {
            return Err(Error::invalid("per_category and test_per_category are both 0: there is nothing to generate"));
        }
        Ok(())
    }
}

/// The picture of one instance. Test instances are numbered apart from training ones and never coincide.
pub fn image(options: &Options, system: &System, category: u32, instance: u32, test: bool) -> Pixels {
    let purpose = if test { "fractal test" } else { "fractal train" };
    let mut stream = Stream::new(options.seed, purpose, u64::from(instance), u64::from(category));
    let varied = system.vary(&mut stream);
    let side = options.size_px as usize * OVERSAMPLING;
    // A margin of a sixteenth, so that no shape is cut.
    let (margin, inner) = (side / 16, side - 2 * (side / 16));
    let count = 3 * inner * inner / 2;
    let (turn, patch) = (stream.below(8), stream.bits() | 0x10);
    let palette = Palette::draw(&mut stream, options.color);
    let mut raster = vec![palette.ground; side * side];
    // A varied system that passed the filter can escape later only by chance; the category's own then stands in.
    let orbit = varied.orbit(count, &mut stream.clone()).or_else(|| system.orbit(count, &mut stream.clone()));
    if let Some(Orbit { points, frame }) = orbit {
        for (point, map) in points {
            let [mut x, mut y] = frame.cell(point, inner);
            if turn & 1 == 1 {
                x = inner - 1 - x;
            }
            if turn & 2 == 2 {
                y = inner - 1 - y;
            }
            if turn & 4 == 4 {
                (x, y) = (y, x);
            }
            let ink = palette.inks[usize::from(map) % palette.inks.len()];
            for bit in 0..9 {
                if patch >> bit & 1 == 1 {
                    let (px, py) = (x + margin + bit % 3, y + margin + bit / 3);
                    if let Some(cell) = raster.get_mut((py - 1).min(side - 1) * side + (px - 1).min(side - 1)) {
                        *cell = ink;
                    }
                }
            }
        }
    }
    average(&raster, side, options)
}

/// Colours of one image: the ground, and an ink for each map.
struct Palette {
    ground: [u8; 3],
    inks: Vec<[u8; 3]>,
}

impl Palette {
    fn draw(stream: &mut Stream, color: bool) -> Self {
        let mut shade = |low: f64, high: f64| {
            let mut level = || stream.range(low, high) as u8;
            if color { [level(), level(), level()] } else { [level(); 3] }
        };
        Palette { ground: shade(0.0, 90.0), inks: (0..8).map(|_| shade(110.0, 256.0)).collect() }
    }
}

/// Means over the oversampled cells of each pixel.
fn average(raster: &[[u8; 3]], side: usize, options: &Options) -> Pixels {
    let px = options.size_px as usize;
    let channels = if options.color { 3 } else { 1 };
    let cells = (OVERSAMPLING * OVERSAMPLING) as u32;
    let mut data = Vec::with_capacity(px * px * channels);
    for y in 0..px {
        for x in 0..px {
            data.extend((0..channels).map(|c| {
                let sum: u32 = (0..OVERSAMPLING * OVERSAMPLING)
                    .map(|i| {
                        let (row, column) = (y * OVERSAMPLING + i / OVERSAMPLING, x * OVERSAMPLING + i % OVERSAMPLING);
                        u32::from(raster[row * side + column][c])
                    })
                    .sum();
                ((sum + cells / 2) / cells) as u8
            }));
        }
    }
    let size = ImageSize { height: options.size_px, width: options.size_px, channels: channels as u32 };
    Pixels { size, data }
}

/// Writes `train/c00000/i00000.png` … and `test/…` below `root`, as an image folder.
pub fn write_tree(options: &Options, root: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<Summary> {
    options.check()?;
    let each = u64::from(options.per_category) + u64::from(options.test_per_category);
    progress.begin(u64::from(options.categories) * each, "images");
    let sizes = (0..options.categories)
        .into_par_iter()
        .map(|category| {
            let system = System::draw(options.seed, category);
            let mut bytes = 0;
            for (split, count) in [("train", options.per_category), ("test", options.test_per_category)] {
                if count == 0 {
                    continue;
                }
                let folder = root.join(split).join(format!("c{category:05}"));
                std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
                for instance in 0..count {
                    cancel.check()?;
                    let picture = image(options, &system, category, instance, split == "test");
                    let path = folder.join(format!("i{instance:05}.png"));
                    let file = encode::png(&picture)?;
                    std::fs::write(&path, &file).map_err(Error::io(&path))?;
                    bytes += file.len() as u64;
                    progress.advance(1);
                }
            }
            Ok(bytes)
        })
        .collect::<Result<Vec<u64>>>()?;
    Ok(Summary { images: u64::from(options.categories) * each, bytes: sizes.iter().sum() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::image, progress::Silent};

    fn options(color: bool) -> Options {
        Options { categories: 3, per_category: 4, test_per_category: 2, seed: 1, size_px: 32, color }
    }

    #[test]
    fn a_category_looks_more_like_itself_than_like_another() {
        // Nearest other image by filled cells, over all eight sides: most often of the same category.
        let options = Options { categories: 8, per_category: 8, ..options(false) };
        let all: Vec<(u32, Vec<bool>)> = (0..8)
            .flat_map(|c| {
                let system = System::draw(options.seed, c);
                (0..8).map(move |i| (c, system.clone(), i)).collect::<Vec<_>>()
            })
            .map(|(c, system, i)| {
                let data = super::image(&options, &system, c, i, false).data;
                let ground = data[0];
                (c, data.iter().map(|v| v.abs_diff(ground) > 12).collect())
            })
            .collect();
        let side = 32;
        let turned = |m: &[bool], t: usize, x: usize, y: usize| {
            let (x, y) = if t & 4 == 4 { (y, x) } else { (x, y) };
            let (x, y) = (if t & 1 == 1 { side - 1 - x } else { x }, if t & 2 == 2 { side - 1 - y } else { y });
            m[y * side + x]
        };
        let right = all
            .iter()
            .enumerate()
            .filter(|(i, (c, m))| {
                let distance = |o: &[bool]| {
                    (0..8).map(|t| (0..side * side).filter(|k| m[*k] != turned(o, t, k % side, k / side)).count()).min()
                };
                let nearest = all.iter().enumerate().filter(|(j, _)| j != i).min_by_key(|(_, (_, o))| distance(o));
                nearest.is_some_and(|(_, (other, _))| other == c)
            })
            .count();
        // Chance is 8 of 64.
        assert!(right > 32, "{right} of 64");
    }

    #[test]
    fn the_tree_is_an_image_folder_and_does_not_depend_on_threads() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (folder, threads) in [(&a, 1), (&b, 3)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let summary =
                pool.install(|| write_tree(&options(true), folder.path(), &Silent, &Cancel::default())).unwrap();
            assert_eq!(summary.images, 18);
        }
        let rule = image::DecodeRule::default();
        for name in ["train/c00000/i00003.png", "train/c00002/i00000.png", "test/c00001/i00001.png"] {
            let bytes = std::fs::read(a.path().join(name)).unwrap();
            assert_eq!(bytes, std::fs::read(b.path().join(name)).unwrap());
            assert_eq!(image::decode(&bytes, &rule).unwrap().size, ImageSize { height: 32, width: 32, channels: 3 });
        }
        let same = |a: &str, b_name: &str| {
            std::fs::read(b.path().join(a)).unwrap() == std::fs::read(b.path().join(b_name)).unwrap()
        };
        assert!(!same("train/c00000/i00000.png", "test/c00000/i00000.png"));
    }

    #[test]
    fn impossible_options_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let run = |o: Options| write_tree(&o, dir.path(), &Silent, &Cancel::default()).unwrap_err().to_string();
        assert_eq!(run(Options { size_px: 4, ..options(true) }), "size_px is 4, fractals have 8 to 1024 px");
        assert!(run(Options { per_category: 0, test_per_category: 0, ..options(true) }).contains("nothing"));
    }
}
