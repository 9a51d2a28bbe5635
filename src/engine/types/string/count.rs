//! Numbers in strings: INCR and its kin.

use quoris_resp::{Argv, Reply};

use super::StringValue;
use crate::events::Class;
use crate::extended::Extended;
use crate::number;
use crate::{ApplyContext, CommandResult, Error, Keyspace, Value};

/// Adds to the number at a key. It keeps its deadline.
fn add(keyspace: &mut Keyspace, context: &ApplyContext, key: &[u8], increment: i64) -> CommandResult {
    let old = match keyspace.value(context.database, key) {
        Some(value) => Some(value.as_string()?.integer().ok_or(Error::NotAnInteger)?),
        None => None,
    };
    let sum = old.unwrap_or(0).checked_add(increment);
    let sum = sum.ok_or_else(|| Error::text("ERR increment or decrement would overflow"))?;
    put(keyspace, context, key, old.is_some(), StringValue::Int(sum))?;
    keyspace.notify(Class::String, "incrby", context.database, key);
    Ok(Reply::Int(sum))
}

/// Replaces the text of a key and keeps its deadline.
pub(super) fn put(
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    key: &[u8],
    present: bool,
    text: StringValue,
) -> Result<(), Error> {
    if present && let Some(mut edit) = keyspace.edit(context.database, key) {
        *edit.as_string_mut()? = text;
        return Ok(());
    }
    keyspace.set(context.database, key, Value::String(text), None);
    Ok(())
}

/// INCR
pub(super) fn incr(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    add(keyspace, context, &argv[1], 1)
}

/// DECR
pub(super) fn decr(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    add(keyspace, context, &argv[1], -1)
}

/// INCRBY
pub(super) fn incrby(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    add(keyspace, context, &argv[1], number::integer(&argv[2]).ok_or(Error::NotAnInteger)?)
}

/// DECRBY
pub(super) fn decrby(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let decrement = number::integer(&argv[2]).ok_or(Error::NotAnInteger)?;
    let increment = decrement.checked_neg().ok_or_else(|| Error::text("ERR decrement would overflow"))?;
    add(keyspace, context, &argv[1], increment)
}

/// INCRBYFLOAT: 80-bit arithmetic, because that is what Redis's `long double` is and clients see the digits.
pub(super) fn incrbyfloat(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let old = match keyspace.value(context.database, &argv[1]) {
        Some(value) => {
            let text = value.as_string()?;
            Some(Extended::parse(text.bytes(&mut itoa::Buffer::new())).ok_or(Error::NotAFloat)?)
        }
        None => None,
    };
    let increment = Extended::parse(&argv[2]).ok_or(Error::NotAFloat)?;
    let sum = old.unwrap_or(Extended::ZERO).plus(increment);
    if !sum.is_finite() {
        return Err(Error::text("ERR increment would produce NaN or Infinity"));
    }
    let text = sum.human();
    put(keyspace, context, &argv[1], old.is_some(), StringValue::text(text.as_bytes()))?;
    keyspace.notify(Class::String, "incrbyfloat", context.database, &argv[1]);
    Ok(Reply::bulk(text))
}
