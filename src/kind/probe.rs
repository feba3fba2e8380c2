//! `probe`: a small classifier on frozen features, fully or with k examples a class, and tested.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cell, InputSpec, Kind, embed,
    examples::keep_known,
    leak,
    measure::{self, Scale},
    shots::Shots,
};
use crate::{
    data::{fewshot::Draw, leakage::Leakage, loader::Labels},
    error::{Error, Result},
    eval::probe::{
        knn::Knn,
        logistic::Logistic,
        ridge::{PUBLISHED_L2, Ridge},
    },
    store::artifact::ArtifactType,
};

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
    /// What patients and images on both sides of train and test do.
    #[serde(default)]
    pub leakage: Leakage,
}

/// A classifier on features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Method {
    /// Ridge regression onto ±1 in closed form, as big_vision's few-shot evaluator.
    Ridge {
        #[serde(default = "l2")]
        l2: f64,
    },
    /// Multinomial logistic regression with an L2 penalty.
    Logistic { l2: f64 },
    /// Votes of the k most similar images, weighted by similarity over temperature.
    Knn { k: usize, temperature: f64 },
}

fn l2() -> f64 {
    PUBLISHED_L2
}

impl Default for Method {
    fn default() -> Self {
        Method::Ridge { l2: PUBLISHED_L2 }
    }
}

impl Kind for Probe {
    const NAME: &'static str = "probe";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Fits a small classifier on frozen features and tests it.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::one("features", &[ArtifactType::Features])] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("metrics", ArtifactType::Table), ("predictions", ArtifactType::Table)]
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        let mut problems = params.shots.check();
        let mut say = |wrong: bool, field: &str, text: &str| {
            if wrong {
                problems.push((field.into(), text.into()));
            }
        };
        match params.method {
            Method::Ridge { l2 } => say(!(l2 > 0.0 && l2.is_finite()), "method.ridge.l2", "must be above 0"),
            Method::Logistic { l2 } => {
                say(!(l2 >= 0.0 && l2.is_finite()), "method.logistic.l2", "must not be negative")
            }
            Method::Knn { k, temperature } => {
                say(k == 0, "method.knn.k", "must be at least 1");
                say(!(temperature > 0.0 && temperature.is_finite()), "method.knn.temperature", "must be above 0");
            }
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
        let (x, held_out) = (features.of(&train)?, features.of(&test)?);
        let (scores, scale) = fit(params.method, &x, features.width, &Labels::of(&train)?, &held_out)?;
        let facts = [("train_images", train.rows() as u64)];
        let scores = scores.into_iter().map(|s| s as f32).collect();
        measure::publish(cell, &test, scores, scale, &facts)
    }
}

/// Scores of the held-out features, row by row, and what they mean.
fn fit(method: Method, x: &[f32], width: usize, labels: &Labels, held_out: &[f32]) -> Result<(Vec<f64>, Scale)> {
    match (method, labels) {
        (Method::Ridge { l2 }, Labels::Class { classes, y }) => {
            Ok((Ridge::fit(x, width, y, *classes, l2)?.scores(held_out), Scale::Rank))
        }
        (Method::Ridge { l2 }, Labels::Multi { labels, y }) => {
            Ok((Ridge::fit_labels(x, width, y, *labels, l2)?.scores(held_out), Scale::Rank))
        }
        (Method::Logistic { l2 }, Labels::Class { classes, y }) => {
            let fitted = Logistic::path(x, width, y, *classes, &[l2])?.pop();
            let fitted = fitted.ok_or_else(|| Error::invalid("bug: a path of one penalty gave no classifier"))?;
            if !fitted.converged {
                return Err(Error::invalid("logistic regression did not converge").with_hint("raise l2"));
            }
            Ok((fitted.logits(held_out), Scale::Logit))
        }
        (Method::Knn { k, temperature }, Labels::Class { classes, y }) => {
            let p = Knn::new(x, width, y, *classes)?.probabilities(held_out, k, temperature);
            Ok((p.into_iter().map(|p| p.max(1e-12).ln()).collect(), Scale::Logit))
        }
        (Method::Logistic { .. } | Method::Knn { .. }, Labels::Multi { .. }) => {
            Err(Error::invalid("this probe needs one class an image").with_hint("use method: { ridge: {} }"))
        }
    }
}
