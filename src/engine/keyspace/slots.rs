//! The slots of the keys: which ones the group owns, and what happens to all keys of a few of them at once.
//!
//! Invariant: only entries of the log change what a group owns.

use super::entry::{Key, NEVER, print};
use super::{EntryRef, Keyspace, stored};
use crate::moves::{Moves, Range};
use crate::{Value, payload};

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

/// A key's share of the digest of its slots, the same in every group.
pub(crate) fn slots_print(database: u32, key: &[u8], value: &Value, expire_at_ms: Option<u64>, version: u64) -> u64 {
    print_in(database, print(key, payload::hash(value, true), stored(expire_at_ms), version))
}

fn print_in(database: u32, print: u64) -> u64 {
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

    /// Whether some slots wait for their new owner.
    pub(crate) fn is_frozen(&self) -> bool {
        self.moves().is_some_and(|moves| moves.frozen().is_some())
    }

    /// The slots of a range that have keys, in one database.
    fn slots_within(&self, database: usize, range: Range) -> impl Iterator<Item = u16> + '_ {
        (range.first..=range.last).filter(move |slot| self.databases[database].table(*slot).is_some())
    }

    /// The digest of the keys of some slots that are not due at a time.
    pub(crate) fn digest_of_slots(&self, range: Range, clock_ms: u64) -> u64 {
        let mut sum = 0u64;
        for database in 0..self.databases.len() {
            for slot in self.slots_within(database, range) {
                let table = self.databases[database].table(slot).expect("it has keys");
                table.for_each(&mut |entry| {
                    if !entry.is_due(clock_ms) {
                        sum = sum.wrapping_add(print_in(database as u32, entry.fingerprint(true)));
                    }
                });
            }
        }
        sum
    }

    /// A key as it is at a time, due by now or not.
    pub(crate) fn entry_at(&self, database: u32, key: &[u8], clock_ms: u64) -> Option<EntryRef<'_>> {
        self.find(database, key).filter(|entry| !entry.is_due(clock_ms)).map(EntryRef::new)
    }

    /// Whoever keeps copies of keys of these slots hears no more of them from here.
    pub(crate) fn forget_copies(&mut self, range: Range) {
        let Some(mut changing) = self.changing.take() else { return };
        for database in 0..self.databases.len() {
            for slot in self.slots_within(database, range) {
                let table = self.databases[database].table(slot).expect("it has keys");
                table.for_each(&mut |entry| changing.touch_due(entry.key.bytes()));
            }
        }
        self.changing = Some(changing);
    }

    /// Removes all keys of some slots, which another group has now. What was due at `clock_ms` has not gone there,
    /// so its end is told here; of all others nothing is told.
    pub(crate) fn leave_slots(&mut self, range: Range, clock_ms: u64) {
        for database in 0..self.databases.len() {
            let slots: Vec<u16> = self.slots_within(database, range).collect();
            for slot in slots {
                let table = self.databases[database].table(slot).expect("it has keys");
                let mut found = Vec::new();
                table.between(0, u32::MAX, &mut found);
                let keys: Vec<Key> = found.iter().map(|at| table.at(*at).key.clone()).collect();
                for key in keys {
                    let place = self.place(key.bytes());
                    let at = self.databases[database].find(place, key.bytes()).expect("it was just seen");
                    if self.databases[database].at(slot, at).is_due(clock_ms) {
                        self.expire(database as u32, slot, at);
                    } else {
                        self.discard(database as u32, slot, at);
                    }
                }
            }
        }
        (range.first..=range.last).for_each(|slot| self.versions.set_slot(slot, 0, 0));
    }

    /// A slot without keys gets those of another group: first its counters.
    pub(crate) fn refill_slot(&mut self, slot: u16, counter: u64, removed: u64) {
        if let Some(cut) = &mut self.cut {
            cut.refilled(slot);
        }
        self.versions.set_slot(slot, counter, removed);
    }

    /// And then each key.
    pub(crate) fn refill(&mut self, database: u32, key: &[u8], value: Value, expire_at_ms: Option<u64>, version: u64) {
        self.touch(database, key);
        self.restore(database, key, value, expire_at_ms.filter(|at| *at != NEVER), version);
    }
}
