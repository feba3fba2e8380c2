//! Values against the JSON Schema of a kind's parameters, every mistake with its path.
//!
//! Knows the part of draft 2020-12 that `schemars` writes: types, properties, tagged and untagged enums,
//! bounds, lists, `$ref`. An object with named properties takes no others, whether its schema says so or
//! not: a field that nobody reads is a mistake. `pattern` and `format` are left to the typed parameters.

use serde_json::{Map, Value};

use super::{
    diagnostic::did_you_mean,
    expectation::{
        alternatives, any_of, constants, external_tags, first_sentence, has_type, internal_tag, may_be_object,
        number_text, shown, type_names, type_text,
    },
    template::is_unknown,
    yaml::{Step, path_text},
};

/// One mistake: where, whether its key or its value is meant, and the words.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    pub path: Vec<Step>,
    /// The key at the end of `path` is wrong, not its value.
    pub key: bool,
    pub message: String,
    pub hint: Option<String>,
}

/// Checks `value`; values not known yet fit everywhere.
pub fn validate(schema: &Value, value: &Value) -> Vec<Mistake> {
    let mut out = Vec::new();
    Validator { root: schema }.check(schema, value, &mut Vec::new(), &mut out);
    out
}

struct Validator<'s> {
    root: &'s Value,
}

/// The fields that a schema and what it is made of know, and what becomes of others.
#[derive(Default)]
struct Fields<'s> {
    named: Vec<(&'s str, &'s Value)>,
    /// The schema of all other fields: `{ [name]: X }`.
    other: Option<&'s Value>,
}

impl<'s> Validator<'s> {
    fn follow(&self, schema: &'s Value) -> &'s Value {
        let mut schema = schema;
        // A chain of references that only name each other ends here rather than never.
        for _ in 0..32 {
            match schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')) {
                Some(pointer) if schema.get("properties").is_none() => match self.root.pointer(pointer) {
                    Some(target) => schema = target,
                    None => return &Value::Bool(true),
                },
                _ => return schema,
            }
        }
        schema
    }

    fn check(&self, schema: &'s Value, value: &Value, path: &mut Vec<Step>, out: &mut Vec<Mistake>) {
        let schema = self.follow(schema);
        if is_unknown(value) {
            return;
        }
        let Some(map) = schema.as_object() else {
            if schema == &Value::Bool(false) {
                self.wrong(path, out, "is not allowed".into(), None);
            }
            return;
        };
        if let Some(expected) = map.get("const") {
            if expected != value {
                self.wrong(path, out, format!("expected {expected}, got {}", shown(value)), None);
            }
            return;
        }
        if let Some(names) = map.get("enum").and_then(Value::as_array) {
            if !names.contains(value) {
                self.choice(names.iter().collect(), value, path, out);
            }
            return;
        }
        if let Some(types) = map.get("type")
            && !has_type(types, value)
        {
            self.mistyped(types, value, path, out);
            return;
        }
        let before = out.len();
        self.numbers(map, value, path, out);
        match value {
            Value::Array(items) => self.list(map, items, path, out),
            Value::Object(fields) => self.object(schema, fields, path, out),
            Value::String(text) => self.length(map, "Length", "character", text.chars().count(), path, out),
            _ => {}
        }
        if out.len() > before {
            return;
        }
        for part in map.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            // Fields are known to the whole, so only what is not an object is checked by part.
            if !value.is_object() {
                self.check(part, value, path, out);
            }
        }
        if !value.is_object() {
            for key in ["oneOf", "anyOf"] {
                if let Some(branches) = map.get(key).and_then(Value::as_array) {
                    self.one_of(branches, value, path, out);
                }
            }
        }
    }

    fn wrong(&self, path: &[Step], out: &mut Vec<Mistake>, message: String, hint: Option<String>) {
        let at = path_text(path);
        let message = if at.is_empty() { message } else { format!("{at}: {message}") };
        out.push(Mistake { path: path.to_vec(), key: false, message, hint });
    }

    fn mistyped(&self, types: &Value, value: &Value, path: &[Step], out: &mut Vec<Mistake>) {
        let names = type_names(types).into_iter().filter(|t| *t != "null").map(type_text).collect::<Vec<_>>();
        let hint = match value {
            Value::Number(n) if names == ["a string"] => Some(format!("write \"{n}\"")),
            Value::Bool(b) if names == ["a string"] => Some(format!("write \"{b}\"")),
            Value::Number(n) if names == ["an integer"] => {
                n.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 1e15).map(|x| format!("write {x:.0}"))
            }
            Value::String(s) if names == ["a list"] => Some(format!("write [{s}]")),
            _ => None,
        };
        self.wrong(path, out, format!("expected {}, got {}", names.join(" or "), shown(value)), hint);
    }

    /// A value that is none of a closed set of names.
    fn choice(&self, names: Vec<&Value>, value: &Value, path: &[Step], out: &mut Vec<Mistake>) {
        let texts: Vec<String> = names.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), String::from)).collect();
        let message = format!("expected {}, got {}", any_of(&texts), shown(value));
        let hint = value
            .as_str()
            .and_then(|v| crate::error::nearest(v, texts.iter().map(String::as_str)))
            .map(|near| format!("did you mean {near}?"));
        self.wrong(path, out, message, hint);
    }

    fn numbers(&self, map: &Map<String, Value>, value: &Value, path: &[Step], out: &mut Vec<Mistake>) {
        let Some(x) = value.as_f64() else { return };
        type Bad = fn(f64, f64) -> bool;
        let bounds: [(&str, &str, Bad); 4] = [
            ("minimum", "at least", |x, b| x < b),
            ("maximum", "at most", |x, b| x > b),
            ("exclusiveMinimum", "more than", |x, b| x <= b),
            ("exclusiveMaximum", "less than", |x, b| x >= b),
        ];
        for (key, words, bad) in bounds {
            if let Some(bound) = map.get(key)
                && bound.as_f64().is_some_and(|b| bad(x, b))
            {
                self.wrong(path, out, format!("expected {words} {}, got {value}", number_text(bound)), None);
            }
        }
    }

    fn length(
        &self,
        map: &Map<String, Value>,
        what: &str,
        unit: &str,
        n: usize,
        path: &[Step],
        out: &mut Vec<Mistake>,
    ) {
        let bound = |key: String| map.get(&key).and_then(Value::as_u64);
        let plural = |n: u64| if n == 1 { "" } else { "s" };
        if let Some(min) = bound(format!("min{what}")).filter(|&m| (n as u64) < m) {
            self.wrong(path, out, format!("expected at least {min} {unit}{}, got {n}", plural(min)), None);
        }
        if let Some(max) = bound(format!("max{what}")).filter(|&m| (n as u64) > m) {
            self.wrong(path, out, format!("expected at most {max} {unit}{}, got {n}", plural(max)), None);
        }
    }

    fn list(&self, map: &'s Map<String, Value>, items: &[Value], path: &mut Vec<Step>, out: &mut Vec<Mistake>) {
        self.length(map, "Items", "item", items.len(), path, out);
        if map.get("uniqueItems") == Some(&Value::Bool(true))
            && let Some((i, item)) = items.iter().enumerate().find(|(i, item)| items[..*i].contains(item))
        {
            path.push(Step::Index(i));
            self.wrong(path, out, format!("{} is given twice", shown(item)), None);
            path.pop();
        }
        let prefix = map.get("prefixItems").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
        for (i, item) in items.iter().enumerate() {
            if let Some(schema) = prefix.get(i).or(map.get("items")) {
                path.push(Step::Index(i));
                self.check(schema, item, path, out);
                path.pop();
            }
        }
    }

    fn object(&self, schema: &'s Value, fields: &Map<String, Value>, path: &mut Vec<Step>, out: &mut Vec<Mistake>) {
        let mut known = Fields::default();
        if !self.gather(schema, fields, &mut known, path, out, 0) {
            return;
        }
        for (name, value) in fields {
            path.push(Step::Key(name.clone()));
            match known.named.iter().filter(|(n, _)| n == name).map(|(_, s)| *s).collect::<Vec<_>>().as_slice() {
                [] => match known.other {
                    Some(other) => self.check(other, value, path, out),
                    None if known.named.is_empty() => {
                        if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
                            let message = format!("unknown field {}", path_text(path));
                            out.push(Mistake { path: path.clone(), key: true, message, hint: None });
                        }
                    }
                    None => {
                        let mut names: Vec<&str> = known.named.iter().map(|(n, _)| *n).collect();
                        names.dedup();
                        let message = format!("unknown field {}", path_text(path));
                        let hint = did_you_mean(name, "fields", names);
                        out.push(Mistake { path: path.clone(), key: true, message, hint });
                    }
                },
                schemas => schemas.iter().for_each(|s| self.check(s, value, path, out)),
            }
            path.pop();
        }
    }

    /// Collects the fields of a schema, going into `allOf` and into the branch of each `oneOf` that is
    /// meant, and reports missing ones. False where no branch can be told and fields cannot be judged.
    fn gather(
        &self,
        schema: &'s Value,
        fields: &Map<String, Value>,
        known: &mut Fields<'s>,
        path: &mut Vec<Step>,
        out: &mut Vec<Mistake>,
        depth: usize,
    ) -> bool {
        let Some(map) = schema.as_object() else { return true };
        if depth > 32 {
            return true;
        }
        if let Some(pointer) = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'))
            && let Some(target) = self.root.pointer(pointer)
            && !self.gather(target, fields, known, path, out, depth + 1)
        {
            return false;
        }
        for (name, schema) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
            known.named.push((name, schema));
        }
        match map.get("additionalProperties") {
            None | Some(Value::Bool(false)) => {}
            Some(schema) => known.other = Some(schema),
        }
        for name in map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                path.push(Step::Key(name.into()));
                let message = format!("missing field {}", path_text(path));
                path.pop();
                let about = map.get("properties").and_then(|p| p.get(name)?.get("description")?.as_str());
                let hint = about.map(|text| format!("{name}: {}", first_sentence(text)));
                out.push(Mistake { path: path.clone(), key: true, message, hint });
            }
        }
        for part in map.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            if !self.gather(part, fields, known, path, out, depth + 1) {
                return false;
            }
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(branches) = map.get(key).and_then(Value::as_array) {
                match self.branch(branches, fields, path, out) {
                    Some(branch) => {
                        if !self.gather(branch, fields, known, path, out, depth + 1) {
                            return false;
                        }
                    }
                    None => return false,
                }
            }
        }
        true
    }

    /// The branch that a map means; where none can be told, why is reported.
    fn branch(
        &self,
        branches: &'s [Value],
        fields: &Map<String, Value>,
        path: &mut Vec<Step>,
        out: &mut Vec<Mistake>,
    ) -> Option<&'s Value> {
        let objects: Vec<&Value> = branches.iter().map(|b| self.follow(b)).filter(|b| may_be_object(b)).collect();
        if let [only] = objects.as_slice() {
            return Some(only);
        }
        if objects.is_empty() {
            let value = Value::Object(fields.clone());
            self.one_of(branches, &value, path, out);
            return None;
        }
        // Tagged inside: every branch has one and the same field with a constant.
        if let Some((tag, names)) = internal_tag(&objects) {
            let Some(given) = fields.get(tag) else {
                path.push(Step::Key(tag.into()));
                let message = format!("missing field {}", path_text(path));
                path.pop();
                let hint = Some(format!("{tag} is one of {}", names.join(", ")));
                out.push(Mistake { path: path.clone(), key: true, message, hint });
                return None;
            };
            if is_unknown(given) {
                return None;
            }
            if let Some(i) = names.iter().position(|n| given.as_str() == Some(n)) {
                return Some(objects[i]);
            }
            path.push(Step::Key(tag.into()));
            let at = path_text(path);
            let (message, hint) = match given.as_str() {
                Some(text) => (format!("unknown {at} {text}"), did_you_mean(text, tag, names.iter().copied())),
                None => (format!("{at}: expected a string, got {}", shown(given)), None),
            };
            out.push(Mistake { path: path.clone(), key: false, message, hint });
            path.pop();
            return None;
        }
        // Tagged outside: every branch is a map with one field of its own.
        if let Some(names) = external_tags(&objects) {
            if let Some(i) = names.iter().position(|n| fields.contains_key(*n)) {
                let extra: Vec<&&str> = names.iter().filter(|n| fields.contains_key(**n)).collect();
                if extra.len() > 1 {
                    let at = path_text(path);
                    let both = extra.iter().map(|n| **n).collect::<Vec<_>>().join(" and ");
                    let at = if at.is_empty() { at } else { format!("{at}: ") };
                    let message = format!("{at}{both} exclude each other");
                    out.push(Mistake { path: path.clone(), key: false, message, hint: None });
                    return None;
                }
                return Some(objects[i]);
            }
            let all: Vec<&str> = names.iter().copied().chain(branches.iter().flat_map(constants)).collect();
            match fields.keys().next() {
                Some(key) => {
                    path.push(Step::Key(key.clone()));
                    let message = format!("unknown field {}", path_text(path));
                    out.push(Mistake {
                        path: path.clone(),
                        key: true,
                        message,
                        hint: did_you_mean(key, "fields", all),
                    });
                    path.pop();
                }
                None => {
                    let words: Vec<String> = all.iter().map(|s| s.to_string()).collect();
                    self.wrong(path, out, format!("expected {}, got an empty map", any_of(&words)), None);
                }
            }
            return None;
        }
        // Untagged: the branch with the fewest mistakes, first of equals.
        let value = Value::Object(fields.clone());
        objects
            .into_iter()
            .map(|b| {
                let mut mistakes = Vec::new();
                self.check(b, &value, &mut path.clone(), &mut mistakes);
                (mistakes.len(), b)
            })
            .min_by_key(|(n, _)| *n)
            .map(|(_, b)| b)
    }

    /// A value that is not a map, against alternatives.
    fn one_of(&self, branches: &'s [Value], value: &Value, path: &mut Vec<Step>, out: &mut Vec<Mistake>) {
        let mut best: Option<Vec<Mistake>> = None;
        let mut fitting = 0;
        for branch in branches.iter().map(|b| self.follow(b)) {
            let mut mistakes = Vec::new();
            self.check(branch, value, path, &mut mistakes);
            if mistakes.is_empty() {
                return;
            }
            // A branch of the right type says better what is wrong than the others.
            let typed = branch.get("type").is_some_and(|t| has_type(t, value));
            let constant = branch.get("const").is_some() || branch.get("enum").is_some();
            if typed && !constant {
                fitting += 1;
                best = Some(mistakes);
            }
        }
        if fitting == 1
            && let Some(best) = best
        {
            out.extend(best);
            return;
        }
        let mut words: Vec<String> = Vec::new();
        for branch in branches.iter().map(|b| self.follow(b)) {
            for word in alternatives(branch) {
                if word != "null" && !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        let hint = value
            .as_str()
            .and_then(|v| crate::error::nearest(v, words.iter().map(String::as_str)))
            .map(|near| format!("did you mean {near}?"));
        self.wrong(path, out, format!("expected {}, got {}", any_of(&words), shown(value)), hint);
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde_json::json;

    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    #[serde(deny_unknown_fields, rename_all = "snake_case")]
    struct Params {
        /// Passes over the data. At least one.
        #[schemars(range(min = 1))]
        epochs: u32,
        #[serde(default)]
        optimizer: Optimizer,
        shots: Option<Shots>,
        #[serde(default)]
        views: Vec<View>,
        crop: Option<(f32, f32)>,
        #[serde(default)]
        map: std::collections::BTreeMap<String, f64>,
        schedule: Option<Schedule>,
        fraction: Option<f64>,
        name: Option<String>,
    }

    #[derive(JsonSchema, Default)]
    #[allow(dead_code)]
    #[serde(rename_all = "snake_case")]
    enum Optimizer {
        #[default]
        Plain,
        SgdAgc {
            lr: f64,
            #[serde(default)]
            momentum: f64,
        },
        Adam(Adam),
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    #[serde(deny_unknown_fields)]
    struct Adam {
        lr: f64,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    #[serde(untagged)]
    enum Shots {
        Count(u32),
        Word(Full),
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    #[serde(rename_all = "snake_case")]
    enum Full {
        Full,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    enum View {
        /// From behind.
        PA,
        AP,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    #[serde(tag = "format", rename_all = "snake_case")]
    enum Schedule {
        Step(StepSchedule),
        Cosine { floor: f64 },
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct StepSchedule {
        at: Vec<f64>,
    }

    fn mistakes(value: Value) -> Vec<String> {
        let schema = schemars::generate::SchemaSettings::draft2020_12()
            .with(|s| s.inline_subschemas = true)
            .into_generator()
            .into_root_schema_for::<Params>();
        let found = validate(schema.as_value(), &value);
        found.into_iter().map(|m| m.message + &m.hint.map(|h| format!(" | {h}")).unwrap_or_default()).collect()
    }

    #[test]
    fn what_fits_is_silent() {
        for value in [
            json!({"epochs": 1}),
            json!({"epochs": 1, "optimizer": "plain", "shots": "full", "views": ["PA"], "crop": [0, 1.5], "map": {"a": 1}}),
            json!({"epochs": 1, "optimizer": {"sgd_agc": {"lr": 1}}, "shots": 5, "schedule": {"format": "step", "at": [1]}}),
            json!({"epochs": 1, "optimizer": {"adam": {"lr": 1}}, "shots": null, "schedule": {"format": "cosine", "floor": 0}}),
        ] {
            assert_eq!(mistakes(value), Vec::<String>::new());
        }
    }

    #[test]
    fn every_mistake_is_named_with_its_path() {
        let value = json!({
            "epoch": 3, "optimizer": {"sgd_agc": {"momentum": "high", "lrr": 1}}, "shots": "ful", "views": ["PA", "LAT"],
            "crop": [1, 2, 3], "map": {"a": "x"}, "schedule": {"format": "cosin"}, "fraction": "half", "name": 5
        });
        assert_eq!(
            mistakes(value),
            [
                "missing field epochs | epochs: Passes over the data",
                "crop: expected at most 2 items, got 3",
                "unknown field epoch | did you mean epochs?",
                "fraction: expected a number, got \"half\"",
                "map.a: expected a number, got \"x\"",
                "name: expected a string, got 5 | write \"5\"",
                "missing field optimizer.sgd_agc.lr",
                "unknown field optimizer.sgd_agc.lrr | did you mean lr?",
                "optimizer.sgd_agc.momentum: expected a number, got \"high\"",
                "unknown schedule.format cosin | did you mean cosine?",
                "shots: expected an integer or full, got \"ful\" | did you mean full?",
                "views[1]: expected AP or PA, got \"LAT\"",
            ]
        );
    }

    #[test]
    fn alternatives_are_listed() {
        assert_eq!(
            mistakes(json!({"epochs": 0, "optimizer": "adm", "schedule": {"at": []}})),
            [
                "epochs: expected at least 1, got 0",
                "optimizer: expected plain, { sgd_agc: … } or { adam: … }, got \"adm\"",
                "missing field schedule.format | format is one of step, cosine",
            ]
        );
        assert_eq!(
            mistakes(json!({"epochs": 1.0, "optimizer": {"adm": {}}, "schedule": {"format": "step", "att": 1}})),
            [
                "epochs: expected an integer, got 1.0 | write 1",
                "unknown field optimizer.adm | did you mean adam?",
                "missing field schedule.at",
                "unknown field schedule.att | did you mean at?",
            ]
        );
    }
}
