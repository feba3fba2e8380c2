//! Images inside a Parquet file: which column they are in, and one row of it.
//!
//! A row is reached by reading its row group; the last two groups read are kept, because rows are asked for nearly in
//! order.

use std::{
    collections::VecDeque,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder},
};

use super::packed::Record;
use crate::error::{Error, Result};

/// Row groups that are kept.
const KEPT: usize = 2;

/// Names of image columns, in the order in which they are preferred; else the first column that can hold one.
const NAMES: [&str; 5] = ["image", "img", "jpg", "png", "bytes"];

/// A file with the last row groups read.
#[derive(Debug)]
pub(super) struct ParquetImages {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    column: usize,
    /// First row of each group, and the end.
    starts: Vec<u64>,
    kept: Mutex<VecDeque<(usize, ArrayRef)>>,
}

fn metadata(path: &Path) -> Result<(File, ArrowReaderMetadata)> {
    let file = File::open(path).map_err(Error::io(path))?;
    let metadata = ArrowReaderMetadata::load(&file, Default::default())
        .map_err(|e| Error::data(path, None, format!("cannot be read as Parquet: {e}")))?;
    Ok((file, metadata))
}

pub(super) fn schema(path: &Path) -> Result<Arc<Schema>> {
    Ok(metadata(path)?.1.schema().clone())
}

pub(super) fn rows(path: &Path) -> Result<u64> {
    Ok(metadata(path)?.1.metadata().file_metadata().num_rows().max(0) as u64)
}

/// Whether a column can hold encoded images.
fn holds_images(field: &Field) -> bool {
    match field.data_type() {
        DataType::Binary | DataType::LargeBinary => true,
        DataType::Struct(fields) => fields.iter().any(|f| f.name() == "bytes" && *f.data_type() == DataType::Binary),
        _ => false,
    }
}

/// Which column holds the images.
pub(super) fn image_column(schema: &Schema) -> Option<usize> {
    let named = NAMES.iter().find_map(|n| schema.fields().iter().position(|f| f.name() == n && holds_images(f)));
    named.or_else(|| schema.fields().iter().position(|f| holds_images(f)))
}

/// The binary array inside an image column.
fn images(column: &ArrayRef) -> Option<ArrayRef> {
    match column.as_struct_opt() {
        Some(s) => s.column_by_name("bytes").cloned(),
        None => Some(column.clone()),
    }
}

fn find_image_column(path: &Path, metadata: &ArrowReaderMetadata) -> Result<usize> {
    image_column(metadata.schema()).ok_or_else(|| {
        let names: Vec<&str> = metadata.schema().fields().iter().map(|f| f.name().as_str()).collect();
        Error::data(path, None, "no column of encoded images (binary, or a struct with bytes)")
            .with_hint(format!("its columns are: {}", names.join(", ")))
    })
}

/// Batches of two columns, the images (as binary) and `label`.
pub(super) fn columns(path: &Path, label: &str) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
    let (file, metadata) = metadata(path)?;
    let image = find_image_column(path, &metadata)?;
    let schema = metadata.schema().clone();
    let at = schema.fields().iter().position(|f| f.name() == label).ok_or_else(|| {
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        Error::data(path, None, format!("no column {label}"))
            .with_hint(format!("set label to one of: {}", names.join(", ")))
    })?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    let mask = ProjectionMask::roots(builder.parquet_schema(), [image, at]);
    let reader = builder.with_projection(mask).with_batch_size(256).build()?;
    // A projection keeps the file's order, whichever of the two comes first.
    let (image, at) = if image < at { (0, 1) } else { (1, 0) };
    Ok(reader.map(move |batch| {
        let batch = batch?;
        let label = match batch.column(at).data_type() {
            DataType::LargeUtf8 | DataType::Utf8View => arrow::compute::cast(batch.column(at), &DataType::Utf8)?,
            _ => batch.column(at).clone(),
        };
        let bytes = images(batch.column(image)).ok_or_else(|| Error::invalid("bug: an image column without bytes"))?;
        Ok(RecordBatch::try_from_iter([("image", bytes), ("label", label)])?)
    }))
}

impl ParquetImages {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (_, metadata) = metadata(path)?;
        let column = find_image_column(path, &metadata)?;
        let mut starts = vec![0];
        for group in metadata.metadata().row_groups() {
            starts.push(starts[starts.len() - 1] + group.num_rows().max(0) as u64);
        }
        Ok(ParquetImages { path: path.into(), metadata, column, starts, kept: Mutex::default() })
    }

    pub(super) fn read_record(&self, record: u32) -> Result<Record> {
        let row = u64::from(record);
        let group = self.starts.partition_point(|&s| s <= row) - 1;
        let wrong = |m: &str| Error::data(&self.path, row + 1, m);
        if group + 1 >= self.starts.len() {
            return Err(wrong("the file ends before this row"));
        }
        let column = self.group(group)?;
        let at = (row - self.starts[group]) as usize;
        if at >= column.len() || column.is_null(at) {
            return Err(wrong("the row has no image"));
        }
        let bytes = match (column.as_binary_opt::<i32>(), column.as_binary_opt::<i64>()) {
            (Some(b), _) => b.value(at).to_vec(),
            (_, Some(b)) => b.value(at).to_vec(),
            _ => return Err(wrong("the column of images is not binary")),
        };
        Ok(Record::Encoded(bytes))
    }

    fn group(&self, group: usize) -> Result<ArrayRef> {
        // Held while reading, so that threads that need the same group read it once.
        let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, column)) = kept.iter().find(|(g, _)| *g == group) {
            return Ok(column.clone());
        }
        let file = File::open(&self.path).map_err(Error::io(&self.path))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), [self.column]);
        let rows = (self.starts[group + 1] - self.starts[group]) as usize;
        let reader = builder.with_projection(mask).with_row_groups(vec![group]).with_batch_size(rows.max(1)).build()?;
        let parts = reader
            .map(|batch| images(batch?.column(0)).ok_or_else(|| Error::invalid("bug: an image column without bytes")))
            .collect::<Result<Vec<_>>>()?;
        let parts: Vec<&dyn Array> = parts.iter().map(|p| p.as_ref()).collect();
        let column = arrow::compute::concat(&parts)?;
        kept.push_back((group, column.clone()));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        Ok(column)
    }
}
