//! DIGEST: the XXH3 hash of a string, for comparisons without sending the whole text.

use quoris_resp::{Argv, Reply};

use crate::command::ReadContext;
use crate::{CommandResult, Error, Keyspace};

/// Hexadecimal digits of a digest.
const HEX_DIGITS: usize = 16;

fn hex(text: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text))
}

/// Refuses what cannot be a digest.
///
/// # Errors
/// When the length is wrong.
pub(super) fn check(digest: &[u8]) -> Result<(), Error> {
    if digest.len() == HEX_DIGITS { Ok(()) } else { Err(Error::text("ERR must be exactly 16 hexadecimal characters")) }
}

/// Whether `digest`, in any case, is the one of `text`.
pub(super) fn matches(text: &[u8], digest: &[u8]) -> bool {
    hex(text).as_bytes().eq_ignore_ascii_case(digest)
}

/// DIGEST
pub(super) fn digest(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let Some(value) = keyspace.value(context.database, &argv[1]) else { return Ok(Reply::Null) };
    let text = value.as_string()?;
    Ok(Reply::bulk(hex(text.bytes(&mut itoa::Buffer::new()))))
}
