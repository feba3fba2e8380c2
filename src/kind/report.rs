//! `report`: Parquet files of every table, a leaderboard, and one self-contained page.
//!
//! The page holds results alone. Clocks, hosts and versions are on the run page, which is made from records.

mod board;
mod gallery;
mod plot;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cell, Input, InputSpec, Kind, Nodes, Note, cell::NOTES, frames};
use crate::{
    error::{Error, Result},
    report::{
        frame::{self, Frame, Rows},
        html::{Notice, Page, Provenance, Table},
        leaderboard,
    },
    store::artifact::ArtifactType,
};

pub use board::Leaderboard;
pub use plot::PlotSpec;

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
    /// Predictions of which sample images are shown.
    #[serde(default)]
    pub predictions: Option<Nodes>,
    /// The decoded images that the predictions are of.
    #[serde(default)]
    pub images: Option<Nodes>,
    /// The result table as public leaderboards keep it, as Parquet, CSV, JSON and Markdown.
    #[serde(default)]
    pub leaderboard: Option<Leaderboard>,
}

fn title() -> String {
    "Results".into()
}

impl Kind for Report {
    const NAME: &'static str = "report";
    const VERSION: u32 = 1;
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
        let mut problems = params.leaderboard.as_ref().map_or_else(Vec::new, Leaderboard::check);
        if params.predictions.is_some() && params.images.is_none() {
            problems.push(("predictions".into(), "needs images, the node that decoded them".into()));
        }
        problems
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let tables = frames::by_node(cell, "tables")?;
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        let mut page = Page::new(&params.title);
        if !params.lead.is_empty() {
            page = page.lead(&params.lead);
        }
        if !params.plots.is_empty() {
            page = page.section("Plots");
            for (i, spec) in params.plots.iter().enumerate() {
                let plot = spec.draw(&tables)?;
                let name = format!("plots/{}-{}.svg", i + 1, spec.kind.name());
                files.push((name.clone(), write(cell, &name, &plot.standalone())?));
                page = page.plot(&plot);
            }
        }
        page = page.section("Tables");
        for (name, table) in &tables {
            let file = format!("{}.parquet", name.replace('.', "-"));
            let path = cell.work.join(&file);
            frame::write_parquet(table, &path)?;
            page = page.table(&Table::from_frame(name, &headline(table)?)?.note(&format!("All rows are in {file}.")));
            files.push((file, path));
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
        files.push(("index.html".into(), write(cell, "index.html", &page.render())?));
        cell.publish("report", ArtifactType::Report, &files)
    }
}

fn write(cell: &Cell, name: &str, text: &str) -> Result<PathBuf> {
    let path = cell.work.join(name);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    std::fs::write(&path, text).map_err(Error::io(&path))?;
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
fn headline(table: &Frame) -> Result<Frame> {
    let is_metrics = ["metric", "class", "value"].iter().all(|c| table.column(c).is_ok());
    if !is_metrics {
        return Ok(table.clone());
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
    for row in (0..table.height()).filter(|&row| classes[row].is_null()) {
        let place: Vec<Value> = others.iter().map(|(_, values)| values[row].clone()).collect();
        if rows.last().is_none_or(|(last, _)| *last != place) {
            rows.push((place, Vec::new()));
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
    wide.frame()
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
