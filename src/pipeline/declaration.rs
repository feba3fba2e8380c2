//! What a pipeline file says, node by node, before any matrix is expanded.
//!
//! Names, kinds and the shape of the file are judged here; what a node's values mean is not.

use std::collections::HashMap;

use super::{
    Registry,
    diagnostic::{Findings, Mark, did_you_mean},
    limits::Limits,
    matrix::Matrix,
    parameters::Parameters,
    reference::is_name,
    template::{Template, is_unknown},
    yaml::{Entry, Node, Yaml},
};
use crate::kind::AnyKind;

/// A whole file.
pub struct Declaration {
    pub name: String,
    pub parameters: Parameters,
    pub nodes: Vec<NodeDeclaration>,
    /// Index of each node by name.
    pub index: HashMap<String, usize>,
}

/// One node of the file.
pub struct NodeDeclaration {
    pub name: String,
    pub at: Mark,
    /// `node b: `, in front of every message about it.
    pub who: String,
    /// `None` where the node has no kind that is known.
    pub body: Option<Body>,
    pub matrix: Option<Matrix>,
    pub limits: Limits,
}

/// The keyed part of a node: `merge: { … }`.
pub struct Body {
    pub kind: &'static dyn AnyKind,
    pub kind_at: Mark,
    pub node: Node,
    pub template: Template,
}

/// What a file may say at its top.
pub const TOP: [&str; 5] = ["pipeline", "description", "include", "params", "nodes"];

/// Reads the tree of a file; what is wrong goes to `findings`.
pub fn declare(
    root: &Node,
    registry: Registry,
    overrides: &[(String, String)],
    env: fn(&str) -> Option<String>,
    findings: &mut Findings,
) -> Declaration {
    let entry = |key: &str| root.get(key);
    let entries = root.entries().unwrap_or_default();
    if root.entries().is_none() {
        let what = if root.is_null() { "the file is empty" } else { "a pipeline is a map" };
        findings.push(root.at, "", what, Some("it begins with pipeline: NAME and has nodes: { … }".into()));
    }
    for e in entries.iter().filter(|e| !TOP.contains(&e.key.as_str())) {
        let hint = did_you_mean(&e.key, "fields", TOP);
        findings.push(e.key_at, e.key.clone(), format!("unknown field {}", e.key), hint);
    }
    let start = Mark { file: 0, line: 1, column: 1, width: 1 };
    let name = match entry("pipeline") {
        Some(e) => e.value.text().filter(|t| !t.is_empty()).map(String::from).unwrap_or_else(|| {
            findings.push(e.value.at, "pipeline", "pipeline: expected a name", None);
            String::new()
        }),
        None => {
            if !entries.is_empty() {
                findings.push(start, "", "missing field pipeline", Some("begin with pipeline: NAME".into()));
            }
            String::new()
        }
    };
    described(entry("description"), "", findings);
    let parameters = Parameters::read(entry("params").map(|e| &e.value), overrides, env, findings);
    let declared = match entry("nodes") {
        Some(e) => match &e.value.value {
            Yaml::Map(nodes) if !nodes.is_empty() => nodes.as_slice(),
            _ => {
                findings.push(
                    e.value.at,
                    "nodes",
                    "nodes: expected a map of nodes",
                    Some("name: { kind: { … } }".into()),
                );
                &[]
            }
        },
        None => {
            if !entries.is_empty() {
                findings.push(start, "", "missing field nodes", None);
            }
            &[]
        }
    };
    let nodes: Vec<_> = declared.iter().map(|e| node(e, registry, &parameters, findings)).collect();
    let index = nodes.iter().enumerate().map(|(i, n)| (n.name.clone(), i)).collect();
    Declaration { name, parameters, nodes, index }
}

fn described(entry: Option<&Entry>, who: &str, findings: &mut Findings) {
    if let Some(e) = entry.filter(|e| e.value.text().is_none()) {
        findings.push(e.value.at, "description", format!("{who}description: expected text"), None);
    }
}

fn node(entry: &Entry, registry: Registry, parameters: &Parameters, findings: &mut Findings) -> NodeDeclaration {
    let name = entry.key.clone();
    let who = format!("node {name}: ");
    let path = format!("nodes.{name}");
    if !is_name(&name) {
        let hint = Some("names begin with a letter and go on with letters, digits, _ and -".into());
        findings.push(entry.key_at, &path, format!("{name:?} is not a name for a node"), hint);
    }
    let mut out = NodeDeclaration { name, at: entry.key_at, who, body: None, matrix: None, limits: Limits::default() };
    let who = &out.who;
    let names = || registry.iter().map(|k| k.name());
    let Some(entries) = entry.value.entries() else {
        let message = format!("{who}expected a map with a kind");
        findings.push(entry.value.at, &path, message, Some("name: { kind: { … } }".into()));
        return out;
    };
    let known: Vec<(&Entry, &'static dyn AnyKind)> =
        entries.iter().filter_map(|e| registry.iter().find(|k| k.name() == e.key).map(|k| (e, *k))).collect();
    described(entry.value.get("description"), who, findings);
    let strangers: Vec<&Entry> = entries
        .iter()
        .filter(|e| {
            !matches!(e.key.as_str(), "matrix" | "description" | "resources")
                && !known.iter().any(|(k, _)| k.key == e.key)
        })
        .collect();
    // `kind: merge` says it all; its neighbours are parameters that stand a level too high.
    let old_form = strangers.iter().copied().find(|e| e.key == "kind");
    for e in old_form.map_or(strangers.clone(), |e| vec![e]) {
        let at = format!("{path}.{}", e.key);
        if e.key == "kind" {
            let kind = e.value.text().unwrap_or("merge");
            let hint = format!("the kind is the key: {kind}: {{ … }}");
            findings.push(e.key_at, at, format!("{who}unknown field kind"), Some(hint));
        } else if let [(kind, _)] = known.as_slice() {
            let known = names().chain(["matrix", "description", "resources"]);
            let hint = crate::error::nearest(&e.key, known)
                .map(|near| format!("did you mean {near}?"))
                .or(Some(format!("parameters stand inside of {}: {{ … }}", kind.key)));
            findings.push(e.key_at, at, format!("{who}unknown field {}", e.key), hint);
        } else {
            let hint = did_you_mean(&e.key, "kinds", names());
            findings.push(e.key_at, at, format!("{who}unknown kind {}", e.key), hint);
        }
    }
    match known.as_slice() {
        [] => {
            if strangers.is_empty() {
                let hint = Some(format!("known kinds: {}", names().collect::<Vec<_>>().join(", ")));
                findings.push(entry.key_at, &path, format!("{who}has no kind"), hint);
            }
        }
        [(e, kind)] => {
            let mut body = e.value.clone();
            if body.is_null() {
                body.value = Yaml::Map(Vec::new());
            }
            let template = Template::compile(&body, who, findings);
            // A parameter or an axis may hold the whole map.
            let borrowed = match &template {
                Template::Whole(expression, _) if expression.is_indexed() => true,
                Template::Whole(expression, _) => match parameters.lookup(expression) {
                    Some(Ok(value)) => value.is_object() || is_unknown(&value),
                    // What is wrong with a parameter is said where values are filled.
                    Some(Err(_)) | None => true,
                },
                _ => false,
            };
            if borrowed || body.entries().is_some() {
                out.body = Some(Body { kind: *kind, kind_at: e.key_at, node: body, template });
            } else {
                let message = format!("{who}{}: expected a map of parameters", e.key);
                findings.push(body.at, format!("{path}.{}", e.key), message, None);
            }
        }
        [(first, _), rest @ ..] => {
            for (e, _) in rest {
                let message = format!("{who}has two kinds, {} and {}", first.key, e.key);
                findings.push(e.key_at, &path, message, Some("a node does one thing; make it two nodes".into()));
            }
        }
    }
    if let Some(e) = entry.value.get("resources") {
        out.limits = Limits::read(e, &out.who, &format!("{path}.resources"), findings);
    }
    out.matrix = entry.value.get("matrix").map(|e| Matrix::read(&e.value, &out.who, parameters, findings));
    out
}
