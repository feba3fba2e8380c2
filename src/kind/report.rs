//! `report`: Parquet files of every table, plots as SVG and PNG, TensorBoard files, a leaderboard, and one
//! self-contained page.
//!
//! The page holds results alone. Clocks, hosts and versions are on the run page, and where every number comes
//! from is on the study page: both are made from records and lie beside it. A row's link leads to the latter.

mod board;
mod events;
mod gallery;
mod plot;
mod source;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cell, Input, InputSpec, Kind, Nodes, Note, cell::NOTES, frames, node_name};
use crate::{
    error::{Error, Result},
    report::{
        frame::{self, Frame, Rows},
        html::{Notice, Page, Provenance, Table},
        leaderboard,
        predictions::Predictions,
    },
    store::artifact::ArtifactType,
};

pub use board::Leaderboard;
use plot::Material;
pub use plot::PlotSpec;
use source::Sourced;

pub struct Report;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The page's title.
    #[serde(default = "title")]
    pub title: String,
    /// What was asked and what came out, in a sentence or two of your own.
    #[serde(default)]
    pub lead: String,
    /// The tables: `NODE` or `NODE.OUTPUT`. Each becomes a Parquet file with its cells' axes as columns.
    pub tables: Nodes,
    /// Plots of these tables.
    #[serde(default)]
    pub plots: Vec<PlotSpec>,
    /// Predictions, for plots of them and for sample images.
    #[serde(default)]
    pub predictions: Option<Nodes>,
    /// The decoded images that the predictions are of, of which samples are shown.
    #[serde(default)]
    pub images: Option<Nodes>,
    /// Whether tables with a column `step` are also written as TensorBoard event files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tensorboard: bool,
    /// The result table as public leaderboards keep it, as Parquet, CSV, JSON and Markdown.
    #[serde(default)]
    pub leaderboard: Option<Leaderboard>,
}

fn title() -> String {
    "Results".into()
}

impl Kind for Report {
    const NAME: &'static str = "report";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "Writes tables as Parquet, and one self-contained page with tables and plots.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const {
            &[
                InputSpec::cells("tables", &[ArtifactType::Table]).prefer("metrics").named(),
                InputSpec::maybe_cells("predictions", &[ArtifactType::Table]).prefer("predictions").named(),
                InputSpec::maybe_cells("images", &[ArtifactType::Images, ArtifactType::Dataset]),
            ]
        }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("report", ArtifactType::Report)]
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        let mut wrong = params.leaderboard.as_ref().map_or_else(Vec::new, Leaderboard::check);
        if params.images.is_some() && params.predictions.is_none() {
            wrong.push(("images".into(), "needs predictions, the node that says something of them".into()));
        }
        for (i, plot) in params.plots.iter().enumerate() {
            let said = plot.check(params.predictions.is_some());
            let overlay = plot.overlay.as_ref().map(|o| &o.table);
            let absent = [plot.table.as_ref(), plot.fit.as_ref(), overlay].into_iter().flatten();
            let absent = absent.filter(|table| params.tables.names().all(|known| known != node_name(table)));
            let absent = absent.map(|table| format!("{table} is not one of the report's tables"));
            let said = said.into_iter().chain(absent);
            wrong.extend(said.map(|message| ("plots".to_string(), format!("plot {}: {message}", i + 1))));
        }
        wrong
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let sourced = source::tables(cell)?;
        let tables: Vec<(String, Frame)> = sourced.iter().map(|s| (s.name.clone(), s.frame.clone())).collect();
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        let mut page = Page::new(&params.title);
        if !params.lead.is_empty() {
            page = page.lead(&params.lead);
        }
        page =
            page.beside(&[("study.html", "Methods, model cards, datasheets and provenance"), ("run.html", "The run")]);
        if !params.plots.is_empty() {
            page = page.section("Plots");
            let read = |input: &Input| Predictions::from_frame(&frames::read(cell, input)?);
            let material = Material { tables: &tables, predictions: cell.many("predictions"), read: &read };
            for (i, spec) in params.plots.iter().enumerate() {
                cell.cancel.check()?;
                let plot = spec.draw(&material).map_err(|e| of_plot(e, i, spec))?;
                let drawing = plot.drawing();
                let stem = format!("plots/{}-{}", i + 1, spec.kind.name());
                for (name, bytes) in
                    [(format!("{stem}.svg"), drawing.svg()?.into_bytes()), (format!("{stem}.png"), drawing.png()?)]
                {
                    files.push((name.clone(), write(cell, &name, &bytes)?));
                }
                page = page.plot(&plot, &[&format!("{stem}.svg"), &format!("{stem}.png")]);
            }
        }
        page = page.section("Tables");
        for Sourced { name, frame: table, rows } in &sourced {
            cell.cancel.check()?;
            let file = format!("{}.parquet", name.replace('.', "-"));
            let path = cell.work.join(&file);
            frame::write_parquet(table, &path)?;
            let (shown, kept) = headline(table)?;
            let links = kept.iter().map(|&row| rows[row].clone()).collect();
            page = page.table(&Table::from_frame(name, &shown)?.links(links).note(&format!("All rows are in {file}.")));
            files.push((file, path));
        }
        if params.tensorboard {
            for (name, bytes) in events::files(cell)? {
                files.push((name.clone(), write(cell, &name, &bytes)?));
            }
        }
        if let Some(spec) = &params.leaderboard {
            let entries = spec.entries(find(&tables, &spec.table)?)?;
            for name in leaderboard::write_all(&entries, cell.work)? {
                let path = cell.work.join(&name);
                files.push((name, path));
            }
            page = page.section("Leaderboard").table(&Table::from_frame("", &leaderboard::frame(&entries)?)?);
        }
        let galleries = gallery::galleries(cell)?;
        if !galleries.is_empty() {
            page = page.section("Sample images");
            for gallery in &galleries {
                page = page.images(gallery);
            }
        }
        let notices = notices(cell)?;
        if !notices.is_empty() {
            page = page.section("Notes").notes(&notices);
        }
        page = page.section("Provenance").provenance(&provenance(cell));
        files.push(("index.html".into(), write(cell, "index.html", page.render().as_bytes())?));
        cell.publish("report", ArtifactType::Report, &files)
    }
}

/// Which plot could not be drawn.
fn of_plot(error: Error, index: usize, spec: &PlotSpec) -> Error {
    match error {
        Error::Invalid { message, hint } => {
            Error::Invalid { message: format!("plot {} ({}): {message}", index + 1, spec.kind.name()), hint }
        }
        other => other,
    }
}

fn write(cell: &Cell, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = cell.work.join(name);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    std::fs::write(&path, bytes).map_err(Error::io(&path))?;
    Ok(path)
}

fn find<'a>(tables: &'a [(String, Frame)], name: &str) -> Result<&'a Frame> {
    tables.iter().find(|(n, _)| n == name).map(|(_, t)| t).ok_or_else(|| {
        let known: Vec<&str> = tables.iter().map(|(n, _)| n.as_str()).collect();
        Error::invalid(format!("{name} is not one of the report's tables"))
            .with_hint(format!("its tables are {}", known.join(", ")))
    })
}

/// Of a metrics table the numbers over all classes, one row a cell and one column a metric; other tables whole.
/// Also which row of the table each row of the result began with.
fn headline(table: &Frame) -> Result<(Frame, Vec<usize>)> {
    let is_metrics = ["metric", "class", "value"].iter().all(|c| table.column(c).is_ok());
    if !is_metrics {
        return Ok((table.clone(), (0..table.height()).collect()));
    }
    let column = |name: &str| frame::values(table, name);
    let (metrics, classes, values) = (column("metric")?, column("class")?, column("value")?);
    let about_class = ["metric", "class", "value", "rows", "positives"];
    let others: Vec<(String, Vec<Value>)> = table
        .columns()
        .iter()
        .map(|c| c.name().to_string())
        .filter(|name| !about_class.contains(&name.as_str()))
        .map(|name| Ok((name.clone(), column(&name)?)))
        .collect::<Result<_>>()?;
    // Axes and facts of a cell, and its metrics.
    type Row = (Vec<Value>, Vec<(String, Value)>);
    let mut rows: Vec<Row> = Vec::new();
    let mut firsts = Vec::new();
    for row in (0..table.height()).filter(|&row| classes[row].is_null()) {
        let place: Vec<Value> = others.iter().map(|(_, values)| values[row].clone()).collect();
        if rows.last().is_none_or(|(last, _)| *last != place) {
            rows.push((place, Vec::new()));
            firsts.push(row);
        }
        if let Some((_, numbers)) = rows.last_mut() {
            numbers.push((frame::label(&metrics[row]), values[row].clone()));
        }
    }
    let mut wide = Rows::new();
    for (place, numbers) in &rows {
        let axes = others.iter().zip(place).map(|((name, _), value)| (name.as_str(), value.clone()));
        wide.push(axes.chain(numbers.iter().map(|(name, value)| (name.as_str(), value.clone()))));
    }
    Ok((wide.frame()?, firsts))
}

/// What the cells behind the tables wrote down, once each.
fn notices(cell: &Cell) -> Result<Vec<Notice>> {
    let mut notices: Vec<Notice> = Vec::new();
    for input in cell.many("tables") {
        for note in notes(cell, input)? {
            let axes: Vec<String> = input.axes.iter().map(|(n, v)| format!("{n}={}", frame::label(v))).collect();
            let place = if axes.is_empty() { input.name() } else { format!("{}[{}]", input.name(), axes.join(",")) };
            notices.push(Notice { place, what: note.what, count: note.count, detail: note.detail });
        }
    }
    Ok(notices)
}

fn notes(cell: &Cell, input: &Input) -> Result<Vec<Note>> {
    match input.artifact.file(NOTES) {
        None => Ok(Vec::new()),
        Some(file) => {
            let path = cell.store.local(&file.digest)?;
            Ok(serde_json::from_slice(&std::fs::read(&path).map_err(Error::io(&path))?)?)
        }
    }
}

fn provenance(cell: &Cell) -> Vec<Provenance> {
    cell.many("tables")
        .iter()
        .map(|input| Provenance {
            name: input.name(),
            node: input.node.clone(),
            kind: input.kind.clone(),
            axes: input.axes.iter().map(|(n, v)| (n.clone(), frame::label(v))).collect(),
            digest: input.artifact.digest().hex(),
            parts: Vec::new(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_of_a_table_that_the_report_does_not_have_is_found_before_anything_runs() {
        let wrong = |plot: serde_json::Value| {
            let params = serde_json::json!({"tables": ["summary", "train.curve", "test[seed=0]"], "plots": [plot]});
            Report::check(&serde_json::from_value(params).unwrap())
        };
        let plot = |table: &str| serde_json::json!({"kind": "bars", "table": table, "x": "seed", "y": "accuracy"});
        for known in ["summary", "train.curve", "test"] {
            assert_eq!(wrong(plot(known)), []);
        }
        let message = "plot 1: effect is not one of the report's tables";
        assert_eq!(wrong(plot("effect")), [("plots".to_string(), message.to_string())]);
        let mut beside = plot("summary");
        beside["overlay"] = serde_json::json!({"table": "effect"});
        assert_eq!(wrong(beside)[0].1, message);
    }
}
