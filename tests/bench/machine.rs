//! The facts of the machine that belong to every number: processor, kernel, disk, versions.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// From Linux's magic numbers of file systems.
const TMPFS: u64 = 0x0102_1994;
const FSYNC_PROBES: usize = 100;

/// What a reader must know of the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
    /// The median time of a 4 KiB write with fdatasync in the directory of the servers.
    pub fsync: Duration,
    /// fsync costs nothing in memory, so nothing that is measured there tells of a disk.
    pub in_memory: bool,
}

impl Machine {
    pub fn look(directory: &Path) -> Result<Machine> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let memory_kib: u64 =
            value(&memory, "MemTotal").and_then(|text| text.trim_end_matches("kB").trim().parse().ok()).unwrap_or(0);
        Ok(Machine {
            processor: value(&cpu, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: memory_kib.div_ceil(1024 * 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            fsync: fsync_time(directory)?,
            in_memory: rustix::fs::statfs(directory)?.f_type as u64 == TMPFS,
        })
    }
}

/// The value in a line `name : value`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn fsync_time(directory: &Path) -> Result<Duration> {
    let path = directory.join(format!("quoris-bench-{}-fsync", std::process::id()));
    let probe = || -> Result<Duration> {
        let mut file = File::create(&path)?;
        let mut times = Vec::with_capacity(FSYNC_PROBES);
        for _ in 0..FSYNC_PROBES {
            let start = Instant::now();
            file.rewind()?;
            file.write_all(&[0x5A; 4096])?;
            file.sync_data()?;
            times.push(start.elapsed());
        }
        times.sort();
        Ok(times[FSYNC_PROBES / 2])
    };
    let time = probe().with_context(|| format!("write in {}", directory.display()));
    fs::remove_file(&path).ok();
    time
}

/// The first line that `program --version` prints.
pub fn version(program: &Path) -> String {
    let Ok(output) = Command::new(program).arg("--version").output() else {
        return "unknown".to_owned();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let text = "processor\t: 0\nmodel\t\t: 2\nmodel name\t: A: fast one\n";
        assert_eq!(value(text, "model name"), Some("A: fast one"));
        assert_eq!(value(text, "name"), None);
    }

    #[test]
    fn the_machine_has_a_core_and_a_disk() {
        let machine = Machine::look(&std::env::temp_dir()).expect("facts");
        assert!(machine.cores > 0 && machine.fsync > Duration::ZERO);
    }
}
