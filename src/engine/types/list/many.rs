//! LMOVEM and BLMOVEM: several elements at once from one list to another.
//!
//! Who waits for an exact number stands in a line of its own for each number: those who wait for less are not
//! held up by it.

use quoris_resp::{Argv, Reply};

use super::ends::{end, popped, pushed};
use super::value::{End, List};
use crate::command::Waits;
use crate::command::waits;
use crate::events::Class;
use crate::number;
use crate::types::collection::{Collection, change, change_or_make, len, look, to_take};
use crate::{ApplyContext, CommandResult, Error, Keyspace, Settings};

/// What to move, and how.
struct Move {
    from: End,
    to: End,
    count: u64,
    /// Nothing less than that.
    exactly: bool,
    /// One by one, so that they are laid upon each other; else in the order that they have.
    one_by_one: bool,
}

impl Move {
    /// Reads it; the number of elements stands from the argument `at` on, if anywhere.
    fn parse(argv: &Argv, at: usize) -> Result<Move, Error> {
        let (from, to) = (end(&argv[3])?, end(&argv[4])?);
        let once = Move { from, to, count: 1, exactly: false, one_by_one: false };
        let (Some(selector), Some(count), Some(order)) = (argv.get(at), argv.get(at + 1), argv.get(at + 2)) else {
            return if argv.len() == at { Ok(once) } else { Err(Error::Syntax) };
        };
        if argv.len() > at + 3 {
            return Err(Error::Syntax);
        }
        let either = |word: &[u8], yes: &str, no: &str| match word {
            word if word.eq_ignore_ascii_case(yes.as_bytes()) => Ok(true),
            word if word.eq_ignore_ascii_case(no.as_bytes()) => Ok(false),
            _ => Err(Error::Syntax),
        };
        let (exactly, one_by_one) = (either(selector, "exactly", "count")?, either(order, "obo", "bulk")?);
        let count = number::integer(count).filter(|n| *n > 0).map(i64::cast_unsigned);
        let count = count.ok_or_else(|| Error::text("ERR count should be greater than 0"))?;
        Ok(Move { count, exactly, one_by_one, ..once })
    }

    /// Takes them, in the order in which they will lie.
    fn take(&self, list: &mut List, settings: &Settings) -> Vec<Vec<u8>> {
        let mut taken = list.pop(self.from, self.count, settings);
        let outermost = if self.one_by_one { self.to == End::Left } else { self.from == End::Right };
        if outermost {
            taken.reverse();
        }
        taken
    }

    fn lay(&self, list: &mut List, taken: &[Vec<u8>], settings: &Settings) {
        match self.to {
            End::Left => taken.iter().rev().for_each(|element| list.push(End::Left, element, settings)),
            End::Right => taken.iter().for_each(|element| list.push(End::Right, element, settings)),
        }
    }
}

/// Moves them; nothing when there is not enough.
fn run(
    wanted: &Move,
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    argv: &Argv,
) -> Result<Option<Vec<Vec<u8>>>, Error> {
    let (database, source, destination) = (context.database, &argv[1], &argv[2]);
    let there = to_take::<List>(keyspace, context, source)?.map_or(0, Collection::len);
    if there == 0 || (wanted.exactly && there < wanted.count) {
        return Ok(None);
    }
    look::<List>(keyspace, database, destination)?;
    if source == destination {
        // In one step, so that a list is not removed in between with its deadline.
        let moved = change(keyspace, database, source, pushed(wanted.to), |list: &mut List, settings| {
            let taken = wanted.take(list, settings);
            wanted.lay(list, &taken, settings);
            taken
        });
        keyspace.notify(Class::List, popped(wanted.from), database, source);
        return moved;
    }
    let take = |list: &mut List, settings: &Settings| wanted.take(list, settings);
    let taken = change(keyspace, database, source, popped(wanted.from), take)?;
    if let Some(taken) = &taken {
        change_or_make(keyspace, database, destination, pushed(wanted.to), |list: &mut List, settings| {
            wanted.lay(list, taken, settings);
        })?;
    }
    Ok(taken)
}

fn bulks(elements: Vec<Vec<u8>>) -> Reply {
    Reply::Array(elements.into_iter().map(|element| Reply::Bulk(element.into())).collect())
}

/// LMOVEM
pub(super) fn lmovem(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let wanted = Move::parse(argv, 5)?;
    let moved = run(&wanted, keyspace, context, argv)?;
    Ok(moved.map_or(if wanted.exactly { Reply::Null } else { Reply::Array(Vec::new()) }, bulks))
}

/// BLMOVEM
pub(super) fn blmovem(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let wanted = Move::parse(argv, 6)?;
    waits::seconds(&argv[5], context.now_ms)?;
    Ok(run(&wanted, keyspace, context, argv)?.map_or(Reply::NullArray, bulks))
}

/// See the module.
pub(super) const WAITS: Waits = Waits { patience, line, serves, again: |_, _, _| None };

fn patience(argv: &Argv) -> Option<u64> {
    Move::parse(argv, 6).ok()?;
    waits::seconds(argv.get(5)?, 0).ok()
}

fn exact(argv: &Argv) -> Option<u64> {
    Move::parse(argv, 6).ok().filter(|wanted| wanted.exactly).map(|wanted| wanted.count)
}

fn line(argv: &Argv) -> &[u8] {
    exact(argv).and_then(|_| argv.get(7)).unwrap_or(b"list")
}

fn serves(keyspace: &Keyspace, database: u32, key: &[u8], argv: &Argv) -> u64 {
    len::<List>(keyspace, database, key, argv) / exact(argv).unwrap_or(1)
}
