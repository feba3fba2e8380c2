//! `scaleshot export` and `import`: finished cells from one store to another.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::json;

use super::{
    Failure, Outcome, layout,
    output::print,
    session::{StoreArguments, assignment},
};
use crate::{
    digest::Digest,
    pipeline::{LoadOptions, load},
    plan::{PlanOptions, State, plan},
    store::{Copied, Store, record::Record, source::SourceIndex},
};

/// What `--help` says of the command.
pub const EXPORT_ABOUT: &str = "\
Copy finished cells of this store into another one.

Their records, files and logs are copied, with all that they were made from; every file is checked on the way.
In the other store they are as if they had been computed there: the same pipeline finds them fresh.";

#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The other store: a folder, or a URL
    #[arg(value_name = "PLACE")]
    pub other: PathBuf,
    #[command(flatten)]
    pub pick: Pick,
    #[command(flatten)]
    pub store: StoreArguments,
}

/// What `--help` says of the command.
pub const IMPORT_ABOUT: &str = "\
Copy finished cells of another store into this one.

Their records, files and logs are copied, with all that they were made from; every file is checked on the way.
In this store they are as if they had been computed here: the same pipeline finds them fresh.";

#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The other store: a folder, or a URL
    #[arg(value_name = "PLACE")]
    pub other: PathBuf,
    #[command(flatten)]
    pub pick: Pick,
    /// Only cells that this pipeline file has now; a plain web server needs it, since it cannot list what it holds
    #[arg(long, value_name = "PIPELINE")]
    pub of: Option<PathBuf>,
    /// Replace a parameter of that pipeline, as for `run`
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = assignment, requires = "of")]
    pub params: Vec<(String, String)>,
    #[command(flatten)]
    pub store: StoreArguments,
}

/// Which cells.
#[derive(Debug, Args)]
pub struct Pick {
    /// Nodes, cells or keys: pretrain, transfer[shots=5,seed=0], 3f2a91c07d44 [default: all]
    #[arg(value_name = "CELL")]
    pub cells: Vec<String>,
    /// Only cells of this pipeline, by its name
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// As short as a key may be typed.
const KEY_DIGITS: usize = 8;

impl Pick {
    fn takes(&self, record: &Record) -> bool {
        self.pipeline.as_ref().is_none_or(|name| *name == record.pipeline)
            && (self.cells.is_empty() || self.cells.iter().any(|word| names(word, record)))
    }
}

/// Whether a word is the record's cell, its node, or the beginning of its key.
fn names(word: &str, record: &Record) -> bool {
    let node = record.cell.split('[').next().unwrap_or_default();
    let key = word.len() >= KEY_DIGITS && record.key.hex().starts_with(word);
    word == record.cell || word == node || key
}

pub fn export(arguments: &ExportArguments) -> Outcome {
    let own = arguments.store.open_existing()?;
    copy(&own, &Store::open(&arguments.other)?, None, &arguments.pick, own.url())
}

pub fn import(arguments: &ImportArguments) -> Outcome {
    let other = StoreArguments { store: Some(arguments.other.clone()) }.open_existing()?;
    let among = arguments.of.as_ref().map(|file| keys_of(file, &arguments.params, &other)).transpose()?;
    copy(&other, &arguments.store.open()?, among.as_deref(), &arguments.pick, other.url())
}

/// Keys of the cells of a pipeline that a store holds.
fn keys_of(file: &Path, params: &[(String, String)], store: &Store) -> Result<Vec<Digest>, Failure> {
    let pipeline = load(file, &LoadOptions { params: params.to_vec(), ..LoadOptions::default() })?;
    let plan = plan(&pipeline, store, &SourceIndex::open(store)?, &PlanOptions::default())?;
    Ok(plan.cells.iter().filter(|c| c.state == State::Fresh).filter_map(|c| c.key).collect())
}

fn copy(from: &Store, to: &Store, among: Option<&[Digest]>, pick: &Pick, place: &str) -> Outcome {
    let copied = from.copy_cells(to, among, &|record| pick.takes(record))?;
    let Copied { records, there, blobs, bytes } = copied;
    if records + there == 0 {
        let hint = format!("scaleshot ls --store {place} lists what is there");
        return Err(Failure::words(format!("no finished cell of {place} is meant"), Some(hint)));
    }
    print(&if pick.json {
        json!({"records": records, "there": there, "files": blobs, "bytes": bytes}).to_string() + "\n"
    } else {
        format!("{records} cells copied ({blobs} files, {}), {there} were there\n", layout::bytes(bytes))
    });
    Ok(ExitCode::SUCCESS)
}
