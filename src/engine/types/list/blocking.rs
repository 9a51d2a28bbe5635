//! The list commands that wait for an element.
//!
//! Waiting is not done here: each call tries once, and a null says that there is nothing.

use quoris_resp::{Argv, Reply};

use super::ends::{end, popped, take_many};
use super::moving::transfer;
use super::value::{End, List};
use crate::command::Waits;
use crate::command::waits::{self, first_seconds, last_seconds};
use crate::types::collection::len;
use crate::types::first::{Many, take_first};
use crate::{ApplyContext, CommandResult, Keyspace, Settings};

/// The timeout stands last.
pub(super) const LAST: Waits =
    Waits { patience: last_seconds, line: |_| b"list", serves: len::<List>, again: |_, _, _| None };
/// The timeout stands first.
pub(super) const FIRST: Waits = Waits { patience: first_seconds, ..LAST };

fn pop_first(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, from: End) -> CommandResult {
    let last = argv.len() - 1;
    waits::seconds(&argv[last], context.now_ms)?;
    let pop = |list: &mut List, settings: &Settings| list.pop(from, 1, settings).pop();
    let taken = take_first(keyspace, context, argv, 1..last, popped(from), pop)?;
    let pair = |(at, element): (usize, Option<Vec<u8>>)| {
        element.map(|element| Reply::Array(vec![Reply::bulk(&argv[at]), Reply::Bulk(element.into())]))
    };
    Ok(taken.and_then(pair).unwrap_or(Reply::NullArray))
}

/// BLPOP
pub(super) fn blpop(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    pop_first(keyspace, context, argv, End::Left)
}

/// BRPOP
pub(super) fn brpop(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    pop_first(keyspace, context, argv, End::Right)
}

/// BLMPOP
pub(super) fn blmpop(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let many = Many::parse(argv, 2, end)?;
    waits::seconds(&argv[1], context.now_ms)?;
    take_many(many, keyspace, context, argv)
}

/// BLMOVE
pub(super) fn blmove(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let (from, to) = (end(&argv[3])?, end(&argv[4])?);
    waits::seconds(&argv[5], context.now_ms)?;
    transfer(keyspace, context, argv, from, to)
}

/// BRPOPLPUSH
pub(super) fn brpoplpush(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    waits::seconds(&argv[3], context.now_ms)?;
    transfer(keyspace, context, argv, End::Right, End::Left)
}
