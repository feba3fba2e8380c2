//! Results as frames, Parquet files, plots and pages.
//!
//! | file | what |
//! |---|---|
//! | [`frame`] | rows of measurements to polars frames, axes as columns, Parquet in and out |
//! | [`predictions`] | logits and truths as a frame, from which every metric can be computed again |
//! | [`query`] | SQL over named frames |
//! | [`summary`] | mean and interval over repeats, for tables and plots |
//! | [`plot`] | small SVG plots |
//! | [`html`] | one self-contained page; its bytes depend on results alone |
//! | [`runpage`] | the page about the run: the only place for clocks and hosts |
//! | [`leaderboard`] | (Task, Dataset, Metric, Value, Model) in four formats |
//!
//! Nothing here reads the store or knows pipelines: kinds hand over frames and words.

pub mod frame;
pub mod html;
pub mod leaderboard;
pub mod plot;
pub mod predictions;
pub mod query;
pub mod runpage;
pub mod summary;

#[cfg(test)]
mod sample;
