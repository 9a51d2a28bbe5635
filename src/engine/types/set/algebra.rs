//! The commands over several sets: what all of them have, any of them, the first of them alone.

use std::borrow::Cow;

use quoris_resp::{Argv, Reply};

use super::value::Set;
use crate::command::ReadContext;
use crate::events::Class;
use crate::number;
use crate::types::collection::{Collection, Typed, look};
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// What becomes of several sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Inter,
    Union,
    Diff,
}

impl Operation {
    /// The event of a result that is stored.
    fn stored(self) -> &'static str {
        match self {
            Operation::Inter => "sinterstore",
            Operation::Union => "sunionstore",
            Operation::Diff => "sdiffstore",
        }
    }
}

type Members<'a> = Box<dyn Iterator<Item = Cow<'a, [u8]>> + 'a>;

/// The sets at keys; an absent one is empty.
///
/// # Errors
/// When one of the keys holds another type.
fn sets<'a>(
    keyspace: &'a Keyspace,
    database: u32,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Option<&'a Set>>, Error> {
    keys.map(|key| look::<Set>(keyspace, database, key)).collect()
}

/// The members of the result, each once.
fn result<'a>(operation: Operation, mut sets: Vec<Option<&'a Set>>) -> Members<'a> {
    match operation {
        Operation::Inter => {
            let Some(mut sets) = sets.into_iter().collect::<Option<Vec<&Set>>>() else {
                return Box::new(std::iter::empty());
            };
            sets.sort_by_key(|set| set.len());
            let smallest = sets.remove(0);
            Box::new(smallest.members().filter(move |member| sets.iter().all(|set| set.contains(member))))
        }
        Operation::Union => {
            let sets: Vec<&Set> = sets.into_iter().flatten().collect();
            let places = 0..sets.len();
            Box::new(places.flat_map(move |place| {
                let before = sets[..place].to_vec();
                sets[place].members().filter(move |member| !before.iter().any(|set| set.contains(member)))
            }))
        }
        Operation::Diff => {
            let Some(first) = sets.remove(0) else { return Box::new(std::iter::empty()) };
            let others: Vec<&Set> = sets.into_iter().flatten().collect();
            Box::new(first.members().filter(move |member| !others.iter().any(|set| set.contains(member))))
        }
    }
}

fn show(operation: Operation, keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let sets = sets(keyspace, context.database, argv.iter().skip(1))?;
    Ok(Reply::Set(result(operation, sets).map(Reply::bulk).collect()))
}

/// SINTER
pub(super) fn sinter(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    show(Operation::Inter, keyspace, context, argv)
}

/// SUNION
pub(super) fn sunion(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    show(Operation::Union, keyspace, context, argv)
}

/// SDIFF
pub(super) fn sdiff(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    show(Operation::Diff, keyspace, context, argv)
}

/// Stores the result, whatever the destination held before; nothing is left there when the result is empty.
fn store(operation: Operation, keyspace: &mut Keyspace, context: &ApplyContext, argv: &Argv) -> CommandResult {
    let (database, destination) = (context.database, &argv[1]);
    let members: Vec<_> = result(operation, sets(keyspace, database, argv.iter().skip(2))?).collect();
    // A result has every member once, unless memory broke.
    let set = Set::of(&members, keyspace.settings()).unwrap_or_default();
    let len = set.len() as i64;
    if len == 0 {
        keyspace.delete_and_tell(database, destination);
    } else {
        keyspace.set(database, destination, set.into_value(), None);
        keyspace.notify(Class::Set, operation.stored(), database, destination);
    }
    Ok(Reply::Int(len))
}

/// SINTERSTORE
pub(super) fn sinterstore(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    store(Operation::Inter, keyspace, context, argv)
}

/// SUNIONSTORE
pub(super) fn sunionstore(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    store(Operation::Union, keyspace, context, argv)
}

/// SDIFFSTORE
pub(super) fn sdiffstore(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    store(Operation::Diff, keyspace, context, argv)
}

/// Counts the result, up to a limit when there is one.
fn count(operation: Operation, keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let keys = number::integer(&argv[1]).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let keys = keys.ok_or_else(|| Error::text("ERR numkeys should be greater than 0"))?;
    if keys > argv.len() - 2 {
        return Err(Error::text("ERR Number of keys can't be greater than number of args"));
    }
    let (mut limit, mut at) = (0, 2 + keys);
    while let Some(word) = argv.get(at) {
        match (&word.to_ascii_uppercase()[..], argv.get(at + 1)) {
            (b"LIMIT", Some(number)) => {
                let number = number::integer(number).and_then(|n| usize::try_from(n).ok());
                limit = number.ok_or_else(|| Error::text("ERR LIMIT can't be negative"))?;
                at += 2;
            }
            // The exact number is an approximation too.
            (b"APPROX", _) if operation == Operation::Union => at += 1,
            _ => return Err(Error::Syntax),
        }
    }
    let sets = sets(keyspace, context.database, argv.iter().skip(2).take(keys))?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    Ok(Reply::Int(result(operation, sets).take(limit).count() as i64))
}

/// SINTERCARD
pub(super) fn sintercard(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    count(Operation::Inter, keyspace, context, argv)
}

/// SUNIONCARD
pub(super) fn sunioncard(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    count(Operation::Union, keyspace, context, argv)
}

/// SDIFFCARD
pub(super) fn sdiffcard(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    count(Operation::Diff, keyspace, context, argv)
}
