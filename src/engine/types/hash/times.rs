//! When the fields of a hash expire.
//!
//! Two trees beside the fields: deadlines by field and fields by deadline. So a hash without deadlines pays
//! nothing, and finding a deadline, the earliest one, or how many are due takes O(log n).
//!
//! Invariant: both hold the same pairs.

use super::value::begin;
use crate::sequence::Tree;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    /// What a field's item begins with, then its deadline.
    by_field: Tree,
    /// The deadline, then the field.
    by_deadline: Tree,
}

/// The deadline in front of an item of `by_deadline`, and the field.
fn split(item: &[u8]) -> (u64, &[u8]) {
    item.split_first_chunk::<8>().map_or((0, item), |(deadline, field)| (u64::from_be_bytes(*deadline), field))
}

impl Times {
    /// Whether no field has a deadline.
    pub(super) fn is_empty(&self) -> bool {
        self.by_deadline.is_empty()
    }

    /// The number of fields with a deadline.
    pub(super) fn len(&self) -> u64 {
        self.by_deadline.len()
    }

    /// Bytes of both trees.
    pub(super) fn bytes(&self) -> u64 {
        self.by_field.bytes() + self.by_deadline.bytes()
    }

    /// A hash of fields and deadlines.
    pub(super) fn print(&self, anew: bool) -> u64 {
        self.by_field.print(anew)
    }

    /// When a field expires.
    pub(super) fn deadline(&self, field: &[u8]) -> Option<u64> {
        let (_, item) = self.by_field.find(&begin(field))?;
        item.last_chunk::<8>().map(|deadline| u64::from_be_bytes(*deadline))
    }

    /// Gives a field a deadline.
    pub(super) fn set(&mut self, field: &[u8], deadline: u64) {
        self.forget(field);
        let mut item = begin(field);
        item.extend_from_slice(&deadline.to_be_bytes());
        self.by_field.insert(self.by_field.lower_bound(&item), &item);
        let item = [&deadline.to_be_bytes(), field].concat();
        self.by_deadline.insert(self.by_deadline.lower_bound(&item), &item);
    }

    /// The items of the deadlines by field, from some place on.
    pub(super) fn items_from(&self, index: u64) -> impl Iterator<Item = &[u8]> {
        self.by_field.iter_from(index)
    }

    /// Adds an item of [`Times::items_from`], which says this field and deadline; nothing when it is not above the
    /// last one.
    pub(super) fn push(&mut self, item: &[u8], field: &[u8], deadline: u64) -> Option<()> {
        if self.by_field.last().is_some_and(|last| last >= item || self.deadline(field).is_some()) {
            return None;
        }
        self.by_field.push(item);
        let item = [&deadline.to_be_bytes(), field].concat();
        self.by_deadline.insert(self.by_deadline.lower_bound(&item), &item);
        Some(())
    }

    /// Takes a field's deadline away; false when it had none.
    pub(super) fn forget(&mut self, field: &[u8]) -> bool {
        let Some((place, item)) = self.by_field.find(&begin(field)) else { return false };
        let deadline = item.last_chunk::<8>().map_or([0; 8], |deadline| *deadline);
        self.by_field.remove(place);
        let item = [&deadline[..], field].concat();
        let place = self.by_deadline.lower_bound(&item);
        if self.by_deadline.get(place) == Some(&item) {
            self.by_deadline.remove(place);
        }
        true
    }

    /// The earliest deadline.
    pub(super) fn first(&self) -> Option<u64> {
        self.by_deadline.get(0).map(|item| split(item).0)
    }

    /// The latest deadline.
    pub(super) fn last(&self) -> Option<u64> {
        self.by_deadline.get(self.len().checked_sub(1)?).map(|item| split(item).0)
    }

    /// How many fields are due at a moment.
    pub(super) fn due(&self, now_ms: u64) -> u64 {
        match self.first() {
            Some(first) if first <= now_ms => self.by_deadline.lower_bound(&now_ms.saturating_add(1).to_be_bytes()),
            _ => 0,
        }
    }

    /// The first fields that are due at a moment, in the order (deadline, field).
    pub(super) fn due_fields(&self, now_ms: u64, limit: usize) -> Vec<Vec<u8>> {
        let due = self.by_deadline.iter().map(split).take_while(|(deadline, _)| *deadline <= now_ms);
        due.take(limit).map(|(_, field)| field.to_vec()).collect()
    }
}
