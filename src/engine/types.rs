//! The data types: one module each, structure and commands and table rows together.

pub mod bitmap;
pub(crate) mod collection;
pub mod generic;
pub mod hyperloglog;
pub mod list;
pub mod stream;
pub mod string;

use crate::Error;
use collection::Collection;
use list::List;
use stream::Stream;
use string::StringValue;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string: text, number, bitmap, HyperLogLog.
    String(StringValue),
    /// A list.
    List(List),
    /// A stream.
    Stream(Stream),
}

const _: () = assert!(size_of::<Value>() == 24, "a value keeps the entry small");

impl Value {
    /// The value as what all types beside strings have in common.
    pub(crate) fn collection(&self) -> Option<&dyn Collection> {
        match self {
            Value::String(_) => None,
            Value::List(list) => Some(list),
            Value::Stream(stream) => Some(stream),
        }
    }

    /// The same, to change it.
    pub(crate) fn collection_mut(&mut self) -> Option<&mut dyn Collection> {
        match self {
            Value::String(_) => None,
            Value::List(list) => Some(list),
            Value::Stream(stream) => Some(stream),
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
