//! `subset`: a part of a dataset, by SQL predicate, fraction, shots, split or balance; its images come along.

use std::sync::Arc;

use arrow::array::{StringArray, UInt32Array};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cell, InputSpec, Kind, Leaf, leak, rows,
    sql::{self, Named, Question},
};
use crate::{
    data::{
        dataset::{Dataset, Task},
        leakage::Leakage,
        subset::{self, SubsetSpec},
    },
    error::{Error, Result},
    report::frame,
    store::artifact::ArtifactType,
};

pub struct Subset;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Params {
    /// The dataset, with or without decoded images.
    pub data: String,
    /// Keep the rows of which this SQL predicate is true, before anything is drawn: `view = 'PA' AND age >= 18`.
    /// Columns are those of the table; a label is `"label:Edema"`, a class is its name.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
    /// What patients, images and near-duplicates that two splits of the result share do.
    #[serde(default)]
    pub leakage: Leakage,
    #[serde(flatten)]
    pub spec: SubsetSpec,
}

impl Kind for Subset {
    const NAME: &'static str = "subset";
    const VERSION: u32 = 4;
    const ABOUT: &'static str = "Keeps a seeded part of a dataset; smaller fractions lie within larger ones.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::one("data", &[ArtifactType::Images, ArtifactType::Dataset])] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("dataset", ArtifactType::Dataset)]
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        params.spec.problems()
    }

    fn rows(leaf: Leaf, rows: f64) -> f64 {
        rows * leaf("fraction").unwrap_or(1.0)
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let input = cell.one("data")?;
        let mut data = rows::read(cell, input, true)?;
        if let Some(predicate) = &params.predicate {
            data = data.take(&selected(cell, &data, predicate)?)?;
        }
        cell.cancel.check()?;
        let part = subset::subset(&data, &params.spec)?;
        leak::within(cell, params.leakage, &part)?;
        rows::publish(cell, "dataset", ArtifactType::Dataset, &part, &rows::shard_files(&input.artifact))
    }
}

/// The number of a row, for the predicate's answer.
const ROW: &str = "row_number";

/// The numbers of the rows of which a predicate is true, in order; polars' streaming engine answers.
fn selected(cell: &Cell, data: &Dataset, predicate: &str) -> Result<Vec<u32>> {
    let plain = |name: &str| ["bytes", "digest", "phash"].contains(&name);
    let mut table = data.without(plain)?;
    if let (Task::Single(names), Some(classes)) = (data.task(), data.classes()) {
        let name = |c: i32| usize::try_from(c).ok().and_then(|c| names.get(c)).cloned();
        let named: StringArray = classes.iter().map(|c| c.and_then(name)).collect();
        table = table.with_column("class", Arc::new(named))?;
    }
    let numbers = UInt32Array::from_iter_values(0..data.rows() as u32);
    let path = cell.work.join("predicate.parquet");
    table.with_column(ROW, Arc::new(numbers))?.write_parquet(&path)?;
    let columns =
        || -> Vec<String> { table.batch().schema().fields().iter().map(|f| format!("\"{}\"", f.name())).collect() };
    let question = Question {
        sql: format!("SELECT {ROW} FROM data WHERE ({predicate}) ORDER BY {ROW}"),
        tables: vec![Named::file("data", &path)],
        streaming: true,
        to: cell.work.join("selected.parquet"),
    };
    sql::ask(cell, &question, false).map_err(|e| match e {
        Error::Interrupted => e,
        e => Error::invalid(format!("where: {e}")).with_hint(format!("columns are {}", columns().join(", "))),
    })?;
    let answer = frame::read_parquet(&question.to)?;
    let rows = frame::values(&answer, ROW)?.iter().filter_map(|v| v.as_u64()).map(|v| v as u32).collect::<Vec<_>>();
    if rows.is_empty() {
        return Err(Error::invalid(format!("where: no row of {} has {predicate}", data.rows())));
    }
    Ok(rows)
}
