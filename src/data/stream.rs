//! Dataset tables in pieces, so that a table of any length passes through memory a few thousand rows at a time.
//!
//! Nothing is decided here: a piece is a [`Dataset`] with the task and columns of the whole.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
};

use arrow::record_batch::RecordBatch;
use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves},
    },
    file::{properties::WriterProperties, writer::SerializedFileWriter},
};
use rayon::prelude::*;

use super::dataset::Dataset;
use crate::error::{Error, Result};

/// Rows of a piece.
const PIECE: usize = 1 << 13;
/// Rows of a group in a file that is written in pieces; a group is encoded in memory, and its reader holds its
/// dictionaries.
const GROUP: usize = 1 << 14;
/// Rows that are encoded together, while as many more may be made and wait.
const WAITING: usize = PIECE;

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
    /// The writers of the columns of the group that is being filled, where they are not at work.
    columns: Option<Vec<ArrowColumnWriter>>,
    /// Rows of that group, those that wait among them.
    rows: usize,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    at_work: Option<Receiver<Result<Encoded>>>,
    groups: usize,
}

/// What comes of rows that were handed over.
enum Encoded {
    /// The group goes on.
    Columns(Vec<ArrowColumnWriter>),
    Group(Vec<ArrowColumnChunk>),
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
        .set_created_by("scaleshot".into())
        .set_max_row_group_row_count(Some(GROUP))
        // Images' names are all different, and studies' nearly: a dictionary of them saves nothing.
        .set_column_dictionary_enabled("image".into(), false)
        .set_column_dictionary_enabled("study".into(), false)
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
                none.insert(Open {
                    file,
                    factory,
                    columns: None,
                    rows: 0,
                    waiting: Vec::new(),
                    waiting_rows: 0,
                    at_work: None,
                    groups: 0,
                })
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
        open.wait()?;
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
        self.wait()?;
        let columns = match self.columns.take() {
            Some(columns) => columns,
            None => self.factory.create_column_writers(self.groups)?,
        };
        let rows = std::mem::take(&mut self.waiting);
        self.waiting_rows = 0;
        let (done, at_work) = sync_channel(1);
        rayon::spawn(move || {
            // Nobody listens where the table was given up.
            let _ = done.send(encode(columns, &rows, last));
        });
        self.at_work = Some(at_work);
        if last {
            self.rows = 0;
        }
        Ok(())
    }

    /// Waits for what was handed over.
    fn wait(&mut self) -> Result<()> {
        let Some(at_work) = self.at_work.take() else { return Ok(()) };
        match helping(&at_work)? {
            Encoded::Columns(columns) => self.columns = Some(columns),
            Encoded::Group(chunks) => {
                let mut group = self.file.next_row_group()?;
                for chunk in chunks {
                    chunk.append_to_row_group(&mut group)?;
                }
                group.close()?;
                self.groups += 1;
            }
        }
        Ok(())
    }
}

fn encode(mut columns: Vec<ArrowColumnWriter>, rows: &[RecordBatch], last: bool) -> Result<Encoded> {
    let write = |(i, writer): (usize, &mut ArrowColumnWriter)| -> Result<()> {
        for batch in rows {
            // One leaf a column: a dataset's columns are not nested.
            for leaf in compute_leaves(batch.schema_ref().field(i), batch.column(i))? {
                writer.write(&leaf)?;
            }
        }
        Ok(())
    };
    // Each by itself: the images' names take as long as most of the others.
    columns.par_iter_mut().enumerate().with_max_len(1).try_for_each(write)?;
    if !last {
        return Ok(Encoded::Columns(columns));
    }
    let close = columns.into_par_iter().with_max_len(1).map(ArrowColumnWriter::close);
    Ok(Encoded::Group(close.collect::<Result<_, _>>()?))
}

/// Waits for a result and works for the pool meanwhile, which may have no other thread.
fn helping<T>(result: &Receiver<Result<T>>) -> Result<T> {
    let lost = || Error::invalid("bug: the columns of a table were lost while they were encoded");
    loop {
        match result.try_recv() {
            Ok(result) => return result,
            Err(TryRecvError::Disconnected) => return Err(lost()),
            Err(TryRecvError::Empty) => {}
        }
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => {}
            // The pool's other threads are at it.
            Some(rayon::Yield::Idle) => std::thread::sleep(std::time::Duration::from_micros(50)),
            // Not one of the pool.
            None => return result.recv().map_err(|_| lost())?,
        }
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
