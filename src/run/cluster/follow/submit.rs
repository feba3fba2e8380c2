//! Submitting: cells gathered into arrays, each after the jobs of its parents, behind one job that looks from a node.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    super::{
        group::{Wish, groups},
        profile::Request,
        queue::{Job, Phase, Refusal, Submission, Work},
    },
    Follower, NODES, Stand, refused,
};
use crate::{
    error::{Error, Result},
    run::event::Event,
};

/// Dependencies of one job; more are gathered by gates.
const MAX_AFTER: usize = 1000;
/// Cells that are gathered at a time, about as many as an array may hold.
const PIECE: usize = 1_000;

impl Follower<'_> {
    /// What a cell asks for after it was out of memory so often.
    pub(super) fn request(&self, cell: usize, out_of_memory: u32) -> Result<Request> {
        let spec = &self.pipeline.cells[cell];
        Ok(self.options.profile.request(spec, spec.kind.resources(&spec.params)?, out_of_memory))
    }

    /// Submits cells, parents first, as far as the queue takes them. Whether any was.
    pub(super) fn submit(&mut self, absent: Vec<usize>) -> Result<bool> {
        let absent = self.due(absent);
        let waiting: HashSet<usize> = absent.iter().copied().collect();
        // A full queue takes few of what is left of a large plan: the rest is not gathered for nothing, but for the
        // first time, when every request is looked at before anything is submitted.
        let piece = if self.first_round { absent.len().max(1) } else { PIECE };
        let mut any = false;
        for piece in absent.chunks(piece) {
            let (some, all) = self.submit_piece(piece, &waiting)?;
            any |= some;
            if !all {
                break;
            }
        }
        Ok(any)
    }

    /// All but cells that rest, and what waits for those.
    fn due(&mut self, absent: Vec<usize>) -> Vec<usize> {
        let mut resting = HashSet::new();
        let due = |cell: &usize| {
            let mut parents = self.pipeline.cells[*cell].inputs.values().flatten().map(|i| i.cell);
            let rests = self.tracks[*cell].as_ref().map_or(0, |t| t.rests);
            let waits = match rests {
                0 => parents.any(|p| resting.contains(&p)),
                _ => parents.any(|p| self.is_open(p)),
            };
            if waits {
                resting.insert(*cell);
            }
            !waits
        };
        let (due, rest): (Vec<usize>, Vec<usize>) = absent.into_iter().partition(due);
        for &cell in &due {
            self.track(cell).rests = 0;
        }
        for &cell in &rest {
            let track = self.track(cell);
            track.rests = track.rests.saturating_sub(1);
        }
        due
    }

    fn is_open(&self, cell: usize) -> bool {
        self.tracks[cell].as_ref().is_some_and(|t| t.stand == Stand::Open)
    }

    /// Whether some were submitted, and whether all were.
    fn submit_piece(&mut self, absent: &[usize], waiting: &HashSet<usize>) -> Result<(bool, bool)> {
        let mut wishes = Vec::with_capacity(absent.len());
        for &cell in absent {
            let spec = &self.pipeline.cells[cell];
            let parents = spec.inputs.values().flatten().map(|i| i.cell);
            let parents: BTreeSet<usize> = parents.filter(|p| self.is_open(*p)).collect();
            let grown = self.tracks[cell].as_ref().map_or(0, |t| t.out_of_memory);
            wishes.push(Wish { cell, node: &spec.node, request: self.request(cell, grown)?, parents });
        }
        let groups = groups(wishes, self.max_array);
        if self.first_round {
            self.check_requests(groups.iter().map(|g| (&g[0].request, g[0].cell)))?;
        }
        let mut any = false;
        for group in groups {
            let Some(after) = self.after(&group[0].parents, waiting)? else { return Ok((any, false)) };
            let base = group[0].cell;
            let work = match group.as_slice() {
                [_] => Work::Cell(base),
                group => Work::Cells { base, tasks: group.iter().map(|w| w.cell - base).collect() },
            };
            let comment = if group.len() == 1 { self.pipeline.cells[base].id.clone() } else { group[0].node.into() };
            let name = format!("{}{base}-", self.prefix);
            let id = match self.send(name, work, group[0].request.clone(), after, comment) {
                Ok(id) => id,
                // What is not submitted yet is absent at the next look.
                Err(Refusal::Full(_)) if any || !self.first_round => return Ok((any, false)),
                Err(Refusal::Unreachable(_)) if !self.first_round => return Ok((any, false)),
                Err(e) => return Err(refused(e)),
            };
            any = true;
            if group.len() > 1 {
                self.arrays.insert(id.clone(), group.len());
            }
            for wish in &group {
                let job = if group.len() == 1 { id.clone() } else { format!("{id}_{}", wish.cell - base) };
                let track = self.track(wish.cell);
                track.job = Some(job.clone());
                track.beat = None;
                track.told = format!("submitted {job}");
                let cell = self.pipeline.cells[wish.cell].id.clone();
                let detail = wish.parents.len();
                let detail = if detail == 0 { String::new() } else { format!("after {detail} cells") };
                self.observer.event(&Event::Queued { cell, job, state: "submitted".into(), detail });
            }
        }
        Ok((any, true))
    }

    /// Every different request once, before anything is submitted.
    fn check_requests<'r>(&self, requests: impl Iterator<Item = (&'r Request, usize)>) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (request, cell) in requests {
            if seen.insert(request.clone()) {
                let submission = Submission {
                    name: format!("{}test", self.prefix),
                    work: Work::Cell(cell),
                    request: request.clone(),
                    after: Vec::new(),
                    comment: String::new(),
                };
                self.queue.check(&submission).map_err(|e| {
                    let cell = &self.pipeline.cells[cell].id;
                    match e {
                        Refusal::Never(m) => Error::invalid(format!("{cell}: the queue refuses its request: {m}"))
                            .with_hint("see partition, account, time, memory, cpus and gpus in the profile"),
                        e => refused(e),
                    }
                })?;
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        name: String,
        work: Work,
        request: Request,
        after: Vec<String>,
        comment: String,
    ) -> Result<String, Refusal> {
        self.submissions += 1;
        let name = format!("{name}{}{:x}", self.token, self.submissions);
        self.queue.submit(&Submission { name, work, request, after, comment })
    }

    /// Ids of the jobs to wait for; `None` where one of them is still to be submitted and the queue is full.
    fn after(&mut self, parents: &BTreeSet<usize>, waiting: &HashSet<usize>) -> Result<Option<Vec<String>>> {
        let mut jobs: Vec<&str> = Vec::with_capacity(parents.len());
        for &parent in parents {
            match self.tracks[parent].as_ref().and_then(|t| t.job.as_deref()) {
                Some(job) => jobs.push(job),
                None if waiting.contains(&parent) => return Ok(None),
                // Done a moment ago, or about to be settled.
                None => {}
            }
        }
        let mut tasks: HashMap<&str, usize> = HashMap::new();
        for (array, _) in jobs.iter().filter_map(|job| job.split_once('_')) {
            *tasks.entry(array).or_default() += 1;
        }
        let whole = |array: &&str| tasks.get(array).is_some_and(|n| self.arrays.get(*array) == Some(n));
        let short = |job: &&str| job.split_once('_').map(|(array, _)| array).filter(whole).unwrap_or(job).to_string();
        let mut after: Vec<String> = jobs.iter().map(short).collect();
        after.sort_unstable();
        after.dedup();
        if after.is_empty() && self.options.profile.check {
            after.extend(self.checked()?);
        }
        while after.len() > MAX_AFTER {
            let mut gates = Vec::new();
            for some in after.chunks(MAX_AFTER) {
                let (name, small) = (format!("{}gate-", self.prefix), self.options.profile.small());
                match self.send(name, Work::Gate, small, some.to_vec(), "waits for many".into()) {
                    Ok(id) => gates.push(id),
                    Err(Refusal::Full(_)) => return Ok(None),
                    Err(e) => return Err(refused(e)),
                }
            }
            after = gates;
        }
        Ok(Some(after))
    }

    /// The job that looks from a node, submitted before any other of this run.
    fn checked(&mut self) -> Result<Option<String>> {
        if self.check.is_none() && self.first_round {
            let (name, small) = (format!("{}check-", self.prefix), self.options.profile.small());
            let id = self.send(name, Work::Check, small, Vec::new(), "looks for the store".into());
            self.check = Some(id.map_err(refused)?);
        }
        Ok(self.check.clone())
    }

    /// # Errors
    /// Where the job that looks from a node has failed; the others are cancelled then.
    pub(super) fn look_at_check(&mut self, jobs: &[Job]) -> Result<()> {
        let Some(check) = &self.check else { return Ok(()) };
        let Some(job) = jobs.iter().find(|j| j.id == *check) else { return Ok(()) };
        match job.phase {
            Phase::Completed => self.check = None,
            Phase::Ended | Phase::Stuck => {
                let ids = jobs.iter().filter(|j| j.phase < Phase::Completed).map(|j| j.id.clone()).collect::<Vec<_>>();
                self.queue.cancel(&ids).map_err(refused)?;
                let node = if job.nodes.is_empty() { "a node" } else { &job.nodes };
                let told = format!(
                    "{node} cannot compute: job {} ended as {}{}; everything was cancelled",
                    job.id,
                    job.state,
                    self.shell(Some(job))
                );
                return Err(Error::invalid(told).with_hint(NODES));
            }
            Phase::Pending | Phase::Running => {}
        }
        Ok(())
    }
}
