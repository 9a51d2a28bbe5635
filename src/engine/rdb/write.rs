//! The encodings that are written: lengths, strings, values, and the frame around them.

use super::{TYPE_STRING, opcode};
use crate::types::collection::Collection;
use crate::types::string::StringValue;
use crate::{Value, number, payload};

/// Strings from this length on are compressed with LZF when that makes them shorter; never, when nothing.
/// Redis compresses from 21 bytes on. Measured, the compressor costs 6 us for 4 KiB and clears a table of
/// 512 KiB at each call, which is time under the group's lock; a snapshot's size matters less.
pub(crate) const COMPRESS_FROM: Option<usize> = None;

/// `REDIS0010`.
pub(crate) fn magic(version: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("REDIS{version:04}").as_bytes());
}

/// A length: 6, 14, 32 or 64 bits.
pub(crate) fn length(len: u64, out: &mut Vec<u8>) {
    if len < 1 << 6 {
        out.push(len as u8);
    } else if len < 1 << 14 {
        out.extend_from_slice(&[0x40 | (len >> 8) as u8, len as u8]);
    } else if let Ok(len) = u32::try_from(len) {
        out.push(0x80);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(0x81);
        out.extend_from_slice(&len.to_be_bytes());
    }
}

/// A string: as a number when it is one of at most 32 bits, else its bytes.
pub(crate) fn string(text: &[u8], out: &mut Vec<u8>) {
    string_compressed(text, COMPRESS_FROM, out);
}

/// [`string`] with another threshold for compression.
pub(crate) fn string_compressed(text: &[u8], from: Option<usize>, out: &mut Vec<u8>) {
    if text.len() <= 11
        && let Some(n) = number::integer(text)
        && small_int(n, out)
    {
        return;
    }
    if from.is_some_and(|from| text.len() >= from)
        && let Ok(packed) = lzf::compress(text)
        && packed.len() + 8 < text.len()
    {
        out.push(0xc3);
        length(packed.len() as u64, out);
        length(text.len() as u64, out);
        out.extend_from_slice(&packed);
        return;
    }
    length(text.len() as u64, out);
    out.extend_from_slice(text);
}

fn small_int(n: i64, out: &mut Vec<u8>) -> bool {
    if let Ok(n) = i8::try_from(n) {
        out.extend_from_slice(&[0xc0, n.cast_unsigned()]);
    } else if let Ok(n) = i16::try_from(n) {
        out.push(0xc1);
        out.extend_from_slice(&n.to_le_bytes());
    } else if let Ok(n) = i32::try_from(n) {
        out.push(0xc2);
        out.extend_from_slice(&n.to_le_bytes());
    } else {
        return false;
    }
    true
}

/// A library of functions.
pub(crate) fn function(code: &[u8], out: &mut Vec<u8>) {
    out.push(opcode::FUNCTION2);
    string(code, out);
}

/// The type byte of a value.
pub(crate) fn type_byte(value: &Value) -> u8 {
    value.collection().map_or(TYPE_STRING, Collection::rdb_type)
}

/// A value behind its type byte.
pub(crate) fn value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(StringValue::Int(n)) if small_int(*n, out) => {}
        Value::String(text) => string(&payload::string_bytes(text), out),
        other => {
            let Some(collection) = other.collection() else { return };
            collection.write_head(out);
            collection.write_part(0, usize::MAX, out);
        }
    }
}

/// Elements for [`Collection::write_part`]: the first of `items` is the one at `from`.
pub(crate) fn items<T>(
    items: impl Iterator<Item = T>,
    from: u64,
    end: usize,
    out: &mut Vec<u8>,
    write: impl Fn(T, &mut Vec<u8>),
) -> Option<u64> {
    for (at, item) in (from..).zip(items) {
        if at > from && out.len() >= end {
            return Some(at);
        }
        write(item, out);
    }
    None
}

/// A field beside the keys.
pub(crate) fn aux(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.push(opcode::AUX);
    string(name.as_bytes(), out);
    string(value, out);
}

/// The beginning of a database and how many keys it has.
pub(crate) fn database(number: u32, (keys, expires): (u64, u64), out: &mut Vec<u8>) {
    out.push(opcode::SELECTDB);
    length(u64::from(number), out);
    out.push(opcode::RESIZEDB);
    length(keys, out);
    length(expires, out);
}

/// What comes before a value: deadline, type, key.
pub(crate) fn entry_head(key: &[u8], value: &Value, expire_at_ms: Option<u64>, out: &mut Vec<u8>) {
    if let Some(at) = expire_at_ms {
        out.push(opcode::EXPIRETIME_MS);
        out.extend_from_slice(&at.to_le_bytes());
    }
    out.push(type_byte(value));
    string(key, out);
}
