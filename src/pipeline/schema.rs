//! The JSON Schema of pipeline files, for editors: every kind with its documentation.
//!
//! Wider than the checks of this program in one way: any value may be a `${…}`, whose type only a loaded
//! pipeline knows.

use serde_json::{Map, Value, json};

use super::{Registry, limits};
use crate::kind::{AnyKind, Arity};

/// Draft 2020-12, for the kinds given.
pub fn schema(registry: Registry) -> Value {
    let mut definitions = Map::new();
    let mut node = Map::new();
    node.insert("description".into(), json!({"type": "string"}));
    node.insert("matrix".into(), json!({"$ref": "#/$defs/matrix"}));
    node.insert("resources".into(), json!({"$ref": "#/$defs/resources"}));
    for kind in registry {
        let name = kind.name();
        node.insert(
            name.into(),
            json!({"anyOf": [{"$ref": format!("#/$defs/kind.{name}")}, {"$ref": "#/$defs/hole"}]}),
        );
        let parameters = parameters(*kind, &mut definitions);
        definitions.insert(format!("kind.{name}"), parameters);
    }
    let one_kind: Vec<Value> = registry.iter().map(|k| json!({"required": [k.name()]})).collect();
    definitions.insert(
        "node".into(),
        json!({"type": "object", "properties": node, "additionalProperties": false, "oneOf": one_kind}),
    );
    definitions.insert("matrix".into(), matrix());
    definitions.insert("resources".into(), limits::schema());
    definitions.insert(
        "hole".into(),
        json!({"type": "string", "pattern": "\\$\\{", "description": "${axis}, ${params.name} or ${env.NAME}"}),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "scaleshot pipeline",
        "type": "object",
        "required": ["pipeline"],
        "anyOf": [{"required": ["nodes"]}, {"required": ["include"]}],
        "additionalProperties": false,
        "properties": {
            "pipeline": {"type": "string", "minLength": 1, "description": "The pipeline's name."},
            "description": {"type": "string"},
            "include": {
                "description": "Pipeline files whose parameters and nodes belong to this one, relative to it.",
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
            },
            "params": {
                "type": "object",
                "description": "Values that nodes use as ${params.name}; -p name=value replaces them. \
                    { by: NAME, VALUE: …, VALUE: … } is chosen by the value of the parameter NAME."
            },
            "nodes": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": "^[^\\s\\d.,=\"'\\[\\]{}$-][^\\s.,=\"'\\[\\]{}$]*$"},
                "additionalProperties": {"$ref": "#/$defs/node"}
            }
        },
        "$defs": definitions,
    })
}

fn matrix() -> Value {
    let axis = json!({
        "description": "A list of values, or { cells: NODE }: every cell of another node, whose axes come along.",
        "anyOf": [
            {"type": "array", "minItems": 1},
            {"type": "object", "required": ["cells"], "additionalProperties": false,
             "properties": {"cells": {"type": "string"}}},
            {"$ref": "#/$defs/hole"}
        ]
    });
    let items = json!({"type": "array", "items": {"type": "object"}});
    json!({
        "type": "object",
        "description": "Makes one cell of the node for every combination of its axes.",
        "minProperties": 1,
        "properties": {"include": items, "exclude": items},
        "additionalProperties": axis
    })
}

/// A kind's parameters: its own schema, made wider for `${…}` and told which fields name nodes.
fn parameters(kind: &dyn AnyKind, definitions: &mut Map<String, Value>) -> Value {
    let name = kind.name();
    let mut schema = kind.schema().to_value();
    let prefix = format!("kind.{name}");
    if let Some(map) = schema.as_object_mut() {
        map.remove("$schema");
        map.remove("title");
        map.insert("description".into(), kind.about().into());
        for spec in kind.inputs() {
            let one = matches!(spec.arity, Arity::One | Arity::Optional);
            let text =
                if one { "A node, or node.output." } else { "A node or a list of them; every cell of each is taken." };
            let field = map.get_mut("properties").and_then(|p| p.get_mut(spec.field)).and_then(Value::as_object_mut);
            if let Some(field) = field {
                field.entry("description").or_insert_with(|| text.into());
                if !one && field.get("type") == Some(&"array".into()) {
                    let list = Value::Object(std::mem::take(field));
                    let about = list.get("description").cloned().unwrap_or_default();
                    field.insert("description".into(), about);
                    field.insert("anyOf".into(), json!([{"type": "string"}, list]));
                }
            }
        }
        if let Some(Value::Object(inner)) = map.remove("$defs") {
            for (key, mut value) in inner {
                widen(&mut value, &prefix);
                definitions.insert(format!("{prefix}.{key}"), value);
            }
        }
    }
    widen(&mut schema, &prefix);
    if schema.get("properties").is_some() || schema.get("anyOf").is_some() {
        return schema;
    }
    json!({"description": kind.about(), "allOf": [schema]})
}

/// Lets every value below be a `${…}`, and moves references to where the kind's schema now is.
fn widen(schema: &mut Value, prefix: &str) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(Value::String(target)) = map.get_mut("$ref") {
        *target = match target.strip_prefix("#/$defs/") {
            Some(name) => format!("#/$defs/{prefix}.{name}"),
            None => format!("#/$defs/{prefix}"),
        };
    }
    // With a `${…}` more than one branch can fit.
    if let Some(mut branches) = map.remove("oneOf") {
        branches.as_array_mut().into_iter().flatten().for_each(|b| widen(b, prefix));
        map.insert("anyOf".into(), branches);
    } else if let Some(branches) = map.get_mut("anyOf").and_then(Value::as_array_mut) {
        branches.iter_mut().for_each(|b| widen(b, prefix));
    }
    for part in map.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten() {
        widen(part, prefix);
    }
    for part in map.get_mut("prefixItems").and_then(Value::as_array_mut).into_iter().flatten() {
        value(part, prefix);
    }
    for part in map.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(|m| m.values_mut()) {
        value(part, prefix);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(part) = map.get_mut(key) {
            value(part, prefix);
        }
    }
}

/// Widens one value. Tags (constants) stay as they are: editors tell branches apart by them.
fn value(schema: &mut Value, prefix: &str) {
    widen(schema, prefix);
    let Some(map) = schema.as_object_mut() else { return };
    let text = map.get("type") == Some(&"string".into()) && !map.contains_key("enum");
    if map.contains_key("const") || text || map.is_empty() {
        return;
    }
    let about = map.remove("description");
    let default = map.remove("default");
    let inner = Value::Object(std::mem::take(map));
    map.extend(about.map(|v| ("description".to_string(), v)));
    map.extend(default.map(|v| ("default".to_string(), v)));
    map.insert("anyOf".into(), json!([inner, {"$ref": "#/$defs/hole"}]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{fixture, validate::validate};

    fn mistakes(pipeline: Value) -> Vec<String> {
        validate(&schema(fixture::KINDS), &pipeline).into_iter().map(|m| m.message).collect()
    }

    #[test]
    fn a_pipeline_fits_and_a_slip_does_not() {
        let good = json!({
            "pipeline": "p", "params": {"lr": 0.1}, "nodes": {
                "a": {"source": {"format": "image_folder", "root": "${params.root}"}},
                "j": {"matrix": {"n": [1, 2], "data": {"cells": "a"}, "s": "${params.s}"},
                      "join": {"from": "a", "fraction": "${n}", "views": ["PA", "${v}"]}},
                "t": {"train": {"data": "a", "model": "m", "optimizer": {"sgd_agc": {"lr": "${params.lr}"}}}},
                "s": {"description": "all", "sum": {"tables": ["t", "j"]}}
            }
        });
        assert_eq!(mistakes(good), Vec::<String>::new());
        let bad = json!({"pipeline": "p", "nodes": {
            "a": {"source": {"format": "image_foldr"}}, "j": {"joyn": {}},
            "t": {"train": {"data": "a", "modl": "m"}}
        }});
        assert_eq!(
            mistakes(bad),
            [
                "unknown nodes.a.source.format image_foldr",
                "missing field nodes.j.source",
                "unknown field nodes.j.joyn",
                "missing field nodes.t.train.model",
                "unknown field nodes.t.train.modl",
            ]
        );
    }

    #[test]
    fn every_kind_and_field_is_documented() {
        let schema = schema(fixture::KINDS);
        assert_eq!(schema["$defs"]["kind.join"]["description"], "Makes one dataset of many.");
        assert_eq!(schema["$defs"]["kind.join"]["properties"]["views"]["description"], "Views to keep.");
        assert_eq!(schema["$defs"]["node"]["properties"]["join"]["anyOf"][0]["$ref"], "#/$defs/kind.join");
        assert_eq!(schema["$defs"]["kind.train"]["properties"]["data"]["description"], "A node, or node.output.");
    }
}
