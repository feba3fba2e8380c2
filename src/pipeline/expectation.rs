//! What a schema expects and what a value is, in the words of messages; and how its branches are told apart.

use serde_json::Value;

pub fn constants(branch: &Value) -> Vec<&str> {
    match (branch.get("const"), branch.get("enum")) {
        (Some(c), _) => c.as_str().into_iter().collect(),
        (None, Some(Value::Array(names))) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// What a branch takes, in words: `full`, `an integer`, `{ sgd_agc: … }`.
pub fn alternatives(branch: &Value) -> Vec<String> {
    let names = constants(branch);
    if !names.is_empty() {
        return names.into_iter().map(String::from).collect();
    }
    if let Some(names) = external_tags(&[branch]) {
        return names.into_iter().map(|n| format!("{{ {n}: … }}")).collect();
    }
    match branch.get("type") {
        Some(types) => type_names(types)
            .into_iter()
            .map(|t| if t == "null" { "null".into() } else { type_text(t).into() })
            .collect(),
        None => {
            let inner = branch.get("oneOf").or(branch.get("anyOf")).and_then(Value::as_array);
            inner.into_iter().flatten().flat_map(alternatives).collect()
        }
    }
}

pub fn may_be_object(schema: &Value) -> bool {
    match schema.get("type") {
        Some(types) => type_names(types).contains(&"object"),
        None => schema.get("const").is_none() && schema.get("enum").is_none() && schema != &Value::Bool(false),
    }
}

/// The field that tells branches apart by a constant, with each branch's constant.
pub fn internal_tag<'s>(branches: &[&'s Value]) -> Option<(&'s str, Vec<&'s str>)> {
    let first = branches.first()?.get("properties")?.as_object()?;
    first.keys().find_map(|tag| {
        let names: Option<Vec<&str>> =
            branches.iter().map(|b| b.get("properties")?.get(tag)?.get("const")?.as_str()).collect();
        Some((tag.as_str(), names?))
    })
}

/// The one required field of each branch, where each has exactly one and they differ.
pub fn external_tags<'s>(branches: &[&'s Value]) -> Option<Vec<&'s str>> {
    let names: Vec<&str> = branches
        .iter()
        .map(|b| {
            let required = b.get("required")?.as_array()?;
            let properties = b.get("properties")?.as_object()?;
            match (required.as_slice(), properties.len()) {
                ([name], 1) => name.as_str(),
                _ => None,
            }
        })
        .collect::<Option<_>>()?;
    let distinct = names.iter().enumerate().all(|(i, n)| !names[..i].contains(n));
    distinct.then_some(names)
}

pub fn type_names(types: &Value) -> Vec<&str> {
    match types {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

pub fn has_type(types: &Value, value: &Value) -> bool {
    type_names(types).into_iter().any(|t| match t {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    })
}

pub fn type_text(name: &str) -> &str {
    match name {
        "boolean" => "true or false",
        "integer" => "an integer",
        "number" => "a number",
        "string" => "a string",
        "array" => "a list",
        "object" => "a map",
        other => other,
    }
}

/// A value in a message: short, and a string in quotes.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "a map".into(),
        Value::String(text) if text.chars().count() > 60 => {
            format!("{:?}", text.chars().take(60).chain(['…']).collect::<String>())
        }
        plain => plain.to_string(),
    }
}

pub fn number_text(bound: &Value) -> String {
    match bound.as_f64() {
        Some(x) if x.fract() == 0.0 && x.abs() < 1e15 => format!("{x:.0}"),
        _ => bound.to_string(),
    }
}

pub fn any_of(words: &[String]) -> String {
    match words {
        [] => "nothing".into(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

pub fn first_sentence(text: &str) -> String {
    let line = text.split("\n\n").next().unwrap_or(text).replace('\n', " ");
    line.split_once(". ").map_or(line.as_str(), |(first, _)| first).trim_end_matches('.').to_string()
}
