//! The one table that every dataset becomes: an Arrow record batch with one row an image.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `image` | utf8 | path of the image file relative to the dataset's root, with forward slashes |
//! | `record` | uint32, null | position inside `image` where that file holds many (CIFAR, LMDB) |
//! | `digest` | binary(32), null | blake3 of the image file's content, by which it is found again |
//! | `bytes` | binary, null | the encoded image itself, for generated sets |
//! | `phash` | binary, null | perceptual hash of a decoded image ([`super::image::phash`]) |
//! | `shard`, `slot` | uint32, null | place in the shards of an images artifact |
//! | `dataset` | utf8 | name of the set that the row came from |
//! | `split` | utf8, null | `train`, `valid` or `test` |
//! | `patient`, `study` | utf8, null | unique across sets: `nih:00000061` |
//! | `view` | utf8, null | `PA`, `AP`, `L`, … |
//! | `sex` | utf8, null | `F` or `M` |
//! | `age` | float32, null | years |
//! | `class` | int32, null | single-label sets: index into `classes` of the schema's metadata |
//! | `label:NAME` | int8, null | multi-label sets: 1 present, 0 absent, null unknown |
//! | `healthy` | bool, null | the report says that nothing was found |
//! | `uncertain:NAME` | bool, null | NAME is null because the report hedges; settled and gone after `merge` |
//!
//! Absent columns are not written as nulls: CIFAR has no patients and so no `patient` column.

use std::{collections::HashMap, path::Path, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, Float32Array, Int8Array, Int32Array, StringArray, UInt32Array},
    compute::{concat_batches, take_record_batch},
    datatypes::{DataType, Field, Schema},
    record_batch::RecordBatch,
};

use crate::error::{Error, Result};

const CLASSES: &str = "scaleshot.classes";
const LABEL: &str = "label:";

/// The name of a finding's column.
pub fn label_column(finding: &str) -> String {
    format!("{LABEL}{finding}")
}

/// What there is to predict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// One class an image, with the classes' names.
    Single(Vec<String>),
    /// Many findings an image, each present, absent or unknown, with the findings' names.
    Multi(Vec<String>),
}

impl Task {
    pub fn names(&self) -> &[String] {
        match self {
            Task::Single(n) | Task::Multi(n) => n,
        }
    }
}

/// A dataset in memory, without its pixels.
#[derive(Clone, Debug)]
pub struct Dataset {
    batch: RecordBatch,
    task: Task,
}

/// Columns on their way into a [`Dataset`]. Every vector given has one entry a row.
#[derive(Default)]
pub struct Columns {
    pub image: Vec<String>,
    pub record: Option<Vec<u32>>,
    pub dataset: String,
    pub split: Option<Vec<Option<String>>>,
    pub patient: Option<Vec<Option<String>>>,
    pub study: Option<Vec<Option<String>>>,
    pub view: Option<Vec<Option<String>>>,
    pub sex: Option<Vec<Option<String>>>,
    pub age: Option<Vec<Option<f32>>>,
    /// Single label: class names, and each row's class.
    pub class: Option<(Vec<String>, Vec<Option<i32>>)>,
    /// Multi label: findings, each with its column.
    pub labels: Vec<(String, Vec<Option<i8>>)>,
}

impl Columns {
    pub fn build(self) -> Result<Dataset> {
        let rows = self.image.len();
        let mut out: Vec<(String, ArrayRef)> = Vec::new();
        let mut text = |name: &str, values: Option<Vec<Option<String>>>| {
            if let Some(v) = values {
                out.push((name.into(), Arc::new(StringArray::from(v)) as ArrayRef));
            }
        };
        text("image", Some(self.image.into_iter().map(Some).collect()));
        text("dataset", Some(vec![Some(self.dataset); rows]));
        text("split", self.split);
        text("patient", self.patient);
        text("study", self.study);
        text("view", self.view);
        text("sex", self.sex);
        if let Some(v) = self.record {
            out.push(("record".into(), Arc::new(UInt32Array::from(v))));
        }
        if let Some(v) = self.age {
            out.push(("age".into(), Arc::new(Float32Array::from(v))));
        }
        let task = match self.class {
            Some((names, v)) => {
                out.push(("class".into(), Arc::new(Int32Array::from(v))));
                Task::Single(names)
            }
            None => Task::Multi(self.labels.iter().map(|(n, _)| n.clone()).collect()),
        };
        for (name, v) in self.labels {
            out.push((format!("{LABEL}{name}"), Arc::new(Int8Array::from(v))));
        }
        if let Some((name, column)) = out.iter().find(|(_, c)| c.len() != rows) {
            return Err(Error::invalid(format!("bug: column {name} has {} rows, image has {rows}", column.len())));
        }
        Dataset::assemble(out, task)
    }
}

impl Dataset {
    fn assemble(columns: Vec<(String, ArrayRef)>, task: Task) -> Result<Self> {
        let fields: Vec<Field> =
            columns.iter().map(|(n, c)| Field::new(n, c.data_type().clone(), n != "image" && n != "dataset")).collect();
        let metadata: HashMap<String, String> = match &task {
            Task::Single(names) => [(CLASSES.to_string(), serde_json::to_string(names)?)].into(),
            Task::Multi(_) => Default::default(),
        };
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let batch = RecordBatch::try_new(schema, columns.into_iter().map(|(_, c)| c).collect())?;
        Ok(Dataset { batch, task })
    }

    /// Columns of the schema above in their order, of one length.
    pub fn from_columns(columns: Vec<(String, ArrayRef)>, task: Task) -> Result<Self> {
        Self::assemble(columns, task)
    }

    /// Takes a batch that has the schema above; the task is read from it.
    pub fn from_batch(batch: RecordBatch) -> Result<Self> {
        let schema = batch.schema();
        let task = match schema.metadata().get(CLASSES) {
            Some(json) => Task::Single(serde_json::from_str(json)?),
            None => Task::Multi(
                schema.fields().iter().filter_map(|f| f.name().strip_prefix(LABEL).map(str::to_string)).collect(),
            ),
        };
        if schema.field_with_name("image").is_err() {
            return Err(Error::invalid("not a dataset table: it has no column image"));
        }
        Ok(Dataset { batch, task })
    }

    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    pub fn task(&self) -> &Task {
        &self.task
    }

    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// A text column; `None` where this dataset has no such column.
    pub fn text(&self, name: &str) -> Option<&StringArray> {
        self.batch.column_by_name(name).and_then(|c| c.as_string_opt())
    }

    pub fn images(&self) -> Result<&StringArray> {
        self.text("image").ok_or_else(|| Error::invalid("dataset column image is not text"))
    }

    pub fn integers(&self, name: &str) -> Option<&UInt32Array> {
        self.batch.column_by_name(name).and_then(|c| c.as_primitive_opt())
    }

    pub fn binary(&self, name: &str) -> Option<&BinaryArray> {
        self.batch.column_by_name(name).and_then(|c| c.as_binary_opt())
    }

    pub fn ages(&self) -> Option<&Float32Array> {
        self.batch.column_by_name("age").and_then(|c| c.as_primitive_opt())
    }

    /// The class column of a single-label set.
    pub fn classes(&self) -> Option<&Int32Array> {
        self.batch.column_by_name("class").and_then(|c| c.as_primitive_opt())
    }

    /// The column of one finding of a multi-label set.
    pub fn label(&self, name: &str) -> Option<&Int8Array> {
        self.batch.column_by_name(&format!("{LABEL}{name}")).and_then(|c| c.as_primitive_opt())
    }

    /// These rows in this order.
    pub fn take(&self, rows: &[u32]) -> Result<Self> {
        let batch = take_record_batch(&self.batch, &UInt32Array::from(rows.to_vec()))?;
        Ok(Dataset { batch, task: self.task.clone() })
    }

    /// `rows` rows from `start` on, without copying.
    pub fn slice(&self, start: usize, rows: usize) -> Result<Self> {
        if start + rows > self.rows() {
            return Err(Error::invalid(format!("bug: rows {start} to {} of {}", start + rows, self.rows())));
        }
        Ok(Dataset { batch: self.batch.slice(start, rows), task: self.task.clone() })
    }

    /// Rows whose `split` is `name`; without a split column, none.
    pub fn split(&self, name: &str) -> Result<Self> {
        let rows: Vec<u32> = match self.text("split") {
            Some(s) => (0..s.len()).filter(|&i| s.is_valid(i) && s.value(i) == name).map(|i| i as u32).collect(),
            None => Vec::new(),
        };
        self.take(&rows)
    }

    /// The same dataset with a column added or replaced.
    pub fn with_column(&self, name: &str, column: ArrayRef) -> Result<Self> {
        let mut columns: Vec<(String, ArrayRef)> = self
            .batch
            .schema()
            .fields()
            .iter()
            .zip(self.batch.columns())
            .map(|(f, c)| (f.name().clone(), c.clone()))
            .collect();
        match columns.iter_mut().find(|(n, _)| n == name) {
            Some(slot) => slot.1 = column,
            None => columns.push((name.into(), column)),
        }
        Self::assemble(columns, self.task.clone())
    }

    /// The same dataset without a column; unchanged where it has none of that name.
    pub fn without_column(&self, name: &str) -> Result<Self> {
        let keep: Vec<usize> =
            (0..self.batch.num_columns()).filter(|&i| self.batch.schema().field(i).name() != name).collect();
        Ok(Dataset { batch: self.batch.project(&keep)?, task: self.task.clone() })
    }

    /// The same rows with other findings; drops the old label or class columns.
    pub fn with_labels(&self, labels: Vec<(String, Int8Array)>) -> Result<Self> {
        let mut columns: Vec<(String, ArrayRef)> = self
            .batch
            .schema()
            .fields()
            .iter()
            .zip(self.batch.columns())
            .filter(|(f, _)| !f.name().starts_with(LABEL) && f.name() != "class")
            .map(|(f, c)| (f.name().clone(), c.clone()))
            .collect();
        let task = Task::Multi(labels.iter().map(|(n, _)| n.clone()).collect());
        columns.extend(labels.into_iter().map(|(n, v)| (format!("{LABEL}{n}"), Arc::new(v) as ArrayRef)));
        Self::assemble(columns, task)
    }

    /// The same rows with one class each out of `names`; drops the old label or class columns.
    pub fn with_classes(&self, names: Vec<String>, class: Int32Array) -> Result<Self> {
        let mut bare = self.without(|n| n.starts_with(LABEL) || n == "class")?;
        bare.task = Task::Single(names);
        bare.with_column("class", Arc::new(class))
    }

    /// The same dataset without the columns that `drop` names. Labels and classes are not for it to drop.
    pub fn without(&self, drop: impl Fn(&str) -> bool) -> Result<Self> {
        let schema = self.batch.schema();
        let keep: Vec<usize> = (0..schema.fields().len()).filter(|&i| !drop(schema.field(i).name())).collect();
        Ok(Dataset { batch: self.batch.project(&keep)?, task: self.task.clone() })
    }

    /// All rows of all parts, which must have one task; columns that some lack are filled with nulls.
    pub fn concat(parts: &[Dataset]) -> Result<Self> {
        let first = parts.first().ok_or_else(|| Error::invalid("nothing to concatenate"))?;
        if let Some(other) = parts.iter().find(|p| p.task != first.task) {
            return Err(Error::invalid(format!(
                "datasets predict different things: {:?} and {:?}",
                first.task.names(),
                other.task.names()
            )));
        }
        let mut names: Vec<(String, DataType)> = Vec::new();
        for part in parts {
            for f in part.batch.schema().fields() {
                if !names.iter().any(|(n, _)| n == f.name()) {
                    names.push((f.name().clone(), f.data_type().clone()));
                }
            }
        }
        let filled = parts
            .iter()
            .map(|part| {
                let columns = names
                    .iter()
                    .map(|(n, t)| {
                        let column = part.batch.column_by_name(n).cloned();
                        (n.clone(), column.unwrap_or_else(|| arrow::array::new_null_array(t, part.rows())))
                    })
                    .collect();
                Self::assemble(columns, first.task.clone())
            })
            .collect::<Result<Vec<_>>>()?;
        // One part beside empty ones, as the merge's pieces are, needs no copy.
        let mut with_rows = filled.iter().filter(|d| d.rows() > 0);
        if let (Some(one), None) = (with_rows.next(), with_rows.next()) {
            return Ok(one.clone());
        }
        let schema = filled[0].batch.schema();
        let batch = concat_batches(&schema, filled.iter().map(|d| &d.batch))?;
        Ok(Dataset { batch, task: first.task.clone() })
    }

    pub fn write_parquet(&self, path: &Path) -> Result<()> {
        let file = std::fs::File::create(path).map_err(Error::io(path))?;
        let properties = parquet::file::properties::WriterProperties::builder()
            .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
            .set_created_by("scaleshot".into())
            .build();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, self.batch.schema(), Some(properties))?;
        writer.write(&self.batch)?;
        writer.close()?;
        Ok(())
    }

    /// Reads a whole dataset table; `bytes` only where asked for, since it can be large.
    pub fn read_parquet(path: &Path, with_bytes: bool) -> Result<Self> {
        use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};
        let file = std::fs::File::open(path).map_err(Error::io(path))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let schema = builder.schema().clone();
        let keep: Vec<usize> =
            (0..schema.fields().len()).filter(|&i| with_bytes || schema.field(i).name() != "bytes").collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), keep.iter().copied());
        let reader = builder.with_projection(mask).with_batch_size(1 << 16).build()?;
        let projected = Arc::new(schema.project(&keep)?);
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        let batch = concat_batches(&projected, &batches)?;
        Self::from_batch(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Dataset {
        Columns {
            image: vec!["a.png".into(), "b.png".into()],
            dataset: "toy".into(),
            split: Some(vec![Some("train".into()), Some("test".into())]),
            labels: vec![("Effusion".into(), vec![Some(1), None])],
            ..Default::default()
        }
        .build()
        .unwrap()
    }

    #[test]
    fn unknown_survives_parquet_and_is_not_negative() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        two().write_parquet(&path).unwrap();
        let back = Dataset::read_parquet(&path, true).unwrap();
        assert_eq!(back.task(), &Task::Multi(vec!["Effusion".into()]));
        let label = back.label("Effusion").unwrap();
        assert_eq!((label.value(0), label.is_null(1)), (1, true));
        assert_eq!(back.split("test").unwrap().images().unwrap().value(0), "b.png");
    }

    #[test]
    fn concat_fills_missing_columns_and_refuses_other_tasks() {
        let mut plain = Columns { image: vec!["c.png".into()], dataset: "bare".into(), ..Default::default() };
        plain.labels = vec![("Effusion".into(), vec![Some(0)])];
        let all = Dataset::concat(&[two(), plain.build().unwrap()]).unwrap();
        assert_eq!(all.rows(), 3);
        assert!(all.text("split").unwrap().is_null(2));
        let other = Columns {
            image: vec!["d.png".into()],
            class: Some((vec!["cat".into()], vec![Some(0)])),
            ..Default::default()
        };
        assert!(Dataset::concat(&[two(), other.build().unwrap()]).is_err());
    }
}
