//! Who used the processor while a run was measured: the servers, the client, and everybody else.
//!
//! "Everybody else" is what the whole machine used less the two; it shows when another program
//! ran beside a measurement and spoilt it.

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Processor time used, since start or between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub servers: Duration,
    pub client: Duration,
    pub others: Duration,
}

impl Usage {
    /// The time used until now, by the servers with these processes as roots and by the others.
    pub fn now(roots: &[u32]) -> Result<Usage> {
        let (servers, client) = (cpu_time(roots)?, own_cpu_time());
        let all = busy_time(&fs::read_to_string("/proc/stat")?).context("/proc/stat")?;
        Ok(Usage { servers, client, others: all.saturating_sub(servers + client) })
    }

    /// The time used since an earlier moment.
    pub fn since(self, earlier: Usage) -> Usage {
        Usage {
            servers: self.servers.saturating_sub(earlier.servers),
            client: self.client.saturating_sub(earlier.client),
            others: self.others.saturating_sub(earlier.others),
        }
    }
}

/// The CPU time that this process has used.
fn own_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The time that all processors were busy: user, nice, system, irq, softirq and steal.
fn busy_time(stat: &str) -> Option<Duration> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_ascii_whitespace().map_while(|text| text.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6, 7].iter().map(|&index| fields.get(index).copied());
    Some(ticks(busy.sum::<Option<u64>>()?))
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The CPU time that the processes and all that descend from them have used, children that have
/// ended and been waited for included.
fn cpu_time(roots: &[u32]) -> Result<Duration> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end between the listing and the read.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat"))
            && let Some(stat) = Stat::parse(&stat)
        {
            processes.insert(id, stat);
        }
    }
    let ticks: u64 =
        processes.iter().filter(|&(&id, _)| descends(id, roots, &processes)).map(|(_, stat)| stat.ticks).sum();
    Ok(self::ticks(ticks))
}

fn descends(mut id: u32, roots: &[u32], processes: &HashMap<u32, Stat>) -> bool {
    // Bounded, because the parents are read one by one and could form a circle.
    for _ in 0..64 {
        if roots.contains(&id) {
            return true;
        }
        match processes.get(&id) {
            Some(stat) if stat.parent != 0 => id = stat.parent,
            Some(_) | None => return false,
        }
    }
    false
}

/// What `/proc/PID/stat` says: parent, and user + system ticks of it and its waited-for children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The command name is in brackets and may hold anything, brackets included.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let parent = u32::try_from(number(1)?).ok()?;
        Some(Stat { parent, ticks: number(11)? + number(12)? + number(13)? + number(14)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_the_name() {
        let text = "42 (a) b) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 99 0";
        assert_eq!(Stat::parse(text), Some(Stat { parent: 7, ticks: 124 }));
        assert_eq!(Stat::parse("42 (a"), None);
    }

    #[test]
    fn descendants_are_found_over_generations() {
        let stat = |parent| Stat { parent, ticks: 0 };
        let processes = HashMap::from([(1, stat(0)), (10, stat(1)), (11, stat(10)), (12, stat(11))]);
        assert!(descends(12, &[10], &processes));
        assert!(!descends(1, &[10], &processes));
        assert!(!descends(99, &[10], &processes));
    }

    #[test]
    fn busy_is_all_but_idle_and_waiting() {
        let text = "cpu  1 2 3 1000 1000 6 7 8 9 9\ncpu0 9 9 9 9 9 9 9 9 9 9\n";
        assert_eq!(busy_time(text), Some(ticks(27)));
        assert_eq!(busy_time("cpu 1 2\n"), None);
    }

    #[test]
    fn usage_grows() {
        let earlier = Usage::now(&[std::process::id()]).expect("proc");
        let later = Usage::now(&[std::process::id()]).expect("proc");
        assert!(later.servers >= earlier.servers && later.client > earlier.client);
        assert!(later.since(earlier).client > Duration::ZERO);
    }
}
