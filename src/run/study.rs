//! From a pipeline and its records to the lineage of a report, and the pages made of it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::Summary;
use crate::{
    error::Result,
    pipeline::Pipeline,
    report::{
        index::{self, Ran},
        lineage::{self, Ancestor, Lineage, Taken},
        runpage::RunInfo,
        study,
    },
    store::{Last, Store},
};

/// A cell and all that it needs, as indices in the pipeline's order; the cell is the last.
fn ancestors(pipeline: &Pipeline, cell: usize) -> Vec<usize> {
    let mut wanted = vec![false; cell + 1];
    let mut open = vec![cell];
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut wanted[at], true) {
            open.extend(pipeline.cells[at].inputs.values().flatten().map(|input| input.cell));
        }
    }
    (0..=cell).filter(|&at| wanted[at]).collect()
}

/// The lineage of a cell from its records; `None` where one of them is gone.
///
/// # Errors
/// A record that cannot be read.
pub fn lineage(
    pipeline: &Pipeline,
    cell: usize,
    last: &HashMap<String, Last>,
    store: &Store,
) -> Result<Option<Lineage>> {
    let order = ancestors(pipeline, cell);
    let place: HashMap<usize, usize> = order.iter().enumerate().map(|(i, &at)| (at, i)).collect();
    let mut cells = Vec::with_capacity(order.len());
    for &at in &order {
        let spec = &pipeline.cells[at];
        let Some(last) = last.get(&spec.id) else { return Ok(None) };
        let Some(record) = store.record(&last.key)? else { return Ok(None) };
        let takes = spec
            .inputs
            .iter()
            .flat_map(|(field, inputs)| inputs.iter().map(move |input| (field, input)))
            .map(|(field, input)| Taken {
                field: field.clone(),
                from: place[&input.cell],
                output: input.output.clone(),
            })
            .collect();
        let (cell, node, axes) = (spec.id.clone(), spec.node.clone(), spec.axes.clone());
        cells.push(Ancestor { cell, node, axes, takes, record });
    }
    Ok(Some(Lineage { pipeline: pipeline.name.clone(), cells }))
}

/// Writes the study page of a report cell beside the report, unless the page there is current.
///
/// # Errors
/// A record or blob that cannot be read, a folder that cannot be written.
pub fn write(
    pipeline: &Pipeline,
    cell: usize,
    last: &HashMap<String, Last>,
    store: &Store,
    folder: &Path,
) -> Result<()> {
    let ids = ancestors(pipeline, cell).into_iter().map(|at| pipeline.cells[at].id.as_str());
    let state = lineage::state(ids.filter_map(|id| Some((id, &last.get(id)?.key))));
    if study::is_current(folder, &state) {
        return Ok(());
    }
    match lineage(pipeline, cell, last, store)? {
        Some(lineage) => study::write(&lineage, store, folder),
        // Its numbers are there, but not how they came about: a record was deleted.
        None => Ok(()),
    }
}

/// Puts a run into the summary of its reports, and writes the index over all reports below `folder`.
///
/// # Errors
/// A folder that cannot be written.
pub fn note_run(
    pipeline: &Pipeline,
    last: &HashMap<String, Last>,
    summary: &Summary,
    info: &RunInfo,
    pages: &[PathBuf],
    folder: &Path,
) -> Result<()> {
    let root = folder.join(&pipeline.name);
    let report = pipeline.cells.iter().find(|c| c.kind.name() == "report");
    let text = |name: &str| report.and_then(|r| r.params[name].as_str()).unwrap_or_default().to_string();
    let relative = |path: &Path| path.strip_prefix(&root).ok().map(|p| p.to_string_lossy().replace('\\', "/"));
    let first_plot = pages.first().and_then(|page| {
        let plots = page.parent()?.join("plots");
        let mut names: Vec<PathBuf> = std::fs::read_dir(plots).ok()?.flatten().map(|e| e.path()).collect();
        names.sort();
        names.into_iter().find(|n| n.extension().is_some_and(|e| e == "svg"))
    });
    let title = Some(text("title")).filter(|t| !t.is_empty()).unwrap_or_else(|| pipeline.name.clone());
    let ids = pipeline.cells.iter().filter_map(|c| Some((c.id.as_str(), &last.get(&c.id)?.key)));
    let ran = Ran {
        started: info.started.clone(),
        wall_ms: info.wall_ms,
        computed: summary.ran,
        fresh: summary.fresh,
        failed: summary.failed,
        program: format!("scaleshot {}", env!("CARGO_PKG_VERSION")),
        state: lineage::state(ids).hex(),
    };
    let fresh = index::Summary {
        pipeline: pipeline.name.clone(),
        title,
        lead: text("lead"),
        pages: pages.iter().filter_map(|p| relative(p)).collect(),
        plot: first_plot.and_then(|p| relative(&p)),
        runs: Vec::new(),
    };
    index::note(&root, fresh, Some(ran))?;
    index::write(folder)
}
