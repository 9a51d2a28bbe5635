//! Large values in parts, each of which is little work: for the source to read, for the target to take in.
//!
//! A part is a piece of the units of a value ([`crate::types::growing`]), each behind its length in LEB128. A unit that
//! is too long goes on in the next part; a length stands in one part as a whole.
//!
//! Invariants:
//! * A part has at most [`UNITS_MAX`] units and, lengths left out, [`BYTES_MAX`] bytes.
//! * What comes is not believed: a length is allocated when half of it is there.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use xxhash_rust::xxh3::Xxh3;

use crate::sequence::put_number;
use crate::types::growing::{self, Growing, Kind};
use crate::{StringValue, Value, payload};

/// Bytes of one part: well below a millisecond to copy.
pub(super) const BYTES_MAX: usize = 256 * 1024;
/// Units of one part, a few microseconds each.
pub(super) const UNITS_MAX: usize = 1024;
/// Of shorter texts more counts than their bytes.
const SHORT_MAX: usize = 64;
/// Bits of a length that are believed.
const LENGTH_BITS: u32 = 42;

/// Where the next part of a value begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    unit: u64,
    /// How much of it is gone.
    offset: usize,
}

fn take_length(bytes: &mut Bytes) -> Option<usize> {
    let (mut len, mut shift) = (0, 0);
    loop {
        let byte = bytes.first().copied().filter(|_| shift < LENGTH_BITS)?;
        bytes.advance(1);
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(len);
        }
        shift += 7;
    }
}

/// Appends the next part of some units, which `units` gives from one on; true when it is the last.
fn write_units(at: &mut Cursor, out: &mut Vec<u8>, units: impl FnOnce(u64, &mut dyn FnMut(&[u8]) -> bool)) -> bool {
    let (mut count, mut left, mut whole) = (UNITS_MAX, BYTES_MAX, true);
    units(at.unit, &mut |unit| {
        if count == 0 || left == 0 {
            whole = false;
            return false;
        }
        if at.offset == 0 {
            put_number(unit.len(), |byte| out.push(byte));
        }
        let rest = unit.get(at.offset..).unwrap_or_default();
        let piece = &rest[..rest.len().min(left)];
        out.extend_from_slice(piece);
        (count, left) = (count - 1, left - piece.len());
        if piece.len() < rest.len() {
            at.offset += piece.len();
            whole = false;
            return false;
        }
        *at = Cursor { unit: at.unit + 1, offset: 0 };
        true
    });
    whole
}

/// Appends the next part of a value; true when it is the last.
pub(super) fn write(value: &Value, at: &mut Cursor, out: &mut Vec<u8>) -> bool {
    match value {
        // Its text is not to be copied for each part.
        Value::String(StringValue::Fixed(text)) => write_one(text, at, out),
        Value::String(StringValue::Grown(text)) => write_one(text, at, out),
        other => write_units(at, out, |from, visit| growing::units(other, from, visit)),
    }
}

/// Appends the next part of one unit; true when it is the last.
pub(super) fn write_one(unit: &[u8], at: &mut Cursor, out: &mut Vec<u8>) -> bool {
    write_units(at, out, |from, visit| {
        if from == 0 {
            visit(unit);
        }
    })
}

/// A long unit that comes in several parts. What has come is put together bit by bit as the second half comes: each
/// piece costs twice its length.
#[derive(Debug)]
struct Long {
    len: usize,
    arrived: usize,
    waiting: VecDeque<Bytes>,
    text: Vec<u8>,
}

impl Long {
    fn new(len: usize) -> Long {
        Long { len, arrived: 0, waiting: VecDeque::new(), text: Vec::new() }
    }

    fn missing(&self) -> usize {
        self.len - self.arrived
    }

    fn push(&mut self, piece: Bytes) {
        let mut work = 2 * piece.len();
        self.arrived += piece.len();
        self.waiting.push_back(piece);
        if self.arrived < self.len.div_ceil(2) {
            return;
        }
        if self.text.capacity() == 0 {
            self.text.reserve_exact(self.len);
        }
        if self.missing() == 0 {
            work = usize::MAX;
        }
        while work > 0
            && let Some(first) = self.waiting.front_mut()
        {
            let some = first.split_to(first.len().min(work));
            self.text.extend_from_slice(&some);
            work -= some.len();
            if first.is_empty() {
                self.waiting.pop_front();
            }
        }
    }
}

/// A value that comes in parts.
pub(super) struct Joined {
    value: Box<dyn Growing>,
    long: Option<Long>,
    /// Of a text that comes in several parts, which is hashed as it comes.
    hasher: Option<Box<Xxh3>>,
    is_text: bool,
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joined").field("value", &self.value).field("long", &self.long).finish_non_exhaustive()
    }
}

impl Joined {
    /// One of which nothing has come; nothing for an unknown kind.
    pub(super) fn new(kind: u8, origin: u8) -> Option<Joined> {
        let is_text = kind == Kind::Text as u8;
        Some(Joined { value: growing::grow(kind, origin)?, long: None, hasher: None, is_text })
    }

    /// Takes the next part; nothing when it does not fit.
    pub(super) fn take(&mut self, mut part: Bytes) -> Option<()> {
        if part.len() > 2 * BYTES_MAX {
            return None;
        }
        let mut units = 0;
        while !part.is_empty() {
            units += 1;
            if units > UNITS_MAX {
                return None;
            }
            let mut long = match self.long.take() {
                Some(long) => long,
                None => {
                    let len = take_length(&mut part)?;
                    if len <= part.len() {
                        self.value.add(Cow::Borrowed(&part[..len]))?;
                        part.advance(len);
                        continue;
                    }
                    Long::new(len)
                }
            };
            let piece = part.split_to(part.len().min(long.missing()));
            if self.is_text {
                self.hasher.get_or_insert_with(|| Box::new(Xxh3::new())).update(&piece);
            }
            long.push(piece);
            if long.missing() == 0 {
                self.value.add(Cow::Owned(long.text))?;
            } else {
                self.long = Some(long);
            }
        }
        self.value.settle();
        Some(())
    }

    /// The value and its hash; nothing when something is missing.
    pub(super) fn finish(self) -> Option<(Value, u64)> {
        if self.long.is_some() {
            return None;
        }
        let value = self.value.finish()?;
        let hash = match (&value, self.hasher) {
            (Value::String(text), Some(hasher)) if text.len() > SHORT_MAX => payload::long_text_hash(hasher.digest()),
            _ => payload::hash(&value, false),
        };
        Some((value, hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(unit: &[u8]) -> Vec<Bytes> {
        let (mut at, mut parts) = (Cursor::default(), Vec::new());
        loop {
            let mut part = Vec::new();
            let last = write_one(unit, &mut at, &mut part);
            parts.push(part.into());
            if last {
                return parts;
            }
        }
    }

    #[test]
    fn a_long_text_is_put_together_as_it_comes() {
        for len in [0, 1, BYTES_MAX - 1, BYTES_MAX, BYTES_MAX + 1, 10 * BYTES_MAX + 7] {
            let text: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let mut joined = Joined::new(1, 0).expect("a text");
            let parts = parts(&text);
            for (at, part) in parts.iter().enumerate() {
                joined.take(part.clone()).expect("its own parts");
                let Some(long) = &joined.long else { continue };
                let waiting: usize = long.waiting.iter().map(Bytes::len).sum();
                assert_eq!(long.text.len() + waiting, long.arrived, "{at} of {}", parts.len());
                assert!(long.text.capacity() <= 2 * long.arrived + BYTES_MAX, "nothing is allocated for a promise");
                assert!(
                    long.text.is_empty() || waiting <= long.missing() + 2 * BYTES_MAX,
                    "{waiting} are left for the end"
                );
            }
            let (value, hash) = joined.finish().expect("it is whole");
            assert_eq!((hash, &value), (payload::hash(&value, true), &payload::from_bytes(text)));
        }
    }

    #[test]
    fn a_text_has_the_same_hash_however_it_is_cut() {
        let text = vec![b'x'; BYTES_MAX + 1000];
        let mut whole = Vec::new();
        put_number(text.len(), |byte| whole.push(byte));
        whole.extend_from_slice(&text);
        for cut in [3, 10, 70, BYTES_MAX, whole.len()] {
            let mut joined = Joined::new(1, 0).expect("a text");
            let parts = [&whole[..cut], &whole[cut..]];
            parts.iter().for_each(|part| joined.take(Bytes::copy_from_slice(part)).expect("a piece of it"));
            let (value, hash) = joined.finish().expect("it is whole");
            assert_eq!(hash, payload::hash(&value, true), "cut at {cut}");
        }
    }

    #[test]
    fn an_announced_length_alone_allocates_nothing() {
        let mut part = Vec::new();
        put_number((1 << 42) - 1, |byte| part.push(byte));
        part.push(b'x');
        let mut joined = Joined::new(1, 0).expect("a text");
        joined.take(part.into()).expect("a beginning");
        assert_eq!(joined.long.as_ref().map(|long| long.text.capacity()), Some(0));
        assert!(joined.finish().is_none());
        let mut joined = Joined::new(1, 0).expect("a text");
        assert!(joined.take(Bytes::from_static(&[0xff; 20])).is_none(), "a length without an end");
    }
}
