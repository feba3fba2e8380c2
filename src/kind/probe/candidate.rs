//! The classifiers that a probe fits, and what each says of other rows.

use serde_json::Value;

use super::{Method, OneOrMany};
use crate::{
    data::loader::Labels,
    error::{Error, Result},
    eval::probe::{knn::Knn, logistic::Logistic, ridge::Ridge},
    kind::measure::Scale,
    progress::Cancel,
};

/// One setting of a method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Candidate {
    Ridge { l2: f64 },
    Logistic { l2: f64 },
    Knn { k: usize, temperature: f64 },
}

/// Scores of rows under one candidate.
pub struct Scored {
    pub candidate: Candidate,
    /// Row-major, one score an output.
    pub scores: Vec<f64>,
    /// Whether the fit met its tolerance; `None` where there is a closed form.
    pub converged: Option<bool>,
}

/// Features of labelled rows.
pub struct Learned<'a> {
    pub x: &'a [f32],
    pub width: usize,
    pub labels: &'a Labels,
    pub cancel: &'a Cancel,
}

impl Candidate {
    /// From the strongest penalty to the weakest, so that a path of fits can start each where the last ended, and
    /// the first of equals is the simplest.
    pub fn all(method: &Method) -> Vec<Candidate> {
        let falling = |values: &OneOrMany<f64>| {
            let mut values = values.values();
            values.sort_by(|a, b| b.total_cmp(a));
            values
        };
        match method {
            Method::Ridge { l2 } => falling(l2).into_iter().map(|l2| Candidate::Ridge { l2 }).collect(),
            Method::Logistic { l2 } => falling(l2).into_iter().map(|l2| Candidate::Logistic { l2 }).collect(),
            Method::Knn { k, temperature } => {
                let mut k = k.values();
                k.sort_unstable_by(|a, b| b.cmp(a));
                k.into_iter().map(|k| Candidate::Knn { k, temperature: *temperature }).collect()
            }
        }
    }

    /// What tells candidates of one method apart, as a column.
    pub fn setting(self) -> (&'static str, Value) {
        match self {
            Candidate::Ridge { l2 } | Candidate::Logistic { l2 } => ("l2", l2.into()),
            Candidate::Knn { k, .. } => ("k", k.into()),
        }
    }

    /// What its scores mean.
    pub fn scale(self) -> Scale {
        match self {
            Candidate::Ridge { .. } => Scale::Rank,
            Candidate::Logistic { .. } | Candidate::Knn { .. } => Scale::Logit,
        }
    }
}

/// Fits every candidate, all of one method, and scores the held-out features.
pub fn fit(candidates: &[Candidate], learned: &Learned, held_out: &[f32]) -> Result<Vec<Scored>> {
    let penalties: Vec<f64> =
        candidates.iter().filter_map(|c| if let Candidate::Logistic { l2 } = c { Some(*l2) } else { None }).collect();
    if !penalties.is_empty() {
        let path = logistic(&penalties, learned, held_out)?;
        let scored = |(candidate, (scores, converged)): (&Candidate, (Vec<f64>, bool))| Scored {
            candidate: *candidate,
            scores,
            converged: Some(converged),
        };
        return Ok(candidates.iter().zip(path).map(scored).collect());
    }
    candidates
        .iter()
        .map(|&candidate| Ok(Scored { candidate, scores: one(candidate, learned, held_out)?, converged: None }))
        .collect()
}

fn one(candidate: Candidate, learned: &Learned, held_out: &[f32]) -> Result<Vec<f64>> {
    let Learned { x, width, labels, cancel } = learned;
    cancel.check()?;
    match (candidate, labels) {
        (Candidate::Ridge { l2 }, Labels::Class { classes, y }) => {
            Ok(Ridge::fit(x, *width, y, *classes, l2)?.scores(held_out))
        }
        (Candidate::Ridge { l2 }, Labels::Multi { labels, y }) => {
            Ok(Ridge::fit_labels(x, *width, y, *labels, l2)?.scores(held_out))
        }
        (Candidate::Knn { k, temperature }, Labels::Class { classes, y }) => {
            let p = Knn::new(x, *width, y, *classes)?.probabilities(held_out, k, temperature);
            Ok(p.into_iter().map(|p| p.max(1e-12).ln()).collect())
        }
        (Candidate::Knn { k, temperature }, Labels::Multi { labels, y }) => {
            per_label(*labels, y, learned, held_out, |x, class, rows| {
                let p = Knn::new(x, *width, class, 2)?.probabilities(rows, k, temperature);
                Ok(p.chunks_exact(2).map(|p| p[1].max(1e-12).ln() - p[0].max(1e-12).ln()).collect())
            })
        }
        (Candidate::Logistic { .. }, _) => Err(Error::invalid("bug: a logistic probe is fitted along its path")),
    }
}

/// Of every penalty, logits and whether every fit converged.
fn logistic(penalties: &[f64], learned: &Learned, held_out: &[f32]) -> Result<Vec<(Vec<f64>, bool)>> {
    match learned.labels {
        Labels::Class { classes, y } => {
            let path = Logistic::path(learned.x, learned.width, y, *classes, penalties, learned.cancel)?;
            Ok(path.iter().map(|fit| (fit.logits(held_out), fit.converged)).collect())
        }
        Labels::Multi { labels, y } => {
            let rows = held_out.len() / learned.width;
            let mut out = vec![(vec![0.0; rows * labels], true); penalties.len()];
            for label in 0..*labels {
                let (x, class) = known(label, *labels, y, learned);
                let path = Logistic::path(&x, learned.width, &class, 2, penalties, learned.cancel)?;
                for ((scores, converged), fit) in out.iter_mut().zip(&path) {
                    *converged &= fit.converged;
                    for (row, z) in fit.logits(held_out).chunks_exact(2).enumerate() {
                        scores[row * labels + label] = z[1] - z[0];
                    }
                }
            }
            Ok(out)
        }
    }
}

/// One column of scores a label, from a two-class fit on the rows where it is known.
fn per_label(
    labels: usize,
    y: &[i8],
    learned: &Learned,
    held_out: &[f32],
    fit: impl Fn(&[f32], &[i32], &[f32]) -> Result<Vec<f64>>,
) -> Result<Vec<f64>> {
    let mut out = vec![0.0; held_out.len() / learned.width * labels];
    for label in 0..labels {
        learned.cancel.check()?;
        let (x, class) = known(label, labels, y, learned);
        for (row, score) in fit(&x, &class, held_out)?.into_iter().enumerate() {
            out[row * labels + label] = score;
        }
    }
    Ok(out)
}

fn known(label: usize, labels: usize, y: &[i8], learned: &Learned) -> (Vec<f32>, Vec<i32>) {
    let of = y.iter().skip(label).step_by(labels).enumerate().filter(|(_, y)| **y >= 0);
    let (mut x, mut class) = (Vec::new(), Vec::new());
    for (row, &y) in of {
        x.extend_from_slice(&learned.x[row * learned.width..(row + 1) * learned.width]);
        class.push(i32::from(y > 0));
    }
    (x, class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream::Stream;

    fn rows(n: usize) -> (Vec<f32>, Vec<i8>) {
        let mut s = Stream::new(3, "probe test", 0, 0);
        let y: Vec<i8> = (0..n * 2).map(|i| if i % 7 == 6 { -1 } else { s.below(2) as i8 }).collect();
        let x =
            y.chunks(2).flat_map(|y| [f32::from(y[0]) + s.normal() as f32, f32::from(y[1]) * 3.0 + s.normal() as f32]);
        (x.collect(), y)
    }

    #[test]
    fn every_method_reads_several_labels_and_leaves_unknowns_out() {
        let (x, y) = rows(60);
        let labels = Labels::Multi { labels: 2, y: y.clone() };
        let learned = Learned { x: &x, width: 2, labels: &labels, cancel: &Cancel::default() };
        for candidate in
            [Candidate::Ridge { l2: 1.0 }, Candidate::Logistic { l2: 0.01 }, Candidate::Knn { k: 9, temperature: 0.1 }]
        {
            let scored = fit(&[candidate], &learned, &x).unwrap();
            let second: Vec<f64> = scored[0].scores.iter().skip(1).step_by(2).copied().collect();
            let (s, t): (Vec<f64>, Vec<bool>) = second
                .iter()
                .zip(y.iter().skip(1).step_by(2))
                .filter(|(_, y)| **y >= 0)
                .map(|(s, y)| (*s, *y > 0))
                .unzip();
            let auc = crate::eval::metric::ranking::auroc(&s, &t).unwrap();
            assert!(auc > 0.8, "{candidate:?}: {auc}");
        }
    }

    #[test]
    fn candidates_go_from_the_simplest_on() {
        let method = Method::Logistic { l2: OneOrMany::Many(vec![0.01, 1.0, 0.1]) };
        let l2: Vec<Value> = Candidate::all(&method).iter().map(|c| c.setting().1).collect();
        assert_eq!(l2, [1.0, 0.1, 0.01]);
    }
}
