//! Writing image shards: Arrow IPC files with one column of equally sized uint8 images, or of encoded ones.
//!
//! An unreadable image leaves its shard one slot shorter and moves no other shard. One shard is in memory at a
//! time; its bytes depend on its images alone. No compression: shards are mapped and used in place.

use std::{fs::File, io::BufWriter, ops::Range, path::Path, sync::Arc};

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
    let (outcomes, column, field, metadata) = match layout {
        Layout::Pixels(size) => {
            let (outcomes, data) = pixels(*size, rows, load)?;
            let width = size.bytes() as i32;
            let column: ArrayRef = Arc::new(FixedSizeBinaryArray::try_new(width, Buffer::from_vec(data), None)?);
            (outcomes, column, PIXELS, (SIZE, serde_json::to_string(size)?))
        }
        Layout::Encoded(prepare) => {
            let loaded: Vec<Result<Loaded>> = rows.into_par_iter().map(&load).collect();
            let column: LargeBinaryArray = loaded.iter().flatten().map(|l| Some(l.data.as_slice())).collect();
            let outcomes = loaded.into_iter().map(|l| l.map(|l| l.phash)).collect();
            (outcomes, Arc::new(column) as ArrayRef, ENCODED, (PREPARE, serde_json::to_string(prepare)?))
        }
    };
    if outcomes.iter().any(|o| matches!(o, Err(Error::Interrupted))) {
        return Err(Error::Interrupted);
    }
    let metadata: std::collections::HashMap<String, String> = [(metadata.0.to_string(), metadata.1)].into();
    let field = Field::new(field, column.data_type().clone(), false);
    let schema = Arc::new(Schema::new_with_metadata(vec![field], metadata));
    let batch = RecordBatch::try_new(schema.clone(), vec![column])?;
    let file = File::create(path).map_err(Error::io(path))?;
    let mut writer = FileWriter::try_new(BufWriter::new(file), &schema)?;
    writer.write(&batch)?;
    writer.finish()?;
    writer.into_inner()?.into_inner().map_err(|e| Error::io(path)(e.into_error()))?;
    Ok(outcomes)
}

type Outcomes = Vec<Result<Option<Vec<u8>>>>;

/// Every image at its place in one buffer, the unreadable ones closed up.
fn pixels(
    size: ImageSize,
    rows: Range<usize>,
    load: impl Fn(usize) -> Result<Loaded> + Sync,
) -> Result<(Outcomes, Vec<u8>)> {
    let bytes = size.bytes();
    if bytes == 0 || i32::try_from(bytes).is_err() {
        return Err(Error::invalid(format!("an image of {size} cannot be kept: it has no or too many bytes")));
    }
    let mut data = vec![0u8; rows.len() * bytes];
    let outcomes: Outcomes = data
        .par_chunks_exact_mut(bytes)
        .enumerate()
        .map(|(i, slot)| {
            let loaded = load(rows.start + i)?;
            if loaded.data.len() != bytes {
                let found = loaded.data.len();
                return Err(Error::invalid(format!("the image has {found} bytes, the shard holds {size}")));
            }
            slot.copy_from_slice(&loaded.data);
            Ok(loaded.phash)
        })
        .collect();
    let mut slots = 0;
    for (i, _) in outcomes.iter().enumerate().filter(|(_, o)| o.is_ok()) {
        data.copy_within(i * bytes..(i + 1) * bytes, slots * bytes);
        slots += 1;
    }
    data.truncate(slots * bytes);
    Ok((outcomes, data))
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
