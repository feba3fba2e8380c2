//! `include:` puts a study into several files: their parameters and nodes become one pipeline.
//!
//! An included file is a pipeline of its own and can be run alone; its name and description count only
//! then. Parameters of the file that includes take the place of those it includes. A file that is reached
//! twice counts once. Paths are relative to the file that names them.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{
    diagnostic::{Findings, Mark},
    yaml::{self, Entry, Node, Yaml, YamlLimits},
};

/// More files than this are refused.
const MOST: usize = 100;

/// The tree of a pipeline file with the parameters and nodes of every file that it includes; mistakes go
/// to `findings`.
pub fn gather(mut root: Node, path: &Path, limits: &YamlLimits, findings: &mut Findings) -> Node {
    if root.get("include").is_none() {
        return root;
    }
    let mut gathering = Gathering { limits, findings, seen: HashMap::new(), params: Vec::new(), nodes: Vec::new() };
    gathering.seen.insert(identity(path), State::Open);
    gathering.file(&root, path);
    let Gathering { params, nodes, .. } = gathering;
    let at = root.at;
    if let Yaml::Map(entries) = &mut root.value {
        entries.retain(|e| e.key != "include");
        for (key, gathered) in [("params", params), ("nodes", nodes)] {
            let value = Node { at, value: Yaml::Map(gathered) };
            match entries.iter_mut().find(|e| e.key == key) {
                // What is not a map stays for the declaration to complain about.
                Some(entry) if entry.value.entries().is_some() || entry.value.is_null() => entry.value = value,
                Some(_) => {}
                None => entries.push(Entry { key: key.into(), key_at: at, value }),
            }
        }
    }
    root
}

#[derive(PartialEq)]
enum State {
    /// It is being read, further up.
    Open,
    Done,
}

struct Gathering<'f> {
    limits: &'f YamlLimits,
    findings: &'f mut Findings,
    seen: HashMap<PathBuf, State>,
    params: Vec<Entry>,
    nodes: Vec<Entry>,
}

impl Gathering<'_> {
    /// What a file includes, then its own entries.
    fn file(&mut self, root: &Node, path: &Path) {
        if let Some(include) = root.get("include") {
            let named: Vec<&Node> = match &include.value.value {
                Yaml::List(items) => items.iter().collect(),
                _ => vec![&include.value],
            };
            for name in named {
                match name.text() {
                    Some(text) => self.included(&path.with_file_name(text), name.at),
                    None => self.wrong(name.at, "expected the path of a file", Some("include: [sources.yaml]")),
                }
            }
        }
        for entry in root.get("params").and_then(|e| e.value.entries()).unwrap_or_default() {
            match self.params.iter_mut().find(|e| e.key == entry.key) {
                // It keeps its place, so that parameters between the two may use it.
                Some(before) => *before = entry.clone(),
                None => self.params.push(entry.clone()),
            }
        }
        for entry in root.get("nodes").and_then(|e| e.value.entries()).unwrap_or_default() {
            match self.nodes.iter().find(|e| e.key == entry.key) {
                Some(before) => {
                    let place = format!("{}:{}", self.findings.file(before.key_at).display(), before.key_at.line);
                    let message = format!("node {} is declared in {place} as well", entry.key);
                    self.findings.push(
                        entry.key_at,
                        format!("nodes.{}", entry.key),
                        message,
                        Some("rename one".into()),
                    );
                }
                None => self.nodes.push(entry.clone()),
            }
        }
    }

    fn included(&mut self, path: &Path, at: Mark) {
        let known = identity(path);
        match self.seen.get(&known) {
            Some(State::Done) => return,
            Some(State::Open) => {
                return self.wrong(at, &format!("{} includes itself", path.display()), None);
            }
            None if self.seen.len() >= MOST => {
                return self.wrong(at, &format!("more than {MOST} files are included"), None);
            }
            None => {}
        }
        self.seen.insert(known.clone(), State::Open);
        if let Some(root) = self.read(path, at) {
            self.file(&root, path);
        }
        self.seen.insert(known, State::Done);
    }

    fn read(&mut self, path: &Path, at: Mark) -> Option<Node> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) => {
                self.wrong(
                    at,
                    &format!("cannot read {}: {e}", path.display()),
                    Some("paths are relative to the file that names them"),
                );
                return None;
            }
        };
        let text = match yaml::decode(&bytes, self.limits) {
            Ok(text) => text,
            Err(message) => {
                let file = self.findings.enter(path, "");
                self.findings.push(Mark { file, ..Mark::default() }, "", message, None);
                return None;
            }
        };
        let file = self.findings.enter(path, text);
        let root = yaml::parse_file(file, text, self.limits, self.findings)?;
        if root.entries().is_none() {
            self.findings.push(root.at, "", "a pipeline is a map", Some("it has params: and nodes:".into()));
        }
        for e in root.entries().unwrap_or_default() {
            if !super::declaration::TOP.contains(&e.key.as_str()) {
                let hint = super::did_you_mean(&e.key, "fields", super::declaration::TOP);
                self.findings.push(e.key_at, e.key.clone(), format!("unknown field {}", e.key), hint);
            }
        }
        Some(root)
    }

    fn wrong(&mut self, at: Mark, message: &str, hint: Option<&str>) {
        self.findings.push(at, "include", format!("include: {message}"), hint.map(String::from));
    }
}

/// One name for a file, however it is reached.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::super::{LoadOptions, fixture, load_with};

    fn load(files: &[(&str, &str)], params: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let params = params.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let options = LoadOptions { params, ..LoadOptions::default() };
        let loaded = load_with(fixture::KINDS, &folder.path().join(files[0].0), &options);
        let place = format!("{}/", folder.path().display());
        loaded
            .map(|p| p.cells.iter().map(|c| format!("{} {}", c.id, c.params)).collect())
            .map_err(|d| d.to_string().replace(&place, ""))
    }

    const SOURCES: &str = "pipeline: sources\nparams: { root: /data }\nnodes:\n  a: { source: { format: image_folder, root: '${params.root}/a' } }\n";

    #[test]
    fn files_become_one_pipeline_and_the_including_file_decides() {
        let study = "pipeline: study\ninclude: [stages/join.yaml, stages/sources.yaml]\nparams: { root: /mine }\nnodes:\n  part: { join: { from: both } }\n";
        let join = "pipeline: join\ninclude: sources.yaml\nnodes:\n  both: { join: { from: [a] } }\n";
        let files = [("study.yaml", study), ("stages/join.yaml", join), ("stages/sources.yaml", SOURCES)];
        let cells = load(&files, &[]).unwrap();
        let names: Vec<&str> = cells.iter().map(|c| c.split(' ').next().unwrap()).collect();
        assert_eq!(names, ["a", "both", "part"]);
        assert!(cells[0].contains("/mine/a"), "{}", cells[0]);
        let cells = load(&files, &[("root", "/given")]).unwrap();
        assert!(cells[0].contains("/given/a"), "{}", cells[0]);
        // A stage is a pipeline of its own.
        assert!(load(&files[2..], &[]).unwrap()[0].contains("/data/a"));
    }

    #[test]
    fn mistakes_are_shown_in_the_file_that_holds_them() {
        let study = "pipeline: study\ninclude: [sources.yaml, absent.yaml, 3]\nnodes:\n  a: { join: { from: a } }\n";
        let sources = SOURCES.replace("root:", "rot:").replace("params:", "parms:");
        let wrong = load(&[("study.yaml", study), ("sources.yaml", &sources)], &[]).unwrap_err();
        for part in [
            "study.yaml:2:25: include: cannot read absent.yaml",
            "study.yaml:2:38: include: expected the path of a file",
            "study.yaml:4:3: node a is declared in sources.yaml:4 as well",
            "sources.yaml:2:1: unknown field parms",
            "4 |   a: { source: { format: image_folder, rot:",
        ] {
            assert!(wrong.contains(part), "{part:?} is not in\n{wrong}");
        }
        let own = load(&[("x.yaml", "pipeline: x\ninclude: x.yaml\nnodes: { a: { join: { from: a } } }\n")], &[]);
        assert!(own.unwrap_err().contains("x.yaml:2:10: include: x.yaml includes itself"));
    }

    #[test]
    fn a_parameter_may_be_chosen_by_another_and_hold_a_whole_body() {
        let study = "pipeline: s\nparams:\n  scale: paper\n  set:\n    by: scale\n    paper: { format: image_folder, root: /big }\n    mini: { format: cifar, root: b, classes: 10 }\nnodes:\n  a: { source: '${params.set}' }\n";
        assert!(load(&[("s.yaml", study)], &[]).unwrap()[0].contains("/big"));
        assert!(load(&[("s.yaml", study)], &[("scale", "mini")]).unwrap()[0].contains("cifar"));
        assert!(load(&[("s.yaml", study)], &[("scale", "mini"), ("set.mini.root", "c")]).unwrap()[0].contains("\"c\""));
        let wrong = load(&[("s.yaml", study)], &[("scale", "tiny")]).unwrap_err();
        assert!(wrong.contains("s.yaml:5:9: params.set: there is nothing for scale tiny"), "{wrong}");
        assert!(wrong.contains("hint: did you mean mini?"), "{wrong}");
        assert!(!wrong.contains("expected a map"), "one mistake is said once: {wrong}");
        let wrong = load(&[("s.yaml", &study.replace("by: scale", "by: scalex"))], &[]).unwrap_err();
        assert!(wrong.contains("params.set: by: unknown parameter scalex"), "{wrong}");
        let wrong = load(&[("s.yaml", &study.replace("'${params.set}'", "'${params.scale}'"))], &[]).unwrap_err();
        assert!(wrong.contains("node a: source: expected a map of parameters"), "{wrong}");
    }
}
