//! Which table becomes the leaderboard, and how.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    eval::statistic,
    report::{
        frame::{self, Frame},
        leaderboard::{self, Entry},
    },
};

/// How a table becomes leaderboard entries: one that has the columns Task, Dataset, Metric, Value and Model is taken
/// as it is, and needs no more than its name; of a metrics table the runs are averaged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Leaderboard {
    /// The table, one of `tables`.
    pub table: String,
    /// What is done: `Image Classification`.
    #[serde(default)]
    pub task: Option<String>,
    /// The metric that is listed.
    #[serde(default)]
    pub metric: Option<String>,
    /// The axis that holds the target's name.
    #[serde(default)]
    pub dataset: Option<String>,
    /// The axes that together name the model.
    #[serde(default)]
    pub model: Vec<String>,
    /// The axes that are averaged over.
    #[serde(default = "seed")]
    pub mean_over: Vec<String>,
}

fn seed() -> Vec<String> {
    vec!["seed".into()]
}

/// A value beside its axis where it is a number, which alone says nothing: `fraction 0.1`.
fn named(axis: &str, value: &serde_json::Value) -> String {
    let label = frame::label(value);
    if label.parse::<f64>().is_ok() || label == "full" { format!("{axis} {label}") } else { label }
}

impl Leaderboard {
    /// Whether it asks for a metrics table to be averaged.
    fn averages(&self) -> bool {
        self.task.is_some() || self.metric.is_some() || self.dataset.is_some() || !self.model.is_empty()
    }

    pub fn check(&self) -> Vec<(String, String)> {
        let fields =
            [("task", self.task.is_none()), ("metric", self.metric.is_none()), ("dataset", self.dataset.is_none())];
        let lacks = fields.into_iter().chain([("model", self.model.is_empty())]).filter(|(_, lacks)| *lacks);
        let say =
            |(field, _): (&str, bool)| (format!("leaderboard.{field}"), "is needed beside the others".to_string());
        if self.averages() { lacks.map(say).collect() } else { Vec::new() }
    }

    pub fn entries(&self, table: &Frame) -> Result<Vec<Entry>> {
        let (Some(task), Some(metric), Some(dataset)) = (&self.task, &self.metric, &self.dataset) else {
            if !leaderboard::is_leaderboard(table) {
                return Err(Error::invalid(format!(
                    "table {} has not the columns Task, Dataset, Metric, Value and Model",
                    self.table
                ))
                .with_hint("of a metrics table say task, metric, dataset and model"));
            }
            return leaderboard::entries(table);
        };
        let column = |name: &str| frame::values(table, name);
        let (metrics, classes, values) = (column("metric")?, column("class")?, column("value")?);
        let dataset = column(dataset)?;
        let model = self.model.iter().map(|m| column(m)).collect::<Result<Vec<_>>>()?;
        // (dataset, model) to the values of its repeats, in the table's order.
        let mut groups: Vec<((String, String), Vec<f64>)> = Vec::new();
        for row in 0..table.height() {
            if metrics[row] != metric.as_str() || !classes[row].is_null() {
                continue;
            }
            let name: Vec<String> = self.model.iter().zip(&model).map(|(axis, m)| named(axis, &m[row])).collect();
            let key = (frame::label(&dataset[row]), name.join(", "));
            let at = groups.iter().position(|(k, _)| *k == key).unwrap_or_else(|| {
                groups.push((key, Vec::new()));
                groups.len() - 1
            });
            groups[at].1.extend(values[row].as_f64());
        }
        let entry = |((dataset, model), values): ((String, String), Vec<f64>)| Entry {
            task: task.clone(),
            dataset,
            metric: metric.clone(),
            value: statistic::mean(&values),
            model,
        };
        Ok(groups.into_iter().map(entry).collect())
    }
}
