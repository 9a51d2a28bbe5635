//! The commands on the members of one set, and the one that moves a member to another.

use quoris_resp::{Argv, Reply};

use super::value::Set;
use crate::command::ReadContext;
use crate::glob;
use crate::number;
use crate::types::collection::{Collection, change, change_or_make, look};
use crate::types::generic::Scan;
use crate::types::hashed;
use crate::{ApplyContext, CommandResult, Error, Keyspace, Settings};

/// SADD
pub(super) fn sadd(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key, members) = (context.database, &argv[1], || argv.iter().skip(2));
    if look::<Set>(keyspace, database, key)?.is_some_and(|set| members().all(|member| set.contains(member))) {
        return Ok(Reply::Int(0));
    }
    let added = change_or_make(keyspace, database, key, "sadd", |set: &mut Set, settings| {
        set.prepare(&argv[2], argv.len() as u64 - 2, settings);
        members().filter(|member| set.add(member, settings)).count()
    })?;
    Ok(Reply::Int(added as i64))
}

/// SREM
pub(super) fn srem(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key, members) = (context.database, &argv[1], || argv.iter().skip(2));
    if !look::<Set>(keyspace, database, key)?.is_some_and(|set| members().any(|member| set.contains(member))) {
        return Ok(Reply::Int(0));
    }
    let remove = |set: &mut Set, _: &Settings| members().filter(|member| set.remove(member)).count();
    let removed = change(keyspace, database, key, "srem", remove)?;
    Ok(Reply::Int(removed.unwrap_or(0) as i64))
}

/// SCARD
pub(super) fn scard(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    Ok(Reply::Int(look::<Set>(keyspace, context.database, &argv[1])?.map_or(0, |set| set.len() as i64)))
}

/// SISMEMBER
pub(super) fn sismember(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let set = look::<Set>(keyspace, context.database, &argv[1])?;
    Ok(Reply::Int(set.is_some_and(|set| set.contains(&argv[2])).into()))
}

/// SMISMEMBER
pub(super) fn smismember(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let set = look::<Set>(keyspace, context.database, &argv[1])?;
    let is_member = |member: &[u8]| Reply::Int(set.is_some_and(|set| set.contains(member)).into());
    Ok(Reply::Array(argv.iter().skip(2).map(is_member).collect()))
}

/// SMEMBERS
pub(super) fn smembers(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let set = look::<Set>(keyspace, context.database, &argv[1])?;
    Ok(Reply::Set(set.map_or(Vec::new(), |set| set.members().map(Reply::bulk).collect())))
}

/// SMOVE
pub(super) fn smove(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, source, destination, member) = (context.database, &argv[1], &argv[2], &argv[3]);
    let Some(set) = look::<Set>(keyspace, database, source)? else { return Ok(Reply::Int(0)) };
    let is_member = set.contains(member);
    // Where it is already, nothing changes, for who watches that key either.
    let is_new = look::<Set>(keyspace, database, destination)?.is_none_or(|set| !set.contains(member));
    if is_member && source != destination {
        change(keyspace, database, source, "srem", |set: &mut Set, _| set.remove(member))?;
        if is_new {
            change_or_make(keyspace, database, destination, "sadd", |set: &mut Set, settings| {
                set.prepare(member, 1, settings);
                set.add(member, settings)
            })?;
        }
    }
    Ok(Reply::Int(is_member.into()))
}

/// SSCAN
pub(super) fn sscan(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let cursor = number::cursor(&argv[2]).ok_or_else(|| Error::text("ERR invalid cursor"))?;
    let Some(set) = look::<Set>(keyspace, context.database, &argv[1])? else { return Ok(hashed::page(0, vec![])) };
    let scan = Scan::parse(argv, 3, "")?;
    let mut members = Vec::new();
    let mut visit = |member: &[u8]| {
        if scan.pattern.is_none_or(|pattern| glob::matches(pattern, member)) {
            members.push(Reply::bulk(member));
        }
    };
    let next = match set.tree() {
        Some(tree) => hashed::scan(tree, cursor, scan.count, &mut |item| visit(&item[hashed::HASH_BYTES..])),
        // Small ones are given at once, as in Redis.
        None => {
            set.members().for_each(|member| visit(&member));
            0
        }
    };
    Ok(hashed::page(next, members))
}
