//! Learning curves as TensorBoard event files: one folder a cell, one tag a column.

use super::super::{Cell, frames};
use crate::{
    error::Result,
    report::{events::Events, frame},
};

/// (name in the report, content) of every table that has a column `step`.
pub fn files(cell: &Cell) -> Result<Vec<(String, Vec<u8>)>> {
    let mut out = Vec::new();
    for input in cell.many("tables") {
        let table = frames::read(cell, input)?;
        if table.column("step").is_err() {
            continue;
        }
        let axes: Vec<String> = input.axes.iter().map(|(n, v)| format!("{n}={}", frame::label(v))).collect();
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._=,-".contains(c) { c } else { '-' };
        let folder: String =
            [input.node.clone(), axes.join(",")].join(",").trim_end_matches(',').chars().map(plain).collect();
        out.push((format!("tensorboard/{folder}/events.out.tfevents.0.scaleshot"), Events::of_curve(&table)?.bytes()));
    }
    if out.is_empty() {
        cell.note("no_curves", 1, "no table of the report has a column step, so there are no TensorBoard files");
    }
    Ok(out)
}
