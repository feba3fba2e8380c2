//! What predictions are worth: metrics, statistics over seeds and cases, and probes on frozen features.
//!
//! Pure functions on slices. Nothing here reads files, knows cells, or prints; frames are made of
//! these numbers in `report`. A number that is not defined is `None`, never 0 or NaN.
//!
//! | room | what |
//! |---|---|
//! | [`metric`] | accuracy, AUROC, AP, calibration … of one set of predictions, and [`metric::score`] for all |
//! | [`statistic`] | intervals, paired tests, corrections |
//! | [`scaling`] | laws of the error over data and model size |
//! | [`probe`] | ridge, kNN and logistic regression on features |
//! | [`lbfgs`] | the one minimiser that the above share |

pub mod lbfgs;
pub mod metric;
pub mod probe;
pub mod scaling;
pub mod statistic;

#[cfg(test)]
mod reference;
