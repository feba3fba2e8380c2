//! Why a cell runs, or cannot: with the old and the new value, as one sentence.
//!
//! Reasons are differences between two lists of parts, and a key is a hash of such a list, so whenever a key
//! has changed there is a difference to name: there is no "unknown" reason.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{
    digest::{Digest, canonical},
    store::{artifact::FileRef, part::Part, source::SourceFile},
};

/// `Display` is the sentence; as JSON it is that sentence too.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    NeverRan,
    /// `None` is an absent field.
    Param {
        path: String,
        old: Option<Value>,
        new: Option<Value>,
    },
    /// Name and version.
    Kind {
        old: (String, u32),
        new: (String, u32),
    },
    /// `name` is the node that the field takes, or the field where it takes several.
    Input {
        name: String,
        change: InputChange,
    },
    Source {
        /// Where the cell has more than one.
        field: Option<String>,
        change: SourceChange,
    },
    /// How keys are made has changed.
    KeyFormat,
    /// The record of the current key is gone.
    RecordMissing,
    /// The record that the current state would be compared with is gone.
    LastRecordMissing {
        key: Digest,
    },
    RecordDamaged {
        message: String,
    },
    ArtifactMissing {
        output: String,
        file: String,
    },
    /// What the cell put outside the store is not there any more.
    Undelivered {
        what: String,
    },
    Forced,
    /// It stays as it is; what it would run for follows.
    Frozen {
        note: Option<String>,
    },
    /// What it was frozen at is not whole.
    FrozenGone {
        key: Digest,
    },
    /// These have to run first. Where they make what they made before, this cell is spared.
    Waits {
        cells: Vec<String>,
    },
    SourceMissing {
        field: String,
        path: PathBuf,
        obtain: String,
    },
    SourceUnreadable {
        field: String,
        message: String,
    },
    Upstream {
        cell: String,
    },
    NoOutput {
        cell: String,
        output: String,
    },
}

/// What is different in the artifacts of one field.
#[derive(Clone, Debug, PartialEq)]
pub enum InputChange {
    Added,
    Removed,
    /// How many cells there were and are.
    Count {
        old: usize,
        new: usize,
    },
    /// So many of its cells.
    Cells {
        changed: usize,
        of: usize,
    },
    /// So many of the one cell's files; `unit` is `files` or `shards`.
    Files {
        changed: usize,
        of: usize,
        unit: &'static str,
    },
    /// The one file that changed.
    File {
        name: String,
    },
    Order,
    /// Axis values, which become columns.
    Axes,
    /// Names of nodes, which are written out.
    Names,
}

/// What is different in an outside folder or file.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceChange {
    Added,
    Removed,
    /// Changed, added and removed files, of all there were and are, and the first few names.
    Files {
        changed: usize,
        of: usize,
        names: Vec<String>,
    },
    /// The listing it was told by is gone; so many files now.
    Content {
        files: u64,
    },
}

/// Names told of changed files.
const NAMES: usize = 3;

/// What differences are told with, beside the parts themselves.
pub struct Context<'a> {
    /// Fields that are not known yet, and so are left out.
    pub open: &'a [String],
    /// The node that a field takes, where it is one.
    pub names: &'a BTreeMap<String, String>,
    /// The files behind the digest of a source, where they are known.
    pub listing: &'a dyn Fn(&Digest) -> Option<Vec<SourceFile>>,
}

/// Every difference between two lists of parts.
pub fn differences(old: &[Part], new: &[Part], context: &Context) -> Vec<Reason> {
    let told = |field: &&str| !context.open.iter().any(|o| o == field);
    let mut reasons = Vec::new();
    let kind = |parts: &[Part]| {
        parts
            .iter()
            .find_map(|p| if let Part::Kind { name, version } = p { Some((name.clone(), *version)) } else { None })
    };
    if let (Some(old), Some(new)) = (kind(old), kind(new))
        && old != new
    {
        reasons.push(Reason::Kind { old, new });
    }
    let (params_old, params_new) = (params(old), params(new));
    for path in union(params_old.keys(), params_new.keys()) {
        let (old, new) = (params_old.get(path).copied(), params_new.get(path).copied());
        if !same(old, new) {
            reasons.push(Reason::Param { path: path.into(), old: old.cloned(), new: new.cloned() });
        }
    }
    let (inputs_old, inputs_new) = (inputs(old), inputs(new));
    for field in union(inputs_old.keys(), inputs_new.keys()).into_iter().filter(told) {
        let empty = Vec::new();
        let (old, new) = (inputs_old.get(field).unwrap_or(&empty), inputs_new.get(field).unwrap_or(&empty));
        if let Some(change) = input_change(old, new) {
            let name = context.names.get(field).map_or(field, String::as_str).to_string();
            reasons.push(Reason::Input { name, change });
        }
    }
    let (sources_old, sources_new) = (sources(old), sources(new));
    let several = sources_old.len().max(sources_new.len()) > 1;
    for field in union(sources_old.keys(), sources_new.keys()).into_iter().filter(told) {
        let change = match (sources_old.get(field), sources_new.get(field)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(old), Some(new)) => source_change(old, new, context),
            (None, _) => SourceChange::Added,
            (_, None) => SourceChange::Removed,
        };
        reasons.push(Reason::Source { field: several.then(|| field.to_string()), change });
    }
    reasons
}

fn union<'a>(a: impl Iterator<Item = &'a &'a str>, b: impl Iterator<Item = &'a &'a str>) -> Vec<&'a str> {
    let mut all: Vec<&str> = a.chain(b).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn params(parts: &[Part]) -> BTreeMap<&str, &Value> {
    parts
        .iter()
        .filter_map(|p| if let Part::Param { path, value } = p { Some((path.as_str(), value)) } else { None })
        .collect()
}

/// Equal, or equal but for the last digit of a number: records pass through text.
fn same(old: Option<&Value>, new: Option<&Value>) -> bool {
    match (old, new) {
        (Some(Value::Number(a)), Some(Value::Number(b))) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            a == b || (a - b).abs() <= f64::EPSILON * a.abs().max(b.abs())
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (a, b) => a == b,
    }
}

fn inputs(parts: &[Part]) -> BTreeMap<&str, Vec<&Part>> {
    let mut fields: BTreeMap<&str, Vec<&Part>> = BTreeMap::new();
    for part in parts {
        if let Part::Input { field, .. } = part {
            fields.entry(field).or_default().push(part);
        }
    }
    fields
}

/// Two lists of one field's [`Part::Input`]s.
fn input_change(old: &[&Part], new: &[&Part]) -> Option<InputChange> {
    type Fields<'a> = (&'a Option<Vec<(String, Value)>>, &'a Option<String>, Option<u32>, Digest, &'a [FileRef]);
    fn fields<'a>(part: &&'a Part) -> Option<Fields<'a>> {
        match part {
            Part::Input { axes, node, group, digest, files, .. } => Some((axes, node, *group, *digest, files)),
            _ => None,
        }
    }
    let old: Vec<Fields> = old.iter().filter_map(fields).collect();
    let new: Vec<Fields> = new.iter().filter_map(fields).collect();
    match (old.as_slice(), new.as_slice()) {
        (a, b) if a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a.0, a.1, a.2, a.3) == (b.0, b.1, b.2, b.3)) => {
            return None;
        }
        ([], _) => return Some(InputChange::Added),
        (_, []) => return Some(InputChange::Removed),
        (a, b) if a.len() != b.len() => return Some(InputChange::Count { old: a.len(), new: b.len() }),
        _ => {}
    }
    let changed: Vec<(&Fields, &Fields)> = old.iter().zip(&new).filter(|(a, b)| a.3 != b.3).collect();
    let sorted = |list: &[Fields]| {
        let mut digests: Vec<Digest> = list.iter().map(|f| f.3).collect();
        digests.sort();
        digests
    };
    Some(match changed.as_slice() {
        [] if old.iter().zip(&new).any(|(a, b)| a.0 != b.0) => InputChange::Axes,
        [] => InputChange::Names,
        _ if old.len() > 1 && sorted(&old) == sorted(&new) => InputChange::Order,
        [(a, b)] if old.len() == 1 => files_change(a.4, b.4),
        changed => InputChange::Cells { changed: changed.len(), of: new.len() },
    })
}

fn files_change(old: &[FileRef], new: &[FileRef]) -> InputChange {
    let before: BTreeMap<&str, Digest> = old.iter().map(|f| (f.name.as_str(), f.digest)).collect();
    let after: BTreeMap<&str, Digest> = new.iter().map(|f| (f.name.as_str(), f.digest)).collect();
    let all = union(before.keys(), after.keys());
    let changed: Vec<&str> = all.iter().copied().filter(|n| before.get(n) != after.get(n)).collect();
    let shard = |name: &&&str| name.starts_with("shard-");
    match changed.as_slice() {
        [name] if !name.starts_with("shard-") => InputChange::File { name: name.to_string() },
        changed if changed.iter().any(|n| n.starts_with("shard-")) => InputChange::Files {
            changed: changed.iter().filter(shard).count(),
            of: all.iter().filter(shard).count(),
            unit: "shards",
        },
        changed => InputChange::Files { changed: changed.len(), of: all.len(), unit: "files" },
    }
}

/// Digest and number of files by field.
fn sources(parts: &[Part]) -> BTreeMap<&str, (Digest, u64)> {
    parts
        .iter()
        .filter_map(|p| match p {
            Part::Source { field, digest, files, .. } => Some((field.as_str(), (*digest, *files))),
            _ => None,
        })
        .collect()
}

fn source_change(old: &(Digest, u64), new: &(Digest, u64), context: &Context) -> SourceChange {
    let (Some(old), Some(now)) = ((context.listing)(&old.0), (context.listing)(&new.0)) else {
        return SourceChange::Content { files: new.1 };
    };
    let before: BTreeMap<&str, Digest> = old.iter().map(|f| (f.name.as_str(), f.digest)).collect();
    let after: BTreeMap<&str, Digest> = now.iter().map(|f| (f.name.as_str(), f.digest)).collect();
    let all = union(before.keys(), after.keys());
    let changed: Vec<&str> = all.iter().copied().filter(|n| before.get(n) != after.get(n)).collect();
    SourceChange::Files {
        changed: changed.len(),
        of: all.len(),
        names: changed.iter().take(NAMES).map(|n| n.to_string()).collect(),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Reason::NeverRan => write!(f, "never ran"),
            Reason::Param { path, old: Some(old), new: Some(new) } => {
                let (old, new) = (shown(old, new), shown(new, old));
                write!(f, "{path} changed ({old} => {new})")
            }
            Reason::Param { path, old: Some(old), new: None } => write!(f, "{path} removed (was {})", shown(old, old)),
            Reason::Param { path, old: None, new: Some(new) } => write!(f, "{path} added ({})", shown(new, new)),
            Reason::Param { path, old: None, new: None } => write!(f, "bug: {path} is absent twice"),
            Reason::Kind { old, new } if old.0 == new.0 => write!(f, "kind {} {} => {}", new.0, old.1, new.1),
            Reason::Kind { old, new } => write!(f, "kind {} => {}", old.0, new.0),
            Reason::Input { name, change } => match change {
                InputChange::Added => write!(f, "input {name} added"),
                InputChange::Removed => write!(f, "input {name} removed"),
                InputChange::Count { old, new } => write!(f, "input {name} changed ({old} => {new} cells)"),
                InputChange::Cells { changed, of } => write!(f, "input {name} changed ({changed} of {of} cells)"),
                InputChange::Files { changed, of, unit } => {
                    write!(f, "input {name} changed ({changed} of {of} {unit})")
                }
                InputChange::File { name: file } => write!(f, "input {name} changed ({file})"),
                InputChange::Order => write!(f, "input {name} changed (order of cells)"),
                InputChange::Axes => write!(f, "input {name} changed (axis values)"),
                InputChange::Names => write!(f, "input {name} changed (names of nodes)"),
            },
            Reason::Source { field, change } => {
                f.write_str("source ")?;
                if let Some(field) = field {
                    write!(f, "{field} ")?;
                }
                match change {
                    SourceChange::Added => write!(f, "added"),
                    SourceChange::Removed => write!(f, "removed"),
                    SourceChange::Content { files } => write!(f, "changed ({files} files now)"),
                    SourceChange::Files { changed: 1, of: 1, names } if names.iter().all(String::is_empty) => {
                        write!(f, "changed (its content)")
                    }
                    SourceChange::Files { changed, of, names } => {
                        let more = if *changed > names.len() { ", …" } else { "" };
                        write!(f, "changed ({changed} of {of} files: {}{more})", names.join(", "))
                    }
                }
            }
            Reason::KeyFormat => write!(f, "the form of keys changed with the program"),
            Reason::RecordMissing => write!(f, "record missing"),
            Reason::LastRecordMissing { key } => write!(f, "record missing (of its last run, {})", key.short()),
            Reason::RecordDamaged { message } => write!(f, "record damaged ({message})"),
            Reason::ArtifactMissing { output, file } => write!(f, "artifact missing ({output}/{file})"),
            Reason::Undelivered { what } => f.write_str(what),
            Reason::Forced => write!(f, "forced"),
            Reason::Frozen { note: None } => write!(f, "frozen"),
            Reason::Frozen { note: Some(note) } => write!(f, "frozen ({note})"),
            Reason::FrozenGone { key } => write!(
                f,
                "frozen at {}, whose record or files are missing; obtain it: scaleshot import them from another store, or scaleshot thaw it",
                key.short()
            ),
            Reason::Waits { cells } => match cells.as_slice() {
                [] => write!(f, "bug: waits for nothing"),
                [cell] => write!(f, "waits for {cell}"),
                [cell, more @ ..] => write!(f, "waits for {cell} and {} more", more.len()),
            },
            Reason::SourceMissing { field, path, obtain } => {
                write!(f, "source {field} is missing: {}", path.display())?;
                if obtain.is_empty() { Ok(()) } else { write!(f, " ({obtain})") }
            }
            Reason::SourceUnreadable { field, message } => write!(f, "source {field} cannot be read: {message}"),
            Reason::Upstream { cell } => write!(f, "blocked by {cell}"),
            Reason::NoOutput { cell, output } => write!(f, "{cell} made no output {output}"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Longest value that a sentence quotes in full.
const SHOWN: usize = 60;

/// A value for people: text without quotes, unless it could be taken for `other`, which stands beside it.
fn shown(value: &Value, other: &Value) -> String {
    let text = match value {
        Value::String(s) if !s.is_empty() && (other.is_string() || canonical(other) != s.as_str()) => s.clone(),
        value => canonical(value),
    };
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain("…".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn param(path: &str, value: Value) -> Part {
        Part::Param { path: path.into(), value }
    }

    fn input(digests: &[&str], axis: i64) -> Part {
        let files: Vec<FileRef> = digests
            .iter()
            .enumerate()
            .map(|(i, d)| FileRef {
                name: if i == 0 { "table.parquet".into() } else { format!("shard-{i:05}.arrow") },
                digest: Digest::of(d.as_bytes()),
                bytes: 1,
            })
            .collect();
        Part::Input {
            field: "data".into(),
            group: Some(0),
            node: None,
            axes: Some(vec![("seed".into(), json!(axis))]),
            digest: Digest::of(digests.concat().as_bytes()),
            files,
        }
    }

    fn source(content: &str) -> Part {
        Part::Source { field: "root".into(), digest: Digest::of(content.as_bytes()), files: 4, bytes: 4 }
    }

    /// Four files, named by letter, whose contents are the letters of `content`.
    fn listing(digest: &Digest) -> Option<Vec<SourceFile>> {
        let content = ["abcd", "axyd", "abcde", "pqrs"].into_iter().find(|c| Digest::of(c.as_bytes()) == *digest)?;
        let file =
            |(i, c): (usize, char)| SourceFile { name: format!("{i}.png"), digest: Digest::of(&[c as u8]), bytes: 1 };
        Some(content.chars().enumerate().map(file).collect())
    }

    fn told(old: &[Part], new: &[Part]) -> Vec<String> {
        let names = BTreeMap::from([("data".to_string(), "merged".to_string())]);
        let context = Context { open: &[], names: &names, listing: &listing };
        differences(old, new, &context).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sentences_carry_the_old_and_the_new_value() {
        let kind = |name: &str, version| Part::Kind { name: name.into(), version };
        for (old, new, sentence) in [
            (param("lr", json!(0.003)), param("lr", json!(0.01)), "lr changed (0.003 => 0.01)"),
            (param("shots", json!("5")), param("shots", json!(5)), "shots changed (\"5\" => 5)"),
            (param("by", json!("image")), param("by", json!("patient")), "by changed (image => patient)"),
            (kind("pretrain", 3), kind("pretrain", 4), "kind pretrain 3 => 4"),
            (kind("merge", 3), kind("subset", 1), "kind merge => subset"),
            (input(&["t", "a", "b"], 0), input(&["t", "x", "b"], 0), "input merged changed (1 of 2 shards)"),
            (input(&["t"], 0), input(&["u"], 0), "input merged changed (table.parquet)"),
            (input(&["t"], 0), input(&["t"], 1), "input merged changed (axis values)"),
            (source("abcd"), source("axyd"), "source changed (2 of 4 files: 1.png, 2.png)"),
            (source("abcd"), source("abcde"), "source changed (1 of 5 files: 4.png)"),
            (source("abcd"), source("pqrs"), "source changed (4 of 4 files: 0.png, 1.png, 2.png, …)"),
            (source("abcd"), source("gone"), "source changed (4 files now)"),
        ] {
            assert_eq!(told(&[old], &[new]), [sentence]);
        }
        assert_eq!(told(&[], &[param("a.b", json!(1))]), ["a.b added (1)"]);
        assert_eq!(told(&[param("a.b", json!("x"))], &[]), ["a.b removed (was x)"]);
        let long = "x".repeat(100);
        assert_eq!(told(&[], &[param("a", json!(long))]), [format!("a added ({}…)", "x".repeat(60))]);
    }

    #[test]
    fn cells_of_a_field_are_counted() {
        let (a, b, c) = (input(&["a"], 0), input(&["b"], 1), input(&["c"], 1));
        assert_eq!(told(&[a.clone(), b.clone()], &[a.clone(), c]), ["input merged changed (1 of 2 cells)"]);
        assert_eq!(told(&[a.clone(), b.clone()], &[b.clone(), a.clone()]), ["input merged changed (order of cells)"]);
        assert_eq!(told(&[a.clone(), b], std::slice::from_ref(&a)), ["input merged changed (2 => 1 cells)"]);
        assert_eq!(told(&[], std::slice::from_ref(&a)), ["input merged added"]);
        assert_eq!(told(std::slice::from_ref(&a), std::slice::from_ref(&a)), [""; 0]);
    }
}
