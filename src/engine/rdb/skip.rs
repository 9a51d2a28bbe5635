//! Names of the value types of all RDB versions, and passing over values that cannot be held.
//!
//! Every loop here consumes input with each turn, so a huge announced count ends at the end of the data.

use super::RdbError;
use super::source::Source;

/// What a type byte stands for, in words; nothing for an unknown one.
pub(super) fn kind_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0 => "string",
        1 | 10 | 14 | 18 => "list",
        2 | 11 | 20 => "set",
        3 | 5 | 12 | 17 => "sorted set",
        4 | 9 | 13 | 16 => "hash",
        22..=25 => "hash with expiring fields",
        6 | 7 => "module value",
        15 | 19 | 21 => "stream",
        _ => return None,
    })
}

/// Passes over the value behind a type byte.
pub(super) fn value(source: &mut Source<'_>, kind: u8) -> Result<(), RdbError> {
    match kind {
        7 => {
            source.length()?;
            module(source)
        }
        _ => Err(source.malformed(format!("value type {kind} cannot be passed over"))),
    }
}

/// A module's data: marked items up to an end mark.
pub(super) fn module(source: &mut Source<'_>) -> Result<(), RdbError> {
    loop {
        match source.length()? {
            0 => return Ok(()),
            1 | 2 => source.length().map(drop)?,
            3 => source.pass(4)?,
            4 => source.pass(8)?,
            5 => source.pass_string()?,
            other => return Err(source.malformed(format!("module item {other}"))),
        }
    }
}
