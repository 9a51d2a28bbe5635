//! The data types: one module each, structure and commands and table rows together.

pub(crate) mod collection;
pub mod generic;
pub mod list;
pub mod string;

use crate::Error;
use crate::command::Group;
use collection::Collection;
use list::List;
use string::StringValue;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string: text, number, bitmap.
    String(StringValue),
    /// A list.
    List(List),
}

const _: () = assert!(size_of::<Value>() == 24, "a value keeps the entry small");

impl Value {
    /// The value as what all types beside strings have in common.
    pub(crate) fn collection(&self) -> Option<&dyn Collection> {
        match self {
            Value::String(_) => None,
            Value::List(list) => Some(list),
        }
    }

    /// The same, to change it.
    pub(crate) fn collection_mut(&mut self) -> Option<&mut dyn Collection> {
        match self {
            Value::String(_) => None,
            Value::List(list) => Some(list),
        }
    }

    /// The type's name as TYPE says it and SCAN TYPE takes it.
    pub fn type_name(&self) -> &'static str {
        self.collection().map_or("string", Collection::type_name)
    }

    /// How many waiting commands of a chapter it may serve.
    pub fn serves(&self, group: Group) -> u64 {
        match (self, group) {
            (Value::List(list), Group::List) => list.len(),
            _ => 0,
        }
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
