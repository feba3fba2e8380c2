//! `subset`: a part of a dataset, by fraction, shots, split or balance; its images come along.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cell, InputSpec, Kind, rows};
use crate::{
    data::subset::{self, SubsetSpec},
    error::Result,
    store::artifact::ArtifactType,
};

pub struct Subset;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Params {
    /// The dataset, with or without decoded images.
    pub data: String,
    #[serde(flatten)]
    pub spec: SubsetSpec,
}

impl Kind for Subset {
    const NAME: &'static str = "subset";
    const VERSION: u32 = 1;
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

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let input = cell.one("data")?;
        let part = subset::subset(&rows::read(cell, input, true)?, &params.spec)?;
        rows::publish(cell, "dataset", ArtifactType::Dataset, &part, &rows::shard_files(&input.artifact))
    }
}
