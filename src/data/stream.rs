//! Dataset tables in pieces, so that a table of any length passes through memory a few thousand rows at a time.
//!
//! Nothing is decided here: a piece is a [`Dataset`] with the task and columns of the whole.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    file::properties::WriterProperties,
};

use super::dataset::Dataset;
use crate::error::{Error, Result};

/// Rows of a piece.
const PIECE: usize = 1 << 13;
/// Rows of a group in a file that is written in pieces; a group is encoded in memory.
const GROUP: usize = 1 << 16;

pub type Pieces<'a> = Box<dyn Iterator<Item = Result<Dataset>> + 'a>;

/// A table that can be read from its beginning as often as needed.
pub trait Table {
    fn rows(&self) -> usize;
    /// The table without its rows.
    fn head(&self) -> Result<Dataset>;
    fn pieces(&self) -> Result<Pieces<'_>>;
}

impl Table for Dataset {
    fn rows(&self) -> usize {
        Dataset::rows(self)
    }

    fn head(&self) -> Result<Dataset> {
        self.slice(0, 0)
    }

    fn pieces(&self) -> Result<Pieces<'_>> {
        let starts = (0..Dataset::rows(self)).step_by(PIECE);
        Ok(Box::new(starts.map(|start| self.slice(start, PIECE.min(Dataset::rows(self) - start)))))
    }
}

/// A table as another function of its pieces, row by row.
pub struct Mapped<T, F> {
    pub table: T,
    pub with: F,
}

impl<T: Table, F: Fn(Dataset) -> Result<Dataset>> Table for Mapped<T, F> {
    fn rows(&self) -> usize {
        self.table.rows()
    }

    fn head(&self) -> Result<Dataset> {
        (self.with)(self.table.head()?)
    }

    fn pieces(&self) -> Result<Pieces<'_>> {
        Ok(Box::new(self.table.pieces()?.map(|piece| (self.with)(piece?))))
    }
}

/// A table in a Parquet file.
pub struct ParquetTable {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    columns: Vec<usize>,
}

impl ParquetTable {
    /// Opens the columns that `wanted` says.
    pub fn open(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::default())?;
        let schema = metadata.schema();
        let columns = (0..schema.fields().len()).filter(|&i| wanted(schema.field(i).name())).collect();
        Ok(ParquetTable { path: path.into(), metadata, columns })
    }
}

impl Table for ParquetTable {
    fn rows(&self) -> usize {
        self.metadata.metadata().file_metadata().num_rows() as usize
    }

    fn head(&self) -> Result<Dataset> {
        let schema = self.metadata.schema().project(&self.columns)?;
        Dataset::from_batch(arrow::record_batch::RecordBatch::new_empty(schema.into()))
    }

    fn pieces(&self) -> Result<Pieces<'_>> {
        let file = File::open(&self.path).map_err(Error::io(&self.path))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), self.columns.iter().copied());
        let reader = builder.with_projection(mask).with_batch_size(PIECE).build()?;
        let schema = std::sync::Arc::new(self.metadata.schema().project(&self.columns)?);
        Ok(Box::new(reader.map(move |batch| Dataset::from_batch(batch?.with_schema(schema.clone())?))))
    }
}

/// A Parquet file that grows by pieces; the first decides the columns.
pub struct TableWriter {
    path: PathBuf,
    writer: Option<ArrowWriter<File>>,
}

impl TableWriter {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        TableWriter { path: path.into(), writer: None }
    }

    pub fn append(&mut self, piece: &Dataset) -> Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let file = File::create(&self.path).map_err(Error::io(&self.path))?;
                let properties = WriterProperties::builder()
                    .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
                    .set_created_by("scaleshot".into())
                    .set_max_row_group_row_count(Some(GROUP))
                    .build();
                none.insert(ArrowWriter::try_new(file, piece.batch().schema(), Some(properties))?)
            }
        };
        writer.write(piece.batch())?;
        Ok(())
    }

    /// Ends the file. A table of no pieces is no file, which is an error.
    pub fn finish(self) -> Result<PathBuf> {
        let writer = self.writer.ok_or_else(|| Error::invalid("bug: a table was written without a piece"))?;
        writer.close()?;
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Columns;

    fn long(rows: usize) -> Dataset {
        Columns {
            image: (0..rows).map(|i| format!("{i}.png")).collect(),
            dataset: "long".into(),
            labels: vec![("Mass".into(), (0..rows).map(|i| [Some(1), Some(0), None][i % 3]).collect())],
            ..Default::default()
        }
        .build()
        .unwrap()
    }

    #[test]
    fn a_table_comes_back_from_its_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let rows = 2 * GROUP + 3 * PIECE + 17;
        let d = long(rows);
        let mut writer = TableWriter::new(dir.path().join("t.parquet"));
        for piece in d.pieces().unwrap() {
            writer.append(&piece.unwrap()).unwrap();
        }
        let path = writer.finish().unwrap();
        assert_eq!(Dataset::read_parquet(&path, true).unwrap().batch(), d.batch());
        let table = ParquetTable::open(&path, |c| c != "dataset").unwrap();
        let table = Mapped { table, with: |d: Dataset| d.without_column("label:Mass") };
        assert_eq!((table.rows(), table.head().unwrap().rows()), (rows, 0));
        let mut read = 0;
        for piece in table.pieces().unwrap() {
            let piece = piece.unwrap();
            assert!(piece.rows() <= PIECE && piece.text("dataset").is_none());
            assert_eq!(piece.images().unwrap().value(0), format!("{read}.png"));
            read += piece.rows();
        }
        assert_eq!(read, rows);
        assert!(TableWriter::new(dir.path().join("none.parquet")).finish().is_err());
    }
}
