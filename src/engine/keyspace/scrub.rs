//! Whether the keys are still what the writes made of them.
//!
//! The digest follows writes and is never counted anew, so it cannot show a bit that flips in memory. Each
//! entry holds the fingerprint that its last write left; a scrub goes from leaf to leaf and takes them again
//! from the bytes. One pass finds every change of a key, a value, a deadline or a version that did not come
//! from a write, if it happened before the pass. One that a write replaced as a whole is healed; small ones
//! are looked at again before they are changed in place or taken away, which the next pass reports.
//!
//! Invariant: a scrub changes nothing, and takes the time of a few thousand keys, or of one large value.

use super::database::Database;
use super::entry::Entry;
use super::{Keyspace, Place};
use crate::payload;

/// Where a scrub goes on; the default is the beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scrub {
    database: u32,
    slot: u32,
    hash: u32,
}

/// Keys that are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("keys of slot {slot} in database {database} are not what was written")]
pub struct Flaw {
    /// The database.
    pub database: u32,
    /// The slot; 16384 when it is not known.
    pub slot: u32,
}

impl Keyspace {
    /// Looks at about `bytes` of keys and values from `at` on; true when the last one was reached, and `at` is
    /// the beginning again.
    ///
    /// # Errors
    /// When keys are not what was written.
    pub fn scrub(&self, at: &mut Scrub, bytes: u64) -> Result<bool, Flaw> {
        let mut left = bytes;
        while let Some(database) = self.databases.get(at.database as usize) {
            if database.account.is_flawed {
                return Err(Flaw { database: at.database, slot: u32::from(super::SLOTS) });
            }
            let Some(slot) = database.slot_from(at.slot) else {
                *at = Scrub { database: at.database + 1, ..Scrub::default() };
                continue;
            };
            let hash = if u32::from(slot) == at.slot { at.hash } else { 0 };
            let flaw = Flaw { database: at.database, slot: slot.into() };
            let (seen, next) = database.check_leaf(Place::new(slot, hash)).ok_or(flaw)?;
            (at.slot, at.hash) = next.map_or((u32::from(slot) + 1, 0), |hash| (slot.into(), hash));
            left = left.saturating_sub(seen);
            if left == 0 {
                return Ok(false);
            }
        }
        *at = Scrub::default();
        Ok(true)
    }

    /// Hashes the large values that were written since the last time: before, a scrub cannot judge them.
    pub fn settle(&mut self) {
        self.sums();
    }

    /// Flips one bit of a value, as broken memory would; with `counted` as a broken program would, so that
    /// the digest shows it and a scrub does not. False when there is nothing to flip.
    pub(crate) fn flip_bit(&mut self, database: u32, key: &[u8], counted: bool) -> bool {
        let place = self.place(key);
        let Some(database) = self.databases.get_mut(database as usize) else { return false };
        let Some(index) = database.find(place, key) else { return false };
        if counted {
            let version = database.at(place.slot(), index).version;
            payload::flip_bit(&mut database.open(place.slot(), index, version).entry.value)
        } else {
            payload::flip_bit(&mut database.uncounted(place.slot(), index).value)
        }
    }
}

impl Database {
    /// Looks at the leaf of a place; gives the bytes of its keys and values and the hash behind its last one.
    /// Nothing when an entry is not what was written.
    fn check_leaf(&self, place: Place) -> Option<(u64, Option<u32>)> {
        let (leaf, last) = self.table(place.slot())?.leaf_and_last(place.hash());
        let sound = leaf.entries().iter().all(|entry| self.account.is_sound(entry));
        sound.then(|| (leaf.entries().iter().map(Entry::memory_bytes).sum(), last.checked_add(1)))
    }
}
