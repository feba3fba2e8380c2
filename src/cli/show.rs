//! `scaleshot show`: a finished cell's record, notes and log, the first rows of its tables, its images and curves.
//!
//! On a terminal images and curves are drawn of themselves; elsewhere where they are asked for.

mod curve;
mod grid;

use std::{
    fs::File,
    io::{IsTerminal, stdout},
    process::ExitCode,
};

use clap::Args;
use polars::prelude::{AnyValue, DataFrame, ParquetReader, SerReader};
use serde_json::json;

use super::{
    Failure, Outcome, layout, ls,
    output::{Colour, print},
    session::StoreArguments,
};
use crate::{
    error::{Error, Result},
    pipeline::Reference,
    report::frame::read_parquet,
    store::{
        Store,
        artifact::{Artifact, ArtifactType},
        record::Record,
    },
};
use grid::Screen;

#[derive(Debug, Args)]
pub struct Arguments {
    /// A cell's name, or the beginning of its key
    #[arg(value_name = "CELL")]
    pub cell: String,
    /// Only this output's tables
    #[arg(value_name = "OUTPUT")]
    pub output: Option<String>,
    #[command(flatten)]
    pub store: StoreArguments,
    /// Rows of each table
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N")]
    pub rows: usize,
    /// Images of each dataset to draw [default: 6 on a terminal, else 0]
    #[arg(long, value_name = "N")]
    pub images: Option<usize>,
    /// The column to draw of tables with a column step [default: loss on a terminal]
    #[arg(long, value_name = "COLUMN")]
    pub curve: Option<String>,
    /// Print the cell's log instead
    #[arg(long, conflicts_with = "json")]
    pub log: bool,
    /// Print the record as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let store = arguments.store.open_existing()?;
    let record = find(&store, &arguments.cell)?;
    if arguments.log {
        let log = store.read_log(&record.key)?;
        let hint = "records that came from another machine have none".to_string();
        print(&log.ok_or_else(|| Failure::words(format!("{} has no log", record.cell), Some(hint)))?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(output) = arguments.output.as_deref().filter(|o| !record.outputs.contains_key(*o)) {
        let known: Vec<&str> = record.outputs.keys().map(String::as_str).collect();
        let hint = Some(format!("it has {}", known.join(", ")));
        return Err(Failure::words(format!("{} has no output {output}", record.cell), hint));
    }
    if arguments.json {
        print(&(json!(record).to_string() + "\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = String::new();
    if arguments.output.is_none() {
        out.push_str(&head(&record, Colour::stdout()));
    }
    for (name, artifact) in &record.outputs {
        if arguments.output.as_deref().is_none_or(|o| o == name) {
            out.push_str(&output(&store, name, artifact, arguments)?);
        }
    }
    print(&out);
    Ok(ExitCode::SUCCESS)
}

/// The newest record of a cell, or the one whose key begins so.
pub(super) fn find(store: &Store, word: &str) -> Result<Record, Failure> {
    if word.len() >= 4 && word.chars().all(|c| c.is_ascii_hexdigit()) {
        let keys: Vec<_> = store.records()?.into_iter().filter(|k| k.hex().starts_with(&word.to_lowercase())).collect();
        match keys.as_slice() {
            [] => {}
            [key] => {
                if let Some(record) = store.record(key)? {
                    return Ok(record);
                }
            }
            many => {
                let hint = Some("give more digits".to_string());
                return Err(Failure::words(format!("{} keys begin with {word}", many.len()), hint));
            }
        }
    }
    let records = ls::records(store)?;
    if let Some(record) = records.iter().find(|r| r.cell == word) {
        return Ok(record.clone());
    }
    // The cells of this node that have these axis values, each once, newest first.
    let wanted = Reference::parse(word).ok();
    let meant = |record: &Record| {
        let own = Reference::parse(&record.cell).ok();
        wanted.as_ref().zip(own).is_some_and(|(w, own)| w.node == own.node && w.selects(&own.select))
    };
    let mut cells: Vec<&Record> = Vec::new();
    for record in records.iter().filter(|r| meant(r)) {
        if !cells.iter().any(|c| c.cell == record.cell) {
            cells.push(record);
        }
    }
    let hint = match cells.as_slice() {
        [] => crate::error::nearest(word, records.iter().map(|r| r.cell.as_str()))
            .map(|near| format!("did you mean {near}?"))
            .or(Some("`scaleshot ls` lists the cells of the store".into())),
        [only] => return Ok((*only).clone()),
        [first, ..] => Some(format!("there are {} such cells; one is {}", cells.len(), first.cell)),
    };
    Err(Failure::words(format!("no finished cell is called {word}"), hint))
}

fn head(record: &Record, colour: Colour) -> String {
    let optional = |n: Option<String>| n.unwrap_or_else(|| "not known".into());
    let row = |name: &str, text: String| vec![name.to_string(), text];
    let mut rows = vec![
        row("kind", format!("{} version {}", record.kind, record.kind_version)),
        row("key", record.key.to_string()),
        row("pipeline", record.pipeline.clone()),
        row("finished", format!("{} UTC", layout::time(record.finished_unix_ms))),
        row(
            "time",
            format!(
                "{} on {} threads, cpu {}",
                crate::run::duration(record.wall_ms),
                record.threads,
                optional(record.cpu_ms.map(crate::run::duration))
            ),
        ),
        row("memory", format!("at most {}", optional(record.peak_rss_bytes.map(layout::bytes)))),
        row("machine", format!("{} ({}, {} cores)", record.machine.host, record.machine.cpu, record.machine.cores)),
        row("program", record.program.clone()),
    ];
    rows.extend(
        record
            .accepted
            .iter()
            .map(|accepted| row("accepted", format!("{} UTC: {}", layout::time(accepted.unix_ms), accepted.told()))),
    );
    let plain = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
    rows.extend(record.measured.iter().map(|(name, value)| row(name, plain(value))));
    rows.extend(record.notes.iter().map(|n| row("note", format!("{}: {} ({})", n.what, n.count, n.detail))));
    format!("{}\n{}", colour.bold(&record.cell), layout::columns(&rows, &[]))
}

/// Tables show their first rows, other files their names and sizes.
fn output(store: &Store, name: &str, artifact: &Artifact, arguments: &Arguments) -> Result<String> {
    let terminal = stdout().is_terminal();
    let screen = Screen::of(terminal && Colour::stdout().is_on());
    let column = arguments.curve.as_deref().or(terminal.then_some("loss"));
    let mut out = format!(
        "\n{name}: {}, {} files, {}, digest {}\n",
        artifact.kind.name(),
        artifact.files.len(),
        layout::bytes(artifact.bytes()),
        artifact.digest().short()
    );
    const FILES: usize = 8;
    for file in artifact.files.iter().filter(|f| !f.name.ends_with(".parquet")).take(FILES) {
        out.push_str(&format!("  {} ({})\n", file.name, layout::bytes(file.bytes)));
    }
    for file in artifact.files.iter().filter(|f| f.name.ends_with(".parquet")).take(FILES) {
        let path = store.local(&file.digest)?;
        let opened = File::open(&path).map_err(Error::io(&path))?;
        let mut reader = ParquetReader::new(opened);
        let count = reader.num_rows()?;
        let frame = reader.with_slice(Some((0, arguments.rows))).finish()?;
        out.push_str(&format!("  {} ({count} rows, {} columns)\n", file.name, frame.width()));
        for line in table(&frame).lines() {
            out.push_str(&format!("    {line}\n"));
        }
        if count > frame.height() {
            out.push_str(&format!("    and {} more rows\n", count - frame.height()));
        }
        if let Some(column) = column.filter(|_| frame.column("step").is_ok()) {
            let drawn = curve::curve(&read_parquet(&path)?, column, screen.unicode);
            match drawn {
                Some(drawn) => drawn.lines().for_each(|line| out.push_str(&format!("    {line}\n"))),
                None if arguments.curve.is_some() => {
                    out.push_str(&format!("    no two values of {column} to draw\n"));
                }
                None => {}
            }
        }
    }
    if artifact.files.len() > FILES {
        out.push_str(&format!("  {} files in all\n", artifact.files.len()));
    }
    let images = arguments.images.unwrap_or(if terminal { 6 } else { 0 });
    if images > 0 && matches!(artifact.kind, ArtifactType::Dataset | ArtifactType::Images) {
        out.push_str(&grid::grid(store, artifact, images, screen)?);
    }
    Ok(out)
}

/// The widest a value is printed.
const WIDTH: usize = 32;

fn table(frame: &DataFrame) -> String {
    let columns = frame.columns();
    let mut rows = vec![columns.iter().map(|c| c.name().to_string()).collect::<Vec<_>>()];
    for i in 0..frame.height() {
        rows.push(columns.iter().map(|c| c.get(i).map_or_else(|_| String::new(), |v| text(&v))).collect());
    }
    let right: Vec<usize> =
        columns.iter().enumerate().filter(|(_, c)| c.dtype().is_primitive_numeric()).map(|(i, _)| i).collect();
    layout::columns(&rows, &right)
}

/// One value; null is nothing, bytes are the beginning of their hexadecimal form.
fn text(value: &AnyValue) -> String {
    let hex = |bytes: &[u8]| {
        let digits: String = bytes.iter().take(6).map(|b| format!("{b:02x}")).collect();
        if bytes.len() > 6 { format!("{digits}… ({})", layout::bytes(bytes.len() as u64)) } else { digits }
    };
    match value {
        AnyValue::Null => String::new(),
        AnyValue::String(s) => layout::cut(s, WIDTH),
        AnyValue::StringOwned(s) => layout::cut(s, WIDTH),
        AnyValue::Binary(bytes) => hex(bytes),
        AnyValue::BinaryOwned(bytes) => hex(bytes),
        AnyValue::Float64(x) => format!("{x:.6}"),
        AnyValue::Float32(x) => format!("{x:.6}"),
        other => layout::cut(&other.to_string(), WIDTH),
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::df;

    use super::*;

    #[test]
    fn tables_are_aligned_and_nulls_are_nothing() {
        let frame = df!("name" => [Some("a"), None], "score" => [0.5, 12.25], "n" => [Some(1i64), None]).unwrap();
        assert_eq!(table(&frame), "name      score  n\na      0.500000  1\n      12.250000\n");
        assert_eq!(text(&AnyValue::Binary(&[0xab; 32])), "abababababab… (32 B)");
    }
}
