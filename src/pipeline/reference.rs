//! How text names cells: `merged`, `merged[fraction=0.1]`, `transfer.metrics`.
//!
//! The same words serve input fields, `cells:` axes and the command line.

use serde_json::Value;

use super::yaml::scalar;
use crate::digest::canonical;

/// A node, some of its cells, and one of their outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub node: String,
    /// Axis values that a cell must have, in the order written.
    pub select: Vec<(String, Value)>,
    pub output: Option<String>,
}

/// What may name a node or an axis: a letter or `_`, then letters, digits, `_` and `-`.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

impl Reference {
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (head, select, tail) = match text.find('[') {
            None => match text.split_once('.') {
                Some((node, output)) => (node, "", Some(output)),
                None => (text, "", None),
            },
            Some(open) => {
                let close = text.rfind(']').filter(|&c| c > open).ok_or(format!("[ is not closed in {text}"))?;
                let tail = match &text[close + 1..] {
                    "" => None,
                    tail => Some(tail.strip_prefix('.').ok_or(format!("{tail} after ] in {text}"))?),
                };
                (&text[..open], &text[open + 1..close], tail)
            }
        };
        if !is_name(head) {
            return Err(format!("{text:?} does not name a node"));
        }
        let select = split(select)
            .into_iter()
            .map(|item| {
                let (axis, value) =
                    item.split_once('=').ok_or(format!("{} in {text} is not axis=value", item.trim()))?;
                Ok((axis.trim().to_string(), flow_value(value.trim())))
            })
            .collect::<Result<_, String>>()?;
        Ok(Reference { node: head.to_string(), select, output: tail.map(String::from) })
    }

    /// Whether a cell with these axes is meant. An axis that it does not have is not.
    pub fn selects(&self, axes: &[(String, Value)]) -> bool {
        self.select.iter().all(|(name, wanted)| axes.iter().any(|(n, v)| n == name && same(v, wanted)))
    }
}

/// `a=1,b=[2,3]` at its outer commas.
fn split(text: &str) -> Vec<&str> {
    let (mut out, mut depth, mut quoted, mut start) = (Vec::new(), 0i32, false, 0);
    for (i, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        out.push(&text[start..]);
    }
    out
}

/// A value as it stands in a cell's name: JSON, or a plain scalar.
fn flow_value(text: &str) -> Value {
    match text.as_bytes().first() {
        Some(b'"' | b'[' | b'{') => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        _ => scalar(text),
    }
}

/// Equal as values: 1 is 1.0, and a number is not its text unless it looks like it.
pub fn same(a: &Value, b: &Value) -> bool {
    a == b
        || match (a.as_f64(), b.as_f64()) {
            (Some(x), Some(y)) => x == y,
            _ => axis_text(a) == axis_text(b),
        }
}

/// An axis value as cells' names spell it: bare where nothing is in doubt, JSON otherwise.
pub fn axis_text(value: &Value) -> String {
    match value {
        Value::String(text)
            if !text.is_empty()
                && !text.contains(|c: char| c.is_whitespace() || c.is_control() || ",[]{}=\"'".contains(c)) =>
        {
            text.clone()
        }
        other => canonical(other),
    }
}

/// `transfer[shots=5,seed=0]`.
pub fn cell_id(node: &str, axes: &[(String, Value)]) -> String {
    if axes.is_empty() {
        return node.to_string();
    }
    let mut out = String::with_capacity(node.len() + 16 * axes.len());
    out.push_str(node);
    for (i, (name, value)) in axes.iter().enumerate() {
        out.push(if i == 0 { '[' } else { ',' });
        out.push_str(name);
        out.push('=');
        out.push_str(&axis_text(value));
    }
    out.push(']');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_read() {
        let r = Reference::parse("merged[fraction=0.1, model=bit-r50x1,o={\"lr\":[1,2]}].table").unwrap();
        assert_eq!((r.node.as_str(), r.output.as_deref()), ("merged", Some("table")));
        let expected = [("fraction", json!(0.1)), ("model", json!("bit-r50x1")), ("o", json!({"lr": [1, 2]}))];
        assert_eq!(r.select, expected.map(|(k, v)| (k.to_string(), v)));
        assert_eq!(Reference::parse("a.metrics").unwrap().output.as_deref(), Some("metrics"));
        for wrong in ["", "a b", "a[x=1", "a[x]", "a[x=1]y", "5", "[x=1]"] {
            assert!(Reference::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cells_own_name_selects_it() {
        let axes: Vec<(String, Value)> =
            [("x", json!(1)), ("y", json!("a b,c")), ("z", json!({"k": [0.5]})), ("w", json!("5"))]
                .map(|(k, v)| (k.into(), v))
                .into();
        let id = cell_id("n", &axes);
        assert_eq!(id, r#"n[x=1,y="a b,c",z={"k":[0.5]},w=5]"#);
        let r = Reference::parse(&id).unwrap();
        assert!(r.selects(&axes));
        assert!(Reference::parse("n[x=1.0]").unwrap().selects(&axes));
        assert!(!Reference::parse("n[x=2]").unwrap().selects(&axes));
        assert!(!Reference::parse("n[q=1]").unwrap().selects(&axes));
    }
}
