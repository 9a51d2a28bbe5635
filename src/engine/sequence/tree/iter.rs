//! Walking through the items of a tree, in both directions.

use super::{Body, Child, Node};
use crate::sequence::PackIter;

/// Items from some index on.
#[derive(Debug)]
pub(crate) struct Iter<'a> {
    /// The children still to come, of each inner node on the way.
    above: Vec<std::slice::Iter<'a, Child>>,
    leaf: PackIter<'a>,
}

impl<'a> Iter<'a> {
    pub(super) fn new(root: &'a Node, index: u64) -> Iter<'a> {
        let (mut above, mut node, mut index) = (Vec::new(), root, index);
        loop {
            match &node.body {
                Body::Leaf(pack) => {
                    let mut leaf = pack.iter();
                    (0..index.min(pack.len() as u64)).for_each(|_| {
                        leaf.next();
                    });
                    return Iter { above, leaf };
                }
                Body::Inner(children) => {
                    let last = children.len() - 1;
                    let mut at = 0;
                    while at < last && index >= children[at].len {
                        index -= children[at].len;
                        at += 1;
                    }
                    let (child, rest) = (&children[at], children[at + 1..].iter());
                    above.push(rest);
                    node = &child.node;
                }
            }
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(item) = self.leaf.next() {
                return Some(item);
            }
            let mut node = loop {
                match self.above.last_mut()?.next() {
                    Some(child) => break &*child.node,
                    None => {
                        self.above.pop();
                    }
                }
            };
            self.leaf = loop {
                match &node.body {
                    Body::Leaf(pack) => break pack.iter(),
                    Body::Inner(children) => {
                        let mut rest = children.iter();
                        node = &rest.next().expect("an inner node has children").node;
                        self.above.push(rest);
                    }
                }
            };
        }
    }
}

/// Items below some index, from the last to the first.
#[derive(Debug)]
pub(crate) struct IterBack<'a> {
    above: Vec<std::slice::Iter<'a, Child>>,
    leaf: Vec<&'a [u8]>,
}

impl<'a> IterBack<'a> {
    /// `end` is at most the number of items.
    pub(super) fn new(root: &'a Node, end: u64) -> IterBack<'a> {
        let (mut above, mut node, mut end) = (Vec::new(), root, end);
        loop {
            match &node.body {
                Body::Leaf(pack) => return IterBack { above, leaf: pack.iter().take(end as usize).collect() },
                Body::Inner(children) => {
                    let mut at = 0;
                    while end > children[at].len {
                        end -= children[at].len;
                        at += 1;
                    }
                    above.push(children[..at].iter());
                    node = &children[at].node;
                }
            }
        }
    }
}

impl<'a> Iterator for IterBack<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(item) = self.leaf.pop() {
                return Some(item);
            }
            let mut node = loop {
                match self.above.last_mut()?.next_back() {
                    Some(child) => break &*child.node,
                    None => {
                        self.above.pop();
                    }
                }
            };
            self.leaf = loop {
                match &node.body {
                    Body::Leaf(pack) => break pack.iter().collect(),
                    Body::Inner(children) => {
                        let mut rest = children.iter();
                        node = &rest.next_back().expect("an inner node has children").node;
                        self.above.push(rest);
                    }
                }
            };
        }
    }
}
