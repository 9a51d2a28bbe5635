//! A large hash in units: how many fields and how many deadlines there are, the items of the fields, then those of
//! the deadlines; both ascend.

use std::borrow::Cow;

use super::super::stored::DEADLINE_MAX;
use super::super::times::Times;
use super::{Body, Hash, More, begin, split};
use crate::sequence::{Sequence, Tree};
use crate::types::collection::Typed;
use crate::types::growing::{Growing, push_ascending};
use crate::{Value, codec};

/// See [`Collection::units`].
///
/// [`Collection::units`]: crate::types::collection::Collection::units
pub(in crate::types::hash) fn visit(hash: &Hash, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool) {
    let Body::More(more) = &hash.0 else { return };
    let More { fields: Sequence::Large(fields), times } = &**more else { return };
    let (head, counts) = (from == 0, (fields.len(), times.len()));
    if head && !visit(&codec::bytes(&counts)) {
        return;
    }
    let from = from.saturating_sub(1);
    if fields.iter_from(from).all(&mut *visit) {
        let _ = times.items_from(from.saturating_sub(counts.0)).all(visit);
    }
}

/// A hash that comes.
#[derive(Debug, Default)]
struct Arriving {
    fields: Tree,
    times: Times,
    /// How many of both there will be.
    wanted: Option<(u64, u64)>,
}

/// A hash of which nothing has come yet.
pub(crate) fn growing() -> Box<dyn Growing> {
    Box::new(Arriving::default())
}

impl Growing for Arriving {
    fn add(&mut self, unit: Cow<'_, [u8]>) -> Option<()> {
        let Some((fields, times)) = self.wanted else {
            let (wanted, len) = codec::read(&unit, "hash").ok()?;
            self.wanted = Some(wanted);
            return (len == unit.len()).then_some(());
        };
        if self.fields.len() < fields {
            let (field, _) = split(&unit);
            let same = self.fields.last().is_some_and(|last| split(last).0 == field);
            if same || !unit.starts_with(&begin(field)) {
                return None;
            }
            return push_ascending(&mut self.fields, &unit);
        }
        let (item, deadline) = unit.split_last_chunk::<8>()?;
        let (deadline, (field, rest)) = (u64::from_be_bytes(*deadline), split(item));
        let is_item = rest.is_empty() && begin(field)[..] == *item && (1..=DEADLINE_MAX).contains(&deadline);
        if !is_item || self.times.len() >= times || self.fields.find(item).is_none() {
            return None;
        }
        self.times.push(&unit, field, deadline)
    }

    fn settle(&self) {
        self.fields.print(false);
        self.times.print(false);
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        let whole = self.wanted? == (self.fields.len(), self.times.len()) && !self.fields.is_empty();
        let more = More { fields: Sequence::Large(self.fields), times: self.times };
        whole.then(|| Hash(Body::More(Box::new(more))).into_value())
    }
}
