//! Stands in for the RDB module's `dump_value` and `restore_value`: strings only, uncompressed.
//!
//! Both functions have the signatures of the real ones; DUMP and RESTORE reach them by these two names
//! only, so that replacing this file is one line in its parent.

use crate::types::string::StringValue;
use crate::{Error, Value};

/// The RDB version that payloads carry.
const RDB_VERSION: u16 = 10;
/// Version and checksum behind the value, in bytes.
const FOOTER_BYTES: usize = 10;

fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Redis, bytes)
}

/// The payload for a value: type, value, RDB version, CRC-64.
pub(super) fn dump_value(value: &Value) -> Vec<u8> {
    let Value::String(text) = value;
    let text = text.to_bytes();
    let mut payload = vec![0];
    match text.len() {
        len @ 0..64 => payload.push(len as u8),
        len @ 64..16384 => payload.extend_from_slice(&(len as u16 | 0x4000).to_be_bytes()),
        len => {
            payload.push(0x80);
            payload.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    payload.extend_from_slice(&text);
    payload.extend_from_slice(&RDB_VERSION.to_le_bytes());
    payload.extend_from_slice(&checksum(&payload).to_le_bytes());
    payload
}

/// The value of a payload.
///
/// # Errors
/// When its footer is wrong, or the value in front of it is.
pub(super) fn restore_value(payload: &[u8]) -> Result<Value, Error> {
    let foreign = || Error::text("ERR DUMP payload version or checksum are wrong");
    let (body, footer) =
        payload.len().checked_sub(FOOTER_BYTES).and_then(|at| payload.split_at_checked(at)).ok_or_else(foreign)?;
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    let sum = footer[2..].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    if version > RDB_VERSION || sum != checksum(&payload[..payload.len() - 8]) {
        return Err(foreign());
    }
    let malformed = || Error::text("ERR Bad data format");
    let (text, rest) = match body {
        [0, len @ 0..64, text @ ..] => text.split_at_checked(*len as usize),
        [0, high @ 0x40..0x80, low, text @ ..] => text.split_at_checked((*high as usize & 0x3f) << 8 | *low as usize),
        [0, 0x80, a, b, c, d, text @ ..] => text.split_at_checked(u32::from_be_bytes([*a, *b, *c, *d]) as usize),
        [0, 0xc0, n] => return Ok(Value::String(StringValue::Int(i64::from(*n as i8)))),
        [0, 0xc1, a, b] => return Ok(Value::String(StringValue::Int(i64::from(i16::from_le_bytes([*a, *b]))))),
        [0, 0xc2, a, b, c, d] => {
            return Ok(Value::String(StringValue::Int(i64::from(i32::from_le_bytes([*a, *b, *c, *d])))));
        }
        _ => None,
    }
    .ok_or_else(malformed)?;
    if rest.is_empty() { Ok(Value::String(StringValue::new(text))) } else { Err(malformed()) }
}
