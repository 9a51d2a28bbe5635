//! A counted B+tree of packs.
//!
//! Leaves hold about a kilobyte of items, or one longer item; inner nodes hold up to [`FANOUT`] children and
//! for each how many items it has, their bytes, and the beginning of its first item. The tree does not care
//! about the order of items but in [`Tree::lower_bound`], which is for ascending ones.
//!
//! Nodes are shared between copies of a tree and copied when one of them writes. Each node remembers the
//! print of its items until it changes: asking for the print of a large value that changed a little is cheap.

use std::sync::Arc;

mod iter;
mod node;

pub(crate) use iter::{Iter, IterBack};

use node::{Body, Child, Node, child_at, prefix};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    root: Arc<Node>,
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

    /// The last item.
    pub(crate) fn last(&self) -> Option<&[u8]> {
        self.get(self.len().checked_sub(1)?)
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
