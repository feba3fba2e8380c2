//! `scaleshot verify`: every file of a store is read and compared with its digest, every record with its files.

use std::{
    collections::{HashMap, HashSet},
    process::ExitCode,
};

use clap::Args;
use serde_json::json;

use super::{Outcome, output::print, session::StoreArguments};
use crate::{
    digest::Digest,
    error::{Error, Result},
    store::{BlobState, Store, part, record::Record},
};

/// What `--help` says of the command.
pub const ABOUT: &str = "\
Read every file of a store and compare it with its digest, and every record with its files.

With --repair what is broken is removed, each thing named: damaged files, records that are damaged or whose
files are missing or damaged, and indexes that cannot be read. The next run computes the cells again; nothing
else is lost.";

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub store: StoreArguments,
    /// Remove what is broken, so that the next run computes it again
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What a look at everything found.
#[derive(Default)]
struct Findings {
    blobs: usize,
    bytes: u64,
    records: usize,
    /// In words, each naming what is affected.
    problems: Vec<String>,
    /// What was taken out, in words.
    removed: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let store = arguments.store.open_existing()?;
    let found = look(&store, arguments.repair)?;
    print(&if arguments.json {
        let Findings { blobs, bytes, records, problems, removed } = &found;
        json!({"blobs": blobs, "bytes": bytes, "records": records, "problems": problems, "removed": removed})
            .to_string()
            + "\n"
    } else {
        let mut out: String = found.problems.iter().map(|p| format!("{p}\n")).collect();
        out.extend(found.removed.iter().map(|r| format!("removed {r}\n")));
        out.push_str(&format!(
            "{} records, {} files, {}: {}\n",
            found.records,
            found.blobs,
            super::layout::bytes(found.bytes),
            match (found.problems.len(), arguments.repair) {
                (0, _) => "all whole".to_string(),
                (n, false) => format!("{n} problems"),
                (n, true) => format!("{n} problems, repaired: the next run computes again what is missing"),
            }
        ));
        out
    });
    // A store that was repaired is whole again.
    let whole = found.problems.is_empty() || arguments.repair;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn look(store: &Store, repair: bool) -> Result<Findings> {
    let mut found = Findings::default();
    let mut sizes: HashMap<Digest, u64> = HashMap::new();
    let mut damaged: HashSet<Digest> = HashSet::new();
    for (digest, bytes) in store.blobs()? {
        found.blobs += 1;
        found.bytes += bytes;
        if store.verify_blob(&digest)? == BlobState::Whole {
            sizes.insert(digest, bytes);
        } else {
            damaged.insert(digest);
        }
    }
    let mut owned: HashSet<Digest> = HashSet::new();
    for key in store.records()? {
        found.records += 1;
        let broken = match store.record(&key) {
            Ok(Some(record)) => match broken_files(&record, &sizes, &damaged) {
                files if files.is_empty() => None,
                files => {
                    owned.extend(record.outputs.values().flat_map(|a| &a.files).map(|f| f.digest));
                    found.problems.extend(files);
                    Some(format!("record {} ({})", key.short(), record.cell))
                }
            },
            Ok(None) => None,
            Err(Error::Store { message, .. }) => {
                found.problems.push(message);
                Some(format!("record {}", key.short()))
            }
            Err(e) => return Err(e),
        };
        if let Some(broken) = broken.filter(|_| repair) {
            store.delete_record(&key)?;
            found.removed.push(broken);
        }
    }
    for digest in &damaged {
        if !owned.contains(digest) {
            found.problems.push(format!("file {} is damaged (no record names it)", digest.short()));
        }
        if repair && store.delete_blob(digest)? {
            found.removed.push(format!("file {}", digest.short()));
        }
    }
    for (name, message) in store.broken_indexes()? {
        found.problems.push(message);
        if repair {
            store.delete_index(&name)?;
            found.removed.push(name);
        }
    }
    found.problems.sort();
    found.removed.sort();
    Ok(found)
}

/// What is wrong with the files of a record, each named with its cell.
fn broken_files(record: &Record, sizes: &HashMap<Digest, u64>, damaged: &HashSet<Digest>) -> Vec<String> {
    let mut problems = Vec::new();
    for (output, artifact) in &record.outputs {
        for file in &artifact.files {
            let what = match sizes.get(&file.digest) {
                Some(bytes) if *bytes == file.bytes => continue,
                Some(bytes) => format!("has {bytes} bytes and not {}", file.bytes),
                None if damaged.contains(&file.digest) => "is damaged".into(),
                None => "is missing".into(),
            };
            problems.push(format!("file {} {what} ({}.{output} {})", file.digest.short(), record.cell, file.name));
        }
    }
    if part::key(&record.parts) != record.key {
        problems.push(format!(
            "record {} is damaged ({}): its parts make another key",
            record.key.short(),
            record.cell
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_found_named_and_repaired() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (digest, _) = store.put_bytes(b"one").unwrap();
        store.put_bytes(b"two").unwrap();
        let whole = look(&store, false).unwrap();
        assert_eq!((whole.blobs, whole.bytes, whole.problems.len()), (2, 6, 0));
        let path = store.local(&digest).unwrap();
        // Blobs are read-only, so another file takes its place.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"onf").unwrap();
        let found = look(&store, false).unwrap();
        assert_eq!(found.problems, [format!("file {} is damaged (no record names it)", digest.short())]);
        assert_eq!(look(&store, true).unwrap().removed, [format!("file {}", digest.short())]);
        let after = look(&store, false).unwrap();
        assert_eq!((after.blobs, after.problems.len()), (1, 0));
    }
}
