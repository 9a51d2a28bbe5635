//! Numbers in fields: HINCRBY, HINCRBYFLOAT. A field keeps its deadline.

use quoris_resp::{Argv, Reply};

use super::value::Hash;
use crate::extended::Extended;
use crate::number;
use crate::types::collection::{change_or_make, look};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// Puts what `next` makes of the value of a field in its place, and gives the new value.
fn update(
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    argv: &Argv,
    name: &'static str,
    next: impl Fn(Option<&[u8]>) -> Result<String, Error>,
) -> Result<String, Error> {
    let (database, key, field, now_ms) = (context.database, &argv[1], &argv[2], keyspace.now_ms());
    let hash = look::<Hash>(keyspace, database, key)?;
    let value = next(hash.and_then(|hash| hash.get(field, now_ms)))?;
    change_or_make(keyspace, database, key, name, |hash: &mut Hash, settings| {
        hash.set(field, value.as_bytes(), true, now_ms, settings)
    })?;
    Ok(value)
}

/// HINCRBY
pub(super) fn hincrby(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let increment = number::integer(&argv[3]).ok_or(Error::NotAnInteger)?;
    let sum = update(keyspace, context, argv, "hincrby", |old| {
        let old =
            old.map_or(Some(0), number::integer).ok_or_else(|| Error::text("ERR hash value is not an integer"))?;
        let sum = old.checked_add(increment);
        Ok(sum.ok_or_else(|| Error::text("ERR increment or decrement would overflow"))?.to_string())
    })?;
    Ok(Reply::Int(number::integer(sum.as_bytes()).unwrap_or(0)))
}

/// HINCRBYFLOAT: in 80 bits, as INCRBYFLOAT.
pub(super) fn hincrbyfloat(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let increment = Extended::parse(&argv[3]).ok_or(Error::NotAFloat)?;
    if !increment.is_finite() {
        return Err(Error::text("ERR value is NaN or Infinity"));
    }
    let sum = update(keyspace, context, argv, "hincrbyfloat", |old| {
        let old = old.map_or(Some(Extended::ZERO), Extended::parse);
        let sum = old.ok_or_else(|| Error::text("ERR hash value is not a float"))?.plus(increment);
        if !sum.is_finite() {
            return Err(Error::text("ERR increment would produce NaN or Infinity"));
        }
        Ok(sum.human())
    })?;
    Ok(Reply::bulk(sum))
}
