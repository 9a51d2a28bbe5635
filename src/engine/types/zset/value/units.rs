//! A large sorted set in units: its elements in order, each its score as eight bytes and the member.

use std::borrow::Cow;

use super::{Form, Large, SCORE, SortedSet, name, order_of, score_of};
use crate::Value;
use crate::types::collection::Typed;
use crate::types::growing::{Growing, push_ascending};

/// See [`Collection::units`].
///
/// [`Collection::units`]: crate::types::collection::Collection::units
pub(super) fn visit(set: &SortedSet, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool) {
    let _ = set.items_from(from).all(visit);
}

/// A sorted set of which nothing has come yet.
pub(crate) fn growing() -> Box<dyn Growing> {
    Box::new(Large::default())
}

impl Growing for Large {
    fn add(&mut self, unit: Cow<'_, [u8]>) -> Option<()> {
        let (order, member) = unit.split_first_chunk::<SCORE>()?;
        let score = score_of(*order);
        if score.is_nan() || order_of(score).to_be_bytes() != *order {
            return None;
        }
        let mut name = name(member);
        let at = self.names.lower_bound(&name);
        if self.names.get(at).is_some_and(|item| item.starts_with(&name)) {
            return None;
        }
        push_ascending(&mut self.order, &unit)?;
        name.extend_from_slice(order);
        self.names.insert(at, &name);
        Some(())
    }

    fn settle(&self) {
        self.order.print(false);
        self.names.print(false);
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        (!self.order.is_empty()).then(|| SortedSet(Form::Large(self)).into_value())
    }
}
