//! OBJECT: what lies behind a key.

use quoris_resp::{Argv, Reply};

use crate::command::{ReadContext, by_name, introspect};
use crate::types::string::StringValue;
use crate::{CommandResult, Error, Keyspace, Value};

/// OBJECT ENCODING
pub(super) fn encoding(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let name = |value: &Value| keyspace.settings().encoding_name(value.type_name(), value.encoding());
    Ok(keyspace.value(context.database, &argv[2]).map_or(Reply::Null, |value| Reply::bulk(name(value))))
}

/// OBJECT REFCOUNT: values are never shared, but Redis shows its shared small integers by the largest count.
pub(super) fn refcount(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    Ok(match keyspace.value(context.database, &argv[2]) {
        None => Reply::Null,
        Some(Value::String(StringValue::Int(0..=9999))) => Reply::Int(i64::from(i32::MAX)),
        Some(_) => Reply::Int(1),
    })
}

/// OBJECT IDLETIME: reads leave no trace in the state, so every key counts as just used.
pub(super) fn idletime(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    Ok(keyspace.value(context.database, &argv[2]).map_or(Reply::Null, |_| Reply::Int(0)))
}

/// OBJECT FREQ: access frequencies are not counted, which is what Redis says without an LFU policy.
pub(super) fn freq(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    if keyspace.value(context.database, &argv[2]).is_none() {
        return Ok(Reply::Null);
    }
    Err(Error::text(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
         switching between policies at runtime LRU and LFU data will take some time to adjust.",
    ))
}

/// OBJECT HELP
pub(super) fn help(_keyspace: &Keyspace, _context: &ReadContext, _argv: &Argv) -> CommandResult {
    Ok(by_name(b"object").map_or(Reply::Null, |found| introspect::help(found.command)))
}
