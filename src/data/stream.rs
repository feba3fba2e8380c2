//! Dataset tables in pieces, so that a table of any length passes through memory a few thousand rows at a time.
//!
//! Nothing is decided here: a piece is a [`Dataset`] with the task and columns of the whole.

mod lanes;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use arrow::record_batch::RecordBatch;
use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        arrow_writer::ArrowRowGroupWriterFactory,
    },
    file::{properties::WriterProperties, writer::SerializedFileWriter},
};

use self::lanes::Lanes;
use super::dataset::Dataset;
use crate::error::{Error, Result};

/// Rows of a piece.
const PIECE: usize = 1 << 13;
/// Rows of a group in a file that is written in pieces; a group is encoded in memory, and its reader holds its
/// dictionaries.
const GROUP: usize = 1 << 14;
/// Rows that are handed over together, and how many times as many may be at work while the next are made.
const WAITING: usize = PIECE;
const AT_WORK: usize = 2;

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

/// A Parquet file that grows by pieces; the first decides the columns. Columns are encoded side by side, to the bytes
/// that Arrow's own writer gives, while the next rows are made.
pub struct TableWriter {
    path: PathBuf,
    open: Option<Open>,
}

struct Open {
    file: SerializedFileWriter<File>,
    factory: ArrowRowGroupWriterFactory,
    lanes: Lanes,
    /// Rows of the group that is being filled, those that wait among them.
    rows: usize,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    /// Groups that were begun.
    groups: usize,
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
        .set_created_by("scaleshot".into())
        .set_max_row_group_row_count(Some(GROUP))
        // Images' names are all different, studies' and patients' nearly: a dictionary of them saves nothing.
        .set_column_dictionary_enabled("image".into(), false)
        .set_column_dictionary_enabled("study".into(), false)
        .set_column_dictionary_enabled("patient".into(), false)
        .build()
}

impl TableWriter {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        TableWriter { path: path.into(), open: None }
    }

    pub fn append(&mut self, piece: &Dataset) -> Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let file = File::create(&self.path).map_err(Error::io(&self.path))?;
                let writer = ArrowWriter::try_new(file, piece.batch().schema(), Some(properties()))?;
                let (file, factory) = writer.into_serialized_writer()?;
                let lanes = Lanes::new(piece.batch().schema_ref());
                let (waiting, waiting_rows) = (Vec::new(), 0);
                none.insert(Open { file, factory, lanes, rows: 0, waiting, waiting_rows, groups: 0 })
            }
        };
        let mut rest = piece.batch().clone();
        while rest.num_rows() > 0 {
            let taken = open.take(&rest)?;
            rest = rest.slice(taken, rest.num_rows() - taken);
        }
        Ok(())
    }

    /// Ends the file. A table of no pieces is no file, which is an error.
    pub fn finish(self) -> Result<PathBuf> {
        let mut open = self.open.ok_or_else(|| Error::invalid("bug: a table was written without a piece"))?;
        if open.rows > 0 {
            open.hand_over(true)?;
        }
        open.wait(0)?;
        open.file.close()?;
        Ok(self.path)
    }
}

impl Open {
    /// Takes as many of the rows as the group has room for, and says how many.
    fn take(&mut self, batch: &RecordBatch) -> Result<usize> {
        let taken = batch.num_rows().min(GROUP - self.rows);
        self.waiting.push(batch.slice(0, taken));
        self.waiting_rows += taken;
        self.rows += taken;
        if self.rows == GROUP || self.waiting_rows >= WAITING {
            self.hand_over(self.rows == GROUP)?;
        }
        Ok(taken)
    }

    /// Has the rows that wait encoded, and the group ended where this is its `last` part.
    fn hand_over(&mut self, last: bool) -> Result<()> {
        self.wait(AT_WORK - 1)?;
        let begins = self.rows == self.waiting_rows;
        let writers = begins.then(|| self.factory.create_column_writers(self.groups)).transpose()?;
        self.groups += usize::from(begins);
        self.lanes.hand_over(&std::mem::take(&mut self.waiting), writers, last);
        self.waiting_rows = 0;
        if last {
            self.rows = 0;
        }
        Ok(())
    }

    /// Waits until no more than `at_work` of what was handed over is at work, and writes the groups that are done.
    fn wait(&mut self, at_work: usize) -> Result<()> {
        while self.lanes.at_work() > at_work {
            if let Some(chunks) = self.lanes.next()? {
                let mut group = self.file.next_row_group()?;
                for chunk in chunks {
                    chunk.append_to_row_group(&mut group)?;
                }
                group.close()?;
            }
        }
        Ok(())
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
        let mut plain = ArrowWriter::try_new(Vec::new(), d.batch().schema(), Some(properties())).unwrap();
        for piece in d.pieces().unwrap() {
            plain.write(piece.unwrap().batch()).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), plain.into_inner().unwrap(), "columns side by side give other bytes");
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
