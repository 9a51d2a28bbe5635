//! What is counted for every key of a database: memory and digest.
//!
//! The digest is a wrapping sum of one fingerprint per key, so a write changes it by two terms and the
//! order of writes does not matter. Hashing a large value at every change would cost more than the
//! change; large ones are only marked, and hashed when the digest is asked for.
//!
//! Invariants:
//! * `sum` holds the fingerprints of all small entries and of the large ones in `hashed`.
//! * A large entry is in `hashed` or in `marked`, a small one in neither.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, Key};
use crate::payload;

/// Values above this many bytes are hashed late.
const LARGE_BYTES: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Bytes of all keys and values.
    pub(super) memory_bytes: u64,
    sum: u64,
    hashed: BTreeMap<Key, u64>,
    marked: BTreeSet<Key>,
}

impl Account {
    /// Counts an entry in.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.memory_bytes += entry.memory_bytes();
        if payload::size(&entry.value) > LARGE_BYTES {
            self.marked.insert(entry.key.clone());
        } else {
            self.sum = self.sum.wrapping_add(entry.fingerprint());
        }
    }

    /// Counts an entry out; it must not have changed since it was counted in.
    pub(super) fn sub(&mut self, entry: &Entry) {
        self.memory_bytes -= entry.memory_bytes();
        let print = if payload::size(&entry.value) <= LARGE_BYTES {
            entry.fingerprint()
        } else if self.marked.remove(&entry.key) {
            return;
        } else {
            self.hashed.remove(&entry.key).expect("a large entry is hashed or marked")
        };
        self.sum = self.sum.wrapping_sub(print);
    }

    /// Hashes the marked entries and returns the sum.
    pub(super) fn settle(&mut self, fingerprint: impl Fn(&[u8]) -> u64) -> u64 {
        for key in std::mem::take(&mut self.marked) {
            let print = fingerprint(key.bytes());
            self.sum = self.sum.wrapping_add(print);
            self.hashed.insert(key, print);
        }
        self.sum
    }
}
