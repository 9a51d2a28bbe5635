//! A large list in units: its elements.

use std::borrow::Cow;

use super::List;
use crate::Value;
use crate::sequence::{Sequence, Tree};
use crate::types::collection::{Collection, Typed};
use crate::types::growing::Growing;

/// A list of which nothing has come yet.
pub(crate) fn growing() -> Box<dyn Growing> {
    Box::new(List(Sequence::Large(Tree::default())))
}

/// See [`Collection::units`].
pub(super) fn visit(list: &List, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool) {
    let _ = list.iter_from(from).all(visit);
}

impl Growing for List {
    fn add(&mut self, unit: Cow<'_, [u8]>) -> Option<()> {
        self.0.push(&unit);
        Some(())
    }

    fn settle(&self) {
        self.0.print(false);
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        (self.len() > 0).then(|| self.into_value())
    }
}
