//! One outside process from its start to the end of all its children.
//!
//! It leads a process group of its own, so that a stop reaches what it started too. Stopped politely first, then
//! for good; whatever is left of the group when the leader ends is ended with it.

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
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::super::{Cell, Outside};
use crate::{
    error::{Error, Result},
    progress::Progress,
};

/// Between two looks at whether it has ended or has to: short at first, so that a short program costs little.
const LOOK: Range<Duration> = Duration::from_micros(200)..Duration::from_millis(10);
/// Between two looks at what it takes.
const WEIGH: Duration = Duration::from_millis(100);
/// How long a stopped program may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of stderr in an error.
const TAIL: usize = 12;
/// A longer line is cut in the log.
const LINE_BYTES: u64 = 4096;

/// Process groups that run now, for a program that has to end at once.
static GROUPS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// Kills every group that is still running. For the last moment of a program that ends without unwinding.
pub fn kill_all() {
    for &group in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// A started program, with its group.
struct Running {
    child: Child,
    group: i32,
}

impl Running {
    fn signal(&self, signal: Signal) {
        // Gone already is as good as ended.
        let _ = killpg(Pid::from_raw(self.group), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The leader has been waited for, or is killed with the rest; its children must not outlive the cell.
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner).retain(|g| *g != self.group);
    }
}

/// Runs a program to its end in `folder`, with this environment and no other.
///
/// # Errors
/// [`Error::Command`] where it cannot be started or does not end with 0; [`Error::Interrupted`] where the cell is
/// to stop.
pub fn run(words: &[String], folder: &Path, environment: &[(String, String)], cell: &Cell) -> Result<()> {
    let (program, arguments) = words.split_first().ok_or_else(|| Error::invalid("there is nothing to run"))?;
    cell.cancel.check()?;
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
    let group = child.id() as i32;
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner).push(group);
    let mut running = Running { child, group };
    let (out, err) = (running.child.stdout.take(), running.child.stderr.take());
    let tail = Mutex::new(VecDeque::new());
    let status = std::thread::scope(|scope| {
        scope.spawn(|| read(out, "", cell.progress, None));
        scope.spawn(|| read(err, "stderr: ", cell.progress, Some(&tail)));
        let status = wait(&mut running, cell);
        // Children that are left hold the pipes open, and the readers with them.
        running.signal(Signal::SIGKILL);
        status
    })?;
    if status.success() {
        return Ok(());
    }
    Err(failed(program, status, &tail.into_inner().unwrap_or_else(PoisonError::into_inner)))
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

/// Waits for the leader; stops the group when the cell is to stop.
fn wait(running: &mut Running, cell: &Cell) -> Result<ExitStatus> {
    let mut stopped: Option<Instant> = None;
    let mut weighed = Instant::now();
    let mut usage = Outside::default();
    let mut look = LOOK.start;
    loop {
        if let Some(status) = running.child.try_wait().map_err(Error::io("the command"))? {
            cell.add_outside(usage);
            return if stopped.is_some() { Err(Error::Interrupted) } else { Ok(status) };
        }
        if stopped.is_none() && cell.cancel.requested() {
            stopped = Some(Instant::now());
            running.signal(Signal::SIGTERM);
        }
        if stopped.is_some_and(|at| at.elapsed() > GRACE) {
            running.signal(Signal::SIGKILL);
        }
        if usage == Outside::default() || weighed.elapsed() >= WEIGH {
            weighed = Instant::now();
            let now = weigh(running.child.id());
            usage.cpu = usage.cpu.max(now.cpu);
            usage.peak_rss_bytes = usage.peak_rss_bytes.max(now.peak_rss_bytes);
        }
        std::thread::sleep(look);
        look = (look * 3 / 2).min(LOOK.end);
    }
}

/// Processor time and memory of a process and its children, as far as `/proc` tells.
fn weigh(pid: u32) -> Outside {
    /// Clock ticks a second, which Linux has fixed for user space.
    const TICKS: u64 = 100;
    let mut sum = Outside::default();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name in parentheses may hold anything; what follows it is numbers.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        // Own user and system time, then that of children that have been waited for.
        let ticks = number(11) + number(12) + number(13) + number(14);
        sum.cpu += Duration::from_millis(ticks * 1000 / TICKS);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib =
            status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        sum.peak_rss_bytes += kib.unwrap_or(0) * 1024;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        open.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
    }
    sum
}

/// Passes lines on to the log, and keeps the last ones.
fn read(pipe: Option<impl Read>, mark: &str, log: &dyn Progress, tail: Option<&Mutex<VecDeque<String>>>) {
    let Some(pipe) = pipe else { return };
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
        let text = text.rsplit('\r').next().unwrap_or(text);
        log.log(&format!("{mark}{text}"));
        if let Some(tail) = tail {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.push_back(text.to_string());
            if tail.len() > TAIL {
                tail.pop_front();
            }
        }
    }
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
