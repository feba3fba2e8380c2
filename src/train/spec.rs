//! What a training is asked to do, as it stands in a pipeline file.
//!
//! Field comments become the help that editors show. Nothing here runs; [`FitSpec::check`] finds what
//! cannot work before anything does.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use crate::data::augment::{Augment, View};

/// Training of one model on one dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FitSpec {
    /// Images of one update.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// Images that are computed at once, to save memory; the update is that of the whole batch. Null: the batch.
    #[serde(default)]
    pub micro_batch: Option<usize>,
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
    /// How the learning rate runs over the training.
    #[serde(default = "default_schedule")]
    pub schedule: Schedule,
    /// What the model sees of an image.
    #[serde(default)]
    pub view: View,
    /// What is done to training images at random.
    #[serde(default)]
    pub augment: Augment,
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

/// How weights follow gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Optimizer {
    /// SGD with Nesterov momentum and adaptive gradient clipping, as the study trained.
    SgdAgc(SgdAgcSpec),
}

/// SGD with Nesterov momentum and adaptive gradient clipping (Brock et al. 2021, arXiv 2102.06171).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SgdAgcSpec {
    /// Learning rate that the schedule starts from.
    pub lr: f64,
    /// Share of the last movement that is kept.
    #[serde(default = "default_momentum")]
    pub momentum: f64,
    /// Share of the weights that is added to the gradient, after clipping.
    #[serde(default)]
    pub weight_decay: f64,
    /// Largest gradient norm of an output unit, as a share of its weights' norm; null: no clipping.
    #[serde(default = "default_clipping")]
    pub clipping: Option<f64>,
    /// Smallest norm of weights that clipping assumes.
    #[serde(default = "default_eps")]
    pub eps: f64,
}

fn default_momentum() -> f64 {
    0.9
}

fn default_clipping() -> Option<f64> {
    Some(0.01)
}

fn default_eps() -> f64 {
    1e-3
}

impl Optimizer {
    /// The rate that schedules start from.
    pub fn lr(&self) -> f64 {
        match self {
            Optimizer::SgdAgc(s) => s.lr,
        }
    }
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
            steps: Some(steps),
            epochs: None,
            optimizer: Optimizer::SgdAgc(SgdAgcSpec {
                lr,
                momentum: default_momentum(),
                weight_decay: 0.0,
                clipping: default_clipping(),
                eps: default_eps(),
            }),
            freeze: Vec::new(),
            lr_factors: BTreeMap::new(),
            schedule: default_schedule(),
            view: View::Stored,
            augment: Augment::None,
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

    /// Images computed at once.
    pub fn micro(&self) -> usize {
        self.micro_batch.unwrap_or(self.batch).min(self.batch)
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
        say(self.micro_batch == Some(0), "micro_batch", "must be at least 1");
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
        let Optimizer::SgdAgc(o) = &self.optimizer;
        let below = |x: f64, low: f64| !(x >= low && x.is_finite());
        say(below(o.lr, 0.0), "optimizer.sgd_agc.lr", "must not be negative");
        say(!(0.0..1.0).contains(&o.momentum), "optimizer.sgd_agc.momentum", "must be from 0 to below 1");
        say(below(o.weight_decay, 0.0), "optimizer.sgd_agc.weight_decay", "must not be negative");
        let clipping = o.clipping.is_some_and(|c| !(c > 0.0 && c.is_finite()));
        say(clipping, "optimizer.sgd_agc.clipping", "must be above 0, or null for no clipping");
        say(below(o.eps, 0.0), "optimizer.sgd_agc.eps", "must not be negative");
        let factors = self.lr_factors.values().any(|&f| below(f, 0.0));
        say(factors, "lr_factors", "must not be negative");
        say(self.mixup.is_some_and(|a| below(a, 0.0)), "mixup", "must not be negative");
        say(!(0.0..1.0).contains(&self.label_smoothing), "label_smoothing", "must be from 0 to below 1");
        match self.evaluate_every {
            Some(Every::Steps(0)) => say(true, "evaluate_every.steps", "must be at least 1"),
            Some(Every::Epochs(e)) => say(!(e > 0.0 && e.is_finite()), "evaluate_every.epochs", "must be above 0"),
            _ => {}
        }
        say(self.curve_every == Some(0), "curve_every", "must be at least 1");
        out.extend(self.schedule.check());
        out.extend(self.view.check());
        out.extend(self.augment.check(&self.view));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
