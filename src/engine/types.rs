//! The data types: one module each, structure and commands and table rows together.

pub mod string;

use string::StringValue;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string: text, number, bitmap.
    String(StringValue),
}
