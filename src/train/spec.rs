//! What a training is asked to do, as it stands in a pipeline file.
//!
//! Field comments become the help that editors show. Nothing here runs; [`FitSpec::check`] finds what
//! cannot work before anything does.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::optimizer::{AdamWSpec, Optimizer, SgdAgcSpec};
use super::{
    memory::{Checkpointing, MicroBatch},
    schedule::Schedule,
};
use crate::{
    data::{
        augment::{Augment, View},
        randaugment::RandAugment,
    },
    model::Precision,
    nn::optimizer::Parts,
};

/// Training of one model on one dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FitSpec {
    /// Images of one update.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// Images that are computed at once, to save memory, or `auto`; the update is that of the whole batch. Null: the batch.
    #[serde(default)]
    pub micro_batch: Option<MicroBatch>,
    /// Ranks that share every batch, for one update of all: threads here, or processes under MPI. A schedule's warm-up
    /// rises from 1/`ranks` of the rate where it names no workers of its own. Null: no ranks.
    #[serde(default)]
    pub ranks: Option<u32>,
    /// What activations are stored in. Weights, statistics and sums are f32 in both.
    #[serde(default)]
    pub precision: Precision,
    /// What is computed twice to save memory; the result is the same to the bit.
    #[serde(default)]
    pub checkpoint: Checkpointing,
    /// Length in updates. Give `steps` or `epochs`; a HyperRule schedule has a length of its own, which `steps` overrides.
    #[serde(default)]
    pub steps: Option<u64>,
    /// Length in passes over the training images. Give `steps` or `epochs`.
    #[serde(default)]
    pub epochs: Option<f64>,
    /// How weights follow gradients.
    pub optimizer: Optimizer,
    /// Parts that keep their weights, by the beginning of parameter names: `root`, `body.block1`.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Factors on the learning rate by the beginning of parameter names: `{ head: 10 }`. The longest that fits counts.
    #[serde(default)]
    pub lr_factors: BTreeMap<String, f64>,
    /// Factor on the learning rate for each block further from the head: 0.5 gives `body.block4` half of the head's rate,
    /// `root` a thirty-second. It multiplies `lr_factors`.
    #[serde(default)]
    pub layer_decay: Option<f64>,
    /// Keeps a running mean of the weights, of which this share stays in each step; it is what is validated and published.
    #[serde(default)]
    pub ema: Option<f64>,
    /// How the learning rate runs over the training.
    #[serde(default = "default_schedule")]
    pub schedule: Schedule,
    /// What the model sees of an image.
    #[serde(default)]
    pub view: View,
    /// What is done to training images at random.
    #[serde(default)]
    pub augment: Augment,
    /// RandAugment after crop and flip: `{ n: 2, m: 9 }`.
    #[serde(default)]
    pub rand_augment: Option<RandAugment>,
    /// Alpha of mixup's Beta(alpha, alpha), drawn once a batch; 0 is no mixup. Null: as the schedule says.
    #[serde(default)]
    pub mixup: Option<f64>,
    /// Share of each target that is spread over all classes.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Weights of classes in the loss.
    #[serde(default)]
    pub class_weights: ClassWeights,
    /// Draw examples with replacement so that all classes come equally often.
    #[serde(default)]
    pub oversample: bool,
    /// How often to score the validation set; null: at the end only.
    #[serde(default)]
    pub evaluate_every: Option<Every>,
    /// Weights to end with: of the last step, or of the lowest validation loss.
    #[serde(default)]
    pub keep: Keep,
    /// Steps between two points of the learning curve; null: a hundred points in all.
    #[serde(default)]
    pub curve_every: Option<u64>,
    /// Seed of sampling order, augmentation and mixup.
    #[serde(default)]
    pub seed: u64,
}

fn default_batch() -> usize {
    32
}

fn default_schedule() -> Schedule {
    Schedule::Constant
}

/// Weights of classes in the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// Every example counts the same.
    #[default]
    None,
    /// The rarest class counts 1, others less in proportion to their number.
    Balanced,
}

/// A distance between two events.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Every {
    /// In updates.
    Steps(u64),
    /// In passes over the training images.
    Epochs(f64),
}

impl Every {
    /// In updates, at least 1.
    pub fn steps(&self, iterations_per_epoch: u64) -> u64 {
        match *self {
            Every::Steps(n) => n.max(1),
            Every::Epochs(e) => ((e * iterations_per_epoch as f64).round() as u64).max(1),
        }
    }
}

/// Weights to end with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Of the last step.
    #[default]
    Last,
    /// Of the lowest validation loss; needs validation data.
    Best,
}

impl FitSpec {
    /// All defaults around one learning rate and length; a start for building a spec in code.
    pub fn sgd_agc(lr: f64, steps: u64) -> Self {
        FitSpec {
            batch: default_batch(),
            micro_batch: None,
            ranks: None,
            steps: Some(steps),
            epochs: None,
            precision: Precision::F32,
            checkpoint: Checkpointing::None,
            optimizer: Optimizer::SgdAgc(SgdAgcSpec::new(lr)),
            freeze: Vec::new(),
            lr_factors: BTreeMap::new(),
            layer_decay: None,
            ema: None,
            schedule: default_schedule(),
            view: View::Stored,
            augment: Augment::None,
            rand_augment: None,
            mixup: None,
            label_smoothing: 0.0,
            class_weights: ClassWeights::None,
            oversample: false,
            evaluate_every: None,
            keep: Keep::Last,
            curve_every: None,
            seed: 0,
        }
    }

    /// Factors on the learning rate by the beginning of parameter names, for a model with these parameters.
    pub fn factors<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<(String, f64)> {
        let own: Vec<(String, f64)> = self.lr_factors.iter().map(|(name, &factor)| (name.clone(), factor)).collect();
        let Some(decay) = self.layer_decay else { return own };
        let parts = Parts { frozen: Vec::new(), lr_factors: own };
        names.into_iter().map(|n| (n.to_string(), parts.lr_factor(n) * decay.powi(from_head(n)))).collect()
    }

    /// The schedule, whose workers are the ranks unless it names its own.
    pub fn rates(&self) -> Schedule {
        self.schedule.clone().by_workers(self.ranks.unwrap_or(1))
    }

    /// What cannot work, whatever the data: (field, message).
    pub fn check(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut say = |wrong: bool, field: &str, text: &str| {
            if wrong {
                out.push((field.to_string(), text.to_string()));
            }
        };
        say(self.batch == 0, "batch", "must be at least 1");
        say(self.micro_batch == Some(MicroBatch::Images(0)), "micro_batch", "must be at least 1, or auto");
        say(self.ranks == Some(0), "ranks", "must be at least 1");
        let few = self.ranks.is_some_and(|n| n as usize > self.batch);
        say(few && self.batch > 0, "ranks", "must be at most the batch, which they share");
        match (self.steps, self.epochs, &self.schedule) {
            (_, Some(_), Schedule::BitHyperRule) => {
                say(true, "epochs", "the bit-hyperrule schedule has a length of its own; `steps` overrides it")
            }
            (None, None, Schedule::BitHyperRule) => {}
            (None, None, _) => say(true, "steps", "give the length in `steps` or `epochs`"),
            (Some(_), Some(_), _) => say(true, "epochs", "give `steps` or `epochs`, not both"),
            _ => {}
        }
        say(self.steps == Some(0), "steps", "must be at least 1");
        say(self.epochs.is_some_and(|e| !(e > 0.0 && e.is_finite())), "epochs", "must be above 0");
        let below = |x: f64, low: f64| !(x >= low && x.is_finite());
        let factors = self.lr_factors.values().any(|&f| below(f, 0.0));
        say(factors, "lr_factors", "must not be negative");
        let share = |x: Option<f64>| x.is_some_and(|x| !(x > 0.0 && x <= 1.0));
        say(share(self.layer_decay), "layer_decay", "must be above 0 and at most 1");
        say(self.ema.is_some_and(|d| !(0.0..1.0).contains(&d)), "ema", "must be from 0 to below 1");
        say(self.mixup.is_some_and(|a| below(a, 0.0)), "mixup", "must not be negative");
        say(!(0.0..1.0).contains(&self.label_smoothing), "label_smoothing", "must be from 0 to below 1");
        match self.evaluate_every {
            Some(Every::Steps(0)) => say(true, "evaluate_every.steps", "must be at least 1"),
            Some(Every::Epochs(e)) => say(!(e > 0.0 && e.is_finite()), "evaluate_every.epochs", "must be above 0"),
            _ => {}
        }
        say(self.curve_every == Some(0), "curve_every", "must be at least 1");
        out.extend(self.optimizer.check());
        out.extend(self.rates().check());
        out.extend(self.view.check());
        out.extend(self.augment.check(&self.view));
        out.extend(self.rand_augment.iter().flat_map(RandAugment::check));
        out
    }
}

/// Blocks between a parameter and the head, which is 0.
fn from_head(name: &str) -> i32 {
    match name.strip_prefix("body.block").and_then(|rest| rest.split('.').next()?.parse::<i32>().ok()) {
        Some(block) => 5 - block,
        None if name.starts_with("root") => 5,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rates_fall_from_the_head_to_the_root() {
        let names = ["root.conv.weight", "body.block1.unit01.gn1.bias", "body.block4.unit01.gn1.bias", "head.gn.bias"];
        let mut spec = FitSpec { layer_decay: Some(0.5), ..FitSpec::sgd_agc(0.1, 1) };
        spec.lr_factors.insert("head".into(), 10.0);
        let factors = spec.factors(names);
        assert_eq!(factors.iter().map(|(_, f)| *f).collect::<Vec<_>>(), [1.0 / 32.0, 1.0 / 16.0, 0.5, 10.0]);
        assert_eq!(FitSpec { layer_decay: None, ..spec }.factors(names), [("head".to_string(), 10.0)]);
    }

    fn problems(extra: serde_json::Value) -> Vec<String> {
        let mut json = json!({"optimizer": {"sgd_agc": {"lr": 0.01}}});
        json.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value::<FitSpec>(json).unwrap().check().into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn a_length_is_given_exactly_once() {
        assert_eq!(problems(json!({})), ["steps"]);
        assert_eq!(problems(json!({"steps": 5, "epochs": 1.0})), ["epochs"]);
        assert!(problems(json!({"epochs": 0.5})).is_empty());
        assert!(problems(json!({"schedule": "bit-hyperrule"})).is_empty());
        assert!(problems(json!({"schedule": "bit-hyperrule", "steps": 20})).is_empty());
        assert_eq!(problems(json!({"schedule": "bit-hyperrule", "epochs": 2.0})), ["epochs"]);
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let wrong = json!({
            "steps": 0, "batch": 0, "mixup": -1.0, "label_smoothing": 1.0, "evaluate_every": {"epochs": 0.0},
            "view": {"whole": {"px": 0}}, "augment": {"xray": {"scale": 1.0}},
        });
        let found = problems(wrong);
        let expected =
            ["batch", "steps", "mixup", "label_smoothing", "evaluate_every.epochs", "view.px", "augment.scale"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_spec_survives_json_and_refuses_slips() {
        let spec = FitSpec { evaluate_every: Some(Every::Epochs(0.5)), ..FitSpec::sgd_agc(0.1, 3) };
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(serde_json::from_value::<FitSpec>(json).unwrap(), spec);
        let slip = json!({"optimizer": {"sgd_agc": {"lr": 0.1}}, "epoch": 3});
        assert!(serde_json::from_value::<FitSpec>(slip).unwrap_err().to_string().contains("unknown field `epoch`"));
        let schema = serde_json::to_value(schemars::schema_for!(FitSpec)).unwrap();
        assert!(schema["properties"]["micro_batch"]["description"].as_str().unwrap().contains("save memory"));
    }
}
