//! The `params:` of a pipeline, what `-p name=value` makes of them, and the environment.
//!
//! A parameter may use those declared above it, and be chosen by one: `{ by: scale, paper: 20000, mini: 20 }`. The environment is asked through a function, so that
//! nothing else here depends on it.

use serde_json::Value;

use super::{
    diagnostic::{Findings, Mark, did_you_mean},
    template::{Expression, Scope, Template, Wrong, format, is_unknown, unknown},
    yaml::{Node, Yaml, YamlLimits, parse},
};

/// Every parameter with its final value.
pub struct Parameters {
    values: Vec<(String, Value)>,
    /// Declared further down than what is being read.
    later: Vec<String>,
    env: fn(&str) -> Option<String>,
}

impl Parameters {
    pub fn read(
        declared: Option<&Node>,
        overrides: &[(String, String)],
        env: fn(&str) -> Option<String>,
        findings: &mut Findings,
    ) -> Self {
        let mut node = declared.cloned().unwrap_or(Node::null(Mark::default()));
        if node.is_null() {
            node.value = Yaml::Map(Vec::new());
        }
        let mut out = Parameters { values: Vec::new(), later: Vec::new(), env };
        if node.entries().is_none() {
            findings.push(node.at, "params", "params: expected a map of names and values", None);
            return out;
        }
        for (name, text) in overrides {
            if let Err(wrong) = replace(&mut node, name, text) {
                findings.push(
                    Mark::default(),
                    format!("params.{name}"),
                    format!("-p {name}: {}", wrong.message),
                    wrong.hint,
                );
            }
        }
        let entries = node.entries().unwrap_or_default();
        out.later = entries.iter().map(|e| e.key.clone()).collect();
        for entry in entries {
            out.later.remove(0);
            let who = format!("params.{}: ", entry.key);
            let value = match out.chosen(&entry.value, &who, findings) {
                Some(node) => Template::compile(node, &who, findings).fill(&out, &who, findings),
                None => unknown(),
            };
            out.values.push((entry.key.clone(), value));
        }
        out
    }

    /// The value that a parameter declares: what is written there, or, where that is a map with `by: NAME`,
    /// the entry that the parameter NAME, declared above, names.
    fn chosen<'n>(&self, node: &'n Node, who: &str, findings: &mut Findings) -> Option<&'n Node> {
        let Some(by) = node.get("by") else { return Some(node) };
        let mut wrong = |at: Mark, message: String, hint: Option<String>| {
            findings.push(at, "params", format!("{who}{message}"), hint);
            None
        };
        let Some(name) = by.value.text() else {
            return wrong(by.value.at, "by: expected the name of a parameter".into(), None);
        };
        let path = name.split('.').map(String::from).collect();
        let expression = Expression { root: "params".into(), path, default: None };
        let value = match self.parameter(&expression) {
            Ok(value) if is_unknown(&value) => return None,
            Ok(value) => value,
            Err(w) => {
                let message = format!("by: {}", w.message.replace(&format!(" in {}", expression.text()), ""));
                return wrong(by.value.at, message, w.hint);
            }
        };
        let choice = format(&value).unwrap_or_default();
        match node.get(&choice).filter(|_| choice != "by") {
            Some(entry) => Some(&entry.value),
            None => {
                let known = node.entries().unwrap_or_default().iter().map(|e| e.key.as_str()).filter(|k| *k != "by");
                wrong(
                    by.value.at,
                    format!("there is nothing for {name} {choice}"),
                    did_you_mean(&choice, "choices", known),
                )
            }
        }
    }

    /// The value of a `params` or `env` expression; `None` where it is neither.
    pub fn lookup(&self, expression: &Expression) -> Option<Result<Value, Wrong>> {
        match expression.root.as_str() {
            "params" => Some(self.parameter(expression)),
            "env" => Some(self.variable(expression)),
            _ => None,
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(name, _)| name.as_str())
    }

    fn parameter(&self, expression: &Expression) -> Result<Value, Wrong> {
        let Some((name, rest)) = expression.path.split_first() else {
            return Err(Wrong { message: "${params} needs a name".into(), hint: Some("write ${params.name}".into()) });
        };
        let Some((_, value)) = self.values.iter().find(|(n, _)| n == name) else {
            if self.later.contains(name) {
                let message = format!("{} is declared further down", expression.text());
                return Err(Wrong { message, hint: Some("parameters use those above them".into()) });
            }
            let hint = did_you_mean(name, "parameters", self.names());
            return Err(Wrong { message: format!("unknown parameter {name} in {}", expression.text()), hint });
        };
        walk(value, rest).map_err(|step| {
            let hint = value.as_object().and_then(|m| did_you_mean(&step, "keys", m.keys().map(String::as_str)));
            Wrong { message: format!("{}: {name} has no {step}", expression.text()), hint }
        })
    }

    fn variable(&self, expression: &Expression) -> Result<Value, Wrong> {
        let [name] = expression.path.as_slice() else {
            return Err(Wrong { message: format!("{} is not ${{env.NAME}}", expression.text()), hint: None });
        };
        match (self.env)(name).filter(|v| !v.is_empty()).or_else(|| expression.default.clone()) {
            Some(text) => Ok(Value::String(text)),
            None => Err(Wrong {
                message: format!("environment variable {name} is not set"),
                hint: Some(format!("set it, or give a default: ${{env.{name}:-text}}")),
            }),
        }
    }
}

impl Scope for Parameters {
    fn get(&self, expression: &Expression) -> Result<Option<Value>, Wrong> {
        self.lookup(expression)
            .unwrap_or_else(|| {
                let hint = self.names().find(|n| *n == expression.root).map(|n| format!("write ${{params.{n}}}"));
                let hint = hint
                    .or(Some("axes are known inside of nodes alone; here are ${params.name} and ${env.NAME}".into()));
                Err(Wrong { message: format!("{} has no value here", expression.text()), hint })
            })
            .map(Some)
    }
}

/// Goes into a value by keys and positions; the step that leads nowhere otherwise.
pub fn walk(value: &Value, path: &[String]) -> Result<Value, String> {
    let mut value = value;
    for step in path {
        let next = match value {
            Value::Object(map) => map.get(step),
            Value::Array(items) => step.parse::<usize>().ok().and_then(|i| items.get(i)),
            _ => None,
        };
        value = next.ok_or_else(|| step.clone())?;
    }
    Ok(value.clone())
}

/// Puts the value that `text` spells in YAML at the dotted `name`, which has to be there.
fn replace(node: &mut Node, name: &str, text: &str) -> Result<(), Wrong> {
    let mut findings = Findings::new(std::path::Path::new("-p"), text);
    let given = parse(text, &YamlLimits::default(), &mut findings);
    let (Some(mut given), true) = (given, findings.is_empty()) else {
        let detail = findings.finish().and_then(|d| d.items.into_iter().next()).map(|d| d.message);
        let message = format!("{text:?} is not a value: {}", detail.unwrap_or_default());
        return Err(Wrong { message, hint: Some("quote text that YAML reads otherwise".into()) });
    };
    let mut place = node;
    for step in name.split('.') {
        let keys: Vec<String> = place.entries().unwrap_or_default().iter().map(|e| e.key.clone()).collect();
        let entry = match &mut place.value {
            Yaml::Map(entries) => entries.iter_mut().find(|e| e.key == step),
            _ => None,
        };
        place = &mut entry
            .ok_or_else(|| Wrong {
                message: format!("unknown parameter {name}"),
                hint: did_you_mean(step, "parameters", keys.iter().map(String::as_str))
                    .or(Some("parameters are declared under params:".into())),
            })?
            .value;
    }
    move_to(&mut given, place.at);
    *place = given;
    Ok(())
}

/// A value from the command line stands where the parameter is declared.
fn move_to(node: &mut Node, at: Mark) {
    node.at = at;
    match &mut node.value {
        Yaml::Scalar(_) => {}
        Yaml::List(items) => items.iter_mut().for_each(|n| move_to(n, at)),
        Yaml::Map(entries) => entries.iter_mut().for_each(|e| {
            e.key_at = at;
            move_to(&mut e.value, at);
        }),
    }
}
