//! BITFIELD and BITFIELD_RO: integers of 1 to 64 bits anywhere in a string.
//!
//! Arithmetic is done in 128 bits, where nothing overflows, and brought back into the field's range by the
//! chosen rule.

use quoris_resp::{Argv, Reply};
use smallvec::SmallVec;

use super::checked_offset;
use crate::command::{KeyUse, KeyUses, RO_ACCESS, RW_ACCESS_UPDATE, ReadContext};
use crate::events::Class;
use crate::number;
use crate::types::string;
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// What happens to a number that does not fit its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

/// One subcommand.
#[derive(Clone, Copy, Debug)]
struct Operation {
    signed: bool,
    bits: u32,
    offset: u64,
    action: Action,
    overflow: Overflow,
}

type Operations = SmallVec<[Operation; 4]>;

/// `i16`, `u8`: whether it is signed, and its width.
fn parse_type(text: &[u8]) -> Result<(bool, u32), Error> {
    let (signed, digits, max) = match text {
        [b'i', digits @ ..] => (true, digits, 64),
        [b'u', digits @ ..] => (false, digits, 63),
        _ => (false, &text[..0], 0),
    };
    match number::integer(digits) {
        Some(bits) if (1..=max).contains(&bits) => Ok((signed, bits as u32)),
        _ => Err(Error::text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        )),
    }
}

/// A number of bits, or with `#` of fields. A string must have room for all bits that are written, but
/// only for the first one that is read.
fn parse_offset(text: &[u8], bits: u32, is_write: bool) -> Result<u64, Error> {
    let offset = match text {
        [b'#', count @ ..] => number::integer(count).and_then(|count| count.checked_mul(i64::from(bits))),
        offset => number::integer(offset),
    };
    checked_offset(offset, if is_write { u64::from(bits) } else { 1 })
}

fn parse(argv: &Argv) -> Result<Operations, Error> {
    let mut operations = Operations::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while let Some(word) = argv.get(at) {
        let behind = argv.len() - at - 1;
        let is = |known: &[u8], arguments| word.eq_ignore_ascii_case(known) && behind >= arguments;
        if is(b"OVERFLOW", 1) {
            let rules = [(&b"WRAP"[..], Overflow::Wrap), (b"SAT", Overflow::Saturate), (b"FAIL", Overflow::Fail)];
            let rule = rules.iter().find(|(name, _)| argv[at + 1].eq_ignore_ascii_case(name));
            overflow = rule.ok_or_else(|| Error::text("ERR Invalid OVERFLOW type specified"))?.1;
            at += 2;
            continue;
        }
        let set: Option<fn(i64) -> Action> = match () {
            () if is(b"GET", 2) => None,
            () if is(b"SET", 3) => Some(Action::Set),
            () if is(b"INCRBY", 3) => Some(Action::Add),
            () => return Err(Error::Syntax),
        };
        let (signed, bits) = parse_type(&argv[at + 1])?;
        let offset = parse_offset(&argv[at + 2], bits, set.is_some())?;
        let action = match set {
            Some(set) => set(number::integer(&argv[at + 3]).ok_or(Error::NotAnInteger)?),
            None => Action::Get,
        };
        operations.push(Operation { signed, bits, offset, action, overflow });
        at += if set.is_some() { 4 } else { 3 };
    }
    Ok(operations)
}

impl Operation {
    fn is_write(&self) -> bool {
        self.action != Action::Get
    }

    /// Behind the last byte of the field.
    fn end(&self) -> usize {
        ((self.offset + u64::from(self.bits)).div_ceil(8)) as usize
    }

    /// How far the field's lowest bit is from the end of its last byte.
    fn shift(&self) -> u32 {
        (self.end() as u64 * 8 - self.offset - u64::from(self.bits)) as u32
    }

    fn mask(&self) -> u128 {
        (1 << self.bits) - 1
    }

    /// The number in the field.
    fn load(&self, text: &[u8]) -> i128 {
        let first = (self.offset / 8) as usize;
        let byte = |at: usize| u128::from(text.get(at).copied().unwrap_or(0));
        let window = (first..self.end()).fold(0, |window, at| window << 8 | byte(at));
        self.number(window >> self.shift())
    }

    /// The lowest bits of `field` as a number of the field's type.
    fn number(&self, field: u128) -> i128 {
        let field = (field & self.mask()) as i128;
        let is_negative = self.signed && field >> (self.bits - 1) != 0;
        if is_negative { field - (1 << self.bits) } else { field }
    }

    /// Writes a number that fits; the text is long enough.
    fn store(&self, text: &mut [u8], number: i128) {
        let (mut mask, mut field) = (self.mask(), number as u128 & self.mask());
        (mask, field) = (mask << self.shift(), field << self.shift());
        for at in ((self.offset / 8) as usize..self.end()).rev() {
            text[at] = text[at] & !(mask as u8) | field as u8;
            (mask, field) = (mask >> 8, field >> 8);
        }
    }

    /// The least and the largest number.
    fn limits(&self) -> (i128, i128) {
        let width = if self.signed { self.bits - 1 } else { self.bits };
        let max = (1 << width) - 1;
        (if self.signed { -max - 1 } else { 0 }, max)
    }

    /// What is to be written for the result of an action; nothing when that fails.
    fn fit(&self, number: i128) -> Option<i128> {
        let (min, max) = self.limits();
        match self.overflow {
            _ if (min..=max).contains(&number) => Some(number),
            Overflow::Wrap => Some(self.number(number as u128)),
            Overflow::Saturate => Some(number.clamp(min, max)),
            Overflow::Fail => None,
        }
    }

    /// The reply, and the number to write where it differs from what is there.
    fn step(&self, text: &[u8]) -> (Reply, Option<i128>) {
        let old = self.load(text);
        let reply = |number: i128| Reply::Int(number as i64);
        let wanted = match self.action {
            Action::Get => return (reply(old), None),
            // Redis takes a negative number for an unsigned field as a very large one.
            Action::Set(number) if !self.signed => i128::from(number.cast_unsigned()),
            // Its check of signed ones overflows where the distance to the largest number does, and
            // finds these far too large as well; their low bits are the same.
            Action::Set(number) if self.bits < 64 && self.limits().1 - i128::from(number) > i128::from(i64::MAX) => {
                i128::from(number) + (1 << 64)
            }
            Action::Set(number) => i128::from(number),
            Action::Add(increment) => old + i128::from(increment),
        };
        let Some(new) = self.fit(wanted) else { return (Reply::Null, None) };
        let shown = if matches!(self.action, Action::Set(_)) { old } else { new };
        (reply(shown), (new != old).then_some(new))
    }
}

/// The replies to operations that write nothing into `text`.
fn look(operations: &[Operation], text: &[u8]) -> Reply {
    Reply::Array(operations.iter().map(|operation| operation.step(text).0).collect())
}

/// The key of BITFIELD: what happens to it depends on the subcommands.
pub(super) fn bitfield_keys(argv: &Argv) -> Result<KeyUses, Error> {
    let reads = parse(argv).is_ok_and(|operations| !operations.iter().any(Operation::is_write));
    let flags = if reads { RO_ACCESS } else { RW_ACCESS_UPDATE };
    Ok(SmallVec::from_slice(&[KeyUse { position: 1, flags }]))
}

/// BITFIELD
pub(super) fn bitfield(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let operations = parse(argv)?;
    let len = operations.iter().filter(|operation| operation.is_write()).map(Operation::end).max();
    let value = keyspace.value(context.database, &argv[1]).map(|value| value.as_string()).transpose()?;
    let mut digits = itoa::Buffer::new();
    let text = value.map_or(&b""[..], |value| value.bytes(&mut digits));
    let Some(len) = len else { return Ok(look(&operations, text)) };
    let is_raw = value.is_some_and(|value| value.encoding() == "raw");
    if is_raw && text.len() >= len && operations.iter().all(|operation| operation.step(text).1.is_none()) {
        return Ok(look(&operations, text));
    }
    // Redis makes room even where the rule FAIL then writes nothing.
    let (replies, is_told) = string::change(keyspace, context.database, &argv[1], Vec::new, |text| {
        let grows = text.len() < len;
        string::pad(text, len);
        let mut is_told = false;
        let one = |operation: &Operation| {
            let (reply, number) = operation.step(text);
            is_told |= number.is_some() || grows && operation.is_write() && reply != Reply::Null;
            number.into_iter().for_each(|number| operation.store(text, number));
            reply
        };
        (operations.iter().map(one).collect(), is_told)
    })?;
    if is_told {
        keyspace.notify(Class::String, "setbit", context.database, &argv[1]);
    }
    Ok(Reply::Array(replies))
}

/// BITFIELD_RO
pub(super) fn bitfield_ro(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let operations = parse(argv)?;
    if operations.iter().any(Operation::is_write) {
        return Err(Error::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let text = string::text(keyspace, context.database, &argv[1])?.unwrap_or_default();
    Ok(look(&operations, &text))
}
