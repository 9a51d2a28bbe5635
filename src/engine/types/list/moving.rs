//! The commands that take an element from one list and put it into another.

use quoris_resp::{Argv, Reply};

use super::ends::end;
use super::value::{End, List};
use crate::types::collection::{change, change_or_make, look, to_take};
use crate::{ApplyContext, CommandResult, Keyspace};

/// Takes from one end of the list at the first argument and puts it to an end of that at the second.
pub(super) fn transfer(
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    argv: &Argv,
    from: End,
    to: End,
) -> CommandResult {
    let (database, source, destination) = (context.database, &argv[1], &argv[2]);
    if to_take::<List>(keyspace, context, source)?.is_none() {
        return Ok(Reply::Null);
    }
    look::<List>(keyspace, database, destination)?;
    if source == destination {
        // In one step, so that a list of one element is not removed in between with its deadline.
        let element = change(keyspace, database, source, |list: &mut List, settings| {
            let element = list.pop(from, 1, settings).pop()?;
            list.push(to, &element, settings);
            Some(element)
        })?;
        return Ok(element.flatten().map_or(Reply::Null, |element| Reply::Bulk(element.into())));
    }
    let popped = change(keyspace, database, source, |list: &mut List, settings| list.pop(from, 1, settings).pop())?;
    let Some(element) = popped.flatten() else { return Ok(Reply::Null) };
    change_or_make(keyspace, database, destination, |list: &mut List, settings| list.push(to, &element, settings))?;
    Ok(Reply::Bulk(element.into()))
}

/// LMOVE
pub(super) fn lmove(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    transfer(keyspace, context, argv, end(&argv[3])?, end(&argv[4])?)
}

/// RPOPLPUSH
pub(super) fn rpoplpush(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    transfer(keyspace, context, argv, End::Right, End::Left)
}
