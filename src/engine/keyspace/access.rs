//! When keys were last used, and how often: what eviction, OBJECT IDLETIME and OBJECT FREQ go by.
//!
//! A stamp is no part of the state. Reads set it, and reads run on the leader alone, so replicas have different
//! ones; it is in no digest and no snapshot, and nothing that apply does or replies depends on it. A new leader
//! knows of writes, which all replicas saw, and learns of reads from then on.
//!
//! As in Redis a stamp has 24 bits of time, in seconds, and 8 bits of a logarithmic counter. The time is kept by
//! every policy, the counter counts under the LFU policies only. Somebody outside sets the clock a few times a
//! second, so that a read costs no more than a comparison.
//!
//! Invariants:
//! * Stamps may be wrong by a race between two reads; nobody may rely on them for more than a guess.
//! * Inside of apply [`Keyspace::idle`] and [`Keyspace::frequency`] say 0.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::Keyspace;
use super::entry::Entry;
use crate::{Rng, Settings};

/// The bits of the counter.
const COUNTER_BITS: u32 = 8;
/// Times are numbers below this, in seconds, and begin anew behind it: every 194 days.
const TIMES: u32 = 1 << (32 - COUNTER_BITS);
/// The counter of a new key, so that it is not the first to go.
const COUNTER_NEW: u32 = 5;
/// Places of the policies by the counter among those of `maxmemory-policy`.
const LFU: [i64; 2] = [1, 5];

/// The time and the counter of one key.
#[derive(Debug, Default)]
pub(super) struct Stamp(AtomicU32);

/// What stamps are set from.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// Seconds since the clock was set first.
    clock_s: AtomicU32,
    /// What it was set to then; 0 before.
    began_s: AtomicU32,
    draws: AtomicU32,
}

/// Whether keys are chosen by how often they are used.
pub(super) fn is_lfu(settings: &Settings) -> bool {
    LFU.contains(&settings.maxmemory_policy)
}

fn since(then: u32, now: u32) -> u32 {
    now.wrapping_sub(then) % TIMES
}

/// What a counter has come down to since it was last raised: one for each `lfu-decay-time` minutes that ended.
fn decayed(counter: u32, then: u32, now: u32, settings: &Settings) -> u32 {
    let minutes = i64::from((then % 60 + since(then, now)) / 60);
    let periods = minutes.checked_div(settings.lfu_decay_time).unwrap_or(0);
    counter.saturating_sub(u32::try_from(periods).unwrap_or(u32::MAX))
}

impl Access {
    fn now(&self) -> u32 {
        self.clock_s.load(Relaxed)
    }

    /// The stamp of a new key.
    pub(super) fn new_stamp(&self) -> Stamp {
        Stamp(AtomicU32::new(self.now() << COUNTER_BITS | COUNTER_NEW))
    }

    /// A key was used.
    pub(super) fn touch(&self, stamp: &Stamp, settings: &Settings) {
        let (now, old) = (self.now(), stamp.0.load(Relaxed));
        let (then, counter) = (old >> COUNTER_BITS, old & 0xff);
        let counter =
            if is_lfu(settings) { self.raised(decayed(counter, then, now, settings), settings) } else { counter };
        let new = now << COUNTER_BITS | counter;
        // The line is shared with other readers: leave it alone when there is nothing new.
        if new != old {
            stamp.0.store(new, Relaxed);
        }
    }

    /// One more, with a probability that falls as the counter grows.
    fn raised(&self, counter: u32, settings: &Settings) -> u32 {
        let above = f64::from(counter.saturating_sub(COUNTER_NEW));
        let draw = self.draws.load(Relaxed).wrapping_add(1);
        self.draws.store(draw, Relaxed);
        let draw = Rng::new(draw.into()).next_u64() as f64 / u64::MAX as f64;
        let is_raised = counter < 255 && draw * (above * settings.lfu_log_factor as f64 + 1.0) < 1.0;
        counter + u32::from(is_raised)
    }
}

impl Stamp {
    fn idle_s(&self, access: &Access) -> u32 {
        since(self.0.load(Relaxed) >> COUNTER_BITS, access.now())
    }

    fn frequency(&self, access: &Access, settings: &Settings) -> u32 {
        let now = self.0.load(Relaxed);
        decayed(now & 0xff, now >> COUNTER_BITS, access.now(), settings)
    }
}

impl Keyspace {
    /// Sets the clock that stamps go by, in milliseconds from whenever. It begins with the first call: keys that
    /// were loaded before count as used then. Not of the state.
    pub fn set_access_clock(&self, ms: u64) {
        let now = (ms / 1000) as u32;
        let begun = self.access.began_s.compare_exchange(0, now, Relaxed, Relaxed).err().unwrap_or(now);
        self.access.clock_s.store(since(begun, now), Relaxed);
    }

    /// Whether what follows is a command of an entry.
    pub(crate) fn set_applying(&mut self, applying: bool) {
        self.applying = applying;
    }

    pub(super) fn touch_access(&self, entry: &Entry) {
        self.access.touch(&entry.used, &self.settings);
    }

    /// How much a key deserves to go under the policy that holds: seconds of rest, or 255 less its counter.
    pub(super) fn rest_of(&self, entry: &Entry) -> u32 {
        if is_lfu(&self.settings) {
            255 - entry.used.frequency(&self.access, &self.settings)
        } else {
            entry.used.idle_s(&self.access)
        }
    }

    /// Seconds since a key was last used (OBJECT IDLETIME).
    pub fn idle(&self, database: u32, key: &[u8]) -> Option<u64> {
        let entry = self.live(database, key)?;
        Some(if self.applying { 0 } else { entry.used.idle_s(&self.access).into() })
    }

    /// How often a key was used, by a logarithmic counter (OBJECT FREQ).
    pub fn frequency(&self, database: u32, key: &[u8]) -> Option<u64> {
        let entry = self.live(database, key)?;
        Some(if self.applying { 0 } else { entry.used.frequency(&self.access, &self.settings).into() })
    }

    /// Whether the policy that holds goes by how often keys are used.
    pub(crate) fn counts_uses(&self) -> bool {
        is_lfu(&self.settings)
    }

    /// Sets when a key was last used or how often (RESTORE).
    pub(crate) fn set_used(&self, database: u32, key: &[u8], idle_s: Option<u64>, frequency: Option<u8>) {
        let Some(entry) = self.live(database, key) else { return };
        let old = entry.used.0.load(Relaxed);
        let idle = idle_s.map_or(0, |seconds| seconds.min(u64::from(TIMES) - 1) as u32);
        let time = self.access.now().wrapping_sub(idle) % TIMES;
        entry.used.0.store(time << COUNTER_BITS | frequency.map_or(old & 0xff, u32::from), Relaxed);
    }

    /// Runs a read that is no use of the keys that it names (CLIENT NO-TOUCH).
    pub fn without_use<'a, T>(
        &self,
        database: u32,
        keys: impl Iterator<Item = &'a [u8]>,
        read: impl FnOnce() -> T,
    ) -> T {
        let stamp = |key| self.live(database, key).map(|entry| (entry, entry.used.0.load(Relaxed)));
        let before: Vec<(&Entry, u32)> = keys.filter_map(stamp).collect();
        let result = read();
        before.into_iter().for_each(|(entry, stamp)| entry.used.0.store(stamp, Relaxed));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str) -> Settings {
        let mut settings = Settings::default();
        settings.set("maxmemory-policy", name).expect("a policy");
        settings
    }

    #[test]
    fn rest_is_counted_in_seconds_also_across_the_end_of_the_numbers() {
        let access = Access::default();
        access.clock_s.store(TIMES - 2, Relaxed);
        let stamp = access.new_stamp();
        assert_eq!(stamp.idle_s(&access), 0);
        access.clock_s.store(3, Relaxed);
        assert_eq!(stamp.idle_s(&access), 5);
        access.touch(&stamp, &policy("allkeys-lru"));
        assert_eq!(stamp.idle_s(&access), 0);
    }

    #[test]
    fn the_counter_grows_slowly_and_falls_with_the_minutes() {
        let (access, settings) = (Access::default(), policy("volatile-lfu"));
        let stamp = access.new_stamp();
        let mut seen = Vec::new();
        for hits in 1..=100_000 {
            access.touch(&stamp, &settings);
            if [100, 1000, 100_000].contains(&hits) {
                seen.push(stamp.frequency(&access, &settings));
            }
        }
        // Redis's own table for a factor of 10 says 10, 18 and 142.
        assert!((7..=14).contains(&seen[0]) && (14..=24).contains(&seen[1]), "{seen:?}");
        assert!((120..=165).contains(&seen[2]), "{seen:?}");
        access.clock_s.store(180, Relaxed);
        assert_eq!(stamp.frequency(&access, &settings), seen[2] - 3);
        let still = Settings { lfu_decay_time: 0, ..settings };
        assert_eq!(stamp.frequency(&access, &still), seen[2]);
        access.touch(&stamp, &policy("noeviction"));
        assert_eq!(stamp.frequency(&access, &still), seen[2], "other policies leave it alone");
    }
}
