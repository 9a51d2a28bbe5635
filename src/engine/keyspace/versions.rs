//! What WATCH compares.
//!
//! A version is a counter per slot that moves with the slot, not a log index. Every write and every
//! removal in a slot takes the next number. A key's version is the number of its last write; an absent
//! key's is the number of its slot's last removal. So a change is never missed; an absent key can look
//! changed when another key of its slot is removed, which only aborts a transaction needlessly.
//!
//! What [`Versions::seen`] gives out carries two more things: whether the key is due, because a due key
//! must look different from the live one it was, and how often its database was exchanged by SWAPDB.

use super::SLOTS;

/// Marks a key that is due and not removed yet.
const DUE: u64 = 1 << 47;
const NUMBER: u64 = DUE - 1;
/// Numbers that are hashed together.
const HASHED_AT_ONCE: usize = 512;

/// The counters of all slots.
#[derive(Debug)]
pub(super) struct Versions {
    counters: Vec<u64>,
    removed: Vec<u64>,
    exchanges: Vec<u16>,
}

impl Versions {
    /// All zero.
    pub(super) fn new(databases: u32) -> Versions {
        Versions {
            counters: vec![0; SLOTS as usize],
            removed: vec![0; SLOTS as usize],
            exchanges: vec![0; databases as usize],
        }
    }

    /// The number of a write.
    pub(super) fn write(&mut self, slot: u16) -> u64 {
        let counter = &mut self.counters[slot as usize];
        *counter += 1;
        *counter
    }

    /// Notes a removal.
    pub(super) fn remove(&mut self, slot: u16) {
        self.removed[slot as usize] = self.write(slot);
    }

    /// Notes that a database has got other keys.
    pub(super) fn exchange(&mut self, database: u32) {
        let count = &mut self.exchanges[database as usize];
        *count = count.wrapping_add(1);
    }

    /// The version as WATCH sees it: of an entry's number and whether it is due, or of an absent key.
    pub(super) fn seen(&self, database: u32, slot: u16, entry: Option<(u64, bool)>) -> u64 {
        let number = match entry {
            Some((number, due)) => (number & NUMBER) | if due { DUE } else { 0 },
            None => self.removed[slot as usize] & NUMBER,
        };
        number | u64::from(self.exchanges[database as usize]) << 48
    }

    /// A slot's counter and the number of its last removal.
    pub(super) fn slot(&self, slot: u16) -> (u64, u64) {
        (self.counters[slot as usize], self.removed[slot as usize])
    }

    /// Restores a slot's numbers.
    pub(super) fn set_slot(&mut self, slot: u16, counter: u64, removed: u64) {
        self.counters[slot as usize] = counter;
        self.removed[slot as usize] = removed;
    }

    /// The counters of all slots.
    pub(super) fn counters(&self) -> &[u64] {
        &self.counters
    }

    /// How often each database was exchanged.
    pub(super) fn exchanges(&self) -> &[u16] {
        &self.exchanges
    }

    /// Restores how often each database was exchanged.
    pub(super) fn set_exchanges(&mut self, database: u32, count: u16) {
        self.exchanges[database as usize] = count;
    }

    /// A stable hash of all of it.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        let mut bytes = Vec::with_capacity(8 * HASHED_AT_ONCE);
        for some in self.counters.chunks(HASHED_AT_ONCE).chain(self.removed.chunks(HASHED_AT_ONCE)) {
            bytes.clear();
            bytes.extend(some.iter().flat_map(|n| n.to_le_bytes()));
            hasher.update(&bytes);
        }
        self.exchanges.iter().for_each(|n| hasher.update(&n.to_le_bytes()));
        hasher.digest()
    }
}
