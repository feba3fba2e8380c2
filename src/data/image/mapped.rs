//! Image shards mapped into memory and read without copying.
//!
//! Arrow's own file reader would copy every batch into fresh memory; here the mapped pages themselves are
//! the Arrow buffer, so that a shard costs address space and not memory. Nothing is written here.

use std::{fs::File, path::PathBuf, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray},
    buffer::Buffer,
    ipc::{
        convert::try_fb_to_schema,
        reader::{FileDecoder, read_footer_length},
        root_as_footer,
    },
};
use memmap2::{Advice, Mmap};

use super::{
    ImageSize, Pixels, Prepare,
    shards::{ENCODED, Layout, PIXELS, PREPARE, SIZE, data_type},
};
use crate::error::{Error, Result};

/// Shards of images of one layout, readable from any thread.
#[derive(Debug)]
pub struct ImageShards {
    layout: Layout,
    shards: Vec<ArrayRef>,
}

impl ImageShards {
    /// Maps the files in this order; all must hold images of one layout.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut layout = None;
        let mut shards = Vec::with_capacity(paths.len());
        for path in paths {
            let (own, column) = open_shard(path)?;
            let first = *layout.get_or_insert(own);
            if first != own {
                let text = |l: Layout| match l {
                    Layout::Pixels(size) => format!("images of {size}"),
                    Layout::Encoded(p) => format!("encoded images for {} px", p.px),
                };
                return Err(Error::data(path, None, format!("holds {}, other shards {}", text(own), text(first))));
            }
            shards.push(column);
        }
        let layout = layout.ok_or_else(|| Error::invalid("no image shards to open"))?;
        Ok(ImageShards { layout, shards })
    }

    /// The size that every image has, or is prepared to.
    pub fn size(&self) -> ImageSize {
        match self.layout {
            Layout::Pixels(size) => size,
            Layout::Encoded(prepare) => prepare.size(),
        }
    }

    /// How encoded images become pixels; `None` where they are pixels.
    pub fn prepare(&self) -> Option<&Prepare> {
        match &self.layout {
            Layout::Pixels(_) => None,
            Layout::Encoded(prepare) => Some(prepare),
        }
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Images in one shard; 0 for a shard that does not exist.
    pub fn len(&self, shard: u32) -> u32 {
        self.shards.get(shard as usize).map_or(0, |s| s.len() as u32)
    }

    /// Whether there is no image at all.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// Images in all shards.
    pub fn total(&self) -> usize {
        self.shards.iter().map(|s| s.len()).sum()
    }

    /// One image's pixels, height x width x channels bytes, straight from the mapped file.
    pub fn get(&self, shard: u32, slot: u32) -> Result<&[u8]> {
        let column = self.column(shard, slot)?;
        let pixels = column.as_fixed_size_binary_opt();
        Ok(pixels.ok_or_else(|| Error::invalid("the shards hold encoded images, not pixels"))?.value(slot as usize))
    }

    /// One image's encoded bytes, straight from the mapped file; `None` where the shards hold pixels.
    pub fn encoded(&self, shard: u32, slot: u32) -> Result<Option<&[u8]>> {
        Ok(self.column(shard, slot)?.as_binary_opt::<i64>().map(|c| c.value(slot as usize)))
    }

    /// One image, decoded and prepared where it is not pixels yet.
    pub fn image(&self, shard: u32, slot: u32) -> Result<Pixels> {
        match (self.prepare(), self.encoded(shard, slot)?) {
            (Some(prepare), Some(bytes)) => prepare.pixels(bytes),
            _ => Ok(Pixels { size: self.size(), data: self.get(shard, slot)?.to_vec() }),
        }
    }

    fn column(&self, shard: u32, slot: u32) -> Result<&ArrayRef> {
        match self.shards.get(shard as usize) {
            Some(s) if (slot as usize) < s.len() => Ok(s),
            Some(s) => {
                Err(Error::invalid(format!("shard {shard} holds {} images, slot {slot} was asked for", s.len())))
            }
            None => Err(Error::invalid(format!("there are {} shards, shard {shard} was asked for", self.shards.len()))),
        }
    }
}

/// The file as one Arrow buffer of its mapped pages.
fn map(path: &PathBuf) -> Result<Buffer> {
    let file = File::open(path).map_err(Error::io(path))?;
    // SAFETY: a mapping is undefined behaviour if the file changes underneath it. Shards are written aside
    // and enter the store under the digest of their content; the store never writes to a file again and
    // replaces only by renaming, which leaves a mapped inode as it is. The mapping is read-only, and the
    // buffer made of it owns it, so that no slice outlives it.
    let mapped = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
    // Training reads at random; a refused hint costs nothing.
    let _ = mapped.advise(Advice::Random);
    Ok(Buffer::from(bytes::Bytes::from_owner(mapped)))
}

fn open_shard(path: &PathBuf) -> Result<(Layout, ArrayRef)> {
    let wrong = |what: &str| Error::data(path, None, format!("not an image shard: {what}"));
    let buffer = map(path)?;
    let end = buffer.len().checked_sub(10).ok_or_else(|| wrong("it is too short"))?;
    let trailer: [u8; 10] = buffer[end..].try_into().map_err(|_| wrong("it is too short"))?;
    let footer_bytes = read_footer_length(trailer).map_err(|_| wrong("it has no Arrow footer"))?;
    let start = end.checked_sub(footer_bytes).ok_or_else(|| wrong("its footer is longer than the file"))?;
    let footer = root_as_footer(&buffer[start..end]).map_err(|e| wrong(&e.to_string()))?;
    let schema = Arc::new(try_fb_to_schema(footer.schema().ok_or_else(|| wrong("it has no schema"))?)?);
    let said = |e: serde_json::Error| wrong(&e.to_string());
    let (layout, name) = match (schema.metadata().get(SIZE), schema.metadata().get(PREPARE)) {
        (Some(json), _) => (Layout::Pixels(serde_json::from_str(json).map_err(said)?), PIXELS),
        (None, Some(json)) => (Layout::Encoded(serde_json::from_str(json).map_err(said)?), ENCODED),
        (None, None) => return Err(wrong("it does not say the size of its images")),
    };
    let blocks = footer.recordBatches().ok_or_else(|| wrong("it has no record batches"))?;
    if blocks.len() != 1 {
        return Err(wrong(&format!("it has {} record batches, expected 1", blocks.len())));
    }
    let block = blocks.get(0);
    let parts = [block.offset(), i64::from(block.metaDataLength()), block.bodyLength()];
    let [offset, metadata, body] = parts.map(|v| usize::try_from(v).unwrap_or(usize::MAX));
    let length = metadata.saturating_add(body);
    if offset.saturating_add(length) > start {
        return Err(wrong("its record batch ends outside the file"));
    }
    let decoder = FileDecoder::new(schema, footer.version());
    let batch = decoder
        .read_record_batch(block, &buffer.slice_with_length(offset, length))?
        .ok_or_else(|| wrong("its record batch is empty"))?;
    let column = batch.column_by_name(name).ok_or_else(|| wrong(&format!("it has no column {name}")))?;
    if *column.data_type() != data_type(&layout) || column.null_count() > 0 {
        return Err(wrong(&format!("its column {name} does not hold images of {layout:?}")));
    }
    Ok((layout, column.clone()))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Loaded, write_shard},
        *,
    };

    #[test]
    fn pixels_are_the_mapped_bytes_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard-00000.arrow");
        let size = ImageSize { height: 2, width: 3, channels: 1 };
        let load = |row: usize| Ok(Loaded { data: vec![row as u8; 6], phash: None });
        write_shard(&path, &Layout::Pixels(size), 0..4, load).unwrap();
        let buffer = map(&path).unwrap();
        let (_, column) = open_shard(&path).unwrap();
        let column = column.as_fixed_size_binary();
        assert!(column.value_data().len() == 24 && buffer.len() > 24);
        // Arrow's buffer begins page-aligned minus the header, never at a heap address of its own:
        // its owner is the mapping, so its capacity is the file's.
        assert_eq!(column.values().capacity(), buffer.capacity());
        assert_eq!(column.value(3), [3; 6]);
    }

    #[test]
    fn broken_shards_are_errors_that_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.arrow");
        let size = ImageSize { height: 2, width: 3, channels: 1 };
        let load = |_: usize| Ok(Loaded { data: vec![1; 6], phash: None });
        write_shard(&path, &Layout::Pixels(size), 0..4, load).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 5, 100, whole.len() - 3] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let e = ImageShards::open(std::slice::from_ref(&path)).unwrap_err();
            assert!(e.to_string().contains("s.arrow"), "{e}");
        }
        assert!(ImageShards::open(&[]).is_err());
    }
}
