//! `scaleshot inspect`: which format a folder looks like, what its layout lacks, and what reading it gives; of a single
//! file, what it holds.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde::Serialize;

use super::{
    Outcome, layout,
    output::{complain, print},
};
use crate::{
    data::{
        dataset::{Dataset, Task},
        format::{self, Format, Likeness, Read, Reason, Skipped},
        labels::{LabelCount, counts},
        recognize::{self, Recognized},
    },
    error::{Error, Result},
};

#[derive(Debug, Args)]
pub struct Arguments {
    /// A dataset's folder, or a file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Look at names alone: read no table, count no rows
    #[arg(long)]
    pub fast: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What was found of a folder.
#[derive(Debug, Serialize)]
struct Found {
    path: PathBuf,
    /// Formats that it looks like, best first.
    formats: Vec<Likeness>,
    /// What reading it in the best of them gives; null where it was not read.
    read: Option<Rows>,
    /// Why it could not be read.
    error: Option<String>,
    hint: Option<String>,
}

/// What a reader makes of a folder.
#[derive(Debug, Serialize)]
struct Rows {
    rows: usize,
    splits: BTreeMap<String, usize>,
    patients: Option<usize>,
    /// `class`: one an image; `findings`: many.
    task: &'static str,
    labels: Vec<LabelCount>,
    skipped: Vec<Reason>,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let path = &arguments.path;
    if !path.exists() {
        return Err(Error::data(path, None, "no such file or folder").into());
    }
    if !path.is_dir() {
        let file = recognize::file(path)?;
        print(&if arguments.json {
            serde_json::to_string(&file).map_err(Error::from)? + "\n"
        } else {
            file_text(&file)
        });
        return Ok(ExitCode::SUCCESS);
    }
    let mut found = Found { path: path.clone(), formats: format::inspect(path), read: None, error: None, hint: None };
    if let Some(best) = found.formats.first().filter(|_| !arguments.fast) {
        match read(best.format, path) {
            Ok(rows) => found.read = Some(rows),
            Err(e) => {
                found.hint = e.hint().map(str::to_string);
                found.error = Some(e.to_string());
            }
        }
    }
    let known = !found.formats.is_empty();
    if arguments.json {
        print(&(serde_json::to_string(&found).map_err(Error::from)? + "\n"));
    } else {
        print(&text(&found));
        if !known {
            complain("no known format: see the formats of a dataset node in the schema (scaleshot schema)\n");
        }
    }
    Ok(if known && found.error.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn read(name: &str, root: &Path) -> Result<Rows> {
    if name == "image_table" {
        return Err(undeclared(root));
    }
    let format: Format = serde_json::from_value(serde_json::json!({"format": name, "root": root}))?;
    let mut skipped = Skipped::default();
    let d = format.read(&mut skipped)?;
    let splits = d.text("split").map(|s| {
        s.iter().flatten().fold(BTreeMap::new(), |mut n, s| {
            *n.entry(s.to_string()).or_insert(0) += 1;
            n
        })
    });
    let patients =
        |d: &Dataset| d.text("patient").map(|p| p.iter().flatten().collect::<std::collections::HashSet<_>>().len());
    Ok(Rows {
        rows: d.rows(),
        splits: splits.unwrap_or_default(),
        patients: patients(&d),
        task: if matches!(d.task(), Task::Single(_)) { "class" } else { "findings" },
        labels: counts(&d),
        skipped: skipped.reasons().to_vec(),
    })
}

/// A table of images cannot be read before its columns are declared, but counted.
fn undeclared(root: &Path) -> Error {
    let names = std::fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.file_name());
    let mut tables: Vec<String> = names.filter_map(|n| n.into_string().ok()).filter(|n| n.contains(".csv")).collect();
    tables.sort();
    let counted = tables.iter().map(|name| match format::count_rows(&root.join(name), b',') {
        Ok((columns, rows, odd)) => format!("{name} has {rows} rows, {odd} odd ones, of {}", columns.join(", ")),
        Err(e) => e.to_string(),
    });
    let counted = counted.collect::<Vec<_>>().join("; ");
    Error::invalid(format!("a table of images is read once its columns are declared: {counted}"))
        .with_hint("write a dataset node: {format: image_table, root, file, image, labels}")
}

fn file_text(file: &Recognized) -> String {
    let mut out = format!("{}: {}, {}\n", file.path.display(), file.what, layout::bytes(file.bytes));
    for (name, value) in &file.details {
        out.push_str(&format!("  {name}: {value}\n"));
    }
    out
}

/// Labels that are printed; JSON has them all.
const SHOWN: usize = 20;

fn text(found: &Found) -> String {
    let mut out = String::new();
    let Some(best) = found.formats.first() else {
        return format!("{}: looks like no known format\n", found.path.display());
    };
    out.push_str(&format!(
        "{}: looks like {} ({:.0} % of its layout)\n",
        found.path.display(),
        best.format,
        100.0 * best.score
    ));
    for what in &best.found {
        out.push_str(&format!("  found    {what}\n"));
    }
    for what in &best.missing {
        out.push_str(&format!("  missing  {what}\n"));
    }
    let others: Vec<String> =
        found.formats[1..].iter().map(|l| format!("{} ({:.0} %)", l.format, 100.0 * l.score)).collect();
    if !others.is_empty() {
        out.push_str(&format!("  less like {}\n", others.join(", ")));
    }
    if let Some(e) = &found.error {
        out.push_str(&format!("cannot be read: {e}\n"));
        if let Some(hint) = &found.hint {
            out.push_str(&format!("hint: {hint}\n"));
        }
    }
    let Some(read) = &found.read else { return out };
    out.push_str(&format!("{} rows", read.rows));
    for (split, rows) in &read.splits {
        out.push_str(&format!(", {rows} {split}"));
    }
    if let Some(patients) = read.patients {
        out.push_str(&format!(", {patients} patients"));
    }
    out.push('\n');
    for reason in &read.skipped {
        let what = if reason.dropped { "left out" } else { "unknown value" };
        out.push_str(&format!("{} {what}: {} ({})\n", reason.count, reason.what, reason.examples.join("; ")));
    }
    let head = [read.task, "present", "absent", "unknown"].map(String::from).to_vec();
    let rows = read
        .labels
        .iter()
        .take(SHOWN)
        .map(|l| vec![l.name.clone(), l.positives.to_string(), l.negatives.to_string(), l.unknowns.to_string()]);
    out.push_str(&layout::columns(&[head].into_iter().chain(rows).collect::<Vec<_>>(), &[1, 2, 3]));
    if read.labels.len() > SHOWN {
        out.push_str(&format!("and {} more\n", read.labels.len() - SHOWN));
    }
    out
}
