//! Learning rates over a run: the HyperRule, the study's step and cosine schedules, and a constant.
//!
//! The published pre-training follows Goyal et al. 2017 (arXiv 1706.02677): the rate grows with the number
//! of workers, and warm-up rises linearly from one worker's rate to that of all. With `e` the epochs done
//! at the *end* of this iteration, K workers, W warm-up epochs and E epochs in all:
//!
//! ```text
//! top  = rate · local / base_batch · K · accumulate      local = batch of one worker and one pass
//! e ≤ W:            top / K · (e (K - 1) / W + 1)
//! step:             top · 0.1^#{ decay epochs < e }
//! cosine:           min + (top' - min) (1 + cos(π (e - W)/(E - W))) / 2      top' = top without `accumulate`
//! ```
//!
//! `accumulate` is missing from the published cosine after warm-up; that is kept, and 1 everywhere else here.
//! A schedule knows nothing of optimisers or data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hyperrule::HyperRule;

/// How the learning rate runs over the training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Schedule {
    /// BiT-HyperRule: length, warm-up, decays and mixup by the number of training examples; `steps` overrides the length.
    #[serde(rename = "bit-hyperrule")]
    BitHyperRule,
    /// The optimiser's rate throughout.
    #[serde(rename = "constant")]
    Constant,
    /// Warm-up, then a tenth at each of `decay_epochs`, as the study pre-trained.
    #[serde(rename = "step")]
    Step(StepSchedule),
    /// Warm-up, then half a cosine down to `min_lr`.
    #[serde(rename = "cosine")]
    Cosine(CosineSchedule),
}

/// Warm-up, then a tenth at each of `decay_epochs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StepSchedule {
    /// Epochs of linear warm-up from 1/`workers` of the rate. Without workers (1) there is no warm-up, as published.
    pub warmup_epochs: f64,
    /// Epochs after which the rate falls to a tenth.
    pub decay_epochs: Vec<f64>,
    /// Workers whose scaling of the rate to follow; the batch is that of all workers together. 1: the training's `ranks`.
    pub workers: u32,
    /// Batch that the optimiser's rate is meant for; the rate grows in proportion to the batch. Null: the rate as it is.
    pub base_batch: Option<u32>,
}

impl Default for StepSchedule {
    fn default() -> Self {
        StepSchedule { warmup_epochs: 0.0, decay_epochs: vec![30.0, 60.0, 80.0], workers: 1, base_batch: None }
    }
}

/// Warm-up, then half a cosine down to `min_lr`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CosineSchedule {
    /// Epochs of linear warm-up from 1/`workers` of the rate. Without workers (1) there is no warm-up, as published.
    pub warmup_epochs: f64,
    /// The rate at the end of the run.
    pub min_lr: f64,
    /// Workers whose scaling of the rate to follow; the batch is that of all workers together. 1: the training's `ranks`.
    pub workers: u32,
    /// Batch that the optimiser's rate is meant for; the rate grows in proportion to the batch. Null: the rate as it is.
    pub base_batch: Option<u32>,
}

impl Default for CosineSchedule {
    fn default() -> Self {
        CosineSchedule { warmup_epochs: 0.0, min_lr: 0.0, workers: 1, base_batch: None }
    }
}

impl Schedule {
    /// With this many workers where it names none.
    pub fn by_workers(mut self, ranks: u32) -> Self {
        match &mut self {
            Schedule::Step(StepSchedule { workers, .. }) | Schedule::Cosine(CosineSchedule { workers, .. }) => {
                if *workers == 1 {
                    *workers = ranks;
                }
            }
            Schedule::BitHyperRule | Schedule::Constant => {}
        }
        self
    }

    /// What cannot work: (field, message).
    pub fn check(&self) -> Vec<(String, String)> {
        let (warmup, workers, base) = match self {
            Schedule::BitHyperRule | Schedule::Constant => return Vec::new(),
            Schedule::Step(s) => (s.warmup_epochs, s.workers, s.base_batch),
            Schedule::Cosine(s) => (s.warmup_epochs, s.workers, s.base_batch),
        };
        let mut out = Vec::new();
        let mut say = |field: &str, text: &str| out.push((format!("schedule.{field}"), text.to_string()));
        if !(warmup >= 0.0 && warmup.is_finite()) {
            say("warmup_epochs", "must not be negative");
        }
        if workers == 0 {
            say("workers", "must be at least 1");
        } else if warmup > 0.0 && workers == 1 {
            say("warmup_epochs", "needs workers or ranks above 1: warm-up rises from 1/workers of the rate");
        }
        if base == Some(0) {
            say("base_batch", "must be at least 1");
        }
        out
    }
}

/// Sizes of a distributed run, as the published schedules scale by them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Workers (`world` in the published code).
    pub workers: u32,
    /// Passes that one update accumulates.
    pub accumulate: u32,
    /// Images of one worker in one pass.
    pub local_batch: f64,
    /// Batch that the base rate is meant for.
    pub base_batch: f64,
}

impl Scale {
    fn initial(&self, base: f64) -> f64 {
        base * self.local_batch / self.base_batch
    }

    fn warm(&self, epochs: f64, warmup: f64) -> f64 {
        let k = f64::from(self.workers);
        1.0 / k * (epochs * (k - 1.0) / warmup + 1.0)
    }
}

/// Where a run is: iteration `iteration` of epoch `epoch`, both from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    pub epoch: u64,
    pub iteration: u64,
    pub iterations_per_epoch: u64,
}

impl Place {
    /// Of step `step` (from 0).
    pub fn of(step: u64, iterations_per_epoch: u64) -> Self {
        let per = iterations_per_epoch.max(1);
        Place { epoch: step / per, iteration: step % per, iterations_per_epoch: per }
    }

    fn share(&self) -> f64 {
        (self.iteration + 1) as f64 / self.iterations_per_epoch as f64
    }

    /// Epochs done at the end of this iteration.
    fn done(&self) -> f64 {
        self.epoch as f64 + self.share()
    }
}

/// The published `step` schedule of pre-training.
pub fn step_rate(base: f64, warmup_epochs: f64, decay_epochs: &[f64], scale: &Scale, at: Place) -> f64 {
    let done = at.done();
    let factor = if done <= warmup_epochs {
        scale.warm(done, warmup_epochs)
    } else {
        match decay_epochs.iter().filter(|&&d| d < done).count() {
            0 => 1.0,
            1 => 1e-1,
            2 => 1e-2,
            3 => 1e-3,
            n => 0.1f64.powi(n as i32),
        }
    };
    scale.initial(base) * f64::from(scale.workers) * f64::from(scale.accumulate) * factor
}

/// The published `cosine` schedule of pre-training over `epochs`.
pub fn cosine_rate(base: f64, warmup_epochs: f64, min: f64, epochs: f64, scale: &Scale, at: Place) -> f64 {
    let done = at.done();
    if done <= warmup_epochs {
        let top = scale.initial(base) * f64::from(scale.workers) * f64::from(scale.accumulate);
        return top * scale.warm(done, warmup_epochs);
    }
    let now = (at.epoch as f64 - warmup_epochs) + at.share();
    let top = scale.initial(base) * f64::from(scale.workers);
    min + 0.5 * (top - min) * (1.0 + (std::f64::consts::PI * (now / (epochs - warmup_epochs))).cos())
}

/// A schedule bound to one run.
#[derive(Clone, Debug)]
pub struct Rates {
    schedule: Schedule,
    rule: Option<HyperRule>,
    base: f64,
    batch: usize,
    iterations_per_epoch: u64,
    steps: u64,
}

impl Rates {
    /// `base` is the optimiser's rate, `steps` the whole length of the run; `rule` where the schedule is the HyperRule.
    pub fn new(
        schedule: &Schedule,
        rule: Option<HyperRule>,
        base: f64,
        batch: usize,
        iterations_per_epoch: u64,
        steps: u64,
    ) -> Self {
        Rates { schedule: schedule.clone(), rule, base, batch, iterations_per_epoch, steps }
    }

    /// The learning rate of step `step` (from 0).
    pub fn at(&self, step: u64) -> f64 {
        let scale = |workers: u32, base_batch: Option<u32>| Scale {
            workers,
            accumulate: 1,
            local_batch: self.batch as f64 / f64::from(workers),
            // Without a base batch the rate is the one after warm-up, whatever the number of workers.
            base_batch: base_batch.map_or(self.batch as f64, f64::from),
        };
        let place = Place::of(step, self.iterations_per_epoch);
        match &self.schedule {
            Schedule::Constant => self.base,
            Schedule::BitHyperRule => match &self.rule {
                Some(rule) => rule.rate(step, self.base).unwrap_or_else(|| rule.final_rate(self.base)),
                None => self.base,
            },
            Schedule::Step(s) => {
                let scale = scale(s.workers, s.base_batch);
                step_rate(self.base, s.warmup_epochs, &s.decay_epochs, &scale, place)
            }
            Schedule::Cosine(s) => {
                let epochs = self.steps as f64 / self.iterations_per_epoch as f64;
                let scale = scale(s.workers, s.base_batch);
                cosine_rate(self.base, s.warmup_epochs, s.min_lr, epochs, &scale, place)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_ends_at_its_minimum_and_starts_near_the_rate() {
        let s = Schedule::Cosine(CosineSchedule { min_lr: 0.01, ..Default::default() });
        let rates = Rates::new(&s, None, 1.0, 32, 10, 200);
        assert!((rates.at(199) - 0.01).abs() < 1e-12);
        assert!(rates.at(0) > 0.999 && (0..199).all(|i| rates.at(i) > rates.at(i + 1)));
    }

    #[test]
    fn a_base_batch_scales_the_rate_and_workers_only_the_warm_up() {
        let step = |workers, base_batch| {
            let s = StepSchedule { workers, base_batch, warmup_epochs: 1.0, decay_epochs: vec![2.0] };
            Rates::new(&Schedule::Step(s), None, 0.1, 512, 4, 12)
        };
        assert!((step(8, None).at(4) - 0.1).abs() < 1e-12);
        assert!((step(8, Some(256)).at(4) - 0.2).abs() < 1e-12);
        assert!((step(8, Some(256)).at(8) - 0.02).abs() < 1e-12);
        assert!(step(8, None).at(0) < step(2, None).at(0));
    }

    #[test]
    fn words_and_maps_are_read_and_slips_are_refused() {
        let read = serde_json::from_str::<Schedule>;
        assert_eq!(read(r#""bit-hyperrule""#).unwrap(), Schedule::BitHyperRule);
        let Schedule::Step(s) = read(r#"{"step": {"workers": 4, "warmup_epochs": 2}}"#).unwrap() else { panic!() };
        assert_eq!((s.workers, s.decay_epochs.len()), (4, 3));
        assert!(read(r#"{"step": {"warm_up": 2}}"#).unwrap_err().to_string().contains("unknown field"));
        assert_eq!(read(r#"{"cosine": {"warmup_epochs": 2}}"#).unwrap().check().len(), 1);
    }
}
