//! `scaleshot fetch`: downloads a public dataset of the catalogue, checks and unpacks it; of sets under an agreement,
//! how to obtain them.

use std::{path::PathBuf, process::ExitCode, sync::Mutex};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{
    Failure, Outcome, layout,
    output::{complain, print},
};
use crate::{
    data::{
        fetch::{Catalogue, Entry, Fetched, Limits, fetch},
        format,
    },
    error::{Error, Result, nearest},
    pipeline::parse_value,
    progress::{Cancel, Progress},
    run::stop_on_signals,
};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The set; without one, the catalogue is listed
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The folder to fetch it to [default: data/NAME]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Another catalogue, laid out as data/catalogue.yaml
    #[arg(long, value_name = "FILE")]
    pub catalogue: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const CATALOGUE: &str = include_str!("../../data/catalogue.yaml");

/// A catalogue from its text; `file` names it in messages.
fn catalogue(text: &str, file: &str) -> Result<Catalogue> {
    let wrong = |m: String| Error::invalid(format!("{file}: {m}"));
    let value = parse_value(text).map_err(wrong)?;
    serde_path_to_error::deserialize(value).map_err(|e| wrong(format!("{}: {}", e.path(), e.inner())))
}

pub fn run(arguments: &Arguments) -> Outcome {
    let catalogue = match &arguments.catalogue {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
            catalogue(&text, &path.display().to_string())
        }
        None => catalogue(CATALOGUE, "the catalogue"),
    };
    let catalogue = catalogue.map_err(|e| Failure::words(e.to_string(), None))?;
    let Some(name) = &arguments.name else {
        print(&if arguments.json {
            serde_json::to_string(&catalogue).map_err(Error::from)? + "\n"
        } else {
            list(&catalogue)
        });
        return Ok(ExitCode::SUCCESS);
    };
    let Some(entry) = catalogue.sets.get(name) else {
        let known = catalogue.sets.keys().map(String::as_str);
        let hint = match nearest(name, known.clone()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known are: {}", known.collect::<Vec<_>>().join(", ")),
        };
        return Err(Failure::words(format!("no set {name} in the catalogue"), Some(hint)));
    };
    let to = arguments.to.clone().unwrap_or_else(|| PathBuf::from("data").join(name));
    if entry.files.is_empty() {
        print(&if arguments.json { obtain_json(name, entry).to_string() + "\n" } else { obtain_text(name, entry) });
        complain(&format!("{name} cannot be fetched: it is obtained by hand, as told above\n"));
        return Ok(ExitCode::from(1));
    }
    let cancel = Cancel::default();
    stop_on_signals(&cancel)?;
    complain(&format!("{name}: {}; terms: {}; {}\n", entry.about, entry.terms, entry.home));
    let fetched = fetch(entry, &to, &Limits::default(), &Bar::default(), &cancel)?;
    let root = to.join(&entry.root);
    let node = entry.format.as_ref().map(|f| format!("{{ dataset: {{ format: {f}, root: {} }} }}", root.display()));
    if arguments.json {
        print(&(json!({"name": name, "root": root, "format": entry.format, "files": fetched}).to_string() + "\n"));
        return Ok(ExitCode::SUCCESS);
    }
    for file in &fetched {
        complain(&told(file));
    }
    print(&format!("{}\n", node.unwrap_or_else(|| root.display().to_string())));
    Ok(ExitCode::SUCCESS)
}

fn told(file: &Fetched) -> String {
    let checked = match &file.checked {
        Some(name) => format!("{name} as published"),
        None => format!("no checksum is published; its sha256 is {}", file.sha256),
    };
    let unpacked = file.unpacked.map(|n| format!(", {n} files unpacked")).unwrap_or_default();
    let before = if file.before { " (fetched before)" } else { "" };
    format!("{}: {}, {checked}{unpacked}{before}\n", file.name, layout::bytes(file.bytes))
}

fn list(catalogue: &Catalogue) -> String {
    let head = ["name", "size", "format", "what"].map(String::from).to_vec();
    let size = |e: &Entry| match e.files.iter().map(|f| f.bytes).sum::<Option<u64>>() {
        _ if e.files.is_empty() => "by hand".to_string(),
        Some(bytes) => layout::bytes(bytes),
        None => "?".into(),
    };
    let rows = catalogue
        .sets
        .iter()
        .map(|(name, e)| vec![name.clone(), size(e), e.format.clone().unwrap_or_else(|| "-".into()), e.about.clone()]);
    layout::columns(&[head].into_iter().chain(rows).collect::<Vec<_>>(), &[1])
}

fn obtain_json(name: &str, entry: &Entry) -> Value {
    let format = entry.format.as_deref().unwrap_or("");
    json!({
        "name": name, "about": entry.about, "home": entry.home, "terms": entry.terms, "format": entry.format,
        "obtain": format::obtain(format), "layout": format::expected(format), "files": [],
    })
}

fn obtain_text(name: &str, entry: &Entry) -> String {
    let format = entry.format.as_deref().unwrap_or("");
    let mut out = format!("{name}: {}\nterms: {}\nhome: {}\n", entry.about, entry.terms, entry.home);
    if let Some(how) = format::obtain(format) {
        out.push_str(&format!("how: {how}\n"));
    }
    for (i, what) in format::expected(format).unwrap_or_default().iter().enumerate() {
        out.push_str(if i == 0 { "layout:\n" } else { "" });
        out.push_str(&format!("  {what}\n"));
    }
    out
}

/// One bar on a terminal, and nothing where there is none.
#[derive(Default)]
struct Bar(Mutex<Option<ProgressBar>>);

impl Progress for Bar {
    fn begin(&self, total: u64, _: &'static str) {
        let style = ProgressStyle::with_template("{bytes:>10} of {total_bytes} {wide_bar} {bytes_per_sec} {eta}");
        let bar = ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if let Some(before) = self.lock().replace(bar) {
            before.finish_and_clear();
        }
    }

    fn advance(&self, by: u64) {
        if let Some(bar) = &*self.lock() {
            bar.inc(by);
        }
    }

    fn log(&self, line: &str) {
        match &*self.lock() {
            Some(bar) => bar.suspend(|| complain(&format!("{line}\n"))),
            None => complain(&format!("{line}\n")),
        }
    }
}

impl Bar {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.lock().take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_well_formed() {
        let catalogue = catalogue(CATALOGUE, "the catalogue").unwrap();
        for (name, entry) in &catalogue.sets {
            let format = entry.format.as_deref().unwrap();
            assert!(format::obtain(format).is_some() && format::expected(format).is_some(), "{name}: {format}");
            let bare = entry.files.iter().any(|f| f.bytes.is_none() || f.md5.is_none() && f.sha256.is_none());
            let source = entry.source.as_deref().unwrap_or("");
            assert!(entry.files.is_empty() == source.is_empty(), "{name}: who published its checksums?");
            let told = ["no ", "not ", "only", "for the images"].iter().any(|word| source.contains(word));
            assert!(!bare || told, "{name}: why has a file no size or no checksum?");
            for file in &entry.files {
                assert!(file.url.starts_with("https://") && file.file_name().is_ok(), "{name}: {}", file.url);
                let hexadecimal = |t: &Option<String>, n: usize| {
                    t.as_ref().is_none_or(|t| t.len() == n && t.bytes().all(|b| b.is_ascii_hexdigit()))
                };
                assert!(hexadecimal(&file.md5, 32) && hexadecimal(&file.sha256, 64), "{name}");
            }
        }
        for public in
            ["cifar10", "cifar100", "pets", "flowers102", "shenzhen", "montgomery", "imagenette", "chestmnist"]
        {
            assert!(!catalogue.sets[public].files.is_empty(), "{public}");
        }
        for agreed in ["chexpert", "mimic_cxr", "nih", "padchest", "imagenet", "covidx"] {
            let told = obtain_text(agreed, &catalogue.sets[agreed]);
            assert!(told.contains("how: ") && told.contains("layout:\n  ") && told.contains("terms: "), "{told}");
        }
    }
}
