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
//! | [`events`] | TensorBoard event files of curves |
//! | [`lineage`] | the finished cells behind a report and what each was made of |
//! | [`methods`], [`card`], [`study`] | a methods section, model cards, datasheets, and the page that holds them |
//! | [`diff`] | two runs or cells beside each other |
//! | [`diagram`] | nodes and edges in layers, as SVG |
//! | [`index`] | a page over several pipelines' reports |
//! | [`runpage`] | the page about the run: the only place for clocks and hosts |
//! | [`leaderboard`] | (Task, Dataset, Metric, Value, Model) in four formats |
//!
//! Nothing here knows pipelines, and only [`lineage`] and what is made of it see records: kinds hand over frames
//! and words.

pub mod card;
pub mod diagram;
pub mod diff;
pub mod events;
pub mod frame;
pub mod html;
pub mod index;
pub mod leaderboard;
pub mod lineage;
pub mod methods;
pub mod plot;
pub mod predictions;
pub mod query;
pub mod runpage;
pub mod study;
pub mod summary;

#[cfg(test)]
mod sample;
