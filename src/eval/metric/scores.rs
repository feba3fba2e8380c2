//! All metrics of one set of predictions, as rows for a frame.

use rayon::prelude::*;

use super::{
    accuracy::{accuracy, arg_max, balanced, top_k},
    calibration::{brier, brier_classes, ece, log_loss, log_loss_classes},
    confusion::Confusion,
    decision::Counts,
    mean_defined,
    probability::{sigmoid, softmax},
    ranking::{auroc, average_precision, youden},
};

const ECE_BINS: usize = 15;

/// What was to be predicted, row by row. Values below 0 are unknown.
#[derive(Clone, Copy, Debug)]
pub enum Truth<'a> {
    /// One class index a row.
    Class(&'a [i32]),
    /// `width` values a row: 1 present, 0 absent.
    Labels(&'a [i8]),
}

/// One number: one row of a metrics frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// A name of the table in [`super`]; means have their own names.
    pub metric: &'static str,
    /// Class or label index; `None` for a number about all of them.
    pub class: Option<usize>,
    pub value: Option<f64>,
    /// Rows with a known truth that the number rests on (label cells for means of a multi-label task).
    pub rows: u64,
    /// Positives among them, for numbers about one class.
    pub positives: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Scores {
    pub measurements: Vec<Measurement>,
    /// How many measurements have no value.
    pub undefined: u64,
    /// Single-label tasks.
    pub confusion: Option<Confusion>,
}

impl Scores {
    /// The value of a metric over all classes.
    pub fn value(&self, metric: &str) -> Option<f64> {
        self.measurements.iter().find(|m| m.metric == metric && m.class.is_none()).and_then(|m| m.value)
    }

    /// The value of a metric of one class or label.
    pub fn class_value(&self, metric: &str, class: usize) -> Option<f64> {
        self.measurements.iter().find(|m| m.metric == metric && m.class == Some(class)).and_then(|m| m.value)
    }
}

/// One class or label against the rest.
struct OneAgainstRest {
    rows: u64,
    positives: u64,
    /// In the order of [`PER_CLASS`].
    values: Vec<Option<f64>>,
}

const PER_CLASS: [&str; 5] = ["auc", "ap", "precision", "recall", "f1"];
const MEANS: [&str; 5] = ["mean_auc", "mean_ap", "macro_precision", "macro_recall", "macro_f1"];
const PER_LABEL: [&str; 4] = ["log_loss", "brier", "ece", "youden_threshold"];

/// Scores `width` logits a row (row-major) against the truth.
///
/// # Panics
/// With a message that begins with `bug:` where the lengths do not fit together.
pub fn score<T: Copy + Into<f64>>(logits: &[T], width: usize, truth: Truth<'_>) -> Scores {
    let cells = match truth {
        Truth::Class(c) => c.len() * width,
        Truth::Labels(l) => l.len(),
    };
    assert_eq!(logits.len(), cells, "bug: {} logits for {cells} cells of width {width}", logits.len());
    let probability = match truth {
        Truth::Class(_) => softmax(logits, width),
        Truth::Labels(_) => logits.iter().map(|&x| sigmoid(x.into())).collect(),
    };
    score_probabilities(&probability, width, truth)
}

/// As [`score`], from probabilities: rows that sum to 1 for classes, each in [0, 1] for labels.
pub fn score_probabilities(probability: &[f64], width: usize, truth: Truth<'_>) -> Scores {
    match truth {
        Truth::Class(class) => score_classes(probability, width, class),
        Truth::Labels(labels) => score_labels(probability, width, labels),
    }
}

fn score_classes(probability: &[f64], width: usize, class: &[i32]) -> Scores {
    let rows: Vec<usize> = (0..class.len()).filter(|&i| class[i] >= 0).collect();
    let known = rows.len() as u64;
    let predicted: Vec<Option<usize>> = probability.chunks_exact(width.max(1)).map(arg_max).collect();
    let per: Vec<OneAgainstRest> = (0..width)
        .into_par_iter()
        .map(|c| {
            let scores: Vec<f64> = rows.iter().map(|&i| probability[i * width + c]).collect();
            let positive: Vec<bool> = rows.iter().map(|&i| class[i] as usize == c).collect();
            let counts = Counts::new(rows.iter().map(|&i| (predicted[i] == Some(c), class[i] as usize == c)));
            let values = vec![
                auroc(&scores, &positive),
                average_precision(&scores, &positive),
                counts.precision(),
                counts.recall(),
                counts.f1(),
            ];
            OneAgainstRest { rows: known, positives: positive.iter().filter(|&&y| y).count() as u64, values }
        })
        .collect();
    let right: Vec<bool> = rows.iter().map(|&i| predicted[i] == Some(class[i] as usize)).collect();
    let top: Vec<f64> = rows.iter().map(|&i| predicted[i].map_or(f64::NAN, |p| probability[i * width + p])).collect();
    let all = |metric, value| Measurement { metric, class: None, value, rows: known, positives: None };
    let mut measurements = vec![
        all("accuracy", accuracy(&predicted, class)),
        all("balanced_accuracy", balanced(&predicted, class, width)),
    ];
    if width > 5 {
        measurements.push(all("top5_accuracy", top_k(probability, width, class, 5)));
    }
    measurements.extend(means(&per, known));
    measurements.push(all("log_loss", log_loss_classes(probability, width, class)));
    measurements.push(all("brier", brier_classes(probability, width, class)));
    measurements.push(all("ece", ece(&top, &right, ECE_BINS)));
    measurements.extend(rows_of(&per, &PER_CLASS));
    finish(measurements, Some(Confusion::new(&predicted, class, width)))
}

fn score_labels(probability: &[f64], width: usize, labels: &[i8]) -> Scores {
    let n = labels.len().checked_div(width).unwrap_or(0);
    let per: Vec<OneAgainstRest> = (0..width)
        .into_par_iter()
        .map(|l| {
            let rows: Vec<usize> = (0..n).map(|i| i * width + l).filter(|&k| labels[k] >= 0).collect();
            let scores: Vec<f64> = rows.iter().map(|&k| probability[k]).collect();
            let positive: Vec<bool> = rows.iter().map(|&k| labels[k] > 0).collect();
            let counts = Counts::new(scores.iter().map(|&p| p > 0.5).zip(positive.iter().copied()));
            let values = vec![
                auroc(&scores, &positive),
                average_precision(&scores, &positive),
                counts.precision(),
                counts.recall(),
                counts.f1(),
                log_loss(&scores, &positive),
                brier(&scores, &positive),
                ece(&scores, &positive, ECE_BINS),
                youden(&scores, &positive).map(|y| y.0),
            ];
            let positives = positive.iter().filter(|&&y| y).count() as u64;
            OneAgainstRest { rows: rows.len() as u64, positives, values }
        })
        .collect();
    let cells: u64 = per.iter().map(|p| p.rows).sum();
    let right = labels.iter().zip(probability).filter(|(y, p)| **y >= 0 && (**y > 0) == (**p > 0.5)).count();
    let all = |metric, value| Measurement { metric, class: None, value, rows: cells, positives: None };
    let mut measurements = vec![all("accuracy", (cells > 0).then(|| right as f64 / cells as f64))];
    measurements.extend(means(&per, cells));
    for (k, metric) in PER_LABEL.iter().enumerate().take(3) {
        measurements.push(all(metric, mean_defined(per.iter().map(|p| p.values[PER_CLASS.len() + k]))));
    }
    let names: Vec<&'static str> = PER_CLASS.iter().chain(&PER_LABEL).copied().collect();
    measurements.extend(rows_of(&per, &names));
    finish(measurements, None)
}

fn means(per: &[OneAgainstRest], rows: u64) -> Vec<Measurement> {
    MEANS
        .iter()
        .enumerate()
        .map(|(k, &metric)| {
            let value = mean_defined(per.iter().map(|p| p.values[k]));
            Measurement { metric, class: None, value, rows, positives: None }
        })
        .collect()
}

fn rows_of(per: &[OneAgainstRest], names: &[&'static str]) -> Vec<Measurement> {
    let mut out = Vec::with_capacity(per.len() * names.len());
    for (class, one) in per.iter().enumerate() {
        for (&metric, &value) in names.iter().zip(&one.values) {
            let (rows, positives) = (one.rows, Some(one.positives));
            out.push(Measurement { metric, class: Some(class), value, rows, positives });
        }
    }
    out
}

fn finish(measurements: Vec<Measurement>, confusion: Option<Confusion>) -> Scores {
    let undefined = measurements.iter().filter(|m| m.value.is_none()).count() as u64;
    Scores { measurements, undefined, confusion }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_absent_from_the_test_rows_is_null_and_counted() {
        let logits = [2.0f32, 0.0, -1.0, 0.0, 2.0, -1.0, 1.0, 0.0, -1.0];
        let s = score(&logits, 3, Truth::Class(&[0, 1, 1]));
        assert_eq!(s.value("accuracy"), Some(2.0 / 3.0));
        assert_eq!(s.class_value("auc", 2), None);
        assert_eq!(s.class_value("recall", 2), None);
        assert_eq!(s.class_value("auc", 0), Some(1.0));
        assert!(s.value("mean_auc").is_some());
        assert_eq!(s.undefined, 5, "auc, ap, precision, recall and f1 of class 2");
        assert_eq!(s.confusion.unwrap().count(1, 0), 1);
    }

    #[test]
    fn an_unknown_label_is_neither_right_nor_wrong() {
        let logits = [3.0f64, -3.0, -3.0, 3.0, 3.0, 3.0];
        let with = score(&logits, 2, Truth::Labels(&[1, 0, 0, 1, -1, -1]));
        let without = score(&logits[..4], 2, Truth::Labels(&[1, 0, 0, 1]));
        assert_eq!(with.measurements, without.measurements);
        assert_eq!((with.value("accuracy"), with.value("mean_auc")), (Some(1.0), Some(1.0)));
    }

    #[test]
    fn no_rows_give_no_numbers() {
        let s = score::<f32>(&[], 2, Truth::Class(&[]));
        assert_eq!(s.undefined as usize, s.measurements.len());
    }
}
