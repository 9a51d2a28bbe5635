//! The commands that read fields.

use quoris_resp::{Argv, Reply};

use super::value::{Hash, View, split};
use crate::command::ReadContext;
use crate::glob;
use crate::number;
use crate::types::collection::look;
use crate::types::generic::Scan;
use crate::types::hashed;
use crate::{CommandResult, Error, Keyspace};

/// The hash at an argv's first key.
fn hash<'a>(keyspace: &'a Keyspace, context: &ReadContext, argv: &Argv) -> Result<Option<&'a Hash>, Error> {
    look::<Hash>(keyspace, context.database, &argv[1])
}

/// A value as a reply.
pub(super) fn bulk(value: Option<&[u8]>) -> Reply {
    value.map_or(Reply::Null, Reply::bulk)
}

/// HGET
pub(super) fn hget(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let hash = hash(keyspace, context, argv)?;
    Ok(bulk(hash.and_then(|hash| hash.get(&argv[2], keyspace.now_ms()))))
}

/// HMGET
pub(super) fn hmget(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let hash = hash(keyspace, context, argv)?;
    let get = |field: &[u8]| bulk(hash.and_then(|hash| hash.get(field, keyspace.now_ms())));
    Ok(Reply::Array(argv.iter().skip(2).map(get).collect()))
}

/// HSTRLEN
pub(super) fn hstrlen(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let hash = hash(keyspace, context, argv)?;
    let value = hash.and_then(|hash| hash.get(&argv[2], keyspace.now_ms()));
    Ok(Reply::Int(value.map_or(0, |value| value.len() as i64)))
}

/// HEXISTS
pub(super) fn hexists(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let hash = hash(keyspace, context, argv)?;
    Ok(Reply::Int(hash.is_some_and(|hash| hash.get(&argv[2], keyspace.now_ms()).is_some()).into()))
}

/// HLEN: without the fields that are due. (Redis counts them until they are removed.)
pub(super) fn hlen(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let hash = hash(keyspace, context, argv)?;
    Ok(Reply::Int(hash.map_or(0, |hash| hash.live_len(keyspace.now_ms()) as i64)))
}

/// What `show` makes of every field and its value.
fn all<T>(
    keyspace: &Keyspace,
    context: &ReadContext,
    argv: &Argv,
    show: fn((&[u8], &[u8])) -> T,
) -> Result<Vec<T>, Error> {
    let hash = hash(keyspace, context, argv)?;
    Ok(hash.map_or(Vec::new(), |hash| hash.live(keyspace.now_ms()).map(show).collect()))
}

/// HGETALL
pub(super) fn hgetall(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let pair = |(field, value): (&[u8], &[u8])| (Reply::bulk(field), Reply::bulk(value));
    Ok(Reply::Map(all(keyspace, context, argv, pair)?))
}

/// HKEYS
pub(super) fn hkeys(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    Ok(Reply::Array(all(keyspace, context, argv, |(field, _)| Reply::bulk(field))?))
}

/// HVALS
pub(super) fn hvals(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    Ok(Reply::Array(all(keyspace, context, argv, |(_, value)| Reply::bulk(value))?))
}

/// HSCAN
pub(super) fn hscan(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let cursor = number::cursor(&argv[2]).ok_or_else(|| Error::text("ERR invalid cursor"))?;
    let Some(hash) = hash(keyspace, context, argv)? else { return Ok(hashed::page(0, vec![])) };
    let scan = Scan::parse(argv, 3, "NOVALUES")?;
    let now_ms = keyspace.now_ms();
    let mut items = Vec::new();
    let mut visit = |(field, value): (&[u8], &[u8])| {
        if scan.pattern.is_none_or(|pattern| glob::matches(pattern, field)) && hash.get(field, now_ms).is_some() {
            items.push(Reply::bulk(field));
            if !scan.flag {
                items.push(Reply::bulk(value));
            }
        }
    };
    let next = match hash.view() {
        View::Large(tree) => hashed::scan(tree, cursor, scan.count, &mut |item| visit(split(item))),
        // Small ones are given at once, as in Redis.
        View::Small(_) => {
            hash.live(now_ms).for_each(visit);
            0
        }
    };
    Ok(hashed::page(next, items))
}
