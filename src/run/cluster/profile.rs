//! Profiles: what a cluster is asked for, in one YAML file that belongs to a site and not to a study.
//!
//! ```yaml
//! program: /shared/bin/scaleshot     # default: this program's own path
//! prologue: [module load gcc]        # lines of sh before the program
//! ranks_with: mpirun -n {ranks} scaleshot-mpi   # how ranks of one cell start
//! launcher: apptainer exec site.sif  # words before the program
//! defaults: { partition: cpu, account: med, time: "2:00:00", memory: 8G, cpus: 8 }
//! kinds:
//!   pretrain: { partition: gpu, time: 1-00:00:00, memory: 64G, cpus: 16, gpus: 1 }
//! nodes:
//!   pretrain_big: { memory: 128G, flags: [--constraint=a100] }
//! retries: { lost: 2, out_of_memory: 2, memory_factor: 2 }
//! ```
//!
//! A node's words stand over its kind's, and those over the defaults. What nobody asks for is what the
//! pipeline's `resources:` or the kind itself expect (memory, threads, GPUs), or left to the cluster. Nothing here enters a key.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use crate::{
    error::{Error, Result, nearest},
    kind::Resources,
    pipeline::{CellSpec, parse_value},
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// How nodes call this program.
    pub program: Option<String>,
    pub launcher: Option<String>,
    pub prologue: Vec<String>,
    /// Words that start the ranks of one cell, `{ranks}` of them; threads of one process without.
    pub ranks_with: Option<String>,
    pub defaults: Ask,
    pub kinds: BTreeMap<String, Ask>,
    pub nodes: BTreeMap<String, Ask>,
    pub retries: Retries,
    /// Whether uniform cells are submitted as arrays.
    pub arrays: bool,
    /// Tasks of one array at one time; no limit without.
    pub tasks_at_once: Option<usize>,
    /// Whether a small job looks from a node before the others start.
    pub check: bool,
    /// Between the request to stop and the time limit, in seconds: enough for a checkpoint.
    pub grace_s: u32,
    /// Where the output of the jobs' shells goes, for a store that is no folder. Seen by all nodes.
    pub logs: Option<String>,
}

impl Default for Profile {
    fn default() -> Self {
        Profile {
            program: None,
            launcher: None,
            prologue: Vec::new(),
            ranks_with: None,
            defaults: Ask::default(),
            kinds: BTreeMap::new(),
            nodes: BTreeMap::new(),
            retries: Retries::default(),
            arrays: true,
            tasks_at_once: None,
            check: true,
            grace_s: 60,
            logs: None,
        }
    }
}

/// What one kind or node asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    pub partition: Option<String>,
    pub account: Option<String>,
    /// As Slurm writes it: minutes, `2:00:00`, `1-00:00:00`.
    pub time: Option<Time>,
    /// `500M`, `64G`.
    pub memory: Option<Memory>,
    /// Of each rank.
    pub cpus: Option<u32>,
    pub gpus: Option<u32>,
    /// More options of sbatch, one an item.
    pub flags: Option<Vec<String>>,
}

/// How often a cell is submitted again in one run when that was not its own fault.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// After a node failed, or the job vanished.
    pub lost: u32,
    pub out_of_memory: u32,
    /// Memory of the next attempt, times the last one's.
    pub memory_factor: f64,
}

impl Default for Retries {
    fn default() -> Self {
        Retries { lost: 3, out_of_memory: 2, memory_factor: 2.0 }
    }
}

/// Seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct Time(pub u64);

/// MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct Memory(pub u64);

impl TryFrom<serde_json::Value> for Time {
    type Error = String;

    /// `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours[:minutes[:seconds]]`, as sbatch reads it.
    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        let wrong =
            || format!("{value} is no time: minutes, \"hours:minutes:seconds\" or \"days-hours:minutes:seconds\"");
        let text = text(&value).ok_or_else(wrong)?;
        let (days, rest) = match text.split_once('-') {
            Some((days, rest)) => (Some(days.parse::<u64>().map_err(|_| wrong())?), rest),
            None => (None, text.as_str()),
        };
        let fields: Vec<u64> = rest.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let seconds = match (days, fields.as_slice()) {
            (Some(_), [h]) => h * 3600,
            (Some(_), [h, m]) => h * 3600 + m * 60,
            (_, [h, m, s]) => h * 3600 + m * 60 + s,
            (None, [m]) => m * 60,
            (None, [m, s]) => m * 60 + s,
            _ => return Err(wrong()),
        } + days.unwrap_or(0) * 86_400;
        if seconds == 0 { Err(wrong()) } else { Ok(Time(seconds)) }
    }
}

impl TryFrom<serde_json::Value> for Memory {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        let wrong = || format!("{value} is no memory: a number of MiB, or 500M, 64G, 1T");
        let text = text(&value).ok_or_else(wrong)?;
        let (number, factor) = match text.char_indices().last() {
            Some((at, 'M' | 'm')) => (&text[..at], 1.0),
            Some((at, 'G' | 'g')) => (&text[..at], 1024.0),
            Some((at, 'T' | 't')) => (&text[..at], 1024.0 * 1024.0),
            _ => (text.as_str(), 1.0),
        };
        match number.parse::<f64>() {
            Ok(n) if n > 0.0 && n.is_finite() => Ok(Memory((n * factor).ceil() as u64)),
            _ => Err(wrong()),
        }
    }
}

fn text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What a job asks of the queue; equal requests can share an array.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    pub partition: Option<String>,
    pub account: Option<String>,
    pub time_s: Option<u64>,
    pub memory_mib: Option<u64>,
    /// Of each task.
    pub cpus: u32,
    pub gpus: u32,
    /// Processes under a launcher that the job's own process starts; 1 for jobs that are one process.
    pub tasks: u32,
    pub flags: Vec<String>,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            partition: None,
            account: None,
            time_s: None,
            memory_mib: None,
            cpus: 1,
            gpus: 0,
            tasks: 1,
            flags: Vec::new(),
        }
    }
}

impl Request {
    /// Processors of the whole job.
    pub fn all_cpus(&self) -> u32 {
        self.cpus * self.tasks
    }
}

/// Threads of a cell that could use all there are, where no profile says how many to ask for.
const MANY_CPUS: u32 = 4;
/// Above what a kind expects to need itself: the program, its libraries and file buffers.
const PROGRAM_MIB: u64 = 512;

impl Profile {
    /// A file, or the name of one in `$XDG_CONFIG_HOME/scaleshot/profiles`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn open(name: &str) -> Result<Self> {
        let direct = Path::new(name);
        let config = std::env::var_os("XDG_CONFIG_HOME").filter(|v| !v.is_empty()).map(std::path::PathBuf::from);
        let config = config.or_else(|| std::env::home_dir().map(|home| home.join(".config")));
        let named = config.unwrap_or_default().join("scaleshot/profiles").join(format!("{name}.yaml"));
        let path = if direct.is_file() || name.contains('/') || name.ends_with(".yaml") { direct } else { &named };
        let text = std::fs::read_to_string(path).map_err(|e| Error::Invalid {
            message: format!("profile {}: {e}", path.display()),
            hint: Some(format!("name a file, or put one at {}", named.display())),
        })?;
        Self::parse(&text).map_err(|e| {
            let hint = e.hint().map(str::to_string);
            Error::Invalid { message: format!("profile {}: {e}", path.display()), hint }
        })
    }

    pub fn parse(text: &str) -> Result<Self> {
        let mut value = parse_value(text).map_err(Error::invalid)?;
        // An empty file asks for nothing.
        if value.is_null() {
            value = serde_json::json!({});
        }
        let profile: Profile = serde_path_to_error::deserialize(&value)
            .map_err(|e| Error::invalid(format!("{}: {}", e.path(), e.inner())))?;
        let known = || crate::kind::KINDS.iter().map(|k| k.name());
        for kind in profile.kinds.keys() {
            if !known().any(|k| k == kind) {
                let e = Error::invalid(format!("kinds.{kind}: there is no such kind"));
                return Err(match nearest(kind, known()) {
                    Some(near) => e.with_hint(format!("did you mean {near}?")),
                    None => e,
                });
            }
        }
        let factor = profile.retries.memory_factor;
        if !(1.0..=16.0).contains(&factor) {
            return Err(Error::invalid(format!("retries.memory_factor: {factor} is not between 1 and 16")));
        }
        let words = profile.prologue.iter().chain(&profile.launcher).chain(&profile.program).chain(&profile.logs);
        let words = words.chain(&profile.ranks_with);
        if words.into_iter().any(|w| w.contains(['\n', '\0'])) {
            return Err(Error::invalid("a line of the prologue, the launcher or the program holds a line break"));
        }
        Ok(profile)
    }

    /// What a cell asks for, after `grown` attempts that were out of memory.
    pub fn request(&self, cell: &CellSpec, own: Resources, grown: u32) -> Request {
        let asks = [self.nodes.get(&cell.node), self.kinds.get(cell.kind.name()), Some(&self.defaults)];
        let asks: Vec<&Ask> = asks.into_iter().flatten().collect();
        fn first<T: Clone>(asks: &[&Ask], field: impl Fn(&Ask) -> &Option<T>) -> Option<T> {
            asks.iter().find_map(|ask| field(ask).clone())
        }
        let (threads, bytes) = (cell.limits.threads.unwrap_or(own.threads), cell.limits.memory_bytes);
        let bytes = bytes.unwrap_or(own.memory_bytes);
        let own_mib = (bytes > 0).then(|| bytes.div_ceil(1 << 20) + PROGRAM_MIB);
        let own_gpus = cell.limits.gpus.or_else(|| cell.kind.gpus(&cell.params).ok());
        let memory_mib = first(&asks, |a| &a.memory).map(|m| m.0).or(own_mib);
        let ranks = cell.kind.ranks(&cell.params).unwrap_or(1).max(1);
        let alone = if threads == 0 { MANY_CPUS } else { (threads as u32).div_ceil(ranks) };
        let cpus = first(&asks, |a| &a.cpus).unwrap_or(alone);
        // Ranks that are threads share one process, and with it one node.
        let (tasks, cpus) = if self.ranks_with.is_some() { (ranks, cpus) } else { (1, cpus * ranks) };
        let growth = self.retries.memory_factor.powi(grown as i32);
        Request {
            partition: first(&asks, |a| &a.partition),
            account: first(&asks, |a| &a.account),
            time_s: first(&asks, |a| &a.time).map(|t| t.0),
            memory_mib: memory_mib.map(|m| (m as f64 * growth).ceil() as u64),
            cpus,
            tasks,
            gpus: first(&asks, |a| &a.gpus).or(own_gpus).unwrap_or(0),
            // Flags add up, the general ones first, so that a node's own has the last word.
            flags: asks.iter().rev().flat_map(|a| a.flags.iter().flatten().cloned()).collect(),
        }
    }

    /// Of jobs that do next to nothing.
    pub fn small(&self) -> Request {
        let Ask { partition, account, flags, .. } = self.defaults.clone();
        let flags = flags.unwrap_or_default();
        Request { partition, account, time_s: Some(600), memory_mib: Some(256), flags, ..Request::default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::fixture::Builder;

    #[test]
    fn a_node_stands_over_its_kind_and_that_over_the_defaults() {
        let text = "
defaults: { partition: cpu, account: a, time: 90, memory: 2G, cpus: 2, flags: [--qos=low] }
nodes: { big: { memory: 1.5G, time: 1-02, flags: [--exclusive] } }";
        let mut profile = Profile::parse(text).unwrap();
        profile.kinds.insert("write".into(), Ask { cpus: Some(8), memory: Some(Memory(4096)), ..Ask::default() });
        let pipeline = Builder::new().cell("big", json!({}), &[]).cell("small", json!({}), &[]).build();
        let own = Resources { threads: 1, memory_bytes: 0 };
        let big = profile.request(&pipeline.cells[0], own, 1);
        assert_eq!((big.memory_mib, big.cpus, big.time_s), (Some(3072), 8, Some(26 * 3600)));
        assert_eq!(
            (big.partition.as_deref(), big.flags),
            (Some("cpu"), vec!["--qos=low".into(), "--exclusive".into()])
        );
        let small = profile.request(&pipeline.cells[1], own, 0);
        assert_eq!((small.memory_mib, small.time_s, small.flags.len()), (Some(4096), Some(5400), 1));
    }

    #[test]
    fn without_a_word_the_kind_itself_says_what_it_needs() {
        let pipeline = Builder::new().cell("a", json!({}), &[]).build();
        let own = Resources { threads: 0, memory_bytes: 1 << 30 };
        let asked = Profile::default().request(&pipeline.cells[0], own, 0);
        assert_eq!((asked.cpus, asked.memory_mib, asked.time_s), (MANY_CPUS, Some(1024 + PROGRAM_MIB), None));
    }

    #[test]
    fn ranks_are_processors_of_one_task_or_tasks_of_their_own() {
        let mut pipeline = Builder::new().cell("a", json!({}), &[]).build();
        let cell = &mut pipeline.cells[0];
        cell.kind = crate::kind::find("pretrain").unwrap();
        let sgd = json!({"sgd_agc": {"lr": 0.1}});
        let params = json!({"data": "d", "model": "bit-r14x0.25", "ranks": 4, "steps": 1, "optimizer": sgd});
        cell.params = cell.kind.canonical(&params).unwrap();
        let asked = |profile: &str| {
            let own = cell.kind.resources(&cell.params).unwrap();
            let request = Profile::parse(profile).unwrap().request(cell, own, 0);
            (request.tasks, request.cpus, request.all_cpus())
        };
        assert_eq!(asked("defaults: { cpus: 2 }"), (1, 8, 8));
        assert_eq!(asked("{ defaults: { cpus: 2 }, ranks_with: srun scaleshot-mpi }"), (4, 2, 8));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let told = |text: &str| {
            let e = Profile::parse(text).err().unwrap_or_else(|| panic!("{text} was taken"));
            format!("{e} {}", e.hint().unwrap_or_default())
        };
        assert!(
            told("defaults: { memory: lots }").contains("defaults.memory: \"lots\" is no memory"),
            "{}",
            told("defaults: { memory: lots }")
        );
        assert!(told("nodes: { a: { time: '1:2:3:4' } }").contains("nodes.a.time"));
        assert!(told("kinds: { pretrian: { cpus: 1 } }").contains("did you mean pretrain?"));
        assert!(told("partition: cpu").contains("unknown field `partition`"));
        assert!(told("retries: { memory_factor: 0.5 }").contains("memory_factor"));
        for (text, seconds) in [("90", 5400), ("1:30", 90), ("2:00:00", 7200), ("1-00", 86_400), ("1-1:30", 91_800)] {
            assert_eq!(Time::try_from(json!(text)).unwrap().0, seconds, "{text}");
        }
    }
}
