//! YAML text becomes a tree in which every key and value knows its place.
//!
//! The only file that names `serde_yaml` and `saphyr-parser`: the first says what a scalar is (archived
//! upstream, so a fork may take its place here), the second where it stands, and shows repeated keys,
//! which the first lets pass. Does not know what a pipeline is.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Value};

use super::{
    brackets,
    diagnostic::{Findings, Mark},
};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    pub at: Mark,
    pub value: Yaml,
}

#[derive(Clone, Debug)]
pub enum Yaml {
    /// Null, boolean, number or string.
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value` of a mapping; keys are unique.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_at: Mark,
    pub value: Node,
}

/// How large a file may be before it is refused with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct YamlLimits {
    pub bytes: usize,
    /// Lists and maps inside each other.
    pub depth: usize,
    /// Values, those that aliases repeat included.
    pub values: usize,
}

impl Default for YamlLimits {
    fn default() -> Self {
        YamlLimits { bytes: 16 << 20, depth: 64, values: 500_000 }
    }
}

impl Node {
    pub fn null(at: Mark) -> Self {
        Node { at, value: Yaml::Scalar(Value::Null) }
    }

    /// The value without its places.
    pub fn json(&self) -> Value {
        match &self.value {
            Yaml::Scalar(value) => value.clone(),
            Yaml::List(items) => Value::Array(items.iter().map(Node::json).collect()),
            Yaml::Map(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), e.value.json())).collect::<Map<_, _>>())
            }
        }
    }

    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Yaml::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Yaml::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Yaml::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.value, Yaml::Scalar(Value::Null))
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|e| e.key == key)
    }

    /// The deepest place on the way along `path` that was written down; with `key`, the last step's key
    /// instead of its value.
    pub fn mark(&self, path: &[Step], key: bool) -> Mark {
        let mut node = self;
        for (i, step) in path.iter().enumerate() {
            match (step, &node.value) {
                (Step::Key(name), Yaml::Map(entries)) => match entries.iter().find(|e| e.key == *name) {
                    Some(entry) if key && i + 1 == path.len() => return entry.key_at,
                    Some(entry) => node = &entry.value,
                    None => return node.at,
                },
                (Step::Index(n), Yaml::List(items)) => match items.get(*n) {
                    Some(item) => node = item,
                    None => return node.at,
                },
                _ => return node.at,
            }
        }
        node.at
    }
}

/// One step from a value into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// `optimizer.sgd_agc.lr`, `plots[2].kind`.
pub fn path_text(path: &[Step]) -> String {
    let mut out = String::new();
    for step in path {
        match step {
            Step::Key(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(n) => out.push_str(&format!("[{n}]")),
        }
    }
    out
}

/// The value of a plain scalar as `serde_yaml` reads it: `1`, `0.5`, `true`, `~` or text.
pub fn scalar(text: &str) -> Value {
    // A plain scalar that spans lines is text, and folding it again would change it. The space in front
    // keeps `---` from being a document marker.
    if text.contains('\n') {
        return Value::from(text);
    }
    match serde_yaml::from_str::<serde_yaml::Value>(&format!(" {text}")) {
        Ok(serde_yaml::Value::Null) => Value::Null,
        Ok(serde_yaml::Value::Bool(b)) => Value::Bool(b),
        Ok(serde_yaml::Value::Number(n)) => {
            if let Some(n) = n.as_u64() {
                Value::from(n)
            } else if let Some(n) = n.as_i64() {
                Value::from(n)
            } else {
                // Infinities and NaN have no JSON form and stay text, which no numeric field takes.
                n.as_f64().filter(|x| x.is_finite()).map_or_else(|| Value::from(text), Value::from)
            }
        }
        _ => Value::from(text),
    }
}

/// The bytes as text, or a finding that says where they are not UTF-8.
pub fn decode<'a>(bytes: &'a [u8], limits: &YamlLimits) -> Result<&'a str, String> {
    if bytes.len() > limits.bytes {
        return Err(format!(
            "the file has {} bytes, more than the {} that a pipeline may have",
            bytes.len(),
            limits.bytes
        ));
    }
    // Every other byte of plain letters in UTF-16 is zero, and a pipeline begins with plain letters.
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=255, ..] | [1..=255, 0, ..]) {
        return Err("the file is UTF-16, and a pipeline is UTF-8: save it as UTF-8".into());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(e) => {
            let line = bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
            Err(format!("line {line} is not UTF-8 (byte {} of the file)", e.valid_up_to()))
        }
    }
}

/// Parses one document. `None` where the text cannot be read on; what is wrong is in `findings`.
pub fn parse(text: &str, limits: &YamlLimits, findings: &mut Findings) -> Option<Node> {
    parse_file(0, text, limits, findings)
}

/// As [`parse`], for the file that `findings` knows by this number.
pub fn parse_file(file: u16, text: &str, limits: &YamlLimits, findings: &mut Findings) -> Option<Node> {
    let mut builder = Builder {
        text,
        parser: Parser::new_from_str(text),
        limits,
        findings,
        anchors: HashMap::new(),
        values: 0,
        last: Mark { file, line: 1, column: 1, width: 1 },
    };
    builder.document()
}

struct Anchored {
    node: Node,
    values: usize,
    depth: usize,
}

struct Builder<'a, 'f> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    limits: &'a YamlLimits,
    findings: &'f mut Findings,
    anchors: HashMap<usize, Anchored>,
    values: usize,
    last: Mark,
}

fn mark(file: u16, span: &Span) -> Mark {
    let width = if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    Mark { file, line: span.start.line() as u32, column: span.start.col() as u32 + 1, width: width.max(1) as u32 }
}

impl<'a> Builder<'a, '_> {
    fn fail<T>(&mut self, at: Mark, message: impl Into<String>, hint: Option<&str>) -> Option<T> {
        self.findings.push(at, "", message, hint.map(String::from));
        None
    }

    fn too_deep<T>(&mut self, at: Mark) -> Option<T> {
        self.fail(at, format!("lists and maps are nested more than {} deep", self.limits.depth), None)
    }

    fn event(&mut self) -> Option<(Event<'a>, Mark)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.last = mark(self.last.file, &span);
                Some((event, self.last))
            }
            Some(Err(e)) => {
                let m = e.marker();
                let file = self.last.file;
                let at = Mark { file, line: m.line().max(1) as u32, column: m.col() as u32 + 1, width: 1 };
                let line = self.findings.line(at);
                let indent = &line[..line.len() - line.trim_start().len()];
                if let Some(tab) = indent.find('\t') {
                    let at = Mark { column: tab as u32 + 1, ..at };
                    return self.fail(at, "a tab stands in the indentation", Some("YAML indents with spaces alone"));
                }
                // The parser reads ahead, and has a limit of its own that is far above ours.
                if e.info().contains("recursion limit") {
                    return self.too_deep(at);
                }
                self.not_yaml(at, e.info())
            }
            None => self.fail(self.last, "the file ends too early", None),
        }
    }

    /// In the user's terms where the parser's are its own.
    fn not_yaml<T>(&mut self, at: Mark, info: &str) -> Option<T> {
        if info.contains("quoted scalar") && info.contains("end of stream") {
            return self.fail(at, "the quote that opens here is not closed", None);
        }
        if info.contains("unprintable") {
            let sign = self.findings.line(at).chars().nth(at.column as usize - 1).map_or(0, u32::from);
            return self.fail(at, format!("the character U+{sign:04X} cannot stand in a pipeline"), None);
        }
        let of_brackets =
            ["flow", "indentation", "indicator", "stream", "',' or", "',', or"].iter().any(|word| info.contains(word));
        match brackets::open_before(self.text, at.line, at.column).filter(|_| of_brackets) {
            Some(open) => {
                let hint = format!("{} is missing before line {}, column {}", open.closing(), at.line, at.column);
                let at = Mark { line: open.line, column: open.column, width: 1, ..at };
                self.fail(at, format!("the {} that opens here is not closed", open.sign), Some(&hint))
            }
            None => self.fail(at, format!("not YAML: {info}"), None),
        }
    }

    fn document(&mut self) -> Option<Node> {
        let mut root = None;
        loop {
            let (event, at) = self.event()?;
            match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return self.fail(at, "a second document begins here", Some("a pipeline is one YAML document"));
                }
                Event::DocumentStart(_) => {
                    let (event, at) = self.event()?;
                    root = Some(self.node(event, at, 0)?.0);
                }
                Event::StreamEnd => {
                    return Some(root.unwrap_or(Node::null(Mark { line: 1, column: 1, width: 1, ..at })));
                }
                _ => return self.fail(at, "not YAML: unexpected content", None),
            }
        }
    }

    /// A value and how deep it goes.
    fn node(&mut self, event: Event<'a>, at: Mark, depth: usize) -> Option<(Node, usize)> {
        self.values += 1;
        if depth > self.limits.depth {
            return self.too_deep(at);
        }
        if self.values > self.limits.values {
            let message = format!("more than {} values", self.limits.values);
            return self.fail(at, message, Some("aliases repeat what they name"));
        }
        let before = self.values;
        let tag = |tag: &Option<_>| tag.is_some();
        let (node, anchor, inner) = match event {
            Event::Scalar(text, style, anchor, t) => {
                if tag(&t) {
                    return self.fail(at, "tags (!) have no meaning in a pipeline", Some("quote text to keep it text"));
                }
                let value = if style == ScalarStyle::Plain { scalar(&text) } else { Value::from(text.as_ref()) };
                (Node { at, value: Yaml::Scalar(value) }, anchor, 0)
            }
            Event::SequenceStart(anchor, t) => {
                if tag(&t) {
                    return self.fail(at, "tags (!) have no meaning in a pipeline", None);
                }
                let mut items = Vec::new();
                let mut inner = 0;
                loop {
                    let (event, at) = self.event()?;
                    if event == Event::SequenceEnd {
                        break;
                    }
                    let (item, deep) = self.node(event, at, depth + 1)?;
                    inner = inner.max(deep + 1);
                    items.push(item);
                }
                (Node { at: Mark { width: 1, ..at }, value: Yaml::List(items) }, anchor, inner)
            }
            Event::MappingStart(anchor, t) => {
                if tag(&t) {
                    return self.fail(at, "tags (!) have no meaning in a pipeline", None);
                }
                let (entries, inner) = self.mapping(depth)?;
                (Node { at: Mark { width: 1, ..at }, value: Yaml::Map(entries) }, anchor, inner)
            }
            Event::Alias(id) => {
                let Some(anchored) = self.anchors.get(&id) else {
                    return self.fail(at, "an alias inside of what it names", None);
                };
                let (node, inner) = (anchored.node.clone(), anchored.depth);
                self.values += anchored.values;
                if self.values > self.limits.values || depth + inner > self.limits.depth {
                    let message = format!(
                        "aliases make more than {} values or {} levels of this file",
                        self.limits.values, self.limits.depth
                    );
                    return self.fail(at, message, None);
                }
                (node, 0, inner)
            }
            _ => return self.fail(at, "not YAML: a value is missing", None),
        };
        if anchor > 0 {
            let values = self.values - before + 1;
            self.anchors.insert(anchor, Anchored { node: node.clone(), values, depth: inner });
            // The copy kept for aliases counts too.
            self.values += values;
        }
        Some((node, inner))
    }

    fn mapping(&mut self, depth: usize) -> Option<(Vec<Entry>, usize)> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: HashMap<String, Mark> = HashMap::new();
        let mut merged: Vec<Entry> = Vec::new();
        let mut inner = 0;
        loop {
            let (event, key_at) = self.event()?;
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return self.fail(key_at, "a key has to be a word", None),
            };
            let (event, at) = self.event()?;
            let (value, deep) = self.node(event, at, depth + 1)?;
            inner = inner.max(deep + 1);
            if key == "<<" {
                let sources = match value.value {
                    Yaml::Map(entries) => vec![entries],
                    Yaml::List(items) if items.iter().all(|i| i.entries().is_some()) => items
                        .into_iter()
                        .filter_map(|i| if let Yaml::Map(e) = i.value { Some(e) } else { None })
                        .collect(),
                    _ => return self.fail(at, "<< takes a map, or a list of maps", None),
                };
                for entry in sources.into_iter().flatten() {
                    if !merged.iter().any(|e| e.key == entry.key) {
                        merged.push(entry);
                    }
                }
                continue;
            }
            if let Some(first) = places.get(&key) {
                let message = format!("{key} is given twice (first in line {})", first.line);
                self.findings.push(key_at, key.clone(), message, Some("YAML would keep the last one alone".into()));
                continue;
            }
            places.insert(key.clone(), key_at);
            entries.push(Entry { key, key_at, value });
        }
        // What is written out goes before what `<<` brings.
        entries.extend(merged.into_iter().filter(|e| !places.contains_key(&e.key)));
        Some((entries, inner))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Node, String> {
        let mut findings = Findings::new(Path::new("x.yaml"), text);
        let node = parse(text, &YamlLimits::default(), &mut findings);
        match findings.finish() {
            None => Ok(node.unwrap()),
            Some(d) => Err(d.to_string()),
        }
    }

    #[test]
    fn scalars_are_what_yaml_says() {
        let text = "[1, -2, 0.5, 1e3, true, ~, yes, '5', \"a\\tb\", 0x10, ---, 2.x, .inf, a b, '']";
        let expected = json!([1, -2, 0.5, 1000.0, true, null, "yes", "5", "a\tb", 16, "---", "2.x", ".inf", "a b", ""]);
        assert_eq!(read(text).unwrap().json(), expected);
        assert_eq!(
            read("a: one\n  two\n\n  three\nb: |\n  x\n  y\nc:\n").unwrap().json(),
            json!({"a": "one two\nthree", "b": "x\ny\n", "c": null})
        );
    }

    #[test]
    fn every_key_and_value_has_its_place() {
        let node = read("a: 1\nb:\n  - x\n  - { c: deep, d: [1, 22] }\n").unwrap();
        let step = |s: &str| Step::Key(s.into());
        let place = |path: &[Step], key| {
            let m = node.mark(path, key);
            (m.line, m.column, m.width)
        };
        assert_eq!(place(&[step("a")], true), (1, 1, 1));
        assert_eq!(place(&[step("a")], false), (1, 4, 1));
        let deep = [step("b"), Step::Index(1), step("c")];
        assert_eq!(place(&deep, true), (4, 7, 1));
        assert_eq!(place(&deep, false), (4, 10, 4));
        assert_eq!(place(&[step("b"), Step::Index(1), step("d"), Step::Index(1)], false), (4, 23, 2));
        // What was never written is where its parent is.
        assert_eq!(place(&[step("b"), Step::Index(0), step("no")], false), (3, 5, 1));
    }

    #[test]
    fn repeated_keys_are_all_named() {
        let message = read("a: 1\nb: { c: 1, c: 2 }\na: 3\n").unwrap_err();
        assert_eq!(
            message,
            "x.yaml:2:12: c is given twice (first in line 2)\n  2 | b: { c: 1, c: 2 }\n    |            ^\n\
             hint: YAML would keep the last one alone\n\
             x.yaml:3:1: a is given twice (first in line 1)\n  3 | a: 3\n    | ^\n\
             hint: YAML would keep the last one alone"
        );
    }

    #[test]
    fn anchors_and_merge_keys_work() {
        let node = read("base: &b { lr: 0.1, steps: 5 }\nx: { <<: *b, lr: 0.2 }\ny: *b\n").unwrap();
        assert_eq!(node.json()["x"], json!({"lr": 0.2, "steps": 5}));
        assert_eq!(node.json()["y"], json!({"lr": 0.1, "steps": 5}));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let cases = [
            ("a:\n\tb: 1\n", "x.yaml:2:1: a tab stands in the indentation"),
            ("a: 1\n---\nb: 2\n", "x.yaml:2:1: a second document begins here"),
            ("a: !x 5\n", "x.yaml:1:"),
            ("a: [1, 2\n", "x.yaml:"),
            ("? [a]\n: 1\n", "x.yaml:1:3: a key has to be a word"),
            ("a: &x [*x]\n", "x.yaml:1:8: an alias inside of what it names"),
        ];
        for (text, start) in cases {
            let message = read(text).unwrap_err();
            assert!(message.starts_with(start), "{text:?} gave {message}");
        }
        let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
        assert!(read(&deep).unwrap_err().contains("nested more than 64 deep"));
        assert!(decode(b"a: 1\nb: \xff", &YamlLimits::default()).unwrap_err().contains("line 2 is not UTF-8"));
    }

    #[test]
    fn an_alias_bomb_is_refused_quickly() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let item = format!("*a{}", i - 1);
            text.push_str(&format!("a{i}: &a{i} [{}]\n", vec![item; 10].join(", ")));
        }
        assert!(read(&text).unwrap_err().contains("aliases make more than"));
    }
}
