//! Frames as artifacts: one `table.parquet` a table.

use serde_json::Value;

use super::{Cell, Input, rows::TABLE};
use crate::{
    error::Result,
    report::frame::{self, Frame, Rows},
    store::artifact::ArtifactType,
    train::CurvePoint,
};

pub fn publish(cell: &Cell, output: &str, frame: &Frame) -> Result<()> {
    cell.cancel.check()?;
    let path = cell.work.join(format!("{output}.{TABLE}"));
    frame::write_parquet(frame, &path)?;
    cell.publish(output, ArtifactType::Table, &[(TABLE.into(), path)])
}

pub fn read(cell: &Cell, input: &Input) -> Result<Frame> {
    cell.cancel.check()?;
    frame::read_parquet(&cell.file(input, TABLE)?)
}

/// The learning curve: one row a point, nulls where nothing was validated.
pub fn curve(points: &[CurvePoint]) -> Result<Frame> {
    let mut rows = Rows::new();
    let number = |v: Option<f64>| v.map_or(Value::Null, Value::from);
    for p in points {
        rows.push([
            ("step", Value::from(p.step)),
            ("epoch", Value::from(p.epoch)),
            ("lr", Value::from(p.lr)),
            ("loss", Value::from(p.loss)),
            ("valid_loss", number(p.valid_loss)),
            ("valid_accuracy", number(p.valid_accuracy)),
        ]);
    }
    rows.frame()
}
