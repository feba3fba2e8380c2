//! The study page: methods, model cards, datasheets, and the way from every number back to its data.
//!
//! It is made from records and lies beside the report's page, whose rows link to it. Like a report it holds no
//! clock, host or path, so equal results have equal study pages.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use serde_json::Value;

use super::{
    card::{self, Count, Facts},
    diff,
    frame::{self, label},
    html::{Page, escape, markdown_html},
    lineage::{Ancestor, Lineage},
    methods::methods,
};
use crate::{
    aside::{file_name, replace},
    digest::Digest,
    error::Result,
    store::{Store, artifact::ArtifactType},
};

/// Cards and cells beyond these are left to the files beside the page.
const CARDS: usize = 300;
const CELLS: usize = 3000;

/// The last line of a page, by which it is known what it is of.
fn mark(state: &Digest) -> String {
    format!("<!-- state {state} -->\n")
}

/// Whether the page in a folder is of this very state. Reads no more than its end.
pub fn is_current(folder: &Path, state: &Digest) -> bool {
    let mark = mark(state);
    let end = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(folder.join("study.html"))?;
        file.seek(SeekFrom::End(-(mark.len() as i64)))?;
        let mut end = String::new();
        file.read_to_string(&mut end)?;
        Ok(end)
    };
    end().is_ok_and(|end| end == mark)
}

/// Writes `study.html`, `methods.md`, `provenance.json`, `provenance.parquet` and `cards/*.md` into a folder.
///
/// # Errors
/// A blob that is missing, a folder that cannot be written.
pub fn write(lineage: &Lineage, store: &Store, folder: &Path) -> Result<()> {
    let known: RefCell<HashMap<usize, Option<Facts>>> = RefCell::default();
    let facts = |at: usize| -> Result<Option<Facts>> {
        if let Some(facts) = known.borrow().get(&at) {
            return Ok(facts.clone());
        }
        let found = card::facts(store, &lineage.cells[at])?;
        known.borrow_mut().insert(at, found.clone());
        Ok(found)
    };
    let methods = methods(lineage, &facts)?;
    replace(&folder.join("methods.md"), format!("# Methods\n\n{methods}").as_bytes())?;
    let (models, sheets) = cards(lineage, store, &facts, folder)?;
    replace(
        &folder.join("provenance.json"),
        (serde_json::to_string_pretty(&lineage.json(&|record| diff::metrics(store, record)))? + "\n").as_bytes(),
    )?;
    let table = lineage.provenance()?;
    replace(&folder.join("provenance.parquet"), &frame::parquet(&table)?)?;
    // The page comes last: it is what says that all is of this state.
    replace(
        &folder.join("study.html"),
        (render(lineage, &methods, &models, &sheets).render() + &mark(&lineage.state())).as_bytes(),
    )
}

/// A card that was written: the cell, its file, and what it says.
struct Written {
    cell: usize,
    file: String,
    text: String,
}

fn cards(lineage: &Lineage, store: &Store, facts: &Count<'_>, folder: &Path) -> Result<(Vec<Written>, Vec<Written>)> {
    let (mut models, mut sheets) = (Vec::new(), Vec::new());
    for (at, cell) in lineage.cells.iter().enumerate() {
        let outputs = cell.outputs(ArtifactType::Model).map(|(name, _)| (name.to_string(), true));
        let merged = matches!(cell.record.kind.as_str(), "merge" | "dataset");
        let data = cell.outputs(ArtifactType::Dataset).map(|(name, _)| (name.to_string(), false)).filter(|_| merged);
        for (output, is_model) in outputs.chain(data).collect::<Vec<_>>() {
            let list = if is_model { &mut models } else { &mut sheets };
            if list.len() >= CARDS {
                continue;
            }
            let (prefix, text) = match is_model {
                true => ("model", card::model(lineage, at, &output, store, facts)?),
                false => ("datasheet", card::datasheet(lineage, at, &output, store, facts)?),
            };
            let file = format!("cards/{prefix}-{}.md", file_name(&cell.cell).trim_end_matches('-'));
            replace(&folder.join(&file), text.as_bytes())?;
            list.push(Written { cell: at, file, text });
        }
    }
    Ok((models, sheets))
}

fn render(lineage: &Lineage, methods: &str, models: &[Written], sheets: &[Written]) -> Page {
    let title = lineage.report().and_then(|r| r.param("title")).map(label).unwrap_or_else(|| lineage.pipeline.clone());
    let numbers: BTreeSet<String> = lineage.tables().into_iter().map(|(name, ..)| name).collect();
    let mut page = Page::new(&format!("How this came about: {title}"))
        .kicker(&format!("scaleshot study · {}", lineage.pipeline))
        .lead(&format!(
            "{} cells lead to the {} tables of the report. Every one stands below with its key, its parameters and the digests of what it took, back to the data.",
            lineage.cells.len(),
            numbers.len()
        ))
        .beside(&[
            ("index.html", "Results"),
            ("methods.md", "Methods as Markdown"),
            ("provenance.json", "Provenance as JSON"),
            ("provenance.parquet", "as Parquet"),
        ])
        .section("Methods")
        // The section's own heading is the page's.
        .markdown(methods);
    for (heading, all) in [("Model cards", models), ("Datasheets", sheets)] {
        if all.is_empty() {
            continue;
        }
        page = page.section(heading);
        for card in all {
            let summary = format!("{} ({})", lineage.cells[card.cell].cell, card.file);
            // The first line repeats the summary.
            let body = card.text.split_once("\n\n").map_or(card.text.as_str(), |(_, rest)| rest);
            page = page.folded(&format!("card-{}", lineage.cells[card.cell].anchor()), &summary, &markdown_html(body));
        }
        if all.len() == CARDS {
            page = page.text(&format!("The first {CARDS}."));
        }
    }
    page = page.section("Provenance");
    // The report first, then what it was made of, back to the data.
    for (at, cell) in lineage.cells.iter().enumerate().rev().take(CELLS) {
        page = page.folded(&cell.anchor(), &format!("{} ({})", cell.cell, cell.record.kind), &way(lineage, at, cell));
    }
    if lineage.cells.len() > CELLS {
        page = page.text(&format!("{CELLS} of {} cells; provenance.json has all.", lineage.cells.len()));
    }
    page
}

/// One cell: key, inputs as links, sources, outputs, parameters.
fn way(lineage: &Lineage, at: usize, cell: &Ancestor) -> String {
    let code = |text: &str| format!("<code>{}</code>", escape(text));
    let mut out = String::from("<dl>");
    let mut item = |name: &str, value: String| out.push_str(&format!("<dt>{}</dt><dd>{value}</dd>", escape(name)));
    item("key", code(&cell.record.key.hex()));
    item(
        "kind",
        escape(&format!("{} version {}, by {}", cell.record.kind, cell.record.kind_version, cell.record.program)),
    );
    if let Some(accepted) = &cell.record.accepted {
        item("accepted, not computed", escape(&accepted.told()));
    }
    const TAKEN: usize = 100;
    for taken in cell.takes.iter().take(TAKEN) {
        let from = &lineage.cells[taken.from];
        let digest = from.record.outputs.get(&taken.output).map(|a| a.digest().hex()).unwrap_or_default();
        let link = format!("<a href=\"#{}\">{}</a>", from.anchor(), escape(&format!("{}.{}", from.cell, taken.output)));
        item(&taken.field, format!("{link} {}", code(&digest)));
    }
    if cell.takes.len() > TAKEN {
        item("inputs", format!("and {} more", cell.takes.len() - TAKEN));
    }
    for (field, digest, files, bytes) in cell.sources() {
        item(field, format!("{} files, {} bytes {}", card::grouped(files), card::grouped(bytes), code(&digest.hex())));
    }
    for (name, artifact) in &cell.record.outputs {
        item(&format!("output {name}"), code(&artifact.digest().hex()));
    }
    let roots: Vec<String> = lineage
        .roots(at)
        .into_iter()
        .filter(|&r| r != at)
        .map(|r| format!("<a href=\"#{}\">{}</a>", lineage.cells[r].anchor(), escape(&lineage.cells[r].cell)))
        .collect();
    if !roots.is_empty() {
        item("begins with", roots.join(", "));
    }
    for (path, value) in cell.params() {
        let text = match value {
            Value::Array(_) | Value::Object(_) => value.to_string(),
            other => label(other),
        };
        item(path, escape(&text));
    }
    for note in &cell.record.notes {
        item(&note.what.replace('_', " "), escape(&format!("{} ({})", note.count, note.detail)));
    }
    out + "</dl>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::lineage::tests::lineage;

    #[test]
    fn every_link_of_the_provenance_leads_to_a_cell_of_the_page() {
        let html = render(&lineage(), "## Data\n\nText.", &[], &[]).render();
        let links: Vec<&str> = html.split("href=\"#c-").skip(1).filter_map(|s| s.split('"').next()).collect();
        assert!(links.len() >= 6, "{links:?}");
        for link in links {
            assert!(html.contains(&format!("id=\"c-{link}\"")), "{link}");
        }
        let digest = lineage().cells[0].record.outputs["dataset"].digest().hex();
        assert!(html.contains(&digest));
    }
}
