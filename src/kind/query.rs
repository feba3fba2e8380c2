//! `query`: SQL over frames, by polars.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cell, InputSpec, Kind, Nodes, frames};
use crate::{error::Result, report, store::artifact::ArtifactType};

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
        let tables = frames::by_node(cell, "tables")?;
        frames::publish(cell, "table", &report::query::query(&params.sql, &tables)?)
    }
}
