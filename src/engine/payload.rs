//! What a value is as bytes: the one view that digest, memory count and RDB share.
//!
//! Invariants:
//! * [`from_bytes`] chooses the encoding that Redis gives a string after loading it.
//! * [`is_natural`] tells whether a value has that encoding; one that has not is marked in a snapshot,
//!   because OBJECT ENCODING shows the difference.

use std::borrow::Cow;

use crate::Value;
use crate::types::string::{Origin, StringValue};

/// The number of a string whose text is exactly how that number prints.
pub(crate) fn canonical_int(text: &[u8]) -> Option<i64> {
    crate::number::integer(text)
}

/// The text of a string value.
pub(crate) fn string_bytes(value: &StringValue) -> Cow<'_, [u8]> {
    match value {
        StringValue::Int(n) => Cow::Owned(itoa::Buffer::new().format(*n).as_bytes().to_vec()),
        StringValue::Inline(text) => Cow::Borrowed(text.as_bytes()),
        StringValue::Fixed(text) => Cow::Borrowed(text),
        StringValue::Grown(text) => Cow::Borrowed(text),
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
    match value {
        Value::String(text) => text.origin() == Origin::Natural,
    }
}

/// The size of the text, or what stands for it, in bytes: what hashing the value costs.
pub(crate) fn size(value: &Value) -> usize {
    match value {
        Value::String(StringValue::Int(_)) => 8,
        Value::String(text) => text.len(),
    }
}

/// Bytes on the heap by our own count: lengths, never capacities, so that replicas agree.
pub(crate) fn heap_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.heap_bytes().next_multiple_of(8) as u64,
    }
}

/// A stable hash of a value: of its type, its origin and its text.
pub(crate) fn hash(value: &Value) -> u64 {
    let (mark, hash) = match value {
        Value::String(StringValue::Int(n)) => (1, n.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        Value::String(text) => (2 + text.origin() as u64, xxhash_rust::xxh3::xxh3_64(&string_bytes(text))),
    };
    hash.rotate_left(17) ^ mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_numbers_are_numbers() {
        for (text, number) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            ("1 ", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(canonical_int(text.as_bytes()), number, "{text:?}");
        }
    }

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
