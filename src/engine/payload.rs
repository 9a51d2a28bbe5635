//! What a value is as bytes: the one view that digest, memory count and RDB share.
//!
//! Invariants:
//! * [`from_bytes`] chooses the encoding that Redis gives a string after loading it.
//! * [`is_natural`] tells whether a value has that encoding; one that has not is marked in a snapshot,
//!   because OBJECT ENCODING shows the difference.

use std::borrow::Cow;

use crate::Value;
use crate::types::string::StringValue;

/// The number of a string whose text is exactly how that number prints.
pub(crate) fn canonical_int(text: &[u8]) -> Option<i64> {
    crate::number::integer(text)
}

/// The text of a string value.
pub(crate) fn string_bytes(value: &StringValue) -> Cow<'_, [u8]> {
    match value {
        StringValue::Int(n) => Cow::Owned(itoa::Buffer::new().format(*n).as_bytes().to_vec()),
        text => Cow::Borrowed(text.text_bytes()),
    }
}

/// A string value in the encoding that Redis chooses after loading it.
pub(crate) fn from_bytes(bytes: Vec<u8>) -> Value {
    Value::String(StringValue::new(&bytes))
}

/// A string value that was changed in place before, whatever its text.
pub(crate) fn raw_from_bytes(bytes: Vec<u8>) -> Value {
    Value::String(StringValue::grown(bytes))
}

/// Whether the value has the encoding that its text has after loading.
pub(crate) fn is_natural(value: &Value) -> bool {
    let Value::String(value) = value;
    let mut digits = itoa::Buffer::new();
    matches!(value, StringValue::Int(_)) || value.encoding() == StringValue::new(value.bytes(&mut digits)).encoding()
}

/// The size of the text, or what stands for it, in bytes: what hashing the value costs.
pub(crate) fn size(value: &Value) -> usize {
    let Value::String(value) = value;
    value.len()
}

/// Bytes on the heap by our own count: lengths, never capacities, so that replicas agree.
pub(crate) fn heap_bytes(value: &Value) -> u64 {
    let Value::String(value) = value;
    value.heap_bytes().next_multiple_of(8) as u64
}

/// A stable hash of a value: of its type and its text.
pub(crate) fn hash(value: &Value) -> u64 {
    let Value::String(value) = value;
    let mut digits = itoa::Buffer::new();
    xxhash_rust::xxh3::xxh3_64(value.bytes(&mut digits)).rotate_left(17) ^ 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_string_is_natural_and_a_changed_one_is_not() {
        for text in ["12", "short", &"x".repeat(45)] {
            assert!(is_natural(&from_bytes(text.as_bytes().to_vec())), "{text:?}");
        }
        for text in ["12", "short", &"x".repeat(44)] {
            assert!(!is_natural(&raw_from_bytes(text.as_bytes().to_vec())), "{text:?}");
        }
    }
}
