//! The nodes of a tree: how items get in and out, and how nodes are split and joined.

use std::sync::{Arc, OnceLock};

use crate::sequence::Pack;

/// A leaf with more bytes is split, unless it has one item.
const LEAF_BYTES_MAX: usize = 1024;
/// A leaf with fewer bytes is joined with a neighbour, if both fit in three quarters of a leaf.
const LEAF_BYTES_MIN: usize = LEAF_BYTES_MAX / 4;
/// Children of an inner node.
const FANOUT: usize = 32;
/// Prints of items are the digits of a number to this base.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) body: Body,
    /// The print of all items, once it was asked for.
    print: OnceLock<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Leaf(Pack),
    Inner(Vec<Child>),
}

#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) node: Arc<Node>,
    pub(super) len: u64,
    bytes: u64,
    /// The first eight bytes of the first item.
    pub(super) first: u64,
}

impl Default for Node {
    fn default() -> Node {
        Node::new(Body::Leaf(Pack::default()))
    }
}

/// The beginning of an item as a number that orders as the item does.
pub(super) fn prefix(item: &[u8]) -> u64 {
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
    pub(super) fn new(node: Node) -> Child {
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
    pub(super) fn new(body: Body) -> Node {
        Node { body, print: OnceLock::new() }
    }

    /// The number of items and the bytes of their packs.
    pub(super) fn totals(&self) -> (u64, u64) {
        match &self.body {
            Body::Leaf(pack) => (pack.len() as u64, pack.item_bytes() as u64),
            Body::Inner(children) => {
                children.iter().fold((0, 0), |(len, bytes), child| (len + child.len, bytes + child.bytes))
            }
        }
    }

    /// The first item; an empty one when there is none.
    pub(super) fn first(&self) -> &[u8] {
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
        self.print.take();
        match (&mut self.body, &next.body) {
            (Body::Leaf(one), Body::Leaf(other)) => one.append(other),
            (Body::Inner(one), Body::Inner(other)) => one.extend_from_slice(other),
            _ => unreachable!("neighbours are of one height"),
        }
    }

    /// Puts an item at `index`; gives the right half when the node had to be split.
    pub(super) fn insert(&mut self, index: u64, item: &[u8]) -> Option<Node> {
        self.print.take();
        match &mut self.body {
            Body::Leaf(pack) if index as usize == pack.len() && !pack.is_empty() && is_long(pack, item) => {
                // One of both would be split off: a long item is copied once.
                Some(Node::new(Body::Leaf(Pack::of(std::iter::once(item)))))
            }
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

    pub(super) fn remove(&mut self, index: u64) {
        self.print.take();
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
    pub(super) fn overwrite(&mut self, index: u64, item: &[u8]) {
        self.print.take();
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

    pub(super) fn print(&self, anew: bool) -> u64 {
        if anew { self.compute_print(true) } else { *self.print.get_or_init(|| self.compute_print(false)) }
    }

    fn compute_print(&self, anew: bool) -> u64 {
        match &self.body {
            Body::Leaf(pack) => pack
                .iter()
                .fold(0u64, |print, item| print.wrapping_mul(BASE).wrapping_add(xxhash_rust::xxh3::xxh3_64(item))),
            Body::Inner(children) => children
                .iter()
                .fold(0u64, |print, child| print.wrapping_mul(power(child.len)).wrapping_add(child.node.print(anew))),
        }
    }

    pub(super) fn flip_bit(&mut self) -> bool {
        match &mut self.body {
            Body::Leaf(pack) => pack.flip_bit(),
            Body::Inner(children) => children.iter_mut().any(|child| Arc::make_mut(&mut child.node).flip_bit()),
        }
    }
}

/// Whether an item, or the one of a leaf, fills a leaf alone.
fn is_long(pack: &Pack, item: &[u8]) -> bool {
    item.len() > LEAF_BYTES_MAX || pack.as_bytes().len() > LEAF_BYTES_MAX
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
pub(super) fn child_at(children: &[Child], mut index: u64) -> (usize, u64) {
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
