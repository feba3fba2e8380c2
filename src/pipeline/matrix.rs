//! `matrix:` makes one node many cells: the product of its axes, less `exclude`, plus `include`.
//!
//! | axis | its values | its columns |
//! |---|---|---|
//! | `[1, 2]`, `${params.x}` | the items | one of its own name |
//! | `{ cells: NODE }` | every cell of NODE | those of NODE's cells; one of its own name, holding the node's, where NODE has none |
//!
//! Where two columns have one name: if they agree in every cell they are one; otherwise an axis of the
//! node itself keeps the name, and those that came along are called `axis.column`. The last axis turns
//! fastest.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    CellSpec,
    diagnostic::{Findings, Mark, did_you_mean},
    parameters::Parameters,
    reference::{Reference, axis_text, is_name, same},
    template::{Template, is_unknown},
    yaml::{Node, Yaml},
};

/// A declared matrix whose own values are known.
pub struct Matrix {
    pub at: Mark,
    pub axes: Vec<Axis>,
    include: Vec<Assignment>,
    exclude: Vec<Assignment>,
    /// An axis could not be read, so that the node's cells are not known.
    pub broken: bool,
}

pub struct Axis {
    pub name: String,
    pub values: AxisValues,
}

pub enum AxisValues {
    List(Vec<Value>),
    /// The cells that a reference selects, and where it is written.
    Cells(Reference, Mark),
}

/// One item of `include` or `exclude`.
struct Assignment {
    at: Mark,
    values: Vec<(String, Mark, Value)>,
}

/// What an axis is in one cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    Value(Value),
    /// Index of the cell.
    Cell(usize),
}

/// One cell to be: a choice for every axis, and its columns.
pub struct Row {
    pub choices: Vec<Choice>,
    pub columns: Vec<(String, Value)>,
}

impl Matrix {
    /// Reads a declaration; what is wrong goes to `findings`.
    pub fn read(node: &Node, who: &str, parameters: &Parameters, findings: &mut Findings) -> Self {
        let mut out = Matrix { at: node.at, axes: Vec::new(), include: Vec::new(), exclude: Vec::new(), broken: false };
        let Some(entries) = node.entries() else {
            out.broken = true;
            findings.push(node.at, "matrix", format!("{who}matrix: expected a map of axes"), None);
            return out;
        };
        let fill = |node: &Node, findings: &mut Findings| {
            Template::compile(node, who, findings).fill(parameters, who, findings)
        };
        for entry in entries {
            let (name, node) = (&entry.key, &entry.value);
            let path = format!("matrix.{name}");
            match name.as_str() {
                "include" => out.include = assignments(name, node, who, &fill, findings),
                "exclude" => out.exclude = assignments(name, node, who, &fill, findings),
                "params" | "env" => {
                    findings.push(entry.key_at, path, format!("{who}an axis cannot be called {name}"), None);
                }
                _ if !is_name(name) => {
                    let message = format!("{who}{name:?} is not a name for an axis");
                    findings.push(entry.key_at, path, message, Some("names are letters, digits, _ and -".into()));
                }
                _ => match axis(name, node, who, &fill, findings) {
                    Some(values) => out.axes.push(Axis { name: name.clone(), values }),
                    None => out.broken = true,
                },
            }
        }
        if out.axes.is_empty() && !out.broken {
            out.broken = true;
            let hint = Some("give it an axis, or leave matrix out".into());
            findings.push(node.at, "matrix", format!("{who}matrix has no axes"), hint);
        }
        out
    }

    /// How many cells the axes make before `exclude` and `include`.
    pub fn product(&self, selected: &[Vec<usize>]) -> Option<usize> {
        self.axes.iter().zip(selected).try_fold(1usize, |n, (axis, cells)| {
            n.checked_mul(match &axis.values {
                AxisValues::List(values) => values.len(),
                AxisValues::Cells(..) => cells.len(),
            })
        })
    }

    /// The node's cells; `selected` holds, by axis, the cells that a `cells:` axis means.
    pub fn rows(&self, who: &str, selected: &[Vec<usize>], cells: &[CellSpec], findings: &mut Findings) -> Vec<Row> {
        let mut choices: Vec<Vec<Choice>> = vec![Vec::new()];
        for (axis, selected) in self.axes.iter().zip(selected) {
            let values: Vec<Choice> = match &axis.values {
                AxisValues::List(values) => values.iter().cloned().map(Choice::Value).collect(),
                AxisValues::Cells(..) => selected.iter().copied().map(Choice::Cell).collect(),
            };
            choices = choices
                .into_iter()
                .flat_map(|row| values.iter().map(move |v| row.iter().cloned().chain([v.clone()]).collect()))
                .collect();
        }
        let columns = self.columns(&choices, cells);
        let names: HashSet<&str> =
            columns.iter().map(|c| c.name.as_str()).chain(self.axes.iter().map(|a| a.name.as_str())).collect();
        for item in &self.exclude {
            for (name, at, _) in item.values.iter().filter(|(n, ..)| !names.contains(n.as_str())) {
                let hint = did_you_mean(name, "axes", names.iter().copied());
                findings.push(*at, "matrix.exclude", format!("{who}exclude: unknown axis {name}"), hint);
            }
        }
        let row = |choices: Vec<Choice>| {
            let columns = columns.iter().map(|c| (c.name.clone(), c.value(&choices, cells))).collect();
            Row { choices, columns }
        };
        let mut rows: Vec<Row> = choices
            .into_iter()
            .map(row)
            .filter(|r| !self.exclude.iter().any(|item| self.matches(item, r, cells)))
            .collect();
        for item in &self.include {
            rows.extend(self.included(item, who, selected, cells, findings).map(row));
        }
        rows
    }

    /// Whether a row has all that an item of `exclude` asks for.
    fn matches(&self, item: &Assignment, row: &Row, cells: &[CellSpec]) -> bool {
        item.values.iter().all(|(name, _, wanted)| match wanted {
            // A list excludes each of its values; an axis whose own values are lists is excluded by one of them.
            Value::Array(any) => {
                self.has(name, wanted, row, cells) || any.iter().any(|w| self.has(name, w, row, cells))
            }
            one => self.has(name, one, row, cells),
        })
    }

    /// Whether an axis or a column of a row is the value that an item of `exclude` names.
    fn has(&self, name: &str, wanted: &Value, row: &Row, cells: &[CellSpec]) -> bool {
        let chosen = self.axes.iter().position(|a| a.name == name).map(|i| &row.choices[i]);
        match chosen {
            Some(Choice::Value(value)) if same(value, wanted) => return true,
            Some(Choice::Cell(i)) => {
                let meant = wanted.as_str().and_then(|w| Reference::parse(w).ok());
                if meant.is_some_and(|r| r.node == cells[*i].node && r.selects(&cells[*i].axes)) {
                    return true;
                }
            }
            _ => {}
        }
        row.columns.iter().any(|(n, v)| n == name && same(v, wanted))
    }

    /// The choices of an item of `include`, which names every axis.
    fn included(
        &self,
        item: &Assignment,
        who: &str,
        selected: &[Vec<usize>],
        cells: &[CellSpec],
        findings: &mut Findings,
    ) -> Option<Vec<Choice>> {
        let before = findings.count();
        for (name, at, _) in item.values.iter().filter(|(n, ..)| !self.axes.iter().any(|a| a.name == *n)) {
            let hint = did_you_mean(name, "axes", self.axes.iter().map(|a| a.name.as_str()));
            findings.push(*at, "matrix.include", format!("{who}include: unknown axis {name}"), hint);
        }
        let mut out = Vec::new();
        for (axis, selected) in self.axes.iter().zip(selected) {
            let Some((_, at, value)) = item.values.iter().find(|(n, ..)| *n == axis.name) else {
                let message = format!("{who}include: missing axis {}", axis.name);
                findings.push(item.at, "matrix.include", message, Some("an item names every axis".into()));
                continue;
            };
            match &axis.values {
                AxisValues::List(_) => out.push(Choice::Value(value.clone())),
                AxisValues::Cells(reference, _) => {
                    let wanted = value.as_str().and_then(|w| Reference::parse(w).ok());
                    let found: Vec<usize> = selected
                        .iter()
                        .copied()
                        .filter(|&i| {
                            wanted.as_ref().is_some_and(|r| r.node == cells[i].node && r.selects(&cells[i].axes))
                        })
                        .collect();
                    match found.as_slice() {
                        [one] => out.push(Choice::Cell(*one)),
                        many => {
                            let message = format!(
                                "{who}include: {} names {} cells of {}, not one",
                                axis_text(value),
                                many.len(),
                                reference.node
                            );
                            let hint = selected.first().map(|&i| format!("a cell is written {}", cells[i].id));
                            findings.push(*at, "matrix.include", message, hint);
                        }
                    }
                }
            }
        }
        (findings.count() == before).then_some(out)
    }

    fn columns(&self, rows: &[Vec<Choice>], cells: &[CellSpec]) -> Vec<Column> {
        let mut out: Vec<Column> = Vec::new();
        for (i, axis) in self.axes.iter().enumerate() {
            let inherited = rows.first().and_then(|r| match &r[i] {
                Choice::Cell(c) if !cells[*c].axes.is_empty() => Some(&cells[*c].axes),
                _ => None,
            });
            match inherited {
                None => out.push(Column { axis: i, column: None, inherited: None, name: axis.name.clone() }),
                Some(axes) => out.extend(axes.iter().enumerate().map(|(k, (name, _))| {
                    let inherited = Some(name.clone());
                    Column { axis: i, column: Some(k), inherited, name: name.clone() }
                })),
            }
        }
        let mut kept: Vec<Column> = Vec::new();
        for (n, column) in out.iter().enumerate() {
            let rivals: Vec<(usize, &Column)> =
                out.iter().enumerate().filter(|(m, c)| *m != n && c.name == column.name).collect();
            // The column that keeps the name if all agree: the node's own, or else the first.
            let owner = rivals.iter().copied().chain([(n, column)]).min_by_key(|(m, c)| (c.column.is_some(), *m));
            let owner = owner.map_or(column, |(_, c)| c);
            if rivals.is_empty() || (column.column.is_none() && std::ptr::eq(owner, column)) {
                kept.push(column.clone());
                continue;
            }
            let agree = |other: &Column| rows.iter().all(|r| column.value(r, cells) == other.value(r, cells));
            if std::ptr::eq(owner, column) {
                let alone = rivals.iter().all(|(_, c)| agree(c));
                let name = if alone { column.name.clone() } else { self.prefixed(column) };
                kept.push(Column { name, ..column.clone() });
            } else if !agree(owner) {
                kept.push(Column { name: self.prefixed(column), ..column.clone() });
            }
        }
        // A prefixed name may be one that another column brought along; then that one is prefixed too.
        // Axes have no dots in their names, so that all are told apart in the end.
        let names: Vec<String> = kept.iter().map(|c| c.name.clone()).collect();
        for column in &mut kept {
            let twice = names.iter().filter(|n| **n == column.name).count() > 1;
            if twice && column.inherited == Some(column.name.clone()) {
                column.name = self.prefixed(column);
            }
        }
        kept
    }

    fn prefixed(&self, column: &Column) -> String {
        format!("{}.{}", self.axes[column.axis].name, column.name)
    }
}

/// One column of the node's cells: of which axis, and which of the columns that came along with it.
#[derive(Clone, Debug)]
struct Column {
    axis: usize,
    column: Option<usize>,
    /// What it was called where it came from.
    inherited: Option<String>,
    name: String,
}

impl Column {
    fn value(&self, choices: &[Choice], cells: &[CellSpec]) -> Value {
        match (&choices[self.axis], self.column) {
            (Choice::Value(value), _) => value.clone(),
            (Choice::Cell(i), Some(k)) => cells[*i].axes.get(k).map_or(Value::Null, |(_, v)| v.clone()),
            (Choice::Cell(i), None) => Value::from(cells[*i].node.as_str()),
        }
    }
}

type Fill<'a> = dyn Fn(&Node, &mut Findings) -> Value + 'a;

fn axis(name: &str, node: &Node, who: &str, fill: &Fill, findings: &mut Findings) -> Option<AxisValues> {
    let path = format!("matrix.{name}");
    if let Yaml::Map(entries) = &node.value {
        let hint = "an axis is a list of values, or { cells: NODE }";
        for entry in entries.iter().filter(|e| e.key != "cells") {
            let message = format!("{who}axis {name}: unknown field {}", entry.key);
            findings.push(entry.key_at, &path, message, Some(hint.into()));
        }
        let Some(entry) = node.get("cells") else {
            if entries.is_empty() {
                findings.push(node.at, &path, format!("{who}axis {name} is empty"), Some(hint.into()));
            }
            return None;
        };
        let value = fill(&entry.value, findings);
        if is_unknown(&value) {
            return None;
        }
        let read = value.as_str().ok_or("expected the name of a node".to_string()).and_then(Reference::parse);
        return match read {
            Ok(reference) => Some(AxisValues::Cells(reference, entry.value.at)),
            Err(e) => {
                findings.push(entry.value.at, path, format!("{who}axis {name}: cells: {e}"), None);
                None
            }
        };
    }
    match fill(node, findings) {
        Value::Array(values) if values.is_empty() => {
            findings.push(node.at, path, format!("{who}axis {name} is empty, so the node has no cells"), None);
            None
        }
        Value::Array(values) => {
            if values.iter().any(is_unknown) {
                return None;
            }
            let mut seen = HashSet::new();
            let mut kept = Vec::with_capacity(values.len());
            for (i, value) in values.into_iter().enumerate() {
                let text = axis_text(&value);
                if seen.insert(text.clone()) {
                    kept.push(value);
                } else {
                    let at = node.items().and_then(|items| items.get(i)).map_or(node.at, |n| n.at);
                    findings.push(at, &path, format!("{who}axis {name} holds {text} twice"), None);
                }
            }
            Some(AxisValues::List(kept))
        }
        value if is_unknown(&value) => None,
        value => {
            let hint = match &value {
                Value::Object(_) => "an axis is a list of values, or { cells: NODE }".to_string(),
                v => format!("write [{}]", axis_text(v)),
            };
            findings.push(node.at, path, format!("{who}axis {name}: expected a list of values"), Some(hint));
            None
        }
    }
}

fn assignments(what: &str, node: &Node, who: &str, fill: &Fill, findings: &mut Findings) -> Vec<Assignment> {
    let mut out = Vec::new();
    match node.items() {
        Some(items) if items.iter().all(|i| i.entries().is_some()) => {
            for item in items {
                let values = item.entries().unwrap_or_default();
                let values = values.iter().map(|e| (e.key.clone(), e.key_at, fill(&e.value, findings))).collect();
                out.push(Assignment { at: item.at, values });
            }
        }
        _ => {
            let hint = Some(format!("{what}: [{{ axis: value }}]"));
            findings.push(node.at, format!("matrix.{what}"), format!("{who}{what}: expected a list of maps"), hint);
        }
    }
    out
}
