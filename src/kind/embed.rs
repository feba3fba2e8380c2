//! `embed`: the pooled features of every image under a frozen model.

use std::sync::Arc;

use arrow::{
    array::{Array, FixedSizeListArray, Float32Array, UInt32Array},
    datatypes::{DataType, Field},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cell, InputSpec, Kind, Resources, computed, examples::Pictures, trained, transfer::TEST_BATCH};
use crate::{
    data::{augment::View, dataset::Dataset, normalise::Normalise},
    error::{Error, Result},
    model::Precision,
    nn::cuda::Device,
    store::artifact::ArtifactType,
    train,
};

pub struct Embed;

const FILE: &str = "features.parquet";
const COLUMN: &str = "feature";
/// The number of a row, added on reading.
const ROW: &str = "row";

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The model.
    pub model: String,
    /// The images.
    pub data: String,
    /// Side that images are brought to where no `images` node did it before, in pixels.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4096))]
    pub image_px: Option<u32>,
    /// What the model sees of an image; null: what it saw in training.
    #[serde(default)]
    pub view: Option<View>,
    /// How grey levels become the model's input: `symmetric` (-1 to 1), `imagenet`, or `{ mean: [..], std: [..] }`; null:
    /// as in training.
    #[serde(default)]
    pub normalise: Option<Normalise>,
    /// What activations are stored in; features are f32 in both.
    #[serde(default)]
    pub precision: Precision,
    /// Where to compute: `auto` (a GPU where there is one), `cpu`, or `cuda:N`. It is no part of what the cell is.
    #[serde(default, skip_serializing)]
    pub device: Option<Device>,
}

impl Kind for Embed {
    const NAME: &'static str = "embed";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Computes the features of every image under a frozen model.";
    const HAS_DEVICE: bool = true;
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const {
            &[
                InputSpec::one("model", &[ArtifactType::Model]),
                InputSpec::one("data", &[ArtifactType::Images, ArtifactType::Dataset]),
            ]
        }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("features", ArtifactType::Features)]
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        params.normalise.into_iter().flat_map(Normalise::check).collect()
    }

    fn resources(_: &Params) -> Resources {
        Resources { threads: 1, memory_bytes: 0 }
    }

    fn gpus(params: &Params) -> u32 {
        computed::gpus(params.device, 1)
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let trained::Trained { mut model, card, .. } = trained::read(cell, cell.one("model")?)?;
        model.set_precision(params.precision);
        computed::place(cell, &mut model, params.device, 1)?;
        computed::precision(cell, &model, params.precision);
        let pictures = Pictures::open(cell, cell.one("data")?, params.image_px)?;
        let pictures = pictures.normalised(params.normalise.or(card.normalise));
        let session = cell.session();
        let view = params.view.unwrap_or(card.view);
        let examples = pictures.examples(&pictures.data)?;
        let values = train::embed(&model, &examples, &view, TEST_BATCH, &session)?;
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let column =
            FixedSizeListArray::try_new(item, model.feature_dim() as i32, Arc::new(Float32Array::from(values)), None)?;
        let rows = pictures.data.without_column("shard")?.without_column("slot")?;
        let path = cell.work.join(FILE);
        rows.with_column(COLUMN, Arc::new(column))?.write_parquet(&path)?;
        cell.publish("features", ArtifactType::Features, &[(FILE.into(), path)])
    }
}

/// Features read back.
pub struct Features {
    /// The rows, with their number in the column `row`, by which a selection finds its vectors again.
    pub rows: Dataset,
    values: Vec<f32>,
    pub width: usize,
}

impl Features {
    /// The vectors of some of the rows.
    pub fn of(&self, rows: &Dataset) -> Result<Vec<f32>> {
        let slots = rows.integers(ROW).ok_or_else(|| Error::invalid("bug: features lost their row numbers"))?;
        Ok(slots.values().iter().flat_map(|&i| self.values[i as usize * self.width..][..self.width].to_vec()).collect())
    }
}

pub fn read(cell: &Cell, field: &str) -> Result<Features> {
    let rows = Dataset::read_parquet(&cell.file(cell.one(field)?, FILE)?, false)?;
    let not_features = || Error::invalid(format!("{FILE} has no column {COLUMN} of vectors"));
    let column = rows.batch().column_by_name(COLUMN).ok_or_else(not_features)?;
    let list = column.as_any().downcast_ref::<FixedSizeListArray>().ok_or_else(not_features)?;
    let values = list.values().as_any().downcast_ref::<Float32Array>().ok_or_else(not_features)?.values().to_vec();
    let width = list.value_length() as usize;
    let numbers = UInt32Array::from_iter_values(0..rows.rows() as u32);
    let rows = rows.without_column(COLUMN)?.with_column(ROW, Arc::new(numbers))?;
    Ok(Features { rows, values, width })
}
