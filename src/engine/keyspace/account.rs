//! What is counted for every key of a database: memory and digest.
//!
//! The digest is a wrapping sum of one fingerprint per key, so a write changes it by two terms and the
//! order of writes does not matter. Each entry holds the fingerprint that its last write left: to replace a
//! value nobody has to read the old one, which is rarely in the processor's cache, and a [`super::scrub`]
//! has something to compare with. Hashing a large value at every change would cost more than the change;
//! large ones are only marked, and hashed when the digest is asked for.
//!
//! Invariants:
//! * `sum` holds the fingerprints of all entries but the marked ones.
//! * Only large entries are marked.
//! * `fields` holds the earliest field deadline of every hash that has one, and nothing else.
//! * A fingerprint is taken from an entry that was written just now, and from no other: else a bit that had
//!   flipped in memory would be taken for written.

use std::collections::BTreeSet;

use super::entry::{Entry, Key};
use super::{Place, slot};
use crate::payload;

/// Values above this many bytes are hashed late.
const LARGE_BYTES: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Bytes of all keys and values.
    pub(super) memory_bytes: u64,
    sum: u64,
    marked: BTreeSet<Key>,
    /// The earliest deadline of the fields of each hash that has any, and where the hash is.
    pub(super) fields: BTreeSet<(u64, Place, Key)>,
    /// A small entry was not what was written when its value was to be changed or taken away.
    pub(super) is_flawed: bool,
}

/// What the index of field deadlines has of an entry.
fn first_field(entry: &Entry) -> Option<(u64, Place, Key)> {
    let deadline = entry.value.next_deadline()?;
    Some((deadline, Place::new(slot(entry.key.bytes()), entry.hash), entry.key.clone()))
}

fn is_large(entry: &Entry) -> bool {
    payload::size(&entry.value) > LARGE_BYTES
}

impl Account {
    /// Counts an entry in.
    pub(super) fn add(&mut self, entry: &mut Entry) {
        self.memory_bytes += entry.memory_bytes();
        self.fields.extend(first_field(entry));
        if is_large(entry) {
            self.marked.insert(entry.key.clone());
        } else {
            self.hash(entry);
        }
    }

    /// Counts an entry in that was written just now and has its fingerprint already.
    pub(super) fn add_hashed(&mut self, entry: &Entry) {
        self.memory_bytes += entry.memory_bytes();
        self.fields.extend(first_field(entry));
        self.sum = self.sum.wrapping_add(entry.print);
    }

    /// Whether the fingerprint of an entry was not taken since it changed.
    pub(super) fn is_marked(&self, entry: &Entry) -> bool {
        is_large(entry) && self.marked.contains(&entry.key)
    }

    /// Takes the fingerprint of an entry and counts it.
    pub(super) fn hash(&mut self, entry: &mut Entry) {
        entry.print = entry.fingerprint(false);
        self.sum = self.sum.wrapping_add(entry.print);
    }

    /// Counts an entry out; it must not have changed since it was counted in.
    pub(super) fn sub(&mut self, entry: &Entry) {
        self.memory_bytes -= entry.memory_bytes();
        if let Some(first) = first_field(entry) {
            self.fields.remove(&first);
        }
        if !is_large(entry) || !self.marked.remove(&entry.key) {
            self.sum = self.sum.wrapping_sub(entry.print);
        }
    }

    /// To be asked before a value is changed in place or moved elsewhere: with the next fingerprint, damage
    /// would be taken for written. The time for large ones is not spent.
    pub(super) fn check(&mut self, entry: &Entry) {
        self.is_flawed |= !is_large(entry) && !self.is_sound(entry);
    }

    /// Whether an entry is what was written; one that is marked cannot be judged.
    pub(super) fn is_sound(&self, entry: &Entry) -> bool {
        entry.print == entry.fingerprint(true) || self.is_marked(entry)
    }

    /// The marked entries, each of which must be given to [`Account::hash`].
    pub(super) fn take_marked(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.marked)
    }

    /// The sum of the fingerprints; nothing may be marked.
    pub(super) fn sum(&self) -> u64 {
        assert!(self.marked.is_empty(), "everything is hashed");
        self.sum
    }
}

/// An entry that is counted out, to be changed; it is counted in again when this is dropped.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    pub(super) entry: &'a mut Entry,
    account: &'a mut Account,
}

impl<'a> Opened<'a> {
    /// Counts the entry out and gives it its next version.
    pub(super) fn new(entry: &'a mut Entry, account: &'a mut Account, version: u64) -> Opened<'a> {
        account.sub(entry);
        entry.version = version;
        Opened { entry, account }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.account.add(self.entry);
    }
}
