//! `probe`: a small classifier on frozen features, fully or with k examples a class, and tested.
//!
//! Where a penalty or a number of neighbours is a list, the value is chosen by validation rows, never by the test's;
//! `path` tells what each was worth there.

mod candidate;
mod choose;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cell, InputSpec, Kind, embed, examples::keep_known, frames, leak, measure, shots::Shots};
use crate::{
    data::{fewshot::Draw, leakage::Leakage, loader::Labels},
    error::{Error, Result},
    eval::probe::ridge::PUBLISHED_L2,
    store::artifact::ArtifactType,
};

use candidate::{Candidate, Learned};
pub use choose::Validation;

pub struct Probe;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The features: an `embed` node.
    pub features: String,
    /// The classifier.
    #[serde(default)]
    pub method: Method,
    /// Examples of each class to learn from, or `full`.
    #[serde(default)]
    pub shots: Shots,
    /// By which of the two published rules few-shot examples are drawn.
    #[serde(default)]
    pub draw: Draw,
    /// Seed of the draw.
    #[serde(default)]
    pub seed: u32,
    /// Rows to choose by where the method names several values; needed then, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// What patients and images on both sides of train and test do.
    #[serde(default)]
    pub leakage: Leakage,
}

/// A classifier on features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Method {
    /// Ridge regression onto ±1 in closed form, as big_vision's few-shot evaluator.
    Ridge {
        /// The penalty, or a list of them.
        #[serde(default = "l2")]
        l2: OneOrMany<f64>,
    },
    /// Multinomial logistic regression with an L2 penalty, one two-class regression a label where there are several.
    Logistic {
        /// The penalty, or a list of them: a regularisation path.
        l2: OneOrMany<f64>,
    },
    /// Votes of the k most similar images, weighted by similarity over temperature.
    Knn {
        /// The number of neighbours, or a list of them.
        k: OneOrMany<usize>,
        temperature: f64,
    },
}

/// A value, or several to choose from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Copy> OneOrMany<T> {
    pub fn values(&self) -> Vec<T> {
        match self {
            OneOrMany::One(value) => vec![*value],
            OneOrMany::Many(values) => values.clone(),
        }
    }
}

fn l2() -> OneOrMany<f64> {
    OneOrMany::One(PUBLISHED_L2)
}

impl Default for Method {
    fn default() -> Self {
        Method::Ridge { l2: l2() }
    }
}

impl Kind for Probe {
    const NAME: &'static str = "probe";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Fits a small classifier on frozen features and tests it.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::one("features", &[ArtifactType::Features])] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        const {
            &[
                ("metrics", ArtifactType::Table),
                ("predictions", ArtifactType::Table),
                ("confusion", ArtifactType::Table),
                ("thresholds", ArtifactType::Table),
                ("path", ArtifactType::Table),
            ]
        }
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        let mut problems = params.shots.check();
        let mut say = |wrong: bool, field: &str, text: &str| {
            if wrong {
                problems.push((field.into(), text.into()));
            }
        };
        let fine = |l2: &OneOrMany<f64>, least: fn(f64) -> bool| l2.values().iter().all(|v| v.is_finite() && least(*v));
        let several = match &params.method {
            Method::Ridge { l2 } => {
                say(!fine(l2, |v| v > 0.0), "method.ridge.l2", "must be above 0");
                l2.values().len()
            }
            Method::Logistic { l2 } => {
                say(!fine(l2, |v| v >= 0.0), "method.logistic.l2", "must not be negative");
                l2.values().len()
            }
            Method::Knn { k, temperature } => {
                say(k.values().contains(&0), "method.knn.k", "must be at least 1");
                say(!(*temperature > 0.0 && temperature.is_finite()), "method.knn.temperature", "must be above 0");
                k.values().len()
            }
        };
        say(several == 0, "method", "names no value");
        say(several > 1 && params.validation.is_none(), "validation", "is needed to choose between several values");
        say(
            several < 2 && params.validation.is_some(),
            "validation",
            "has nothing to choose: the method names one value",
        );
        if let Some(Validation::Part(part)) = params.validation {
            say(!(part > 0.0 && part < 1.0), "validation.part", "must be above 0 and below 1");
        }
        problems
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let node = cell.one("features")?.node.clone();
        let features = embed::read(cell, "features")?;
        let side = |split: &str| -> Result<_> {
            let rows = features.rows.split(split)?;
            if rows.rows() == 0 {
                return Err(Error::invalid(format!("{node} has no rows in split {split}")));
            }
            keep_known(cell, rows, &node)
        };
        let (train, test) = (side("train")?, side("test")?);
        leak::check(cell, params.leakage, ("train", &train), ("test", &test))?;
        let train = train.take(&params.shots.draw(&train, params.draw, params.seed, &node)?)?;
        let candidates = Candidate::all(&params.method);
        let chosen = match (&params.validation, candidates.as_slice()) {
            (Some(validation), [_, _, ..]) => {
                if let Validation::Split(name) = validation {
                    leak::check(cell, params.leakage, (name, &features.rows.split(name)?), ("test", &test))?;
                }
                let known = keep_known(cell, features.rows.clone(), &node)?;
                let found = choose::choose(
                    &candidates,
                    &features,
                    &train,
                    &known,
                    validation,
                    params.seed,
                    &node,
                    cell.cancel,
                )?;
                frames::publish(cell, "path", &found.path)?;
                found.candidate
            }
            (_, [only, ..]) => *only,
            _ => return Err(Error::invalid("the method names no value")),
        };
        cell.cancel.check()?;
        let (x, held_out) = (features.of(&train)?, features.of(&test)?);
        let labels = Labels::of(&train)?;
        let learned = Learned { x: &x, width: features.width, labels: &labels, cancel: cell.cancel };
        let scored = candidate::fit(&[chosen], &learned, &held_out)?.pop();
        let scored = scored.ok_or_else(|| Error::invalid("bug: one candidate gave no scores"))?;
        if scored.converged == Some(false) {
            return Err(Error::invalid("logistic regression did not converge").with_hint("raise l2"));
        }
        if candidates.len() == 1 {
            frames::publish(cell, "path", &choose::nothing(chosen, scored.converged)?)?;
        }
        let facts = [("train_images", train.rows() as u64)];
        let scores = scored.scores.into_iter().map(|s| s as f32).collect();
        measure::publish(cell, &test, scores, chosen.scale(), &facts)
    }
}
