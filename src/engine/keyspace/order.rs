//! SCAN and RANDOMKEY: the order of the keys, and picking one.
//!
//! Both follow the order (slot, hash, key), which is a function of the keys alone. A cursor is the slot
//! and the hash to go on from: it means the same on every replica, before and after a restore, however
//! the tables have grown. Keys with the same hash are never split between two calls.

use super::entry::Entry;
use super::table::Table;
use super::{EntryRef, Keyspace, Place, SLOTS};
use crate::Rng;

/// Up to this many keys of a slot are simply sorted to pick one.
const SORT_MAX: usize = 16;
/// Buckets hold at most this many keys for the pick to be uniform. With a keyed hash and at least as
/// many buckets as keys a longer one has a probability of about 1e-15.
const BUCKET_MAX: u64 = 16;
/// Picks that may meet due keys before the next live one in order is taken.
const PICKS_MAX: u32 = 64;

impl Keyspace {
    /// Visits about `count` keys from `cursor` on (0 to begin) and returns the next cursor, 0 at the end.
    /// A key that is there throughout is visited at least once, also over failover and snapshot: the
    /// order is a function of the keys alone. Due keys are not visited.
    pub fn scan(&self, database: u32, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], EntryRef<'_>)) -> u64 {
        let database = &self.databases[database as usize];
        let mut left = count.max(1);
        let mut at = cursor;
        let mut bucket = Vec::new();
        while let Some(slot) = database.slot_from(u32::try_from(at >> 32).unwrap_or(u32::MAX)) {
            let table = database.table(slot).expect("the slot has keys");
            let mut from = if u64::from(slot) == at >> 32 { at as u32 } else { 0 };
            loop {
                let next = table.bucket_from(from, &mut bucket);
                let mut keys = bucket.iter().map(|&pos| table.at(pos)).peekable();
                while let Some(entry) = keys.next() {
                    if !entry.is_due(self.now_ms) {
                        visit(entry.key.bytes(), EntryRef::new(entry));
                    }
                    left = left.saturating_sub(1);
                    let same = keys.peek().is_some_and(|next| next.hash == entry.hash);
                    if left == 0 && !same {
                        return cursor_behind(slot, entry.hash);
                    }
                }
                match next {
                    Some(next) => from = next,
                    None => break,
                }
            }
            at = (u64::from(slot) + 1) << 32;
        }
        0
    }

    /// A uniformly random key that is not due, or nothing.
    pub fn random(&self, database: u32, rng: &mut Rng) -> Option<&[u8]> {
        let keys = &self.databases[database as usize];
        if keys.len() == 0 {
            return None;
        }
        let mut last = Place::MIN;
        for _ in 0..PICKS_MAX {
            let (slot, _) = keys.slot_of_nth(rng.below(keys.len())).expect("the counts agree");
            let entry = pick(keys.table(slot).expect("the slot has keys"), rng);
            if !entry.is_due(self.now_ms) {
                return Some(entry.key.bytes());
            }
            last = Place::new(slot, entry.hash);
        }
        self.live_from(database, last).or_else(|| self.live_from(database, Place::MIN))
    }

    /// The first key in order, from a place on, that is not due.
    fn live_from(&self, database: u32, from: Place) -> Option<&[u8]> {
        let keys = &self.databases[database as usize];
        let mut slot = u32::from(from.slot());
        let mut hash = from.hash();
        let mut bucket = Vec::new();
        while let Some(found) = keys.slot_from(slot) {
            let table = keys.table(found).expect("the slot has keys");
            let mut next = Some(if u32::from(found) == slot { hash } else { 0 });
            while let Some(from) = next {
                next = table.bucket_from(from, &mut bucket);
                let live = bucket.iter().map(|&pos| table.at(pos)).find(|e| !e.is_due(self.now_ms));
                if let Some(entry) = live {
                    return Some(entry.key.bytes());
                }
            }
            (slot, hash) = (u32::from(found) + 1, 0);
        }
        None
    }
}

/// The cursor that goes on behind a hash; 0 behind the last possible one.
fn cursor_behind(slot: u16, hash: u32) -> u64 {
    let next = (u64::from(slot) << 32 | u64::from(hash)) + 1;
    if next >> 32 == u64::from(SLOTS) { 0 } else { next }
}

/// A uniformly random key of a table that is not empty. The buckets that are drawn from depend on the
/// number of keys alone, not on how many the table has now.
pub(super) fn pick<'a>(table: &'a Table, rng: &mut Rng) -> &'a Entry {
    let len = table.len();
    let mut found = Vec::new();
    if len <= SORT_MAX {
        table.between(0, u32::MAX, &mut found);
        return table.at(found[rng.below(len as u64) as usize]);
    }
    let bits = len.next_power_of_two().trailing_zeros().min(31);
    loop {
        let draw = rng.next_u64();
        let first = ((draw >> 32) as u32 >> (32 - bits)) << (32 - bits);
        table.between(first, first | (u32::MAX >> bits), &mut found);
        if let Some(&pos) = found.get((draw % BUCKET_MAX) as usize) {
            return table.at(pos);
        }
    }
}
