//! `transfer`: a trained model fine-tuned on a target, with all of its labels or k a class, and tested there.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cell, InputSpec, Kind, Resources,
    examples::{self, Pictures},
    frames, leak,
    measure::{self, Scale},
    shots::Shots,
    trained::{self, Card},
};
use crate::{
    data::{
        augment::{Augment, View},
        dataset::Dataset,
        fewshot::Draw,
        leakage::Leakage,
    },
    error::Result,
    model::{Bit, BitConfig},
    store::artifact::ArtifactType,
    train::{
        self, FitSpec,
        schedule::Schedule,
        spec::{ClassWeights, Optimizer},
    },
};

pub struct Transfer;

/// Images computed at once in the test.
pub const TEST_BATCH: usize = 64;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The model to start from.
    pub model: String,
    /// The target. Trains on rows of split `train`, tests on rows of split `test`.
    pub data: String,
    /// Examples of each class to train on, or `full`.
    #[serde(default)]
    pub shots: Shots,
    /// By which of the two published rules few-shot examples are drawn.
    #[serde(default)]
    pub draw: Draw,
    /// Seed of the draw, the sampling order and the augmentation.
    #[serde(default)]
    pub seed: u32,
    /// Forget the weights and train the same architecture from scratch: the baseline.
    #[serde(default)]
    pub from_scratch: bool,
    /// Side that images are brought to where no `images` node did it before, in pixels.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4096))]
    pub image_px: Option<u32>,
    /// What test images that training has seen do.
    #[serde(default)]
    pub leakage: Leakage,
    /// How the learning rate runs; BiT-HyperRule unless said otherwise.
    #[serde(default = "hyperrule")]
    pub schedule: Schedule,
    /// Length in updates; null: as the schedule says.
    #[serde(default)]
    pub steps: Option<u64>,
    /// Length in passes over the training images.
    #[serde(default)]
    pub epochs: Option<f64>,
    /// Images of one update.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Images that are computed at once, to save memory; the update is that of the whole batch.
    #[serde(default)]
    pub micro_batch: Option<usize>,
    /// How weights follow gradients.
    #[serde(default = "optimizer")]
    pub optimizer: Optimizer,
    /// Parts that keep their weights, by the beginning of parameter names: `root`, `body.block1`.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Factors on the learning rate by the beginning of parameter names: `{ head: 10 }`.
    #[serde(default)]
    pub lr_factors: BTreeMap<String, f64>,
    /// What the model sees of an image; null: what it saw in pre-training.
    #[serde(default)]
    pub view: Option<View>,
    /// What is done to training images at random.
    #[serde(default)]
    pub augment: Augment,
    /// Alpha of mixup; null: as the schedule says.
    #[serde(default)]
    pub mixup: Option<f64>,
    /// Share of each target that is spread over all classes.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Weights of classes in the loss.
    #[serde(default)]
    pub class_weights: ClassWeights,
    /// Draw examples so that all classes come equally often.
    #[serde(default)]
    pub oversample: bool,
    /// Also publish the fine-tuned weights (as large as the model, for every cell).
    #[serde(default)]
    pub keep_model: bool,
}

fn hyperrule() -> Schedule {
    Schedule::BitHyperRule
}

fn batch() -> usize {
    32
}

fn optimizer() -> Optimizer {
    FitSpec::sgd_agc(0.003, 1).optimizer
}

impl Params {
    fn fit(&self, pretrained: View) -> FitSpec {
        FitSpec {
            batch: self.batch,
            micro_batch: self.micro_batch,
            steps: self.steps,
            epochs: self.epochs,
            optimizer: self.optimizer.clone(),
            freeze: self.freeze.clone(),
            lr_factors: self.lr_factors.clone(),
            schedule: self.schedule.clone(),
            view: self.view.unwrap_or(pretrained),
            augment: self.augment.clone(),
            mixup: self.mixup,
            label_smoothing: self.label_smoothing,
            class_weights: self.class_weights,
            oversample: self.oversample,
            seed: self.seed.into(),
            ..FitSpec::sgd_agc(0.0, 1)
        }
    }
}

impl Kind for Transfer {
    const NAME: &'static str = "transfer";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Fine-tunes a model on a target, fully or with k examples a class, and tests it there.";
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
        &[
            ("metrics", ArtifactType::Table),
            ("predictions", ArtifactType::Table),
            ("curve", ArtifactType::Table),
            ("confusion", ArtifactType::Table),
            ("thresholds", ArtifactType::Table),
            ("model", ArtifactType::Model),
        ]
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        let mut problems = params.fit(View::Stored).check();
        problems.extend(params.shots.check());
        problems
    }

    fn resources(_: &Params) -> Resources {
        Resources { threads: 1, memory_bytes: 0 }
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let input = cell.one("data")?;
        let trained::Trained { mut model, card, mut seen } = trained::read(cell, cell.one("model")?)?;
        let pictures = Pictures::open(cell, input, params.image_px)?;
        let train = examples::keep_known(cell, pictures.split(&input.node, "train")?, &input.node)?;
        let test = examples::keep_known(cell, pictures.split(&input.node, "test")?, &input.node)?;
        leak::check(cell, params.leakage, ("pre-training", &seen), ("test", &test))?;
        leak::check(cell, params.leakage, ("train", &train), ("test", &test))?;

        let train = train.take(&params.shots.draw(&train, params.draw, params.seed, &input.node)?)?;
        let outputs = train.task().names().len();
        if params.from_scratch {
            model = Bit::new(BitConfig::parse(&card.architecture, outputs)?, params.seed.into());
            seen = trained::nothing_seen()?;
        } else {
            model.replace_head(outputs);
        }
        let spec = params.fit(card.view);
        let session = cell.session();
        let fit = train::fit(&mut model, &pictures.examples(&train)?, None, &spec, &session)?;
        let logits = train::predict(&model, &pictures.examples(&test)?, &spec.view, TEST_BATCH, &session)?;

        let facts = [("train_images", train.rows() as u64), ("steps", fit.steps)];
        measure::publish(cell, &test, logits, Scale::Logit, &facts)?;
        frames::publish(cell, "curve", &frames::curve(&fit.curve)?)?;
        if !params.keep_model {
            return Ok(());
        }
        seen = Dataset::concat(&[seen, trained::seen(&train)?])?;
        let mut trained_on = if params.from_scratch { Vec::new() } else { card.trained_on };
        trained_on.extend(trained::dataset_names(&train));
        trained::publish(
            cell,
            "model",
            &model,
            &Card::new(&card.architecture, train.task(), spec.view, trained_on),
            &seen,
        )
    }
}
