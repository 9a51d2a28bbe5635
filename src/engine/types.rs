//! The data types: one module each, structure and commands and table rows together.

pub mod bitmap;
pub(crate) mod collection;
mod first;
pub mod generic;
pub mod geo;
pub(crate) mod growing;
pub mod hash;
pub(crate) mod hashed;
pub mod hyperloglog;
pub mod list;
pub mod set;
pub mod stream;
pub mod string;
pub mod zset;

use crate::Error;
use collection::Collection;
use hash::Hash;
use list::List;
use set::Set;
use stream::Stream;
use string::StringValue;
use zset::SortedSet;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string: text, number, bitmap, HyperLogLog.
    String(StringValue),
    /// A list.
    List(List),
    /// A set.
    Set(Set),
    /// A hash.
    Hash(Hash),
    /// A stream.
    Stream(Stream),
    /// A sorted set.
    SortedSet(SortedSet),
}

const _: () = assert!(size_of::<Value>() == 24, "a value keeps the entry small");

impl Value {
    /// The value as what all types beside strings have in common.
    pub(crate) fn collection(&self) -> Option<&dyn Collection> {
        match self {
            Value::String(_) => None,
            Value::List(list) => Some(list),
            Value::Set(set) => Some(set),
            Value::Hash(hash) => Some(hash),
            Value::Stream(stream) => Some(stream),
            Value::SortedSet(set) => Some(set),
        }
    }

    /// The same, to change it.
    pub(crate) fn collection_mut(&mut self) -> Option<&mut dyn Collection> {
        match self {
            Value::String(_) => None,
            Value::List(list) => Some(list),
            Value::Set(set) => Some(set),
            Value::Hash(hash) => Some(hash),
            Value::Stream(stream) => Some(stream),
            Value::SortedSet(set) => Some(set),
        }
    }

    /// The type's name as TYPE says it and SCAN TYPE takes it.
    pub fn type_name(&self) -> &'static str {
        self.collection().map_or("string", Collection::type_name)
    }

    /// What OBJECT ENCODING says.
    pub fn encoding(&self) -> &'static str {
        match self {
            Value::String(text) => text.encoding(),
            other => other.collection().map_or("", Collection::encoding),
        }
    }

    /// Parts of it that are due at a moment: the fields of a hash.
    pub(crate) fn due(&self, now_ms: u64) -> u64 {
        if let Value::Hash(hash) = self { hash.due(now_ms) } else { 0 }
    }

    /// Whether all its parts are due at a moment, so that it is gone for everybody.
    pub(crate) fn is_gone(&self, now_ms: u64) -> bool {
        if let Value::Hash(hash) = self { hash.is_gone(now_ms) } else { false }
    }

    /// From when on [`Value::is_gone`] is true, if that ever comes by itself.
    pub(crate) fn gone_at(&self) -> Option<u64> {
        if let Value::Hash(hash) = self { hash.gone_at() } else { None }
    }

    /// Takes at most `limit` of the parts out that are due at a moment; gives how many.
    pub(crate) fn remove_due(&mut self, now_ms: u64, limit: usize) -> usize {
        if let Value::Hash(hash) = self { hash.remove_due(now_ms, limit) } else { 0 }
    }

    /// When the first of its parts expires.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if let Value::Hash(hash) = self { hash.next_deadline() } else { None }
    }

    /// The string.
    ///
    /// # Errors
    /// When the value has another type.
    pub fn as_string(&self) -> Result<&StringValue, Error> {
        if let Value::String(text) = self { Ok(text) } else { Err(Error::WrongType) }
    }

    /// The string, to change it.
    ///
    /// # Errors
    /// When the value has another type.
    pub fn as_string_mut(&mut self) -> Result<&mut StringValue, Error> {
        if let Value::String(text) = self { Ok(text) } else { Err(Error::WrongType) }
    }
}
