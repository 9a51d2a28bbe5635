//! The commands that set and remove fields.

use quoris_resp::{Argv, Reply};

use super::value::Hash;
use crate::events::Class;
use crate::types::collection::{Typed, change, change_or_make, look};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// Sets fields and values that alternate from the third argument on; gives how many are new.
fn set_all(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv) -> Result<usize, Error> {
    if argv.len() % 2 == 1 {
        return Err(Error::Arity(String::from_utf8_lossy(&argv[0]).to_lowercase()));
    }
    let now_ms = keyspace.now_ms();
    change_or_make(keyspace, context.database, &argv[1], "hset", |hash: &mut Hash, settings| {
        let longest = argv.iter().skip(2).map(<[u8]>::len).max().unwrap_or(0);
        hash.prepare(argv.len() as u64 / 2 - 1, longest, settings);
        let pairs = (2..argv.len()).step_by(2);
        pairs.filter(|at| hash.set(&argv[*at], &argv[at + 1], false, now_ms, settings)).count()
    })
}

/// HSET
pub(super) fn hset(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    set_all(keyspace, context, argv).map(|new| Reply::Int(new as i64))
}

/// HMSET
pub(super) fn hmset(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    set_all(keyspace, context, argv).map(|_| Reply::Ok)
}

/// HSETNX
pub(super) fn hsetnx(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key, now_ms) = (context.database, &argv[1], keyspace.now_ms());
    if look::<Hash>(keyspace, database, key)?.is_some_and(|hash| hash.get(&argv[2], now_ms).is_some()) {
        return Ok(Reply::Int(0));
    }
    change_or_make(keyspace, database, key, "hset", |hash: &mut Hash, settings| {
        hash.set(&argv[2], &argv[3], false, now_ms, settings)
    })?;
    Ok(Reply::Int(1))
}

/// HDEL
pub(super) fn hdel(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (database, key, now_ms) = (context.database, &argv[1], keyspace.now_ms());
    let fields = || argv.iter().skip(2);
    let any = |hash: &Hash| fields().any(|field| hash.get(field, now_ms).is_some());
    if !look::<Hash>(keyspace, database, key)?.is_some_and(any) {
        return Ok(Reply::Int(0));
    }
    let removed = change(keyspace, database, key, "hdel", |hash: &mut Hash, _| {
        fields().filter(|field| hash.get(field, now_ms).is_some() && hash.remove(field)).count()
    })?;
    Ok(Reply::Int(removed.unwrap_or(0) as i64))
}

/// HIMPORT SET, written out by the node that knows what the connection has prepared: behind the name of the fieldset
/// each value stands behind its field. Elsewhere nothing is prepared.
pub(super) fn himport(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    if argv.len() % 2 == 1 {
        return Err(Error::text("ERR no such fieldset"));
    }
    let (database, key, now_ms) = (context.database, &argv[2], keyspace.now_ms());
    look::<Hash>(keyspace, database, key)?;
    let (mut hash, settings) = (Hash::default(), *keyspace.settings());
    let longest = argv.iter().skip(4).map(<[u8]>::len).max().unwrap_or(0);
    hash.prepare(argv.len() as u64 / 2 - 2, longest, &settings);
    for at in (4..argv.len()).step_by(2) {
        hash.set(&argv[at], &argv[at + 1], false, now_ms, &settings);
    }
    keyspace.set(database, key, hash.into_value(), None);
    keyspace.notify(Class::Hash, "hset", database, key);
    Ok(Reply::Ok)
}
