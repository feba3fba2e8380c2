//! Writing image shards: Arrow IPC files with one column `pixels` of equally sized uint8 images.
//!
//! Rows are assigned to shards by position, `rows_per_shard` each, so that a changed file touches the one
//! shard that holds it. An unreadable image leaves its shard one slot shorter and moves no other shard.
//! One shard is in memory at a time, whatever the number of rows; the bytes of a shard depend on its
//! images alone. No compression: shards are mapped and used in place.

use std::{
    fs::File,
    io::BufWriter,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, FixedSizeBinaryArray},
    buffer::Buffer,
    datatypes::{DataType, Field, Schema},
    ipc::writer::FileWriter,
    record_batch::RecordBatch,
};
use rayon::prelude::*;

use super::{ImageSize, Pixels};
use crate::{
    error::{Error, Result},
    progress::{Cancel, Progress},
};

/// Schema metadata: the [`ImageSize`] as JSON.
pub(super) const SIZE: &str = "scaleshot.image_size";
pub(super) const COLUMN: &str = "pixels";

/// How rows fall into shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardPlan {
    pub size: ImageSize,
    pub rows: usize,
    pub rows_per_shard: usize,
}

impl ShardPlan {
    /// As many images a shard as fit in `shard_bytes` (at least one).
    pub fn new(size: ImageSize, rows: usize, shard_bytes: usize) -> Self {
        ShardPlan { size, rows, rows_per_shard: (shard_bytes / size.bytes().max(1)).max(1) }
    }

    pub fn shards(&self) -> usize {
        self.rows.div_ceil(self.rows_per_shard)
    }

    /// The rows of one shard.
    pub fn range(&self, shard: usize) -> Range<usize> {
        let start = shard * self.rows_per_shard;
        start.min(self.rows)..(start + self.rows_per_shard).min(self.rows)
    }

    /// `shard-00000.arrow` …
    pub fn name(shard: usize) -> String {
        format!("shard-{shard:05}.arrow")
    }
}

/// Where an image lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub shard: u32,
    pub slot: u32,
}

/// What [`write_shards`] left behind.
#[derive(Clone, Debug)]
pub struct ShardSet {
    /// (name, path) of every shard in order.
    pub files: Vec<(String, PathBuf)>,
    /// Every row's place; `None` where its image could not be read.
    pub places: Vec<Option<Place>>,
}

/// Writes one shard: loads the images of `rows` in parallel on the current pool, in order, and returns for
/// each row whether it got a slot. Images that `load` fails on, or that have another size, are handed to
/// `unreadable` in row order, which may return an error to stop.
pub fn write_shard(
    path: &Path,
    size: ImageSize,
    rows: Range<usize>,
    load: impl Fn(usize) -> Result<Pixels> + Sync,
    unreadable: &mut dyn FnMut(usize, Error) -> Result<()>,
) -> Result<Vec<bool>> {
    let image_bytes = size.bytes();
    let width = i32::try_from(image_bytes).map_err(|_| Error::invalid(format!("an image of {size} is too large")))?;
    if width == 0 {
        return Err(Error::invalid(format!("an image of {size} has no pixels")));
    }
    let mut data = vec![0u8; rows.len() * image_bytes];
    let outcomes: Vec<Result<()>> = data
        .par_chunks_exact_mut(image_bytes)
        .enumerate()
        .map(|(i, slot)| {
            let image = load(rows.start + i)?;
            if image.size != size {
                return Err(Error::invalid(format!("the image is {}, the shard holds {size}", image.size)));
            }
            slot.copy_from_slice(&image.data);
            Ok(())
        })
        .collect();
    let mut readable = Vec::with_capacity(outcomes.len());
    let mut slots = 0;
    for (i, outcome) in outcomes.into_iter().enumerate() {
        readable.push(outcome.is_ok());
        match outcome {
            Ok(()) => {
                data.copy_within(i * image_bytes..(i + 1) * image_bytes, slots * image_bytes);
                slots += 1;
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(e) => unreadable(rows.start + i, e)?,
        }
    }
    data.truncate(slots * image_bytes);
    write_ipc(path, size, width, data)?;
    Ok(readable)
}

fn write_ipc(path: &Path, size: ImageSize, width: i32, data: Vec<u8>) -> Result<()> {
    let metadata: std::collections::HashMap<String, String> =
        [(SIZE.to_string(), serde_json::to_string(&size)?)].into();
    let field = Field::new(COLUMN, DataType::FixedSizeBinary(width), false);
    let schema = Arc::new(Schema::new_with_metadata(vec![field], metadata));
    let column = FixedSizeBinaryArray::try_new(width, Buffer::from_vec(data), None)?;
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(column) as ArrayRef])?;
    let file = File::create(path).map_err(Error::io(path))?;
    let mut writer = FileWriter::try_new(BufWriter::new(file), &schema)?;
    writer.write(&batch)?;
    writer.finish()?;
    writer.into_inner()?.into_inner().map_err(|e| Error::io(path)(e.into_error()))?;
    Ok(())
}

/// Writes all shards of `plan` into `folder`, one after the other, each loaded in parallel.
pub fn write_shards(
    folder: &Path,
    plan: &ShardPlan,
    load: impl Fn(usize) -> Result<Pixels> + Sync,
    unreadable: &mut dyn FnMut(usize, Error) -> Result<()>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<ShardSet> {
    progress.begin(plan.rows as u64, "images");
    let mut set = ShardSet { files: Vec::new(), places: Vec::with_capacity(plan.rows) };
    for shard in 0..plan.shards() {
        cancel.check()?;
        let name = ShardPlan::name(shard);
        let path = folder.join(&name);
        let watched = |row: usize| {
            cancel.check()?;
            let image = load(row);
            progress.advance(1);
            image
        };
        let readable = write_shard(&path, plan.size, plan.range(shard), watched, unreadable)?;
        let mut slot = 0;
        set.places.extend(readable.into_iter().map(|r| {
            r.then(|| {
                slot += 1;
                Place { shard: shard as u32, slot: slot - 1 }
            })
        }));
        set.files.push((name, path));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::{super::ImageShards, *};
    use crate::progress::Silent;

    const SIZE: ImageSize = ImageSize { height: 3, width: 5, channels: 3 };

    fn image(row: usize) -> Pixels {
        let mut data: Vec<u8> = (0..SIZE.bytes()).map(|i| (i + row) as u8).collect();
        data[0] = 255;
        Pixels { size: SIZE, data }
    }

    fn load(row: usize) -> Result<Pixels> {
        match row {
            3 => Err(Error::invalid("row 3 is broken")),
            8 => Ok(Pixels { size: ImageSize { height: 5, width: 3, ..SIZE }, ..image(row) }),
            _ => Ok(image(row)),
        }
    }

    fn write(folder: &Path, threads: usize) -> (ShardSet, Vec<String>) {
        let plan = ShardPlan::new(SIZE, 11, 4 * SIZE.bytes() + 7);
        assert_eq!((plan.rows_per_shard, plan.shards(), plan.range(2)), (4, 3, 8..11));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut lost = Vec::new();
        let set = pool.install(|| {
            let mut unreadable = |row: usize, e: Error| {
                lost.push(format!("{row}: {e}"));
                Ok(())
            };
            write_shards(folder, &plan, load, &mut unreadable, &Silent, &Cancel::default()).unwrap()
        });
        (set, lost)
    }

    #[test]
    fn images_come_back_in_order_and_the_lost_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (set, lost) = write(dir.path(), 3);
        assert_eq!(lost, ["3: row 3 is broken", "8: the image is 5 x 3 x 3, the shard holds 3 x 5 x 3"]);
        assert_eq!(set.places[4], Some(Place { shard: 1, slot: 0 }), "a lost image moves no other shard");
        assert_eq!((set.places[3], set.places[9]), (None, Some(Place { shard: 2, slot: 0 })));
        let paths: Vec<PathBuf> = set.files.iter().map(|(_, p)| p.clone()).collect();
        let shards = ImageShards::open(&paths).unwrap();
        assert_eq!((shards.size(), shards.shards(), shards.len(0), shards.len(2)), (SIZE, 3, 3, 2));
        for (row, place) in set.places.iter().enumerate() {
            if let Some(p) = place {
                assert_eq!(shards.get(p.shard, p.slot).unwrap(), &image(row).data[..]);
            }
        }
        assert!(shards.get(2, 2).is_err() && shards.get(3, 0).is_err());
    }

    #[test]
    fn bytes_do_not_depend_on_threads() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, four) = (write(a.path(), 1).0, write(b.path(), 4).0);
        for ((_, x), (_, y)) in one.files.iter().zip(&four.files) {
            assert_eq!(std::fs::read(x).unwrap(), std::fs::read(y).unwrap());
        }
    }

    #[test]
    fn unreadable_images_can_be_fatal_and_a_stop_stops() {
        let dir = tempfile::tempdir().unwrap();
        let plan = ShardPlan::new(SIZE, 11, 1 << 20);
        let run =
            |cancel: &Cancel| write_shards(dir.path(), &plan, load, &mut |_, e| Err(e), &Silent, cancel).unwrap_err();
        assert_eq!(run(&Cancel::default()).to_string(), "row 3 is broken");
        let cancel = Cancel::default();
        cancel.request();
        assert!(matches!(run(&cancel), Error::Interrupted));
    }
}
