//! `transfer`: a trained model fine-tuned on a target, with all of its labels or k a class, and tested there.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cell, InputSpec, Kind, Leaf, Resources, computed,
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
        labels,
        leakage::Leakage,
        normalise::Normalise,
        randaugment::RandAugment,
        split::{self, Ratio, SplitRule},
        subset::By,
    },
    error::{Error, Result},
    model::{Bit, BitConfig, HeadInit, Precision},
    nn::cuda::Device,
    store::artifact::ArtifactType,
    train::{
        self, FitSpec,
        hyperrule::resolution,
        memory::{Checkpointing, MicroBatch},
        schedule::Schedule,
        spec::{ClassWeights, Every, Keep, Optimizer},
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
    /// The target. Trains on rows of split `train`, validates on those of split `valid`, tests on those of split `test`.
    pub data: String,
    /// Make one class of several findings: rows with exactly one, which is their class; others are left out and counted.
    #[serde(default)]
    pub single_label: bool,
    /// Share of the rows of split `train` to train on; null: all that are not for validation.
    #[serde(default)]
    pub train_ratio: Option<f64>,
    /// Share of the rows of split `train` to validate on, in place of split `valid`.
    #[serde(default)]
    pub valid_ratio: Option<f64>,
    /// What ratios are of: whole patients, or rows as the published code shuffles them.
    #[serde(default)]
    pub ratio_by: By,
    /// Examples of each class to train on, or `full`.
    #[serde(default)]
    pub shots: Shots,
    /// By which of the two published rules few-shot examples are drawn.
    #[serde(default)]
    pub draw: Draw,
    /// Seed of the draw, the sampling order and the augmentation.
    #[serde(default)]
    pub seed: u32,
    /// What the new head starts from.
    #[serde(default)]
    pub head_init: HeadInit,
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
    /// Images that are computed at once, to save memory, or `auto`; the update is that of the whole batch. Null: the batch.
    #[serde(default)]
    pub micro_batch: Option<MicroBatch>,
    /// Ranks that share every batch, for one update of all: threads here, or processes under MPI. Null: no ranks.
    #[serde(default)]
    pub ranks: Option<u32>,
    /// What activations are stored in, in training and test. Weights, statistics and sums are f32 in both.
    #[serde(default)]
    pub precision: Precision,
    /// What is computed twice to save memory; the result is the same to the bit.
    #[serde(default)]
    pub checkpoint: Checkpointing,
    /// How weights follow gradients.
    #[serde(default = "optimizer")]
    pub optimizer: Optimizer,
    /// Parts that keep their weights, by the beginning of parameter names: `root`, `body.block1`.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Factors on the learning rate by the beginning of parameter names: `{ head: 10 }`.
    #[serde(default)]
    pub lr_factors: BTreeMap<String, f64>,
    /// Factor on the learning rate for each block further from the head; it multiplies `lr_factors`.
    #[serde(default)]
    pub layer_decay: Option<f64>,
    /// Keeps a running mean of the weights, of which this share stays in each step; it is what is validated and tested.
    #[serde(default)]
    pub ema: Option<f64>,
    /// Sizes by the stored images: `bit-hyperrule` trains on 128 px crops of 160 px below 96 x 96 px, else on 480 px of
    /// 512 px, mirrored half of the time. It stands in for `view` and `augment`.
    #[serde(default)]
    pub resolution: Option<Resolution>,
    /// What the model sees of an image; null: what it saw in pre-training.
    #[serde(default)]
    pub view: Option<View>,
    /// How grey levels become the model's input: `symmetric` (-1 to 1), `imagenet`, or `{ mean: [..], std: [..] }`; null:
    /// as in pre-training.
    #[serde(default)]
    pub normalise: Option<Normalise>,
    /// What is done to training images at random.
    #[serde(default)]
    pub augment: Augment,
    /// RandAugment after crop and flip: `{ n: 2, m: 9 }`.
    #[serde(default)]
    pub rand_augment: Option<RandAugment>,
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
    /// How often to score the validation rows; null: at the end only.
    #[serde(default)]
    pub evaluate_every: Option<Every>,
    /// Weights to test: of the last step, or of the lowest validation loss.
    #[serde(default)]
    pub keep: Keep,
    /// Steps between two points of the learning curve; null: a hundred points in all.
    #[serde(default)]
    pub curve_every: Option<u64>,
    /// Also publish the fine-tuned weights (as large as the model, for every cell).
    #[serde(default)]
    pub keep_model: bool,
    /// Where to compute: `auto` (a GPU where there is one), `cpu`, or `cuda:N`. It is no part of what the cell is.
    #[serde(default, skip_serializing)]
    pub device: Option<Device>,
}

/// A rule for the sizes of a fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Resolution {
    /// By the area of the stored images (Kolesnikov et al. 2020).
    #[serde(rename = "bit-hyperrule")]
    BitHyperRule,
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
    fn fit(&self, view: View, augment: Augment) -> FitSpec {
        FitSpec {
            batch: self.batch,
            micro_batch: self.micro_batch,
            ranks: self.ranks,
            precision: self.precision,
            checkpoint: self.checkpoint,
            steps: self.steps,
            epochs: self.epochs,
            optimizer: self.optimizer.clone(),
            freeze: self.freeze.clone(),
            lr_factors: self.lr_factors.clone(),
            layer_decay: self.layer_decay,
            ema: self.ema,
            schedule: self.schedule.clone(),
            view,
            augment,
            rand_augment: self.rand_augment,
            mixup: self.mixup,
            label_smoothing: self.label_smoothing,
            class_weights: self.class_weights,
            oversample: self.oversample,
            evaluate_every: self.evaluate_every,
            keep: self.keep,
            curve_every: self.curve_every,
            seed: self.seed.into(),
        }
    }

    /// What the model sees and how training varies it, for stored images of `height` x `width` px.
    fn look(&self, pretrained: View, (height, width): (usize, usize)) -> (View, Augment) {
        match self.resolution {
            Some(Resolution::BitHyperRule) => {
                let (augment, view) = Augment::bit(resolution(height as u32, width as u32));
                (view, augment)
            }
            None => (self.view.unwrap_or(pretrained), self.augment.clone()),
        }
    }

    /// The shares of the training rows that ratios ask for.
    fn ratio(&self) -> Option<Ratio> {
        if self.train_ratio.is_none() && self.valid_ratio.is_none() {
            return None;
        }
        let valid = self.valid_ratio.unwrap_or(0.0);
        Some(Ratio { train: self.train_ratio.unwrap_or(1.0 - valid), valid, seed: self.seed })
    }

    /// Rows to train on and to validate on, before any draw of shots.
    fn training_rows(&self, pictures: &Pictures, node: &str) -> Result<(Dataset, Option<Dataset>)> {
        let train = self.single(pictures.split(node, "train")?, node)?;
        let Some(ratio) = self.ratio() else {
            let valid = self.single(pictures.data.split("valid")?, node)?;
            return Ok((train, (valid.rows() > 0).then_some(valid)));
        };
        let all = train.rows();
        let rule = match self.ratio_by {
            By::Patient => SplitRule::Patient(ratio),
            By::Row => SplitRule::Ratio(ratio),
        };
        let parts = split::split(&train, &rule)?;
        let (train, valid) = (parts.split("train")?, parts.split("valid")?);
        for (rows, share, field) in [(&train, ratio.train, "train_ratio"), (&valid, ratio.valid, "valid_ratio")] {
            if rows.rows() == 0 && share > 0.0 {
                return Err(Error::invalid(format!("{node}: {field} of {share} leaves none of {all} training images")));
            }
        }
        Ok((train, (valid.rows() > 0).then_some(valid)))
    }

    fn single(&self, rows: Dataset, node: &str) -> Result<Dataset> {
        if !self.single_label {
            return Ok(rows);
        }
        let single = labels::single_label(&rows)?;
        if single.rows() == 0 && rows.rows() > 0 {
            return Err(Error::invalid(format!("{node}: none of {} images has exactly one finding", rows.rows())));
        }
        Ok(single)
    }
}

impl Kind for Transfer {
    const NAME: &'static str = "transfer";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "Fine-tunes a model on a target, fully or with k examples a class, and tests it there.";
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
        // Sizes that a rule gives always fit each other.
        let augment = if params.resolution.is_some() { Augment::None } else { params.augment.clone() };
        let mut problems = params.fit(params.view.unwrap_or(View::Stored), augment).check();
        problems.extend(params.shots.check());
        problems.extend(params.normalise.into_iter().flat_map(Normalise::check));
        if params.resolution.is_some() && (params.view.is_some() || params.augment != Augment::None) {
            problems.push(("resolution".into(), "gives view and augment; leave those out".into()));
        }
        if let Some(problem) = params.ratio().and_then(|r| r.problem()) {
            problems.push(("train_ratio".into(), problem));
        }
        if params.train_ratio == Some(0.0) {
            problems.push(("train_ratio".into(), "must be above 0".into()));
        }
        problems
    }

    fn resources(params: &Params) -> Resources {
        Resources { threads: Self::ranks(params) as usize, memory_bytes: 0 }
    }

    fn ranks(params: &Params) -> u32 {
        params.ranks.unwrap_or(1)
    }

    fn images(leaf: Leaf, rows: f64) -> f64 {
        // Going forward alone takes a third of a training's time.
        computed::passes(leaf, rows) + rows / 3.0
    }

    fn gpus(params: &Params) -> u32 {
        computed::gpus(params.device, Self::ranks(params))
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let input = cell.one("data")?;
        let trained::Trained { mut model, card, mut seen } = trained::read(cell, cell.one("model")?)?;
        let normalise = params.normalise.or(card.normalise);
        let pictures = Pictures::open(cell, input, params.image_px)?.normalised(normalise);
        let (train, valid) = params.training_rows(&pictures, &input.node)?;
        let train = examples::keep_known(cell, train, &input.node)?;
        let tested = pictures.split(&input.node, "test")?;
        let test = params.single(tested.clone(), &input.node)?;
        if params.single_label && test.rows() < tested.rows() {
            let left_out = (tested.rows() - test.rows()) as u64;
            cell.note("not_single_label", left_out, format!("test rows of {} without exactly one finding", input.node));
        }
        let test = examples::keep_known(cell, test, &input.node)?;
        leak::check(cell, params.leakage, ("pre-training", &seen), ("test", &test))?;
        leak::check(cell, params.leakage, ("train", &train), ("test", &test))?;

        let train = train.take(&params.shots.draw(&train, params.draw, params.seed, &input.node)?)?;
        let valid = valid.map(|v| examples::keep_known(cell, v, &input.node)).transpose()?;
        if let Some(valid) = &valid {
            leak::check(cell, params.leakage, ("train", &train), ("valid", valid))?;
        }
        let outputs = train.task().names().len();
        if params.from_scratch {
            model = Bit::new(BitConfig::parse(&card.architecture, outputs)?, params.seed.into());
            seen = trained::nothing_seen()?;
        }
        params.head_init.replace(&mut model, outputs, params.seed.into())?;
        computed::place(cell, &mut model, params.device, Self::ranks(params))?;
        let examples = pictures.examples(&train)?;
        let (view, augment) = params.look(card.view, pictures.size());
        let spec = params.fit(view, augment);
        let session = cell.session();
        let valid = valid.map(|v| pictures.examples(&v)).transpose()?;
        let fit = train::fit(&mut model, &examples, valid.as_ref(), &spec, &session)?;
        computed::training(cell, &model, &spec, &fit);
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
            &Card::new(&card.architecture, train.task(), (spec.view, normalise), trained_on),
            &seen,
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(extra: serde_json::Value) -> Params {
        let mut all = json!({"model": "m", "data": "d"});
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn problems(extra: serde_json::Value) -> Vec<String> {
        Transfer::check(&params(extra)).into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn sizes_follow_the_rule_or_what_is_declared() {
        let rule = params(json!({"resolution": "bit-hyperrule"}));
        let crop = |resize_px, px| (View::Whole { px }, Augment::Crop { resize_px });
        assert_eq!(rule.look(View::Stored, (32, 32)), crop(160, 128));
        assert_eq!(rule.look(View::Stored, (500, 375)), crop(512, 480));
        let own = params(json!({"augment": "flip"}));
        assert_eq!(own.look(View::Whole { px: 64 }, (32, 32)), (View::Whole { px: 64 }, Augment::Flip));
        assert_eq!(problems(json!({"resolution": "bit-hyperrule", "augment": "flip"})), ["resolution"]);
        assert!(
            problems(json!({"resolution": "bit-hyperrule", "precision": "bf16", "micro_batch": "auto"})).is_empty()
        );
    }

    #[test]
    fn every_option_reaches_the_training() {
        let given = json!({
            "precision": "bf16", "checkpoint": "blocks", "micro_batch": 4, "ema": 0.9, "layer_decay": 0.5,
            "rand_augment": {"n": 1, "m": 5}, "evaluate_every": {"steps": 5}, "keep": "best", "curve_every": 2,
            "label_smoothing": 0.1, "oversample": true, "class_weights": "balanced", "mixup": 0.2, "steps": 40,
            "freeze": ["root"], "optimizer": {"adamw": {"lr": 0.001}}, "seed": 3, "batch": 8, "ranks": 2,
        });
        let spec = params(given.clone()).fit(View::Stored, Augment::None);
        let found = serde_json::to_value(&spec).unwrap();
        for (field, value) in given.as_object().unwrap() {
            if field == "optimizer" {
                assert_eq!(found["optimizer"]["adamw"]["lr"], 0.001);
            } else {
                assert_eq!(&found[field], value, "{field}");
            }
        }
    }

    #[test]
    fn ratios_are_parts_of_a_whole() {
        assert_eq!(problems(json!({"train_ratio": 0.8, "valid_ratio": 0.3})), ["train_ratio"]);
        assert_eq!(problems(json!({"train_ratio": 0.0})), ["train_ratio"]);
        let ratio = params(json!({"valid_ratio": 0.25, "seed": 7})).ratio().unwrap();
        assert_eq!((ratio.train, ratio.valid, ratio.seed), (0.75, 0.25, 7));
        assert_eq!(params(json!({})).ratio(), None);
    }
}
