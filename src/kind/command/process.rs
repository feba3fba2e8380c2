//! One outside process from its start to the end of all its children.
//!
//! It leads a family of processes ([`super::family`]), and a stop reaches all of it: politely first, then for good.
//! Whatever is left of the family when the leader ends is ended with it.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    ops::Range,
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::Signal,
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

use super::{
    super::{Cell, Outside},
    family::{self, Family},
};
use crate::error::{Error, Result};

/// Between two looks at whether it has ended or has to: short at first, so that a short program costs little.
const LOOK: Range<Duration> = Duration::from_micros(200)..Duration::from_millis(10);
/// The first look at what it takes: what ends before is asked for its processor time alone.
const FIRST_WEIGH: Duration = Duration::from_millis(5);
/// Between two looks at what it takes, at most.
const WEIGH: Duration = Duration::from_millis(100);
/// How long a stopped program may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);
/// How long its output is read on once it has ended. Its pipes are closed then, unless a process that could not be
/// found holds them.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Lines that wait to be logged.
const WAITING: usize = 1024;
/// Lines of stderr in an error.
const TAIL: usize = 12;
/// A longer line is cut in the log.
const LINE_BYTES: u64 = 4096;

/// Families that run now, for a program that has to end at once.
static FAMILIES: Mutex<Vec<Family>> = Mutex::new(Vec::new());

/// Kills every family that is still running. For the last moment of a program that ends without unwinding.
pub fn kill_all() {
    for family in FAMILIES.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        family.signal(Signal::SIGKILL);
    }
}

/// A started program, with its family.
struct Running {
    child: Child,
    family: Family,
    /// All of it has ended, and nobody has to look again: a look reads all of `/proc`.
    over: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The leader has been waited for, or is killed with the rest; its children must not outlive the cell.
        if !self.over {
            self.family.end();
            let _ = self.child.wait();
        }
        let leader = self.child.id();
        FAMILIES.lock().unwrap_or_else(PoisonError::into_inner).retain(|family| !family.is_of(leader));
    }
}

/// A line that the program printed.
struct Line {
    of_stderr: bool,
    text: String,
}

/// Runs a program to its end in `folder`, with this environment and no other.
///
/// # Errors
/// [`Error::Command`] where it cannot be started or does not end with 0; [`Error::Interrupted`] where the cell is
/// to stop.
pub fn run(words: &[String], folder: &Path, environment: &[(String, String)], cell: &Cell) -> Result<()> {
    let (program, arguments) = words.split_first().ok_or_else(|| Error::invalid("there is nothing to run"))?;
    cell.cancel.check()?;
    if cell.begun_before && Family::left_by(cell.scratch).end() {
        cell.progress.log("ended what an earlier attempt, killed by force, had left running");
    }
    cell.progress.log(&format!("$ {}", words.join(" ")));
    let mut command = Command::new(found(program, environment));
    command
        .arg0(program)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = command.spawn().map_err(|e| not_started(program, environment, &e))?;
    let family = Family::of(child.id(), cell.scratch);
    FAMILIES.lock().unwrap_or_else(PoisonError::into_inner).push(family.clone());
    let mut running = Running { child, family, over: false };
    let (tell, told) = mpsc::sync_channel(WAITING);
    read(running.child.stdout.take(), false, tell.clone())?;
    read(running.child.stderr.take(), true, tell)?;
    let mut tail = VecDeque::new();
    let mut hear = |line: Line| {
        cell.progress.log(&format!("{}{}", if line.of_stderr { "stderr: " } else { "" }, line.text));
        if line.of_stderr {
            tail.push_back(line.text);
            if tail.len() > TAIL {
                tail.pop_front();
            }
        }
    };
    let status = wait(&mut running, &told, &mut hear, cell)?;
    if status.success() {
        return Ok(());
    }
    Err(failed(program, status, &tail))
}

/// The program's path. With a bare name and an environment of its own, the standard library would fork this whole
/// process, whose memory takes milliseconds to copy, to look through `PATH` behind the fork.
fn found(program: &str, environment: &[(String, String)]) -> PathBuf {
    let executable = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    let path = environment.iter().rev().find(|(name, _)| name == "PATH").filter(|_| !program.contains('/'));
    let folders = path.map(|(_, path)| std::env::split_paths(path)).into_iter().flatten();
    // Relative ones are left to whoever looks from the command's own folder.
    let mut paths = folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(program));
    paths.find(executable).unwrap_or_else(|| program.into())
}

/// Waits for the leader, and ends what is left of its family; stops all of it when the cell is to stop.
fn wait(
    running: &mut Running,
    told: &mpsc::Receiver<Line>,
    hear: &mut impl FnMut(Line),
    cell: &Cell,
) -> Result<ExitStatus> {
    let leader = running.child.id();
    let began = Instant::now();
    let mut stopped: Option<Instant> = None;
    let mut usage = Outside::default();
    let mut weigh_at = began + FIRST_WEIGH;
    let mut look = LOOK.start;
    // What has ended and was not waited for yet can still be asked what it took.
    while !ended(leader)? {
        if stopped.is_none() && cell.cancel.requested() {
            stopped = Some(Instant::now());
            running.family.signal(Signal::SIGTERM);
        }
        if stopped.is_some_and(|at| at.elapsed() > GRACE) {
            running.family.signal(Signal::SIGKILL);
        }
        let now = Instant::now();
        if now >= weigh_at {
            usage.rise(running.family.weigh());
            weigh_at = family::next_look(began, now, WEIGH);
        }
        match told.recv_timeout(look) {
            Ok(line) => hear(line),
            Err(mpsc::RecvTimeoutError::Timeout) => look = (look * 3 / 2).min(LOOK.end),
            // It has closed its output and goes on.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                std::thread::sleep(look);
                look = (look * 3 / 2).min(LOOK.end);
            }
        }
    }
    let mut last = running.family.weigh();
    last.cpu = last.cpu.max(family::ended_cpu(leader));
    usage.rise(last);
    cell.add_outside(usage);
    let status = running.child.wait().map_err(Error::io("the command"))?;
    // Children that are left hold the pipes open, and the readers with them.
    running.family.end();
    running.over = true;
    let until = Instant::now() + LAST_WORDS;
    loop {
        match told.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => hear(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                cell.progress.log("its output is held open by a process that is none of its children any more");
                break;
            }
        }
    }
    if stopped.is_some() { Err(Error::Interrupted) } else { Ok(status) }
}

/// Whether a child has ended. It stays to be waited for.
pub fn ended(pid: u32) -> Result<bool> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(Pid::from_raw(pid as i32)), flags) {
        Ok(WaitStatus::StillAlive) => Ok(false),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Ok(_) => Ok(true),
        Err(e) => Err(Error::io("the command")(e.into())),
    }
}

/// Passes lines on from a thread of its own, which ends with the pipe. It is waited for by nobody: a process that
/// cannot be found may hold the pipe for ever.
fn read(pipe: Option<impl Read + Send + 'static>, of_stderr: bool, tell: mpsc::SyncSender<Line>) -> Result<()> {
    let Some(pipe) = pipe else { return Ok(()) };
    let body = move || {
        let mut reader = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            match reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            // Progress bars of programs overwrite their line; the last state is what counts.
            let text = text.trim_end_matches(['\n', '\r']);
            let text = text.rsplit('\r').next().unwrap_or(text).to_string();
            if tell.send(Line { of_stderr, text }).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("output".into()).spawn(body).map_err(Error::io("the command"))?;
    Ok(())
}

fn not_started(program: &str, environment: &[(String, String)], e: &std::io::Error) -> Error {
    let hint = (e.kind() == std::io::ErrorKind::NotFound).then(|| {
        let path = environment.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path);
        format!("it is looked for in {path}; write its path, or {{root}}/{program} where it is one of yours")
    });
    Error::Command { message: format!("cannot start {program}: {e}"), code: None, hint }
}

fn failed(program: &str, status: ExitStatus, tail: &VecDeque<String>) -> Error {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "did not end well".to_string(),
    };
    let mut message = format!("{program} {how}");
    if tail.iter().any(|line| !line.trim().is_empty()) {
        message.push_str("; the end of its stderr:");
        tail.iter().for_each(|line| message.push_str(&format!("\n  {line}")));
    }
    Error::Command { message, code: status.code(), hint: Some("the whole of what it printed is in the log".into()) }
}
