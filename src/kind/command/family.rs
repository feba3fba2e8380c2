//! Every process that came of a started program, as `/proc` tells.
//!
//! A process belongs to the family by its group, by its parents, or by the `SCALESHOT_SCRATCH` in its environment,
//! which no two cells share: a child with a session of its own (`setsid`, a daemon) leaves the group, an orphan
//! loses its parents, and both keep the environment. What sheds all three is not found. Where there is no `/proc`,
//! the group alone is known.

use std::{
    collections::HashSet,
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::super::Outside;
use crate::memory;

/// The variable that marks a family.
pub const MARK: &str = "SCALESHOT_SCRATCH";

/// Between two looks at whether the killed are gone, and how long they are looked at.
const ROUND: Duration = Duration::from_millis(2);
const ROUNDS: usize = 500;

#[derive(Clone, Debug)]
pub struct Family {
    /// Leads the group; `None` where it is long gone.
    leader: Option<u32>,
    /// `SCALESHOT_SCRATCH=…`.
    mark: Vec<u8>,
}

/// One line of `/proc/PID/stat`.
struct Stat {
    pid: u32,
    ended: bool,
    parent: u32,
    group: u32,
    /// Its own processor time, and that of children that it has waited for.
    cpu: Duration,
}

impl Family {
    /// Of a program that was started as the leader of a group.
    pub fn of(leader: u32, scratch: &Path) -> Self {
        Family { leader: Some(leader), ..Self::left_by(scratch) }
    }

    /// Of a program whose scaleshot was killed by force while it ran the cell of this scratch folder.
    pub fn left_by(scratch: &Path) -> Self {
        Family { leader: None, mark: format!("{MARK}={}", scratch.display()).into_bytes() }
    }

    pub fn is_of(&self, leader: u32) -> bool {
        self.leader == Some(leader)
    }

    /// Sends a signal to all of it.
    pub fn signal(&self, signal: Signal) {
        // Gone already is as good as ended.
        if let Some(leader) = self.leader {
            let _ = killpg(Pid::from_raw(leader as i32), signal);
        }
        for stat in self.members().iter().filter(|s| !s.ended && self.leader != Some(s.group)) {
            let _ = kill(Pid::from_raw(stat.pid as i32), signal);
        }
    }

    /// Kills all of it, and returns once nothing of it lives; whether anything did.
    pub fn end(&self) -> bool {
        let mut lived = false;
        for _ in 0..ROUNDS {
            // It forks while it is looked at, so a look that finds nothing is the only proof.
            if !self.members().iter().any(|s| !s.ended) {
                return lived;
            }
            lived = true;
            self.signal(Signal::SIGKILL);
            std::thread::sleep(ROUND);
        }
        lived
    }

    /// What those of it that live take now. Their processor time includes that of children that were waited for.
    pub fn weigh(&self) -> Outside {
        let mut sum = Outside { ran: true, ..Outside::default() };
        for stat in self.members() {
            sum.cpu += stat.cpu;
            sum.peak_rss_bytes += memory::resident_bytes(stat.pid).unwrap_or(0);
        }
        sum
    }

    fn members(&self) -> Vec<Stat> {
        let own = std::process::id();
        // Children are younger than their parents, and their numbers larger until numbers begin again.
        let first = self.leader.filter(|leader| *leader < most_pids() / 10 * 9).unwrap_or(0);
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let mut others: Vec<Stat> = pids.filter(|pid| *pid >= first && *pid != own).filter_map(stat).collect();
        others.sort_by_key(|stat| stat.pid);
        let mut known: HashSet<u32> = self.leader.into_iter().collect();
        let mut members = Vec::new();
        loop {
            let before = members.len();
            let (found, rest) = others.into_iter().partition::<Vec<_>, _>(|stat| {
                let belongs = self.leader.is_some_and(|leader| stat.group == leader || stat.pid == leader)
                    || known.contains(&stat.parent)
                    || before == 0 && self.marked(stat.pid);
                if belongs {
                    known.insert(stat.pid);
                }
                belongs
            });
            others = rest;
            members.extend(found);
            if members.len() == before {
                return members;
            }
        }
    }

    fn marked(&self, pid: u32) -> bool {
        // Of other users it cannot be read, and theirs it is not.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == self.mark)
    }
}

/// Processor time of a process that has ended and was not waited for yet.
pub fn ended_cpu(pid: u32) -> Duration {
    // Of its own thread to the nanosecond; the rest is in ticks.
    let own = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let own = Duration::from_nanos(own.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0));
    let (stat, waited) =
        stat_text(pid).and_then(|text| parse(pid, &text)).map_or_else(Default::default, |(s, w)| (s.cpu, w));
    own.max(stat.saturating_sub(waited)) + waited
}

/// The largest that processes of one family may be numbered.
fn most_pids() -> u32 {
    static MOST: OnceLock<u32> = OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok();
    *MOST.get_or_init(|| read().unwrap_or(0))
}

fn stat_text(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

fn stat(pid: u32) -> Option<Stat> {
    Some(parse(pid, &stat_text(pid)?)?.0)
}

/// What a line says, and how much of the processor time is that of children that were waited for.
fn parse(pid: u32, text: &str) -> Option<(Stat, Duration)> {
    /// Clock ticks a second, which Linux has fixed for user space.
    const TICKS: u64 = 100;
    // The name in parentheses may hold anything; what follows it is numbers.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS);
    let waited = time(number(13) + number(14));
    let stat = Stat {
        pid,
        ended: matches!(fields.first(), Some(&("Z" | "X"))),
        parent: number(1) as u32,
        group: number(2) as u32,
        cpu: time(number(11) + number(12)) + waited,
    };
    Some((stat, waited))
}

/// When what a family takes is to be looked at again: soon while it is young, since it may end soon.
pub fn next_look(began: Instant, now: Instant, most: Duration) -> Instant {
    now + (now.saturating_duration_since(began) / 2).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_process_is_read_whatever_its_name_holds() {
        let text = "7 (a) b (c) Z 5 6 7 0 -1 4227084 61 0 1 0 31 2 4 1 20 0 1 0 5086951 0 0";
        let (stat, waited) = parse(7, text).unwrap();
        assert_eq!((stat.ended, stat.parent, stat.group), (true, 5, 6));
        assert_eq!((stat.cpu, waited), (Duration::from_millis(380), Duration::from_millis(50)));
        assert!(parse(7, "").is_none());
    }

    #[test]
    fn an_orphan_with_a_session_of_its_own_is_found_by_its_environment_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let line = "setsid sleep 1000 & echo $! > pid";
        let mut parent = std::process::Command::new("sh")
            .args(["-c", line])
            .current_dir(&folder)
            .env(MARK, folder.path())
            .spawn()
            .unwrap();
        parent.wait().unwrap();
        let orphan: u32 = std::fs::read_to_string(folder.path().join("pid")).unwrap().trim().parse().unwrap();
        assert!(stat(orphan).is_some_and(|s| !s.ended));
        assert!(!Family::left_by(Path::new("/elsewhere")).end());
        assert!(stat(orphan).is_some_and(|s| !s.ended), "another family's was ended");
        assert!(Family::left_by(folder.path()).end());
        assert!(stat(orphan).is_none_or(|s| s.ended), "the orphan lives on");
    }
}
