//! Byte strings in a row: what every collection is made of.
//!
//! A small collection is one [`Pack`]: its items one behind the other in one buffer. A large one is a
//! [`Tree`] of packs, which finds an item by its place or, where the items are in ascending order, by its
//! text, and counts as it goes: so a list has indexes, a sorted set ranks and a set uniform random members in
//! O(log n). A type decides only what an item says and how items are ordered.
//!
//! A tree is copied in O(1) and shares its nodes with the copy; a write copies the nodes on its way that are
//! still shared. So a snapshot keeps a large value as it was for the price of a few nodes per write.
//!
//! Invariants:
//! * Neither digest, count, order nor anything that a reply shows depends on the shape of a tree.
//! * Nothing here knows what an item means.

mod pack;
mod tree;

pub(crate) use pack::{Pack, PackIter, items, put_item, put_number};
pub(crate) use tree::Tree;

use tree::{Iter, IterBack};

/// Items in a row, in one buffer or in a tree; which of them is the owner's choice and part of its state.
#[derive(Clone, Debug)]
pub(crate) enum Sequence {
    /// In one buffer.
    Small(Pack),
    /// In a tree.
    Large(Tree),
}

/// Items of a [`Sequence`] from some index on.
#[derive(Debug)]
pub(crate) enum Items<'a> {
    /// Of a pack.
    Small(PackIter<'a>),
    /// Of a tree.
    Large(Iter<'a>),
}

/// Items of a [`Sequence`] below some index, from the last to the first.
#[derive(Debug)]
pub(crate) enum ItemsBack<'a> {
    /// Of a pack.
    Small(std::iter::Rev<std::vec::IntoIter<&'a [u8]>>),
    /// Of a tree.
    Large(IterBack<'a>),
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Items::Small(items) => items.next(),
            Items::Large(items) => items.next(),
        }
    }
}

impl<'a> Iterator for ItemsBack<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            ItemsBack::Small(items) => items.next(),
            ItemsBack::Large(items) => items.next(),
        }
    }
}

impl Default for Sequence {
    fn default() -> Sequence {
        Sequence::Small(Pack::default())
    }
}

impl PartialEq for Sequence {
    /// Equal when nothing can tell them apart: the same kind, the same items.
    fn eq(&self, other: &Sequence) -> bool {
        self.is_small() == other.is_small() && self.iter().eq(other.iter())
    }
}

impl PartialEq for Tree {
    /// Equal when they hold the same items, whatever their shapes.
    fn eq(&self, other: &Tree) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

#[allow(dead_code, reason = "not every type needs all of it, and sorted sets are to come")]
impl Sequence {
    /// Whether it is one buffer.
    pub(crate) fn is_small(&self) -> bool {
        matches!(self, Sequence::Small(_))
    }

    /// Turns it into a tree, items in the same order.
    pub(crate) fn enlarge(&mut self) {
        if let Sequence::Small(pack) = self {
            let mut tree = Tree::default();
            pack.iter().for_each(|item| tree.push(item));
            *self = Sequence::Large(tree);
        }
    }

    /// Turns it into one buffer, items in the same order.
    pub(crate) fn compact(&mut self) {
        if let Sequence::Large(tree) = self {
            let items: Vec<&[u8]> = tree.iter().collect();
            *self = Sequence::Small(Pack::of(items.into_iter()));
        }
    }

    /// The number of items.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Sequence::Small(pack) => pack.len() as u64,
            Sequence::Large(tree) => tree.len(),
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the items and their lengths: the same whatever the history was.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Sequence::Small(pack) => pack.item_bytes() as u64,
            Sequence::Large(tree) => tree.bytes(),
        }
    }

    /// The item at an index.
    pub(crate) fn get(&self, index: u64) -> Option<&[u8]> {
        match self {
            Sequence::Small(pack) => pack.get(usize::try_from(index).ok()?),
            Sequence::Large(tree) => tree.get(index),
        }
    }

    /// Puts an item in front of the one at `index`, or at the end.
    pub(crate) fn insert(&mut self, index: u64, item: &[u8]) {
        match self {
            Sequence::Small(pack) => pack.insert(index as usize, item),
            Sequence::Large(tree) => tree.insert(index, item),
        }
    }

    /// Puts an item at the end.
    pub(crate) fn push(&mut self, item: &[u8]) {
        match self {
            Sequence::Small(pack) => pack.push(item),
            Sequence::Large(tree) => tree.push(item),
        }
    }

    /// Takes `count` items out, the first at `index`. All of them must be there.
    pub(crate) fn remove_range(&mut self, index: u64, count: u64) {
        match self {
            Sequence::Small(pack) => pack.remove_range(index as usize, count as usize),
            Sequence::Large(tree) => tree.remove_range(index, count),
        }
    }

    /// Takes an item out.
    pub(crate) fn remove(&mut self, index: u64) {
        self.remove_range(index, 1);
    }

    /// Puts an item in the place of another.
    pub(crate) fn replace(&mut self, index: u64, item: &[u8]) {
        match self {
            Sequence::Small(pack) => pack.replace(index as usize, item),
            Sequence::Large(tree) => tree.replace(index, item),
        }
    }

    /// See [`Tree::lower_bound`].
    pub(crate) fn lower_bound(&self, key: &[u8]) -> u64 {
        match self {
            Sequence::Small(pack) => pack.iter().take_while(|item| *item < key).count() as u64,
            Sequence::Large(tree) => tree.lower_bound(key),
        }
    }

    /// The items from `index` on.
    pub(crate) fn iter_from(&self, index: u64) -> Items<'_> {
        match self {
            Sequence::Small(pack) => Items::Small(pack.iter_from(index as usize)),
            Sequence::Large(tree) => Items::Large(tree.iter_from(index)),
        }
    }

    /// All items.
    pub(crate) fn iter(&self) -> Items<'_> {
        self.iter_from(0)
    }

    /// The items below `end`, from the last to the first.
    pub(crate) fn iter_back_from(&self, end: u64) -> ItemsBack<'_> {
        match self {
            Sequence::Small(pack) => {
                ItemsBack::Small(pack.iter().take(end as usize).collect::<Vec<_>>().into_iter().rev())
            }
            Sequence::Large(tree) => ItemsBack::Large(tree.iter_back_from(end)),
        }
    }

    /// A hash of the items in order and of the kind, from what was remembered; with `anew` from the bytes alone.
    pub(crate) fn print(&self, anew: bool) -> u64 {
        match self {
            Sequence::Small(pack) => xxhash_rust::xxh3::xxh3_64(pack.as_bytes()),
            Sequence::Large(tree) => tree.print(anew).rotate_left(7) ^ tree.len(),
        }
    }

    /// Flips one bit of an item, as broken memory would; false when no item has one.
    pub(crate) fn flip_bit(&mut self) -> bool {
        match self {
            Sequence::Small(pack) => pack.flip_bit(),
            Sequence::Large(tree) => tree.flip_bit(),
        }
    }
}

#[cfg(test)]
mod tests;
