//! What work leaves behind beside results, and when nobody needs it.
//!
//! | what | goes once |
//! |---|---|
//! | a saved plan with the marks of its jobs | all its cells are done; or nothing of it changed for as long as unfinished cells are kept |
//! | marks without a plan | they are that old |
//! | a memo | it names a blob that is not in the store |
//! | a task | its record is gone or older than that |
//! | a lease, an owner | the process is gone: as this machine's process table says, or the owner's object is missing |
//! | a damaged blob | at once: whatever needed it was computed again, or will be |
//! | work of dead processes | at once |
//!
//! What changed since the oldest live run began stays, as everything does that a live run relies on; a plan that is
//! not done stays beside any live run.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    time::SystemTime,
};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{
    Mark, Store,
    garbage::{Garbage, weigh},
    live::LiveRuns,
    owner::Beat,
    work,
};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// Something that is no result and that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    /// `plan`, `marks`, `memo`, `task`, `lease`, `owner`, `damaged`, `work`.
    pub what: &'static str,
    /// Its name in the store; a folder ends with a slash.
    pub name: String,
    pub bytes: u64,
}

/// What decides: the live runs, and before when something without a record is old.
pub(super) struct View<'a> {
    pub live: &'a LiveRuns,
    pub old: SystemTime,
    /// Blobs that stay.
    pub blobs: &'a HashSet<Digest>,
    /// Records that stay.
    pub records: &'a HashSet<Digest>,
}

impl View<'_> {
    /// Old enough to go, and not of a live run. What tells no time, behind a URL, is never old.
    fn old(&self, changed: Option<SystemTime>) -> bool {
        !self.live.shields(changed) && changed.is_some_and(|at| at < self.old)
    }
}

/// As much of a saved plan as says how many cells it has.
#[derive(Deserialize)]
struct Cells {
    cells: Vec<IgnoredAny>,
}

impl Store {
    pub(super) fn leftovers(&self, view: &View) -> Result<Vec<Leftover>> {
        let mut found = Vec::new();
        self.old_plans(view, &mut found)?;
        self.dead_owners(view, &mut found)?;
        for (name, bytes) in self.objects.list("tasks")? {
            let key = name.strip_prefix("tasks/").and_then(|n| n.strip_suffix(".json")?.parse().ok());
            if key.is_some_and(|key| !view.records.contains(&key) && !view.live.relied_on.contains(&key))
                && view.old(self.changed(&name))
            {
                found.push(Leftover { what: "task", name, bytes });
            }
        }
        for (name, bytes) in self.objects.list("damaged")? {
            found.push(Leftover { what: "damaged", name, bytes });
        }
        self.empty_memos(view, &mut found);
        for folder in work::dead(&self.home.join("work")) {
            let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            found.push(Leftover { what: "work", name: format!("work/{name}/"), bytes: weigh(&folder).0 });
        }
        found.sort();
        Ok(found)
    }

    fn old_plans(&self, view: &View, found: &mut Vec<Leftover>) -> Result<()> {
        // Bytes and latest change of each plan with all its marks.
        let mut plans: BTreeMap<Digest, (bool, u64, Option<SystemTime>)> = BTreeMap::new();
        for digest in self.plans()? {
            plans.insert(digest, (true, 0, None));
        }
        for (name, bytes) in self.objects.list("plans")?.into_iter().chain(self.objects.list("jobs")?) {
            let Some(digest) = digest_in(&name) else { continue };
            let plan = plans.entry(digest).or_insert((false, 0, None));
            plan.1 += bytes;
            plan.2 = plan.2.max(self.changed(&name));
        }
        for (digest, (saved, bytes, changed)) in plans {
            let done = saved && !view.live.shields(changed) && self.all_done(&digest)?;
            let forgotten = view.live.count == 0 && view.old(changed);
            if done || forgotten {
                let (what, name) =
                    if saved { ("plan", format!("plans/{digest}.json")) } else { ("marks", format!("jobs/{digest}/")) };
                found.push(Leftover { what, name, bytes });
            }
        }
        Ok(())
    }

    /// Whether each cell of a saved plan was current at its submission or has been since. One that cannot be read
    /// has no jobs that could read it.
    fn all_done(&self, plan: &Digest) -> Result<bool> {
        let Some(bytes) = self.plan_bytes(plan)? else { return Ok(false) };
        let Ok(Cells { cells }) = serde_json::from_slice(&bytes) else { return Ok(true) };
        let mut done = self.marked(plan, Mark::Done)?;
        done.extend(self.known::<BTreeMap<usize, Digest>>(plan).ok().flatten().unwrap_or_default().into_keys());
        Ok((0..cells.len()).all(|cell| done.contains(&cell)))
    }

    fn dead_owners(&self, view: &View, found: &mut Vec<Leftover>) -> Result<()> {
        let mut tokens = HashSet::new();
        for (name, bytes) in self.objects.list("owners")? {
            let Some(content) = self.objects.get(&name)? else { continue };
            match Beat::parse(&content) {
                Some(beat) if beat.owner.lives_here() != Some(false) => drop(tokens.insert(beat.owner.token)),
                Some(_) => found.push(Leftover { what: "owner", name, bytes }),
                // Torn, or about to be whole.
                None if view.old(self.changed(&name)) => found.push(Leftover { what: "owner", name, bytes }),
                None => {}
            }
        }
        for (name, bytes) in self.objects.list("leases")? {
            let Some(content) = self.objects.get(&name)? else { continue };
            let dead = match Beat::parse(&content) {
                Some(beat) => !tokens.contains(&beat.owner.token),
                None => view.old(self.changed(&name)),
            };
            if dead {
                found.push(Leftover { what: "lease", name, bytes });
            }
        }
        Ok(())
    }

    fn empty_memos(&self, view: &View, found: &mut Vec<Leftover>) {
        let folders = std::fs::read_dir(self.home.join("memos")).into_iter().flatten().flatten();
        for entry in folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten()) {
            let Ok(meta) = entry.metadata() else { continue };
            let value = std::fs::read(entry.path()).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            let useless = match &value {
                Some(value) => !names_only(value, view.blobs),
                // Torn, or on its way in.
                None => view.old(meta.modified().ok()),
            };
            if useless && !view.live.shields(meta.modified().ok()) {
                let name = entry.path().strip_prefix(&self.home).unwrap_or(Path::new("")).display().to_string();
                found.push(Leftover { what: "memo", name, bytes: meta.len() });
            }
        }
    }

    /// Takes them; nobody can have come to need one since, for the collection is alone.
    pub(super) fn take_leftovers(&self, garbage: &Garbage) -> Result<()> {
        for Leftover { what, name, .. } in &garbage.leftovers {
            match *what {
                "plan" | "marks" => {
                    let Some(digest) = digest_in(name) else { continue };
                    // The plan goes last: marks without one would be told of as such.
                    for (mark, _) in self.objects.list(&format!("jobs/{digest}"))? {
                        self.objects.delete(&mark)?;
                    }
                    self.objects.delete(&format!("plans/{digest}.json"))?;
                    if let Some(folder) = self.objects.path(&format!("jobs/{digest}")) {
                        // Empty folders; a job's shell may be writing its log.
                        let _ = std::fs::remove_dir_all(folder);
                    }
                }
                "memo" => {
                    let path = self.home.join(name);
                    match std::fs::remove_file(&path) {
                        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                            return Err(Error::Io { path, source: e });
                        }
                        _ => {}
                    }
                }
                "work" => work::sweep(&self.home.join("work")),
                _ => self.objects.delete(name)?,
            }
        }
        Ok(())
    }
}

/// The digest that the second part of a name is, without its ending.
fn digest_in(name: &str) -> Option<Digest> {
    name.split('/').nth(1)?.trim_end_matches(".json").parse().ok()
}

/// Whether every digest in a value is among these.
fn names_only(value: &Value, blobs: &HashSet<Digest>) -> bool {
    match value {
        Value::String(text) => text.parse().ok().is_none_or(|digest: Digest| blobs.contains(&digest)),
        Value::Array(items) => items.iter().all(|item| names_only(item, blobs)),
        Value::Object(fields) => fields.values().all(|field| names_only(field, blobs)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::store::Keep;

    fn names(found: &Garbage) -> Vec<(&str, String)> {
        let short = |name: &str| name.chars().take(14).collect();
        found.leftovers.iter().map(|l| (l.what, short(&l.name))).collect()
    }

    fn now(unfinished_s: u64) -> Keep {
        Keep { unfinished: Duration::from_secs(unfinished_s), ..Keep::default() }
    }

    #[test]
    fn a_plan_goes_with_its_marks_once_it_is_done_or_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let bytes = json!({"program": "p", "cells": [1, 2, 3]}).to_string().into_bytes();
        let (done, open) = (Digest::of(&bytes), Digest::of(b"{\"cells\":[1]}"));
        store.put_plan(&done, bytes).unwrap();
        store.put_plan(&open, b"{\"cells\":[1]}".to_vec()).unwrap();
        store.put_known(&done, &BTreeMap::from([(0usize, done)])).unwrap();
        store.put_mark(&done, Mark::Done, 1, &1).unwrap();
        store.put_mark(&open, Mark::Started, 0, &1).unwrap();
        assert_eq!(names(&store.garbage(&now(3600)).unwrap()), []);
        store.put_mark(&done, Mark::Done, 2, &1).unwrap();
        // A run that goes on may be what follows it.
        let live = store.live().unwrap();
        assert_eq!(names(&store.garbage(&now(3600)).unwrap()), []);
        drop(live);
        let found = store.collect(&now(3600), false).unwrap();
        assert_eq!(names(&found), [("plan", format!("plans/{}", &done.hex()[..8]))]);
        assert!(found.leftovers[0].bytes > 40 && found.bytes() == found.leftovers[0].bytes);
        assert_eq!(store.plans().unwrap(), [open]);
        assert!(store.marked(&done, Mark::Done).unwrap().is_empty());
        assert!(!folder.path().join(format!("jobs/{done}")).exists());
        // An hour after its last mark an unfinished one is forgotten where that is asked for.
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(names(&store.collect(&now(0), false).unwrap()).len(), 1);
        assert!(store.plans().unwrap().is_empty());
    }

    #[test]
    fn leases_and_owners_of_dead_processes_go_and_of_living_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let key = Digest::of(b"a");
        let lease = store.try_lease(&key).unwrap().unwrap();
        assert_eq!(names(&store.garbage(&now(0)).unwrap()), []);
        // The same process, were it gone.
        let path = folder.path().join(format!("leases/{key}.json"));
        let text = std::fs::read_to_string(&path).unwrap();
        let other = Digest::of(b"b");
        let dead = text.replace("\"token\":\"", "\"token\":\"dead").replace("\"pid_start\":", "\"pid_start\":1");
        std::fs::write(folder.path().join(format!("leases/{other}.json")), &dead).unwrap();
        std::fs::write(folder.path().join("owners/dead.json"), &dead).unwrap();
        let found = store.collect(&now(3600), false).unwrap();
        assert_eq!(
            names(&found),
            [("lease", format!("leases/{}", &other.hex()[..7])), ("owner", "owners/dead.js".into())]
        );
        assert!(path.exists() && store.try_lease(&other).unwrap().is_some());
        drop(lease);
    }

    #[test]
    fn damaged_blobs_go_and_memos_of_blobs_that_are_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (kept, _) = store.put_bytes(b"kept").unwrap();
        let (lost, key) = (Digest::of(b"lost"), Digest::of(b"key"));
        store.remember(&key, &json!({"file": {"digest": lost, "bytes": 3}})).unwrap();
        std::fs::create_dir(folder.path().join("damaged")).unwrap();
        std::fs::write(folder.path().join(format!("damaged/{lost}")), b"lsot").unwrap();
        // Nothing names the blob, so it goes, and with it what is remembered of it.
        let other = Digest::of(b"other");
        store.remember(&other, &json!([kept, "no digest", 7])).unwrap();
        let blobs = HashSet::from([kept]);
        let live = LiveRuns::default();
        let view = View { live: &live, old: SystemTime::now(), blobs: &blobs, records: &HashSet::new() };
        let found: Vec<&str> = store.leftovers(&view).unwrap().iter().map(|l| l.what).collect();
        assert_eq!(found, ["damaged", "memo"]);
        let found = store.collect(&now(3600), false).unwrap();
        assert_eq!(found.leftovers.iter().map(|l| l.what).collect::<Vec<_>>(), ["damaged", "memo", "memo"]);
        assert_eq!(store.memo::<Value>(&key), None);
        assert_eq!(std::fs::read_dir(folder.path().join("damaged")).unwrap().count(), 0);
    }
}
