//! One metric of one set of predictions at any rows, with repeats: what a bootstrap of cases asks for thousands of
//! times.
//!
//! Accuracy, AUROC and average precision are prepared once and then take time in proportion to the rows drawn.
//! Every other metric is scored anew by [`score_probabilities`], which is right and slower.

use super::{
    Truth,
    accuracy::arg_max,
    mean_defined,
    probability::{sigmoid, softmax},
    ranking::Ranked,
    score_probabilities,
};

/// A metric ready for any rows.
#[derive(Clone, Debug)]
pub struct AtRows {
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    /// Of every row, the cells that are right and those with a known truth.
    Right(Vec<(u32, u32)>),
    /// Mean over classes of the area under the ROC curve, or of average precision.
    Ranked {
        classes: Vec<Option<Ranked>>,
        precision: bool,
    },
    Whole {
        metric: String,
        class: Option<usize>,
        width: usize,
        probability: Vec<f64>,
        truth: Owned,
    },
}

#[derive(Clone, Debug)]
enum Owned {
    Class(Vec<i32>),
    Labels(Vec<i8>),
}

impl AtRows {
    /// `metric` as in [`super`], of one class or over all; `logits` are rows × `width`.
    pub fn new<T: Copy + Into<f64>>(
        metric: &str,
        class: Option<usize>,
        logits: &[T],
        width: usize,
        truth: Truth<'_>,
    ) -> Self {
        let probability = match truth {
            Truth::Class(_) => softmax(logits, width),
            Truth::Labels(_) => logits.iter().map(|&x| sigmoid(x.into())).collect(),
        };
        let how = match (metric, class) {
            ("accuracy", None) => How::Right(right(&probability, width, truth)),
            ("mean_auc" | "mean_ap", None) | ("auc" | "ap", Some(_)) => {
                let classes = class.map_or(0..width, |c| c..c + 1);
                How::Ranked {
                    classes: classes.map(|c| ranked(&probability, width, truth, c)).collect(),
                    precision: metric.ends_with("ap"),
                }
            }
            _ => How::Whole {
                metric: metric.into(),
                class,
                width,
                probability,
                truth: match truth {
                    Truth::Class(c) => Owned::Class(c.to_vec()),
                    Truth::Labels(l) => Owned::Labels(l.to_vec()),
                },
            },
        };
        AtRows { how }
    }

    /// The metric of these rows; `None` where they do not bear it.
    pub fn at(&self, rows: &[u32]) -> Option<f64> {
        match &self.how {
            How::Right(cells) => {
                let (mut right, mut known) = (0u64, 0u64);
                for &row in rows {
                    let (r, k) = cells[row as usize];
                    right += u64::from(r);
                    known += u64::from(k);
                }
                (known > 0).then(|| right as f64 / known as f64)
            }
            How::Ranked { classes, precision } => {
                mean_defined(classes.iter().map(|c| {
                    c.as_ref().and_then(|c| if *precision { c.average_precision(rows) } else { c.auroc(rows) })
                }))
            }
            How::Whole { metric, class, width, probability, truth } => {
                let cells = |r: &u32| *r as usize * width..(*r as usize + 1) * width;
                let probability: Vec<f64> = rows.iter().flat_map(|r| &probability[cells(r)]).copied().collect();
                let scores = match truth {
                    Owned::Class(y) => {
                        let y: Vec<i32> = rows.iter().map(|&r| y[r as usize]).collect();
                        score_probabilities(&probability, *width, Truth::Class(&y))
                    }
                    Owned::Labels(y) => {
                        let y: Vec<i8> = rows.iter().flat_map(|r| &y[cells(r)]).copied().collect();
                        score_probabilities(&probability, *width, Truth::Labels(&y))
                    }
                };
                match class {
                    Some(class) => scores.class_value(metric, *class),
                    None => scores.value(metric),
                }
            }
        }
    }
}

fn right(probability: &[f64], width: usize, truth: Truth<'_>) -> Vec<(u32, u32)> {
    let rows = probability.chunks_exact(width.max(1));
    match truth {
        Truth::Class(y) => rows
            .zip(y)
            .map(|(row, &y)| (u32::from(y >= 0 && arg_max(row) == usize::try_from(y).ok()), u32::from(y >= 0)))
            .collect(),
        Truth::Labels(y) => rows
            .zip(y.chunks_exact(width.max(1)))
            .map(|(row, y)| {
                let known = y.iter().filter(|y| **y >= 0).count();
                let right = row.iter().zip(y).filter(|(p, y)| **y >= 0 && (**y > 0) == (**p > 0.5)).count();
                (right as u32, known as u32)
            })
            .collect(),
    }
}

fn ranked(probability: &[f64], width: usize, truth: Truth<'_>, class: usize) -> Option<Ranked> {
    let scores: Vec<f64> = probability.iter().skip(class).step_by(width).copied().collect();
    let positive = match truth {
        Truth::Class(y) => y.iter().map(|&y| (y >= 0).then_some(y as usize == class)).collect(),
        Truth::Labels(y) => y.iter().skip(class).step_by(width).map(|&y| (y >= 0).then_some(y > 0)).collect(),
    };
    Ranked::new(&scores, positive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{eval::metric::score, random::stream::Stream};

    #[test]
    fn every_metric_at_all_rows_is_that_of_the_whole() {
        let (n, width) = (40, 3);
        let mut s = Stream::new(5, "at rows test", 0, 0);
        let logits: Vec<f32> = (0..n * width).map(|_| (s.normal() * 2.0).round() as f32).collect();
        let class: Vec<i32> = (0..n).map(|_| s.below(4) as i32 - 1).collect();
        let labels: Vec<i8> = (0..n * width).map(|_| s.below(3) as i8 - 1).collect();
        let rows: Vec<u32> = (0..n as u32).rev().collect();
        for truth in [Truth::Class(&class), Truth::Labels(&labels)] {
            for m in score(&logits, width, truth).measurements {
                let found = AtRows::new(m.metric, m.class, &logits, width, truth).at(&rows);
                match (found, m.value) {
                    (Some(a), Some(b)) => assert!((a - b).abs() < 1e-12, "{}: {a} {b}", m.metric),
                    (a, b) => assert_eq!(a, b, "{}", m.metric),
                }
            }
        }
    }

    #[test]
    fn a_resample_without_a_class_leaves_its_area_undefined() {
        let truth = Truth::Class(&[0, 1, 1]);
        let metric = AtRows::new("auc", Some(1), &[1.0f32, 0.0, 0.0, 1.0, 0.5, 0.0], 2, truth);
        assert_eq!((metric.at(&[0, 1]), metric.at(&[1, 2, 2])), (Some(1.0), None));
        assert_eq!(AtRows::new("accuracy", None, &[1.0f32, 0.0, 0.0, 1.0, 0.5, 0.0], 2, truth).at(&[2, 2]), Some(0.0));
    }
}
