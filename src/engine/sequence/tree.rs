//! A counted B+tree of packs.
//!
//! Leaves hold about a kilobyte of items, or one longer item; inner nodes hold up to [`FANOUT`] children and
//! for each how many items it has, their bytes, and the beginning of its first item. The tree does not care
//! about the order of items but in [`Tree::lower_bound`], which is for ascending ones.
//!
//! Nodes are shared between copies of a tree and copied when one of them writes. Each node remembers the
//! print of its items until it changes: asking for the print of a large value that changed a little is cheap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Pack;

mod iter;

pub(crate) use iter::{Iter, IterBack};

/// A leaf with more bytes is split, unless it has one item.
const LEAF_BYTES_MAX: usize = 1024;
/// A leaf with fewer bytes is joined with a neighbour, if both fit in three quarters of a leaf.
const LEAF_BYTES_MIN: usize = LEAF_BYTES_MAX / 4;
/// Children of an inner node.
const FANOUT: usize = 32;
/// Prints of items are the digits of a number to this base.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    root: Arc<Node>,
}

#[derive(Debug)]
struct Node {
    body: Body,
    /// The print of all items; 0 when it has to be computed.
    print: AtomicU64,
}

#[derive(Clone, Debug)]
enum Body {
    Leaf(Pack),
    Inner(Vec<Child>),
}

#[derive(Clone, Debug)]
struct Child {
    node: Arc<Node>,
    len: u64,
    bytes: u64,
    /// The first eight bytes of the first item.
    first: u64,
}

impl Default for Node {
    fn default() -> Node {
        Node::new(Body::Leaf(Pack::default()))
    }
}

impl Clone for Node {
    fn clone(&self) -> Node {
        Node { body: self.body.clone(), print: AtomicU64::new(self.print.load(Ordering::Relaxed)) }
    }
}

/// The beginning of an item as a number that orders as the item does.
fn prefix(item: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = item.len().min(8);
    bytes[..len].copy_from_slice(&item[..len]);
    u64::from_be_bytes(bytes)
}

/// `BASE` to the power of `n`.
fn power(mut n: u64) -> u64 {
    let (mut result, mut square) = (1u64, BASE);
    while n > 0 {
        if n & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        n >>= 1;
    }
    result
}

impl Child {
    fn new(node: Node) -> Child {
        let mut child = Child { node: Arc::new(node), len: 0, bytes: 0, first: 0 };
        child.count();
        child
    }

    /// Counts what the node has now.
    fn count(&mut self) {
        (self.len, self.bytes) = self.node.totals();
        self.first = prefix(self.node.first());
    }
}

impl Node {
    fn new(body: Body) -> Node {
        Node { body, print: AtomicU64::new(0) }
    }

    /// The number of items and the bytes of their packs.
    fn totals(&self) -> (u64, u64) {
        match &self.body {
            Body::Leaf(pack) => (pack.len() as u64, pack.item_bytes() as u64),
            Body::Inner(children) => {
                children.iter().fold((0, 0), |(len, bytes), child| (len + child.len, bytes + child.bytes))
            }
        }
    }

    /// The first item; an empty one when there is none.
    fn first(&self) -> &[u8] {
        match &self.body {
            Body::Leaf(pack) => pack.get(0).unwrap_or_default(),
            Body::Inner(children) => children.first().map_or(&[], |child| child.node.first()),
        }
    }

    /// Whether it should be joined with a neighbour.
    fn is_thin(&self) -> bool {
        match &self.body {
            Body::Leaf(pack) => pack.as_bytes().len() < LEAF_BYTES_MIN,
            Body::Inner(children) => children.len() < FANOUT / 4,
        }
    }

    /// Whether a node and the one behind it should become one.
    fn joins(&self, next: &Node) -> bool {
        match (&self.body, &next.body) {
            (Body::Leaf(one), Body::Leaf(other)) => {
                one.as_bytes().len() + other.as_bytes().len() <= LEAF_BYTES_MAX / 4 * 3
            }
            (Body::Inner(one), Body::Inner(other)) => one.len() + other.len() <= FANOUT / 4 * 3,
            _ => false,
        }
    }

    fn absorb(&mut self, next: &Node) {
        *self.print.get_mut() = 0;
        match (&mut self.body, &next.body) {
            (Body::Leaf(one), Body::Leaf(other)) => one.append(other),
            (Body::Inner(one), Body::Inner(other)) => one.extend_from_slice(other),
            _ => unreachable!("neighbours are of one height"),
        }
    }

    /// Puts an item at `index`; gives the right half when the node had to be split.
    fn insert(&mut self, index: u64, item: &[u8]) -> Option<Node> {
        *self.print.get_mut() = 0;
        match &mut self.body {
            Body::Leaf(pack) => {
                pack.insert(index as usize, item);
                split_leaf(pack, index as usize).map(|right| Node::new(Body::Leaf(right)))
            }
            Body::Inner(children) => {
                let (at, index) = child_for_insert(children, index);
                let child = &mut children[at];
                let right = Arc::make_mut(&mut child.node).insert(index, item);
                child.count();
                children.splice(at + 1..at + 1, right.map(Child::new));
                (children.len() > FANOUT).then(|| {
                    // Where items come in order, full nodes stay behind.
                    let keep = if at + 2 >= children.len() { FANOUT } else { FANOUT / 2 };
                    Node::new(Body::Inner(children.split_off(keep)))
                })
            }
        }
    }

    fn remove(&mut self, index: u64) {
        *self.print.get_mut() = 0;
        match &mut self.body {
            Body::Leaf(pack) => pack.remove(index as usize),
            Body::Inner(children) => {
                let (at, index) = child_at(children, index);
                let child = &mut children[at];
                Arc::make_mut(&mut child.node).remove(index);
                child.count();
                tidy(children, at);
            }
        }
    }

    /// Puts an item of the same length in the place of another.
    fn overwrite(&mut self, index: u64, item: &[u8]) {
        *self.print.get_mut() = 0;
        match &mut self.body {
            Body::Leaf(pack) => pack.replace(index as usize, item),
            Body::Inner(children) => {
                let (at, index) = child_at(children, index);
                let child = &mut children[at];
                Arc::make_mut(&mut child.node).overwrite(index, item);
                child.first = prefix(child.node.first());
            }
        }
    }

    fn print(&self, anew: bool) -> u64 {
        let known = self.print.load(Ordering::Relaxed);
        if known != 0 && !anew {
            return known;
        }
        let print = match &self.body {
            Body::Leaf(pack) => pack
                .iter()
                .fold(0u64, |print, item| print.wrapping_mul(BASE).wrapping_add(xxhash_rust::xxh3::xxh3_64(item))),
            Body::Inner(children) => children
                .iter()
                .fold(0u64, |print, child| print.wrapping_mul(power(child.len)).wrapping_add(child.node.print(anew))),
        };
        if !anew {
            self.print.store(print, Ordering::Relaxed);
        }
        print
    }

    fn flip_bit(&mut self) -> bool {
        match &mut self.body {
            Body::Leaf(pack) => pack.flip_bit(),
            Body::Inner(children) => children.iter_mut().any(|child| Arc::make_mut(&mut child.node).flip_bit()),
        }
    }
}

/// Splits a leaf that has become too large by an item at `index`.
fn split_leaf(pack: &mut Pack, index: usize) -> Option<Pack> {
    let len = pack.len();
    if pack.as_bytes().len() <= LEAF_BYTES_MAX || len == 1 {
        return None;
    }
    // Where items come in order, full leaves stay behind.
    if index + 1 == len {
        return Some(pack.split_off(len - 1));
    }
    if index == 0 {
        return Some(pack.split_off(1));
    }
    let half = pack.as_bytes().len() / 2;
    let mut bytes = 0;
    let before = pack.iter().take_while(|item| {
        bytes += item.len() + 1;
        bytes <= half
    });
    let keep = before.count().clamp(1, len - 1);
    Some(pack.split_off(keep))
}

/// The child that holds the item at `index`, and the item's index there.
fn child_at(children: &[Child], mut index: u64) -> (usize, u64) {
    for (at, child) in children.iter().enumerate() {
        if index < child.len {
            return (at, index);
        }
        index -= child.len;
    }
    panic!("an index behind the last item");
}

/// The child that takes an item for `index`, and its index there.
fn child_for_insert(children: &[Child], mut index: u64) -> (usize, u64) {
    for (at, child) in children.iter().enumerate() {
        if index <= child.len {
            return (at, index);
        }
        index -= child.len;
    }
    panic!("an index behind the end");
}

/// Puts children in order after an item of the one at `at` was removed.
fn tidy(children: &mut Vec<Child>, at: usize) {
    if children[at].len == 0 {
        children.remove(at);
        return;
    }
    if !children[at].node.is_thin() {
        return;
    }
    let pairs = [at.checked_sub(1).map(|left| (left, at)), Some((at, at + 1))];
    for (left, right) in pairs.into_iter().flatten() {
        if right < children.len() && children[left].node.joins(&children[right].node) {
            let next = children.remove(right);
            Arc::make_mut(&mut children[left].node).absorb(&next.node);
            children[left].count();
            return;
        }
    }
}

impl Tree {
    /// The number of items.
    pub(crate) fn len(&self) -> u64 {
        self.root.totals().0
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the items and their lengths: the same whatever the history was.
    pub(crate) fn bytes(&self) -> u64 {
        self.root.totals().1
    }

    /// The item at an index.
    pub(crate) fn get(&self, index: u64) -> Option<&[u8]> {
        let (mut node, mut index) = (&*self.root, index);
        loop {
            match &node.body {
                Body::Leaf(pack) => return pack.get(usize::try_from(index).ok()?),
                Body::Inner(children) => {
                    if index >= node.totals().0 {
                        return None;
                    }
                    let (at, inside) = child_at(children, index);
                    (node, index) = (&children[at].node, inside);
                }
            }
        }
    }

    /// Puts an item in front of the one at `index`, or at the end.
    pub(crate) fn insert(&mut self, index: u64, item: &[u8]) {
        let root = Arc::make_mut(&mut self.root);
        if let Some(right) = root.insert(index, item) {
            let left = std::mem::take(root);
            *root = Node::new(Body::Inner(vec![Child::new(left), Child::new(right)]));
        }
    }

    /// Puts an item at the end.
    pub(crate) fn push(&mut self, item: &[u8]) {
        self.insert(self.len(), item);
    }

    /// Takes an item out.
    pub(crate) fn remove(&mut self, index: u64) {
        let root = Arc::make_mut(&mut self.root);
        root.remove(index);
        while let Body::Inner(children) = &mut root.body {
            match children.len() {
                0 => *root = Node::default(),
                1 => *root = Arc::unwrap_or_clone(children.remove(0).node),
                _ => break,
            }
        }
    }

    /// Takes `count` items out, the first at `index`.
    pub(crate) fn remove_range(&mut self, index: u64, count: u64) {
        (0..count).for_each(|_| self.remove(index));
    }

    /// Puts an item in the place of another.
    pub(crate) fn replace(&mut self, index: u64, item: &[u8]) {
        if self.get(index).is_some_and(|old| old.len() == item.len()) {
            Arc::make_mut(&mut self.root).overwrite(index, item);
        } else {
            self.remove(index);
            self.insert(index, item);
        }
    }

    /// The index of the first item that is not below `key`, where the items ascend byte by byte; their number
    /// when all are below. An item that begins with `key` is not below it.
    pub(crate) fn lower_bound(&self, key: &[u8]) -> u64 {
        let (wanted, mut node, mut before) = (prefix(key), &*self.root, 0);
        loop {
            match &node.body {
                Body::Leaf(pack) => return before + pack.iter().take_while(|item| *item < key).count() as u64,
                Body::Inner(children) => {
                    // The last child that begins below the key, or the first one.
                    let below = children.partition_point(|child| {
                        child.first < wanted || child.first == wanted && child.node.first() < key
                    });
                    let at = below.saturating_sub(1);
                    before += children[..at].iter().map(|child| child.len).sum::<u64>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// The item that begins with `key` and its index, where the items ascend and no other begins with it.
    pub(crate) fn find(&self, key: &[u8]) -> Option<(u64, &[u8])> {
        let index = self.lower_bound(key);
        self.get(index).filter(|item| item.starts_with(key)).map(|item| (index, item))
    }

    /// The items from `index` on.
    pub(crate) fn iter_from(&self, index: u64) -> Iter<'_> {
        Iter::new(&self.root, index)
    }

    /// All items.
    pub(crate) fn iter(&self) -> Iter<'_> {
        self.iter_from(0)
    }

    /// The items below `end`, from the last to the first.
    pub(crate) fn iter_back_from(&self, end: u64) -> IterBack<'_> {
        IterBack::new(&self.root, end.min(self.len()))
    }

    /// A hash of the items in order, from what the nodes remember; with `anew` from the bytes alone.
    pub(crate) fn print(&self, anew: bool) -> u64 {
        self.root.print(anew)
    }

    /// Flips one bit of an item, as broken memory would; false when no item has one.
    pub(crate) fn flip_bit(&mut self) -> bool {
        Arc::make_mut(&mut self.root).flip_bit()
    }

    /// The number of leaves.
    #[cfg(test)]
    pub(super) fn leaves(&self) -> usize {
        fn count(node: &Node) -> usize {
            match &node.body {
                Body::Leaf(_) => 1,
                Body::Inner(children) => children.iter().map(|child| count(&child.node)).sum(),
            }
        }
        count(&self.root)
    }
}
