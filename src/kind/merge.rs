//! `merge`: many datasets into one, with a table of what came from where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cell, InputSpec, Kind, Nodes, frames, leak, rows};
use crate::{
    data::{
        dataset::Task,
        labels,
        leakage::Leakage,
        merge::{self, MergeSpec},
    },
    error::{Error, Result},
    report::frame::Rows,
    store::artifact::ArtifactType,
};

pub struct Merge;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Params {
    /// The datasets, in the order in which duplicates are decided.
    pub from: Nodes,
    /// Targets: rows whose patient or image is in their split `test` are kept out of the result.
    #[serde(default)]
    pub without: Option<Nodes>,
    /// What patients and images that two splits share do.
    #[serde(default)]
    pub leakage: Leakage,
    #[serde(flatten)]
    pub spec: MergeSpec,
}

const ANY: &[ArtifactType] = &[ArtifactType::Dataset, ArtifactType::Images];

impl Kind for Merge {
    const NAME: &'static str = "merge";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Merges datasets into one: labels, filters, splits, duplicates, leakage.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::cells("from", ANY).named(), InputSpec::maybe_cells("without", ANY)] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("dataset", ArtifactType::Dataset), ("sources", ArtifactType::Table)]
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let inputs = cell.many("from");
        let (shards, starts) = rows::joined_shards(inputs);
        let mut parts = Vec::with_capacity(inputs.len());
        for (input, start) in inputs.iter().zip(starts) {
            let table = rows::read(cell, input, true)?;
            parts.push((input.node.clone(), rows::shift_shards(table, start)?));
        }
        if !shards.is_empty() && parts.iter().any(|(_, p)| p.integers("shard").is_none()) {
            return Err(Error::invalid("some of the datasets have decoded images and some do not")
                .with_hint("put the images node after the merge, or before it for every dataset"));
        }
        let mixed = parts.iter().any(|(_, p)| matches!(p.task(), Task::Multi(_)));
        let mut kept_out = vec![0; parts.len()];
        for ((name, part), out) in parts.iter_mut().zip(&mut kept_out) {
            if mixed && matches!(part.task(), Task::Single(_)) {
                *part = labels::as_findings(part)?;
            }
            for other in cell.many("without") {
                let before = part.rows();
                *part = leak::without(part, &rows::read(cell, other, false)?)?;
                let gone = before - part.rows();
                if gone > 0 {
                    cell.note("kept_out_rows", gone as u64, format!("rows of {name} that {} is tested on", other.node));
                    *out += gone as u64;
                }
            }
        }
        let (merged, mut report) = merge::merge(&parts, &params.spec)?;
        let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
        report.keep_out(&names, &kept_out);
        leak::within(cell, params.leakage, &merged)?;
        rows::publish(cell, "dataset", ArtifactType::Dataset, &merged, &shards)?;
        let mut table = Rows::new();
        for row in &report.rows {
            table.push([
                ("source", Value::from(row.source.as_str())),
                ("measure", Value::from(row.measure.as_str())),
                ("item", row.item.as_deref().map_or(Value::Null, Value::from)),
                ("count", Value::from(row.count)),
            ]);
        }
        frames::publish(cell, "sources", &table.frame()?)
    }
}
