//! LMOVEM: several elements at once from one list to another.

use quoris_resp::{Argv, Reply};

use super::ends::end;
use super::value::{End, List};
use crate::number;
use crate::types::collection::{Collection, change, change_or_make, look};
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
    fn parse(argv: &Argv) -> Result<Move, Error> {
        let (from, to) = (end(&argv[3])?, end(&argv[4])?);
        let once = Move { from, to, count: 1, exactly: false, one_by_one: false };
        let (Some(selector), Some(count), Some(order), 8) = (argv.get(5), argv.get(6), argv.get(7), argv.len()) else {
            return if argv.len() == 5 { Ok(once) } else { Err(Error::Syntax) };
        };
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

/// LMOVEM
pub(super) fn lmovem(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let wanted = Move::parse(argv)?;
    let (database, source, destination) = (context.database, &argv[1], &argv[2]);
    let there = look::<List>(keyspace, database, source)?.map_or(0, Collection::len);
    if there == 0 || (wanted.exactly && there < wanted.count) {
        return Ok(if wanted.exactly { Reply::Null } else { Reply::Array(Vec::new()) });
    }
    look::<List>(keyspace, database, destination)?;
    let moved = if source == destination {
        // In one step, so that a list is not removed in between with its deadline.
        change(keyspace, database, source, |list: &mut List, settings| {
            let taken = wanted.take(list, settings);
            wanted.lay(list, &taken, settings);
            taken
        })?
    } else {
        let taken = change(keyspace, database, source, |list: &mut List, settings| wanted.take(list, settings))?;
        if let Some(taken) = &taken {
            change_or_make(keyspace, database, destination, |list: &mut List, settings| {
                wanted.lay(list, taken, settings);
            })?;
        }
        taken
    };
    Ok(Reply::Array(moved.unwrap_or_default().into_iter().map(|element| Reply::Bulk(element.into())).collect()))
}
