//! Measurements out of metrics tables: one number with the axes that it was made under.
//!
//! Of a cell of this program the axes are the cell's own; of a table that came from outside (`table`, `query`),
//! where a row is a measurement, every column but `metric`, `class`, `value` and what follows from them is an axis.

use serde_json::Value;

use super::{Cell, Input, frames};
use crate::{
    error::{Error, Result, nearest},
    report::frame::{self, Frame},
};

/// Columns of a metrics table that are no axes: the measurement, and facts that follow from the axes.
const FACTS: [&str; 7] = ["metric", "class", "value", "rows", "positives", "train_images", "steps"];

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub axes: Vec<(String, Value)>,
    /// Columns of its row that are no axes, such as `train_images`.
    pub facts: Vec<(String, Value)>,
    /// `None` where the metric was not defined.
    pub value: Option<f64>,
}

impl Point {
    pub fn axis(&self, name: &str) -> Option<&Value> {
        self.axes.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// An axis, or a fact where there is no such axis.
    pub fn column(&self, name: &str) -> Option<&Value> {
        self.axis(name).or_else(|| self.facts.iter().find(|(n, _)| n == name).map(|(_, v)| v))
    }

    /// The axes but those named.
    pub fn others(&self, without: &[&str]) -> Vec<(String, Value)> {
        self.axes.iter().filter(|(n, _)| !without.contains(&n.as_str())).cloned().collect()
    }
}

/// Which number of a metrics table is meant.
#[derive(Clone, Copy, Debug)]
pub struct Measure<'a> {
    pub metric: &'a str,
    /// `None`: the number over all classes.
    pub class: Option<&'a str>,
}

/// The measurements of every cell of a field. `metric` null means accuracy where there is one, else mean_auc.
///
/// # Errors
/// A table without the metric or the class, with those that it has; an axis that a measurement lacks.
pub fn read(
    cell: &Cell,
    field: &str,
    metric: Option<&str>,
    class: Option<&str>,
    axes: &[&str],
) -> Result<(String, Vec<Point>)> {
    let inputs = cell.many(field);
    let tables = inputs.iter().map(|i| Ok((i, frames::read(cell, i)?))).collect::<Result<Vec<_>>>()?;
    let metric = match metric {
        Some(name) => name.to_string(),
        None => default_metric(&tables, class)?,
    };
    let mut points = Vec::new();
    for (input, table) in &tables {
        points.extend(of_table(input, table, Measure { metric: &metric, class })?);
    }
    for axis in axes {
        if let Some(lacks) = points.iter().find(|p| p.axis(axis).is_none()) {
            let known: Vec<&str> = lacks.axes.iter().map(|(n, _)| n.as_str()).collect();
            let error = Error::invalid(format!("the measurements have no axis {axis}"));
            return Err(match nearest(axis, known.iter().copied()) {
                Some(near) => error.with_hint(format!("did you mean {near}?")),
                None => error.with_hint(format!("their axes are {}", known.join(", "))),
            });
        }
    }
    Ok((metric, points))
}

fn default_metric(tables: &[(&Input, Frame)], class: Option<&str>) -> Result<String> {
    let names = if class.is_some() { ["auc", "recall"] } else { ["accuracy", "mean_auc"] };
    for name in names {
        for (input, table) in tables {
            if of_table(input, table, Measure { metric: name, class })
                .is_ok_and(|p| p.iter().any(|p| p.value.is_some()))
            {
                return Ok(name.into());
            }
        }
    }
    Err(Error::invalid(format!("the measurements hold neither {} nor {}", names[0], names[1]))
        .with_hint("name a metric"))
}

fn of_table(input: &Input, table: &Frame, measure: Measure) -> Result<Vec<Point>> {
    let column = |name: &str| frame::values(table, name);
    let (metrics, values) = (column("metric")?, column("value")?);
    let classes = column("class").unwrap_or_else(|_| vec![Value::Null; metrics.len()]);
    let wanted = |row: usize| match measure.class {
        Some(class) => classes[row] == class,
        None => classes[row].is_null(),
    };
    let rows: Vec<usize> = (0..metrics.len()).filter(|&row| metrics[row] == measure.metric && wanted(row)).collect();
    if rows.is_empty() {
        return Err(unknown(&input.node, measure, &metrics, &classes));
    }
    let from_outside = matches!(input.kind.as_str(), "query" | "table");
    let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
    for name in table.columns().iter().map(|c| c.name().as_str()) {
        if !["metric", "class", "value"].contains(&name) && input.axes.iter().all(|(axis, _)| axis != name) {
            columns.push((name.into(), column(name)?));
        }
    }
    let point = |row: usize| {
        let of_row = columns.iter().map(|(name, values)| (name.clone(), values[row].clone()));
        let (axes, facts): (Vec<_>, Vec<_>) =
            of_row.partition(|(name, _)| from_outside && !FACTS.contains(&name.as_str()));
        Point { axes: input.axes.iter().cloned().chain(axes).collect(), facts, value: values[row].as_f64() }
    };
    Ok(rows.into_iter().map(point).collect())
}

fn unknown(node: &str, measure: Measure, metrics: &[Value], classes: &[Value]) -> Error {
    let has_metric = metrics.iter().any(|m| m == measure.metric);
    let (what, mut known) = match measure.class {
        Some(class) if has_metric => {
            let of = metrics.iter().zip(classes).filter(|(m, c)| **m == measure.metric && !c.is_null());
            (format!("no {} of class {class}", measure.metric), of.map(|(_, c)| frame::label(c)).collect::<Vec<_>>())
        }
        class => {
            let of = metrics.iter().zip(classes).filter(|(_, c)| c.is_null() == class.is_none());
            (format!("no metric {}", measure.metric), of.map(|(m, _)| frame::label(m)).collect())
        }
    };
    known.sort();
    known.dedup();
    Error::invalid(format!("node {node} has {what}")).with_hint(format!("there are {}", known.join(", ")))
}

/// `fraction=0.1, target=tb`, as messages name a group.
pub fn place(axes: &[(String, Value)]) -> String {
    let parts: Vec<String> = axes.iter().map(|(n, v)| format!("{n}={}", frame::label(v))).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::frame::Rows,
        store::artifact::{Artifact, ArtifactType},
    };
    use serde_json::json;

    fn input(kind: &str) -> Input {
        Input {
            node: "n".into(),
            output: "metrics".into(),
            kind: kind.into(),
            axes: vec![("model".into(), json!("r50"))],
            artifact: Artifact::new(ArtifactType::Table, Vec::new()),
        }
    }

    fn table() -> Frame {
        let mut rows = Rows::new();
        for (class, value) in [(json!(null), json!(0.5)), (json!("cat"), json!(null))] {
            rows.push([
                ("metric", json!("auc")),
                ("class", class),
                ("value", value),
                ("target", json!("tb")),
                ("train_images", json!(20)),
            ]);
        }
        rows.frame().unwrap()
    }

    #[test]
    fn rows_from_outside_carry_their_axes_and_own_cells_have_theirs() {
        let measure = Measure { metric: "auc", class: None };
        let own = of_table(&input("transfer"), &table(), measure).unwrap();
        assert_eq!(own[0].axes, [("model".to_string(), json!("r50"))]);
        assert_eq!((own[0].column("train_images"), own[0].value), (Some(&json!(20)), Some(0.5)));
        let outside = of_table(&input("query"), &table(), Measure { class: Some("cat"), ..measure }).unwrap();
        assert_eq!((outside[0].axis("target"), outside[0].value), (Some(&json!("tb")), None));
        assert_eq!(outside[0].axis("train_images"), None, "what follows from the axes is none");
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let e = of_table(&input("transfer"), &table(), Measure { metric: "acc", class: None }).unwrap_err();
        assert_eq!((e.to_string().as_str(), e.hint()), ("node n has no metric acc", Some("there are auc")));
        let e = of_table(&input("transfer"), &table(), Measure { metric: "auc", class: Some("dog") }).unwrap_err();
        assert_eq!((e.to_string().as_str(), e.hint()), ("node n has no auc of class dog", Some("there are cat")));
    }
}
