//! One bit: SETBIT and GETBIT.

use quoris_resp::{Argv, Reply};

use super::bit_offset;
use crate::command::ReadContext;
use crate::events::Class;
use crate::number;
use crate::types::string;
use crate::{ApplyContext, CommandResult, Error, Keyspace};

fn mask(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}

/// Whether a bit is set; behind the end none is.
fn is_set(text: &[u8], offset: u64) -> bool {
    text.get((offset / 8) as usize).is_some_and(|byte| byte & mask(offset) != 0)
}

/// SETBIT
pub(super) fn setbit(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let offset = bit_offset(argv, 2)?;
    let wanted = match number::integer(&argv[3]) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Error::text("ERR bit is not an integer or out of range")),
    };
    let len = (offset / 8) as usize + 1;
    let (mut old, mut old_len) = (false, 0);
    if let Some(value) = keyspace.value(context.database, &argv[1]) {
        let value = value.as_string()?;
        let mut digits = itoa::Buffer::new();
        let text = value.bytes(&mut digits);
        (old, old_len) = (is_set(text, offset), text.len());
        // A change in place makes the encoding raw, as in Redis even where no bit changes.
        if old == wanted && text.len() >= len && value.encoding() == "raw" {
            return Ok(Reply::Int(i64::from(old)));
        }
    }
    string::change(keyspace, context.database, &argv[1], Vec::new, |text| {
        string::pad(text, len);
        let byte = &mut text[len - 1];
        *byte = if wanted { *byte | mask(offset) } else { *byte & !mask(offset) };
    })?;
    if old != wanted || old_len < len {
        keyspace.notify(Class::String, "setbit", context.database, &argv[1]);
    }
    Ok(Reply::Int(i64::from(old)))
}

/// GETBIT
pub(super) fn getbit(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let offset = bit_offset(argv, 2)?;
    let text = string::text(keyspace, context.database, &argv[1])?;
    Ok(Reply::Int(i64::from(text.is_some_and(|text| is_set(&text, offset)))))
}
