//! `BBox_List_2017.csv` of NIH ChestX-ray14: 984 boxes around findings, drawn by hand on 880 images.
//!
//! A line is `IMAGE,FINDING,X,Y,WIDTH,HEIGHT`, in pixels of the 1,024-pixel original. The header spells the box as one
//! quoted-looking field, so that it has more fields than some releases' rows: lines are read by place.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::Path,
};

use serde_json::{Value, json};

use super::{OddRows, Skipped, table};
use crate::error::{Error, Result};

/// Boxes by image, as the JSON of the column `boxes`: `[{"finding", "x", "y", "width", "height"}]`.
pub(super) fn read(
    path: &Path,
    findings: &[&str],
    odd_rows: OddRows,
    skipped: &mut Skipped,
) -> Result<HashMap<String, String>> {
    let mut boxes: HashMap<String, Vec<Value>> = HashMap::new();
    for (i, line) in BufReader::new(table::open(path)?).lines().enumerate() {
        let line = line.map_err(Error::io(path))?;
        let number = i as u64 + 1;
        if i == 0 {
            if !line.starts_with("Image Index,Finding Label,Bbox [x,y,w,h]") {
                let hint = "the header is Image Index,Finding Label,Bbox [x,y,w,h]";
                return Err(Error::data(path, number, "not the list of boxes").with_hint(hint));
            }
            continue;
        }
        if line.trim_matches([',', ' ', '\r']).is_empty() {
            continue;
        }
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let sides: Option<Vec<f64>> = fields
            .get(2..6)
            .and_then(|f| f.iter().map(|t| t.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0)).collect());
        let Some(sides) = sides else {
            skipped.odd(odd_rows, "the box is not four numbers", path, number, &line)?;
            continue;
        };
        // The table of labels calls it Infiltration.
        let finding = if fields[1] == "Infiltrate" { "Infiltration" } else { fields[1] };
        if !findings.contains(&finding) {
            skipped.odd(odd_rows, "the box is of none of the 14 findings", path, number, finding)?;
            continue;
        }
        let new = json!({"finding": finding, "x": sides[0], "y": sides[1], "width": sides[2], "height": sides[3]});
        boxes.entry(fields[0].into()).or_default().push(new);
    }
    Ok(boxes.into_iter().map(|(image, b)| (image, Value::from(b).to_string())).collect())
}
