//! `images`: decode, crop and resize once, to shards that training maps into memory.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::{Array, BinaryArray, UInt32Array};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cell, Input, InputSpec, Kind, Resources, leak,
    pixels::{Named, Opener, PackedFiles, Ranges},
    rows,
};
use crate::{
    data::{
        dataset::Dataset,
        image::{
            DecodeRule, Fit, GreyRule, Layout, Prepare, ShardPlan, ShardPlanner, SixteenBit, phash, shard_name,
            write_shard,
        },
        leakage::{Leakage, Ledger},
        stream::{ParquetTable, Table},
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
    /// How RGB images become grey ones, where `channels` is 1; null: `luma`.
    #[serde(default)]
    pub grey: Option<GreyRule>,
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
    /// What patients, images and near-duplicates that two splits share do; null: `report`. Here the pictures are known
    /// for the first time.
    #[serde(default)]
    pub leakage: Option<Leakage>,
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
    const VERSION: u32 = 6;
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
                grey: params.grey.unwrap_or_default(),
                sixteen_bit: params.sixteen_bit,
                max_pixels: params.max_pixels.unwrap_or(DecodeRule::default().max_pixels),
            },
            reduce: params.reduced_jpeg,
        };
        let layout = match params.store {
            StoreAs::Pixels => Layout::Pixels(prepare.size()),
            StoreAs::Encoded => Layout::Encoded(prepare),
        };
        let job = Job { prepare, layout, unreadable: params.unreadable, shard_mib: params.shard_mib };
        let mut files = Vec::new();
        let mut out = rows::Writer::new(cell, "images");
        let mut each = |shard: usize, key: Option<&Digest>, make: Make| {
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
        };
        let policy = params.leakage.unwrap_or(Leakage::Report);
        let mut ledger = Ledger::new(Some(cell.work));
        job.run(cell, cell.one("data")?, &mut each, &mut |piece| {
            if policy != Leakage::Allow && piece.text("split").is_some() {
                ledger.add(&piece)?;
            }
            out.append(&piece)
        })?;
        let written = out.finish()?;
        leak::within_file(cell, policy, ledger, &written.path)?;
        written.publish(cell, "images", ArtifactType::Images, &files)
    }
}

/// The version of what is in shards, which are kept over versions of the kind that change its tables and notes alone.
const SHARD_VERSION: u32 = 3;

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
    /// Goes through the shards in order and hands on the rows of each whose images could be read, with their places.
    /// One shard's rows are in memory at a time.
    fn run(&self, cell: &Cell, input: &Input, each: Each, sink: &mut dyn FnMut(Dataset) -> Result<()>) -> Result<()> {
        let (table, held) = (rows::table(cell, input, false)?, self.embedded(cell, input)?);
        let (mut ranges, mut embedded) = (Ranges::open(&table)?, held.as_ref().map(Ranges::open).transpose()?);
        let plan = self.plan(cell, input, held.as_ref())?;
        cell.progress.begin(table.rows() as u64, "images");
        let (mut lost, mut known, mut open) = (Lost::default(), 0, PackedFiles::new());
        // The columns of the result, also where no row is left.
        sink(Kept::default().table(&table.head()?, 0)?)?;
        for shard in 0..plan.shards() {
            cell.cancel.check()?;
            let range = plan.range(shard);
            let data = ranges.rows(range.clone())?;
            let own = embedded.as_mut().map(|e| e.rows(range.clone())).transpose()?;
            let own = own.as_ref().and_then(|d| d.binary("bytes"));
            let opener = Opener::new(cell, &data, own.is_some(), &mut open)?;
            let key = self.key(&opener.named);
            let made = std::sync::atomic::AtomicBool::new(false);
            let load = |row: usize| {
                cell.cancel.check()?;
                let own = own.filter(|b| b.is_valid(row)).map(|b| b.value(row));
                let loaded = opener.load(row, own, &self.prepare, &self.layout);
                cell.progress.advance(1);
                loaded
            };
            let rows = each(shard, key.as_ref(), &|path| {
                made.store(true, std::sync::atomic::Ordering::Relaxed);
                Ok(write_shard(path, &self.layout, 0..data.rows(), load)?.into_iter().map(Row::of).collect())
            })?;
            if !made.into_inner() {
                cell.progress.advance(range.len() as u64);
                known += range.len();
            }
            let mut kept = Kept::default();
            for (row, outcome) in rows.into_iter().enumerate() {
                match outcome {
                    Row::Kept(hash) => kept.push(row, hash.as_deref().map(unhex)),
                    Row::Lost { why, hint } if self.unreadable == Unreadable::Error => {
                        let e = Error::data(opener.place(row), None, why);
                        return Err(if let Some(hint) = hint { e.with_hint(hint) } else { e });
                    }
                    Row::Lost { why, .. } => lost.add(cell, format!("{}: {why}", opener.named.name(row))),
                }
            }
            sink(kept.table(&data, shard)?)?;
        }
        let (all, decoded) = (table.rows(), table.rows() - known);
        cell.progress.log(&format!("{decoded} images decoded; {known} of {all} in shards that were there"));
        if lost.count > 0 && lost.count == all {
            return Err(Error::invalid(format!("none of the {all} images can be read: {}", lost.told()))
                .with_hint("unreadable: skip leaves out single images; here nothing would be left"));
        }
        lost.tell(cell);
        Ok(())
    }

    /// The images that the table holds itself, if it does.
    fn embedded(&self, cell: &Cell, input: &Input) -> Result<Option<ParquetTable>> {
        let table = ParquetTable::open(&cell.file(input, rows::TABLE)?, |c| ["image", "bytes"].contains(&c))?;
        Ok(table.head()?.binary("bytes").is_some().then_some(table))
    }

    /// Shards of at most `shard_mib`: by the size of pixels, or of each file.
    fn plan(&self, cell: &Cell, input: &Input, held: Option<&ParquetTable>) -> Result<ShardPlan> {
        let table = ParquetTable::open(&cell.file(input, rows::TABLE)?, Named::is_column)?;
        let mut planner = ShardPlanner::new(u64::from(self.shard_mib) << 20);
        let mut embedded = held.map(Ranges::open).transpose()?;
        let sharing = match self.layout {
            Layout::Pixels(_) => HashMap::new(),
            Layout::Encoded(_) => sharing(&table)?,
        };
        let mut start = 0;
        for piece in table.pieces()? {
            let named = Named::of(&piece?)?;
            let held = match (&mut embedded, &self.layout) {
                (Some(e), Layout::Encoded(_)) => Some(e.rows(start..start + named.len())?),
                _ => None,
            };
            let held = held.as_ref().and_then(|d| d.binary("bytes"));
            for row in 0..named.len() {
                let bytes = match (&self.layout, held.filter(|b| b.is_valid(row))) {
                    (Layout::Pixels(size), _) => size.bytes() as u64,
                    (Layout::Encoded(_), Some(held)) => held.value(row).len() as u64,
                    (Layout::Encoded(_), None) => encoded_bytes(cell, &named, row, &sharing),
                };
                planner.push(bytes, &named.name(row));
            }
            start += named.len();
        }
        Ok(planner.finish())
    }

    /// What decides a shard: its images by content, and what is made of them. `None` where a row has no digest.
    fn key(&self, named: &Named) -> Option<Digest> {
        let images = (0..named.len()).map(|row| named.content(row)).collect::<Option<Vec<_>>>()?;
        let how = match self.layout {
            Layout::Pixels(_) => "pixels",
            Layout::Encoded(_) => "encoded",
        };
        let parts = serde_json::json!({
            "kind": Images::NAME, "version": SHARD_VERSION, "store": how, "prepare": self.prepare, "images": images,
        });
        Some(Digest::of_json(&parts))
    }
}

/// Rows that lie in the same file of many images, by its digest.
fn sharing(table: &ParquetTable) -> Result<HashMap<Digest, u64>> {
    let mut sharing = HashMap::new();
    for piece in table.pieces()? {
        let named = Named::of(&piece?)?;
        for row in 0..named.len() {
            if let Some((digest, Some(_))) = named.content(row) {
                *sharing.entry(digest).or_default() += 1;
            }
        }
    }
    Ok(sharing)
}

/// Bytes that the row's image takes as it is encoded now; of a file of many images, its share of it; 0 where that is
/// not known.
fn encoded_bytes(cell: &Cell, named: &Named, row: usize, sharing: &HashMap<Digest, u64>) -> u64 {
    let Some((digest, _)) = named.content(row) else { return 0 };
    let path = cell.sources.path_of(&digest);
    let file = path.and_then(|p| std::fs::metadata(p).ok()).map_or(0, |m| m.len());
    file / sharing.get(&digest).copied().unwrap_or(1)
}

/// The rows of a shard whose images were read; the n-th has slot n.
#[derive(Default)]
struct Kept {
    rows: Vec<u32>,
    hashes: Vec<Option<Vec<u8>>>,
}

impl Kept {
    fn push(&mut self, row: usize, hash: Option<Vec<u8>>) {
        self.rows.push(row as u32);
        self.hashes.push(hash);
    }

    fn table(self, data: &Dataset, shard: usize) -> Result<Dataset> {
        let hashes: BinaryArray = self.hashes.iter().map(|h| h.as_deref()).collect();
        let slots = UInt32Array::from_iter_values(0..self.rows.len() as u32);
        data.take(&self.rows)?
            .with_column("shard", Arc::new(UInt32Array::from(vec![shard as u32; self.rows.len()])))?
            .with_column("slot", Arc::new(slots))?
            .with_column(phash::COLUMN, Arc::new(hashes))
    }
}

/// Unreadable images, counted; the first of them by name.
#[derive(Default)]
struct Lost {
    count: usize,
    named: Vec<String>,
}

impl Lost {
    fn add(&mut self, cell: &Cell, text: String) {
        cell.progress.log(&format!("unreadable: {text}"));
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(text);
        }
    }

    fn tell(self, cell: &Cell) {
        if self.count == 0 {
            return;
        }
        cell.note("unreadable_images", self.count as u64, self.told());
    }

    fn told(&self) -> String {
        let more = self.count - self.named.len();
        let tail = if more > 0 { format!("; and {more} more, named in the log") } else { String::new() };
        self.named.join("; ") + &tail
    }
}

/// Decodes the images of an input for one cell alone: shards in the work folder, and the table of their rows.
pub fn decode_all(cell: &Cell, input: &Input, prepare: Prepare, shard_mib: u32) -> Result<(Vec<PathBuf>, Dataset)> {
    let job = Job { prepare, layout: Layout::Pixels(prepare.size()), unreadable: Unreadable::Error, shard_mib };
    let mut paths = Vec::new();
    let mut each = |shard: usize, _: Option<&Digest>, make: Make| {
        let path = cell.work.join(shard_name(shard));
        let rows = make(&path)?;
        paths.push(path);
        Ok(rows)
    };
    let mut pieces = Vec::new();
    job.run(cell, input, &mut each, &mut |piece| {
        pieces.push(piece);
        Ok(())
    })?;
    Ok((paths, Dataset::concat(&pieces)?))
}
