//! Owners of leases: this process as others see it, and others as this process sees them.
//!
//! `owners/TOKEN.json` tells who the process is and holds a counter, which a thread raises for as long as the
//! process lives (its **beat**). Whoever wants something of another owner's looks at the counter twice: raised in
//! between, the owner lives; the same after the owner's own bound, measured by the looker's monotonic clock, it is
//! dead. No two clocks are compared, so a clock that jumps does no harm. A process of this machine that is gone is
//! dead at once, and so is an owner without its object, which is the first thing to be written and the last to go.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{fault, objects::Objects};
use crate::{
    digest::{Digest, canonical},
    error::Result,
};

/// Who holds leases: one a process and store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// 128 random bits in hex.
    pub token: String,
    pub host: String,
    /// Where process numbers mean the same: the kernel's boot and the process namespace. Empty where unknown.
    pub machine: String,
    pub pid: u32,
    /// In clock ticks since boot: tells the process from a later one with its number.
    pub pid_start: u64,
    /// For people; nothing is decided by it.
    pub started_unix_ms: u64,
    /// `SLURM_JOB_ID`, with the task of an array where it is one: `17_4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slurm_job: Option<String>,
    /// Seconds without a beat after which the owner wants to be taken for dead.
    pub bound_s: u64,
}

/// How long an owner may be silent, unless `SCALESHOT_LEASE_S` says otherwise. It beats six times as often.
const BOUND_S: u64 = 60;
const BEATS_PER_BOUND: u32 = 6;

impl Owner {
    /// This process.
    fn this() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let job = set("SLURM_ARRAY_JOB_ID").zip(set("SLURM_ARRAY_TASK_ID")).map(|(job, task)| format!("{job}_{task}"));
        let pid = std::process::id();
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Owner {
            token: random_token(),
            host: read("/proc/sys/kernel/hostname"),
            machine: machine().into(),
            pid,
            pid_start: pid_start(pid).unwrap_or(0),
            started_unix_ms: started.map_or(0, |d| d.as_millis() as u64),
            slurm_job: job.or_else(|| set("SLURM_JOB_ID")),
            bound_s: set("SCALESHOT_LEASE_S").and_then(|s| s.parse().ok()).filter(|s| *s > 0).unwrap_or(BOUND_S),
        }
    }

    pub fn bound(&self) -> Duration {
        Duration::from_secs(self.bound_s)
    }

    /// `Some` where this machine's own process table tells.
    pub(super) fn lives_here(&self) -> Option<bool> {
        if self.machine.is_empty() || self.machine != machine() {
            return None;
        }
        Some(pid_start(self.pid) == Some(self.pid_start))
    }

    /// For messages: `host, process 17` or `host, Slurm job 4`.
    pub fn told(&self) -> String {
        match &self.slurm_job {
            Some(job) => format!("{}, Slurm job {job}", self.host),
            None => format!("{}, process {}", self.host, self.pid),
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|t| t.trim().to_string()).unwrap_or_default()
}

fn machine() -> &'static str {
    static MACHINE: OnceLock<String> = OnceLock::new();
    MACHINE.get_or_init(|| {
        let boot = read("/proc/sys/kernel/random/boot_id");
        match std::fs::read_link("/proc/self/ns/pid") {
            Ok(namespace) if !boot.is_empty() => format!("{boot} {}", namespace.display()),
            _ => String::new(),
        }
    })
}

/// Field 22 of `/proc/PID/stat`, which stands after the name in brackets. A zombie counts as gone.
fn pid_start(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// From the kernel; where it has none to give, from addresses and times, which differ between processes.
fn random_token() -> String {
    use std::io::Read;
    let mut bytes = [0u8; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    if read.is_err() {
        let text = format!("{:?} {} {:p}", Instant::now(), std::process::id(), &bytes);
        bytes.copy_from_slice(&Digest::of(text.as_bytes()).0[..16]);
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What `owners/TOKEN.json` and a lease hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Beat {
    pub owner: Owner,
    pub beat: u64,
    /// It takes out of the store what it finds that nobody needs: see [`super::collector`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub collects: bool,
}

impl Beat {
    pub fn text(&self) -> Result<Vec<u8>> {
        Ok(canonical(&serde_json::to_value(self)?).into_bytes())
    }

    /// `None` where it is torn, which counts as a beat that is not known.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

pub(super) fn owner_name(token: &str) -> String {
    format!("owners/{token}.json")
}

/// This process as an owner, beating until it is dropped.
pub(super) struct Own {
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<()>>,
}

/// What the beating thread shares.
struct Pulse {
    owner: Owner,
    objects: Arc<Objects>,
    beat: AtomicU64,
    collects: AtomicBool,
    last: Mutex<Instant>,
    stop: Mutex<bool>,
    stopped: Condvar,
}

impl Own {
    /// Makes this process known in the store and begins to beat.
    pub fn begin(objects: &Arc<Objects>) -> Result<Self> {
        let pulse = Arc::new(Pulse {
            owner: Owner::this(),
            objects: objects.clone(),
            beat: AtomicU64::new(0),
            collects: AtomicBool::new(false),
            last: Mutex::new(Instant::now()),
            stop: Mutex::new(false),
            stopped: Condvar::new(),
        });
        pulse.write()?;
        fault::point("lease.owned");
        let beating = pulse.clone();
        let thread = std::thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || beating.run())
            .map_err(|e| crate::error::Error::invalid(format!("cannot start a thread: {e}")))?;
        Ok(Own { pulse, thread: Some(thread) })
    }

    pub fn owner(&self) -> &Owner {
        &self.pulse.owner
    }

    /// The content of a lease of this owner.
    pub fn text(&self) -> Result<Vec<u8>> {
        Beat { owner: self.pulse.owner.clone(), beat: 0, collects: false }.text()
    }

    /// Writes the owner's object again, where somebody took this process for dead and removed it.
    pub fn renew(&self) -> Result<()> {
        self.pulse.write()
    }

    /// Tells others whether this process collects, at once.
    pub fn collects(&self, does: bool) -> Result<()> {
        self.pulse.collects.store(does, Ordering::Relaxed);
        self.pulse.write()
    }

    /// Whether the last beat is so young that nobody can have taken this process for dead.
    pub fn sure(&self) -> bool {
        lock(&self.pulse.last).elapsed() < self.pulse.owner.bound() / 2
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        *lock(&self.pulse.stop) = true;
        self.pulse.stopped.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; it leaves nothing to do here.
            let _ = thread.join();
        }
        // What stays behind is taken for dead: the process is about to be.
        let _ = self.pulse.objects.delete(&owner_name(&self.pulse.owner.token));
    }
}

impl Pulse {
    fn write(&self) -> Result<()> {
        // Before the write: a looker may have seen the old count until then.
        let now = Instant::now();
        let beat = self.beat.fetch_add(1, Ordering::Relaxed) + 1;
        let collects = self.collects.load(Ordering::Relaxed);
        let told = Beat { owner: self.owner.clone(), beat, collects };
        self.objects.put(&owner_name(&self.owner.token), told.text()?)?;
        *lock(&self.last) = now;
        Ok(())
    }

    fn run(&self) {
        let pause = self.owner.bound() / BEATS_PER_BOUND;
        let mut stop = lock(&self.stop);
        while !*stop {
            stop = self.stopped.wait_timeout(stop, pause).unwrap_or_else(|e| e.into_inner()).0;
            if !*stop {
                drop(stop);
                // A beat that cannot be written is tried again with the next; until then `sure` turns false.
                let _ = self.write();
                stop = lock(&self.stop);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself_and_the_dead() {
        let this = Owner::this();
        assert_eq!(this.lives_here(), Some(true));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let start = pid_start(child.id()).unwrap();
        let other = Owner { pid: child.id(), pid_start: start, ..this.clone() };
        assert_eq!(other.lives_here(), Some(true));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(other.lives_here(), Some(false));
        // The number of a dead process may be given out again, and then it started later.
        assert_eq!(Owner { pid_start: this.pid_start + 1, ..this.clone() }.lives_here(), Some(false));
        assert_eq!(Owner { machine: "another".into(), ..this.clone() }.lives_here(), None);
        assert_ne!(Owner::this().token, this.token);
    }
}
