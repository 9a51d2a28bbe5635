//! Ids of entries: a time in milliseconds and a number within it.

use std::fmt;

use quoris_resp::{Argv, Reply};

use crate::Error;
use crate::number;

/// Longer texts are no ids, as in Redis.
const TEXT_MAX: usize = 127;

/// See the module. The time is the upper half, so ids order as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(u128);

impl Id {
    /// `0-0`, which no entry has.
    pub(super) const MIN: Id = Id(0);
    /// The last one that there can be.
    pub(super) const MAX: Id = Id(u128::MAX);

    /// From time and number.
    pub(super) fn new(ms: u64, seq: u64) -> Id {
        Id(u128::from(ms) << 64 | u128::from(seq))
    }

    /// The time.
    pub(super) fn ms(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The number within the millisecond.
    pub(super) fn seq(self) -> u64 {
        self.0 as u64
    }

    /// The id behind it.
    pub(super) fn next(self) -> Option<Id> {
        self.0.checked_add(1).map(Id)
    }

    /// The id in front of it.
    pub(super) fn previous(self) -> Option<Id> {
        self.0.checked_sub(1).map(Id)
    }

    /// Bytes that order as ids do.
    pub(super) fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id that an item begins with.
    pub(super) fn of(item: &[u8]) -> Id {
        Id(item.first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes)))
    }

    /// Reads an id; a missing number is `missing`. `-` and `+` are none.
    ///
    /// # Errors
    /// When it is no id.
    pub(super) fn parse(text: &[u8], missing: u64) -> Result<Id, Error> {
        parse(text, missing, false).map(|(id, _)| id)
    }

    /// [`Id::parse`], with `-` for the first id and `+` for the last.
    ///
    /// # Errors
    /// When it is no id.
    pub(super) fn parse_special(text: &[u8], missing: u64) -> Result<Id, Error> {
        match text {
            b"-" => Ok(Id::MIN),
            b"+" => Ok(Id::MAX),
            _ => Id::parse(text, missing),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms(), self.seq())
    }
}

/// The id that XADD is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `*`
    Now,
    /// `ms-*`
    At(u64),
    /// The whole id.
    Exactly(Id),
}

impl Wanted {
    /// Reads what is not `*`.
    ///
    /// # Errors
    /// When it is no id.
    pub(super) fn parse(text: &[u8]) -> Result<Wanted, Error> {
        let (id, has_seq) = parse(text, 0, true)?;
        Ok(if has_seq { Wanted::Exactly(id) } else { Wanted::At(id.ms()) })
    }

    /// The id of an entry that comes behind `last`; nothing when it would not be above it. Ids that the clock
    /// makes never go backwards.
    pub(super) fn after(self, last: Id, now_ms: u64) -> Option<Id> {
        match self {
            Wanted::Now if now_ms > last.ms() => Some(Id::new(now_ms, 0)),
            Wanted::Now => last.next(),
            Wanted::At(ms) if ms == last.ms() => last.seq().checked_add(1).map(|seq| Id::new(ms, seq)),
            Wanted::At(ms) => Some(Id::new(ms, 0)).filter(|id| *id > last),
            Wanted::Exactly(id) => Some(id).filter(|id| *id > last),
        }
    }
}

/// The id, and whether its number was given rather than `*`.
fn parse(text: &[u8], missing: u64, star: bool) -> Result<(Id, bool), Error> {
    let invalid = || Error::text("ERR Invalid stream ID specified as stream command argument");
    // Redis reads a C string.
    let text = text.split(|byte| *byte == 0).next().filter(|_| text.len() <= TEXT_MAX).ok_or_else(invalid)?;
    let mut halves = text.splitn(2, |byte| *byte == b'-');
    let ms = halves.next().and_then(natural).ok_or_else(invalid)?;
    match halves.next() {
        None => Ok((Id::new(ms, missing), true)),
        Some(b"*") if star => Ok((Id::new(ms, 0), false)),
        Some(seq) => Ok((Id::new(ms, natural(seq).ok_or_else(invalid)?), true)),
    }
}

/// A number of 64 bits as Redis reads it: an integer that is not negative, else what `strtoull` takes.
fn natural(text: &[u8]) -> Option<u64> {
    if let Some(n) = number::integer(text) {
        return u64::try_from(n).ok();
    }
    let blank = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    Some(&text[blank..]).filter(|rest| !rest.is_empty()).and_then(number::cursor)
}

/// Both ends of a range of ids, included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    /// The first.
    pub(super) start: Id,
    /// The last.
    pub(super) end: Id,
}

impl Interval {
    /// Reads both ends; `(` in front of one leaves it out.
    ///
    /// # Errors
    /// When one is no id, or nothing lies beyond it.
    pub(super) fn parse(start: &[u8], end: &[u8]) -> Result<Interval, Error> {
        Ok(Interval { start: start_of(start)?, end: end_of(end)? })
    }
}

/// The first id of a range.
///
/// # Errors
/// When it is none.
pub(super) fn start_of(text: &[u8]) -> Result<Id, Error> {
    match text {
        [b'(', rest @ ..] if !rest.is_empty() => {
            Id::parse(rest, 0)?.next().ok_or_else(|| Error::text("ERR invalid start ID for the interval"))
        }
        _ => Id::parse_special(text, 0),
    }
}

fn end_of(text: &[u8]) -> Result<Id, Error> {
    match text {
        [b'(', rest @ ..] if !rest.is_empty() => {
            Id::parse(rest, u64::MAX)?.previous().ok_or_else(|| Error::text("ERR invalid end ID for the interval"))
        }
        _ => Id::parse_special(text, u64::MAX),
    }
}

/// Reads several ids.
///
/// # Errors
/// When one is none.
pub(super) fn all<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Id>, Error> {
    texts.map(|text| Id::parse(text, 0)).collect()
}

/// Reads a number and so many ids, from argument `at` on; gives the argument behind them as well.
///
/// # Errors
/// As Redis words them.
pub(super) fn counted(argv: &Argv, at: usize) -> Result<(Vec<Id>, usize), Error> {
    let count = argv.get(at).ok_or(Error::Syntax)?;
    let count = number::integer(count).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let count = count.ok_or_else(|| Error::text("ERR Number of IDs must be a positive integer"))?;
    if count > argv.len() - at - 1 {
        return Err(Error::text("ERR The `numids` parameter must match the number of arguments"));
    }
    Ok((all(argv.iter().skip(at + 1).take(count))?, at + 1 + count))
}

/// An id as a reply.
pub(super) fn reply(id: Id) -> Reply {
    Reply::bulk(id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        for (text, ms, seq) in [
            ("5", 5, 7),
            ("5-3", 5, 3),
            ("007-01", 7, 1),
            ("+5--0", 5, 0),
            (" 5- 6", 5, 6),
            ("18446744073709551615-18446744073709551615", u64::MAX, u64::MAX),
            ("1-2\x00rest", 1, 2),
        ] {
            assert_eq!(Id::parse(text.as_bytes(), 7), Ok(Id::new(ms, seq)), "{text:?}");
        }
        for text in ["", "-", "+", "-5", "5-", "5--3", "x", "5-x", "5-*", "18446744073709551616", "5-6-7", "*", " "] {
            assert!(Id::parse(text.as_bytes(), 0).is_err(), "{text:?}");
        }
        assert!(Id::parse(&[b'0'; 128], 0).is_err());
        assert_eq!(Wanted::parse(b"5-*"), Ok(Wanted::At(5)));
    }

    #[test]
    fn new_ids_are_above_the_last() {
        let last = Id::new(5, u64::MAX);
        assert_eq!(Wanted::Now.after(last, 3), Some(Id::new(6, 0)));
        assert_eq!(Wanted::Now.after(last, 9), Some(Id::new(9, 0)));
        assert_eq!(Wanted::At(5).after(last, 9), None);
        assert_eq!(Wanted::At(4).after(last, 9), None);
        assert_eq!(Wanted::At(6).after(last, 9), Some(Id::new(6, 0)));
        assert_eq!(Wanted::At(0).after(Id::MIN, 9), Some(Id::new(0, 1)));
        assert_eq!(Wanted::Exactly(last).after(last, 9), None);
    }
}
