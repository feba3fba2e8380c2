//! `scaleshot verify`: every file of a store is read and compared with its digest, every record with its files.

use std::{collections::HashMap, process::ExitCode};

use clap::Args;
use serde_json::json;

use super::{Outcome, output::print, session::StoreArguments};
use crate::{
    digest::Digest,
    error::{Error, Result},
    store::{BlobState, Store},
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub store: StoreArguments,
    /// Remove what is damaged, so that the next run computes it again
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
    removed: usize,
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
        out.push_str(&format!(
            "{} records, {} files, {}: {}\n",
            found.records,
            found.blobs,
            super::layout::bytes(found.bytes),
            match (found.problems.len(), found.removed) {
                (0, _) => "all whole".to_string(),
                (n, 0) => format!("{n} problems"),
                (n, removed) => format!("{n} problems, {removed} removed"),
            }
        ));
        out
    });
    // A store that was repaired is whole again.
    let whole = found.problems.len() == found.removed;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn look(store: &Store, repair: bool) -> Result<Findings> {
    let mut found = Findings::default();
    // Which cell a file belongs to, and how large it has to be.
    let mut owners: HashMap<Digest, (String, u64)> = HashMap::new();
    for key in store.records()? {
        found.records += 1;
        match store.record(&key) {
            Ok(Some(record)) => {
                for (output, artifact) in &record.outputs {
                    for file in &artifact.files {
                        let name = format!("{}.{output} {}", record.cell, file.name);
                        owners.entry(file.digest).or_insert((name, file.bytes));
                    }
                }
            }
            Ok(None) => {}
            Err(Error::Store { message, .. }) => {
                found.problems.push(message);
                if repair && store.delete_record(&key)? {
                    found.removed += 1;
                }
            }
            Err(e) => return Err(e),
        }
    }
    let blobs = store.blobs()?;
    let mut there: HashMap<Digest, u64> = HashMap::new();
    for (digest, bytes) in blobs {
        found.blobs += 1;
        found.bytes += bytes;
        there.insert(digest, bytes);
        if !matches!(store.verify_blob(&digest)?, BlobState::Whole) {
            let owner = owners.get(&digest).map(|(name, _)| format!(" ({name})")).unwrap_or_default();
            found.problems.push(format!("file {} is damaged{owner}", digest.short()));
            if repair && store.delete_blob(&digest)? {
                found.removed += 1;
            }
        }
    }
    let mut missing: Vec<String> = owners
        .iter()
        .filter(|(digest, _)| !there.contains_key(digest))
        .map(|(digest, (name, _))| format!("file {} is missing ({name})", digest.short()))
        .collect();
    missing.sort();
    if repair {
        // Nothing to remove: the planner sees that it is missing and computes the cell again.
        found.removed += missing.len();
    }
    found.problems.extend(missing);
    Ok(found)
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
        assert_eq!(found.problems, [format!("file {} is damaged", digest.short())]);
        assert_eq!(look(&store, true).unwrap().removed, 1);
        let after = look(&store, false).unwrap();
        assert_eq!((after.blobs, after.problems.len()), (1, 0));
    }
}
