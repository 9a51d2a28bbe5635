//! OBJECT: what lies behind a key.

use quoris_resp::{Argv, Reply};

use crate::command::{ReadContext, by_name, introspect};
use crate::types::string::StringValue;
use crate::{CommandResult, Error, Keyspace, Value};

/// OBJECT ENCODING
pub(super) fn encoding(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let name = |value: &Value| keyspace.settings().encoding_name(value.type_name(), value.encoding());
    Ok(keyspace.entry(context.database, &argv[2]).map_or(Reply::Null, |entry| Reply::bulk(name(entry.value))))
}

/// OBJECT REFCOUNT: values are never shared, but Redis shows its shared small integers by the largest count.
pub(super) fn refcount(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    Ok(match keyspace.entry(context.database, &argv[2]).map(|entry| entry.value) {
        None => Reply::Null,
        Some(Value::String(StringValue::Int(0..=9999))) => Reply::Int(i64::from(i32::MAX)),
        Some(_) => Reply::Int(1),
    })
}

fn number(found: Option<u64>) -> CommandResult {
    Ok(found.map_or(Reply::Null, |n| Reply::Int(n as i64)))
}

/// OBJECT IDLETIME: 0 in a transaction or a script that goes through the log, because it is no part of the state.
pub(super) fn idletime(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let found = keyspace.idle(context.database, &argv[2]);
    if found.is_some() && keyspace.counts_uses() {
        return Err(Error::text(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    number(found)
}

/// OBJECT FREQ: 0 in the log, as OBJECT IDLETIME.
pub(super) fn freq(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let found = keyspace.frequency(context.database, &argv[2]);
    if found.is_some() && !keyspace.counts_uses() {
        return Err(Error::text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    number(found)
}

/// OBJECT HELP
pub(super) fn help(_keyspace: &Keyspace, _context: &ReadContext, _argv: &Argv) -> CommandResult {
    Ok(by_name(b"object").map_or(Reply::Null, |found| introspect::help(found.command)))
}
