//! The keys of one slot in one database, in the order (hash, key).
//!
//! Mostly a single leaf. One that has grown large is split by the next bits of the hash into sixteen,
//! so that no write ever moves more than a leaf's entries, also when a hash tag puts a whole dataset
//! into one slot. Neither the leaves nor the buckets in them show: order is a function of the keys, and
//! SCAN, RANDOMKEY and snapshots follow it; it survives growth, restore and failover without being
//! stored.
//!
//! Invariants:
//! * A key is in the leaf that its hash leads to.
//! * `len` of a branch is the number of keys below it.

use super::entry::Entry;
use super::leaf::Leaf;

/// A leaf with this many keys is split: moving them takes well below a millisecond.
const SPLIT_LEN: usize = 4096;
/// A branch with this many keys becomes a leaf again.
const MERGE_LEN: usize = 1024;
/// Hash bits that choose a child.
const BITS: u8 = 4;
/// Leaves that share so many bits are not split: with a keyed hash no slot gets there.
const SHARED_MAX: u8 = 16;

/// Where an entry is, until the next insertion or removal in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pos {
    /// The entry's hash, which leads to its leaf.
    pub(super) hash: u32,
    /// Its index there.
    pub(super) index: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) enum Table {
    Leaf(Leaf),
    Branch(Branch),
}

/// Sixteen tables by the next bits of the hash.
#[derive(Debug)]
pub(super) struct Branch {
    children: Vec<Table>,
    shared: u8,
    first: u32,
    len: usize,
}

impl Branch {
    fn child(&self, hash: u32) -> usize {
        (hash << self.shared >> (32 - BITS)) as usize
    }
}

impl Table {
    /// A table without keys.
    pub(super) fn new() -> Table {
        Table::Leaf(Leaf::new(0, 0))
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        match self {
            Table::Leaf(leaf) => leaf.entries().len(),
            Table::Branch(branch) => branch.len,
        }
    }

    /// The leaf that a hash leads to.
    pub(super) fn leaf(&self, hash: u32) -> &Leaf {
        let mut table = self;
        loop {
            match table {
                Table::Leaf(leaf) => return leaf,
                Table::Branch(branch) => table = &branch.children[branch.child(hash)],
            }
        }
    }

    /// The leaf that a hash leads to, and the greatest hash that leads there.
    pub(super) fn leaf_and_last(&self, hash: u32) -> (&Leaf, u32) {
        let mut table = self;
        let mut shared = 0;
        loop {
            match table {
                Table::Leaf(leaf) => return (leaf, hash | (u64::from(u32::MAX) >> shared) as u32),
                Table::Branch(branch) => {
                    table = &branch.children[branch.child(hash)];
                    shared = branch.shared + BITS;
                }
            }
        }
    }

    /// All entries, in no order that means anything.
    pub(super) fn for_each(&self, visit: &mut dyn FnMut(&Entry)) {
        match self {
            Table::Leaf(leaf) => leaf.entries().iter().for_each(visit),
            Table::Branch(branch) => branch.children.iter().for_each(|child| child.for_each(visit)),
        }
    }

    /// The entry at a position.
    pub(super) fn at(&self, pos: Pos) -> &Entry {
        self.leaf(pos.hash).at(pos.index)
    }

    /// The entry to change; key and hash must stay.
    pub(super) fn at_mut(&mut self, pos: Pos) -> &mut Entry {
        match self {
            Table::Leaf(leaf) => leaf.at_mut(pos.index),
            Table::Branch(branch) => {
                let child = branch.child(pos.hash);
                branch.children[child].at_mut(pos)
            }
        }
    }

    /// The position of a key.
    pub(super) fn find(&self, hash: u32, key: &[u8]) -> Option<Pos> {
        self.leaf(hash).find(hash, key).map(|index| Pos { hash, index })
    }

    /// The key and its entry.
    pub(super) fn get(&self, hash: u32, key: &[u8]) -> Option<&Entry> {
        let leaf = self.leaf(hash);
        leaf.find(hash, key).map(|index| leaf.at(index))
    }

    /// All keys with this hash and their positions, in no order that means anything.
    pub(super) fn with_hash(&self, hash: u32) -> impl Iterator<Item = (Pos, &Entry)> {
        self.leaf(hash).with_hash(hash).map(move |(index, entry)| (Pos { hash, index }, entry))
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.insert_below(entry, 0, 0);
    }

    fn insert_below(&mut self, entry: Entry, shared: u8, first: u32) {
        match self {
            Table::Leaf(leaf) if leaf.entries().len() >= SPLIT_LEN && shared < SHARED_MAX => {
                *self = Table::Branch(split(leaf.take_entries(), shared, first));
                self.insert_below(entry, shared, first);
            }
            Table::Leaf(leaf) => leaf.insert(entry),
            Table::Branch(branch) => {
                branch.len += 1;
                let child = branch.child(entry.hash);
                let first = branch.first + ((child as u32) << (32 - BITS - branch.shared));
                branch.children[child].insert_below(entry, branch.shared + BITS, first);
            }
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, pos: Pos) -> Entry {
        match self {
            Table::Leaf(leaf) => leaf.remove(pos.index),
            Table::Branch(branch) => {
                branch.len -= 1;
                let child = branch.child(pos.hash);
                let entry = branch.children[child].remove(pos);
                if branch.len <= MERGE_LEN {
                    let mut entries = Vec::with_capacity(branch.len);
                    branch.children.iter_mut().for_each(|child| child.take_entries(&mut entries));
                    *self = Table::Leaf(Leaf::of(branch.shared, branch.first, entries));
                }
                entry
            }
        }
    }

    fn take_entries(&mut self, entries: &mut Vec<Entry>) {
        match self {
            Table::Leaf(leaf) => entries.append(&mut leaf.take_entries()),
            Table::Branch(branch) => branch.children.iter_mut().for_each(|child| child.take_entries(entries)),
        }
    }

    /// Collects the entries of the first non-empty bucket that holds hashes from `from` on, in order, and
    /// returns where to go on; nothing when this was the last one.
    pub(super) fn bucket_from(&self, mut from: u32, found: &mut Vec<Pos>) -> Option<u32> {
        found.clear();
        loop {
            let (leaf, last) = self.leaf_and_last(from);
            let next = leaf.bucket_from(from, found).or(last.checked_add(1));
            match next {
                Some(next) if found.is_empty() => from = next,
                _ => return next,
            }
        }
    }

    /// Collects the entries with hashes from `first` to `last`, in order.
    pub(super) fn between(&self, first: u32, last: u32, found: &mut Vec<Pos>) {
        found.clear();
        let mut from = first;
        loop {
            let (leaf, leaf_last) = self.leaf_and_last(from);
            leaf.between(from, last.min(leaf_last), found);
            if leaf_last >= last {
                return;
            }
            from = leaf_last + 1;
        }
    }

    /// Frees some leaves of a table that nobody uses any more, about `count` keys; gives the number of keys
    /// that were freed, and whether nothing is left.
    pub(super) fn wear_down(&mut self, count: usize) -> (usize, bool) {
        let Table::Branch(branch) = self else { return (self.len(), true) };
        let mut freed = 0;
        while let Some(child) = branch.children.last_mut() {
            let (keys, gone) = child.wear_down(count - freed);
            freed += keys;
            if gone {
                branch.children.pop();
            }
            if freed >= count || !gone {
                return (freed, branch.children.is_empty());
            }
        }
        (freed, true)
    }
}

/// Sixteen leaves from the entries of one.
fn split(entries: Vec<Entry>, shared: u8, first: u32) -> Branch {
    let mut branch = Branch { children: Vec::new(), shared, first, len: entries.len() };
    let mut parts: Vec<Vec<Entry>> = (0..1 << BITS).map(|_| Vec::new()).collect();
    for entry in entries {
        parts[branch.child(entry.hash)].push(entry);
    }
    let leaf = |(child, mut entries): (u32, Vec<Entry>)| {
        entries.shrink_to_fit();
        Table::Leaf(Leaf::of(shared + BITS, first + (child << (32 - BITS - shared)), entries))
    };
    branch.children = (0..).zip(parts).map(leaf).collect();
    branch
}
