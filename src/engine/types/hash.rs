//! Hashes.
//!
//! [`Hash`] says how fields are kept, and when they expire. The commands are in one file per kind: reading,
//! writing, counting, at random, deadlines, and those that read or write with a deadline.

mod count;
mod expire;
mod random;
mod read;
mod stored;
mod timed;
mod times;
mod value;
mod write;

pub use value::Hash;
pub(crate) use value::growing;

use crate::command::*;

const HASH: Command = Command { group: Group::Hash, ..ROW };
const LOOK: Command = Command { flags: READONLY.with(FAST), keys: KEY_LOOK, ..HASH };
const GET: Command = Command { flags: READONLY.with(FAST), keys: KEY_READ, ..HASH };
const READ: Command = Command { flags: READONLY, keys: KEY_READ, ..HASH };
const CHANGE: Command = Command { flags: WRITE.with(FAST), ..HASH };
const GROW: Command = Command { flags: WRITE.with(DENYOOM).with(FAST), ..HASH };
const EXPIRE: Command = Command { arity: -6, keys: KEY_UPDATE, since: "7.4.0", complexity: EACH, ..CHANGE };
const TTL: Command =
    Command { arity: -5, since: "7.4.0", complexity: EACH, syntax: "key FIELDS numfields field ...", ..GET };
const ANY: &[&str] = &["nondeterministic_output"];
const UNORDERED: &[&str] = &["nondeterministic_output_order"];
const EACH: &str = "O(N log M) for N fields named and M fields of the hash";
const ALL: &str = "O(N) for N fields";

/// The rows of the hash commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "hset", arity: -4, keys: KEY_UPDATE, since: "2.0.0", complexity: EACH,
        summary: "Sets fields of a hash, which is made where there is none.", syntax: "key {field value} ...",
        handler: Handler::Write(write::hset), ..GROW },
    Command { name: "hmset", arity: -4, keys: KEY_UPDATE, since: "2.0.0", complexity: EACH,
        summary: "Sets fields of a hash, which is made where there is none.", syntax: "key {field value} ...",
        deprecated: Some(("4.0.0", "`HSET` with multiple field-value pairs")), handler: Handler::Write(write::hmset),
        ..GROW },
    Command { name: "hsetnx", arity: 4, keys: KEY_INSERT, since: "2.0.0",
        summary: "Sets a field of a hash unless it is there.", syntax: "key field value",
        handler: Handler::Write(write::hsetnx), ..GROW },
    Command { name: "hdel", arity: -3, keys: KEY_DELETE, since: "2.0.0", complexity: EACH,
        summary: "Removes fields from a hash.", syntax: "key field ...", handler: Handler::Write(write::hdel),
        ..CHANGE },
    Command { name: "hincrby", arity: 4, keys: KEY_CHANGE, since: "2.0.0",
        summary: "Adds a number to the number in a field.", syntax: "key field increment",
        handler: Handler::Write(count::hincrby), ..GROW },
    Command { name: "hincrbyfloat", arity: 4, keys: KEY_CHANGE, since: "2.6.0",
        summary: "Adds a floating point number to the number in a field.", syntax: "key field increment",
        handler: Handler::Write(count::hincrbyfloat), ..GROW },
    Command { name: "hget", arity: 3, since: "2.0.0", summary: "Gives the value of a field.", syntax: "key field",
        handler: Handler::Read(read::hget), ..GET },
    Command { name: "hmget", arity: -3, since: "2.0.0", complexity: EACH, summary: "Gives the values of several fields.",
        syntax: "key field ...", handler: Handler::Read(read::hmget), ..GET },
    Command { name: "hgetall", arity: 2, since: "2.0.0", complexity: ALL, tips: UNORDERED,
        summary: "Gives all fields and their values.", syntax: "key", handler: Handler::Read(read::hgetall), ..READ },
    Command { name: "hkeys", arity: 2, since: "2.0.0", complexity: ALL, tips: UNORDERED,
        summary: "Gives all fields.", syntax: "key", handler: Handler::Read(read::hkeys), ..READ },
    Command { name: "hvals", arity: 2, since: "2.0.0", complexity: ALL, tips: UNORDERED,
        summary: "Gives the values of all fields.", syntax: "key", handler: Handler::Read(read::hvals), ..READ },
    Command { name: "hlen", arity: 2, since: "2.0.0", summary: "Counts the fields of a hash.", syntax: "key",
        handler: Handler::Read(read::hlen), ..LOOK },
    Command { name: "hstrlen", arity: 3, since: "3.2.0", summary: "Gives the length of the value of a field.",
        syntax: "key field", handler: Handler::Read(read::hstrlen), ..LOOK },
    Command { name: "hexists", arity: 3, since: "2.0.0", summary: "Tells whether a hash has a field.",
        syntax: "key field", handler: Handler::Read(read::hexists), ..LOOK },
    Command { name: "hscan", arity: -3, since: "2.8.0", complexity: ALL, tips: ANY,
        summary: "Gives fields and values bit by bit.",
        syntax: "key cursor [MATCH pattern] [COUNT count] [NOVALUES]", handler: Handler::Read(read::hscan), ..READ },
    Command { name: "hrandfield", arity: -2, since: "6.2.0", complexity: "O(N log M) for N fields given back of M",
        tips: ANY, summary: "Gives random fields of a hash.", syntax: "key [count [WITHVALUES]]",
        handler: Handler::Read(random::hrandfield), ..READ },
    Command { name: "hexpire", summary: "Sets the time to live of fields, in seconds.",
        syntax: "key seconds [NX | XX | GT | LT] FIELDS numfields field ...",
        handler: Handler::Write(expire::hexpire), ..EXPIRE },
    Command { name: "hpexpire", summary: "Sets the time to live of fields, in milliseconds.",
        syntax: "key milliseconds [NX | XX | GT | LT] FIELDS numfields field ...",
        handler: Handler::Write(expire::hpexpire), ..EXPIRE },
    Command { name: "hexpireat", summary: "Sets when fields expire, in Unix seconds.",
        syntax: "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field ...",
        handler: Handler::Write(expire::hexpireat), ..EXPIRE },
    Command { name: "hpexpireat", summary: "Sets when fields expire, in Unix milliseconds.",
        syntax: "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field ...",
        handler: Handler::Write(expire::hpexpireat), ..EXPIRE },
    Command { name: "hpersist", arity: -5, keys: KEY_UPDATE, since: "7.4.0", complexity: EACH,
        summary: "Lets fields live forever.", syntax: "key FIELDS numfields field ...",
        handler: Handler::Write(expire::hpersist), ..CHANGE },
    Command { name: "httl", tips: ANY, summary: "Gives the time to live of fields, in seconds.",
        handler: Handler::Read(expire::httl), ..TTL },
    Command { name: "hpttl", tips: ANY, summary: "Gives the time to live of fields, in milliseconds.",
        handler: Handler::Read(expire::hpttl), ..TTL },
    Command { name: "hexpiretime", summary: "Tells when fields expire, in Unix seconds.",
        handler: Handler::Read(expire::hexpiretime), ..TTL },
    Command { name: "hpexpiretime", summary: "Tells when fields expire, in Unix milliseconds.",
        handler: Handler::Read(expire::hpexpiretime), ..TTL },
    Command { name: "hgetdel", arity: -5, keys: KEY_TAKE, since: "8.0.0", complexity: EACH,
        summary: "Gives the values of fields and removes them.", syntax: "key FIELDS numfields field ...",
        handler: Handler::Write(timed::hgetdel), ..CHANGE },
    Command { name: "hgetex", arity: -5, keys: KEY_CHANGE, since: "8.0.0", complexity: EACH,
        summary: "Gives the values of fields and changes when they expire.",
        syntax: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] \
            FIELDS numfields field ...",
        handler: Handler::Write(timed::hgetex), ..CHANGE },
    Command { name: "hsetex", arity: -6, keys: KEY_UPDATE, since: "8.0.0", complexity: EACH,
        summary: "Sets fields of a hash and when they expire.",
        syntax: "key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds \
            | KEEPTTL] FIELDS numfields {field value} ...",
        handler: Handler::Write(timed::hsetex), ..GROW },
    Command { name: "himport", arity: -2, since: "8.10.0", complexity: "See the subcommands.",
        summary: "Makes hashes with the same fields.", handler: Handler::Container, subcommands: HIMPORT, ..HASH },
];

#[cfg(test)]
mod tests;

const HIMPORT_SUB: Command = Command { since: "8.10.0", ..HASH };

#[rustfmt::skip]
const HIMPORT: &[Command] = &[
    Command { name: "discard", arity: 3, summary: "Forgets the names of fields that were prepared.",
        syntax: "fieldset-name", ..HIMPORT_SUB },
    Command { name: "discardall", arity: 2, complexity: "O(N) for N fieldsets",
        summary: "Forgets all names of fields that were prepared.", ..HIMPORT_SUB },
    Command { name: "prepare", arity: -4, flags: DENYOOM, complexity: "O(N log N) for N fields",
        summary: "Prepares names of fields on this connection.", syntax: "fieldset-name field ...", ..HIMPORT_SUB },
    Command { name: "set", arity: -5, flags: WRITE.with(DENYOOM), keys: &[one(OW_UPDATE, 2)], complexity: EACH,
        summary: "Makes a hash of fields that were prepared and these values.", syntax: "key fieldset-name value ...",
        handler: Handler::Write(write::himport), ..HIMPORT_SUB },
];
