//! Where the `${…}` of one cell find their values: parameters, its own axes, and those that came along.

use serde_json::Value;

use super::{
    CellSpec,
    declaration::NodeDeclaration,
    diagnostic::did_you_mean,
    matrix::{AxisValues, Choice, Row},
    parameters::{Parameters, walk},
    template::{Expression, Scope, Wrong},
};

/// Where `${…}` of one cell find their values; without a row, axes have none yet.
pub struct CellScope<'a> {
    pub parameters: &'a Parameters,
    pub node: &'a NodeDeclaration,
    pub row: Option<&'a Row>,
    pub cells: &'a [CellSpec],
}

impl Scope for CellScope<'_> {
    fn get(&self, expression: &Expression) -> Result<Option<Value>, Wrong> {
        if let Some(found) = self.parameters.lookup(expression) {
            return found.map(Some);
        }
        let axes = self.node.matrix.as_ref().map_or(&[] as &[_], |m| m.axes.as_slice());
        let own = axes.iter().position(|a| a.name == expression.root);
        let Some(row) = self.row else {
            // Columns of other nodes, and axes that could not be read, are not known here.
            let open = self.node.matrix.as_ref().is_some_and(|m| m.broken)
                || axes.iter().any(|a| matches!(a.values, AxisValues::Cells(..)));
            return if own.is_some() || open { Ok(None) } else { Err(self.stranger(expression, Vec::new())) };
        };
        let deeper = |value: &Value, path: &[String]| {
            walk(value, path).map(Some).map_err(|step| {
                let hint = value.as_object().and_then(|m| did_you_mean(&step, "keys", m.keys().map(String::as_str)));
                Wrong { message: format!("{} has no {step}", expression.text()), hint }
            })
        };
        match own.map(|i| &row.choices[i]) {
            Some(Choice::Value(value)) => return deeper(value, &expression.path),
            Some(Choice::Cell(i)) => {
                let cell = &self.cells[*i];
                if expression.path.is_empty() {
                    return Ok(Some(Value::from(cell.id.as_str())));
                }
                let name = expression.path.join(".");
                return match cell.axes.iter().find(|(n, _)| *n == name || *n == expression.path[0]) {
                    Some((n, value)) if *n == name => Ok(Some(value.clone())),
                    Some((_, value)) => deeper(value, &expression.path[1..]),
                    None => {
                        let hint = did_you_mean(&name, "axes", cell.axes.iter().map(|(n, _)| n.as_str()));
                        Err(Wrong { message: format!("{}: {} has no axis {name}", expression.text(), cell.node), hint })
                    }
                };
            }
            None => {}
        }
        match row.columns.iter().find(|(n, _)| *n == expression.root) {
            Some((_, value)) => deeper(value, &expression.path),
            None => Err(self.stranger(expression, row.columns.iter().map(|(n, _)| n.as_str()).collect())),
        }
    }
}

impl CellScope<'_> {
    fn stranger(&self, expression: &Expression, columns: Vec<&str>) -> Wrong {
        let root = &expression.root;
        let axes = self.node.matrix.as_ref().map_or(&[] as &[_], |m| m.axes.as_slice());
        let mut known: Vec<&str> = axes.iter().map(|a| a.name.as_str()).collect();
        known.extend(columns.into_iter().filter(|c| !axes.iter().any(|a| a.name == *c)));
        let hint = match self.parameters.names().find(|n| n == root) {
            Some(name) => Some(format!("write ${{params.{name}}}")),
            None if known.is_empty() => Some("the node has no matrix; parameters are written ${params.name}".into()),
            None => did_you_mean(root, "axes", known),
        };
        Wrong { message: format!("{} is not an axis", expression.text()), hint }
    }
}
