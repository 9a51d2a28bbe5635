//! Strings.
//!
//! A string is text, a number or a bitmap; [`StringValue`] says how it is kept. The commands are in one
//! file per kind: whole values, parts in place, counters, comparisons.

mod count;
mod digest;
mod edit;
pub(crate) mod expiry;
mod increx;
mod lcs;
mod read;
mod set;
mod value;

pub(crate) use edit::{STRING_BYTES_MAX, change, pad};
pub(crate) use read::text;
pub use value::{Origin, StringValue};

use crate::command::*;

const STRING: Command = Command { group: Group::String, ..ROW };
const WRITE_OOM: Flags = WRITE.with(DENYOOM);
const WRITE_OOM_FAST: Flags = WRITE_OOM.with(FAST);
const READ_FAST: Flags = READONLY.with(FAST);
const TTL_SYNTAX: &str =
    "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]";

/// The rows of the string commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "get", arity: 2, flags: READ_FAST, keys: KEY_READ, since: "1.0.0", complexity: "O(1)",
        summary: "Gives the string at a key.", syntax: "key", handler: Handler::Read(read::get), ..STRING },
    Command { name: "set", arity: -3, flags: WRITE_OOM, since: "1.0.0", complexity: "O(1)",
        keys: &[one(RW_ACCESS_UPDATE.with(key_flag::VARIABLE), 1)], key_finder: Some(set::set_keys),
        summary: "Stores a string, whatever the key held before.",
        syntax: "key value [NX | XX | IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest] \
            [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        handler: Handler::Write(set::set), ..STRING },
    Command { name: "setnx", arity: 3, flags: WRITE_OOM_FAST, keys: &[one(OW_INSERT, 1)], since: "1.0.0",
        complexity: "O(1)", summary: "Stores a string only where there is no key yet.", syntax: "key value",
        deprecated: Some(("2.6.12", "`SET` with the `NX` argument")), handler: Handler::Write(set::setnx), ..STRING },
    Command { name: "setex", arity: 4, flags: WRITE_OOM, keys: KEY_OVERWRITE, since: "2.0.0", complexity: "O(1)",
        summary: "Stores a string that lives for some seconds.", syntax: "key seconds value",
        deprecated: Some(("2.6.12", "`SET` with the `EX` argument")), handler: Handler::Write(set::setex), ..STRING },
    Command { name: "psetex", arity: 4, flags: WRITE_OOM, keys: KEY_OVERWRITE, since: "2.6.0", complexity: "O(1)",
        summary: "Stores a string that lives for some milliseconds.", syntax: "key milliseconds value",
        deprecated: Some(("2.6.12", "`SET` with the `PX` argument")), handler: Handler::Write(set::psetex), ..STRING },
    Command { name: "getset", arity: 3, flags: WRITE_OOM_FAST, keys: KEY_CHANGE, since: "1.0.0", complexity: "O(1)",
        summary: "Stores a string and gives the one before it.", syntax: "key value",
        deprecated: Some(("6.2.0", "`SET` with the `GET` argument")), handler: Handler::Write(set::getset), ..STRING },
    Command { name: "getdel", arity: 2, flags: WRITE.with(FAST), keys: KEY_TAKE, since: "6.2.0", complexity: "O(1)",
        summary: "Gives the string at a key and removes the key.", syntax: "key", handler: Handler::Write(set::getdel),
        ..STRING },
    Command { name: "getex", arity: -2, flags: WRITE.with(FAST), keys: KEY_CHANGE, since: "6.2.0", complexity: "O(1)",
        summary: "Gives the string at a key and changes when it expires.", syntax: TTL_SYNTAX,
        handler: Handler::Write(set::getex), ..STRING },
    Command { name: "mget", arity: -2, flags: READ_FAST, keys: &[rest(RO_ACCESS, 1)], since: "1.0.0",
        complexity: "O(N) for N keys", summary: "Gives the strings at several keys.", syntax: "key ...",
        tips: &["request_policy:multi_shard"], handler: Handler::Read(read::mget), ..STRING },
    Command { name: "mset", arity: -3, flags: WRITE_OOM, keys: &[pairs(OW_UPDATE, 1)], since: "1.0.1",
        complexity: "O(N) for N keys", summary: "Stores several strings at once.", syntax: "{key value} ...",
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"], handler: Handler::Write(set::mset),
        ..STRING },
    Command { name: "msetnx", arity: -3, flags: WRITE_OOM, keys: &[pairs(OW_INSERT, 1)], since: "1.0.1",
        complexity: "O(N) for N keys", summary: "Stores several strings, but only if none of the keys is there.",
        syntax: "{key value} ...", handler: Handler::Write(set::msetnx), ..STRING },
    Command { name: "msetex", arity: -4, flags: WRITE_OOM, keys: &[counted(OW_UPDATE, 1, 2)], since: "8.4.0",
        complexity: "O(N) for N keys", summary: "Stores several strings under one condition and with one time to live.",
        syntax: "numkeys {key value} ... [NX | XX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT \
            unix-time-milliseconds | KEEPTTL]", handler: Handler::Write(set::msetex), ..STRING },
    Command { name: "append", arity: 3, flags: WRITE_OOM_FAST, keys: KEY_INSERT, since: "2.0.0",
        complexity: "O(M) for M new bytes, spread over many calls", summary: "Puts text behind the string at a key.",
        syntax: "key value", handler: Handler::Write(edit::append), ..STRING },
    Command { name: "strlen", arity: 2, flags: READ_FAST, keys: KEY_LOOK, since: "2.2.0", complexity: "O(1)",
        summary: "Counts the bytes of a string.", syntax: "key", handler: Handler::Read(read::strlen), ..STRING },
    Command { name: "incr", arity: 2, flags: WRITE_OOM_FAST, keys: KEY_CHANGE, since: "1.0.0", complexity: "O(1)",
        summary: "Adds one to the integer at a key; an absent key counts as 0.", syntax: "key",
        handler: Handler::Write(count::incr), ..STRING },
    Command { name: "decr", arity: 2, flags: WRITE_OOM_FAST, keys: KEY_CHANGE, since: "1.0.0", complexity: "O(1)",
        summary: "Takes one from the integer at a key; an absent key counts as 0.", syntax: "key",
        handler: Handler::Write(count::decr), ..STRING },
    Command { name: "incrby", arity: 3, flags: WRITE_OOM_FAST, keys: KEY_CHANGE, since: "1.0.0", complexity: "O(1)",
        summary: "Adds to the integer at a key; an absent key counts as 0.", syntax: "key increment",
        handler: Handler::Write(count::incrby), ..STRING },
    Command { name: "decrby", arity: 3, flags: WRITE_OOM_FAST, keys: KEY_CHANGE, since: "1.0.0", complexity: "O(1)",
        summary: "Takes from the integer at a key; an absent key counts as 0.", syntax: "key decrement",
        handler: Handler::Write(count::decrby), ..STRING },
    Command { name: "incrbyfloat", arity: 3, flags: WRITE_OOM_FAST, keys: KEY_CHANGE, since: "2.6.0",
        complexity: "O(1)",
        summary: "Adds to the number at a key, with 80-bit floating point; an absent key counts as 0.",
        syntax: "key number", handler: Handler::Write(count::incrbyfloat), ..STRING },
    Command { name: "increx", arity: -2, flags: WRITE_OOM_FAST, keys: KEY_CHANGE, since: "8.8.0", complexity: "O(1)",
        summary: "Adds to the number at a key within bounds and sets its time to live.",
        syntax: "key [BYFLOAT number | BYINT increment] [LBOUND lowerbound] [UBOUND upperbound] [SATURATE] [EX seconds \
            | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] [ENX]",
        handler: Handler::Write(increx::increx), ..STRING },
    Command { name: "setrange", arity: 4, flags: WRITE_OOM, keys: KEY_UPDATE, since: "2.2.0",
        complexity: "O(M) for M written bytes, padding included",
        summary: "Writes over a part of a string, from an offset on.", syntax: "key offset value",
        handler: Handler::Write(edit::setrange), ..STRING },
    Command { name: "getrange", arity: 4, flags: READONLY, keys: KEY_READ, since: "2.4.0",
        complexity: "O(N) for N bytes given back", summary: "Gives a part of a string.", syntax: "key start end",
        handler: Handler::Read(read::getrange), ..STRING },
    Command { name: "substr", arity: 4, flags: READONLY, keys: KEY_READ, since: "1.0.0",
        complexity: "O(N) for N bytes given back", summary: "Gives a part of a string.", syntax: "key start end",
        deprecated: Some(("2.0.0", "`GETRANGE`")), handler: Handler::Read(read::getrange), ..STRING },
    Command { name: "lcs", arity: -3, flags: READONLY, keys: &[two(RO_ACCESS, 1)], since: "7.0.0",
        complexity: "O(N*M) for strings of N and M bytes",
        summary: "Finds the longest common subsequence of two strings.",
        syntax: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]", handler: Handler::Read(lcs::lcs),
        ..STRING },
    Command { name: "digest", arity: 2, flags: READ_FAST, keys: KEY_READ, since: "8.4.0",
        complexity: "O(N) for N bytes", summary: "Gives the XXH3 hash of a string, in hexadecimal.", syntax: "key",
        handler: Handler::Read(digest::digest), ..STRING },
    Command { name: "delex", arity: -2, flags: WRITE.with(FAST), since: "8.4.0",
        complexity: "O(1), O(N) to compare the digest of N bytes", keys: &[one(RW_DELETE.with(key_flag::VARIABLE), 1)],
        key_finder: Some(set::delex_keys), summary: "Removes a key if it holds what is expected.",
        syntax: "key [IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest]",
        handler: Handler::Write(set::delex), ..STRING },
    Command { name: "delifeq", arity: 3, flags: WRITE.with(FAST), keys: KEY_DELETE, since: "9.0.0", complexity: "O(1)",
        summary: "Removes a key if it holds the given string.", syntax: "key value",
        handler: Handler::Write(set::delifeq), ..STRING },
];
