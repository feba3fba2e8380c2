//! Declared nodes become cells: axes multiplied, `${…}` filled, inputs found, values checked.
//!
//! A node is taken up once the nodes that its axes and inputs name are done, with a stack of our own
//! rather than the machine's, so that ten thousand nodes in a row are no trouble and a cycle is seen as
//! a node that waits for itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use serde_json::Value;

use super::{
    CellInput, CellSpec,
    declaration::{Body, Declaration, NodeDeclaration},
    diagnostic::{Findings, Mark, did_you_mean},
    matrix::{AxisValues, Row},
    reference::{Reference, axis_text, cell_id},
    scope::CellScope,
    template::is_unknown,
    validate::validate,
    yaml::Step,
};
use crate::kind::{AnyKind, Arity, InputSpec};

/// Expands every node; cells of nodes with mistakes may be missing.
pub fn expand(declaration: &Declaration, max_cells: usize, findings: &mut Findings) -> Vec<CellSpec> {
    let mut expansion = Expansion {
        declaration,
        max_cells,
        schemas: HashMap::new(),
        cells: Vec::new(),
        planned: 0,
        ids: HashMap::new(),
        states: declaration.nodes.iter().map(|_| State::New).collect(),
        findings,
    };
    for node in &declaration.nodes {
        expansion.judge_unexpanded(node);
    }
    for i in 0..declaration.nodes.len() {
        expansion.finish(i);
    }
    expansion.cells
}

enum State {
    New,
    /// Axes and values are known, and the nodes that inputs name.
    Filled(Vec<Filled>, Vec<(usize, Mark)>),
    Done(Range<usize>),
    /// What its cells are is not known; why has been said.
    Failed,
}

/// A text that names cells, and where it stands in the parameters.
type Named = (Vec<Step>, String);

/// A cell whose inputs are not looked up yet.
struct Filled {
    columns: Vec<(String, Value)>,
    params: Value,
    /// By input field.
    inputs: Vec<(&'static InputSpec, Vec<Named>)>,
    /// Fields whose value names nothing, which the schema need not judge again.
    spoiled: Vec<&'static str>,
}

struct Expansion<'d, 'f> {
    declaration: &'d Declaration,
    max_cells: usize,
    schemas: HashMap<&'static str, Value>,
    cells: Vec<CellSpec>,
    /// How many cells there are, those of nodes that wait included.
    planned: usize,
    ids: HashMap<String, usize>,
    states: Vec<State>,
    findings: &'f mut Findings,
}

impl Expansion<'_, '_> {
    /// Brings a node and all that it needs to an end.
    fn finish(&mut self, node: usize) {
        let declaration = self.declaration;
        let name = |i: usize| declaration.nodes[i].name.as_str();
        let mut stack = vec![node];
        // The nodes that wait, each for the next.
        let mut chain: Vec<usize> = Vec::new();
        while let Some(&top) = stack.last() {
            let needed = match self.states[top] {
                State::Done(_) | State::Failed => Vec::new(),
                _ => self.advance(top),
            };
            if needed.is_empty() {
                stack.pop();
                if chain.last() == Some(&top) {
                    chain.pop();
                }
                continue;
            }
            if chain.last() != Some(&top) {
                chain.push(top);
            }
            if let Some((from, at)) = needed.iter().find_map(|(n, at)| Some((chain.iter().position(|c| c == n)?, *at)))
            {
                let path: Vec<&str> = chain[from..].iter().chain([&chain[from]]).map(|&i| name(i)).collect();
                let message = format!("{}cycle: {}", declaration.nodes[top].who, path.join(" needs "));
                self.findings.push(at, format!("nodes.{}", name(top)), message, None);
                self.states[top] = State::Failed;
                continue;
            }
            // The first one needed is on top, so that nodes come in declared order.
            stack.extend(needed.iter().rev().map(|(n, _)| *n));
        }
    }

    /// Takes a node as far as it goes: to its end (nothing is returned), or to the nodes that have to be
    /// done before, each with the place that names it.
    fn advance(&mut self, i: usize) -> Vec<(usize, Mark)> {
        let node = &self.declaration.nodes[i];
        let Some(body) = &node.body else {
            self.states[i] = State::Failed;
            return Vec::new();
        };
        if let State::New = self.states[i] {
            match self.axes(i) {
                Err(waits) => return waits,
                Ok(None) => {
                    self.states[i] = State::Failed;
                    return Vec::new();
                }
                Ok(Some(rows)) => {
                    let filled: Vec<Filled> = rows.into_iter().map(|row| self.fill(node, body, row)).collect();
                    let named = self.named(node, body, &filled);
                    self.states[i] = State::Filled(filled, named);
                }
            }
        }
        if let State::Filled(_, named) = &self.states[i] {
            let open = |n: usize| !matches!(self.states[n], State::Done(_) | State::Failed);
            let waits: Vec<_> = named.iter().copied().filter(|(n, _)| open(*n)).collect();
            if !waits.is_empty() {
                return waits;
            }
        }
        if let State::Filled(filled, _) = std::mem::replace(&mut self.states[i], State::Failed) {
            let start = self.cells.len();
            for cell in filled {
                self.link(node, body, cell);
            }
            self.states[i] = State::Done(start..self.cells.len());
        }
        Vec::new()
    }

    /// The rows of a node's matrix; `Err` with the nodes whose cells have to be known first, `Ok(None)`
    /// where there can be none.
    fn axes(&mut self, index: usize) -> Result<Option<Vec<Row>>, Vec<(usize, Mark)>> {
        let node = &self.declaration.nodes[index];
        let who = &node.who;
        let path = format!("nodes.{}.matrix", node.name);
        let Some(matrix) = &node.matrix else {
            return Ok(self
                .room(node, node.at, Some(1))
                .then(|| vec![Row { choices: Vec::new(), columns: Vec::new() }]));
        };
        let mut waits = Vec::new();
        let mut failed = matrix.broken;
        let mut selected = Vec::new();
        for axis in &matrix.axes {
            let AxisValues::Cells(reference, at) = &axis.values else {
                selected.push(Vec::new());
                continue;
            };
            let Some(&n) = self.declaration.index.get(&reference.node) else {
                let known = self.declaration.nodes.iter().map(|n| n.name.as_str());
                let hint = did_you_mean(&reference.node, "nodes", known);
                self.findings.push(
                    *at,
                    &path,
                    format!("{who}axis {}: unknown node {}", axis.name, reference.node),
                    hint,
                );
                failed = true;
                continue;
            };
            if let Some(output) = &reference.output {
                let hint =
                    Some(format!("cells: {}, and \"${{{}}}.{output}\" where it is used", reference.node, axis.name));
                self.findings.push(
                    *at,
                    &path,
                    format!("{who}axis {}: cells have no output of their own", axis.name),
                    hint,
                );
                failed = true;
                continue;
            }
            match &self.states[n] {
                State::Done(range) => {
                    let cells: Vec<usize> = range.clone().filter(|&i| reference.selects(&self.cells[i].axes)).collect();
                    if cells.is_empty() && !range.is_empty() {
                        let all: Vec<&CellSpec> = self.cells[range.clone()].iter().collect();
                        let (message, hint) = nothing_selected(reference, &all);
                        self.findings.push(*at, &path, format!("{who}axis {}: {message}", axis.name), hint);
                    }
                    failed |= cells.is_empty();
                    selected.push(cells);
                }
                State::Failed => failed = true,
                _ => waits.push((n, *at)),
            }
        }
        if failed {
            return Ok(None);
        }
        if !waits.is_empty() {
            return Err(waits);
        }
        if !self.room(node, matrix.at, matrix.product(&selected)) {
            return Ok(None);
        }
        let before = self.findings.count();
        let rows = matrix.rows(who, &selected, &self.cells, self.findings);
        if rows.is_empty() && self.findings.count() == before {
            let hint = Some("exclude leaves nothing over".into());
            self.findings.push(matrix.at, path, format!("{who}matrix has no cells"), hint);
        }
        Ok((!rows.is_empty()).then_some(rows))
    }

    /// Whether so many more cells are allowed.
    fn room(&mut self, node: &NodeDeclaration, at: Mark, more: Option<usize>) -> bool {
        if let Some(sum) = more.and_then(|n| n.checked_add(self.planned)).filter(|&n| n <= self.max_cells) {
            self.planned = sum;
            return true;
        }
        let count = more.map_or("more cells than can be counted".into(), |n| format!("{n} cells"));
        let message = format!("{}{count} on top of {}, and {} are allowed", node.who, self.planned, self.max_cells);
        let hint = Some("raise the limit with --max-cells, or make the matrix smaller".into());
        self.findings.push(at, format!("nodes.{}", node.name), message, hint);
        false
    }

    fn fill(&mut self, node: &NodeDeclaration, body: &Body, row: Row) -> Filled {
        let scope = CellScope { parameters: &self.declaration.parameters, node, row: Some(&row), cells: &self.cells };
        let params = body.template.fill(&scope, &node.who, self.findings);
        self.inputs(node, body, row.columns, params)
    }

    /// Finds the texts in input fields that name cells.
    fn inputs(
        &mut self,
        node: &NodeDeclaration,
        body: &Body,
        columns: Vec<(String, Value)>,
        mut params: Value,
    ) -> Filled {
        let schema = schema_of(&mut self.schemas, body.kind);
        let mut inputs = Vec::new();
        let mut spoiled = Vec::new();
        for spec in body.kind.inputs() {
            let step = Step::Key(spec.field.into());
            let mut wrong = |steps: &[Step], message: String, hint: Option<String>| {
                let at = body.node.mark(steps, false);
                let path = format!("nodes.{}.{}.{}", node.name, body.kind.name(), spec.field);
                self.findings.push(at, path, format!("{}{}: {message}", node.who, spec.field), hint);
                spoiled.push(spec.field);
            };
            let mut texts = Vec::new();
            match params.get(spec.field) {
                None | Some(Value::Null) => {
                    if spec.arity == Arity::One {
                        let hint = Some(format!("it names a node that makes {}", types(spec)));
                        let message = format!("{}missing field {}", node.who, spec.field);
                        self.findings.push(body.kind_at, format!("nodes.{}", node.name), message, hint);
                        spoiled.push(spec.field);
                    }
                }
                Some(value) if is_unknown(value) => {}
                Some(Value::String(text)) => texts.push((vec![step], text.clone())),
                Some(Value::Array(items)) if takes_many(spec) => {
                    for (i, item) in items.iter().enumerate() {
                        let steps = vec![step.clone(), Step::Index(i)];
                        match item {
                            item if is_unknown(item) => {}
                            Value::String(text) => texts.push((steps, text.clone())),
                            other => wrong(&steps, format!("expected the name of a node, got {other}"), None),
                        }
                    }
                }
                Some(Value::Array(_)) => {
                    let hint = "over several nodes, make it an axis: matrix: { name: [a, b] }, and \"${name}\" here";
                    wrong(&[step], "expected the name of one node, got a list".into(), Some(hint.into()));
                }
                Some(other) => wrong(&[step], format!("expected the name of a node, got {other}"), None),
            }
            inputs.push((spec, texts));
        }
        // One name stands for a list of one where the kind's own field is a list.
        for spec in body.kind.inputs().iter().filter(|s| takes_many(s)) {
            let list = schema
                .pointer(&format!("/properties/{}/type", spec.field))
                .is_some_and(|t| t == "array" || t.as_array().is_some_and(|a| a.contains(&Value::from("array"))));
            if let Some(value) = params.get_mut(spec.field).filter(|v| list && v.is_string() && !is_unknown(v)) {
                *value = Value::Array(vec![value.take()]);
            }
        }
        Filled { columns, params, inputs, spoiled }
    }

    /// The nodes that inputs of these cells name, each once; unknown ones are reported.
    fn named(&mut self, node: &NodeDeclaration, body: &Body, filled: &[Filled]) -> Vec<(usize, Mark)> {
        let mut out: Vec<(usize, Mark)> = Vec::new();
        let mut seen: HashSet<&str> = HashSet::new();
        for (spec, texts) in filled.iter().flat_map(|f| &f.inputs) {
            for (steps, text) in texts {
                // A cell's own name comes from a `cells:` axis, whose node is done.
                if self.ids.contains_key(text) || !seen.insert(text) {
                    continue;
                }
                let at = body.node.mark(steps, false);
                let path = format!("nodes.{}.{}.{}", node.name, body.kind.name(), spec.field);
                match Reference::parse(text) {
                    Err(e) => self.findings.push(at, path, format!("{}{}: {e}", node.who, spec.field), None),
                    Ok(reference) => match self.declaration.index.get(&reference.node) {
                        Some(&n) => {
                            if !out.iter().any(|(m, _)| *m == n) {
                                out.push((n, at));
                            }
                        }
                        None => {
                            let known =
                                self.declaration.nodes.iter().map(|n| n.name.as_str()).filter(|n| *n != node.name);
                            let hint = did_you_mean(&reference.node, "nodes", known);
                            let message = format!("{}{}: unknown node {}", node.who, spec.field, reference.node);
                            self.findings.push(at, path, message, hint);
                        }
                    },
                }
            }
        }
        out
    }

    /// Looks up the inputs of a cell, checks its values, and adds it to the pipeline.
    fn link(&mut self, node: &NodeDeclaration, body: &Body, filled: Filled) {
        let mut inputs: BTreeMap<String, Vec<CellInput>> = BTreeMap::new();
        let mut spoiled = filled.spoiled;
        for (spec, texts) in &filled.inputs {
            let found = inputs.entry(spec.field.to_string()).or_default();
            for (steps, text) in texts {
                match self.cells_of(spec, text) {
                    Ok(mut cells) => found.append(&mut cells),
                    Err(None) => spoiled.push(spec.field),
                    Err(Some((message, hint))) => {
                        let at = body.node.mark(steps, false);
                        let path = format!("nodes.{}.{}.{}", node.name, body.kind.name(), spec.field);
                        self.findings.push(at, path, format!("{}{}: {message}", node.who, spec.field), hint);
                        spoiled.push(spec.field);
                    }
                }
            }
            if found.is_empty() {
                inputs.remove(spec.field);
            }
        }
        let first = !matches!(self.cells.last(), Some(c) if c.node == node.name);
        if !body.template.is_fixed() || first {
            self.judge(node, body, &filled.params, &spoiled);
        }
        let id = cell_id(&node.name, &filled.columns);
        if self.ids.insert(id.clone(), self.cells.len()).is_some() {
            let at = node.matrix.as_ref().map_or(node.at, |m| m.at);
            let hint = Some("an axis value or an item of include stands for the same cell twice".into());
            self.findings.push(
                at,
                format!("nodes.{}.matrix", node.name),
                format!("{}two cells are {id}", node.who),
                hint,
            );
        }
        self.cells.push(CellSpec {
            id,
            node: node.name.clone(),
            kind: body.kind,
            axes: filled.columns,
            params: filled.params,
            inputs,
            limits: node.limits.clone(),
        });
    }

    /// What a text in an input field means. `Err(None)`: a mistake that has been reported.
    fn cells_of(&self, spec: &InputSpec, text: &str) -> Result<Vec<CellInput>, Option<(String, Option<String>)>> {
        let exact = |id: &str| self.ids.get(id).copied();
        let (cells, node, output) = if let Some(cell) = exact(text) {
            (cell..cell + 1, self.cells[cell].node.as_str(), None)
        } else if let Some((cell, output)) = text.rsplit_once('.').and_then(|(id, o)| Some((exact(id)?, o))) {
            (cell..cell + 1, self.cells[cell].node.as_str(), Some(output.to_string()))
        } else {
            let reference = Reference::parse(text).map_err(|_| None)?;
            let node = self.declaration.index.get(&reference.node).ok_or(None)?;
            let State::Done(range) = &self.states[*node] else { return Err(None) };
            let cells: Vec<usize> = range.clone().filter(|&i| reference.selects(&self.cells[i].axes)).collect();
            if cells.is_empty() {
                let all: Vec<&CellSpec> = self.cells[range.clone()].iter().collect();
                return Err(if all.is_empty() { None } else { Some(nothing_selected(&reference, &all)) });
            }
            if !takes_many(spec) && cells.len() > 1 {
                let message = format!("{text} has {} cells, and one is needed", cells.len());
                let hint = format!(
                    "matrix: {{ {0}: {{ cells: {text} }} }} with {0}: \"${{{0}}}\" takes each in turn; {1} is one of them",
                    spec.field, self.cells[cells[0]].id
                );
                return Err(Some((message, Some(hint))));
            }
            let output = self.output(
                spec,
                &self.declaration.nodes[*node].name,
                &self.cells[cells[0]],
                reference.output.as_deref(),
            )?;
            return Ok(cells.into_iter().map(|cell| CellInput { cell, output: output.clone() }).collect());
        };
        let output = self.output(spec, node, &self.cells[cells.start], output.as_deref())?;
        Ok(cells.map(|cell| CellInput { cell, output: output.clone() }).collect())
    }

    /// The output that is meant: the one named, the one the field prefers, or the first of a type it takes.
    fn output(
        &self,
        spec: &InputSpec,
        node: &str,
        cell: &CellSpec,
        named: Option<&str>,
    ) -> Result<String, Option<(String, Option<String>)>> {
        let takes = |t| spec.accepts.is_empty() || spec.accepts.contains(&t);
        // Parameters that cannot be read have been told of.
        let outputs = cell.kind.outputs_of(&cell.params).map_err(|_| None)?;
        if let Some(name) = named {
            return match outputs.iter().find(|(n, _)| *n == name) {
                Some((_, t)) if takes(*t) => Ok(name.to_string()),
                Some((_, t)) => Err(Some((format!("{node}.{name} is {}, not {}", t.name(), types(spec)), None))),
                None => {
                    let hint = did_you_mean(name, "outputs", outputs.iter().map(|(n, _)| n.as_str()));
                    Err(Some((format!("{node} has no output {name}"), hint)))
                }
            };
        }
        spec.prefers
            .and_then(|p| outputs.iter().find(|(n, t)| *n == p && takes(*t)))
            .or_else(|| outputs.iter().find(|(_, t)| takes(*t)))
            .map(|(n, _)| n.to_string())
            .ok_or_else(|| {
                let made: Vec<&str> = outputs.iter().map(|(_, t)| t.name()).collect();
                let message = format!(
                    "{node} ({}) makes {}, and {} is needed",
                    cell.kind.name(),
                    if made.is_empty() { "nothing".to_string() } else { made.join(", ") },
                    types(spec)
                );
                let fit: Vec<&str> = self
                    .declaration
                    .nodes
                    .iter()
                    .filter(|n| n.body.as_ref().is_some_and(|b| b.kind.outputs().iter().any(|(_, t)| takes(*t))))
                    .map(|n| n.name.as_str())
                    .take(10)
                    .collect();
                let hint = (!fit.is_empty()).then(|| format!("nodes that make it: {}", fit.join(", ")));
                Some((message, hint))
            })
    }

    /// A node's values before its cells are known: what no axis can mend is reported even where the
    /// nodes that it needs are wrong themselves.
    fn judge_unexpanded(&mut self, node: &NodeDeclaration) {
        let Some(body) = &node.body else { return };
        let scope = CellScope { parameters: &self.declaration.parameters, node, row: None, cells: &[] };
        let params = body.template.fill(&scope, &node.who, self.findings);
        let filled = self.inputs(node, body, Vec::new(), params);
        let filled = [filled];
        self.named(node, body, &filled);
        let [filled] = filled;
        self.judge(node, body, &filled.params, &filled.spoiled);
    }

    /// Checks the values of a cell against its kind's schema, types and rules.
    fn judge(&mut self, node: &NodeDeclaration, body: &Body, params: &Value, spoiled: &[&'static str]) {
        let schema = schema_of(&mut self.schemas, body.kind);
        let base = format!("nodes.{}.{}", node.name, body.kind.name());
        let of_spoiled = |steps: &[Step]| matches!(steps.first(), Some(Step::Key(k)) if spoiled.contains(&k.as_str()));
        let mut wrong = false;
        for mistake in validate(schema, params) {
            wrong = true;
            let missing = |field: &&str| mistake.key && mistake.message == format!("missing field {field}");
            if of_spoiled(&mistake.path) || spoiled.iter().any(missing) {
                continue;
            }
            // The key of the whole is the kind's.
            let at = if mistake.path.is_empty() { body.kind_at } else { body.node.mark(&mistake.path, mistake.key) };
            let path = format!("{base}.{}", super::yaml::path_text(&mistake.path));
            self.findings.push(
                at,
                path.trim_end_matches('.'),
                format!("{}{}", node.who, mistake.message),
                mistake.hint,
            );
        }
        if wrong || !spoiled.is_empty() || has_unknown(params) {
            return;
        }
        match body.kind.check(params) {
            Ok(problems) => {
                for (field, message) in problems {
                    let steps: Vec<Step> =
                        field.split('.').filter(|f| !f.is_empty()).map(|f| Step::Key(f.into())).collect();
                    let at = if steps.is_empty() { body.kind_at } else { body.node.mark(&steps, false) };
                    let message = if field.is_empty() { message } else { format!("{field}: {message}") };
                    self.findings.push(at, format!("{base}.{field}"), format!("{}{message}", node.who), None);
                }
            }
            Err(e) => self.findings.push(body.kind_at, base, format!("{}{e}", node.who), e.hint().map(String::from)),
        }
    }
}

fn schema_of<'a>(schemas: &'a mut HashMap<&'static str, Value>, kind: &'static dyn AnyKind) -> &'a Value {
    schemas.entry(kind.name()).or_insert_with(|| kind.schema().to_value())
}

fn takes_many(spec: &InputSpec) -> bool {
    !matches!(spec.arity, Arity::One | Arity::Optional)
}

fn has_unknown(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_unknown),
        Value::Object(map) => map.values().any(has_unknown),
        plain => is_unknown(plain),
    }
}

fn types(spec: &InputSpec) -> String {
    match spec.accepts {
        [] => "any artifact".into(),
        some => some.iter().map(|t| t.name()).collect::<Vec<_>>().join(" or "),
    }
}

/// Says why a reference selects none of a node's cells: (message, hint).
pub fn nothing_selected(reference: &Reference, cells: &[&CellSpec]) -> (String, Option<String>) {
    let node = &reference.node;
    let names: Vec<&str> = cells.first().map_or(Vec::new(), |c| c.axes.iter().map(|(n, _)| n.as_str()).collect());
    for (axis, wanted) in &reference.select {
        if !names.contains(&axis.as_str()) {
            let hint = if names.is_empty() {
                Some(format!("{node} has no matrix"))
            } else {
                did_you_mean(axis, "axes", names)
            };
            return (format!("{node} has no axis {axis}"), hint);
        }
        let mut values: Vec<String> = Vec::new();
        let mut held = false;
        for (_, value) in cells.iter().flat_map(|c| c.axes.iter().filter(|(n, _)| n == axis)) {
            held |= super::reference::same(value, wanted);
            let text = axis_text(value);
            if values.len() < 20 && !values.contains(&text) {
                values.push(text);
            }
        }
        if !held {
            return (
                format!("{node} has no cell with {axis}={}", axis_text(wanted)),
                Some(format!("{axis} is one of {}", values.join(", "))),
            );
        }
    }
    (format!("no cell of {node} has all of these values"), cells.first().map(|c| format!("a cell is written {}", c.id)))
}
