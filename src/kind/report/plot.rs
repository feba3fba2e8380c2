//! A plot as it stands in a pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::find;
use crate::{
    error::Result,
    report::{
        frame::Frame,
        plot::{self, Curves, Plot},
        summary::{Spec, Spread},
    },
};

/// A plot of one of the report's tables.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlotSpec {
    pub kind: PlotKind,
    /// The table; null: the first of `tables`.
    #[serde(default)]
    pub table: Option<String>,
    /// The column along the horizontal axis.
    pub x: String,
    /// A metric of a metrics table, or a numeric column.
    pub y: String,
    /// The columns that tell series apart.
    #[serde(default)]
    pub color: Columns,
    /// The columns that tell panels apart; other axes that vary are added.
    #[serde(default)]
    pub panel: Columns,
    /// The columns that are averaged over.
    #[serde(default = "seed")]
    pub repeat: Columns,
    /// What error bars are.
    #[serde(default)]
    pub bars: Bars,
    #[serde(default)]
    pub title: Option<String>,
}

fn seed() -> Columns {
    Columns::One("seed".into())
}

/// How a table is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlotKind {
    /// Means with error bars over an axis such as the number of shots.
    ShotsCurve,
    /// Means as grouped bars.
    Bars,
    /// A number over the steps of training, one line a run.
    LearningCurve,
}

impl PlotKind {
    pub fn name(self) -> &'static str {
        match self {
            PlotKind::ShotsCurve => "shots-curve",
            PlotKind::Bars => "bars",
            PlotKind::LearningCurve => "learning-curve",
        }
    }
}

/// One column name, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Columns {
    One(String),
    Many(Vec<String>),
}

impl Default for Columns {
    fn default() -> Self {
        Columns::Many(Vec::new())
    }
}

impl Columns {
    fn names(&self) -> Vec<String> {
        match self {
            Columns::One(name) => vec![name.clone()],
            Columns::Many(names) => names.clone(),
        }
    }
}

/// What error bars are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bars {
    /// The 95 % t interval of the mean.
    #[default]
    Interval,
    /// One standard deviation.
    Deviation,
}

impl PlotSpec {
    pub fn draw(&self, tables: &[(String, Frame)]) -> Result<Plot> {
        let first = tables.first().map_or("", |(name, _)| name.as_str());
        let name = self.table.as_deref().unwrap_or(first);
        let table = find(tables, name)?;
        let title = self.title.clone().unwrap_or_else(|| format!("{} of {name} by {}", self.y, self.x));
        if self.kind == PlotKind::LearningCurve {
            let measured = ["step", "epoch", "lr", "loss", "valid_loss", "valid_accuracy"];
            let axes: Vec<String> = table
                .columns()
                .iter()
                .map(|c| c.name().to_string())
                .filter(|c| !measured.contains(&c.as_str()))
                .collect();
            let repeat: Vec<String> = self.repeat.names().into_iter().filter(|r| axes.contains(r)).collect();
            let (color, x, y) = (self.color.names(), self.x.as_str(), self.y.as_str());
            return plot::learning_curves(table, &Curves { x, y, axes: &axes, color: &color, repeat: &repeat }, &title);
        }
        let spec = Spec {
            x: self.x.clone(),
            y: self.y.clone(),
            color: self.color.names(),
            panel: self.panel.names(),
            repeat: self.repeat.names(),
            spread: match self.bars {
                Bars::Interval => Spread::Interval,
                Bars::Deviation => Spread::Deviation,
            },
        };
        match self.kind {
            PlotKind::Bars => plot::bars(table, &spec, &title),
            PlotKind::ShotsCurve | PlotKind::LearningCurve => plot::shots_curve(table, &spec, &title),
        }
    }
}
