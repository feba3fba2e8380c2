//! A plot as it stands in a pipeline file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{super::Input, find};
use crate::{
    error::{Error, Result},
    report::{
        frame::{Frame, kept, label, values},
        plot::{self, Curves, Diagnostic, Differences, Horizontal, Judged, Law, Plot},
        predictions::Predictions,
        summary::{self, Spec, Spread, Summary},
    },
};

/// A plot of one of the report's tables, or of its predictions.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlotSpec {
    pub kind: PlotKind,
    /// The table; null: the first of `tables`, or for a plot of predictions all of `predictions`.
    #[serde(default)]
    pub table: Option<String>,
    /// The column along the horizontal axis. Plots of predictions and forest plots have none.
    #[serde(default)]
    pub x: Option<String>,
    /// A metric of a metrics table, or a numeric column; of a forest plot by default `difference`.
    #[serde(default)]
    pub y: Option<String>,
    /// The columns that tell series apart.
    #[serde(default)]
    pub color: Columns,
    /// The columns that tell panels apart; other axes that vary are added.
    #[serde(default)]
    pub panel: Columns,
    /// The columns that are averaged over.
    #[serde(default = "seed")]
    pub repeat: Columns,
    /// Only rows with these values: `{ shots: full, target: [tb, pets] }`.
    #[serde(default, rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
    pub only: BTreeMap<String, Wanted>,
    /// What error bars are.
    #[serde(default)]
    pub bars: Bars,
    /// Whether equal ratios of x are equal distances; null: yes for `scale_curve` and `scaling_fit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_x: Option<bool>,
    /// Of plots of predictions: the class or finding; null: the mean over classes, or all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Of `scaling_fit`: the table of the fitted curve, with `x`'s column, `predicted` (or `fit`), `low` and `high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<String>,
    /// Another table of the report that is drawn beside the first: published results beside one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
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
    /// Means with error bars over an axis such as the number of shots, at equal distances.
    ShotsCurve,
    /// Means with error bars over a number such as the size of the source, on a logarithmic axis.
    ScaleCurve,
    /// Means with error bars, a fitted law and its interval band.
    ScalingFit,
    /// Means as grouped bars.
    Bars,
    /// A number over the steps of training, one line a run.
    LearningCurve,
    /// Differences with intervals of a `compare` table, one a row.
    Forest,
    /// A confusion matrix of predictions.
    Confusion,
    /// True positive rate over false positive rate, of predictions.
    Roc,
    /// Precision over recall, of predictions.
    PrecisionRecall,
    /// What is right over what was claimed, of predictions.
    Reliability,
}

impl PlotKind {
    pub fn name(self) -> &'static str {
        match self {
            PlotKind::ShotsCurve => "shots-curve",
            PlotKind::ScaleCurve => "scale-curve",
            PlotKind::ScalingFit => "scaling-fit",
            PlotKind::Bars => "bars",
            PlotKind::LearningCurve => "learning-curve",
            PlotKind::Forest => "forest",
            PlotKind::Confusion => "confusion",
            PlotKind::Roc => "roc",
            PlotKind::PrecisionRecall => "precision-recall",
            PlotKind::Reliability => "reliability",
        }
    }

    /// Whether it is made of `predictions` instead of a table.
    pub fn of_predictions(self) -> bool {
        matches!(self, PlotKind::Confusion | PlotKind::Roc | PlotKind::PrecisionRecall | PlotKind::Reliability)
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

/// One value, or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Wanted {
    Many(Vec<Value>),
    One(Value),
}

impl Wanted {
    /// As people read values: `5` is what `"5"` is.
    fn holds(&self, value: &Value) -> bool {
        match self {
            Wanted::One(wanted) => label(wanted) == label(value),
            Wanted::Many(all) => all.iter().any(|wanted| label(wanted) == label(value)),
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
    /// One standard error of the mean.
    StandardError,
    /// From the least to the greatest value.
    Range,
}

/// A second table beside the first, with columns of the same names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// One of the report's tables.
    pub table: String,
    /// What the legend calls it.
    #[serde(default = "published")]
    pub name: String,
    /// What the legend calls the first table.
    #[serde(default = "own")]
    pub own: String,
}

fn published() -> String {
    "published".into()
}

fn own() -> String {
    "this study".into()
}

/// What plots may be made of.
pub struct Material<'a> {
    pub tables: &'a [(String, Frame)],
    pub predictions: &'a [Input],
    pub read: &'a dyn Fn(&Input) -> Result<Predictions>,
}

impl PlotSpec {
    /// What the types cannot say, found before anything runs.
    pub fn check(&self, has_predictions: bool) -> Vec<String> {
        let name = self.kind.name().replace('-', "_");
        let mut wrong = Vec::new();
        let free = self.kind.of_predictions() || self.kind == PlotKind::Forest;
        if !free && self.x.is_none() {
            wrong.push(format!("a {name} needs x"));
        }
        if !free && self.y.is_none() {
            wrong.push(format!("a {name} needs y"));
        }
        if self.kind.of_predictions() && !has_predictions {
            wrong.push(format!("a {name} is made of predictions, which this report does not name"));
        }
        if self.kind == PlotKind::ScalingFit && self.fit.is_none() {
            wrong.push("a scaling_fit needs fit, the table of the fitted curve".into());
        }
        if self.overlay.is_some() && (free || matches!(self.kind, PlotKind::LearningCurve | PlotKind::ScalingFit)) {
            wrong.push(format!("a {name} takes no overlay"));
        }
        wrong
    }

    /// # Errors
    /// Unknown tables and columns; rows that cannot be drawn.
    pub fn draw(&self, material: &Material<'_>) -> Result<Plot> {
        if self.kind.of_predictions() {
            return self.diagnose(material);
        }
        let first = material.tables.first().map_or("", |(name, _)| name.as_str());
        let name = self.table.as_deref().unwrap_or(first);
        let table = self.kept(find(material.tables, name)?)?;
        let (x, y) = (self.x.as_deref().unwrap_or_default(), self.y.as_deref().unwrap_or("difference"));
        let title = match (&self.title, self.kind) {
            (Some(title), _) => title.clone(),
            (None, PlotKind::Forest) => format!("{y} in {name}"),
            (None, _) => format!("{y} of {name} by {x}"),
        };
        let (color, panel) = (self.color.names(), self.panel.names());
        match self.kind {
            PlotKind::LearningCurve => self.learning(&table, x, y, &title),
            PlotKind::Forest => plot::forest(&table, &Differences { value: y, rows: &color, panel: &panel }, &title),
            PlotKind::Bars => plot::bars(&self.summary(&table, material.tables, x, y)?, &title),
            PlotKind::ScaleCurve => plot::curve(&self.summary(&table, material.tables, x, y)?, self.across(), &title),
            PlotKind::ScalingFit => {
                let summary = self.summary(&table, material.tables, x, y)?;
                let fitted = self.kept(find(material.tables, self.fit.as_deref().unwrap_or_default())?)?;
                plot::scaling_fit(&summary, &Law::read(&fitted, &summary)?, self.across(), &title)
            }
            _ => plot::shots_curve(&self.summary(&table, material.tables, x, y)?, &title),
        }
    }

    fn across(&self) -> Horizontal {
        if self.log_x.unwrap_or(true) { Horizontal::Logarithmic } else { Horizontal::Linear }
    }

    fn summary(&self, table: &Frame, tables: &[(String, Frame)], x: &str, y: &str) -> Result<Summary> {
        let spec = Spec {
            x: x.into(),
            y: y.into(),
            color: self.color.names(),
            panel: self.panel.names(),
            repeat: self.repeat.names(),
            spread: match self.bars {
                Bars::Interval => Spread::Interval,
                Bars::Deviation => Spread::Deviation,
                Bars::StandardError => Spread::Error,
                Bars::Range => Spread::Range,
            },
            other: None,
        };
        match &self.overlay {
            None => summary::summarise(table, &spec),
            Some(overlay) => {
                let other = self.kept(find(tables, &overlay.table)?)?;
                summary::beside((table, &overlay.own), (&other, &overlay.name), &spec)
            }
        }
    }

    fn learning(&self, table: &Frame, x: &str, y: &str, title: &str) -> Result<Plot> {
        let measured = ["step", "epoch", "lr", "loss", "valid_loss", "valid_accuracy"];
        let columns = table.columns().iter().map(|c| c.name().to_string());
        let axes: Vec<String> = columns.filter(|c| !measured.contains(&c.as_str()) && c != x && c != y).collect();
        let repeat: Vec<String> = self.repeat.names().into_iter().filter(|r| axes.contains(r)).collect();
        plot::learning_curves(table, &Curves { x, y, axes: &axes, color: &self.color.names(), repeat: &repeat }, title)
    }

    /// The rows that `where` leaves. A column that this table lacks is an error: a filter must not pass silently.
    fn kept(&self, table: &Frame) -> Result<Frame> {
        let mut keep = vec![true; table.height()];
        for (column, wanted) in &self.only {
            for (keep, value) in keep.iter_mut().zip(values(table, column)?) {
                *keep &= wanted.holds(&value);
            }
        }
        if !self.only.is_empty() && !keep.contains(&true) {
            return Err(self.nothing());
        }
        kept(table, &keep)
    }

    fn nothing(&self) -> Error {
        let all = self.only.iter().map(|(n, w)| match w {
            Wanted::One(v) => format!("{n}={}", label(v)),
            Wanted::Many(v) => format!("{n} in {}", v.iter().map(label).collect::<Vec<_>>().join(", ")),
        });
        Error::invalid(format!("nothing has {}", all.collect::<Vec<_>>().join(" and ")))
            .with_hint("the values under where are those of the axes")
    }

    fn diagnose(&self, material: &Material<'_>) -> Result<Plot> {
        let named = |input: &&Input| self.table.as_ref().is_none_or(|t| *t == input.node || *t == input.name());
        let axis = |input: &Input, name: &str| input.axes.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let wanted = |input: &&Input| {
            self.only.iter().all(|(name, wanted)| axis(input, name).is_some_and(|value| wanted.holds(&value)))
        };
        let inputs: Vec<&Input> = material.predictions.iter().filter(named).filter(wanted).collect();
        if inputs.is_empty() {
            return Err(self.nothing());
        }
        let (color, mut panel, repeat) = (self.color.names(), self.panel.names(), self.repeat.names());
        for (name, value) in inputs.iter().flat_map(|i| &i.axes) {
            let used = [&color, &panel, &repeat].iter().any(|l| l.contains(name));
            if !used && inputs.iter().any(|i| axis(i, name).as_ref() != Some(value)) {
                panel.push(name.clone());
            }
        }
        let name = |input: &Input, of: &[String]| {
            let held: Vec<(&str, Value)> = of.iter().filter_map(|n| Some((n.as_str(), axis(input, n)?))).collect();
            Spec::name(held.iter().map(|(n, v)| (*n, v)))
        };
        let judged = inputs
            .iter()
            .map(|input| {
                let predictions = (material.read)(input)?;
                Ok(Judged { panel: name(input, &panel), series: name(input, &color), predictions })
            })
            .collect::<Result<Vec<_>>>()?;
        let nodes = inputs[0].node.as_str();
        let (kind, said) = match self.kind {
            PlotKind::Roc => (Some(Diagnostic::Roc), "ROC"),
            PlotKind::PrecisionRecall => (Some(Diagnostic::PrecisionRecall), "Precision and recall"),
            PlotKind::Reliability => (Some(Diagnostic::Reliability), "Reliability"),
            _ => (None, "Confusion"),
        };
        let title = self.title.clone().unwrap_or_else(|| match &self.class {
            Some(class) => format!("{said} of {nodes}: {class}"),
            None => format!("{said} of {nodes}"),
        });
        match kind {
            Some(kind) => plot::operating(kind, &judged, self.class.as_deref(), &title),
            None => plot::confusion(&judged, self.class.as_deref(), &title),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::frame::Rows;
    use serde_json::json;

    fn spec(text: Value) -> PlotSpec {
        serde_json::from_value(text).unwrap()
    }

    fn table(scale: f64) -> Frame {
        let mut rows = Rows::new();
        for (size, shots, accuracy) in [(100, "5", 0.5), (100, "full", 0.6), (1000, "5", 0.7), (1000, "full", 0.8)] {
            for seed in 0..2 {
                rows.push([
                    ("size", json!(size)),
                    ("shots", json!(shots)),
                    ("seed", json!(seed)),
                    ("accuracy", json!(scale * (accuracy + 0.01 * seed as f64))),
                ]);
            }
        }
        rows.frame().unwrap()
    }

    fn draw(spec: Value) -> Result<Plot> {
        let tables = [("own".to_string(), table(1.0)), ("paper".to_string(), table(1.1))];
        let read = |_: &Input| -> Result<Predictions> { Err(Error::invalid("bug: no predictions here")) };
        self::spec(spec).draw(&Material { tables: &tables, predictions: &[], read: &read })
    }

    #[test]
    fn rows_can_be_chosen_and_numbers_are_a_logarithmic_axis() {
        let plot = draw(
            json!({"kind": "scale_curve", "x": "size", "y": "accuracy", "where": {"shots": "full"}, "bars": "range"}),
        )
        .unwrap();
        assert_eq!(values(plot.data.as_ref().unwrap(), "mean").unwrap().len(), 2);
        assert!(plot.caption.contains("least to greatest") && plot.caption.contains("Logarithmic"), "{}", plot.caption);
        let e = draw(json!({"kind": "scale_curve", "x": "shots", "y": "accuracy", "color": "size"})).unwrap_err();
        assert!(e.to_string().contains("shots is full, which is no number"), "{e}");
        let e = draw(json!({"kind": "bars", "x": "size", "y": "accuracy", "where": {"shots": 7}})).unwrap_err();
        assert_eq!(e.to_string(), "nothing has shots=7");
    }

    #[test]
    fn an_overlay_stands_beside_ones_own() {
        let plot = draw(json!({"kind": "bars", "x": "shots", "y": "accuracy", "color": "size", "overlay": {"table": "paper", "name": "Cherti & Jitsev"}})).unwrap();
        let names: Vec<&str> = plot.legend.iter().map(|(_, n)| n.as_str()).collect();
        assert_eq!(
            names,
            [
                "size 100 · this study",
                "size 100 · Cherti & Jitsev",
                "size 1000 · this study",
                "size 1000 · Cherti & Jitsev"
            ]
        );
        assert!(plot.caption.contains("pale bars: Cherti & Jitsev"));
    }

    #[test]
    fn what_is_missing_is_said_before_anything_runs() {
        let wrong = |s: Value| spec(s).check(false);
        assert_eq!(wrong(json!({"kind": "bars", "y": "accuracy"})), ["a bars needs x"]);
        assert_eq!(wrong(json!({"kind": "roc"})), ["a roc is made of predictions, which this report does not name"]);
        assert_eq!(wrong(json!({"kind": "forest"})), Vec::<String>::new());
        let no_fit = wrong(json!({"kind": "scaling_fit", "x": "a", "y": "b"}));
        assert_eq!(no_fit, ["a scaling_fit needs fit, the table of the fitted curve"]);
    }
}
