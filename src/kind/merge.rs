//! `merge`: many datasets into one, with a table of what came from where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cell, Input, InputSpec, Kind, Nodes, frames, leak, rows};
use crate::{
    data::{
        dataset::{Dataset, Task},
        labels,
        leakage::{KeepOut, Leakage, Ledger},
        merge::{self, MergeSpec},
        stream::{Mapped, Table},
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
    /// Targets: rows whose patient or image, or a near-duplicate of it, is in their split `test` are kept out of
    /// the result. Near-duplicates are known where both have decoded images.
    #[serde(default)]
    pub without: Option<Nodes>,
    /// What patients, images and near-duplicates that two splits share do.
    #[serde(default)]
    pub leakage: Leakage,
    #[serde(flatten)]
    pub spec: MergeSpec,
}

fn named_twice(name: &str) -> String {
    format!("{name} is named twice: its rows could not be told apart")
}

const ANY: &[ArtifactType] = &[ArtifactType::Dataset, ArtifactType::Images];

impl Kind for Merge {
    const NAME: &'static str = "merge";
    const VERSION: u32 = 5;
    const ABOUT: &'static str = "Merges datasets into one: labels, filters, splits, duplicates, leakage.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::cells("from", ANY).named(), InputSpec::maybe_cells("without", ANY)] }
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        let Nodes::Many(names) = &params.from else { return Vec::new() };
        let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
        twice.map_or_else(Vec::new, |(_, name)| vec![("from".into(), named_twice(name))])
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("dataset", ArtifactType::Dataset), ("sources", ArtifactType::Table)]
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let inputs = cell.many("from");
        for (at, input) in inputs.iter().enumerate() {
            // The same under two spellings, as `set` and `set.dataset`.
            let same =
                |other: &&Input| (&other.node, &other.output, &other.axes) == (&input.node, &input.output, &input.axes);
            if inputs[..at].iter().any(|other| same(&other)) {
                return Err(Error::invalid(format!("from: {}", named_twice(&input.node))));
            }
        }
        let (shards, starts) = rows::joined_shards(inputs);
        let tables = inputs.iter().map(|i| rows::table(cell, i, true)).collect::<Result<Vec<_>>>()?;
        let heads = tables.iter().map(Table::head).collect::<Result<Vec<_>>>()?;
        if !shards.is_empty() && heads.iter().any(|h| h.integers("shard").is_none()) {
            return Err(Error::invalid("some of the datasets have decoded images and some do not")
                .with_hint("put the images node after the merge, or before it for every dataset"));
        }
        let mixed = heads.iter().any(|h| matches!(h.task(), Task::Multi(_)));
        let adapted: Vec<_> = tables
            .into_iter()
            .zip(starts)
            .map(|(table, start)| {
                let with = move |piece: Dataset| {
                    cell.cancel.check()?;
                    let piece = if mixed { labels::as_findings(&piece)? } else { piece };
                    rows::shift_shards(piece, start)
                };
                Mapped { table, with }
            })
            .collect();
        let parts: Vec<(String, &dyn Table)> =
            inputs.iter().zip(&adapted).map(|(i, t)| (i.node.clone(), t as &dyn Table)).collect();
        let others = cell.many("without");
        let keep_out =
            others.iter().map(|other| KeepOut::tested(&rows::read(cell, other, false)?)).collect::<Result<Vec<_>>>()?;
        let mut writer = rows::Writer::new(cell, "dataset");
        let mut ledger = Ledger::new(Some(cell.work));
        let report = merge::merge_into(&parts, &params.spec, &keep_out, Some(cell.work), &mut |piece| {
            if params.leakage != Leakage::Allow {
                ledger.add(piece)?;
            }
            writer.append(piece)
        })?;
        for note in &report.notes {
            cell.note(note.what, note.count, note.detail.as_str());
        }
        let targets: Vec<&str> = others.iter().map(|o| o.node.as_str()).collect();
        for (name, _) in &parts {
            if let Some(gone) = report.get(name, "dropped", Some("without")).filter(|n| *n > 0) {
                cell.note("kept_out_rows", gone, format!("rows of {name} that {} is tested on", targets.join(", ")));
            }
        }
        let written = writer.finish()?;
        leak::within_file(cell, params.leakage, ledger, &written.path)?;
        written.publish(cell, "dataset", ArtifactType::Dataset, &shards)?;
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
