//! Metrics of one set of predictions, each as the published code and scikit-learn define it.
//!
//! | name | of a class | of all | source |
//! |---|---|---|---|
//! | `accuracy` | | share of rows whose largest score is the class (first of equals) | published `test/acc` |
//! | `top5_accuracy` | | share of rows whose class is among the 5 largest | `top_k_accuracy_score` |
//! | `balanced_accuracy` | | mean recall of the classes that occur | `balanced_accuracy_score` |
//! | `auc`, `mean_auc` | area under the ROC curve | mean of the defined ones | published `test/mean_auc` |
//! | `ap`, `mean_ap` | average precision | mean of the defined ones | published `mean_average_precision` |
//! | `precision`, `recall`, `f1` (`macro_*`) | at the arg-max, or above probability ½ | mean of the defined ones | `zero_division=nan` |
//! | `log_loss`, `brier` | binary (multi label) | multi class, or mean over labels | scikit-learn |
//! | `ece` | 15 bins of the positive probability | 15 bins of the top probability, or mean over labels | Guo et al. 2017 |
//!
//! Unknown labels are left out, cell by cell. A class without positives or without negatives has no
//! AUC and no AP: it is `None`, it is counted in [`Scores::undefined`], and means leave it out.

pub mod accuracy;
pub mod at_rows;
pub mod calibration;
pub mod confusion;
pub mod decision;
pub mod probability;
pub mod ranking;
mod scores;
pub mod threshold;

pub use scores::{Measurement, Scores, Truth, score, score_probabilities};

/// Mean of the defined values in their order; `None` where none is defined.
pub(crate) fn mean_defined(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0u32);
    for v in values.into_iter().flatten() {
        sum += v;
        n += 1;
    }
    (n > 0).then(|| sum / f64::from(n))
}
