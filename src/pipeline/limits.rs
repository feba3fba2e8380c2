//! `resources:` of a node: what its cells may take of the machine, and what happens when one does not end well.
//!
//! None of it changes a result, so none of it is part of a key. What is left out is what the kind asks for.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    diagnostic::{Findings, did_you_mean},
    yaml::{Entry, Node},
};

/// What one node's cells may take. `None` is the kind's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Threads of one cell, at least 1.
    pub threads: Option<usize>,
    /// Memory that one cell is expected to need at most.
    pub memory_bytes: Option<u64>,
    /// GPUs of one cell.
    pub gpus: Option<u32>,
    /// A cell that takes longer is stopped and has failed.
    pub timeout_s: Option<f64>,
    /// How often a cell is tried again after an error that can pass.
    pub retries: Option<u32>,
    /// Seconds before the first of these tries; doubled before each further one.
    pub retry_wait_s: Option<f64>,
    /// Exit codes of outside programs that can pass, as 75 (EX_TEMPFAIL).
    pub transient_exit_codes: Vec<i32>,
}

/// Name and meaning of every field, for the schema and for messages.
const FIELDS: [(&str, &str); 7] = [
    ("threads", "Threads of one cell."),
    ("memory", "Memory that one cell is expected to need at most: 8GiB, or a number of bytes."),
    ("gpus", "GPUs of one cell."),
    ("timeout_s", "Seconds after which a cell is stopped and has failed; its checkpoint is kept."),
    ("retries", "How often a cell is tried again after an error that can pass."),
    ("retry_wait_s", "Seconds before the first of these tries; doubled before each further one, up to a minute."),
    ("transient_exit_codes", "Exit codes of outside programs that can pass."),
];

impl Limits {
    /// Reads the map under `resources`.
    pub fn read(entry: &Entry, who: &str, path: &str, findings: &mut Findings) -> Self {
        let mut limits = Limits::default();
        let Some(entries) = entry.value.entries() else {
            let hint = Some("resources: { threads: 2, memory: 8GiB }".into());
            findings.push(entry.value.at, path, format!("{who}resources: expected a map"), hint);
            return limits;
        };
        for field in entries {
            let at = format!("{path}.{}", field.key);
            if !FIELDS.iter().any(|(name, _)| *name == field.key) {
                let hint = did_you_mean(&field.key, "fields", FIELDS.iter().map(|(name, _)| *name));
                findings.push(field.key_at, at, format!("{who}resources: unknown field {}", field.key), hint);
            } else if let Err(expected) = limits.set(&field.key, &value(&field.value)) {
                findings.push(field.value.at, at, format!("{who}resources: {}: expected {expected}", field.key), None);
            }
        }
        limits
    }

    /// Sets one field by its name in pipeline files.
    ///
    /// # Errors
    /// What was expected.
    pub fn set(&mut self, field: &str, value: &Value) -> Result<(), String> {
        let whole = |least: u64| value.as_u64().filter(|&n| n >= least && n <= u32::MAX.into());
        let seconds = || value.as_f64().filter(|s| s.is_finite() && *s > 0.0);
        match field {
            "threads" => self.threads = Some(whole(1).ok_or("a number of threads, at least 1")? as usize),
            "memory" => self.memory_bytes = Some(bytes_of(value).ok_or("a size such as 8GiB, or a number of bytes")?),
            "gpus" => self.gpus = Some(whole(0).ok_or("a number of GPUs")? as u32),
            "timeout_s" => self.timeout_s = Some(seconds().ok_or("a number of seconds above 0")?),
            "retries" => self.retries = Some(whole(0).ok_or("a number of tries")? as u32),
            "retry_wait_s" => self.retry_wait_s = Some(seconds().ok_or("a number of seconds above 0")?),
            "transient_exit_codes" => {
                let codes: Option<Vec<i32>> = value.as_array().and_then(|list| {
                    list.iter().map(|c| c.as_i64().filter(|c| (1..=255).contains(c)).map(|c| c as i32)).collect()
                });
                self.transient_exit_codes = codes.ok_or("a list of exit codes from 1 to 255")?;
            }
            other => {
                let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
                return Err(format!("one of {}, not {other}", known.join(", ")));
            }
        }
        Ok(())
    }
}

fn value(node: &Node) -> Value {
    node.json()
}

fn bytes_of(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| memory_bytes(value.as_str()?))
}

/// `512MiB`, `8 GiB`, `2GB`, `1000`.
pub fn memory_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit: f64 = match unit.trim() {
        "" | "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * unit;
    (bytes.is_finite() && bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// The schema of the map.
pub fn schema() -> Value {
    let about = |name: &str| FIELDS.iter().find(|(n, _)| *n == name).map_or("", |(_, about)| *about);
    let field = |name: &str, mut schema: Value| {
        schema["description"] = about(name).into();
        (name.to_string(), schema)
    };
    let properties: serde_json::Map<String, Value> = [
        field("threads", json!({"type": "integer", "minimum": 1})),
        field("memory", json!({"type": ["string", "integer"], "minimum": 0})),
        field("gpus", json!({"type": "integer", "minimum": 0})),
        field("timeout_s", json!({"type": "number", "exclusiveMinimum": 0})),
        field("retries", json!({"type": "integer", "minimum": 0})),
        field("retry_wait_s", json!({"type": "number", "exclusiveMinimum": 0})),
        field(
            "transient_exit_codes",
            json!({"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 255}}),
        ),
    ]
    .into_iter()
    .collect();
    json!({
        "type": "object",
        "description": "What a cell of this node may take of the machine; no part of any key.",
        "additionalProperties": false,
        "properties": properties
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(memory_bytes("8GiB"), Some(8 << 30));
        assert_eq!(memory_bytes("1.5 MiB"), Some(3 << 19));
        assert_eq!(memory_bytes("2GB"), Some(2_000_000_000));
        assert_eq!(memory_bytes("7"), Some(7));
        for wrong in ["", "GiB", "8 gib", "1e400", "-1", "8G"] {
            assert_eq!(memory_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_field_is_set_and_a_wrong_value_is_refused() {
        let mut limits = Limits::default();
        for (field, value) in [
            ("threads", json!(2)),
            ("memory", json!("1KiB")),
            ("gpus", json!(1)),
            ("timeout_s", json!(1.5)),
            ("retries", json!(3)),
            ("retry_wait_s", json!(0.1)),
            ("transient_exit_codes", json!([75])),
        ] {
            assert!(limits.set(field, &Value::Null).is_err(), "{field}");
            limits.set(field, &value).unwrap();
        }
        let expected = Limits {
            threads: Some(2),
            memory_bytes: Some(1024),
            gpus: Some(1),
            timeout_s: Some(1.5),
            retries: Some(3),
            retry_wait_s: Some(0.1),
            transient_exit_codes: vec![75],
        };
        assert_eq!(limits, expected);
        assert!(limits.set("thread", &json!(1)).unwrap_err().starts_with("one of threads, memory"));
        assert_eq!(FIELDS.len(), schema()["properties"].as_object().unwrap().len());
    }
}
