//! HyperLogLog: the number of different elements, estimated in at most 12 KiB.
//!
//! A HyperLogLog is a string in Redis's own representation, so GET, SET, DUMP and RESTORE move it between
//! servers, and anybody may write anything into it. [`header`] says what every one begins with; behind it
//! lie 16384 registers, [`dense`] or [`sparse`]. A register holds the largest [`place::Place::rank`] of the
//! elements that fell into it, and [`estimate`] makes a number of them.
//!
//! The header has room for the last estimate. In Redis, PFCOUNT fills it, which makes a write of a read.
//! Here PFCOUNT is a read: it uses an estimate that it finds (a value may come from a redis-server) and
//! stores none. Whoever compares bytes sees an estimate marked as outdated where Redis has one; the
//! registers are equal.
//!
//! Invariants:
//! * The bytes that PFADD and PFMERGE leave are Redis's, cached estimate apart.
//! * Whatever lies behind a header is an error or a HyperLogLog, never a panic.

mod change;
mod count;
mod debug;
mod dense;
mod estimate;
mod header;
mod place;
mod sparse;
mod value;

use crate::command::*;

const HYPERLOGLOG: Command = Command { group: Group::HyperLogLog, since: "2.8.9", ..ROW };
const WRITE_OOM: Flags = WRITE.with(DENYOOM);
const KEYS_COUNT: &[KeySpec] = &[rest(key_flag::RW.with(key_flag::ACCESS), 1)];
/// What PFMERGE does to its destination.
const RW_ACCESS_INSERT: KeyFlags = key_flag::RW.with(key_flag::ACCESS).with(key_flag::INSERT);
const KEYS_MERGE: &[KeySpec] = &[one(RW_ACCESS_INSERT, 1), rest(RO_ACCESS, 2)];
const KEY_DEBUG: &[KeySpec] = &[one(key_flag::RW.with(key_flag::ACCESS), 2)];

/// The rows of the HyperLogLog commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "pfadd", arity: -2, flags: WRITE_OOM.with(FAST), keys: KEY_INSERT,
        complexity: "O(1) for each element", summary: "Adds elements to a HyperLogLog.",
        syntax: "key [element ...]", handler: Handler::Write(change::pfadd), ..HYPERLOGLOG },
    Command { name: "pfcount", arity: -2, flags: READONLY.with(MAY_REPLICATE), keys: KEYS_COUNT,
        complexity: "O(N) for N keys", summary: "Estimates how many different elements were added to any of the keys.",
        syntax: "key ...", handler: Handler::Read(count::pfcount), ..HYPERLOGLOG },
    Command { name: "pfmerge", arity: -2, flags: WRITE_OOM, keys: KEYS_MERGE,
        key_finder: Some(change::merge_keys), complexity: "O(N) for N keys",
        summary: "Makes a HyperLogLog of all that was added to several.", syntax: "destination [source ...]",
        handler: Handler::Write(change::pfmerge), ..HYPERLOGLOG },
    Command { name: "pfdebug", arity: 3, flags: WRITE_OOM.with(ADMIN), keys: KEY_DEBUG,
        complexity: "O(1), 16384 registers at most", summary: "Shows or changes how a HyperLogLog is kept.",
        syntax: "{GETREG | DECODE | ENCODING | TODENSE} key", handler: Handler::Write(debug::pfdebug),
        ..HYPERLOGLOG },
    Command { name: "pfselftest", arity: 1, flags: ADMIN, complexity: "O(1)",
        summary: "Checks that both representations agree and that estimates are near.",
        handler: Handler::Read(debug::pfselftest), ..HYPERLOGLOG },
];
