//! `scaleshot diff`: two runs or two cells beside each other.
//!
//! | word | means |
//! |---|---|
//! | a folder with `provenance.json`, or such a file | the run that wrote that report, from whatever store |
//! | `PIPELINE` | what is current of a pipeline in the store |
//! | `PIPELINE~1` | its run before the last one; `~0` is the last |
//! | `transfer[shots=5,seed=0]`, `3f2a…` | one finished cell, by name or by the beginning of its key |

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Failure, Outcome,
    output::{complain, print},
    session::StoreArguments,
    show,
};
use crate::{
    digest::Digest,
    error::{Error, Result},
    report::diff::{Difference, Side, Snapshot, difference, markdown, page, text},
    store::Store,
};

#[derive(Debug, Args)]
pub struct Arguments {
    /// A report folder, PIPELINE, PIPELINE~N (the N-th run before the last), a cell, or the beginning of a key
    #[arg(value_name = "RUN_OR_CELL_A")]
    pub a: String,
    /// What it is compared with
    #[arg(value_name = "RUN_OR_CELL_B")]
    pub b: String,
    #[command(flatten)]
    pub store: StoreArguments,
    /// Print JSON
    #[arg(long, group = "form")]
    pub json: bool,
    /// Print Markdown
    #[arg(long, group = "form")]
    pub markdown: bool,
    /// Print a self-contained HTML page
    #[arg(long, group = "form")]
    pub html: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    // Two report folders need no store.
    let places = [&arguments.a, &arguments.b].map(|word| saved(word));
    let store = if places.iter().all(Option::is_some) { None } else { Some(arguments.store.open_existing()?) };
    let [a, b] = [&arguments.a, &arguments.b].map(|word| side(word, store.as_ref()));
    let (a, b) = (a?, b?);
    let d = difference(&a, &b);
    print(&match arguments {
        Arguments { json: true, .. } => json_text(&d)?,
        Arguments { markdown: true, .. } => markdown(&d),
        Arguments { html: true, .. } => page(&d)?.render(),
        _ => text(&d),
    });
    Ok(ExitCode::SUCCESS)
}

fn json_text(d: &Difference) -> Result<String> {
    Ok(serde_json::to_string(&json!(d))? + "\n")
}

/// The `provenance.json` that a word names as a file or by its folder.
fn saved(word: &str) -> Option<PathBuf> {
    let path = Path::new(word);
    let inside = path.join("provenance.json");
    if inside.is_file() {
        return Some(inside);
    }
    (path.is_file() && path.extension().is_some_and(|e| e == "json")).then(|| path.to_path_buf())
}

fn side(word: &str, store: Option<&Store>) -> Result<Side, Failure> {
    if let Some(path) = saved(word) {
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let json: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::data(&path, None, format!("not the provenance of a report: {e}")))?;
        return Side::of_json(word, &json).ok_or_else(|| {
            Failure::words(format!("{} holds no cells", path.display()), Some("name a report's folder".into()))
        });
    }
    let Some(store) = store else { return Err(Failure::words(format!("{word} names nothing"), None)) };
    match pipeline(word, store)? {
        Some(side) => Ok(side),
        None => {
            let record = show::find(store, word)?;
            let cells = BTreeMap::from([(record.cell.clone(), Snapshot::of(&record, store))]);
            Ok(Side { name: format!("{} ({})", record.cell, record.key.short()), cells })
        }
    }
}

/// A pipeline's current cells, or those of one of its runs.
fn pipeline(word: &str, store: &Store) -> Result<Option<Side>, Failure> {
    let (name, back) = match word.split_once('~') {
        None => (word, None),
        Some((name, n)) => match n.parse::<usize>() {
            Ok(n) => (name, Some(n)),
            Err(_) => return Ok(None),
        },
    };
    let last = store.last(name)?;
    let keys: Vec<Digest> = match back {
        None if last.is_empty() => return Ok(None),
        None => last.values().map(|l| l.key).collect(),
        Some(back) => {
            let mut runs = Vec::new();
            for entry in store.run_names()? {
                runs.extend(store.run_entry(&entry)?.filter(|run| run.pipeline == name));
                if runs.len() > back {
                    break;
                }
            }
            let Some(run) = runs.get(back) else {
                let hint = Some(format!("the store knows {} runs of {name}; ~0 is the last", runs.len()));
                return Err(Failure::words(format!("there is no run {word}"), hint));
            };
            run.keys.iter().copied().collect()
        }
    };
    let names: HashMap<Digest, &String> = last.iter().map(|(cell, l)| (l.key, cell)).collect();
    let mut cells = BTreeMap::new();
    let mut gone = 0;
    for key in keys {
        match store.record(&key)? {
            // A cell that was computed under another name keeps that name in its record; the pipeline's own wins.
            Some(record) => {
                let own = names.get(&key).map_or(&record.cell, |own| own);
                cells.insert(own.clone(), Snapshot::of(&record, store));
            }
            None => gone += 1,
        }
    }
    if gone > 0 {
        complain(&format!("warning: {gone} records of {word} are no longer in the store\n"));
    }
    Ok(Some(Side { name: word.into(), cells }))
}
