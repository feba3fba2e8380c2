//! Memory of processes and of the machine, from Linux's `/proc`; where that is absent there is no figure.

use std::{fs::read_to_string, path::Path};

/// The most resident memory that this process has held since its mark was reset, in bytes.
pub fn peak_bytes() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// What a process holds now, in bytes; `None` where it has ended.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    field(format!("/proc/{pid}/status"), "VmRSS:")
}

/// All memory of the machine, in bytes.
pub fn total_bytes() -> Option<u64> {
    field("/proc/meminfo", "MemTotal:")
}

/// Memory of the machine that can be had now, in bytes.
pub fn available_bytes() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

fn field(file: impl AsRef<Path>, name: &str) -> Option<u64> {
    kib(&read_to_string(file).ok()?, name)
}

/// `VmHWM:     1234 kB` in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_and_absent_fields_are_null() {
        assert_eq!(kib("VmPeak:\t 2 kB\nVmHWM:\t     1234 kB\n", "VmHWM:"), Some(1234 * 1024));
        assert_eq!(kib("VmPeak:\t 2 kB\n", "VmHWM:"), None);
    }
}
