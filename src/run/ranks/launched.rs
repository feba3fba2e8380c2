//! The executor whose cells with several ranks are processes of a launcher; all others run in this process.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    time::Duration,
};

use super::{
    super::{
        executor::{Executor, InProcess, Made, Task, World, publish},
        meter::Meter,
    },
    STOP, Told,
};
use crate::{
    error::{Error, Result},
    kind::AnyKind,
    store::record::Record,
};

/// Starts ranks by these words, in which `{ranks}` is their number: `mpirun -n {ranks} scaleshot-mpi`.
pub struct Launched {
    words: Vec<String>,
}

/// Between two looks at whether the launcher has ended or has to.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of stderr that may hold the cause.
const TAIL: usize = 60;

impl Launched {
    /// # Errors
    /// There are no words.
    pub fn new(words: &str) -> Result<Self> {
        let words: Vec<String> = words.split_whitespace().map(Into::into).collect();
        match words.is_empty() {
            true => {
                Err(Error::invalid("no words to start ranks with").with_hint("as in: mpirun -n {ranks} scaleshot-mpi"))
            }
            false => Ok(Launched { words }),
        }
    }

    fn start(&self, ranks: u32, task: &Task, world: &World) -> Result<Child> {
        let words: Vec<String> = self.words.iter().map(|w| w.replace("{ranks}", &ranks.to_string())).collect();
        let place = world.store.folder().map_or_else(|| world.store.url().into(), |f| f.display().to_string());
        let threads = (world.threads / ranks as usize).max(1).to_string();
        world.log.line(&format!("$ {} {} --store {place} --threads {threads}", words.join(" "), task.key));
        Command::new(&words[0])
            .args(&words[1..])
            .arg(task.key.hex())
            .args(["--store", &place, "--threads", &threads])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is for this process, which passes it on as a word.
            .process_group(0)
            .spawn()
            .map_err(|e| {
                Error::invalid(format!("cannot start the ranks: {}: {e}", words[0]))
                    .with_hint("is the launcher's module loaded? `make mpi` builds scaleshot-mpi")
            })
    }
}

impl Executor for Launched {
    fn execute(&self, kind: &'static dyn AnyKind, task: &Task, world: &World) -> Result<Record> {
        let ranks = kind.ranks(&task.params)?;
        if ranks < 2 {
            return InProcess.execute(kind, task, world);
        }
        let meter = Meter::start();
        world.store.put_task(&task.key, task)?;
        let made = follow(self.start(ranks, task, world)?, world)?;
        publish(kind, task, world, made, meter)
    }
}

/// Follows the ranks to what they made.
fn follow(mut child: Child, world: &World) -> Result<Made> {
    let (mut stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (end, tail) = (Mutex::new(None), Mutex::new(VecDeque::new()));
    let status = std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in out.into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok) {
                if let Some(last) = hear(&line, world) {
                    *end.lock().unwrap_or_else(|e| e.into_inner()) = Some(last);
                }
            }
        });
        scope.spawn(|| {
            for line in err.into_iter().flat_map(|err| BufReader::new(err).lines()).map_while(Result::ok) {
                world.progress.log(&format!("stderr: {line}"));
                let mut tail = tail.lock().unwrap_or_else(|e| e.into_inner());
                tail.push_back(line);
                if tail.len() > TAIL {
                    tail.pop_front();
                }
            }
        });
        loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) => {}
                Err(e) => break Err(Error::io("the ranks' launcher")(e)),
            }
            if world.cancel.requested()
                && let Some(mut stdin) = stdin.take()
            {
                // Refused where they have ended; closing it says the same.
                let _ = writeln!(stdin, "{STOP}");
            }
            std::thread::sleep(LOOK);
        }
    })?;
    let tail = tail.into_inner().unwrap_or_else(|e| e.into_inner());
    match end.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(Told::Done(made)) => Ok(*made),
        Some(Told::Stopped) => Err(Error::Interrupted),
        // A rank that fails takes the first one down with it, whose own error tells less.
        Some(Told::Failed { error, hint }) if named(&tail).is_none() => {
            let e = Error::invalid(error);
            Err(match hint {
                Some(hint) => e.with_hint(hint),
                None => e,
            })
        }
        _ => Err(lost(&tail, status)),
    }
}

/// Passes a line of rank 0 on, or gives it back where it tells of the end.
fn hear(line: &str, world: &World) -> Option<Told> {
    match serde_json::from_str(line) {
        Ok(Told::Begin(total, unit)) => world.progress.begin(total, unit_of(&unit)),
        Ok(Told::Advance(by)) => world.progress.advance(by),
        Ok(Told::Log(line)) => world.progress.log(&line),
        Ok(end) => return Some(end),
        // A launcher's own words.
        Err(_) => world.progress.log(line),
    }
    None
}

/// Units that kinds count in.
fn unit_of(unit: &str) -> &'static str {
    ["steps", "images", "rows"].into_iter().find(|u| *u == unit).unwrap_or("parts")
}

fn lost(tail: &VecDeque<String>, status: ExitStatus) -> Error {
    let told = named(tail).unwrap_or_else(|| {
        let how = match status.signal() {
            Some(signal) => format!("was killed by signal {signal}"),
            None => format!("ended with exit code {}", status.code().unwrap_or(-1)),
        };
        let last = tail.iter().rev().find(|l| !l.trim().is_empty());
        format!("the ranks' launcher {how}{}", last.map(|l| format!(": {}", l.trim())).unwrap_or_default())
    });
    Error::invalid(told).with_hint("run again: it continues from its last checkpoint; the log has all that was said")
}

/// Which rank ended, by its own last words or by what launchers say.
fn named(tail: &VecDeque<String>) -> Option<String> {
    let own = tail.iter().find_map(|line| {
        let (_, rest) = line.split_once("error: rank ")?;
        let (rank, why) = rest.split_once(": ")?;
        Some(format!("rank {} ended: {why}", rank.parse::<u32>().ok()?))
    });
    // Open MPI: "mpirun noticed that process rank 1 with PID 0 on node n1 exited on signal 9 (Killed)."
    let open_mpi = || {
        tail.iter().find_map(|line| {
            let (_, rest) = line.split_once("process rank ")?;
            let rank: u32 = rest.split_whitespace().next()?.parse().ok()?;
            let how = rest.split_once(" exited ").map(|(_, how)| how.trim_end_matches('.'));
            Some(match how {
                Some(how) => format!("rank {rank} was lost: exited {how}"),
                None => format!("rank {rank} was lost"),
            })
        })
    };
    // Slurm: "srun: error: n1: task 1: Killed"
    let slurm = || {
        tail.iter().find_map(|line| {
            let (_, rest) = line.strip_prefix("srun: error: ")?.split_once(": task ")?;
            let (rank, why) = rest.split_once(": ")?;
            Some(format!("rank {} was lost: {why}", rank.parse::<u32>().ok()?))
        })
    };
    own.or_else(open_mpi).or_else(slurm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_that_ended_is_named_by_its_own_words_or_the_launchers() {
        let of = |lines: &[&str]| named(&lines.iter().map(|l| l.to_string()).collect());
        let killed = "mpirun noticed that process rank 1 with PID 0 on node n1 exited on signal 9 (Killed).";
        assert_eq!(of(&["--------", killed]).unwrap(), "rank 1 was lost: exited on signal 9 (Killed)");
        assert_eq!(
            of(&["error: rank 2: image 7 is torn", "MPI_ABORT was invoked on rank 2", killed]).unwrap(),
            "rank 2 ended: image 7 is torn"
        );
        assert_eq!(of(&["srun: error: n2: task 3: Killed"]).unwrap(), "rank 3 was lost: Killed");
        assert_eq!(of(&["there are no slots"]), None);
        let e = lost(&["no slots".to_string()].into(), ExitStatus::from_raw(256));
        assert_eq!(e.to_string(), "the ranks' launcher ended with exit code 1: no slots");
        assert!(Launched::new("  ").is_err());
    }
}
