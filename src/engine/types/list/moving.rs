//! The commands that take an element from one list and put it into another.

use quoris_resp::{Argv, Reply};

use super::ends::{end, popped, pushed};
use super::value::{End, List};
use crate::events::Class;
use crate::types::collection::{Collection, change, change_or_make, look, to_take};
use crate::{ApplyContext, CommandResult, Keyspace, Settings};

/// Takes from one end of the list at the first argument and puts it to an end of that at the second.
pub(super) fn transfer(
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    argv: &Argv,
    from: End,
    to: End,
) -> CommandResult {
    let (database, source, destination) = (context.database, &argv[1], &argv[2]);
    let Some(list) = to_take::<List>(keyspace, context, source)? else { return Ok(Reply::Null) };
    let place = if from == End::Left { 0 } else { list.len().saturating_sub(1) };
    let Some(element) = list.get(place).map(|element| element.to_vec()) else { return Ok(Reply::Null) };
    look::<List>(keyspace, database, destination)?;
    if source == destination {
        // In one step, so that a list of one element is not removed in between with its deadline.
        change(keyspace, database, source, pushed(to), |list: &mut List, settings| {
            list.pop(from, 1, settings);
            list.push(to, &element, settings);
        })?;
        keyspace.notify(Class::List, popped(from), database, source);
        return Ok(Reply::Bulk(element.into()));
    }
    let push = |list: &mut List, settings: &Settings| list.push(to, &element, settings);
    change_or_make(keyspace, database, destination, pushed(to), push)?;
    let pop = |list: &mut List, settings: &Settings| list.pop(from, 1, settings);
    change(keyspace, database, source, popped(from), pop)?;
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
