//! Ranges of bits: BITCOUNT and BITPOS. Both look at eight bytes at a time.
//!
//! Arguments are read before the key is looked up, as Redis does since 7.2: a mistake is one whether or
//! not there is a key.

use std::ops::Range;

use quoris_resp::{Argv, Reply};

use crate::command::ReadContext;
use crate::number;
use crate::types::string;
use crate::{CommandResult, Error, Keyspace};

/// What the ends of a range count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    /// The unit that argument `at` names; bytes when there is no such argument.
    fn parse(argv: &Argv, at: usize) -> Result<Unit, Error> {
        match argv.get(at) {
            None => Ok(Unit::Byte),
            Some(word) if word.eq_ignore_ascii_case(b"BYTE") => Ok(Unit::Byte),
            Some(word) if word.eq_ignore_ascii_case(b"BIT") => Ok(Unit::Bit),
            Some(_) => Err(Error::Syntax),
        }
    }
}

fn integer(argument: &[u8]) -> Result<i64, Error> {
    number::integer(argument).ok_or(Error::NotAnInteger)
}

/// The bits of a text of `len` bytes from `start` to `end`, both included, counted from the end when
/// negative; nothing when that is empty.
fn bits(len: usize, start: i64, end: i64, unit: Unit) -> Option<Range<u64>> {
    let width: u64 = if unit == Unit::Byte { 8 } else { 1 };
    let total = (len as u64 * 8 / width) as i64;
    let from_end = |n: i64| if n < 0 { n.saturating_add(total).max(0) } else { n };
    let (start, end) = (from_end(start), from_end(end).min(total - 1));
    (start <= end).then(|| start as u64 * width..(end as u64 + 1) * width)
}

/// The byte at `at` without the bits outside of `range`, each bit flipped where `flip` has one.
fn masked(text: &[u8], at: usize, range: &Range<u64>, flip: u8) -> u8 {
    let first_bit = at as u64 * 8;
    let from = range.start.saturating_sub(first_bit).min(8) as u32;
    let behind = (first_bit + 8).saturating_sub(range.end).min(8) as u32;
    let mask = (0xff_u32 >> from) & (0xff_u32 << behind) & 0xff;
    (text[at] ^ flip) & mask as u8
}

/// The first byte of a range that is not empty, those that lie in it whole, and the last byte.
fn parts(range: &Range<u64>) -> (usize, Range<usize>, usize) {
    let (first, last) = ((range.start / 8) as usize, ((range.end - 1) / 8) as usize);
    (first, first + 1..last.max(first + 1), last)
}

fn count(text: &[u8], range: &Range<u64>) -> u64 {
    let (first, middle, last) = parts(range);
    let (words, rest) = text[middle].as_chunks::<8>();
    let ends = masked(text, first, range, 0).count_ones()
        + if last > first { masked(text, last, range, 0).count_ones() } else { 0 };
    let words: u64 = words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    u64::from(ends) + words + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// The first bit of a range that is `bit`.
fn find(text: &[u8], range: &Range<u64>, bit: bool) -> Option<u64> {
    let flip = if bit { 0 } else { 0xff };
    let (first, middle, last) = parts(range);
    let at = |at: usize| {
        let byte = masked(text, at, range, flip);
        (byte != 0).then(|| at as u64 * 8 + u64::from(byte.leading_zeros()))
    };
    let (words, _) = text[middle.clone()].as_chunks::<8>();
    let blank_words = words.iter().take_while(|word| **word == [flip; 8]).count();
    at(first)
        .or_else(|| (middle.start + blank_words * 8..middle.end).find_map(at))
        .or_else(|| if last > first { at(last) } else { None })
}

/// BITCOUNT
pub(super) fn bitcount(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let (start, end, unit) = match argv.len() {
        2 => (0, -1, Unit::Byte),
        4 | 5 => (integer(&argv[2])?, integer(&argv[3])?, Unit::parse(argv, 4)?),
        _ => return Err(Error::Syntax),
    };
    let Some(text) = string::text(keyspace, context.database, &argv[1])? else { return Ok(Reply::Int(0)) };
    if start < 0 && end < 0 && start > end {
        return Ok(Reply::Int(0));
    }
    Ok(Reply::Int(bits(text.len(), start, end, unit).map_or(0, |range| count(&text, &range) as i64)))
}

/// BITPOS: without an end the text counts as if zeros went on behind it.
pub(super) fn bitpos(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let bit = match integer(&argv[2])? {
        0 => false,
        1 => true,
        _ => return Err(Error::text("ERR The bit argument must be 1 or 0.")),
    };
    if argv.len() > 6 {
        return Err(Error::Syntax);
    }
    let start = argv.get(3).map_or(Ok(0), integer)?;
    let unit = Unit::parse(argv, 5)?;
    let end = argv.get(4).map(integer).transpose()?;
    let Some(text) = string::text(keyspace, context.database, &argv[1])? else {
        return Ok(Reply::Int(if bit { -1 } else { 0 }));
    };
    let Some(range) = bits(text.len(), start, end.unwrap_or(-1), unit) else { return Ok(Reply::Int(-1)) };
    Ok(Reply::Int(match find(&text, &range, bit) {
        Some(at) => at as i64,
        None if !bit && end.is_none() => range.end as i64,
        None => -1,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn ranges_count_and_find_as_bit_by_bit() {
        let mut rng = Rng::new(1);
        for _ in 0..3000 {
            // Mostly blank, so that words are skipped.
            let blank = if rng.below(2) == 0 { 0 } else { 0xff };
            let byte = |rng: &mut Rng| if rng.below(9) == 0 { rng.below(256) as u8 } else { blank };
            let text: Vec<u8> = (0..rng.below(70) + 1).map(|_| byte(&mut rng)).collect();
            let total = text.len() as u64 * 8;
            let start = rng.below(total);
            let range = start..start + 1 + rng.below(total - start);
            let is_set = |at: &u64| text[(at / 8) as usize] & (0x80 >> (at % 8)) != 0;
            assert_eq!(count(&text, &range), range.clone().filter(is_set).count() as u64, "{text:?} {range:?}");
            for bit in [false, true] {
                let found = range.clone().find(|at| is_set(at) == bit);
                assert_eq!(find(&text, &range, bit), found, "{text:?} {range:?} {bit}");
            }
        }
    }
}
