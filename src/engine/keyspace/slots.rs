//! The slots of the keys: which ones the group owns, and what happens to all keys of a few of them at once.
//!
//! Invariant: only entries of the log change what a group owns.

use super::entry::{Entry, Key, NEVER, print};
use super::{EntryRef, Keyspace, Restored, stored};
use crate::moves::{Moves, Range};
use crate::payload::{self, LARGE_BYTES};

/// When more keys than this go at once, whoever keeps copies is told to forget all.
const FORGOTTEN_MAX: u64 = 16_384;
/// Hashing so many bytes takes as long as a look at a key.
const BYTES_PER_KEY: usize = 1024;

/// The number of hash slots, as in Redis Cluster.
pub const SLOTS: u16 = 16384;

/// CRC-16/XMODEM, as Redis Cluster uses it.
static CRC16: crc::Crc<u16, crc::Table<16>> = crc::Crc::<u16, crc::Table<16>>::new(&crc::CRC_16_XMODEM);

/// The slot of a key: CRC16 of the key, or of the text between its first braces when there is any.
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&b| b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|&b| b == b'}').filter(|&len| len > 0).map(|len| &rest[..len])
    });
    CRC16.checksum(tag.unwrap_or(key)) % SLOTS
}

/// A key's fingerprint from the hash of its value.
pub(crate) fn key_print(key: &[u8], value: u64, expire_at_ms: Option<u64>, version: u64) -> u64 {
    print(key, value, stored(expire_at_ms), version)
}

/// The share of a key with this fingerprint in the digest of its slots, the same in every group.
pub(crate) fn print_in(database: u32, print: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&print.to_le_bytes(), database.into())
}

impl Keyspace {
    /// The slots that the group owns, as inclusive ranges; nothing when it owns all.
    pub(crate) fn slots(&self) -> Option<&[(u16, u16)]> {
        self.slots.as_deref()
    }

    /// Sets what [`Keyspace::slots`] gives.
    pub(crate) fn set_slots(&mut self, slots: Option<Box<[(u16, u16)]>>) {
        self.slots = slots;
    }

    /// Whether a key belongs to the group, and is not about to leave it.
    pub(crate) fn owns(&self, key: &[u8]) -> bool {
        (self.slots.is_none() && self.moves.is_none()) || self.serves_slot(slot(key))
    }

    pub(crate) fn serves_slot(&self, slot: u16) -> bool {
        let owned = self.slots.as_deref().is_none_or(|ranges| ranges.iter().any(|r| (r.0..=r.1).contains(&slot)));
        owned && !self.moves().and_then(Moves::frozen).is_some_and(|frozen| frozen.range.holds(slot))
    }

    /// What is on its way, in a group that ever gave or took a slot.
    pub(crate) fn moves(&self) -> Option<&Moves> {
        self.moves.as_deref()
    }

    /// The same, to change it; from now on commands are asked for their slots.
    pub(crate) fn moves_mut(&mut self) -> &mut Moves {
        self.moves.get_or_insert_default()
    }

    /// Whether some slots wait for their new owner, or for the rest of their keys.
    pub(crate) fn is_frozen(&self) -> bool {
        self.moves().is_some_and(|moves| moves.frozen().is_some() || moves.owning().is_some())
    }

    /// The slots of a range that have keys, in one database.
    fn slots_within(&self, database: usize, range: Range) -> impl Iterator<Item = u16> + '_ {
        (range.first..=range.last).filter(move |slot| self.databases[database].table(*slot).is_some())
    }

    /// Adds up the shares of about `effort` keys of some slots from a place on, of those that are not due at a time.
    /// Large values that changed since they were hashed are named instead. Nothing behind the last key.
    pub(crate) fn sum_some(
        &self,
        range: Range,
        clock_ms: u64,
        at: &mut SumPlace,
        effort: usize,
        heavy: &mut Vec<(u32, Vec<u8>)>,
    ) -> Option<u64> {
        let (mut sum, mut left, mut bucket) = (0u64, effort, Vec::new());
        while let Some(database) = self.databases.get(at.database as usize) {
            let from = u32::from(range.first).max(at.slot);
            let Some(slot) = database.slot_from(from).filter(|slot| *slot <= range.last) else {
                *at = SumPlace { database: at.database + 1, ..SumPlace::default() };
                continue;
            };
            let hash = if u32::from(slot) == at.slot { at.hash } else { 0 };
            let table = database.table(slot).expect("the slot has keys");
            let next = table.bucket_from(hash, &mut bucket);
            for entry in bucket.iter().map(|pos| table.at(*pos)).filter(|entry| !entry.is_due(clock_ms)) {
                let is_marked = database.account.is_marked(entry);
                let bytes = if is_marked { payload::size(&entry.value) } else { 0 };
                left = left.saturating_sub(1 + bytes.min(LARGE_BYTES) / BYTES_PER_KEY);
                if bytes > LARGE_BYTES {
                    heavy.push((at.database, entry.key.bytes().to_vec()));
                } else {
                    let print = if is_marked { entry.fingerprint(false) } else { entry.print };
                    sum = sum.wrapping_add(print_in(at.database, print));
                }
            }
            (at.slot, at.hash) = next.map_or((u32::from(slot) + 1, 0), |hash| (slot.into(), hash));
            if left == 0 {
                return Some(sum);
            }
        }
        // What was added in the last step counts: the next one finds nothing.
        (left < effort).then_some(sum)
    }

    /// Bytes of the keys and values of a slot, over all databases. Looks at each key.
    pub(crate) fn slot_bytes(&self, slot: u16) -> u64 {
        let mut bytes = 0;
        let tables = self.databases.iter().filter_map(|database| database.table(slot));
        tables.for_each(|table| table.for_each(&mut |entry| bytes += Entry::memory_bytes(entry)));
        bytes
    }

    /// A key as it is at a time, due by now or not.
    pub(crate) fn entry_at(&self, database: u32, key: &[u8], clock_ms: u64) -> Option<EntryRef<'_>> {
        self.find(database, key).filter(|entry| !entry.is_due(clock_ms)).map(EntryRef::new)
    }

    /// Whoever keeps copies of keys of these slots hears no more of them from here.
    pub(crate) fn forget_copies(&mut self, range: Range) {
        let Some(mut changing) = self.changing.take() else { return };
        let count: u64 = (range.first..=range.last).map(|slot| self.slot_len(slot)).sum();
        if count > FORGOTTEN_MAX {
            changing.touch_all();
            self.changing = Some(changing);
            return;
        }
        for database in 0..self.databases.len() {
            for slot in self.slots_within(database, range) {
                let table = self.databases[database].table(slot).expect("it has keys");
                table.for_each(&mut |entry| changing.touch_due(entry.key.bytes()));
            }
        }
        self.changing = Some(changing);
    }

    /// Removes keys of some slots, which another group has now, at most about `limit`; gives how many are left. What
    /// was due at `clock_ms` has not gone there, so its end is told here; of all others nothing is told.
    pub(crate) fn leave_slots(&mut self, range: Range, clock_ms: u64, limit: u64) -> u64 {
        let mut left = limit;
        for database in 0..self.databases.len() {
            let slots: Vec<u16> = self.slots_within(database, range).collect();
            for slot in slots {
                left = self.leave_slot(database, slot, clock_ms, left);
            }
        }
        let left = (range.first..=range.last).map(|slot| self.slot_len(slot)).sum();
        if left == 0 {
            (range.first..=range.last).for_each(|slot| self.versions.set_slot(slot, 0, 0));
        }
        left
    }

    fn leave_slot(&mut self, database: usize, slot: u16, clock_ms: u64, mut left: u64) -> u64 {
        let (mut from, mut bucket) = (Some(0), Vec::new());
        while left > 0
            && let Some(hash) = from
            && let Some(table) = self.databases[database].table(slot)
        {
            from = table.bucket_from(hash, &mut bucket);
            let keys: Vec<Key> = bucket.iter().map(|at| table.at(*at).key.clone()).collect();
            for key in keys {
                let place = self.place(key.bytes());
                let at = self.databases[database].find(place, key.bytes()).expect("it was just seen");
                if self.databases[database].at(slot, at).is_due(clock_ms) {
                    self.expire(database as u32, slot, at);
                } else {
                    self.discard(database as u32, slot, at);
                }
                left = left.saturating_sub(1);
            }
        }
        left
    }

    /// A slot without keys gets those of another group: first its counters.
    pub(crate) fn refill_slot(&mut self, slot: u16, counter: u64, removed: u64) {
        if let Some(cut) = &mut self.cut {
            cut.refilled(slot);
        }
        self.versions.set_slot(slot, counter, removed);
    }

    /// And then each key.
    pub(crate) fn refill(&mut self, database: u32, key: &[u8], restored: Restored) {
        self.touch(database, key);
        let expire_at_ms = restored.expire_at_ms.filter(|at| *at != NEVER);
        self.restore(database, key, Restored { expire_at_ms, ..restored });
    }
}

/// Where adding up goes on; the default is the beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SumPlace {
    database: u32,
    slot: u32,
    hash: u32,
}
