//! The cluster of the scenarios: its daemons, its queue, and one scenario at a time on it.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The cluster to oneself. Tells how long that was.
pub struct Alone {
    began: Instant,
    _guard: MutexGuard<'static, ()>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let name = std::thread::current().name().unwrap_or("?").to_string();
        eprintln!("scenario {name}: {:.1} s", self.began.elapsed().as_secs_f64());
    }
}

/// `None` where there is no cluster.
pub fn cluster() -> Option<Alone> {
    if std::env::var_os("SCALESHOT_TEST_CLUSTER").is_none() {
        eprintln!("left out: make test-cluster starts a cluster for this");
        return None;
    }
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    // What another scenario left behind where it failed is not this one's.
    if !alive("slurmctld") {
        start_controller();
    }
    for node in NODES.into_iter().filter(|node| !alive(&format!("slurmd.{node}"))) {
        start_node(node);
    }
    slurm(&["scontrol", "update", "partition=cpu", "state=up"]);
    slurm(&["scancel", "--user", &slurm(&["id", "-un"])]);
    wait_for("an empty queue", || slurm(&["squeue", "-h", "-t", "PD,R,CG"]).is_empty());
    wait_for("both nodes, idle", || slurm(&["sinfo", "-h", "-p", "cpu", "-t", "idle", "-o", "%D"]) == "2");
    Some(Alone { began: Instant::now(), _guard: guard })
}

/// As `up.sh` names them.
const NODES: [&str; 2] = ["n1", "n2"];

/// Number of a daemon's process, by its pid file.
pub fn daemon(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("pid/{name}.pid"))).unwrap_or_default().trim().into()
}

/// Whether a daemon's process is there; one that was not reaped yet is gone.
pub fn alive(name: &str) -> bool {
    let pid = daemon(name);
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !pid.is_empty() && state.rsplit(") ").next().is_some_and(|s| !s.is_empty() && !s.starts_with('Z'))
}

fn start_daemon(program: &str, words: &[&str]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let conf = folder().join("etc/slurm.conf");
    let started = Command::new(program).args(words).arg("-f").arg(conf).env("PATH", path).status().unwrap();
    assert!(started.success(), "{program} did not start: {started}");
}

pub fn start_controller() {
    start_daemon("slurmctld", &[]);
    wait_for("the controller", || slurm(&["scontrol", "ping"]).contains("UP"));
}

pub fn start_node(node: &str) {
    start_daemon("slurmd", &["-N", node]);
}

/// What a command says.
pub fn slurm(words: &[&str]) -> String {
    let out = Command::new(words[0]).args(&words[1..]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().to_string()
}

/// No scenario waits so long for anything unless it never comes: Slurm forgets ended jobs once a minute, and a
/// machine that does other things as well may be several times slower.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Until `ready`.
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let began = Instant::now();
    while !ready() {
        assert!(began.elapsed() < PATIENCE, "{what} did not come; queue:\n{}", slurm(&["squeue"]));
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn folder() -> PathBuf {
    std::env::var_os("SCALESHOT_TEST_CLUSTER").unwrap().into()
}
