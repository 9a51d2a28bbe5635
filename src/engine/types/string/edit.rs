//! The commands that change a string in place: APPEND and SETRANGE.

use quoris_resp::{Argv, Reply};

use super::StringValue;
use crate::events::Class;
use crate::number;
use crate::{ApplyContext, CommandResult, Error, Keyspace, Value};

/// Longest string that a command may build, in bytes: Redis's default `proto-max-bulk-len`.
pub(crate) const STRING_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Refuses a length that no string may have.
///
/// # Errors
/// When it is above [`STRING_BYTES_MAX`].
pub(crate) fn check_length(bytes: u64) -> Result<(), Error> {
    let fits = bytes <= STRING_BYTES_MAX;
    if fits { Ok(()) } else { Err(Error::text("ERR string exceeds maximum allowed size (proto-max-bulk-len)")) }
}

/// Opens the text of a key for a change in place; an absent key begins with `fresh`. Its type was checked.
pub(crate) fn change<T>(
    keyspace: &mut Keyspace,
    database: u32,
    key: &[u8],
    fresh: impl FnOnce() -> Vec<u8>,
    change: impl FnOnce(&mut Vec<u8>) -> T,
) -> Result<T, Error> {
    if let Some(mut edit) = keyspace.edit(database, key) {
        return Ok(change(edit.as_string_mut()?.grow()));
    }
    let mut text = fresh();
    let changed = change(&mut text);
    keyspace.set(database, key, Value::String(StringValue::grown(text)), None);
    Ok(changed)
}

/// Pads a text with zero bytes up to `len`; one that is long enough stays.
pub(crate) fn pad(text: &mut Vec<u8>, len: usize) {
    match text.len() {
        // Memory that comes zeroed need not be written.
        0 => *text = vec![0; len],
        old => text.resize(old.max(len), 0),
    }
}

/// APPEND
pub(super) fn append(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (key, tail) = (&argv[1], &argv[2]);
    let Some(value) = keyspace.value(context.database, key) else {
        keyspace.set(context.database, key, Value::String(StringValue::new(tail)), None);
        keyspace.notify(Class::String, "append", context.database, key);
        return Ok(Reply::Int(tail.len() as i64));
    };
    let len = value.as_string()?.len() + tail.len();
    check_length(len as u64)?;
    if let Some(mut edit) = keyspace.edit(context.database, key) {
        edit.as_string_mut()?.grow().extend_from_slice(tail);
    }
    keyspace.notify(Class::String, "append", context.database, key);
    Ok(Reply::Int(len as i64))
}

/// SETRANGE: writes over a part of the text and pads with zero bytes up to it.
pub(super) fn setrange(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (key, part) = (&argv[1], &argv[3]);
    let offset = number::integer(&argv[2]).ok_or(Error::NotAnInteger)?;
    let offset = u64::try_from(offset).map_err(|_| Error::text("ERR offset is out of range"))?;
    let old_len = match keyspace.value(context.database, key) {
        Some(value) => Some(value.as_string()?.len()),
        None => None,
    };
    if part.is_empty() {
        return Ok(Reply::Int(old_len.unwrap_or(0) as i64));
    }
    check_length(offset.saturating_add(part.len() as u64))?;
    let (offset, end) = (offset as usize, offset as usize + part.len());
    let len = change(keyspace, context.database, key, Vec::new, |text| {
        pad(text, end);
        text[offset..end].copy_from_slice(part);
        text.len()
    })?;
    keyspace.notify(Class::String, "setrange", context.database, key);
    Ok(Reply::Int(len as i64))
}
