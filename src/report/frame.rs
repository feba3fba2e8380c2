//! Frames: one row a measurement, matrix axes as typed columns.
//!
//! Values come as JSON scalars, since axes do. A column is integer, float, boolean or text; integers
//! and floats together are floats, anything with text is text (`shots: [1, 5, full]`). NaN and
//! infinities become null: an undefined number is never a number in a file.
//!
//! Parquet is written with zstd, in row groups that depend on the row count alone, so equal frames
//! are equal bytes.

use std::{cmp::Ordering, fs::File, io::Write, path::Path};

use polars::prelude::*;
use polars_async::executor::ALLOW_RAYON_THREADS;
use serde_json::Value;

use crate::{
    error::{Error, Result},
    eval::metric::Scores,
    thread,
};

/// A table of results.
pub type Frame = DataFrame;

/// Rows per row group. Fixed, so that bytes do not depend on the machine.
const ROW_GROUP: usize = 1 << 17;

/// Columns on their way into a [`Frame`]; a row need not name every column.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    columns: Vec<(String, Vec<Value>, Option<DataType>)>,
    height: usize,
}

impl Rows {
    pub fn new() -> Self {
        Self::default()
    }

    /// Fixes place and type of a column, so that it exists (with nulls) even without a value.
    pub fn declare(mut self, name: &str, dtype: DataType) -> Self {
        let at = self.column(name);
        self.columns[at].2 = Some(dtype);
        self
    }

    fn column(&mut self, name: &str) -> usize {
        match self.columns.iter().position(|(n, ..)| n == name) {
            Some(at) => at,
            None => {
                self.columns.push((name.into(), vec![Value::Null; self.height], None));
                self.columns.len() - 1
            }
        }
    }

    /// Adds one row. A name given twice keeps its last value.
    pub fn push<'a>(&mut self, row: impl IntoIterator<Item = (&'a str, Value)>) {
        for (_, values, _) in &mut self.columns {
            values.push(Value::Null);
        }
        self.height += 1;
        for (name, value) in row {
            let at = self.column(name);
            self.columns[at].1[self.height - 1] = value;
        }
    }

    pub fn len(&self) -> usize {
        self.height
    }

    pub fn is_empty(&self) -> bool {
        self.height == 0
    }

    pub fn frame(self) -> Result<Frame> {
        let columns = self
            .columns
            .into_iter()
            .map(|(name, values, dtype)| {
                let dtype = dtype.unwrap_or_else(|| infer(&values));
                column(&name, &values, &dtype)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(DataFrame::new(self.height, columns)?)
    }
}

/// The narrowest of the four types that holds every value; text where all are null.
fn infer(values: &[Value]) -> DataType {
    let (mut int, mut float, mut flag, mut text) = (false, false, false, false);
    for v in values {
        match v {
            Value::Null => {}
            Value::Bool(_) => flag = true,
            Value::Number(n) if n.is_i64() => int = true,
            Value::Number(_) => float = true,
            _ => text = true,
        }
    }
    match (int, float, flag, text) {
        (_, true, false, false) => DataType::Float64,
        (true, false, false, false) => DataType::Int64,
        (false, false, true, false) => DataType::Boolean,
        _ => DataType::String,
    }
}

/// Text as people write it: strings bare, everything else as JSON.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(s) => Some(s.clone()),
        other => Some(other.to_string()),
    }
}

fn column(name: &str, values: &[Value], dtype: &DataType) -> Result<Column> {
    let wrong = || Error::invalid(format!("column {name}: {dtype} expected"));
    let all = values.iter();
    Ok(match dtype {
        DataType::Boolean => Column::new(name.into(), all.map(Value::as_bool).collect::<Vec<Option<bool>>>()),
        DataType::Int64 => {
            if values.iter().any(|v| !v.is_null() && !v.is_i64()) {
                return Err(wrong());
            }
            Column::new(name.into(), all.map(Value::as_i64).collect::<Vec<Option<i64>>>())
        }
        DataType::Float64 => {
            if values.iter().any(|v| !v.is_null() && !v.is_number()) {
                return Err(wrong());
            }
            let finite = |v: &Value| v.as_f64().filter(|x| x.is_finite());
            Column::new(name.into(), all.map(finite).collect::<Vec<Option<f64>>>())
        }
        DataType::String => Column::new(name.into(), all.map(text).collect::<Vec<Option<String>>>()),
        other => return Err(Error::invalid(format!("bug: column {name}: no rows of type {other}"))),
    })
}

/// The same frame with the axis values of its cell as first columns.
///
/// # Errors
/// Where the frame has a column of an axis' name with another value.
pub fn with_axes(frame: &Frame, axes: &[(String, Value)]) -> Result<Frame> {
    let height = frame.height();
    let mut columns = Vec::with_capacity(axes.len() + frame.width());
    for (name, value) in axes {
        let values = vec![value.clone(); height];
        let axis = column(name, &values, &infer(&values))?;
        if let Ok(own) = frame.column(name) {
            let equal = (0..height).all(|i| own.get(i).ok().map(|v| plain(&v)) == axis.get(i).ok().map(|v| plain(&v)));
            if !equal {
                return Err(Error::invalid(format!("axis {name} has the name of a column with other values"))
                    .with_hint("rename the axis in matrix"));
            }
        }
        columns.push(axis);
    }
    columns.extend(frame.columns().iter().filter(|c| axes.iter().all(|(n, _)| n != c.name().as_str())).cloned());
    Ok(DataFrame::new(height, columns)?)
}

/// All rows of all frames; columns that some lack are null there. Columns stand in the order of their
/// first appearance; where types differ, the wider one holds (see the head of this file).
pub fn concat(frames: &[Frame]) -> Result<Frame> {
    let mut names: Vec<(PlSmallStr, Option<DataType>)> = Vec::new();
    for frame in frames {
        for c in frame.columns() {
            let dtype = (c.null_count() < c.len()).then(|| c.dtype().clone());
            match names.iter_mut().find(|(n, _)| n == c.name()) {
                Some((_, known)) => *known = wider(known.take(), dtype),
                None => names.push((c.name().clone(), dtype)),
            }
        }
    }
    let height = frames.iter().map(DataFrame::height).sum();
    let columns = names
        .into_iter()
        .map(|(name, dtype)| {
            // A column without any value keeps the type that it was declared with.
            let declared = || frames.iter().find_map(|f| f.column(&name).ok().map(|c| c.dtype().clone()));
            let dtype = dtype.or_else(declared).unwrap_or(DataType::String);
            let mut out = Column::new_empty(name.clone(), &dtype);
            for frame in frames {
                match frame.column(&name) {
                    Ok(c) => out.append(&c.cast(&dtype)?)?,
                    Err(_) => out.append(&Column::full_null(name.clone(), frame.height(), &dtype))?,
                };
            }
            Ok(out)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut out = DataFrame::new(height, columns)?;
    out.rechunk_mut();
    Ok(out)
}

fn wider(a: Option<DataType>, b: Option<DataType>) -> Option<DataType> {
    let (Some(a), Some(b)) = (&a, &b) else { return a.or(b) };
    Some(match (a, b) {
        _ if a == b => a.clone(),
        _ if a.is_primitive_numeric() && b.is_primitive_numeric() => {
            if a.is_integer() && b.is_integer() {
                DataType::Int64
            } else {
                DataType::Float64
            }
        }
        _ => DataType::String,
    })
}

/// Writes zstd Parquet; equal frames give equal bytes.
pub fn write_parquet(frame: &Frame, path: &Path) -> Result<()> {
    encode(frame, File::create(path).map_err(Error::io(path))?)
}

/// The bytes of a table as a Parquet file.
pub fn parquet(frame: &Frame) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode(frame, &mut bytes)?;
    Ok(bytes)
}

fn encode(frame: &Frame, to: impl Write) -> Result<()> {
    let mut frame = frame.clone();
    frame.rechunk_mut();
    ParquetWriter::new(to)
        .with_compression(ParquetCompression::Zstd(None))
        .with_row_group_size(Some(ROW_GROUP))
        .set_parallel(false)
        .finish(&mut frame)?;
    Ok(())
}

/// Lets polars work on one thread, whose time counts as the caller's. Its own threads are as many as the machine has,
/// and neither the share nor the account of a cell knows of them.
///
/// # Errors
/// The system starts no thread.
pub fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    let work = || {
        ALLOW_RAYON_THREADS.set(false);
        work()
    };
    thread::apart(work).map_err(|e| Error::invalid(format!("cannot start a thread: {e}")))
}

pub fn read_parquet(path: &Path) -> Result<Frame> {
    let file = File::open(path).map_err(Error::io(path))?;
    let mut frame = alone(|| ParquetReader::new(file).finish())?
        .map_err(|e| Error::data(path, None, format!("not a Parquet table: {e}")))?;
    frame.rechunk_mut();
    Ok(frame)
}

/// The rows of which `keep`, one a row, is true.
pub fn kept(frame: &Frame, keep: &[bool]) -> Result<Frame> {
    let keep = BooleanChunked::from_slice("keep".into(), keep);
    Ok(alone(|| frame.filter(&keep))??)
}

/// Reads a CSV with a header line; types are those that every row bears.
pub fn read_csv(path: &Path) -> Result<Frame> {
    let file = File::open(path).map_err(Error::io(path))?;
    let options = CsvReadOptions::default().with_has_header(true).with_infer_schema_length(None);
    let mut frame = alone(|| options.into_reader_with_file_handle(file).finish())?
        .map_err(|e| Error::data(path, None, format!("not a CSV table: {e}")))?;
    frame.rechunk_mut();
    Ok(frame)
}

/// A cell of a frame as a JSON scalar, which is what plots, tables and other formats take.
pub fn plain(value: &AnyValue<'_>) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(b) => Value::from(*b),
        AnyValue::String(s) => Value::from(*s),
        AnyValue::StringOwned(s) => Value::from(s.as_str()),
        v if v.is_integer() => v.extract::<i64>().map_or(Value::Null, Value::from),
        // float32 as people see it: 0.1, not 0.10000000149011612.
        AnyValue::Float32(f) => f.to_string().parse::<f64>().map_or(Value::Null, Value::from),
        v if v.is_float() => v.extract::<f64>().map_or(Value::Null, Value::from),
        other => Value::from(other.to_string()),
    }
}

/// The values of one column.
///
/// # Errors
/// Names the columns that there are.
pub fn values(frame: &Frame, name: &str) -> Result<Vec<Value>> {
    let column = frame.column(name).map_err(|_| unknown_column(frame, name))?;
    (0..column.len()).map(|i| Ok(plain(&column.get(i)?))).collect()
}

pub(crate) fn unknown_column(frame: &Frame, name: &str) -> Error {
    let known: Vec<&str> = frame.columns().iter().map(|c| c.name().as_str()).collect();
    let error = Error::invalid(format!("no column {name}; there are {}", known.join(", ")));
    match crate::error::nearest(name, known.iter().copied()) {
        Some(near) => error.with_hint(format!("did you mean {near}?")),
        None => error,
    }
}

/// The order in which people list values: null, false, true, numbers by size (also inside text:
/// `1, 5, 10, full`), then text.
pub fn natural_order(a: &Value, b: &Value) -> Ordering {
    fn rank(v: &Value) -> (u8, f64) {
        match v {
            Value::Null => (0, 0.0),
            Value::Bool(b) => (1, f64::from(u8::from(*b))),
            Value::Number(n) => (2, n.as_f64().unwrap_or(f64::MAX)),
            Value::String(s) => s.parse::<f64>().ok().filter(|x| x.is_finite()).map_or((3, 0.0), |x| (2, x)),
            _ => (3, 0.0),
        }
    }
    let ((ra, xa), (rb, xb)) = (rank(a), rank(b));
    ra.cmp(&rb).then(xa.total_cmp(&xb)).then_with(|| text(a).cmp(&text(b)))
}

/// How a scalar is written in a table or a legend; nothing for null.
pub fn label(value: &Value) -> String {
    text(value).unwrap_or_default()
}

/// `metric, class, value, rows, positives`: one row a measurement. `class` is the name, null for
/// numbers about all classes.
pub fn metrics(scores: &Scores, names: &[String]) -> Result<Frame> {
    let mut rows = Rows::new()
        .declare("metric", DataType::String)
        .declare("class", DataType::String)
        .declare("value", DataType::Float64)
        .declare("rows", DataType::Int64)
        .declare("positives", DataType::Int64);
    for m in &scores.measurements {
        rows.push([
            ("metric", Value::from(m.metric)),
            ("class", m.class.map_or(Value::Null, |c| class_name(names, c))),
            ("value", m.value.map_or(Value::Null, Value::from)),
            ("rows", Value::from(m.rows as i64)),
            ("positives", m.positives.map_or(Value::Null, |p| Value::from(p as i64))),
        ]);
    }
    rows.frame()
}

fn class_name(names: &[String], class: usize) -> Value {
    names.get(class).map_or_else(|| Value::from(class.to_string()), |n| Value::from(n.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cell(shots: Value, value: Option<f64>) -> Frame {
        let mut rows = Rows::new().declare("metric", DataType::String).declare("value", DataType::Float64);
        rows.push([("metric", json!("accuracy")), ("value", json!(value))]);
        with_axes(&rows.frame().unwrap(), &[("shots".into(), shots), ("seed".into(), json!(0))]).unwrap()
    }

    #[test]
    fn cells_with_other_axes_and_types_become_one_frame() {
        let mut extra = cell(json!(5), None);
        extra = with_axes(&extra, &[("target".into(), json!("cifar"))]).unwrap();
        let all = concat(&[cell(json!(1), Some(0.5)), extra, cell(json!("full"), Some(0.9))]).unwrap();
        assert_eq!(values(&all, "shots").unwrap(), [json!("1"), json!("5"), json!("full")]);
        assert_eq!(values(&all, "target").unwrap(), [json!(null), json!("cifar"), json!(null)]);
        assert_eq!(values(&all, "value").unwrap(), [json!(0.5), json!(null), json!(0.9)]);
        assert_eq!(values(&all, "seed").unwrap(), [json!(0), json!(0), json!(0)]);
    }

    #[test]
    fn types_are_the_narrowest_and_nan_is_null() {
        let mut rows = Rows::new();
        rows.push([("a", json!(1)), ("b", json!(1)), ("c", json!(true)), ("d", json!(f64::NAN))]);
        rows.push([("a", json!(2)), ("b", json!(0.5)), ("e", json!([1, 2]))]);
        let frame = rows.frame().unwrap();
        let types: Vec<DataType> = frame.columns().iter().map(|c| c.dtype().clone()).collect();
        use DataType::{Boolean, Float64, Int64, String as Text};
        assert_eq!(types, [Int64, Float64, Boolean, Text, Text]);
        assert_eq!(values(&frame, "e").unwrap()[1], json!("[1,2]"));
        assert_eq!(values(&frame, "d").unwrap(), [json!(null), json!(null)]);
    }

    #[test]
    fn an_all_null_cell_does_not_turn_numbers_into_text() {
        let mut rows = Rows::new();
        rows.push([("value", Value::Null)]);
        let empty = rows.frame().unwrap();
        let mut rows = Rows::new();
        rows.push([("value", json!(0.25))]);
        let all = concat(&[empty, rows.frame().unwrap()]).unwrap();
        assert_eq!(all.column("value").unwrap().dtype(), &DataType::Float64);
    }

    #[test]
    fn parquet_survives_and_equal_frames_are_equal_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let all = concat(&[cell(json!(1), Some(0.5)), cell(json!("full"), None)]).unwrap();
        let (a, b) = (dir.path().join("a.parquet"), dir.path().join("b.parquet"));
        write_parquet(&all, &a).unwrap();
        write_parquet(&concat(&[all.slice(0, 1), all.slice(1, 1)]).unwrap(), &b).unwrap();
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        assert!(read_parquet(&a).unwrap().equals_missing(&all));
        std::fs::write(&b, "no").unwrap();
        assert!(read_parquet(&b).unwrap_err().to_string().contains("not a Parquet table"));
    }

    #[test]
    fn an_axis_never_overwrites_a_column() {
        let e = with_axes(&cell(json!(1), None), &[("metric".into(), json!("x"))]).unwrap_err();
        assert!(e.to_string().contains("axis metric"), "{e}");
        assert!(with_axes(&cell(json!(1), None), &[("shots".into(), json!(1))]).is_ok());
    }

    #[test]
    fn shots_are_listed_as_people_would() {
        let mut v = [json!("full"), json!("10"), json!(5), json!("1"), json!(null)];
        v.sort_by(natural_order);
        assert_eq!(v, [json!(null), json!("1"), json!(5), json!("10"), json!("full")]);
    }
}
