//! How the unfinished cells of a plan stand, without following it.

use super::{
    super::{
        cell::Failed,
        queue::{Phase, Queue},
    },
    newest, prefix, refused,
};
use crate::{
    digest::Digest,
    error::Result,
    pipeline::Pipeline,
    store::{Mark, Store},
};

/// How the unfinished cells of a plan stand, for `plan` and `ls`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Standing {
    pub cell: String,
    /// `pending`, `running`, `failed`; `absent` where no job is known.
    pub state: String,
    pub job: Option<String>,
    /// Where and since when, or why.
    pub detail: String,
    /// The last lines of the log of a failed cell.
    pub tail: Vec<String>,
}

/// The store first, then the queue. `only` are the cells that are not current.
pub fn standings(
    pipeline: &Pipeline,
    store: &Store,
    plan: &Digest,
    queue: &dyn Queue,
    only: &[usize],
) -> Result<Vec<Standing>> {
    let prefix = prefix(plan);
    let jobs = queue.jobs(&prefix).map_err(refused)?;
    let newest = newest(&jobs, &prefix);
    let failed = store.marked(plan, Mark::Failed)?;
    let mut out = Vec::new();
    for &cell in only {
        let job = newest.get(&cell).copied();
        let (mut state, mut detail, mut tail) = ("absent".to_string(), String::new(), Vec::new());
        match job {
            Some(job) if job.phase == Phase::Running => {
                (state, detail) = ("running".into(), format!("on {} since {}", job.nodes, job.since));
            }
            Some(job) if job.phase == Phase::Pending => (state, detail) = ("pending".into(), job.reason.clone()),
            Some(job) if job.phase == Phase::Stuck => (state, detail) = ("stuck".into(), job.reason.clone()),
            job => {
                if failed.contains(&cell)
                    && let Some(mark) = store.mark::<Failed>(plan, Mark::Failed, cell)?
                {
                    (state, detail, tail) = ("failed".into(), format!("{} (on {})", mark.error, mark.host), mark.tail);
                } else if let Some(job) = job.filter(|j| j.phase == Phase::Ended) {
                    (state, detail) = ("failed".into(), format!("its job ended as {}", job.state));
                }
            }
        }
        out.push(Standing {
            cell: pipeline.cells[cell].id.clone(),
            state,
            job: job.map(|j| j.id.clone()),
            detail,
            tail,
        });
    }
    Ok(out)
}
