//! The report's tables, and for each of their rows the cell that made it.

use super::super::{Cell, frames};
use crate::{
    error::Result,
    report::{
        frame::{self, Frame},
        html::Link,
        lineage::anchor,
    },
};

/// One table of a report.
pub struct Sourced {
    pub name: String,
    pub frame: Frame,
    /// Where each row comes from, as a link to the study page.
    pub rows: Vec<Link>,
}

/// The tables of the field `tables`, those of one node's output as one, axes as first columns.
pub fn tables(cell: &Cell) -> Result<Vec<Sourced>> {
    let mut parts: Vec<(String, Vec<Frame>, Vec<Link>)> = Vec::new();
    for input in cell.many("tables") {
        let part = frame::with_axes(&frames::read(cell, input)?, &input.axes)?;
        let link = Link {
            text: input.artifact.digest().short(),
            to: format!("study.html#{}", anchor(&input.node, &input.axes)),
        };
        let links = std::iter::repeat_n(link, part.height());
        let name = input.name();
        match parts.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, frames, rows)) => {
                rows.extend(links);
                frames.push(part);
            }
            None => parts.push((name, vec![part], links.collect())),
        }
    }
    parts.into_iter().map(|(name, frames, rows)| Ok(Sourced { name, frame: frame::concat(&frames)?, rows })).collect()
}
