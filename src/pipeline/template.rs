//! `${…}` inside values: compiled once a node, filled once a cell.
//!
//! | form | means |
//! |---|---|
//! | `${axis}` | the value of a matrix axis, or of an axis that came along with `cells:` |
//! | `${axis.key}` | a key of an axis whose values are maps; an axis of the cell that a `cells:` axis holds |
//! | `${params.name.key}` | a parameter of the pipeline |
//! | `${params.name[axis].key}` | the entry of a parameter that the value of an axis names |
//! | `${env.NAME}`, `${env.NAME:-text}` | an environment variable, which must be set or have a default |
//! | `$${` | the two characters `${` |
//!
//! A value that is one `${…}` and nothing else keeps its type; inside of text it is formatted. There are
//! no expressions: a pipeline is a declaration.

use serde_json::{Map, Value};

use super::{
    diagnostic::{Findings, Mark},
    yaml::{Node, Yaml},
};

/// What stands between `${` and `}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    pub root: String,
    /// Keys and positions; `[axis]` is the key that the axis names.
    pub path: Vec<String>,
    pub default: Option<String>,
}

impl Expression {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, default) = match text.split_once(":-") {
            Some((name, default)) => (name, Some(default.to_string())),
            None => (text, None),
        };
        let mut steps = steps(name.trim()).into_iter();
        let root = steps.next().unwrap_or_default();
        let path: Vec<String> = steps.collect();
        let word = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        let step = |s: &String| match indexed(s) {
            Some(inner) => inner.split('.').all(word),
            None => word(s),
        };
        if !word(&root) || !path.iter().all(step) {
            return Err(format!("${{{text}}} is not a name"));
        }
        if default.is_some() && root != "env" {
            return Err(format!("${{{text}}}: only env has defaults"));
        }
        Ok(Expression { root, path, default })
    }

    /// As it was written.
    pub fn text(&self) -> String {
        let dotted = |p: &String| if indexed(p).is_some() { p.clone() } else { format!(".{p}") };
        let path: String = self.path.iter().map(dotted).collect();
        let default = self.default.as_ref().map(|d| format!(":-{d}")).unwrap_or_default();
        format!("${{{}{path}{default}}}", self.root)
    }
}

impl Expression {
    /// Whether a key is named by an axis.
    pub fn is_indexed(&self) -> bool {
        self.path.iter().any(|p| indexed(p).is_some())
    }

    /// Its value, with the keys that axes name looked up first.
    fn get(&self, scope: &dyn Scope) -> Result<Option<Value>, Wrong> {
        if !self.is_indexed() {
            return scope.get(self);
        }
        let mut plain = self.clone();
        for step in &mut plain.path {
            let Some(inner) = indexed(step) else { continue };
            let mut names = inner.split('.').map(String::from);
            let root = names.next().unwrap_or_default();
            let key = Expression { root, path: names.collect(), default: None };
            match scope.get(&key)? {
                Some(value) if is_unknown(&value) => return Ok(None),
                Some(value) => match format(&value) {
                    Some(text) => *step = text,
                    None => {
                        let message = format!("{}: {} is no key", self.text(), key.text());
                        return Err(Wrong { message, hint: Some("a key is text or a number".into()) });
                    }
                },
                None => return Ok(None),
            }
        }
        scope.get(&plain)
    }
}

/// `axis` of the step `[axis]`.
fn indexed(step: &str) -> Option<&str> {
    step.strip_prefix('[')?.strip_suffix(']')
}

/// Splits `a.b[c.d].e` into `a`, `b`, `[c.d]` and `e`.
fn steps(name: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut inside = false;
    let mut closed = false;
    for c in name.chars() {
        match c {
            '.' if !inside => {
                out.push(String::new());
                closed = false;
                continue;
            }
            '[' if !inside => {
                inside = true;
                out.push(String::new());
            }
            ']' if inside => inside = false,
            // Something after `]` that is no dot makes a step of its own, which is no name.
            _ if closed => out.push("]".into()),
            _ => {}
        }
        closed = c == ']';
        if let Some(last) = out.last_mut() {
            last.push(c);
        }
    }
    out
}

/// A piece of a text with `${…}` in it.
#[derive(Clone, Debug)]
pub enum Piece {
    Text(String),
    Hole(Expression),
}

/// A value with holes.
#[derive(Clone, Debug)]
pub enum Template {
    Fixed(Value),
    /// One `${…}` that is the whole value.
    Whole(Expression, Mark),
    Text(Vec<Piece>, Mark),
    List(Vec<Template>),
    Map(Vec<(String, Template)>),
}

/// Why an expression has no value.
pub struct Wrong {
    pub message: String,
    pub hint: Option<String>,
}

/// Gives expressions their values. `Ok(None)` is a value that is not known yet.
pub trait Scope {
    fn get(&self, expression: &Expression) -> Result<Option<Value>, Wrong>;
}

const UNKNOWN: &str = "\u{0}unknown";

/// Stands for a value that is not known yet. No YAML text can spell it.
pub fn unknown() -> Value {
    Value::String(UNKNOWN.into())
}

pub fn is_unknown(value: &Value) -> bool {
    value.as_str() == Some(UNKNOWN)
}

/// A value as text: strings bare, numbers as JSON. `None` for lists and maps.
pub fn format(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(_) | Value::Object(_) => None,
        plain => Some(plain.to_string()),
    }
}

impl Template {
    /// Compiles a value; what is wrong with its `${…}` goes to `findings`, prefixed with `who`.
    pub fn compile(node: &Node, who: &str, findings: &mut Findings) -> Self {
        match &node.value {
            Yaml::Scalar(Value::String(text)) if text.contains("${") => match pieces(text) {
                Ok(pieces) => match pieces.as_slice() {
                    [Piece::Hole(e)] => Template::Whole(e.clone(), node.at),
                    [Piece::Text(t)] => Template::Fixed(Value::from(t.as_str())),
                    _ => Template::Text(pieces, node.at),
                },
                Err(message) => {
                    let hint = "write ${axis}, ${params.name} or ${env.NAME}, and $${ for the characters themselves";
                    findings.push(node.at, "", format!("{who}{message}"), Some(hint.into()));
                    Template::Fixed(unknown())
                }
            },
            Yaml::Scalar(value) => Template::Fixed(value.clone()),
            Yaml::List(items) => {
                let items: Vec<_> = items.iter().map(|n| Self::compile(n, who, findings)).collect();
                if items.iter().all(|t| matches!(t, Template::Fixed(_))) {
                    return Template::Fixed(node_value(items));
                }
                Template::List(items)
            }
            Yaml::Map(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|e| (e.key.clone(), Self::compile(&e.value, who, findings))).collect();
                if entries.iter().all(|(_, t)| matches!(t, Template::Fixed(_))) {
                    let map = entries.into_iter().map(|(k, t)| (k, t.fixed())).collect::<Map<_, _>>();
                    return Template::Fixed(Value::Object(map));
                }
                Template::Map(entries)
            }
        }
    }

    fn fixed(self) -> Value {
        match self {
            Template::Fixed(value) => value,
            _ => unknown(),
        }
    }

    pub fn is_fixed(&self) -> bool {
        matches!(self, Template::Fixed(_))
    }

    /// The value with every hole filled; a hole without a value is [`unknown`], with a finding if that is
    /// somebody's mistake.
    pub fn fill(&self, scope: &dyn Scope, who: &str, findings: &mut Findings) -> Value {
        let mut wrong = |at: Mark, w: Wrong| {
            findings.push(at, "", format!("{who}{}", w.message), w.hint);
            unknown()
        };
        match self {
            Template::Fixed(value) => value.clone(),
            Template::Whole(expression, at) => match expression.get(scope) {
                Ok(Some(value)) => value,
                Ok(None) => unknown(),
                Err(w) => wrong(*at, w),
            },
            Template::Text(pieces, at) => {
                let mut out = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.push_str(text),
                        Piece::Hole(expression) => match expression.get(scope) {
                            Ok(Some(value)) if is_unknown(&value) => return value,
                            Ok(Some(value)) => match format(&value) {
                                Some(text) => out.push_str(&text),
                                None => {
                                    let what = if value.is_array() { "list" } else { "map" };
                                    let message =
                                        format!("{} is a {what}, which has no place inside of text", expression.text());
                                    return wrong(*at, Wrong { message, hint: None });
                                }
                            },
                            Ok(None) => return unknown(),
                            Err(w) => return wrong(*at, w),
                        },
                    }
                }
                Value::String(out)
            }
            Template::List(items) => Value::Array(items.iter().map(|t| t.fill(scope, who, findings)).collect()),
            Template::Map(entries) => {
                Value::Object(entries.iter().map(|(k, t)| (k.clone(), t.fill(scope, who, findings))).collect())
            }
        }
    }
}

fn node_value(items: Vec<Template>) -> Value {
    Value::Array(items.into_iter().map(Template::fixed).collect())
}

/// Splits text at its `${…}`; neighbouring pieces of text are joined.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut out: Vec<Piece> = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            plain.push_str(&rest[..start - 1]);
            plain.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        plain.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let end = inner.find('}').ok_or_else(|| format!("${{ is not closed in {text:?}"))?;
        if !plain.is_empty() {
            out.push(Piece::Text(std::mem::take(&mut plain)));
        }
        out.push(Piece::Hole(Expression::parse(&inner[..end])?));
        rest = &inner[end + 1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        out.push(Piece::Text(plain));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::pipeline::yaml::{YamlLimits, parse};

    struct Fixture;

    impl Scope for Fixture {
        fn get(&self, e: &Expression) -> Result<Option<Value>, Wrong> {
            match (e.root.as_str(), e.path.as_slice()) {
                ("shots", []) => Ok(Some(json!(5))),
                ("list", []) => Ok(Some(json!([1, "two"]))),
                ("params", [name, key]) if name == "recipe" => Ok(Some(json!({"of": key}))),
                ("params", [name, key, deep]) if name == "recipe" => Ok(Some(json!(format!("{key}-{deep}")))),
                ("later", _) => Ok(None),
                ("env", [_]) => Ok(e.default.clone().map(Value::from)),
                _ => Err(Wrong { message: format!("{} is nothing", e.text()), hint: None }),
            }
        }
    }

    fn fill(text: &str) -> (Value, Option<String>) {
        let mut findings = Findings::new(Path::new("x.yaml"), text);
        let node = parse(text, &YamlLimits::default(), &mut findings).unwrap();
        let template = Template::compile(&node, "node b: ", &mut findings);
        let value = template.fill(&Fixture, "node b: ", &mut findings);
        (value, findings.finish().map(|d| d.to_string()))
    }

    #[test]
    fn whole_values_keep_their_type_and_text_is_formatted() {
        let (value, wrong) =
            fill("{ a: '${shots}', b: 'x-${shots}.y${shots}', c: ['${list}'], d: '$${x}', e: '${env.N:-/data}/z' }");
        assert_eq!(value, json!({"a": 5, "b": "x-5.y5", "c": [[1, "two"]], "d": "${x}", "e": "/data/z"}));
        assert_eq!(wrong, None);
        assert!(is_unknown(&fill("'a ${later}'").0));
    }

    #[test]
    fn an_axis_names_the_key_of_a_parameter() {
        let (value, wrong) =
            fill("{ a: '${params.recipe[shots]}', b: 'x${params.recipe[shots].lr}', c: '${params.recipe[later]}' }");
        assert_eq!(wrong, None);
        assert_eq!((&value["a"], &value["b"]), (&json!({"of": "5"}), &json!("x5-lr")));
        assert!(is_unknown(&value["c"]));
        let (_, wrong) =
            fill("a: '${params.recipe[list]}'\nb: '${params.recipe[shots}'\nc: '${params.recipe[shots]x}'\n");
        let wrong = wrong.unwrap();
        for part in [
            "${params.recipe[list]}: ${list} is no key",
            "${params.recipe[shots} is not a name",
            "${params.recipe[shots]x} is not a name",
        ] {
            assert!(wrong.contains(part), "{part} is not in {wrong}");
        }
    }

    #[test]
    fn mistakes_are_named_where_they_stand() {
        let (_, wrong) = fill("a: '${nothing}'\nb: '${shots'\nc: 'x${list}'\nd: '${a b}'\ne: '${shots:-1}'\n");
        assert_eq!(
            wrong.unwrap(),
            "x.yaml:1:4: node b: ${nothing} is nothing\n  1 | a: '${nothing}'\n    |    ^^^^^^^^^^^^\n\
             x.yaml:2:4: node b: ${ is not closed in \"${shots\"\n  2 | b: '${shots'\n    |    ^^^^^^^^^\n\
             hint: write ${axis}, ${params.name} or ${env.NAME}, and $${ for the characters themselves\n\
             x.yaml:3:4: node b: ${list} is a list, which has no place inside of text\n  3 | c: 'x${list}'\n    |    ^^^^^^^^^^\n\
             x.yaml:4:4: node b: ${a b} is not a name\n  4 | d: '${a b}'\n    |    ^^^^^^^^\n\
             hint: write ${axis}, ${params.name} or ${env.NAME}, and $${ for the characters themselves\n\
             x.yaml:5:4: node b: ${shots:-1}: only env has defaults\n  5 | e: '${shots:-1}'\n    |    ^^^^^^^^^^^^^\n\
             hint: write ${axis}, ${params.name} or ${env.NAME}, and $${ for the characters themselves"
        );
    }
}
