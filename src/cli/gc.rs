//! `scaleshot gc`: takes out of a store what nobody needs any more.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, Outcome, layout, output::print, session::StoreArguments};
use crate::{
    digest::Digest,
    pipeline::{LoadOptions, load},
    plan::{PlanOptions, plan},
    store::{Garbage, Keep, Store, source::SourceIndex},
};

/// What `--help` says of the command.
pub const ABOUT: &str = "\
Take out of a store what nobody needs any more.

Without a word on what to keep, the latest result of every cell of every pipeline that ever ran here stays.
With --pipeline, --runs or --age, what any of them needs stays, and nothing else. Frozen cells stay always, and
so does all that the kept ones were made from.

Plans whose jobs are done, what dead processes left, damaged files that were set aside, and notes on files that are
gone are taken along.

Safe beside running pipelines: what they rely on, and what is younger than the oldest of them, is not touched.
Behind a URL, where that cannot be seen, nothing is taken while another process uses the store.";

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub store: StoreArguments,
    /// Keep what this pipeline needs: a file, or the name of one that ran here
    #[arg(short, long = "pipeline", value_name = "FILE|NAME")]
    pub pipelines: Vec<String>,
    /// Keep what the last N runs of each pipeline needed
    #[arg(long, value_name = "N")]
    pub runs: Option<usize>,
    /// Keep what was computed in the last while: 12h, 30d, 8w
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub age: Option<Duration>,
    /// Keep checkpoints and logs of cells that never ended for so long
    #[arg(long, value_name = "AGE", value_parser = age, default_value = "30d")]
    pub unfinished: Duration,
    /// Behind a URL, collect although another process seems to use the store
    #[arg(long)]
    pub alone: bool,
    /// Show what would go, with sizes, and take nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// List everything that goes
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `90s`, `12h`, `30d`, `8w`; a bare number is days.
fn age(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit_s = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        "d" | "" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err("expected a number and s, min, h, d or w".into()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_s));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected a number and s, min, h, d or w".into())
}

/// Entries of the journal that stay at least: they are small.
const JOURNAL: usize = 100;
/// Lines of each list that are shown without --all.
const SHOWN: usize = 20;

pub fn run(arguments: &Arguments) -> Outcome {
    let store = arguments.store.open_existing()?;
    let keep = keep(arguments, &store)?;
    let garbage = if arguments.dry_run { store.garbage(&keep)? } else { store.collect(&keep, arguments.alone)? };
    print(&if arguments.json { json_text(&garbage, arguments.dry_run) } else { text(&garbage, arguments) });
    Ok(ExitCode::SUCCESS)
}

fn keep(arguments: &Arguments, store: &Store) -> Result<Keep, Failure> {
    let mut keys: HashSet<Digest> = HashSet::new();
    let named = !arguments.pipelines.is_empty() || arguments.runs.is_some() || arguments.age.is_some();
    if !named {
        for pipeline in store.last_names()? {
            keys.extend(store.last_of(&pipeline)?);
        }
    }
    for word in &arguments.pipelines {
        let path = Path::new(word);
        let found =
            if path.is_file() { of_file(path, store)? } else { store.last(word)?.values().map(|l| l.key).collect() };
        if found.is_empty() && !path.is_file() {
            let hint = format!("name a pipeline file, or the name of a pipeline that ran in {}", store.url());
            return Err(Failure::words(format!("{word} is no pipeline that is known here"), Some(hint)));
        }
        keys.extend(found);
    }
    if let Some(runs) = arguments.runs {
        let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
        for name in store.run_names()? {
            let Some(entry) = store.run_entry(&name)? else { continue };
            let count = seen.entry(entry.pipeline).or_default();
            *count += 1;
            if *count <= runs {
                keys.extend(entry.keys);
            }
        }
    }
    let now = crate::run::unix_ms();
    Ok(Keep {
        keys,
        since_unix_ms: arguments.age.map(|age| now.saturating_sub(age.as_millis() as u64)),
        unfinished: arguments.unfinished,
        journal: arguments.runs.unwrap_or(0).max(JOURNAL),
    })
}

/// Keys that a pipeline has now, computed or not, and those its cells had last.
fn of_file(path: &Path, store: &Store) -> Result<HashSet<Digest>, Failure> {
    let pipeline = load(&PathBuf::from(path), &LoadOptions::default())?;
    let plan = plan(&pipeline, store, &SourceIndex::open(store)?, &PlanOptions::default())?;
    let last = store.last(&pipeline.name)?;
    let mut keys: HashSet<Digest> = plan.cells.iter().filter_map(|c| c.key).collect();
    keys.extend(pipeline.cells.iter().filter_map(|c| Some(last.get(&c.id)?.key)));
    Ok(keys)
}

fn json_text(g: &Garbage, dry_run: bool) -> String {
    let sized = |list: &[(Digest, u64)]| {
        list.iter().map(|(d, bytes)| json!({"key": d, "bytes": bytes})).collect::<Vec<Value>>()
    };
    let records: Vec<Value> =
        g.records.iter().map(|(key, cell, pipeline)| json!({"key": key, "cell": cell, "pipeline": pipeline})).collect();
    let leftovers: Vec<Value> =
        g.leftovers.iter().map(|l| json!({"what": l.what, "name": l.name, "bytes": l.bytes})).collect();
    let value = json!({
        "dry_run": dry_run, "records": records, "files": sized(&g.blobs), "checkpoints": sized(&g.checkpoints),
        "logs": sized(&g.logs), "leftovers": leftovers, "bytes": g.bytes(), "kept_records": g.kept_records, "kept_bytes": g.kept_bytes,
        "live_runs": g.live_runs, "dated_ahead": g.dated_ahead,
    });
    value.to_string() + "\n"
}

fn text(g: &Garbage, arguments: &Arguments) -> String {
    let sum = |list: &[(Digest, u64)]| layout::bytes(list.iter().map(|(_, bytes)| bytes).sum());
    let shown = if arguments.all { usize::MAX } else { SHOWN };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (key, cell, pipeline) in g.records.iter().take(shown) {
        rows.push(vec!["record".into(), key.short(), format!("{cell} ({pipeline})")]);
    }
    if g.records.len() > shown {
        rows.push(vec!["record".into(), format!("and {} more", g.records.len() - shown), String::new()]);
    }
    for leftover in g.leftovers.iter().take(shown) {
        rows.push(vec![leftover.what.into(), layout::bytes(leftover.bytes), leftover.name.clone()]);
    }
    if g.leftovers.len() > shown {
        rows.push(vec!["leftover".into(), format!("and {} more", g.leftovers.len() - shown), String::new()]);
    }
    if arguments.all {
        for (what, list) in [("file", &g.blobs), ("checkpoint", &g.checkpoints), ("log", &g.logs)] {
            rows.extend(list.iter().map(|(d, bytes)| vec![what.to_string(), d.short(), layout::bytes(*bytes)]));
        }
    }
    let mut out = layout::columns(&rows, &[]);
    out.push_str(&format!(
        "{}: {} records, {} files ({}), {} checkpoints ({}), {} logs ({}), {} leftovers ({}); {} in all\n",
        if arguments.dry_run { "would go" } else { "gone" },
        g.records.len(),
        g.blobs.len(),
        sum(&g.blobs),
        g.checkpoints.len(),
        sum(&g.checkpoints),
        g.logs.len(),
        sum(&g.logs),
        g.leftovers.len(),
        layout::bytes(g.leftovers.iter().map(|l| l.bytes).sum()),
        layout::bytes(g.bytes()),
    ));
    let live = match g.live_runs {
        0 => String::new(),
        n => format!("; {n} live runs, what they rely on stays"),
    };
    out.push_str(&format!("kept: {} records, {}{live}\n", g.kept_records, layout::bytes(g.kept_bytes)));
    if g.dated_ahead > 0 {
        let ahead = g.dated_ahead;
        out.push_str(&format!(
            "{ahead} records are dated later than now, by a clock that was wrong or is; --age takes them for new\n"
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_units() {
        assert_eq!(age("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(age("2w"), Ok(Duration::from_secs(14 * 86_400)));
        assert_eq!(age("3"), age("3d"));
        assert_eq!(age("0d"), Ok(Duration::ZERO));
        for wrong in ["", "d", "1y", "-1d", "99999999999999999999d"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
