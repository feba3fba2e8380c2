//! Images in a terminal: two pixels a character by half blocks in 24-bit colour, or shades of text.
//!
//! Colour is written where the terminal says that it has 24 bits (`COLORTERM`), blocks where the locale is UTF-8.

use arrow::array::Array;

use crate::{
    data::{
        dataset::{Dataset, Task},
        image::{DecodeRule, ImageShards, Pixels, decode, resize},
    },
    error::{Error, Result},
    store::{Store, artifact::Artifact, source::SourceIndex},
};

const TABLE: &str = "table.parquet";

/// Darkest to brightest.
const SHADES: &[u8] = b" .:-=+*#%@";

/// Characters an image is wide.
const WIDE: usize = 24;

/// How pixels are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// 24-bit escapes.
    pub colour: bool,
    /// Characters beyond ASCII.
    pub unicode: bool,
    /// In characters.
    pub columns: usize,
}

impl Screen {
    /// What this process's stdout can show.
    pub fn of(colour: bool) -> Self {
        let named = |name: &str| std::env::var(name).unwrap_or_default();
        let locale =
            ["LC_ALL", "LC_CTYPE", "LANG"].iter().map(|n| named(n)).find(|v| !v.is_empty()).unwrap_or_default();
        Screen {
            colour: colour && ["truecolor", "24bit"].contains(&named("COLORTERM").as_str()),
            unicode: locale.to_lowercase().replace('-', "").contains("utf8"),
            columns: named("COLUMNS").parse().ok().filter(|c| *c >= WIDE).unwrap_or(80),
        }
    }
}

/// A picture with the line under it.
struct Shown {
    pixels: Pixels,
    label: String,
}

/// `count` images of an artifact at even distances, with their labels; nothing where it holds no dataset.
///
/// # Errors
/// A table or an image that cannot be read. Images whose files are not on this machine are counted instead.
pub fn grid(store: &Store, artifact: &Artifact, count: usize, screen: Screen) -> Result<String> {
    let Some(file) = artifact.file(TABLE) else { return Ok(String::new()) };
    let rows = Dataset::read_parquet(&store.local(&file.digest)?, true)?;
    let shards: Vec<_> = artifact.files.iter().filter(|f| f.name.starts_with("shard-")).collect();
    let shards = match shards.as_slice() {
        [] => None,
        files => {
            let paths = files.iter().map(|f| store.local(&f.digest)).collect::<Result<Vec<_>>>()?;
            Some(ImageShards::open(&paths)?)
        }
    };
    let sources = SourceIndex::open(store)?;
    let count = count.min(rows.rows());
    let mut shown = Vec::new();
    for k in 0..count {
        let row = k * rows.rows() / count;
        if let Some(pixels) = pixels(&rows, row, shards.as_ref(), &sources)? {
            shown.push(Shown { pixels, label: truth(&rows, row) });
        }
    }
    let mut out = draw(&shown, screen)?;
    if shown.len() < count {
        out.push_str(&format!("{} of {count} images are not on this machine\n", count - shown.len()));
    }
    Ok(out)
}

/// A row's image from its shard, its own bytes or its source file; `None` where none of them is here.
fn pixels(rows: &Dataset, row: usize, shards: Option<&ImageShards>, sources: &SourceIndex) -> Result<Option<Pixels>> {
    let place = |name: &str| rows.integers(name).filter(|c| c.is_valid(row)).map(|c| c.value(row));
    if let (Some(shards), Some(shard), Some(slot)) = (shards, place("shard"), place("slot")) {
        return Ok(Some(Pixels { size: shards.size(), data: shards.get(shard, slot)?.to_vec() }));
    }
    if let Some(bytes) = rows.binary("bytes").filter(|b| b.is_valid(row)) {
        return Ok(Some(decode(bytes.value(row), &DecodeRule::default())?));
    }
    let Some(digest) = rows.binary("digest").filter(|d| d.is_valid(row)) else { return Ok(None) };
    let Ok(digest) = <[u8; 32]>::try_from(digest.value(row)) else { return Ok(None) };
    // Files that hold many images, or that are no images, are for their readers.
    let Some(path) = sources.path_of(&crate::digest::Digest(digest)) else { return Ok(None) };
    let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
    Ok(decode(&bytes, &DecodeRule::default()).ok())
}

/// What a row is labelled as: its class, or the findings that are present.
fn truth(rows: &Dataset, row: usize) -> String {
    match rows.task() {
        Task::Single(names) => {
            let class = rows.classes().filter(|c| c.is_valid(row)).and_then(|c| usize::try_from(c.value(row)).ok());
            class.and_then(|c| names.get(c).cloned()).unwrap_or_else(|| "unknown".into())
        }
        Task::Multi(names) => {
            let present = |name: &&String| rows.label(name).is_some_and(|l| l.is_valid(row) && l.value(row) == 1);
            let found: Vec<&str> = names.iter().filter(present).map(String::as_str).collect();
            if found.is_empty() { "none".into() } else { found.join(", ") }
        }
    }
}

fn draw(shown: &[Shown], screen: Screen) -> Result<String> {
    let across = ((screen.columns + 2) / (WIDE + 2)).max(1);
    let mut out = String::new();
    for line in shown.chunks(across) {
        let pictures = line.iter().map(|s| lines(&s.pixels, screen)).collect::<Result<Vec<_>>>()?;
        for i in 0..pictures.iter().map(Vec::len).max().unwrap_or(0) {
            let blank = " ".repeat(WIDE);
            let row: Vec<&str> = pictures.iter().map(|p| p.get(i).map_or(blank.as_str(), String::as_str)).collect();
            out.push_str(row.join("  ").trim_end_matches(' '));
            out.push('\n');
        }
        let labels: Vec<String> = line
            .iter()
            .map(|s| {
                let text = super::layout::cut(&s.label, WIDE);
                format!("{text}{}", " ".repeat(WIDE - text.chars().count()))
            })
            .collect();
        out.push_str(labels.join("  ").trim_end());
        out.push_str("\n\n");
    }
    Ok(out)
}

/// An image as text lines of [`WIDE`] characters: two rows of pixels a line, since characters are twice as high.
fn lines(image: &Pixels, screen: Screen) -> Result<Vec<String>> {
    let (w, h) = (image.size.width.max(1) as usize, image.size.height.max(1) as usize);
    let high = (WIDE * h / w).clamp(2, 2 * WIDE).next_multiple_of(2);
    let small = resize(image, high as u32, WIDE as u32)?;
    let channels = small.size.channels as usize;
    let rgb = |x: usize, y: usize| -> [u8; 3] {
        let at = (y * WIDE + x) * channels;
        if channels == 1 { [small.data[at]; 3] } else { [small.data[at], small.data[at + 1], small.data[at + 2]] }
    };
    let grey = |x: usize, y: usize| rgb(x, y).iter().map(|&v| u32::from(v)).sum::<u32>() / 3;
    Ok((0..high)
        .step_by(2)
        .map(|y| {
            let mut line = String::new();
            for x in 0..WIDE {
                let (top, bottom) = (rgb(x, y), rgb(x, y + 1));
                if screen.colour && screen.unicode {
                    let [r, g, b] = top;
                    let [u, v, w] = bottom;
                    line.push_str(&format!("\x1b[38;2;{r};{g};{b};48;2;{u};{v};{w}m▀"));
                } else {
                    let mean = (grey(x, y) + grey(x, y + 1)) / 2;
                    let steps = if screen.unicode { 5 } else { SHADES.len() as u32 };
                    let shade = (mean * steps / 256) as usize;
                    line.push(if screen.unicode {
                        [' ', '░', '▒', '▓', '█'][shade]
                    } else {
                        SHADES[shade] as char
                    });
                }
            }
            if screen.colour && screen.unicode {
                line.push_str("\x1b[0m");
            }
            line
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::ImageSize;

    /// White but for a black upper right quarter: square images would hide a transposition.
    fn marked() -> Pixels {
        let size = ImageSize { height: 24, width: 48, channels: 1 };
        let data = (0..24 * 48).map(|i| if i % 48 >= 24 && i / 48 < 12 { 0 } else { 255 }).collect();
        Pixels { size, data }
    }

    #[test]
    fn an_image_keeps_its_form_and_its_corner() {
        let plain = lines(&marked(), Screen { colour: false, unicode: false, columns: 80 }).unwrap();
        assert_eq!(plain.len(), 6);
        assert_eq!((&plain[0][2..10], &plain[0][14..22]), ("@@@@@@@@", "        "));
        assert_eq!(&plain[5][2..22], "@".repeat(20));
        let blocks = lines(&marked(), Screen { colour: false, unicode: true, columns: 80 }).unwrap();
        assert!(blocks[0].starts_with("████") && blocks[5].ends_with("████"));
        let colour = lines(&marked(), Screen { colour: true, unicode: true, columns: 80 }).unwrap();
        assert!(colour[0].starts_with("\x1b[38;2;255;255;255;48;2;255;255;255m▀") && colour[0].ends_with("\x1b[0m"));
    }

    #[test]
    fn images_stand_side_by_side_over_their_labels() {
        let shown = [0, 1, 2, 3].map(|i| Shown { pixels: marked(), label: format!("label {i}") });
        let text = draw(&shown, Screen { colour: false, unicode: false, columns: 80 }).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.iter().filter(|r| r.contains("label")).count(), 2, "three fit beside each other:\n{text}");
        assert!(rows[6].starts_with("label 0") && rows[6].contains("label 2"), "{text}");
        assert!(rows.iter().all(|r| r.chars().count() <= 80));
    }
}
