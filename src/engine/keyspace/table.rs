//! The keys of one slot in one database: a dense array of entries under hash buckets.
//!
//! A bucket is the high bits of the hash, so ascending buckets are ascending hashes however many there
//! are. The order (hash, key) is therefore a function of the keys alone: SCAN, RANDOMKEY and snapshots
//! follow it, and it survives growth, restore and failover without being stored. The position in the
//! array is not: it depends on the history and must never reach a reply.
//!
//! Invariants:
//! * Every entry is in exactly one chain, that of its bucket.
//! * There are at least as many buckets as entries, and the number of buckets is a power of two.

use super::entry::Entry;

/// The end of a chain.
const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    /// First entry of each bucket.
    heads: Box<[u32]>,
    /// The number of buckets is two to this.
    bits: u32,
}

impl Table {
    /// A table without keys.
    pub(super) fn new() -> Table {
        Table { entries: Vec::new(), heads: Box::new([NONE]), bits: 0 }
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries, in no order that means anything.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at a position that [`Table::find`] or [`Table::bucket_from`] gave.
    pub(super) fn at(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    /// The entry to change; key and hash must stay.
    pub(super) fn at_mut(&mut self, index: usize) -> &mut Entry {
        &mut self.entries[index]
    }

    fn bucket(&self, hash: u32) -> usize {
        if self.bits == 0 { 0 } else { (hash >> (32 - self.bits)) as usize }
    }

    /// The position of a key.
    pub(super) fn find(&self, hash: u32, key: &[u8]) -> Option<usize> {
        let mut at = self.heads[self.bucket(hash)];
        while at != NONE {
            let entry = &self.entries[at as usize];
            if entry.hash == hash && entry.key.bytes() == key {
                return Some(at as usize);
            }
            at = entry.next;
        }
        None
    }

    /// All keys with this hash and their positions, in no order that means anything.
    pub(super) fn with_hash(&self, hash: u32) -> impl Iterator<Item = (usize, &Entry)> {
        let mut at = self.heads[self.bucket(hash)];
        let chain = std::iter::from_fn(move || {
            let index = (at != NONE).then_some(at as usize)?;
            at = self.entries[index].next;
            Some((index, &self.entries[index]))
        });
        chain.filter(move |(_, entry)| entry.hash == hash)
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, mut entry: Entry) -> usize {
        let index = self.entries.len();
        if index == self.heads.len() {
            self.rebuild(self.bits + 1);
        }
        if index == self.entries.capacity() {
            // Doubling would leave a quarter of the memory empty on average; a slot's table is small.
            self.entries.reserve_exact((index / 4).max(2));
        }
        let bucket = self.bucket(entry.hash);
        entry.next = self.heads[bucket];
        self.heads[bucket] = u32::try_from(index).expect("a slot holds fewer than 2^32 keys");
        self.entries.push(entry);
        index
    }

    /// Takes an entry out; the last one moves to its position.
    pub(super) fn remove(&mut self, index: usize) -> Entry {
        let last = self.entries.len() - 1;
        let next = self.entries[index].next;
        *self.link_to(index) = next;
        if index != last {
            *self.link_to(last) = index as u32;
        }
        let entry = self.entries.swap_remove(index);
        if self.entries.len() < self.heads.len() / 8 {
            self.rebuild(self.bits - 2);
            self.entries.shrink_to(self.entries.len() + self.entries.len() / 4);
        }
        entry
    }

    /// What points at an entry: its bucket's head or the entry before it.
    fn link_to(&mut self, index: usize) -> &mut u32 {
        let bucket = self.bucket(self.entries[index].hash);
        let index = index as u32;
        let mut before = NONE;
        let mut at = self.heads[bucket];
        while at != index {
            before = at;
            at = self.entries[at as usize].next;
        }
        if before == NONE { &mut self.heads[bucket] } else { &mut self.entries[before as usize].next }
    }

    fn rebuild(&mut self, bits: u32) {
        self.bits = bits;
        self.heads = vec![NONE; 1 << bits].into_boxed_slice();
        for index in 0..self.entries.len() {
            let bucket = self.bucket(self.entries[index].hash);
            self.entries[index].next = std::mem::replace(&mut self.heads[bucket], index as u32);
        }
    }

    /// Collects the entries of the first non-empty bucket that holds hashes from `from` on, in order, and
    /// returns where the next bucket begins; nothing when this was the last one.
    pub(super) fn bucket_from(&self, mut from: u32, found: &mut Vec<u32>) -> Option<u32> {
        found.clear();
        let mut bucket = self.bucket(from);
        loop {
            let mut at = self.heads[bucket];
            while at != NONE {
                let entry = &self.entries[at as usize];
                if entry.hash >= from {
                    found.push(at);
                }
                at = entry.next;
            }
            bucket += 1;
            let next = (bucket < self.heads.len()).then(|| (bucket as u32) << (32 - self.bits));
            match next {
                Some(next) if found.is_empty() => from = next,
                _ => {
                    self.sort(found);
                    return next;
                }
            }
        }
    }

    /// Collects the entries with hashes from `first` to `last`, in order.
    pub(super) fn between(&self, first: u32, last: u32, found: &mut Vec<u32>) {
        found.clear();
        for bucket in self.bucket(first)..=self.bucket(last) {
            let mut at = self.heads[bucket];
            while at != NONE {
                let entry = &self.entries[at as usize];
                if (first..=last).contains(&entry.hash) {
                    found.push(at);
                }
                at = entry.next;
            }
        }
        self.sort(found);
    }

    fn sort(&self, found: &mut [u32]) {
        if found.len() > 1 {
            found.sort_unstable_by(|&a, &b| {
                let (a, b) = (&self.entries[a as usize], &self.entries[b as usize]);
                (a.hash, a.key.bytes()).cmp(&(b.hash, b.key.bytes()))
            });
        }
    }

    /// Frees at most `count` entries of a table that nobody uses any more; true when it is empty.
    pub(super) fn wear_down(&mut self, count: usize) -> bool {
        self.entries.truncate(self.entries.len().saturating_sub(count));
        self.entries.is_empty()
    }
}
