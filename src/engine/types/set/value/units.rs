//! A large set in units: the items of its tree, ascending.

use std::borrow::Cow;

use super::{Body, More, Set, item, large};
use crate::Value;
use crate::sequence::Tree;
use crate::types::collection::{Collection, Typed};
use crate::types::growing::{Growing, push_ascending};
use crate::types::hashed::HASH_BYTES;

/// A set of which nothing has come yet.
pub(crate) fn growing() -> Box<dyn Growing> {
    Box::new(Set(large(Tree::default())))
}

/// See [`Collection::units`].
pub(in crate::types::set) fn visit(set: &Set, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool) {
    let _ = set.tree().is_some_and(|tree| tree.iter_from(from).all(visit));
}

impl Growing for Set {
    fn add(&mut self, unit: Cow<'_, [u8]>) -> Option<()> {
        let Body::More(more) = &mut self.0 else { return None };
        let More::Large(tree) = &mut **more else { return None };
        if unit.get(HASH_BYTES..).is_none_or(|member| item(member)[..] != *unit) {
            return None;
        }
        push_ascending(tree, &unit)
    }

    fn settle(&self) {
        self.hash(false);
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        (self.len() > 0).then(|| self.into_value())
    }
}
