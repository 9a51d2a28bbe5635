//! A bounded number of keys: a dense array of entries under hash buckets.
//!
//! All hashes of a leaf begin with the same bits; a bucket is the bits behind those. So ascending
//! buckets are ascending hashes however many there are. The position in the array depends on the
//! history and must never reach a reply.
//!
//! Invariants:
//! * Every entry is in exactly one chain, that of its bucket.
//! * The number of buckets is a power of two, and at least the number of entries unless the hash has no
//!   more bits.

use smallvec::{SmallVec, smallvec};

use super::entry::Entry;
use super::table::Pos;

/// So many bucket heads lie in the leaf itself: a dataset of some keys per slot is looked up with one wait for
/// memory less, and takes no more of it.
const HEADS_INLINE: usize = 8;
/// The end of a chain.
const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct Leaf {
    entries: Vec<Entry>,
    /// First entry of each bucket.
    heads: SmallVec<[u32; HEADS_INLINE]>,
    /// The number of buckets is two to this.
    bits: u8,
    /// The number of leading bits that all hashes share.
    shared: u8,
    /// The least hash that belongs here.
    first: u32,
}

impl Leaf {
    /// A leaf without keys, for hashes that share their leading `shared` bits with `first`.
    pub(super) fn new(shared: u8, first: u32) -> Leaf {
        Leaf { entries: Vec::new(), heads: smallvec![NONE], bits: 0, shared, first }
    }

    /// A leaf of entries that belong there.
    pub(super) fn of(shared: u8, first: u32, entries: Vec<Entry>) -> Leaf {
        let mut leaf = Leaf { entries, ..Leaf::new(shared, first) };
        leaf.rebuild(leaf.entries.len().next_power_of_two().trailing_zeros() as u8);
        leaf
    }

    /// All entries, in no order that means anything.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All entries, to be put elsewhere.
    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        self.heads = smallvec![NONE];
        self.bits = 0;
        std::mem::take(&mut self.entries)
    }

    /// The entry at an index.
    pub(super) fn at(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }

    /// The entry to change; key and hash must stay.
    pub(super) fn at_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize]
    }

    fn bucket(&self, hash: u32) -> usize {
        let behind = u64::from(hash) << (32 + self.shared);
        // Two shifts, because one by 64 is none.
        ((behind >> 1) >> (63 - self.bits)) as usize
    }

    /// The least hash of a bucket.
    fn first_of(&self, bucket: usize) -> u32 {
        self.first + ((bucket as u64) << (32 - self.shared - self.bits)) as u32
    }

    /// The entries of a bucket, in no order that means anything.
    fn chain(&self, bucket: usize) -> impl Iterator<Item = (u32, &Entry)> {
        let mut at = self.heads[bucket];
        std::iter::from_fn(move || {
            let index = (at != NONE).then_some(at)?;
            let entry = &self.entries[index as usize];
            at = entry.next;
            Some((index, entry))
        })
    }

    /// The first entry of the bucket that a hash leads to.
    pub(super) fn head(&self, hash: u32) -> Option<&Entry> {
        self.entries.get(self.heads[self.bucket(hash)] as usize)
    }

    /// The index of a key.
    pub(super) fn find(&self, hash: u32, key: &[u8]) -> Option<u32> {
        self.with_hash(hash).find(|(_, entry)| entry.key.bytes() == key).map(|(index, _)| index)
    }

    /// All keys with this hash, in no order that means anything.
    pub(super) fn with_hash(&self, hash: u32) -> impl Iterator<Item = (u32, &Entry)> {
        self.chain(self.bucket(hash)).filter(move |(_, entry)| entry.hash == hash)
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, mut entry: Entry) {
        let index = self.entries.len();
        if index == self.heads.len() && self.bits + self.shared < 32 {
            self.rebuild(self.bits + 1);
        }
        if index == self.entries.capacity() {
            // Doubling would leave a quarter of the memory empty on average; a leaf is small.
            self.entries.reserve_exact((index / 4).max(2));
        }
        let bucket = self.bucket(entry.hash);
        let head = &mut self.heads[bucket];
        entry.next = std::mem::replace(head, u32::try_from(index).expect("a leaf is small"));
        self.entries.push(entry);
    }

    /// Takes an entry out; the last one moves to its index.
    pub(super) fn remove(&mut self, index: u32) -> Entry {
        let last = self.entries.len() as u32 - 1;
        let next = self.at(index).next;
        *self.link_to(index) = next;
        if index != last {
            *self.link_to(last) = index;
        }
        let entry = self.entries.swap_remove(index as usize);
        if self.entries.len() < self.heads.len() / 8 {
            self.rebuild(self.bits - 2);
            self.entries.shrink_to(self.entries.len() + self.entries.len() / 4);
        }
        entry
    }

    /// What points at an entry: its bucket's head or the entry before it.
    fn link_to(&mut self, index: u32) -> &mut u32 {
        let bucket = self.bucket(self.at(index).hash);
        let before = self.chain(bucket).find(|(_, entry)| entry.next == index).map(|(before, _)| before);
        match before {
            Some(before) if self.heads[bucket] != index => &mut self.entries[before as usize].next,
            _ => &mut self.heads[bucket],
        }
    }

    fn rebuild(&mut self, bits: u8) {
        self.bits = bits.min(32 - self.shared);
        self.heads = smallvec![NONE; 1 << self.bits];
        for index in 0..self.entries.len() {
            let bucket = self.bucket(self.entries[index].hash);
            self.entries[index].next = std::mem::replace(&mut self.heads[bucket], index as u32);
        }
    }

    /// Collects the entries of the first non-empty bucket that holds hashes from `from` on, in order, and
    /// returns where the next bucket begins; nothing when this was the last one.
    pub(super) fn bucket_from(&self, from: u32, found: &mut Vec<Pos>) -> Option<u32> {
        for bucket in self.bucket(from)..self.heads.len() {
            let entries = self.chain(bucket).filter(|(_, entry)| entry.hash >= from);
            found.extend(entries.map(|(index, entry)| Pos { hash: entry.hash, index }));
            if !found.is_empty() {
                self.sort(found);
                return (bucket + 1 < self.heads.len()).then(|| self.first_of(bucket + 1));
            }
        }
        None
    }

    /// Adds the entries with hashes from `first` to `last` to `found`, in order; both belong here.
    pub(super) fn between(&self, first: u32, last: u32, found: &mut Vec<Pos>) {
        let begin = found.len();
        for bucket in self.bucket(first)..=self.bucket(last) {
            let entries = self.chain(bucket).filter(|(_, entry)| (first..=last).contains(&entry.hash));
            found.extend(entries.map(|(index, entry)| Pos { hash: entry.hash, index }));
        }
        self.sort(&mut found[begin..]);
    }

    fn sort(&self, found: &mut [Pos]) {
        if found.len() > 1 {
            found.sort_unstable_by(|a, b| {
                let keys = || self.at(a.index).key.cmp(&self.at(b.index).key);
                a.hash.cmp(&b.hash).then_with(keys)
            });
        }
    }
}
