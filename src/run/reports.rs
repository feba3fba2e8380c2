//! Reports where people look for them: the files of report artifacts in a folder, and the run page beside them.
//!
//! The artifacts stay in the store; a folder that was deleted or changed is written again by the next run,
//! which computes nothing.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    history::{Course, End},
    study,
};
use crate::{
    aside::{file_name, replace},
    digest::Digest,
    error::Result,
    pipeline::Pipeline,
    report::runpage::{self, RunInfo, RunRow, State},
    store::{Last, Store, artifact::ArtifactType},
};

/// Name of the run page in the folder.
const RUN_PAGE: &str = "run.html";

/// Writes the reports of a pipeline's current cells below `folder`, and returns the pages' paths.
///
/// With one report cell its files lie in `folder/PIPELINE`; with several, each in a folder of its cell's name.
pub fn deliver(pipeline: &Pipeline, store: &Store, folder: &Path) -> Result<Vec<PathBuf>> {
    let last = store.last(&pipeline.name)?;
    let cells: Vec<_> = pipeline
        .cells
        .iter()
        .enumerate()
        .filter_map(|(at, cell)| Some((at, cell, last.get(&cell.id)?)))
        .flat_map(|(at, cell, last)| last.outputs.values().map(move |artifact| (at, cell, artifact)))
        .filter(|(_, _, artifact)| artifact.kind == ArtifactType::Report)
        .collect();
    let root = folder.join(&pipeline.name);
    let mut pages = Vec::new();
    for (at, cell, artifact) in &cells {
        let target = if cells.len() == 1 { root.clone() } else { root.join(file_name(&cell.id)) };
        for file in &artifact.files {
            let path = target.join(&file.name);
            if Digest::of_file(&path).is_ok_and(|d| d == file.digest) {
                continue;
            }
            // Copied, not linked: who edits a report must not edit the store.
            replace(&path, &store.bytes(&file.digest)?)?;
        }
        study::write(pipeline, *at, &last, store, &target)?;
        pages.push(target.join("index.html"));
    }
    Ok(pages)
}

/// Writes the page about a run beside the reports.
pub fn write_run_page(
    pipeline: &Pipeline,
    last: &HashMap<String, Last>,
    courses: &HashMap<String, Course>,
    info: &RunInfo,
    folder: &Path,
) -> Result<PathBuf> {
    let rows: Vec<RunRow> = pipeline
        .cells
        .iter()
        .map(|cell| {
            let course = courses.get(&cell.id).cloned().unwrap_or_default();
            let mut parents: Vec<String> =
                cell.inputs.values().flatten().map(|input| pipeline.cells[input.cell].node.clone()).collect();
            parents.sort();
            parents.dedup();
            RunRow {
                cell: cell.id.clone(),
                node: cell.node.clone(),
                kind: cell.kind.name().into(),
                state: match course.end {
                    End::Fresh => State::Fresh,
                    End::Done => State::Done,
                    End::Failed => State::Failed,
                    End::Skipped => State::Skipped,
                    End::Interrupted => State::Interrupted,
                },
                parents,
                reason: course.reason,
                start_ms: course.start_ms,
                wall_ms: course.wall_ms,
                cpu_ms: course.cpu_ms,
                peak_rss_bytes: course.peak_rss_bytes,
                threads: course.threads.map(|t| t as u32),
                key: last.get(&cell.id).map(|l| l.key.hex()).unwrap_or_default(),
                accepted: last.get(&cell.id).and_then(|l| l.accepted.clone()),
            }
        })
        .collect();
    let path = folder.join(&pipeline.name).join(RUN_PAGE);
    replace(&path, runpage::render(info, &rows)?.as_bytes())?;
    Ok(path)
}

/// A moment as people read it: `2026-11-22 21:16:05 UTC`.
pub fn utc(moment: SystemTime) -> String {
    let seconds = moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a date: Howard Hinnant's civil_from_days, for days since 1970 that are not negative.
    let z = days + 719_468;
    let era = z / 146_097;
    let of_era = z % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest % 3600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_are_dates() {
        let at = |s: u64| utc(SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(at(1_795_382_165), "2026-11-22 21:16:05 UTC");
    }
}
