//! The commands that wait for an element of a sorted set.
//!
//! Waiting is not done here: each call tries once, and a null says that there is nothing.

use quoris_resp::{Argv, Reply};

use super::remove::{End, end, take_many};
use super::value::SortedSet;
use crate::command::Waits;
use crate::command::waits::{self, first_seconds, last_seconds};
use crate::types::collection::len;
use crate::types::first::{Many, take_first};
use crate::{ApplyContext, CommandResult, Keyspace, Settings};

/// The timeout stands last.
pub(super) const LAST: Waits =
    Waits { patience: last_seconds, line: |_| b"zset", serves: len::<SortedSet>, again: |_, _, _| None };
/// The timeout stands first.
pub(super) const FIRST: Waits = Waits { patience: first_seconds, ..LAST };

fn pop_first(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, from: End) -> CommandResult {
    let last = argv.len() - 1;
    waits::seconds(&argv[last], context.now_ms)?;
    let pop = |set: &mut SortedSet, _: &Settings| set.pop(from, 1).pop();
    let taken = take_first(keyspace, context, argv, 1..last, from.popped(), pop)?;
    let triple = |(at, element): (usize, Option<(Reply, Reply)>)| {
        element.map(|(member, score)| Reply::Array(vec![Reply::bulk(&argv[at]), member, score]))
    };
    Ok(taken.and_then(triple).unwrap_or(Reply::NullArray))
}

/// BZPOPMIN
pub(super) fn bzpopmin(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    pop_first(keyspace, context, argv, End::Min)
}

/// BZPOPMAX
pub(super) fn bzpopmax(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    pop_first(keyspace, context, argv, End::Max)
}

/// BZMPOP
pub(super) fn bzmpop(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let many = Many::parse(argv, 2, end)?;
    waits::seconds(&argv[1], context.now_ms)?;
    take_many(many, keyspace, context, argv)
}
