//! A page over the reports of several pipelines, with the runs that made them.
//!
//! Each report folder holds a `summary.json`; the page is made from those alone, so that folders which were copied
//! from elsewhere or removed are followed by the next page.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{
    frame::Rows,
    html::{Page, Table, escape},
};
use crate::{
    aside::replace,
    error::{Error, Result},
};

const SUMMARY: &str = "summary.json";

/// The newest runs are listed, older ones forgotten.
const RUNS: usize = 50;

/// One run of a pipeline that computed something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// As it is read, with its time zone.
    pub started: String,
    pub wall_ms: u64,
    pub computed: usize,
    pub fresh: usize,
    pub failed: usize,
    pub program: String,
    /// The state of the results after it ([`super::lineage::Lineage::state`]), hexadecimal.
    pub state: String,
}

/// What the index knows of one report folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub pipeline: String,
    pub title: String,
    pub lead: String,
    /// Pages relative to the folder: the reports of its cells.
    pub pages: Vec<String>,
    /// The first plot, relative to the folder.
    pub plot: Option<String>,
    /// Newest first.
    pub runs: Vec<Ran>,
}

/// Puts a run into a folder's summary.
///
/// # Errors
/// The folder cannot be written.
pub fn note(folder: &Path, fresh: Summary, ran: Option<Ran>) -> Result<()> {
    let path = folder.join(SUMMARY);
    let old: Summary =
        std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut runs: Vec<Ran> = ran.into_iter().chain(old.runs).collect();
    runs.truncate(RUNS);
    let summary = Summary { runs, ..fresh };
    replace(&path, (serde_json::to_string_pretty(&summary)? + "\n").as_bytes())
}

/// Writes `index.html` over every folder below `root` that holds a summary.
///
/// # Errors
/// `root` cannot be read or written.
pub fn write(root: &Path) -> Result<()> {
    let mut all: Vec<(String, Summary)> = Vec::new();
    for entry in std::fs::read_dir(root).map_err(Error::io(root))? {
        let entry = entry.map_err(Error::io(root))?;
        let Ok(bytes) = std::fs::read(entry.path().join(SUMMARY)) else { continue };
        let (Ok(summary), Ok(folder)) = (serde_json::from_slice(&bytes), entry.file_name().into_string()) else {
            continue;
        };
        all.push((folder, summary));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    replace(&root.join("index.html"), render(&all)?.render().as_bytes())
}

fn render(all: &[(String, Summary)]) -> Result<Page> {
    let mut page = Page::new("Reports").kicker("scaleshot").lead(&match all.len() {
        1 => "One pipeline.".to_string(),
        n => format!("{n} pipelines."),
    });
    for (folder, s) in all {
        page = page.section(&s.title);
        if !s.lead.is_empty() {
            page = page.text(&s.lead);
        }
        let mut links: Vec<(String, String)> = Vec::new();
        for p in &s.pages {
            let name = p.strip_suffix("/index.html").unwrap_or("Results").to_string();
            links.push((format!("{folder}/{p}"), name));
            let study = p.strip_suffix("index.html").unwrap_or_default();
            links.push((format!("{folder}/{study}study.html"), "Methods, cards and provenance".into()));
        }
        links.push((format!("{folder}/run.html"), "Last run".into()));
        let links: Vec<(&str, &str)> = links.iter().map(|(to, text)| (to.as_str(), text.as_str())).collect();
        page = page.beside(&links);
        if let Some(plot) = &s.plot {
            page = page.html(format!(
                "<p><img class=\"first\" src=\"{}\" alt=\"First plot of {}\" loading=\"lazy\"></p>\n",
                escape(&format!("{folder}/{plot}")),
                escape(&s.title)
            ));
        }
        let mut rows = Rows::new();
        for r in &s.runs {
            rows.push([
                ("started", r.started.as_str().into()),
                ("wall_s", (r.wall_ms as f64 / 1000.0).into()),
                ("computed", r.computed.into()),
                ("fresh", r.fresh.into()),
                ("failed", r.failed.into()),
                ("program", r.program.as_str().into()),
                ("state", r.state.chars().take(12).collect::<String>().into()),
            ]);
        }
        if !rows.is_empty() {
            let note = "Runs with one state have the same results.";
            page = page.table(&Table::from_frame(&format!("Runs of {}", s.pipeline), &rows.frame()?)?.note(note));
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_with_a_summary_are_listed_with_their_runs() {
        let root = tempfile::tempdir().unwrap();
        let ran = |state: &str| Ran {
            started: "2026-01-01 00:00:00 UTC".into(),
            wall_ms: 1500,
            computed: 3,
            fresh: 4,
            failed: 0,
            program: "scaleshot 0.1.0".into(),
            state: state.into(),
        };
        for name in ["b", "a"] {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            let summary = Summary {
                pipeline: name.into(),
                title: format!("Title of {name}"),
                pages: vec!["index.html".into()],
                ..Summary::default()
            };
            note(&folder, summary.clone(), Some(ran("run-one"))).unwrap();
            note(&folder, summary, Some(ran("run-two"))).unwrap();
        }
        std::fs::create_dir(root.path().join("other")).unwrap();
        write(root.path()).unwrap();
        let html = std::fs::read_to_string(root.path().join("index.html")).unwrap();
        assert!(html.contains("2 pipelines.") && html.contains("href=\"a/study.html\""), "{html}");
        assert!(html.find("Title of a") < html.find("Title of b"));
        assert!(html.find("run-two") < html.find("run-one"), "the newest run comes first");
    }
}
