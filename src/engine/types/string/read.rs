//! The commands that look at strings.

use std::borrow::Cow;

use quoris_resp::{Argv, Reply};

use crate::command::ReadContext;
use crate::{CommandResult, Error, Keyspace};
use crate::{number, payload};

/// The text at a key; nothing when it is absent.
///
/// # Errors
/// When the key holds another type.
pub(crate) fn text<'a>(keyspace: &'a Keyspace, database: u32, key: &[u8]) -> Result<Option<Cow<'a, [u8]>>, Error> {
    let value = keyspace.value(database, key).map(|value| value.as_string()).transpose()?;
    Ok(value.map(payload::string_bytes))
}

/// GET
pub(super) fn get(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    match keyspace.value(context.database, &argv[1]) {
        Some(value) => Ok(Reply::Bulk(value.as_string()?.to_bytes())),
        None => Ok(Reply::Null),
    }
}

/// MGET: a key of another type reads as absent.
pub(super) fn mget(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let one = |key| match keyspace.value(context.database, key).map(|value| value.as_string()) {
        Some(Ok(text)) => Reply::Bulk(text.to_bytes()),
        Some(Err(_)) | None => Reply::Null,
    };
    Ok(Reply::Array(argv.iter().skip(1).map(one).collect()))
}

/// STRLEN
pub(super) fn strlen(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    match keyspace.value(context.database, &argv[1]) {
        Some(value) => Ok(Reply::Int(value.as_string()?.len() as i64)),
        None => Ok(Reply::Int(0)),
    }
}

/// GETRANGE and its old name SUBSTR: both ends are included, negative ones count from the end.
pub(super) fn getrange(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let start = number::integer(&argv[2]).ok_or(Error::NotAnInteger)?;
    let end = number::integer(&argv[3]).ok_or(Error::NotAnInteger)?;
    let Some(value) = keyspace.value(context.database, &argv[1]) else { return Ok(Reply::bulk("")) };
    let mut digits = itoa::Buffer::new();
    let text = value.as_string()?.bytes(&mut digits);
    let len = text.len() as i64;
    if start < 0 && end < 0 && start > end {
        return Ok(Reply::bulk(""));
    }
    let from_end = |n: i64| if n < 0 { n.saturating_add(len).max(0) } else { n };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if len == 0 || start > end { Ok(Reply::bulk("")) } else { Ok(Reply::bulk(&text[start as usize..=end as usize])) }
}
