//! `query`: SQL over frames, by polars.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cell, InputSpec, Kind, Nodes,
    rows::TABLE,
    sql::{self, Named, Question},
};
use crate::{error::Result, store::artifact::ArtifactType};

pub struct Query;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The node, or list of nodes, whose tables the query sees, under the nodes' names.
    pub tables: Nodes,
    /// One SELECT statement.
    pub sql: String,
}

impl Kind for Query {
    const NAME: &'static str = "query";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Runs SQL over tables; every cell's axes are columns.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::cells("tables", &[ArtifactType::Table]).prefer("metrics").named()] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("table", ArtifactType::Table)]
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let mut tables: Vec<Named> = Vec::new();
        for input in cell.many("tables") {
            let part = (cell.file(input, TABLE)?, input.axes.clone());
            match tables.iter_mut().find(|table| table.name == input.name()) {
                Some(table) => table.parts.push(part),
                None => tables.push(Named { name: input.name(), parts: vec![part] }),
            }
        }
        let to = cell.work.join(TABLE);
        sql::ask(cell, &Question { sql: params.sql.clone(), tables, streaming: false, to: to.clone() }, true)?;
        cell.publish("table", ArtifactType::Table, &[(TABLE.into(), to)])
    }
}
