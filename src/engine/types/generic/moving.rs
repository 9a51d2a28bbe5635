//! Keys that change their name or their database: RENAME, COPY, MOVE, SWAPDB.

use quoris_resp::{Argv, Reply};

use crate::events::Class;
use crate::number;
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// The number of a database from an argument.
///
/// # Errors
/// When it is no number or there is no such database.
fn database(keyspace: &Keyspace, text: &[u8]) -> Result<u32, Error> {
    let number = number::integer(text).ok_or(Error::NotAnInteger)?;
    if i32::try_from(number).is_err() {
        return Err(Error::text("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
    let database = u32::try_from(number).ok().filter(|n| *n < keyspace.databases());
    database.ok_or_else(|| Error::text("ERR DB index is out of range"))
}

fn same_object() -> Error {
    Error::text("ERR source and destination objects are the same")
}

/// Renames; whether it did. With `only_new` an existing key at the destination stays.
fn rename_key(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, only_new: bool) -> Result<bool, Error> {
    let (from, to, database) = (&argv[1], &argv[2], context.database);
    if keyspace.value(database, from).is_none() {
        return Err(Error::NoSuchKey);
    }
    if from == to {
        return Ok(!only_new);
    }
    if only_new && keyspace.value(database, to).is_some() {
        return Ok(false);
    }
    if let Some((value, expire_at_ms)) = keyspace.remove(database, from) {
        keyspace.set_anew(database, to, value, expire_at_ms);
        keyspace.notify(Class::Generic, "rename_from", database, from);
        keyspace.notify(Class::Generic, "rename_to", database, to);
    }
    Ok(true)
}

/// RENAME
pub(super) fn rename(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    rename_key(keyspace, context, argv, false).map(|_| Reply::Ok)
}

/// RENAMENX
pub(super) fn renamenx(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    rename_key(keyspace, context, argv, true).map(|done| Reply::Int(i64::from(done)))
}

/// COPY
pub(super) fn copy(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (mut target, mut replace, mut at) = (context.database, false, 3);
    while let Some(word) = argv.get(at) {
        if word.eq_ignore_ascii_case(b"replace") {
            replace = true;
        } else if word.eq_ignore_ascii_case(b"db") && at + 1 < argv.len() {
            at += 1;
            target = database(keyspace, &argv[at])?;
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    let (from, to) = (&argv[1], &argv[2]);
    if target == context.database && from == to {
        return Err(same_object());
    }
    let Some(entry) = keyspace.entry(context.database, from) else { return Ok(Reply::Int(0)) };
    let (value, expire_at_ms) = (entry.value.clone(), entry.expire_at_ms);
    if !replace && keyspace.value(target, to).is_some() {
        return Ok(Reply::Int(0));
    }
    keyspace.set_anew(target, to, value, expire_at_ms);
    keyspace.notify(Class::Generic, "copy_to", target, to);
    Ok(Reply::Int(1))
}

/// MOVE
pub(super) fn move_key(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let key = &argv[1];
    let target = database(keyspace, &argv[2])?;
    if target == context.database {
        return Err(same_object());
    }
    if keyspace.value(context.database, key).is_none() || keyspace.value(target, key).is_some() {
        return Ok(Reply::Int(0));
    }
    if let Some((value, expire_at_ms)) = keyspace.remove(context.database, key) {
        keyspace.set(target, key, value, expire_at_ms);
        keyspace.notify(Class::Generic, "move_from", context.database, key);
        keyspace.notify(Class::Generic, "move_to", target, key);
    }
    Ok(Reply::Int(1))
}

/// SWAPDB
pub(super) fn swapdb(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let number = |text, which| {
        let not_a_number = Error::text(format!("ERR invalid {which} DB index"));
        number::integer(text).and_then(|n| i32::try_from(n).ok()).ok_or(not_a_number)
    };
    let (one, other) = (number(&argv[1], "first")?, number(&argv[2], "second")?);
    let known = |n: i32| u32::try_from(n).ok().filter(|n| *n < keyspace.databases());
    let (Some(one), Some(other)) = (known(one), known(other)) else {
        return Err(Error::text("ERR DB index is out of range"));
    };
    if one != other {
        keyspace.swap(one, other);
    }
    Ok(Reply::Ok)
}
