//! Slurm's own commands: sbatch, squeue, scancel, scontrol.
//!
//! Every command has a deadline, since with the controller down they block for long; none sees the variables of a
//! job that this process may itself run in.

use std::{
    collections::HashMap,
    io::{Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    profile::{Profile, Request},
    queue::{Job, Limits, Phase, Queue, Refusal, Submission, Work},
};
use crate::digest::Digest;

/// Of one command.
const DEADLINE: Duration = Duration::from_secs(30);
/// Before a submission whose answer was lost is sent again.
const WAITS: [u64; 3] = [2, 5, 10];
/// Ids on one command line.
const IDS: usize = 2000;

pub struct Slurm {
    pub plan: Digest,
    pub profile: Profile,
    /// How nodes find the store.
    pub store: String,
    /// Of this program, where the profile names none.
    pub program: String,
    /// Where the output of jobs' shells goes.
    pub logs: PathBuf,
    /// Where jobs start: relative paths of the pipeline mean the same there.
    pub folder: PathBuf,
}

/// What a command said.
struct Said {
    ok: bool,
    out: String,
    err: String,
}

/// Runs one of Slurm's commands.
fn command(words: &[String], stdin: Option<&str>) -> Result<Said, Refusal> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let inherited = text.starts_with("SLURM_") || text.starts_with("SBATCH_") || text.starts_with("SQUEUE_");
        if inherited && text != "SLURM_CONF" && text != "SLURM_CLUSTERS" {
            command.env_remove(&name);
        }
    }
    let input = if stdin.is_some() { Stdio::piped() } else { Stdio::null() };
    let spawned = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Refusal::Never(format!("there is no {} on this machine", words[0])),
        _ => Refusal::Unreachable(format!("{}: {e}", words[0])),
    })?;
    let (mut to, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let text = stdin.unwrap_or_default().to_string();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(to) = &mut to {
                // A command that does not read its script says so itself.
                let _ = to.write_all(text.as_bytes());
            }
            drop(to);
        });
        let out = scope.spawn(move || read(out));
        let err = scope.spawn(move || read(err));
        let began = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if began.elapsed() < DEADLINE => std::thread::sleep(Duration::from_millis(4)),
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
            }
        };
        let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        match status {
            Some(status) => Ok(Said { ok: status.success(), out, err: err.trim().into() }),
            None => Err(Refusal::Unreachable(format!("{} did not answer in {} s", words[0], DEADLINE.as_secs()))),
        }
    })
}

fn read(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        let _ = from.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ask(words: &[&str]) -> Result<Said, Refusal> {
    let words: Vec<String> = words.iter().map(|w| w.to_string()).collect();
    command(&words, None)
}

/// What a message of Slurm's means.
fn refusal(words: &str, message: &str) -> Refusal {
    let text = format!("{words}: {message}");
    let has = |needles: &[&str]| needles.iter().any(|n| message.contains(n));
    if has(&["imed out", "Unable to contact", "onnection refused", "Zero Bytes", "ocket", "try again later"]) {
        Refusal::Unreachable(text)
    } else if has(&["temporarily unable to accept", "Resource temporarily unavailable", "SubmitJob", "MaxSubmit"]) {
        Refusal::Full(text)
    } else {
        Refusal::Never(text)
    }
}

impl Slurm {
    /// # Errors
    /// [`Refusal::Never`] where there is no Slurm on this machine.
    pub fn present() -> Result<String, Refusal> {
        let said = ask(&["sbatch", "--version"])?;
        if said.ok { Ok(said.out.trim().into()) } else { Err(refusal("sbatch", &said.err)) }
    }

    /// The words of sbatch, all but the script.
    pub fn words(&self, submission: &Submission) -> Vec<String> {
        let Request { partition, account, time_s, memory_mib, cpus, gpus, tasks, flags } = &submission.request;
        let file = match submission.work {
            Work::Cells { .. } => format!("{}-%A_%a.out", submission.name),
            _ => format!("{}-%j.out", submission.name),
        };
        let mut words: Vec<String> = ["sbatch", "--parsable", "--requeue", "--open-mode=append"].map(Into::into).into();
        words.extend([
            "--kill-on-invalid-dep=yes".into(),
            format!("--job-name={}", submission.name),
            format!("--comment={}", submission.comment),
            format!("--chdir={}", self.folder.display()),
            format!("--output={}", self.logs.join(file).display()),
            format!("--ntasks={tasks}"),
            format!("--cpus-per-task={cpus}"),
            format!("--signal=B:TERM@{}", self.profile.grace_s),
        ]);
        let optional = [
            partition.as_ref().map(|p| format!("--partition={p}")),
            account.as_ref().map(|a| format!("--account={a}")),
            // Slurm counts in minutes.
            time_s.map(|s| format!("--time={}", s.div_ceil(60).max(1))),
            memory_mib.map(|m| format!("--mem={m}M")),
            (*gpus > 0).then(|| format!("--gpus-per-node={gpus}")),
        ];
        words.extend(optional.into_iter().flatten());
        if let Work::Cells { tasks, .. } = &submission.work {
            let most = self.profile.tasks_at_once.map(|n| format!("%{n}")).unwrap_or_default();
            words.push(format!("--array={}{most}", ranges(tasks)));
        }
        if !submission.after.is_empty() {
            words.push(format!("--dependency=afterok:{}", submission.after.join(":")));
        }
        words.extend(flags.iter().cloned());
        words
    }

    pub fn script(&self, submission: &Submission) -> String {
        let mut script = String::from("#!/bin/sh\n");
        if submission.work == Work::Gate {
            return script + "exit 0\n";
        }
        for line in &self.profile.prologue {
            script.push_str(line);
            script.push('\n');
        }
        let launcher = self.profile.launcher.as_ref().map(|l| format!("{l} ")).unwrap_or_default();
        let program = quoted(self.profile.program.as_ref().unwrap_or(&self.program));
        let index = match &submission.work {
            Work::Cell(index) => index.to_string(),
            Work::Cells { base, .. } => format!("$(({base} + SLURM_ARRAY_TASK_ID))"),
            Work::Check | Work::Gate => "--check".into(),
        };
        let (plan, store, threads) = (self.plan, quoted(&self.store), submission.request.all_cpus());
        let ranks = self.profile.ranks_with.as_ref().filter(|_| submission.request.tasks > 1);
        let ranks = ranks.map(|words| format!(" --ranks-with {}", quoted(words))).unwrap_or_default();
        // In place of the shell, so that a request to stop reaches the program.
        script.push_str(&format!(
            "exec {launcher}{program} cell {plan} {index} --store {store} --threads {threads}{ranks}\n"
        ));
        script
    }

    /// A job by its name alone: whether a submission was accepted after all.
    fn named(&self, name: &str) -> Result<Option<String>, Refusal> {
        let said = ask(&["squeue", "-h", "-a", "-t", "all", "-o", "%F", "--name", name])?;
        if !said.ok {
            return Err(refusal("squeue", &said.err));
        }
        Ok(said.out.lines().next().map(|l| l.trim().to_string()))
    }
}

impl Queue for Slurm {
    fn limits(&self) -> Result<Limits, Refusal> {
        let said = ask(&["scontrol", "show", "config"])?;
        if !said.ok {
            return Err(refusal("scontrol", &said.err));
        }
        let settings: HashMap<&str, &str> =
            said.out.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect();
        let number = |name: &str| settings.get(name).and_then(|v| v.parse::<usize>().ok());
        Ok(Limits { max_array: number("MaxArraySize").unwrap_or(1001) })
    }

    fn check(&self, submission: &Submission) -> Result<(), Refusal> {
        let mut words = self.words(&Submission { after: Vec::new(), ..submission.clone() });
        words.push("--test-only".into());
        let said = command(&words, Some(&self.script(submission)))?;
        if said.ok { Ok(()) } else { Err(refusal("sbatch", &said.err)) }
    }

    fn submit(&self, submission: &Submission) -> Result<String, Refusal> {
        let (words, script) = (self.words(submission), self.script(submission));
        let mut waits = WAITS.iter();
        loop {
            let refused = match command(&words, Some(&script)) {
                Ok(said) if said.ok => {
                    let id = said.out.trim().split(';').next().unwrap_or_default();
                    return Ok(id.to_string());
                }
                Ok(said) => refusal("sbatch", &said.err),
                Err(refused) => refused,
            };
            let (Refusal::Unreachable(_), Some(wait)) = (&refused, waits.next()) else { return Err(refused) };
            std::thread::sleep(Duration::from_secs(*wait));
            // Its answer may be what was lost.
            if let Ok(Some(id)) = self.named(&submission.name) {
                return Ok(id);
            }
        }
    }

    fn jobs(&self, prefix: &str) -> Result<Vec<Job>, Refusal> {
        let said = ask(&["squeue", "-h", "-a", "-r", "-t", "all", "--me", "-o", "%i|%T|%r|%N|%S|%j"])?;
        if !said.ok {
            return Err(refusal("squeue", &said.err));
        }
        Ok(said.out.lines().filter_map(job).filter(|job| job.name.starts_with(prefix)).collect())
    }

    fn cancel(&self, ids: &[String]) -> Result<(), Refusal> {
        // A job that has ended is no error to scancel with --quiet; one command unless the line grows too long.
        for ids in ids.chunks(IDS) {
            let words: Vec<&str> = ["scancel", "--quiet"].into_iter().chain(ids.iter().map(String::as_str)).collect();
            let said = ask(&words)?;
            if !said.ok && !said.err.is_empty() {
                return Err(refusal("scancel", &said.err));
            }
        }
        Ok(())
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A line of squeue.
fn job(line: &str) -> Option<Job> {
    let fields: Vec<&str> = line.split('|').collect();
    let [id, state, reason, nodes, since, name] = fields.as_slice() else { return None };
    let never = ["DependencyNeverSatisfied", "launch failed", "requeued held", "BadConstraints", "PartitionConfig"];
    let phase = match *state {
        "PENDING" | "REQUEUE_HOLD" | "SPECIAL_EXIT" if never.iter().any(|n| reason.contains(n)) => Phase::Stuck,
        "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_FED" | "RESV_DEL_HOLD" => Phase::Pending,
        "REQUEUE_HOLD" | "SPECIAL_EXIT" => Phase::Stuck,
        "RUNNING" | "COMPLETING" | "SUSPENDED" | "STOPPED" | "SIGNALING" | "STAGE_OUT" | "RESIZING" => Phase::Running,
        "COMPLETED" => Phase::Completed,
        _ => Phase::Ended,
    };
    Some(Job {
        id: id.to_string(),
        task: id.split_once('_').and_then(|(_, task)| task.parse().ok()),
        name: name.to_string(),
        phase,
        state: state.to_string(),
        reason: reason.to_string(),
        nodes: nodes.to_string(),
        since: since.to_string(),
    })
}

/// `0-3,7` from sorted numbers.
fn ranges(tasks: &[usize]) -> String {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for &task in tasks {
        match out.last_mut() {
            Some((_, end)) if *end + 1 == task => *end = task,
            _ => out.push((task, task)),
        }
    }
    let told = |(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    out.iter().map(told).collect::<Vec<_>>().join(",")
}

/// As one word of sh.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Puts this job back into the queue, which kills it. Not where somebody has cancelled it: that would revive it. Asks
/// again where the controller does not answer, for less than the shortest sensible `grace_s`.
pub fn requeue_self() -> Result<(), Refusal> {
    let Some(job) = super::cell::slurm_job() else { return Err(Refusal::Never("this is no Slurm job".into())) };
    let mut waits = WAITS.iter();
    loop {
        let refused = match requeue(&job) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        let (Refusal::Unreachable(_), Some(wait)) = (&refused, waits.next()) else { return Err(refused) };
        std::thread::sleep(Duration::from_secs(*wait));
    }
}

fn requeue(job: &str) -> Result<(), Refusal> {
    let said = ask(&["squeue", "-h", "-a", "-t", "all", "-o", "%T", "-j", job])?;
    if !said.ok {
        return Err(refusal("squeue", &said.err));
    }
    match said.out.trim() {
        "RUNNING" => {}
        state => return Err(Refusal::Never(format!("job {job} is {}", state.to_lowercase()))),
    }
    let said = ask(&["scontrol", "requeue", job])?;
    if said.ok { Ok(()) } else { Err(refusal("scontrol", &said.err)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slurm(profile: &str) -> Slurm {
        Slurm {
            plan: Digest::of(b"p"),
            profile: Profile::parse(profile).unwrap(),
            store: "/shared/my store".into(),
            program: "/bin/scaleshot".into(),
            logs: "/shared/logs".into(),
            folder: "/home/me".into(),
        }
    }

    fn submission(work: Work, after: &[&str]) -> Submission {
        let request = Request { cpus: 4, memory_mib: Some(512), time_s: Some(61), ..Request::default() };
        let after = after.iter().map(|a| a.to_string()).collect();
        Submission { name: "ss-x-8-t".into(), work, request, after, comment: "c".into() }
    }

    #[test]
    fn what_a_profile_asks_for_is_said_in_sbatch_words() {
        let slurm = slurm("grace_s: 90");
        let mut asked = submission(Work::Cell(3), &[]);
        asked.request.partition = Some("gpu".into());
        asked.request.account = Some("med".into());
        asked.request.gpus = 2;
        asked.request.flags = vec!["--qos=low".into(), "--constraint=a100".into()];
        let words = slurm.words(&asked);
        for expected in [
            "--partition=gpu",
            "--account=med",
            "--gpus-per-node=2",
            "--cpus-per-task=4",
            "--signal=B:TERM@90",
            "--requeue",
            "--kill-on-invalid-dep=yes",
        ] {
            assert!(words.iter().any(|w| w == expected), "{expected} in {words:?}");
        }
        assert_eq!(words[words.len() - 2..], ["--qos=low", "--constraint=a100"], "a flag has the last word");
    }

    #[test]
    fn an_array_is_ranges_of_tasks_above_its_base() {
        let slurm = slurm("prologue: [module load x]\nlauncher: apptainer exec a.sif\ntasks_at_once: 5");
        let work = Work::Cells { base: 8, tasks: vec![0, 1, 2, 5, 7, 8] };
        let submission = submission(work, &["3", "4_1"]);
        let words = slurm.words(&submission);
        for expected in
            ["--array=0-2,5,7-8%5", "--dependency=afterok:3:4_1", "--mem=512M", "--time=2", "--chdir=/home/me"]
        {
            assert!(words.iter().any(|w| w == expected), "{expected} in {words:?}");
        }
        let plan = Digest::of(b"p");
        assert_eq!(
            slurm.script(&submission),
            format!(
                "#!/bin/sh\nmodule load x\nexec apptainer exec a.sif /bin/scaleshot cell {plan} \
                 $((8 + SLURM_ARRAY_TASK_ID)) --store '/shared/my store' --threads 4\n"
            )
        );
    }

    #[test]
    fn ranks_are_tasks_that_the_job_itself_starts() {
        let slurm = slurm("ranks_with: mpirun -n {ranks} scaleshot-mpi");
        let mut submission = submission(Work::Cell(3), &[]);
        submission.request.tasks = 2;
        assert!(slurm.words(&submission).contains(&"--ntasks=2".to_string()));
        let script = slurm.script(&submission);
        assert!(script.ends_with(" --threads 8 --ranks-with 'mpirun -n {ranks} scaleshot-mpi'\n"), "{script}");
        submission.request.tasks = 1;
        assert!(slurm.script(&submission).ends_with(" --threads 4\n"));
    }

    #[test]
    fn what_squeue_says_is_read() {
        let of = |line: &str| job(line).unwrap();
        let running = of("17_4|RUNNING|None|n1|2026-01-01T00:00:00|ss-x-8-t");
        assert_eq!((running.task, running.phase, running.number()), (Some(4), Phase::Running, 17));
        assert_eq!(of("17|PENDING|Dependency||N/A|a").phase, Phase::Pending);
        assert_eq!(of("17|PENDING|DependencyNeverSatisfied||N/A|a").phase, Phase::Stuck);
        assert_eq!(of("17|PENDING|launch failed requeued held||N/A|a").phase, Phase::Stuck);
        assert_eq!(of("17|OUT_OF_MEMORY|OutOfMemory|n1|x|a").phase, Phase::Ended);
        assert_eq!(of("17|COMPLETED|None|n1|x|a").phase, Phase::Completed);
        assert_eq!(job("slurm_load_jobs error"), None);
    }

    #[test]
    fn messages_are_told_apart() {
        let kind = |m: &str| std::mem::discriminant(&refusal("sbatch", m));
        let never =
            kind("error: Batch job submission failed: Invalid account or account/partition combination specified");
        assert_eq!(never, std::mem::discriminant(&Refusal::Never(String::new())));
        let away = kind("error: Unable to contact slurm controller (connect failure)");
        assert_eq!(away, std::mem::discriminant(&Refusal::Unreachable(String::new())));
        let full = kind("Slurm temporarily unable to accept job, sleeping and retrying");
        assert_eq!(full, std::mem::discriminant(&Refusal::Full(String::new())));
    }

    #[test]
    fn words_of_sh_are_quoted() {
        assert_eq!(
            (quoted("/a/b-1.c"), quoted("it's"), quoted("")),
            ("/a/b-1.c".into(), r"'it'\''s'".into(), "''".into())
        );
    }
}
