//! The commands that work at the ends of a list.

use quoris_resp::{Argv, Reply};

use super::value::{End, List};
use crate::command::ReadContext;
use crate::number;
use crate::types::collection::{Collection, change, change_or_make, look, positive, to_take};
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

/// What LMPOP and BLMPOP ask for.
pub(super) struct Many {
    keys: std::ops::Range<usize>,
    end: End,
    count: u64,
}

impl Many {
    /// Reads it from the number of keys on, the argument at `first`.
    ///
    /// # Errors
    /// As Redis words them.
    pub(super) fn parse(argv: &Argv, first: usize) -> Result<Many, Error> {
        let keys = number::integer(&argv[first]).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let keys = keys.ok_or_else(|| Error::text("ERR numkeys should be greater than 0"))?;
        let last = keys.checked_add(first + 1).filter(|at| *at < argv.len()).ok_or(Error::Syntax)?;
        let end = end(&argv[last])?;
        let mut count = None;
        let mut at = last + 1;
        while let Some(word) = argv.get(at) {
            let value = argv.get(at + 1).filter(|_| count.is_none() && word.eq_ignore_ascii_case(b"count"));
            let number = number::integer(value.ok_or(Error::Syntax)?).filter(|n| *n > 0);
            count = Some(number.ok_or_else(|| Error::text("ERR count should be greater than 0"))?.cast_unsigned());
            at += 2;
        }
        Ok(Many { keys: first + 1..last, end, count: count.unwrap_or(1) })
    }

    /// Takes elements from the first list that is there.
    ///
    /// # Errors
    /// When a key in front of it holds another type.
    pub(super) fn take(self, keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv) -> CommandResult {
        for key in self.keys.map(|at| &argv[at]) {
            if to_take::<List>(keyspace, context, key)?.is_none() {
                continue;
            }
            let pop = |list: &mut List, settings: &Settings| list.pop(self.end, self.count, settings);
            if let Some(elements) = change(keyspace, context.database, key, popped(self.end), pop)? {
                return Ok(Reply::Array(vec![Reply::bulk(key), bulks(elements)]));
            }
        }
        Ok(Reply::NullArray)
    }
}

/// LMPOP
pub(super) fn lmpop(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    Many::parse(argv, 1)?.take(keyspace, context, argv)
}
