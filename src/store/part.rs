//! What a key is made of.
//!
//! A cell's inputs are walked once, into a list of parts (`plan::walk`). The key is a hash of that list and a
//! reason is a difference of two lists, so the two cannot disagree.
//!
//! | part | in the key | not in the key |
//! |---|---|---|
//! | kind | name, version | program version, build |
//! | param | path of the field, value with defaults filled in; a null is an absent field | order of fields, how it was spelled |
//! | input | field, content digest; axis values where they become columns; node names where a kind writes them out | the cell that made it, its key, its times |
//! | source | field, digest over relative names and contents | where it lies, modification times |
//!
//! Never: host, device, thread count, store, executor, absolute paths.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::artifact::FileRef;
use crate::digest::{Digest, canonical};

/// Raised when the text below that is hashed changes, which makes every cell run again.
const SCHEME: &str = "scaleshot key 1\n";

/// One thing that a result depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Part {
    Kind {
        name: String,
        version: u32,
    },
    /// One leaf of the canonical parameters: `optimizer.sgd_agc.lr`. Lists are leaves.
    Param {
        path: String,
        value: Value,
    },
    /// One artifact that another cell made.
    Input {
        field: String,
        /// Which of the field's nodes it comes from, counted from 0; `None` where a field takes one cell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<u32>,
        /// Only for kinds that write node names into their outputs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// Only where the axes become columns.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        axes: Option<Vec<(String, Value)>>,
        digest: Digest,
        /// What `digest` is made of, so that a reason can count the files that changed.
        files: Vec<FileRef>,
    },
    /// An outside file or folder. The digest is that of its listing, which is itself a blob of the store.
    Source {
        field: String,
        digest: Digest,
        files: u64,
        bytes: u64,
    },
}

impl Part {
    /// One line, every field quoted as JSON, so that no two lists of parts read the same.
    fn write(&self, out: &mut String) {
        let text = |s: &str| Value::from(s).to_string();
        match self {
            Part::Kind { name, version } => out.push_str(&format!("kind {} {version}", text(name))),
            Part::Param { path, value } => {
                out.push_str("param ");
                out.push_str(&text(path));
                out.push(' ');
                out.push_str(&canonical(value));
            }
            Part::Input { field, group, node, axes, digest, files: _ } => {
                out.push_str("input ");
                out.push_str(&text(field));
                if let Some(group) = group {
                    out.push_str(&format!(" group {group}"));
                }
                if let Some(node) = node {
                    out.push_str(&format!(" node {}", text(node)));
                }
                for (axis, value) in axes.iter().flatten() {
                    out.push_str(&format!(" axis {} {}", text(axis), canonical(value)));
                }
                out.push(' ');
                out.push_str(&digest.hex());
            }
            Part::Source { field, digest, files: _, bytes: _ } => {
                out.push_str(&format!("source {} {digest}", text(field)));
            }
        }
        out.push('\n');
    }
}

/// The key of a cell with these parts.
pub fn key(parts: &[Part]) -> Digest {
    let mut text = String::with_capacity(64 * parts.len());
    text.push_str(SCHEME);
    for part in parts {
        part.write(&mut text);
    }
    Digest::of(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn param(path: &str, value: Value) -> Part {
        Part::Param { path: path.into(), value }
    }

    #[test]
    fn every_field_of_a_part_counts_and_text_cannot_imitate_structure() {
        let input = |group, node: Option<&str>, axes, digest: &[u8]| Part::Input {
            field: "data".into(),
            group,
            node: node.map(Into::into),
            axes,
            digest: Digest::of(digest),
            files: vec![],
        };
        let lists = [
            vec![param("a", json!(1))],
            vec![param("a", json!(1.0))],
            vec![param("a", json!("1"))],
            vec![param("b", json!(1))],
            vec![param("a", json!("1\nparam \"b\" 2"))],
            vec![param("a", json!("1")), param("b", json!(2))],
            vec![Part::Kind { name: "a".into(), version: 1 }],
            vec![Part::Kind { name: "a".into(), version: 2 }],
            vec![input(None, None, None, b"x")],
            vec![input(None, None, None, b"y")],
            vec![input(Some(0), None, None, b"x")],
            vec![input(None, Some("n"), None, b"x")],
            vec![input(None, None, Some(vec![("n".into(), json!(1))]), b"x")],
            vec![Part::Source { field: "data".into(), digest: Digest::of(b"x"), files: 1, bytes: 1 }],
        ];
        let keys: std::collections::BTreeSet<Digest> = lists.iter().map(|l| key(l)).collect();
        assert_eq!(keys.len(), lists.len());
    }

    #[test]
    fn parts_survive_json_with_the_same_key() {
        let parts =
            vec![param("lr", json!(0.003)), param("n", json!(18446744073709551615u64)), param("x", json!(1e-9))];
        let back: Vec<Part> = serde_json::from_str(&serde_json::to_string(&parts).unwrap()).unwrap();
        assert_eq!(back, parts);
        assert_eq!(key(&back), key(&parts));
    }
}
