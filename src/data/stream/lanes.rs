//! The columns of a Parquet file, each encoded by itself in the order of its rows.
//!
//! Columns take more or less time, and none waits for another within what is at work: some may be a batch ahead, or in
//! the next group already. What comes of a column does not depend on that.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    time::Duration,
};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{FieldRef, Schema},
};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};

use crate::error::{Error, Result};

/// One lane a column, and what was handed over and is not done.
pub(super) struct Lanes {
    lanes: Vec<Arc<Lane>>,
    tell: Sender<Result<Done>>,
    told: Receiver<Result<Done>>,
    /// What is at work, the oldest first, whose number is `first`.
    at_work: VecDeque<AtWork>,
    first: usize,
}

/// Rows that are at work.
struct AtWork {
    /// How many lanes have still to do them.
    left: usize,
    /// What the lanes made of the group that these rows end, by column.
    chunks: Vec<Option<ArrowColumnChunk>>,
}

/// A lane has done the rows of this number, and ended its part of the group if they were the last.
struct Done {
    number: usize,
    column: usize,
    chunk: Option<ArrowColumnChunk>,
}

impl Lanes {
    pub(super) fn new(schema: &Schema) -> Self {
        let (tell, told) = channel();
        let lane = |(column, field): (usize, &FieldRef)| {
            Arc::new(Lane { column, field: field.clone(), jobs: Mutex::default(), writer: Mutex::default() })
        };
        let lanes = schema.fields().iter().enumerate().map(lane).collect();
        Lanes { lanes, tell, told, at_work: VecDeque::new(), first: 0 }
    }

    /// How often rows were handed over that are not done.
    pub(super) fn at_work(&self) -> usize {
        self.at_work.len()
    }

    /// Has rows encoded: by new writers, of all columns, where they are the first of a group. They may be its `last`.
    pub(super) fn hand_over(&mut self, rows: &[RecordBatch], writers: Option<Vec<ArrowColumnWriter>>, last: bool) {
        let number = self.first + self.at_work.len();
        self.at_work.push_back(AtWork { left: self.lanes.len(), chunks: Vec::new() });
        let mut writers = writers.into_iter().flatten();
        for lane in &self.lanes {
            let rows = rows.iter().map(|batch| batch.column(lane.column).clone()).collect();
            lane.add(Job { number, writer: writers.next(), rows, last }, &self.tell);
        }
    }

    /// Waits for the oldest rows that are at work; what was made of the group that they end, column by column.
    ///
    /// # Errors
    /// What a column could not be encoded for.
    pub(super) fn next(&mut self) -> Result<Option<Vec<ArrowColumnChunk>>> {
        while self.at_work.front().is_some_and(|rows| rows.left > 0) {
            let done = helping(&self.told)?;
            let lost = || Error::invalid("bug: rows of a table were encoded that nobody handed over");
            let rows = self.at_work.get_mut(done.number - self.first).ok_or_else(lost)?;
            rows.left -= 1;
            if let Some(chunk) = done.chunk {
                rows.chunks.resize_with(self.lanes.len(), || None);
                rows.chunks[done.column] = Some(chunk);
            }
        }
        self.first += 1;
        let chunks = self.at_work.pop_front().map(|rows| rows.chunks).unwrap_or_default();
        Ok(chunks.into_iter().collect::<Option<Vec<_>>>().filter(|chunks| !chunks.is_empty()))
    }
}

struct Lane {
    column: usize,
    field: FieldRef,
    jobs: Mutex<Jobs>,
    /// Held by the one task that works for the lane.
    writer: Mutex<Option<ArrowColumnWriter>>,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    /// Whether a task works for the lane.
    running: bool,
}

struct Job {
    number: usize,
    /// Of the group that begins with these rows.
    writer: Option<ArrowColumnWriter>,
    rows: Vec<ArrayRef>,
    last: bool,
}

impl Lane {
    fn add(self: &Arc<Self>, job: Job, tell: &Sender<Result<Done>>) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.waiting.push_back(job);
        if !std::mem::replace(&mut jobs.running, true) {
            let (lane, tell) = (self.clone(), tell.clone());
            rayon::spawn(move || lane.work(&tell));
        }
    }

    fn work(&self, tell: &Sender<Result<Done>>) {
        loop {
            let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(job) = jobs.waiting.pop_front() else {
                jobs.running = false;
                return;
            };
            drop(jobs);
            // Nobody listens where the table was given up.
            let _ = tell.send(self.encode(job));
        }
    }

    fn encode(&self, job: Job) -> Result<Done> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if job.writer.is_some() {
            *writer = job.writer;
        }
        let column = writer.as_mut().ok_or_else(|| Error::invalid("bug: a column has no writer"))?;
        for rows in &job.rows {
            // One leaf a column: a dataset's columns are not nested.
            for leaf in compute_leaves(&self.field, rows)? {
                column.write(&leaf)?;
            }
        }
        let ended = if job.last { writer.take() } else { None };
        let chunk = ended.map(ArrowColumnWriter::close).transpose()?;
        Ok(Done { number: job.number, column: self.column, chunk })
    }
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
            Some(rayon::Yield::Idle) => std::thread::sleep(Duration::from_micros(50)),
            // Not one of the pool.
            None => return result.recv().map_err(|_| lost())?,
        }
    }
}
