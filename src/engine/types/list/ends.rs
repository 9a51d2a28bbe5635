//! The commands that work at the ends of a list.

use quoris_resp::{Argv, Reply};

use super::value::{End, List};
use crate::command::ReadContext;
use crate::types::collection::{Collection, change, change_or_make, look, positive};
use crate::types::first::{Many, take_first};
use crate::{ApplyContext, CommandResult, Error, Keyspace, Settings};

/// The event of an element that is added at an end.
pub(super) fn pushed(end: End) -> &'static str {
    if end == End::Left { "lpush" } else { "rpush" }
}

/// The event of elements that are taken from an end.
pub(super) fn popped(end: End) -> &'static str {
    if end == End::Left { "lpop" } else { "rpop" }
}

fn push_all(list: &mut List, end: End, argv: &Argv, settings: &Settings) -> Reply {
    argv.iter().skip(2).for_each(|element| list.push(end, element, settings));
    Reply::Int(list.len() as i64)
}

fn push(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, end: End) -> CommandResult {
    let push = |list: &mut List, settings: &Settings| push_all(list, end, argv, settings);
    change_or_make(keyspace, context.database, &argv[1], pushed(end), push)
}

fn push_existing(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, end: End) -> CommandResult {
    let push = |list: &mut List, settings: &Settings| push_all(list, end, argv, settings);
    let len = change(keyspace, context.database, &argv[1], pushed(end), push)?;
    Ok(len.unwrap_or(Reply::Int(0)))
}

/// LPUSH
pub(super) fn lpush(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    push(keyspace, context, argv, End::Left)
}

/// RPUSH
pub(super) fn rpush(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    push(keyspace, context, argv, End::Right)
}

/// LPUSHX
pub(super) fn lpushx(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    push_existing(keyspace, context, argv, End::Left)
}

/// RPUSHX
pub(super) fn rpushx(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    push_existing(keyspace, context, argv, End::Right)
}

/// Elements as a reply.
pub(super) fn bulks(elements: Vec<Vec<u8>>) -> Reply {
    Reply::Array(elements.into_iter().map(|element| Reply::Bulk(element.into())).collect())
}

fn pop(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, end: End) -> CommandResult {
    if argv.len() > 3 {
        return Err(Error::Arity(String::from_utf8_lossy(&argv[0]).to_lowercase()));
    }
    let count = argv.get(2).map(positive).transpose()?;
    let (database, key) = (context.database, &argv[1]);
    if count == Some(0) {
        let is_there = look::<List>(keyspace, database, key)?.is_some();
        return Ok(if is_there { Reply::Array(Vec::new()) } else { Reply::NullArray });
    }
    let pop = |list: &mut List, settings: &Settings| list.pop(end, count.unwrap_or(1), settings);
    Ok(match (change(keyspace, database, key, popped(end), pop)?, count) {
        (Some(elements), Some(_)) => bulks(elements),
        (Some(mut elements), None) => elements.pop().map_or(Reply::Null, |element| Reply::Bulk(element.into())),
        (None, Some(_)) => Reply::NullArray,
        (None, None) => Reply::Null,
    })
}

/// LPOP
pub(super) fn lpop(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    pop(keyspace, context, argv, End::Left)
}

/// RPOP
pub(super) fn rpop(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    pop(keyspace, context, argv, End::Right)
}

/// LLEN
pub(super) fn llen(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    Ok(Reply::Int(look::<List>(keyspace, context.database, &argv[1])?.map_or(0, |list| list.len() as i64)))
}

/// The end that an argument names.
///
/// # Errors
/// When it is neither.
pub(super) fn end(word: &[u8]) -> Result<End, Error> {
    if word.eq_ignore_ascii_case(b"left") {
        Ok(End::Left)
    } else if word.eq_ignore_ascii_case(b"right") {
        Ok(End::Right)
    } else {
        Err(Error::Syntax)
    }
}

/// Takes elements from the first list that is there; LMPOP and BLMPOP.
///
/// # Errors
/// When a key in front of it holds another type.
pub(super) fn take_many(
    many: Many<End>,
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    argv: &Argv,
) -> CommandResult {
    let pop = |list: &mut List, settings: &Settings| list.pop(many.end, many.count, settings);
    let taken = take_first(keyspace, context, argv, many.keys, popped(many.end), pop)?;
    Ok(taken.map_or(Reply::NullArray, |(at, elements)| Reply::Array(vec![Reply::bulk(&argv[at]), bulks(elements)])))
}

/// LMPOP
pub(super) fn lmpop(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    take_many(Many::parse(argv, 1, end)?, keyspace, context, argv)
}
