//! Bitmaps: strings as rows of bits and of small integers.
//!
//! Bit 0 is the highest bit of the first byte. What lies behind the end of a string reads as zero, and a
//! write there pads the string. There is no type of its own: every other string command works on the same
//! bytes.
//!
//! Invariants:
//! * A change is made in place; what changes no bit makes no new version of the key.
//! * No command builds a string above the limit of SETRANGE.

mod bit;
mod field;
mod operate;
mod range;

use quoris_resp::Argv;

use crate::command::*;
use crate::types::string::STRING_BYTES_MAX;
use crate::{Error, number};

const BITMAP: Command = Command { group: Group::Bitmap, ..ROW };
const WRITE_OOM: Flags = WRITE.with(DENYOOM);
const READ_FAST: Flags = READONLY.with(FAST);

/// The rows of the bitmap commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "setbit", arity: 4, flags: WRITE_OOM, keys: KEY_CHANGE, since: "2.2.0", complexity: "O(1)",
        summary: "Sets a bit of a string and gives the one before it.", syntax: "key offset value",
        handler: Handler::Write(bit::setbit), ..BITMAP },
    Command { name: "getbit", arity: 3, flags: READ_FAST, keys: KEY_READ, since: "2.2.0", complexity: "O(1)",
        summary: "Gives a bit of a string.", syntax: "key offset", handler: Handler::Read(bit::getbit), ..BITMAP },
    Command { name: "bitcount", arity: -2, flags: READONLY, keys: KEY_READ, since: "2.6.0",
        complexity: "O(N) for N bytes in the range", summary: "Counts the bits that are set.",
        syntax: "key [start end [BYTE | BIT]]", handler: Handler::Read(range::bitcount), ..BITMAP },
    Command { name: "bitpos", arity: -3, flags: READONLY, keys: KEY_READ, since: "2.8.7",
        complexity: "O(N) for N bytes in the range", summary: "Finds the first bit that is set, or that is not.",
        syntax: "key bit [start [end [BYTE | BIT]]]", handler: Handler::Read(range::bitpos), ..BITMAP },
    Command { name: "bitop", arity: -4, flags: WRITE_OOM, keys: &[one(OW_UPDATE, 2), rest(RO_ACCESS, 3)],
        since: "2.6.0", complexity: "O(N) for N bytes of all strings",
        summary: "Combines strings bit by bit and stores the result.",
        syntax: "{AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE} destination key ...",
        handler: Handler::Write(operate::bitop), ..BITMAP },
    Command { name: "bitfield", arity: -2, flags: WRITE_OOM, since: "3.2.0",
        keys: &[one(RW_ACCESS_UPDATE.with(key_flag::VARIABLE), 1)], key_finder: Some(field::bitfield_keys),
        complexity: "O(1) for each subcommand",
        summary: "Reads and changes integers of any width within a string.",
        syntax: "key [{GET encoding offset | [OVERFLOW {WRAP | SAT | FAIL}] {SET encoding offset value | \
            INCRBY encoding offset increment}} ...]", handler: Handler::Write(field::bitfield), ..BITMAP },
    Command { name: "bitfield_ro", arity: -2, flags: READ_FAST, keys: KEY_READ, since: "6.0.0",
        complexity: "O(1) for each subcommand", summary: "Reads integers of any width within a string.",
        syntax: "key [{GET encoding offset} ...]", handler: Handler::Read(field::bitfield_ro), ..BITMAP },
];

fn bad_offset() -> Error {
    Error::text("ERR bit offset is not an integer or out of range")
}

/// The offset of `bits` bits, all of which a string can hold.
fn checked_offset(offset: Option<i64>, bits: u64) -> Result<u64, Error> {
    let offset = offset.and_then(|offset| u64::try_from(offset).ok()).ok_or_else(bad_offset)?;
    let fits = offset.checked_add(bits).is_some_and(|end| end <= STRING_BYTES_MAX * 8);
    if fits { Ok(offset) } else { Err(bad_offset()) }
}

/// The offset of one bit, from an argument.
fn bit_offset(argv: &Argv, at: usize) -> Result<u64, Error> {
    checked_offset(number::integer(&argv[at]), 1)
}
