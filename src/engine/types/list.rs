//! Lists.
//!
//! [`List`] says how elements are kept. The commands are in one file per kind: at the ends, from one list to
//! another, by index, by value.

mod blocking;
mod ends;
mod index;
mod many;
mod moving;
mod search;
mod value;

pub use value::List;
pub(crate) use value::growing;

use crate::command::*;

const LIST: Command = Command { group: Group::List, ..ROW };
const GROW: Flags = WRITE.with(DENYOOM);
const GROW_FAST: Flags = GROW.with(FAST);
const PUSH: Command = Command { arity: -3, flags: GROW_FAST, keys: KEY_INSERT, complexity: EACH, ..LIST };
const EACH: &str = "O(1) for each element";
const WAIT: Flags = WRITE.with(BLOCKING);
const WAIT_GROW: Flags = GROW.with(BLOCKING);
const WAIT_POP: Command = Command {
    arity: -3,
    flags: WAIT,
    keys: &[range(RW_ACCESS_DELETE, 1, -2, 1)],
    since: "2.0.0",
    complexity: "O(N) for N keys",
    syntax: "key ... timeout",
    waits: Some(&blocking::LAST),
    ..LIST
};
const POP: Command = Command { arity: -2, flags: WRITE.with(FAST), keys: KEY_TAKE, syntax: "key [count]", ..LIST };

/// The rows of the list commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "lpush", summary: "Puts elements at the head of a list, which is made where there is none.",
        syntax: "key element ...", handler: Handler::Write(ends::lpush), ..PUSH },
    Command { name: "rpush", summary: "Puts elements at the tail of a list, which is made where there is none.",
        syntax: "key element ...", handler: Handler::Write(ends::rpush), ..PUSH },
    Command { name: "lpushx", since: "2.2.0", summary: "Puts elements at the head of a list that is there.",
        syntax: "key element ...", handler: Handler::Write(ends::lpushx), ..PUSH },
    Command { name: "rpushx", since: "2.2.0", summary: "Puts elements at the tail of a list that is there.",
        syntax: "key element ...", handler: Handler::Write(ends::rpushx), ..PUSH },
    Command { name: "lpop", complexity: "O(N) for N elements given back",
        summary: "Takes elements from the head of a list.", handler: Handler::Write(ends::lpop), ..POP },
    Command { name: "rpop", complexity: "O(N) for N elements given back",
        summary: "Takes elements from the tail of a list.", handler: Handler::Write(ends::rpop), ..POP },
    Command { name: "lmpop", arity: -4, flags: WRITE, keys: &[counted(RW_ACCESS_DELETE, 1, 1)], since: "7.0.0",
        complexity: "O(N+M) for N keys and M elements given back",
        summary: "Takes elements from the first of several lists that is there.",
        syntax: "numkeys key ... {LEFT | RIGHT} [COUNT count]", handler: Handler::Write(ends::lmpop), ..LIST },
    Command { name: "llen", arity: 2, flags: READONLY.with(FAST), keys: KEY_LOOK,
        summary: "Counts the elements of a list.", syntax: "key", handler: Handler::Read(ends::llen), ..LIST },
    Command { name: "lmove", arity: 5, flags: GROW, keys: &[one(RW_ACCESS_DELETE, 1), one(RW_INSERT, 2)],
        since: "6.2.0", summary: "Takes an element from one list and puts it into another.",
        syntax: "source destination {LEFT | RIGHT} {LEFT | RIGHT}", handler: Handler::Write(moving::lmove), ..LIST },
    Command { name: "rpoplpush", arity: 3, flags: GROW, keys: &[one(RW_ACCESS_DELETE, 1), one(RW_INSERT, 2)],
        since: "1.2.0", summary: "Takes the last element of a list and puts it at the head of another.",
        deprecated: Some(("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments")), syntax: "source destination",
        handler: Handler::Write(moving::rpoplpush), ..LIST },
    Command { name: "blpop", summary: "Takes the first element of a list; waits until there is one.",
        handler: Handler::Write(blocking::blpop), ..WAIT_POP },
    Command { name: "brpop", summary: "Takes the last element of a list; waits until there is one.",
        handler: Handler::Write(blocking::brpop), ..WAIT_POP },
    Command { name: "blmpop", arity: -5, flags: WAIT, keys: &[counted(RW_ACCESS_DELETE, 2, 1)], since: "7.0.0",
        complexity: "O(N+M) for N keys and M elements given back",
        summary: "Takes elements from the first of several lists that is there; waits until one is.",
        syntax: "timeout numkeys key ... {LEFT | RIGHT} [COUNT count]", waits: Some(&blocking::FIRST),
        handler: Handler::Write(blocking::blmpop), ..LIST },
    Command { name: "blmove", arity: 6, flags: WAIT_GROW, keys: &[one(RW_ACCESS_DELETE, 1), one(RW_INSERT, 2)],
        since: "6.2.0", summary: "Takes an element from one list and puts it into another; waits until there is one.",
        syntax: "source destination {LEFT | RIGHT} {LEFT | RIGHT} timeout", waits: Some(&blocking::LAST),
        handler: Handler::Write(blocking::blmove), ..LIST },
    Command { name: "brpoplpush", arity: 4, flags: WAIT_GROW, keys: &[one(RW_ACCESS_DELETE, 1), one(RW_INSERT, 2)],
        since: "2.2.0",
        summary: "Takes the last element of a list and puts it at the head of another; waits until there is one.",
        deprecated: Some(("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments")),
        syntax: "source destination timeout", waits: Some(&blocking::LAST),
        handler: Handler::Write(blocking::brpoplpush), ..LIST },
    Command { name: "lmovem", arity: -5, flags: GROW, keys: &[one(RW_ACCESS_DELETE, 1), one(RW_INSERT, 2)],
        since: "8.10.0", complexity: "O(N) for N elements moved",
        summary: "Takes several elements from one list and puts them into another.",
        syntax: "source destination {LEFT | RIGHT} {LEFT | RIGHT} [{COUNT count | EXACTLY exactly} {OBO | BULK}]",
        handler: Handler::Write(many::lmovem), ..LIST },
    Command { name: "blmovem", arity: -6, flags: WAIT_GROW, keys: &[one(RW_ACCESS_DELETE, 1), one(RW_INSERT, 2)],
        since: "8.10.0", complexity: "O(N) for N elements moved",
        summary: "Takes several elements from one list and puts them into another; waits until they are there.",
        syntax: "source destination {LEFT | RIGHT} {LEFT | RIGHT} timeout [{COUNT count | EXACTLY exactly} \
            {OBO | BULK}]", waits: Some(&many::WAITS), handler: Handler::Write(many::blmovem), ..LIST },
    Command { name: "lindex", arity: 3, flags: READONLY, keys: KEY_READ, complexity: "O(log N) for N elements",
        summary: "Gives the element at an index.", syntax: "key index", handler: Handler::Read(index::lindex), ..LIST },
    Command { name: "lset", arity: 4, flags: GROW, keys: KEY_UPDATE, complexity: "O(log N) for N elements",
        summary: "Puts an element in the place of another.", syntax: "key index element",
        handler: Handler::Write(index::lset), ..LIST },
    Command { name: "lrange", arity: 4, flags: READONLY, keys: KEY_READ,
        complexity: "O(log N + M) for M elements given back of N", summary: "Gives the elements between two indexes.",
        syntax: "key start stop", handler: Handler::Read(index::lrange), ..LIST },
    Command { name: "ltrim", arity: 4, flags: WRITE, keys: &[one(RW_DELETE, 1)],
        complexity: "O(M log N) for M elements removed of N",
        summary: "Removes all elements but those between two indexes.", syntax: "key start stop",
        handler: Handler::Write(index::ltrim), ..LIST },
    Command { name: "linsert", arity: 5, flags: GROW, keys: KEY_INSERT, since: "2.2.0",
        complexity: "O(N) for N elements in front of the pivot",
        summary: "Puts an element in front of another or behind it.", syntax: "key {BEFORE | AFTER} pivot element",
        handler: Handler::Write(search::linsert), ..LIST },
    Command { name: "lrem", arity: 4, flags: WRITE, keys: &[one(RW_DELETE, 1)],
        complexity: "O(N + M log N) for M elements removed of N", summary: "Removes elements that equal a value.",
        syntax: "key count element", handler: Handler::Write(search::lrem), ..LIST },
    Command { name: "lpos", arity: -3, flags: READONLY, keys: KEY_READ, since: "6.0.6",
        complexity: "O(N) for N elements", summary: "Finds the indexes of elements that equal a value.",
        syntax: "key element [RANK rank] [COUNT num-matches] [MAXLEN len]", handler: Handler::Read(search::lpos),
        ..LIST },
];
