//! Writing image shards: Arrow IPC files with one column of equally sized uint8 images, or of encoded ones.
//!
//! An unreadable image leaves its shard one slot shorter and moves no other shard. Pixels go to the file as they are
//! made, encoded images are in memory for one shard at a time; a shard's bytes depend on its images alone. No
//! compression: shards are mapped and used in place.

use std::{
    cell::Cell,
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, FixedSizeBinaryArray, LargeBinaryArray},
    buffer::Buffer,
    datatypes::{DataType, Field, Schema},
    ipc::writer::FileWriter,
    record_batch::RecordBatch,
};
use rayon::prelude::*;

use super::{ImageSize, Prepare};
use crate::error::{Error, Result};

/// Schema metadata of pixels: the [`ImageSize`] as JSON.
pub(super) const SIZE: &str = "scaleshot.image_size";
pub(super) const PIXELS: &str = "pixels";
/// Schema metadata of encoded images: the [`Prepare`] by which they become pixels, as JSON.
pub(super) const PREPARE: &str = "scaleshot.prepare";
pub(super) const ENCODED: &str = "encoded";

/// The most pixels that are written at once.
const TOGETHER_BYTES: usize = 2 << 20;

thread_local! {
    /// What a thread writes at once, kept for its next images: new memory costs as much as the copy.
    static TOGETHER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a shard holds of each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Its prepared pixels, all of one size.
    Pixels(ImageSize),
    /// Its encoded bytes, which this prepares.
    Encoded(Prepare),
}

/// One image on its way into a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Pixels or encoded bytes, as the layout says.
    pub data: Vec<u8>,
    /// Its perceptual hash.
    pub phash: Option<Vec<u8>>,
}

/// Writes one shard: loads the images of `rows` in parallel on the current pool, in order, and returns each row's
/// perceptual hash, or why its image got no slot. An interruption ends it.
pub fn write_shard(
    path: &Path,
    layout: &Layout,
    rows: Range<usize>,
    load: impl Fn(usize) -> Result<Loaded> + Sync,
) -> Result<Vec<Result<Option<Vec<u8>>>>> {
    match layout {
        Layout::Pixels(size) => write_pixels(path, *size, rows, load),
        Layout::Encoded(prepare) => {
            let loaded: Vec<Result<Loaded>> = rows.into_par_iter().map(&load).collect();
            if loaded.iter().any(|l| matches!(l, Err(Error::Interrupted))) {
                return Err(Error::Interrupted);
            }
            let column: LargeBinaryArray = loaded.iter().flatten().map(|l| Some(l.data.as_slice())).collect();
            let batch = batch(Arc::new(column), ENCODED, (PREPARE, serde_json::to_string(prepare)?))?;
            let file = File::create(path).map_err(Error::io(path))?;
            let writer = write_batch(BufWriter::new(file), &batch)?;
            writer.into_inner().map_err(|e| Error::io(path)(e.into_error()))?;
            Ok(loaded.into_iter().map(|l| l.map(|l| l.phash)).collect())
        }
    }
}

type Outcomes = Vec<Result<Option<Vec<u8>>>>;

/// Each image is written at its place as soon as it is made, and the rest of the file around them at the end, so that
/// a shard is never in memory. Unreadable images are closed up.
fn write_pixels(
    path: &Path,
    size: ImageSize,
    rows: Range<usize>,
    load: impl Fn(usize) -> Result<Loaded> + Sync,
) -> Result<Outcomes> {
    let bytes = size.bytes();
    if bytes == 0 || i32::try_from(bytes).is_err() {
        return Err(Error::invalid(format!("an image of {size} cannot be kept: it has no or too many bytes")));
    }
    // A file that is emptied and filled again is flushed to the disk by some systems as it is closed; a new one is not.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(path)(e)),
        _ => {}
    }
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    let file = file.map_err(Error::io(path))?;
    let start = write_around(None, size, rows.len().max(1))?.body;
    let place = |slot: usize| start + (slot * bytes) as u64;
    // Neighbours are written together: a lock and a look for room for each image by itself cost as much as the copy.
    let together = (TOGETHER_BYTES / bytes).clamp(1, 8).min(rows.len() / (4 * rayon::current_num_threads())).max(1);
    let several = |first: usize| -> Result<Outcomes> {
        let last = (first + together).min(rows.len());
        let mut outcomes = Vec::with_capacity(last - first);
        // Taken and put back, since a load may do another group's work while it waits.
        let mut pixels = TOGETHER.take();
        pixels.clear();
        for i in first..last {
            let outcome = match load(rows.start + i) {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Ok(loaded) if loaded.data.len() != bytes => {
                    let found = loaded.data.len();
                    Err(Error::invalid(format!("the image has {found} bytes, the shard holds {size}")))
                }
                Ok(loaded) => {
                    pixels.extend_from_slice(&loaded.data);
                    Ok(loaded.phash)
                }
                Err(e) => Err(e),
            };
            if outcome.is_err() {
                // Its place, to be closed up.
                pixels.resize((i + 1 - first) * bytes, 0);
            }
            outcomes.push(outcome);
        }
        file.write_all_at(&pixels, place(first)).map_err(Error::io(path))?;
        TOGETHER.set(pixels);
        Ok(outcomes)
    };
    let starts = (0..rows.len().div_ceil(together)).into_par_iter().map(|n| several(n * together));
    let outcomes: Outcomes = starts.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let (mut slots, mut moved) = (0, vec![0; bytes]);
    for (i, _) in outcomes.iter().enumerate().filter(|(_, o)| o.is_ok()) {
        if i > slots {
            file.read_exact_at(&mut moved, place(i)).map_err(Error::io(path))?;
            file.write_all_at(&moved, place(slots)).map_err(Error::io(path))?;
        }
        slots += 1;
    }
    let around = write_around(Some(&file), size, slots)?;
    if slots > 0 && around.body != start {
        return Err(Error::invalid("bug: the images of a shard do not begin where they were written"));
    }
    file.set_len(around.at).map_err(Error::io(path))?;
    Ok(outcomes)
}

/// Writes the file of `images` images around their pixels, which are left as they are.
fn write_around(file: Option<&File>, size: ImageSize, images: usize) -> Result<Around<'_>> {
    // Memory that is asked for and never touched: it stands for the pixels.
    let blank = Buffer::from_vec(vec![0u8; images * size.bytes()]);
    let pixels = blank.as_ptr_range();
    let column = FixedSizeBinaryArray::try_new(size.bytes() as i32, blank.clone(), None)?;
    let batch = batch(Arc::new(column), PIXELS, (SIZE, serde_json::to_string(&size)?))?;
    let pixels = pixels.start as usize..pixels.end as usize;
    write_batch(Around { file, at: 0, body: 0, pixels }, &batch)
}

/// A file that is written but for its pixels.
struct Around<'a> {
    /// `None` only measures.
    file: Option<&'a File>,
    /// Where the next byte goes; in the end the length.
    at: u64,
    /// Where the pixels begin.
    body: u64,
    /// Addresses of what stands for the pixels.
    pixels: Range<usize>,
}

impl Write for Around<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let from = bytes.as_ptr() as usize;
        if self.pixels.contains(&from) {
            if from == self.pixels.start {
                self.body = self.at;
            }
        } else if let Some(file) = self.file {
            file.write_all_at(bytes, self.at)?;
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The one batch of a shard.
fn batch(column: ArrayRef, name: &str, (key, value): (&str, String)) -> Result<RecordBatch> {
    let field = Field::new(name, column.data_type().clone(), false);
    let metadata: HashMap<String, String> = [(key.to_string(), value)].into();
    let schema = Schema::new_with_metadata(vec![field], metadata);
    Ok(RecordBatch::try_new(Arc::new(schema), vec![column])?)
}

fn write_batch<W: Write>(out: W, batch: &RecordBatch) -> Result<W> {
    let mut writer = FileWriter::try_new(out, batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

/// The type of the column of a layout, for whoever opens a shard.
pub(super) fn data_type(layout: &Layout) -> DataType {
    match layout {
        Layout::Pixels(size) => DataType::FixedSizeBinary(size.bytes() as i32),
        Layout::Encoded(_) => DataType::LargeBinary,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{ImageShards, Pixels, encode, phash::tests::picture},
        *,
    };

    const SIZE: ImageSize = ImageSize { height: 3, width: 5, channels: 3 };

    fn image(row: usize) -> Vec<u8> {
        let mut data: Vec<u8> = (0..SIZE.bytes()).map(|i| (i + row) as u8).collect();
        data[0] = 255;
        data
    }

    fn load(row: usize) -> Result<Loaded> {
        match row {
            3 => Err(Error::invalid("row 3 is broken")),
            8 => Ok(Loaded { data: vec![0; 7], phash: None }),
            _ => Ok(Loaded { data: image(row), phash: Some(vec![row as u8; 2]) }),
        }
    }

    fn write(path: &Path, threads: usize) -> Vec<Result<Option<Vec<u8>>>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| write_shard(path, &Layout::Pixels(SIZE), 2..11, load)).unwrap()
    }

    #[test]
    fn images_come_back_in_order_and_the_lost_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.arrow");
        let outcomes = write(&path, 3);
        let shards = ImageShards::open(&[path]).unwrap();
        assert_eq!((shards.size(), shards.len(0)), (SIZE, 7));
        let why: Vec<String> = outcomes.iter().filter_map(|o| Some(o.as_ref().err()?.to_string())).collect();
        assert_eq!(why, ["row 3 is broken", "the image has 7 bytes, the shard holds 3 x 5 x 3"]);
        let kept = outcomes.iter().enumerate().filter(|(_, o)| o.is_ok()).map(|(i, _)| i + 2);
        for (slot, row) in kept.enumerate() {
            assert_eq!(shards.get(0, slot as u32).unwrap(), image(row), "row {row}");
        }
        assert_eq!(outcomes[0].as_ref().unwrap(), &Some(vec![2, 2]));
        assert!(shards.get(0, 7).is_err() && shards.get(1, 0).is_err());
    }

    /// A file that was written around its pixels is the one that Arrow writes in one go.
    #[test]
    fn the_file_is_arrows_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.arrow");
        write(&path, 2);
        let kept: Vec<u8> = (2..11).filter(|row| ![3, 8].contains(row)).flat_map(image).collect();
        let column = FixedSizeBinaryArray::try_new(SIZE.bytes() as i32, Buffer::from_vec(kept), None).unwrap();
        let whole = batch(Arc::new(column), PIXELS, (super::SIZE, serde_json::to_string(&SIZE).unwrap())).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), write_batch(Vec::new(), &whole).unwrap());
        // A shard that was longer before, and one that lost every image.
        let lost = |_: usize| Err(Error::invalid("gone"));
        assert_eq!(write_shard(&path, &Layout::Pixels(SIZE), 0..4, lost).unwrap().len(), 4);
        assert_eq!(ImageShards::open(&[path]).unwrap().len(0), 0);
    }

    #[test]
    fn bytes_do_not_depend_on_threads() {
        let dir = tempfile::tempdir().unwrap();
        let [one, four] = [1, 4].map(|threads| {
            let path = dir.path().join(threads.to_string());
            write(&path, threads);
            std::fs::read(path).unwrap()
        });
        assert_eq!(one, four);
    }

    #[test]
    fn encoded_images_are_prepared_when_they_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.arrow");
        let prepare: Prepare = serde_json::from_value(serde_json::json!({"px": 12, "fit": "center_crop"})).unwrap();
        let originals = [picture(1, 40, 60), picture(2, 90, 30)];
        let load = |row: usize| Ok(Loaded { data: encode::png(&originals[row])?, phash: None });
        write_shard(&path, &Layout::Encoded(prepare), 0..2, load).unwrap();
        let shards = ImageShards::open(&[path]).unwrap();
        assert_eq!(shards.size(), prepare.size());
        let expected = prepare.fit(originals[1].clone()).unwrap();
        assert_eq!(shards.image(0, 1).unwrap(), expected);
        assert_eq!(shards.encoded(0, 0).unwrap().unwrap(), encode::png(&originals[0]).unwrap());
        let e = shards.get(0, 0).unwrap_err();
        assert!(e.to_string().contains("encoded"), "{e}");
        let _: Pixels = expected;
    }

    #[test]
    fn an_interruption_is_no_unreadable_image() {
        let dir = tempfile::tempdir().unwrap();
        let stop = |_| Err(Error::Interrupted);
        let e = write_shard(&dir.path().join("s"), &Layout::Pixels(SIZE), 0..4, stop).unwrap_err();
        assert!(matches!(e, Error::Interrupted));
    }
}
