//! The data types: one module each, structure and commands and table rows together.

pub mod bitmap;
pub mod generic;
pub mod hyperloglog;
pub mod string;

use crate::Error;
use string::StringValue;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string: text, number, bitmap, HyperLogLog.
    String(StringValue),
}

impl Value {
    /// The type's name as TYPE says it and SCAN TYPE takes it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
        }
    }

    /// What OBJECT ENCODING says.
    pub fn encoding(&self) -> &'static str {
        match self {
            Value::String(text) => text.encoding(),
        }
    }

    /// The string.
    ///
    /// # Errors
    /// When the value has another type.
    pub fn as_string(&self) -> Result<&StringValue, Error> {
        match self {
            Value::String(text) => Ok(text),
        }
    }

    /// The string, to change it.
    ///
    /// # Errors
    /// When the value has another type.
    pub fn as_string_mut(&mut self) -> Result<&mut StringValue, Error> {
        match self {
            Value::String(text) => Ok(text),
        }
    }
}
