//! Sets.
//!
//! [`Set`] says how members are kept. The commands are in one file per kind: on members, at random, over
//! several sets.

mod algebra;
mod ints;
mod members;
mod random;
mod stored;
mod value;

pub use value::Set;
pub(crate) use value::growing;

use crate::command::*;

const SET: Command = Command { group: Group::Set, ..ROW };
const READ: Command = Command { flags: READONLY, ..SET };
const LOOK: Command = Command { flags: READONLY.with(FAST), keys: KEY_LOOK, ..SET };
const SEVERAL: Command = Command { arity: -2, keys: &[rest(RO_ACCESS, 1)], tips: UNORDERED, syntax: "key ...", ..READ };
const COUNTED: Command = Command { arity: -3, keys: &[counted(RO_ACCESS, 1, 1)], ..READ };
const STORE: Command = Command {
    arity: -3,
    flags: WRITE.with(DENYOOM),
    keys: &[one(OW_UPDATE, 1), rest(RO_ACCESS, 2)],
    syntax: "destination key ...",
    ..SET
};
const ANY: &[&str] = &["nondeterministic_output"];
const UNORDERED: &[&str] = &["nondeterministic_output_order"];
const EACH: &str = "O(N log M) for N members named and M members of the set";
const ALL: &str = "O(N) for N members";
const INTER: &str = "O(N*M) for N members of the smallest of M sets";
const SUM: &str = "O(N) for N members of all sets";

/// The rows of the set commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "sadd", arity: -3, flags: WRITE.with(DENYOOM).with(FAST), keys: KEY_INSERT, complexity: EACH,
        summary: "Adds members to a set, which is made where there is none.", syntax: "key member ...",
        handler: Handler::Write(members::sadd), ..SET },
    Command { name: "srem", arity: -3, flags: WRITE.with(FAST), keys: KEY_DELETE, complexity: EACH,
        summary: "Removes members from a set.", syntax: "key member ...", handler: Handler::Write(members::srem),
        ..SET },
    Command { name: "scard", arity: 2, summary: "Counts the members of a set.", syntax: "key",
        handler: Handler::Read(members::scard), ..LOOK },
    Command { name: "sismember", arity: 3, summary: "Tells whether a set has a member.", syntax: "key member",
        handler: Handler::Read(members::sismember), ..LOOK },
    Command { name: "smismember", arity: -3, keys: KEY_READ, since: "6.2.0", complexity: EACH,
        summary: "Tells of several members whether a set has them.", syntax: "key member ...",
        handler: Handler::Read(members::smismember), ..LOOK },
    Command { name: "smembers", arity: 2, keys: KEY_READ, complexity: ALL, tips: UNORDERED,
        summary: "Gives all members of a set.", syntax: "key", handler: Handler::Read(members::smembers), ..READ },
    Command { name: "smove", arity: 4, flags: WRITE.with(FAST), keys: &[one(RW_ACCESS_DELETE, 1), one(RW_INSERT, 2)],
        summary: "Takes a member out of one set and puts it into another.", syntax: "source destination member",
        handler: Handler::Write(members::smove), ..SET },
    Command { name: "sscan", arity: -3, keys: KEY_READ, since: "2.8.0", complexity: ALL, tips: ANY,
        summary: "Gives the members of a set bit by bit.", syntax: "key cursor [MATCH pattern] [COUNT count]",
        handler: Handler::Read(members::sscan), ..READ },
    Command { name: "spop", arity: -2, flags: WRITE.with(FAST), keys: KEY_TAKE, complexity: "O(N log M) for N members \
        given back of M", tips: ANY, summary: "Takes random members out of a set.", syntax: "key [count]",
        handler: Handler::Write(random::spop), ..SET },
    Command { name: "srandmember", arity: -2, keys: KEY_READ, complexity: "O(N log M) for N members given back of M",
        tips: ANY, summary: "Gives random members of a set.", syntax: "key [count]",
        handler: Handler::Read(random::srandmember), ..READ },
    Command { name: "sinter", complexity: INTER, summary: "Gives the members that all of several sets have.",
        handler: Handler::Read(algebra::sinter), ..SEVERAL },
    Command { name: "sunion", complexity: SUM, summary: "Gives the members that any of several sets has.",
        handler: Handler::Read(algebra::sunion), ..SEVERAL },
    Command { name: "sdiff", complexity: SUM, summary: "Gives the members of a set that no other of several has.",
        handler: Handler::Read(algebra::sdiff), ..SEVERAL },
    Command { name: "sinterstore", keys: &[one(RW_UPDATE, 1), rest(RO_ACCESS, 2)], complexity: INTER, summary: "Stores the members that all of several sets have.",
        handler: Handler::Write(algebra::sinterstore), ..STORE },
    Command { name: "sunionstore", complexity: SUM, summary: "Stores the members that any of several sets has.",
        handler: Handler::Write(algebra::sunionstore), ..STORE },
    Command { name: "sdiffstore", complexity: SUM, summary: "Stores the members of a set that no other of several has.",
        handler: Handler::Write(algebra::sdiffstore), ..STORE },
    Command { name: "sintercard", since: "7.0.0", complexity: INTER,
        summary: "Counts the members that all of several sets have.", syntax: "numkeys key ... [LIMIT limit]",
        handler: Handler::Read(algebra::sintercard), ..COUNTED },
    Command { name: "sunioncard", since: "8.10.0", complexity: SUM,
        summary: "Counts the members that any of several sets has.", syntax: "numkeys key ... [APPROX] [LIMIT limit]",
        handler: Handler::Read(algebra::sunioncard), ..COUNTED },
    Command { name: "sdiffcard", since: "8.10.0", complexity: SUM,
        summary: "Counts the members of a set that no other of several has.", syntax: "numkeys key ... [LIMIT limit]",
        handler: Handler::Read(algebra::sdiffcard), ..COUNTED },
];

#[cfg(test)]
mod tests;
