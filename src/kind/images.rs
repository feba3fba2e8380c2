//! `images`: decode, crop and resize once, to shards that training maps into memory.

use std::{ops::Range, path::Path, path::PathBuf, sync::Arc};

use arrow::array::{BinaryArray, UInt32Array};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cell, Input, InputSpec, Kind, Resources,
    pixels::{Embedded, Opener},
    rows,
};
use crate::{
    data::{
        dataset::Dataset,
        image::{DecodeRule, Fit, Layout, Prepare, ShardPlan, SixteenBit, phash, shard_name, write_shard},
        stream::ParquetTable,
    },
    digest::Digest,
    error::{Error, Result},
    store::artifact::{ArtifactType, FileRef},
};

pub struct Images;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The dataset whose images are decoded.
    pub data: String,
    /// Side of the stored square, in pixels.
    #[schemars(range(min = 1, max = 4096))]
    pub size_px: u32,
    /// How a picture of any shape becomes a square.
    #[serde(default)]
    pub fit: Fit,
    /// 1 (grey) or 3 (RGB).
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 3))]
    pub channels: u32,
    /// How 16-bit samples become 8-bit ones.
    #[serde(default)]
    pub sixteen_bit: SixteenBit,
    /// What is kept of each image.
    #[serde(default)]
    pub store: StoreAs,
    /// Decode large JPEG images at a half, a quarter or an eighth of their size where at least twice `size_px`
    /// remains: some times as fast, and within a grey level or two of decoding them whole.
    #[serde(default = "yes")]
    pub reduced_jpeg: bool,
    /// The most pixels that a file may declare; more is refused before anything is allocated. Null: 100 million.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_pixels: Option<u64>,
    /// What an image that cannot be read does.
    #[serde(default)]
    pub unreadable: Unreadable,
    /// The most bytes of images in one shard, in MiB.
    #[serde(default = "shard_mib")]
    #[schemars(range(min = 1, max = 4096))]
    pub shard_mib: u32,
}

fn yes() -> bool {
    true
}

fn three() -> u32 {
    3
}

fn shard_mib() -> u32 {
    64
}

/// What is kept of each image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreAs {
    /// Pixels of `size_px`, mapped and used without decoding.
    #[default]
    Pixels,
    /// The encoded file, decoded whenever it is looked at: random crops and resized views see the original
    /// resolution, what is looked at as stored is brought to `size_px`.
    Encoded,
}

/// What an image that cannot be read does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unreadable {
    /// Ends the cell with an error that names it.
    #[default]
    Error,
    /// Leaves its row out, counted and named in the record.
    Skip,
}

impl Kind for Images {
    const NAME: &'static str = "images";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Decodes, crops and resizes every image once, to Arrow shards that training maps.";
    const FINDS_SOURCES: bool = true;
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::one("data", &[ArtifactType::Dataset])] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("images", ArtifactType::Images)]
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        match params.channels {
            1 | 3 => Vec::new(),
            other => vec![("channels".into(), format!("must be 1 (grey) or 3 (RGB), not {other}"))],
        }
    }

    fn resources(params: &Params) -> Resources {
        Resources { threads: 0, memory_bytes: u64::from(params.shard_mib) << 20 }
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let prepare = Prepare {
            px: params.size_px,
            fit: params.fit,
            decode: DecodeRule {
                channels: params.channels,
                sixteen_bit: params.sixteen_bit,
                max_pixels: params.max_pixels.unwrap_or(DecodeRule::default().max_pixels),
                ..Default::default()
            },
            reduce: params.reduced_jpeg,
        };
        let layout = match params.store {
            StoreAs::Pixels => Layout::Pixels(prepare.size()),
            StoreAs::Encoded => Layout::Encoded(prepare),
        };
        let job = Job { prepare, layout, unreadable: params.unreadable, shard_mib: params.shard_mib };
        let mut files = Vec::new();
        let kept = job.run(cell, cell.one("data")?, &mut |shard, key, make| {
            let made = match recall(cell, key) {
                Some(made) => made,
                None => {
                    let path = cell.work.join(shard_name(shard));
                    let rows = make(&path)?;
                    let (digest, bytes) = cell.store.put_file(&path)?;
                    let made = Made { digest, bytes, rows };
                    if let Some(key) = key {
                        cell.store.remember(key, &made)?;
                    }
                    made
                }
            };
            files.push(FileRef { name: shard_name(shard), digest: made.digest, bytes: made.bytes });
            Ok(made.rows)
        })?;
        rows::publish(cell, "images", ArtifactType::Images, &kept, &files)
    }
}

/// A shard that was made before of the same images in the same way, if it is still whole.
fn recall(cell: &Cell, key: Option<&Digest>) -> Option<Made> {
    let made: Made = cell.store.memo(key?)?;
    (cell.store.blob_bytes(&made.digest).ok()? == Some(made.bytes)).then_some(made)
}

/// A finished shard, as it is remembered.
#[derive(Serialize, Deserialize)]
struct Made {
    digest: Digest,
    bytes: u64,
    rows: Vec<Row>,
}

/// What became of a row's image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Row {
    /// It has the next slot; its perceptual hash in hexadecimal, unless it has no structure.
    Kept(Option<String>),
    /// It cannot be read.
    Lost { why: String, hint: Option<String> },
}

impl Row {
    fn of(outcome: Result<Option<Vec<u8>>>) -> Self {
        match outcome {
            Ok(hash) => Row::Kept(hash.map(|h| h.iter().map(|b| format!("{b:02x}")).collect())),
            Err(e) => {
                let hint = e.hint().map(str::to_string);
                let why = match e {
                    Error::Data { message, .. } => message,
                    Error::Io { source, .. } => source.to_string(),
                    e => e.to_string(),
                };
                Row::Lost { why, hint }
            }
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|i| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()).collect()
}

/// Writes a shard to a path, and tells what became of its rows.
type Make<'a> = &'a dyn Fn(&Path) -> Result<Vec<Row>>;

/// Gets a shard's number, a key that decides what is in it, and the way to make it.
type Each<'a> = &'a mut dyn FnMut(usize, Option<&Digest>, Make) -> Result<Vec<Row>>;

/// Decoding all images of a dataset.
struct Job {
    prepare: Prepare,
    layout: Layout,
    unreadable: Unreadable,
    shard_mib: u32,
}

/// Unreadable images that a note names; the log names all.
const NAMED: usize = 20;

impl Job {
    /// Goes through the shards in order and returns the table of the images that could be read, with their places.
    fn run(&self, cell: &Cell, input: &Input, each: Each) -> Result<Dataset> {
        let data = rows::read(cell, input, false)?;
        let bytes = ParquetTable::open(&cell.file(input, rows::TABLE)?, |c| ["image", "bytes"].contains(&c))?;
        let mut embedded = Embedded::open(&bytes)?;
        let opener = Opener::new(cell, &data, embedded.is_some())?;
        let plan = self.plan(&opener, &data, Embedded::open(&bytes)?)?;
        cell.progress.begin(data.rows() as u64, "images");
        let (mut kept, mut lost, mut known) = (Kept::default(), Vec::new(), 0);
        for shard in 0..plan.shards() {
            cell.cancel.check()?;
            let range = plan.range(shard);
            let key = self.key(&opener, range.clone());
            let held = match &mut embedded {
                Some(e) => e.rows(range.clone())?,
                None => Vec::new(),
            };
            let made = std::sync::atomic::AtomicBool::new(false);
            let load = |row: usize| {
                cell.cancel.check()?;
                let own = held.get(row - range.start).and_then(|b| b.as_deref());
                let loaded = opener.load(row, own, &self.prepare, &self.layout);
                cell.progress.advance(1);
                loaded
            };
            let rows = each(shard, key.as_ref(), &|path| {
                made.store(true, std::sync::atomic::Ordering::Relaxed);
                Ok(write_shard(path, &self.layout, range.clone(), load)?.into_iter().map(Row::of).collect())
            })?;
            if !made.into_inner() {
                cell.progress.advance(range.len() as u64);
                known += range.len();
            }
            let mut slot = 0;
            for (row, outcome) in range.zip(rows) {
                match outcome {
                    Row::Kept(hash) => {
                        kept.push(row, shard, slot, hash.as_deref().map(unhex));
                        slot += 1;
                    }
                    Row::Lost { why, hint } if self.unreadable == Unreadable::Error => {
                        let e = Error::data(opener.place(row), None, why);
                        return Err(if let Some(hint) = hint { e.with_hint(hint) } else { e });
                    }
                    Row::Lost { why, .. } => {
                        let text = format!("{}: {why}", opener.name(row));
                        cell.progress.log(&format!("unreadable: {text}"));
                        lost.push(text);
                    }
                }
            }
        }
        let (all, decoded) = (data.rows(), data.rows() - known);
        cell.progress.log(&format!("{decoded} images decoded; {known} of {all} in shards that were there"));
        if !lost.is_empty() {
            let more = lost.len().saturating_sub(NAMED);
            let tail = if more > 0 { format!("; and {more} more, named in the log") } else { String::new() };
            let named = lost.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
            cell.note("unreadable_images", lost.len() as u64, named + &tail);
        }
        kept.table(&data)
    }

    /// Shards of at most `shard_mib`: by the size of pixels, or of each file. `embedded` has the files that the
    /// table holds itself.
    fn plan(&self, opener: &Opener, data: &Dataset, embedded: Option<Embedded>) -> Result<ShardPlan> {
        let bytes_of = |held: Vec<Option<Vec<u8>>>| held.iter().flatten().map(|b| b.len() as u64).sum();
        let sizes: Vec<u64> = match (&self.layout, embedded) {
            (Layout::Pixels(size), _) => vec![size.bytes() as u64; data.rows()],
            (Layout::Encoded(_), None) => (0..data.rows()).map(|row| opener.encoded_bytes(row)).collect(),
            (Layout::Encoded(_), Some(mut embedded)) => {
                let held = (0..data.rows()).map(|row| {
                    let held: u64 = embedded.rows(row..row + 1).map(bytes_of)?;
                    Ok(if held == 0 { opener.encoded_bytes(row) } else { held })
                });
                held.collect::<Result<_>>()?
            }
        };
        let images = sizes.into_iter().enumerate().map(|(row, bytes)| (bytes, opener.name(row)));
        Ok(ShardPlan::new(images, u64::from(self.shard_mib) << 20))
    }

    /// What decides a shard: its images by content, and what is made of them. `None` where a row has no digest.
    fn key(&self, opener: &Opener, rows: Range<usize>) -> Option<Digest> {
        let images = rows.map(|row| opener.content(row)).collect::<Option<Vec<_>>>()?;
        let how = match self.layout {
            Layout::Pixels(_) => "pixels",
            Layout::Encoded(_) => "encoded",
        };
        let parts = serde_json::json!({
            "kind": Images::NAME, "version": Images::VERSION, "store": how, "prepare": self.prepare, "images": images,
        });
        Some(Digest::of_json(&parts))
    }
}

/// The rows whose images were read, with their places.
#[derive(Default)]
struct Kept {
    rows: Vec<u32>,
    shards: Vec<u32>,
    slots: Vec<u32>,
    hashes: Vec<Option<Vec<u8>>>,
}

impl Kept {
    fn push(&mut self, row: usize, shard: usize, slot: u32, hash: Option<Vec<u8>>) {
        self.rows.push(row as u32);
        self.shards.push(shard as u32);
        self.slots.push(slot);
        self.hashes.push(hash);
    }

    fn table(self, data: &Dataset) -> Result<Dataset> {
        let hashes: BinaryArray = self.hashes.iter().map(|h| h.as_deref()).collect();
        data.take(&self.rows)?
            .with_column("shard", Arc::new(UInt32Array::from(self.shards)))?
            .with_column("slot", Arc::new(UInt32Array::from(self.slots)))?
            .with_column(phash::COLUMN, Arc::new(hashes))
    }
}

/// Decodes the images of an input for one cell alone: shards in the work folder, and the table of their rows.
pub fn decode_all(cell: &Cell, input: &Input, prepare: Prepare, shard_mib: u32) -> Result<(Vec<PathBuf>, Dataset)> {
    let job = Job { prepare, layout: Layout::Pixels(prepare.size()), unreadable: Unreadable::Error, shard_mib };
    let mut paths = Vec::new();
    let kept = job.run(cell, input, &mut |shard, _, make| {
        let path = cell.work.join(shard_name(shard));
        let rows = make(&path)?;
        paths.push(path);
        Ok(rows)
    })?;
    Ok((paths, kept))
}
