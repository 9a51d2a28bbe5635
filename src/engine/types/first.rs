//! What the commands share that take from the first of several keys that holds something: LMPOP, BLPOP, ZMPOP,
//! BZPOPMIN and their kin.

use std::ops::Range;

use quoris_resp::Argv;

use super::collection::{Typed, change, to_take};
use crate::{ApplyContext, Error, Keyspace, Settings, number};

/// What LMPOP, ZMPOP and their waiting twins ask for.
pub(super) struct Many<E> {
    /// Where the keys stand.
    pub(super) keys: Range<usize>,
    /// From where to take.
    pub(super) end: E,
    /// How many elements at most.
    pub(super) count: u64,
}

impl<E> Many<E> {
    /// Reads it from the number of keys on, the argument at `first`; `end` reads the word behind the keys.
    ///
    /// # Errors
    /// As Redis words them.
    pub(super) fn parse(argv: &Argv, first: usize, end: fn(&[u8]) -> Result<E, Error>) -> Result<Many<E>, Error> {
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
}

/// Takes from the collection at the first of the keys that has one, under the event's name: the place of that key
/// in `argv`, and what was taken.
///
/// # Errors
/// When a key in front of it holds another type, and the command does not wait.
pub(super) fn take_first<C: Typed, R>(
    keyspace: &mut Keyspace,
    context: &ApplyContext,
    argv: &Argv,
    keys: Range<usize>,
    name: &'static str,
    take: impl Fn(&mut C, &Settings) -> R,
) -> Result<Option<(usize, R)>, Error> {
    for at in keys {
        if to_take::<C>(keyspace, context, &argv[at])?.is_some() {
            let taken = change(keyspace, context.database, &argv[at], name, &take)?;
            return Ok(taken.map(|taken| (at, taken)));
        }
    }
    Ok(None)
}
