//! Large values in units: how one is read a little at a time, and made again from what comes.
//!
//! A unit is a text that means something to the type alone: an element, a member, an entry. The units of a value are
//! counted from 0, and their order is a function of the value. Text is one unit. What is taken in may come from
//! anywhere: a unit that does not fit is refused, and nothing is allocated for an announced number.
//!
//! Invariants:
//! * Reading some units, and adding one, costs the same however many there are.
//! * A value that was made of all units of another is equal to it.

use std::borrow::Cow;

use crate::sequence::Tree;
use crate::types::collection::Collection;
use crate::types::{hash, list, set, stream, zset};
use crate::{Value, payload, rdb};

/// A value that comes unit by unit.
pub(crate) trait Growing: std::fmt::Debug + Send + Sync {
    /// Takes the next unit; nothing when it does not fit.
    fn add(&mut self, unit: Cow<'_, [u8]>) -> Option<()>;

    /// Hashes what was added, so that the end need not.
    fn settle(&self) {}

    /// The value; nothing when something is missing.
    fn finish(self: Box<Self>) -> Option<Value>;
}

/// What the units of a value are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One unit: the payload of DUMP. For collections that are one buffer.
    Payload = 0,
    Text = 1,
    List = 2,
    Set = 3,
    Hash = 4,
    SortedSet = 5,
    Stream = 6,
}

/// The kind of a value whose units can be read a few at a time.
pub(crate) fn kind_of(value: &Value) -> Option<Kind> {
    match value {
        Value::String(_) => return Some(Kind::Text),
        Value::List(_) => Some(Kind::List),
        Value::Set(_) => Some(Kind::Set),
        Value::Hash(_) => Some(Kind::Hash),
        Value::Stream(_) => Some(Kind::Stream),
        Value::SortedSet(_) => Some(Kind::SortedSet),
    }
    .filter(|_| value.collection().is_some_and(Collection::has_units))
}

/// Gives the units of a value from one on, until `visit` says that it has not taken one.
pub(crate) fn units(value: &Value, from: u64, visit: &mut dyn FnMut(&[u8]) -> bool) {
    match value {
        Value::String(text) if from == 0 => {
            visit(&payload::string_bytes(text));
        }
        other => other.collection().into_iter().for_each(|collection| collection.units(from, visit)),
    }
}

/// A value of a kind, by its number, of which nothing has come yet; nothing for an unknown one.
pub(crate) fn grow(kind: u8, origin: u8) -> Option<Box<dyn Growing>> {
    Some(match kind {
        0 | 1 => Box::new(Whole { is_text: kind == 1, origin, unit: None }),
        2 => list::growing(),
        3 => set::growing(),
        4 => hash::growing(),
        5 => zset::growing(),
        6 => stream::growing(),
        _ => return None,
    })
}

/// Puts an item behind the last one of a tree; nothing when it is not above it.
pub(crate) fn push_ascending(tree: &mut Tree, item: &[u8]) -> Option<()> {
    if tree.last().is_some_and(|last| last >= item) {
        return None;
    }
    tree.push(item);
    Some(())
}

/// A value of one unit.
#[derive(Debug)]
struct Whole {
    is_text: bool,
    origin: u8,
    unit: Option<Vec<u8>>,
}

impl Growing for Whole {
    fn add(&mut self, unit: Cow<'_, [u8]>) -> Option<()> {
        self.unit.replace(unit.into_owned()).is_none().then_some(())
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        let unit = self.unit?;
        let value = if self.is_text {
            payload::from_bytes(unit)
        } else {
            let value = rdb::restore_value(&unit, &payload::encodings(self.origin)).ok()?;
            value.collection()?;
            value
        };
        payload::with_origin(value, self.origin)
    }
}
