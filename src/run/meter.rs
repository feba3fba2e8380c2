//! What a cell took: time, processor time, memory; and the machine it ran on.
//!
//! Read from Linux's `/proc`; where that is absent the figures are null, never guessed.

use std::{
    fs::read_to_string,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crate::{memory, store::record::Machine};

/// Cells that are being measured in this process now.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);

/// Measures one cell from its making to [`Meter::stop`].
pub struct Meter {
    began: Instant,
}

/// What [`Meter::stop`] found.
pub struct Measured {
    pub wall_ms: u64,
    /// The process's largest resident memory since the oldest cell that ran beside this one began.
    pub peak_rss_bytes: Option<u64>,
}

impl Meter {
    pub fn start() -> Self {
        if ACTIVE.fetch_add(1, Ordering::SeqCst) == 0 {
            // Resets the high-water mark; refused in some containers, where it then counts from the start.
            let _ = std::fs::write("/proc/self/clear_refs", "5");
        }
        Meter { began: Instant::now() }
    }

    pub fn stop(&self) -> Measured {
        Measured { wall_ms: self.began.elapsed().as_millis() as u64, peak_rss_bytes: memory::peak_bytes() }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        ACTIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Looked at once: none of it changes while the process lives.
pub fn machine() -> Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(look).clone()
}

fn look() -> Machine {
    let first = |text: Option<String>| text.unwrap_or_default().trim().to_string();
    let cpu = read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("model name"))?;
        Some(line.split_once(':')?.1.to_string())
    });
    Machine {
        host: first(read_to_string("/proc/sys/kernel/hostname").ok()),
        os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cpu: first(cpu),
        cores: cores(),
        memory_bytes: memory::total_bytes().unwrap_or(0),
    }
}

/// Processors that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Numbers of the GPUs that this process may use: what `CUDA_VISIBLE_DEVICES` names, or all.
pub fn gpus() -> Vec<u32> {
    if let Ok(named) = std::env::var("CUDA_VISIBLE_DEVICES") {
        return visible(&named);
    }
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|e| e.file_name().to_str()?.strip_prefix("nvidia")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// CUDA ignores what follows the first name that it does not know; names that are no numbers are not counted.
fn visible(named: &str) -> Vec<u32> {
    named.split(',').map_while(|name| name.trim().parse().ok()).collect()
}

/// Memory that cells may take: what is free now, less a tenth for everything else.
pub fn free_memory_bytes() -> u64 {
    memory::available_bytes().map_or(u64::MAX, |b| b / 10 * 9)
}

pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_gpus_are_numbers_up_to_the_first_other_word() {
        assert_eq!(visible("1,3"), [1, 3]);
        assert_eq!(visible("0, 2,-1,3"), [0, 2]);
        assert_eq!(visible(""), [0u32; 0]);
    }

    #[test]
    fn a_meter_and_a_machine_are_read() {
        assert!(Meter::start().stop().peak_rss_bytes.is_none_or(|b| b > 0));
        assert!(machine().cores > 0);
    }
}
