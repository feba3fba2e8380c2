//! A spec bound to one dataset: lengths, rates, and the feeding of batches.
//!
//! Everything is a function of the step; nothing here changes from step to step but the sampler's cache.

use std::ops::Range;

use super::{
    hyperrule::HyperRule,
    mixup::{self, Mix},
    sampler::Sampler,
    schedule::{Rates, Schedule},
    spec::{ClassWeights, FitSpec},
    targets::{Owned, TargetRule, balanced, class_counts},
};
use crate::{
    data::loader::{Draw, Examples, Labels, TrainView},
    error::Result,
    nn::looks::Looks,
};

/// What a spec means for one dataset.
pub struct Course {
    /// Updates in all.
    pub steps: u64,
    /// Updates of one pass over the examples, rounded up.
    pub iterations_per_epoch: u64,
    pub rates: Rates,
    /// Alpha of mixup; 0 is none.
    pub mixup: f64,
    /// Updates between two scores of the validation set.
    pub evaluate_every: u64,
    /// Updates between two points of the curve.
    pub curve_every: u64,
}

impl Course {
    pub fn new(spec: &FitSpec, examples: usize) -> Self {
        let per_epoch = (examples as u64).div_ceil(spec.batch as u64);
        let rule = matches!(spec.schedule, Schedule::BitHyperRule).then(|| match spec.steps {
            Some(steps) => HyperRule::with_steps(examples, steps),
            None => HyperRule::for_size(examples),
        });
        let steps = match (spec.steps, spec.epochs, &rule) {
            (Some(steps), _, _) => steps,
            (None, Some(epochs), _) => ((epochs * per_epoch as f64).ceil() as u64).max(1),
            (None, None, Some(rule)) => rule.steps(),
            (None, None, None) => 1,
        };
        let mixup = spec.mixup.or(rule.as_ref().map(HyperRule::mixup)).unwrap_or(0.0);
        Course {
            steps,
            iterations_per_epoch: per_epoch,
            rates: Rates::new(&spec.rates(), rule, spec.optimizer.lr(), spec.batch, per_epoch, steps),
            mixup,
            evaluate_every: spec.evaluate_every.map_or(steps, |e| e.steps(per_epoch)),
            curve_every: spec.curve_every.unwrap_or(steps.div_ceil(100)).max(1),
        }
    }

    /// Whether validation or a point of the curve follows these many steps.
    pub fn due(&self, done: u64) -> bool {
        done == self.steps || done.is_multiple_of(self.evaluate_every) || done.is_multiple_of(self.curve_every)
    }
}

/// One batch on its way into the model.
pub struct Batch {
    draws: Vec<Draw>,
    mix: Option<Mix>,
    /// The draws mixed in, in the order of `draws`.
    partners: Vec<Draw>,
    /// What the summed losses are divided by.
    divisor: f64,
}

impl Batch {
    /// What each term of the loss is multiplied by; 0 where nothing is known.
    pub fn scale(&self) -> f64 {
        if self.divisor > 0.0 { 1.0 / self.divisor } else { 0.0 }
    }
}

/// Where batches come from.
pub struct Feed<'a> {
    train: &'a Examples,
    spec: &'a FitSpec,
    /// Images computed at once.
    micro: usize,
    /// What this rank takes of every batch.
    share: Range<usize>,
    sampler: Sampler,
    rule: TargetRule,
    mixup: f64,
}

impl<'a> Feed<'a> {
    /// Class weights and sampling chances follow the classes of `train`. `mixup` is its alpha, `micro` the number of
    /// images computed at once, `share` what this rank takes of every batch.
    pub fn new(train: &'a Examples, spec: &'a FitSpec, mixup: f64, micro: usize, share: Range<usize>) -> Self {
        let mut weights = None;
        let mut sampler = Sampler::shuffled(train.len(), spec.seed);
        if let Labels::Class { classes, y } = train.labels() {
            let even = balanced(&class_counts(*classes, y));
            if spec.oversample {
                let chances: Vec<f64> = y.iter().map(|&c| even[c as usize]).collect();
                sampler = Sampler::weighted(&chances, spec.seed);
            }
            if spec.class_weights == ClassWeights::Balanced {
                weights = Some(even);
            }
        }
        Feed {
            train,
            spec,
            micro,
            share,
            sampler,
            rule: TargetRule { smoothing: spec.label_smoothing, weights },
            mixup,
        }
    }

    /// What step `step` (from 0) trains on.
    pub fn batch(&mut self, step: u64) -> Batch {
        let draws = self.sampler.batch(step, self.spec.batch);
        let mix = mixup::draw(self.mixup, self.spec.seed, step, draws.len());
        let partners = mix.iter().flat_map(|m| &m.partners).map(|&p| draws[p as usize]).collect();
        let divisor = self.rule.divisor(self.train.labels(), &draws, mix.as_ref());
        Batch { draws, mix, partners, divisor }
    }

    /// The images of a part of a batch, for a device to render.
    pub fn looks(&self, batch: &Batch, range: Range<usize>) -> Result<Looks> {
        let FitSpec { view, augment, rand_augment, seed, .. } = self.spec;
        let how = TrainView { view, augment, rand_augment: rand_augment.as_ref(), seed: *seed };
        let partners = batch.mix.as_ref().map_or(&[][..], |_| &batch.partners[range.clone()]);
        let share = batch.mix.as_ref().map(|m| m.share as f32);
        let found = self.train.looks(&batch.draws[range], partners, &how)?;
        Ok(Looks { share, ..found })
    }

    /// The images of a part of a batch.
    pub fn fill(&self, batch: &Batch, range: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let FitSpec { view, augment, rand_augment, seed, .. } = self.spec;
        let how = TrainView { view, augment, rand_augment: rand_augment.as_ref(), seed: *seed };
        let mixed = batch.mix.as_ref().map(|m| (&batch.partners[range.clone()], m.share as f32));
        self.train.fill_train(&batch.draws[range], mixed, &how, out)
    }

    /// The targets of a part of a batch.
    pub fn targets(&self, batch: &Batch, range: Range<usize>) -> Owned {
        self.rule.of(self.train.labels(), &batch.draws, batch.mix.as_ref(), range)
    }

    /// The micro-batches of this rank's share of a batch.
    pub fn parts(&self) -> Vec<Range<usize>> {
        let Range { start, end } = self.share;
        (start..end).step_by(self.micro).map(|from| from..(from + self.micro).min(end)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::spec::Every;

    #[test]
    fn lengths_come_from_steps_epochs_or_the_rule() {
        let spec = |json: serde_json::Value| {
            let mut spec = serde_json::json!({"optimizer": {"sgd_agc": {"lr": 0.1}}, "batch": 8});
            spec.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
            Course::new(&serde_json::from_value(spec).unwrap(), 20)
        };
        assert_eq!(spec(serde_json::json!({"steps": 7})).steps, 7);
        let by_epochs = spec(serde_json::json!({"epochs": 2.5}));
        assert_eq!((by_epochs.steps, by_epochs.iterations_per_epoch), (8, 3));
        let rule = spec(serde_json::json!({"schedule": "bit-hyperrule"}));
        assert_eq!((rule.steps, rule.mixup, rule.curve_every), (500, 0.0, 5));
        let long = spec(serde_json::json!({"schedule": "bit-hyperrule", "steps": 20_000}));
        assert_eq!((long.steps, long.mixup, long.rates.at(250)), (20_000, 0.1, 0.05));
        let off = spec(serde_json::json!({"schedule": "bit-hyperrule", "steps": 20_000, "mixup": 0.0}));
        assert_eq!(off.mixup, 0.0);
        assert_eq!((Every::Epochs(0.1).steps(3), Every::Epochs(2.0).steps(3)), (1, 6));
    }
}
