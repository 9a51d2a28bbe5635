//! The commands that wait for an element of a sorted set.
//!
//! Waiting is not done here: each call tries once, and a null says that there is nothing.

use quoris_resp::{Argv, Reply};

use super::remove::{End, Many};
use super::value::SortedSet;
use crate::command::Waits;
use crate::command::waits::{self, first_seconds, last_seconds};
use crate::types::collection::{change, len, to_take};
use crate::{ApplyContext, CommandResult, Keyspace, Settings};

/// The timeout stands last.
pub(super) const LAST: Waits =
    Waits { patience: last_seconds, line: |_| b"zset", serves: len::<SortedSet>, again: |_, _, _| None };
/// The timeout stands first.
pub(super) const FIRST: Waits = Waits { patience: first_seconds, ..LAST };

fn pop_first(keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv, from: End) -> CommandResult {
    let last = argv.len() - 1;
    waits::seconds(&argv[last], context.now_ms)?;
    for key in (1..last).map(|at| &argv[at]) {
        if to_take::<SortedSet>(keyspace, context, key)?.is_none() {
            continue;
        }
        let pop = |set: &mut SortedSet, _: &Settings| set.pop(from, 1);
        let popped = change(keyspace, context.database, key, from.popped(), pop)?;
        if let Some((member, score)) = popped.and_then(|mut elements| elements.pop()) {
            return Ok(Reply::Array(vec![Reply::bulk(key), member, score]));
        }
    }
    Ok(Reply::NullArray)
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
    let many = Many::parse(argv, 2)?;
    waits::seconds(&argv[1], context.now_ms)?;
    many.take(keyspace, context, argv)
}
