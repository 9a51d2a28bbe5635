//! Whole keys: DEL, EXISTS, TYPE and what empties a database.

use quoris_resp::{Argv, Reply};

use crate::command::ReadContext;
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// DEL and UNLINK: the same here, since memory is given back in the background by neither.
pub(super) fn del(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let removed = argv.iter().skip(1).filter(|key| keyspace.delete_and_tell(context.database, key)).count();
    Ok(Reply::Int(removed as i64))
}

/// EXISTS: a key that is named twice counts twice. It is no use of a key.
pub(super) fn exists(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let present = argv.iter().skip(1).filter(|key| keyspace.entry(context.database, key).is_some()).count();
    Ok(Reply::Int(present as i64))
}

/// TOUCH: EXISTS that is a use.
pub(super) fn touch(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let present = argv.iter().skip(1).filter(|key| keyspace.value(context.database, key).is_some()).count();
    Ok(Reply::Int(present as i64))
}

/// TYPE
pub(super) fn type_of(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    Ok(Reply::status(keyspace.entry(context.database, &argv[1]).map_or("none", |entry| entry.value.type_name())))
}

/// DBSIZE
pub(super) fn dbsize(keyspace: &Keyspace, context: &ReadContext, _argv: &Argv) -> CommandResult {
    Ok(Reply::Int(keyspace.len(context.database) as i64))
}

/// `ASYNC` and `SYNC` are taken and mean the same: clearing is done when the reply is given.
fn check_flush_options(argv: &Argv) -> Result<(), Error> {
    match argv.get(1) {
        None => Ok(()),
        Some(how) if argv.len() == 2 && (how.eq_ignore_ascii_case(b"async") || how.eq_ignore_ascii_case(b"sync")) => {
            Ok(())
        }
        Some(_) => Err(Error::Syntax),
    }
}

/// FLUSHDB
pub(super) fn flushdb(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    check_flush_options(argv)?;
    keyspace.clear(context.database);
    Ok(Reply::Ok)
}

/// FLUSHALL
pub(super) fn flushall(keyspace: &mut Keyspace, _context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    check_flush_options(argv)?;
    for database in 0..keyspace.databases() {
        keyspace.clear(database);
    }
    Ok(Reply::Ok)
}
