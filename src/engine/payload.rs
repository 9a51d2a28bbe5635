//! What a value is as bytes: the one view that digest, memory count and RDB share.
//!
//! Invariants:
//! * [`from_bytes`] chooses the encoding that Redis gives a string after loading it.
//! * A value is its bytes and its [`origin`], and nothing else of it reaches digest, count or file.

use std::borrow::Cow;

use crate::types::collection::Collection;
use crate::types::string::{Origin, StringValue};
use crate::{Settings, Value};

/// Bytes that a collection takes beside its elements. A constant, so that replicas agree.
const COLLECTION_BYTES: u64 = 16;
/// With more bytes it is probably a tree, whose nodes have room and take a quarter more, as measured.
const TREE_BYTES: u64 = 8192;

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
    let long = bytes.len() > 64;
    Value::String(if long { StringValue::Fixed(bytes.into_boxed_slice()) } else { StringValue::new(&bytes) })
}

/// How a value was made, beside what its bytes tell: a snapshot has to keep it.
pub(crate) fn origin(value: &Value) -> u8 {
    match value {
        Value::String(text) => text.origin() as u8,
        other => other.collection().map_or(0, Collection::origin),
    }
}

/// Settings with which a value that is loaded gets the encoding of its origin at once. A small set or hash keeps
/// the order in which its members came, which would be lost on a way through another encoding.
pub(crate) fn encodings(origin: u8) -> Settings {
    let (ints, small) = match origin {
        1 => (0, i64::MAX),
        2 => (0, 0),
        3 => (i64::MAX, i64::MAX),
        _ => return Settings::default(),
    };
    Settings {
        set_max_intset_entries: ints,
        set_max_listpack_entries: small,
        set_max_listpack_value: small,
        hash_max_listpack_entries: small,
        hash_max_listpack_value: small,
        ..Settings::default()
    }
}

/// A value that was loaded, made anew as its origin tells; nothing for an unknown origin.
pub(crate) fn with_origin(mut value: Value, origin: u8) -> Option<Value> {
    if let Some(collection) = value.collection_mut() {
        return collection.restore_origin(origin).then_some(value);
    }
    let text = value.as_string().ok()?;
    Some(match origin {
        0 => value,
        1 => Value::String(StringValue::of(Origin::Text, &string_bytes(text))),
        2 => Value::String(StringValue::of(Origin::Grown, &string_bytes(text))),
        _ => return None,
    })
}

/// Values of more bytes are moved, hashed and freed by themselves: each alone takes as long as many keys.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

/// The size of the text, or what stands for it, in bytes: what hashing the value costs.
pub(crate) fn size(value: &Value) -> usize {
    match value {
        Value::String(StringValue::Int(_)) => 8,
        Value::String(text) => text.len(),
        other => other.collection().map_or(0, |collection| collection.bytes() as usize),
    }
}

/// Bytes on the heap by our own count: lengths, never capacities, so that replicas agree.
pub(crate) fn heap_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.heap_bytes().next_multiple_of(8) as u64,
        other => other.collection().map_or(0, |collection| {
            let bytes = collection.bytes();
            let nodes = if bytes > TREE_BYTES { bytes / 4 } else { 0 };
            (bytes + nodes).next_multiple_of(8) + COLLECTION_BYTES
        }),
    }
}

/// Flips a bit of a value, whatever that makes of it; false when it has none.
pub(crate) fn flip_bit(value: &mut Value) -> bool {
    match value {
        Value::String(text) => text.flip_bit(),
        other => other.collection_mut().is_some_and(Collection::flip_bit),
    }
}

/// The hash of a text that is longer than any [`origin`] can tell, from the hash of its bytes.
pub(crate) fn long_text_hash(bytes: u64) -> u64 {
    text_hash(Origin::Natural, bytes)
}

fn text_hash(origin: Origin, bytes: u64) -> u64 {
    bytes.rotate_left(17) ^ (2 + origin as u64)
}

/// A stable hash of a value: of its type, its origin and its text. A large collection remembers most of it;
/// with `anew` it is taken from the bytes alone.
pub(crate) fn hash(value: &Value, anew: bool) -> u64 {
    let (mark, hash) = match value {
        Value::String(StringValue::Int(n)) => (1, n.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        Value::String(text) => return text_hash(text.origin(), xxhash_rust::xxh3::xxh3_64(&string_bytes(text))),
        other => other.collection().map_or((0, 0), |collection| {
            let name = xxhash_rust::xxh3::xxh3_64(collection.type_name().as_bytes());
            (name.wrapping_add(collection.origin().into()), collection.hash(anew))
        }),
    };
    hash.rotate_left(17) ^ mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_its_bytes_and_its_origin() {
        let texts = [&b"12"[..], b"short", &[b'x'; 44], &[b'x'; 45], &[b'x'; 100]];
        for (text, origin) in
            texts.iter().flat_map(|text| [Origin::Natural, Origin::Text, Origin::Grown].map(|o| (text, o)))
        {
            let value = Value::String(StringValue::of(origin, text));
            let again = with_origin(from_bytes(text.to_vec()), super::origin(&value)).expect("known");
            assert_eq!((&again, again.encoding()), (&value, value.encoding()));
            assert_eq!((hash(&again, true), heap_bytes(&again)), (hash(&value, false), heap_bytes(&value)));
        }
        assert_eq!(with_origin(from_bytes(vec![]), 3), None);
    }
}
