//! Submitting: cells gathered into arrays, each after the jobs of its parents, behind one job that looks from a node.

use std::collections::{BTreeMap, BTreeSet, HashSet};

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

impl Follower<'_> {
    /// What a cell asks for after it was out of memory so often.
    pub(super) fn request(&self, cell: usize, out_of_memory: u32) -> Result<Request> {
        let spec = &self.pipeline.cells[cell];
        Ok(self.options.profile.request(spec, spec.kind.resources(&spec.params)?, out_of_memory))
    }

    /// Submits cells, parents first, as far as the queue takes them. Whether any was.
    pub(super) fn submit(&mut self, absent: &[usize]) -> Result<bool> {
        let waiting: HashSet<usize> = absent.iter().copied().collect();
        let mut wishes = Vec::with_capacity(absent.len());
        for &cell in absent {
            let spec = &self.pipeline.cells[cell];
            let parents = spec.inputs.values().flatten().map(|i| i.cell);
            let open = |p: &usize| self.tracks.get(p).is_some_and(|t| t.stand == Stand::Open);
            let parents: BTreeSet<usize> = parents.filter(open).collect();
            let grown = self.tracks.get(&cell).map_or(0, |t| t.out_of_memory);
            wishes.push(Wish { cell, node: &spec.node, request: self.request(cell, grown)?, parents });
        }
        for &cell in absent {
            // From here on its old job counts for nothing.
            let track = self.track(cell);
            track.job = None;
            track.owed = 0;
        }
        let groups = groups(wishes, self.max_array);
        if self.first_round {
            self.check_requests(groups.iter().map(|g| (&g[0].request, g[0].cell)))?;
        }
        let mut any = false;
        for group in groups {
            let Some(after) = self.after(&group[0].parents, &waiting)? else { break };
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
                Err(Refusal::Full(_)) if any || !self.first_round => break,
                Err(Refusal::Unreachable(_)) if !self.first_round => break,
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
        Ok(any)
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
        let mut jobs = BTreeSet::new();
        for parent in parents {
            match &self.tracks[parent].job {
                Some(job) => jobs.insert(job.clone()),
                None if waiting.contains(parent) => return Ok(None),
                // Done a moment ago, or about to be settled.
                None => false,
            };
        }
        let mut tasks: BTreeMap<&str, usize> = BTreeMap::new();
        for job in &jobs {
            if let Some((array, _)) = job.split_once('_') {
                *tasks.entry(array).or_default() += 1;
            }
        }
        let whole: HashSet<String> = tasks
            .into_iter()
            .filter(|(array, n)| self.arrays.get(*array) == Some(n))
            .map(|(array, _)| array.to_string())
            .collect();
        let short = |job: &String| job.split_once('_').map(|(a, _)| a).filter(|a| whole.contains(*a)).map(Into::into);
        let jobs: BTreeSet<String> = jobs.iter().map(|job| short(job).unwrap_or_else(|| job.clone())).collect();
        let mut after: Vec<String> = jobs.into_iter().collect();
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
