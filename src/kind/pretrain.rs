//! `pretrain`: supervised training from scratch, single or multi label, unknown labels masked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cell, InputSpec, Kind, Leaf, Resources, computed,
    examples::{self, Pictures},
    frames,
    trained::{self, Card},
};
use crate::{
    data::{dataset::Dataset, normalise::Normalise},
    error::Result,
    model::{Bit, BitConfig},
    nn::cuda::Device,
    store::artifact::ArtifactType,
    train::{self, FitSpec},
};

pub struct Pretrain;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Params {
    /// The images to train on. Rows of split `valid` are kept for validation, rows of split `test` are never used;
    /// without a split column all rows train.
    pub data: String,
    /// Architecture: `bit-r50x1`, `bit-r152x4`, or a small one such as `bit-r26x0.25`.
    pub model: String,
    /// Side that images are brought to where no `images` node did it before, in pixels.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4096))]
    pub image_px: Option<u32>,
    /// How grey levels become the model's input: `symmetric` (-1 to 1; the default), `imagenet`, or
    /// `{ mean: [..], std: [..] }`, which the model keeps.
    #[serde(default)]
    pub normalise: Option<Normalise>,
    /// Where to compute: `auto` (a GPU where there is one), `cpu`, or `cuda:N`. It is no part of what the cell is.
    #[serde(default, skip_serializing)]
    pub device: Option<Device>,
    #[serde(flatten)]
    pub fit: FitSpec,
}

impl Kind for Pretrain {
    const NAME: &'static str = "pretrain";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "Trains a model from scratch on labelled images.";
    const HAS_DEVICE: bool = true;
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::one("data", &[ArtifactType::Images, ArtifactType::Dataset])] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("model", ArtifactType::Model), ("curve", ArtifactType::Table)]
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        let mut problems = params.fit.check();
        problems.extend(params.normalise.into_iter().flat_map(Normalise::check));
        if let Err(e) = BitConfig::parse(&params.model, 1) {
            problems.push(("model".into(), e.to_string()));
        }
        problems
    }

    fn resources(_: &Params) -> Resources {
        Resources { threads: 0, memory_bytes: 0 }
    }

    fn ranks(params: &Params) -> u32 {
        params.fit.ranks.unwrap_or(1)
    }

    fn images(leaf: Leaf, rows: f64) -> f64 {
        computed::passes(leaf, rows)
    }

    fn gpus(params: &Params) -> u32 {
        computed::gpus(params.device, Self::ranks(params))
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let input = cell.one("data")?;
        let pictures = Pictures::open(cell, input, params.image_px)?.normalised(params.normalise);
        let (train, valid) = training_rows(&pictures)?;
        let train = examples::keep_known(cell, train, &input.node)?;
        let mut model = Bit::new(BitConfig::parse(&params.model, train.task().names().len())?, params.fit.seed);
        computed::place(cell, &mut model, params.device, Self::ranks(params))?;
        let valid = valid.map(|v| pictures.examples(&v)).transpose()?;
        let fit = train::fit(&mut model, &pictures.examples(&train)?, valid.as_ref(), &params.fit, &cell.session())?;
        computed::training(cell, &model, &params.fit, &fit);
        let look = (params.fit.view, params.normalise);
        let card = Card::new(&params.model, train.task(), look, trained::dataset_names(&train));
        trained::publish(cell, "model", &model, &card, &trained::seen(&train)?)?;
        frames::publish(cell, "curve", &frames::curve(&fit.curve)?)
    }
}

/// Rows to train on and to validate on: by the split column, or all of them.
fn training_rows(pictures: &Pictures) -> Result<(Dataset, Option<Dataset>)> {
    if pictures.data.text("split").is_none() {
        return Ok((pictures.data.clone(), None));
    }
    let valid = pictures.data.split("valid")?;
    Ok((pictures.split("the dataset", "train")?, (valid.rows() > 0).then_some(valid)))
}
