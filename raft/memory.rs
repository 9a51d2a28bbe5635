//! How much memory this node uses, how much it may use, and whose keys give way.
//!
//! `maxmemory` is a limit of the node, on all that the program has allocated but the entries that the logs keep in
//! memory, as Redis leaves out what it has for replicas: no key that gives way would make them fewer. It is measured ten times a second,
//! and reckoned on from there by the engines' own count of keys and values, which follows every entry: so a burst
//! of writes is noticed within the entry that brings it.
//!
//! The limit is split over the groups that have a replica here: what is left of it beside the data, in equal
//! parts. A group may take more for as long as the node as a whole is below the limit; above it every group that
//! is over its part gives way, in proportion to how far it is over. Only the leader of a group can make it give
//! way, so a node waits for other leaders to do their part for the groups that it follows: all nodes should have
//! the same limit.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A measurement that says "too much" is taken anew when it is older than this: freed memory helps at once, and
/// asking the allocator costs little beside the entries of so long a time.
const MEASURED_FOR: Duration = Duration::from_millis(1);
/// What is freed beyond the need, so that not every write has to wait: a part of the limit, and at most so much.
const AHEAD_PART: u64 = 256;
const AHEAD_MAX: u64 = 256 << 10;

/// What counted at some moment, and what the data came to then.
#[derive(Debug, Clone, Copy)]
struct Measured {
    counted: u64,
    data: u64,
    at: Instant,
}

/// The memory of a node. See the module.
#[derive(Debug)]
pub struct Memory {
    max: AtomicU64,
    samples: AtomicU32,
    measure: OnceLock<fn() -> u64>,
    measured: Mutex<Measured>,
    replicas: Mutex<Vec<Weak<AtomicU64>>>,
    logs: Mutex<Vec<Weak<AtomicU64>>>,
    evicted: AtomicU64,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            max: AtomicU64::new(0),
            samples: AtomicU32::new(5),
            measure: OnceLock::new(),
            measured: Mutex::new(Measured { counted: 0, data: 0, at: Instant::now() }),
            replicas: Mutex::default(),
            logs: Mutex::default(),
            evicted: AtomicU64::new(0),
        }
    }
}

impl Memory {
    /// Sets the limit in bytes; 0 is none.
    pub fn set_max(&self, bytes: u64) {
        self.max.store(bytes, Relaxed);
    }

    /// The limit in bytes; 0 is none.
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// Sets how many keys are looked at for each that gives way.
    pub fn set_samples(&self, count: u32) {
        self.samples.store(count, Relaxed);
    }

    /// How many keys are looked at for each that gives way.
    pub fn samples(&self) -> u32 {
        self.samples.load(Relaxed)
    }

    /// What tells how much is allocated, 0 when nobody knows; once. Without it the data alone counts.
    pub fn set_measure(&self, measure: fn() -> u64) {
        let _ = self.measure.set(measure);
    }

    /// A place for a replica's count of its data, for as long as somebody holds it.
    pub(crate) fn register(&self) -> Arc<AtomicU64> {
        let bytes = Arc::new(AtomicU64::new(0));
        let mut replicas = self.replicas.lock();
        replicas.retain(|replica| replica.strong_count() > 0);
        replicas.push(Arc::downgrade(&bytes));
        bytes
    }

    /// Bytes that a log keeps in memory and that do not count.
    pub(crate) fn leave_out(&self, bytes: &Arc<AtomicU64>) {
        let mut logs = self.logs.lock();
        logs.retain(|log| log.strong_count() > 0);
        logs.push(Arc::downgrade(bytes));
    }

    /// Bytes that are allocated and do not count.
    pub fn left_out(&self) -> u64 {
        each(&self.logs).iter().sum()
    }

    /// Keys that gave way, of the groups that this node led then.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// Counts them from 0 again (CONFIG RESETSTAT).
    pub fn forget_evicted(&self) {
        self.evicted.store(0, Relaxed);
    }

    pub(crate) fn note_evicted(&self, keys: u64) {
        self.evicted.fetch_add(keys, Relaxed);
    }

    fn data(&self) -> u64 {
        each(&self.replicas).iter().sum()
    }

    /// Measures how much is allocated now, in bytes.
    pub fn measure(&self) -> u64 {
        let data = self.data();
        let allocated = self.measure.get().map_or(0, |measure| measure());
        let counted = if allocated == 0 { data } else { allocated.saturating_sub(self.left_out()) };
        *self.measured.lock() = Measured { counted, data, at: Instant::now() };
        allocated
    }

    /// How much counts, from the last measurement and what came since, in bytes.
    pub fn used(&self) -> u64 {
        let measured = *self.measured.lock();
        (measured.counted + self.data()).saturating_sub(measured.data)
    }

    /// Whether more is in use than may be.
    pub fn is_over(&self) -> bool {
        let max = self.max();
        if max == 0 || self.used() <= max {
            return false;
        }
        let is_old = self.measured.lock().at.elapsed() > MEASURED_FOR;
        if is_old {
            self.measure();
        }
        self.used() > max
    }

    /// Bytes that a group of so many has to give up, 0 when there are none; nothing when the node is below its
    /// limit, or the group below its part of it.
    pub(crate) fn owed(&self, own: u64) -> Option<u64> {
        if !self.is_over() {
            return None;
        }
        let max = self.max();
        owed(max, self.used().saturating_sub(max), &each(&self.replicas), own)
    }
}

fn each(gauges: &Mutex<Vec<Weak<AtomicU64>>>) -> Vec<u64> {
    gauges.lock().iter().filter_map(|bytes| Some(bytes.upgrade()?.load(Relaxed))).collect()
}

/// The part of `excess` that a group has to give up which has `own` bytes beside what `each` group here has.
fn owed(max: u64, excess: u64, each: &[u64], own: u64) -> Option<u64> {
    let data: u64 = each.iter().sum();
    let others = (max + excess).saturating_sub(data);
    let part = max.saturating_sub(others) / each.len().max(1) as u64;
    let all: u64 = each.iter().map(|bytes| bytes.saturating_sub(part)).sum();
    if all == 0 {
        // There is no data that could give way.
        return Some(0);
    }
    let over = own.checked_sub(part).filter(|over| *over > 0)?;
    let share = u128::from(excess) * u128::from(over) / u128::from(all);
    let ahead = (max / AHEAD_PART).min(AHEAD_MAX);
    Some((share.min(u128::from(over)) as u64 + 1).saturating_add(ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_above_their_part_give_way_and_the_others_do_not() {
        // One group owes all that there is too much.
        assert_eq!(owed(1 << 20, 1000, &[500_000], 500_000), Some(1001 + (1 << 12)));
        // 90 may be used, 10 of it for other things: 40 for each of two groups.
        let each = [70, 30];
        assert_eq!(owed(90, 20, &each, 70), Some(21));
        assert_eq!(owed(90, 20, &each, 30), None);
        // Two are over their part by 10 and by 30.
        let each = [40, 60, 20];
        assert_eq!((owed(90, 30, &each, 40), owed(90, 30, &each, 60)), (Some(7 + 1), Some(22 + 1)));
        // Something else has taken everything, with data and without.
        assert_eq!((owed(100, 500, &[50, 50], 50), owed(100, 500, &[0, 0], 0)), (Some(51), Some(0)));
    }

    #[test]
    fn what_came_since_the_measurement_counts() {
        let memory = Memory::default();
        let bytes = memory.register();
        bytes.store(100, Relaxed);
        assert!(!memory.is_over(), "there is no limit");
        memory.set_max(1000);
        memory.set_measure(|| 950);
        assert_eq!(memory.measure(), 950);
        bytes.store(150, Relaxed);
        assert_eq!((memory.used(), memory.is_over()), (1000, false));
        bytes.store(151, Relaxed);
        assert_eq!(memory.used(), 1001);
        while memory.measured.lock().at.elapsed() <= MEASURED_FOR {
            std::thread::yield_now();
        }
        assert!(!memory.is_over(), "it was measured anew");
        let log = Arc::new(AtomicU64::new(50));
        memory.leave_out(&log);
        assert_eq!((memory.measure(), memory.used(), memory.left_out()), (950, 900, 50));
        drop(bytes);
        let _other = memory.register();
        assert_eq!(memory.used(), 749, "a replica that went does not count");
    }
}
