//! `scaleshot accept`: takes a result as current that was not computed from the cell's inputs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{
    Failure, Outcome,
    output::print,
    session::{PipelineArguments, Session, StoreArguments},
};
use crate::{
    digest::Digest,
    error::{Error, Result},
    kind::{NOTES, Note},
    plan::{PlanOptions, Reason, State, why},
    run::{machine, unix_ms},
    store::{
        Last, Store,
        artifact::{Artifact, FileRef},
        part,
        record::{Accepted, Record},
    },
};

/// What `--help` says of the command.
pub const ABOUT: &str = "\
Take a result as current that was not computed from what the cell depends on now.

Without options the cell keeps the result it had last: say so after a kind's version rose, a default was
renamed, or an input changed in a way that makes no difference. With --key another record's result is taken;
with --from, files that were changed by hand. The record says that it was accepted, when, of what and why.
What follows the cell depends on the content as always. To undo it, run the cell with --force.";

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub pipeline: PipelineArguments,
    /// One cell: transfer[shots=5,seed=0]
    #[arg(value_name = "CELL")]
    pub cell: String,
    /// A folder with one folder an output, in it the files that replace those of the same name
    #[arg(long, value_name = "FOLDER")]
    pub from: Option<PathBuf>,
    /// Take the result of the record whose key begins so
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Why, for whoever reads the record
    #[arg(short, long, value_name = "TEXT")]
    pub note: Option<String>,
    #[command(flatten)]
    pub store: StoreArguments,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let session = Session::open(&arguments.pipeline, &arguments.store)?;
    let cells = session.pipeline.select(std::slice::from_ref(&arguments.cell)).map_err(Failure::Words)?;
    let [index] = cells.as_slice() else {
        let example = cells.first().map(|&i| format!("name one, as {}", session.pipeline.cells[i].id));
        return Err(Failure::words(
            format!("{} is {} cells, and one is accepted at a time", arguments.cell, cells.len()),
            example,
        ));
    };
    let cell = &session.pipeline.cells[*index];
    let store = &session.store;
    let _live = store.live()?;
    let why = why(&session.pipeline, store, &session.sources, &PlanOptions::default(), *index)?;
    let Some(key) = why.planned.key.filter(|_| why.planned.state != State::Frozen) else {
        let reasons: Vec<String> = why.planned.reasons.iter().map(Reason::to_string).collect();
        let hint = "make what it needs current first; or freeze it, so that it stays whatever they become";
        return Err(Failure::words(
            format!("{} cannot be accepted now: {}", cell.id, reasons.join("; ")),
            Some(hint.into()),
        ));
    };
    let old = base(arguments, store, why.last)?;
    if old.as_ref().is_some_and(|old| old.key == key) && arguments.from.is_none() && why.planned.state == State::Fresh {
        print(&format!("{} is current: there is nothing to accept\n", cell.id));
        return Ok(ExitCode::SUCCESS);
    }
    let mut outputs = old.as_ref().map(|r| r.outputs.clone()).unwrap_or_default();
    let declared = cell.kind.outputs_of(&cell.params)?;
    let mut files = Vec::new();
    let mut notes = old.as_ref().map(|r| r.notes.clone()).unwrap_or_default();
    if let Some(folder) = &arguments.from {
        files = replace(store, folder, &declared, &mut outputs)?;
        let because = arguments.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        let detail = format!("{} put in by hand{because}", files.join(", "));
        let note = Note { what: "accepted".into(), count: files.len() as u64, detail };
        for name in files.iter().filter_map(|file| file.split('/').next()) {
            tell(store, outputs.get_mut(name), &note)?;
        }
        notes.push(note);
    }
    if outputs.is_empty() {
        let hint = "--from FOLDER takes files, --key KEY another record's";
        return Err(Failure::words(format!("{} has no result to accept", cell.id), Some(hint.into())));
    }
    if let Some(name) = outputs.keys().find(|name| !declared.iter().any(|(known, _)| known == *name)) {
        let hint = format!(
            "{} makes {}",
            cell.kind.name(),
            declared.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", ")
        );
        return Err(Failure::words(format!("output {name} of that record is none of {}", cell.id), Some(hint)));
    }
    if let Some((output, file)) = store.first_missing(&outputs)? {
        return Err(Error::store(format!("{output}/{} of that result is missing", file.name)).into());
    }
    let accepted = Accepted {
        unix_ms: unix_ms(),
        of: old.as_ref().map(|r| r.key),
        reasons: why.planned.reasons.iter().map(Reason::to_string).collect(),
        files,
        note: arguments.note.clone(),
    };
    if part::key(&why.parts) != key {
        return Err(Error::invalid("bug: the parts do not make the key").into());
    }
    let record = Record {
        key,
        kind: cell.kind.name().into(),
        kind_version: cell.kind.version(),
        pipeline: session.pipeline.name.clone(),
        cell: cell.id.clone(),
        parts: why.parts,
        outputs,
        notes,
        measured: old.as_ref().map(|r| r.measured.clone()).unwrap_or_default(),
        wall_ms: old.as_ref().map_or(0, |r| r.wall_ms),
        cpu_ms: old.as_ref().and_then(|r| r.cpu_ms),
        peak_rss_bytes: old.as_ref().and_then(|r| r.peak_rss_bytes),
        threads: old.as_ref().map_or(0, |r| r.threads),
        machine: machine(),
        program: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into(),
        finished_unix_ms: unix_ms(),
        log: None,
        accepted: Some(accepted),
    };
    publish(store, &record)?;
    let told: Vec<String> = record.accepted.iter().flat_map(|a| &a.reasons).map(|r| format!("  {r}\n")).collect();
    let put: String = record.accepted.iter().flat_map(|a| &a.files).map(|f| format!("  took {f}\n")).collect();
    print(&format!("accepted {} as {}\n{}{put}", cell.id, key.short(), told.concat()));
    Ok(ExitCode::SUCCESS)
}

/// Adds a note to those that travel with an output, so that a report that is made of it tells it.
fn tell(store: &Store, output: Option<&mut Artifact>, note: &Note) -> Result<()> {
    let Some(artifact) = output else { return Ok(()) };
    let mut notes: Vec<Note> = match artifact.file(NOTES) {
        Some(file) => serde_json::from_slice(&store.bytes(&file.digest)?)?,
        None => Vec::new(),
    };
    if notes.last() == Some(note) {
        return Ok(());
    }
    notes.push(note.clone());
    let (digest, bytes) = store.put_bytes(&serde_json::to_vec_pretty(&notes)?)?;
    let mut files = std::mem::take(&mut artifact.files);
    files.retain(|file| file.name != NOTES);
    files.push(FileRef { name: NOTES.into(), digest, bytes });
    *artifact = Artifact::new(artifact.kind, files);
    Ok(())
}

/// Puts the record in its place, as a run would: under its lease, and named as the cell's latest, so that a collection
/// keeps it and the next change is told against it.
fn publish(store: &Store, record: &Record) -> Result<(), Failure> {
    {
        let _hold = store.hold()?;
        store.rely_on(Some(record.key))?;
    }
    let computed = || {
        let message = format!("{} is being computed by another process", record.cell);
        Failure::words(message, Some("wait for it, or end it; `scaleshot watch` shows it".into()))
    };
    let lease = store.try_lease(&record.key)?.ok_or_else(computed)?;
    let published = lease.publish(record)?;
    // Where another process published meanwhile, its record stands.
    if published.accepted.as_ref().map(|a| a.unix_ms) != record.accepted.as_ref().map(|a| a.unix_ms) {
        return Err(computed());
    }
    let stamp = store.record_stamp(&record.key)?.ok_or_else(|| Error::store("the record just written is gone"))?;
    let last = Last::new(record.clone(), stamp);
    store.update_last(&record.pipeline, &BTreeMap::from([(record.cell.clone(), last)]))?;
    Ok(())
}

/// The record whose result is taken.
fn base(arguments: &Arguments, store: &Store, last: Option<Record>) -> Result<Option<Record>, Failure> {
    let Some(word) = &arguments.key else { return Ok(last) };
    let found: Vec<Digest> = store.records()?.into_iter().filter(|key| key.hex().starts_with(word.as_str())).collect();
    match found.as_slice() {
        [key] => Ok(store.record(key)?),
        [] => {
            Err(Failure::words(format!("no record's key begins with {word}"), Some("scaleshot ls lists them".into())))
        }
        several => {
            Err(Failure::words(format!("{} keys begin with {word}", several.len()), Some("type more of it".into())))
        }
    }
}

/// Puts the files of `FOLDER/OUTPUT/…` over those of the outputs; returns what was put in, as `OUTPUT/FILE`.
fn replace(
    store: &Store,
    folder: &Path,
    declared: &[(String, crate::store::artifact::ArtifactType)],
    outputs: &mut BTreeMap<String, Artifact>,
) -> Result<Vec<String>, Failure> {
    let mut put = Vec::new();
    for entry in sorted(folder)? {
        let name = entry.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let Some((_, kind)) = declared.iter().find(|(known, _)| *known == name).filter(|_| entry.is_dir()) else {
            let known: Vec<&str> = declared.iter().map(|(n, _)| n.as_str()).collect();
            let hint = format!("it holds one folder an output: {}", known.join(", "));
            return Err(Failure::words(format!("{} is no output of the cell", entry.display()), Some(hint)));
        };
        let mut files = outputs.get(&name).map(|a| a.files.clone()).unwrap_or_default();
        let mut open = vec![entry.clone()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(sorted(&path)?);
                continue;
            }
            let relative = path.strip_prefix(&entry).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            let (digest, bytes) = store.put_file(&path)?;
            if files.iter().any(|f| f.name == relative && f.digest == digest) {
                continue;
            }
            files.retain(|f| f.name != relative);
            put.push(format!("{name}/{relative}"));
            files.push(FileRef { name: relative, digest, bytes });
        }
        outputs.insert(name, Artifact::new(*kind, files));
    }
    put.sort();
    if put.is_empty() {
        return Err(Failure::words(format!("{} holds nothing that differs", folder.display()), None));
    }
    Ok(put)
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder))?;
    let mut paths = entries.map(|e| e.map(|e| e.path()).map_err(Error::io(folder))).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
