//! Commands for keys of any type.

mod dump;
mod expire;
mod moving;
mod object;
mod remove;
mod scan;
mod sort;

pub(crate) use scan::Scan;

use crate::command::*;

const READ_FAST: Flags = READONLY.with(FAST);
const WRITE_FAST: Flags = WRITE.with(FAST);
const EXPIRE: Command = Command { arity: -3, flags: WRITE_FAST, keys: KEY_UPDATE, ..ROW };
const SPLIT_SUM: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];
const ALL_SUCCEED: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
const UNSTABLE: &[&str] = &["nondeterministic_output"];
const RESTRICTED: Option<Categories> = Some(category::KEYSPACE.with(category::DANGEROUS));
/// The keys of BY and GET, which no position tells.
const ELSEWHERE: KeySpec = KeySpec { flags: RO_ACCESS, begin: Begin::Unknown, find: Find::Unknown };
const SORT: Command = Command {
    arity: -2,
    categories: Some(category::SET.with(category::SORTEDSET).with(category::LIST).with(category::DANGEROUS)),
    complexity: "O(N+M*log(M)) for N elements of which M are given",
    ..ROW
};
const OBJECT_SUB: Command =
    Command { arity: 3, flags: READONLY, keys: KEY_LOOK_SUB, since: "2.2.3", tips: UNSTABLE, syntax: "key", ..ROW };

/// The rows of the generic commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "del", arity: -2, flags: WRITE, keys: &[rest(RM_DELETE, 1)],
        complexity: "O(N) for N elements in all keys", summary: "Removes keys.", syntax: "key ...", tips: SPLIT_SUM,
        handler: Handler::Write(remove::del), ..ROW },
    Command { name: "unlink", arity: -2, flags: WRITE_FAST, keys: &[rest(RM_DELETE, 1)], since: "4.0.0",
        complexity: "O(N) for N elements in all keys", summary: "Removes keys.", syntax: "key ...", tips: SPLIT_SUM,
        handler: Handler::Write(remove::del), ..ROW },
    Command { name: "exists", arity: -2, flags: READ_FAST, keys: &[rest(key_flag::RO, 1)],
        complexity: "O(N) for N keys", summary: "Counts which of the keys are there.", syntax: "key ...",
        tips: SPLIT_SUM, handler: Handler::Read(remove::exists), ..ROW },
    Command { name: "touch", arity: -2, flags: READ_FAST, keys: &[rest(key_flag::RO, 1)], since: "3.2.1",
        complexity: "O(N) for N keys", summary: "Marks keys as used and counts those that are there.",
        syntax: "key ...", tips: SPLIT_SUM, handler: Handler::Read(remove::touch), ..ROW },
    Command { name: "type", arity: 2, flags: READ_FAST, keys: KEY_LOOK,
        summary: "Names the type of the value at a key.", syntax: "key", handler: Handler::Read(remove::type_of),
        ..ROW },
    Command { name: "rename", arity: 3, flags: WRITE, keys: &[one(RW_ACCESS_DELETE, 1), one(OW_UPDATE, 2)],
        summary: "Gives a key another name, in place of a key that has it already.", syntax: "key newkey",
        handler: Handler::Write(moving::rename), ..ROW },
    Command { name: "renamenx", arity: 3, flags: WRITE_FAST, keys: &[one(RW_ACCESS_DELETE, 1), one(OW_INSERT, 2)],
        summary: "Gives a key another name unless it is taken.", syntax: "key newkey",
        handler: Handler::Write(moving::renamenx), ..ROW },
    Command { name: "copy", arity: -3, flags: WRITE.with(DENYOOM), keys: &[one(RO_ACCESS, 1), one(OW_UPDATE, 2)],
        since: "6.2.0", complexity: "O(N) for N elements, O(1) for a string", summary: "Copies a value to another key.",
        syntax: "source destination [DB destination-db] [REPLACE]", handler: Handler::Write(moving::copy), ..ROW },
    Command { name: "move", arity: 3, flags: WRITE_FAST, keys: KEY_CHANGE, summary: "Moves a key to another database.",
        syntax: "key db", handler: Handler::Write(moving::move_key), ..ROW },
    Command { name: "swapdb", arity: 3, flags: WRITE_FAST, group: Group::Server, categories: RESTRICTED, since: "4.0.0",
        summary: "Exchanges two databases.", syntax: "index1 index2", handler: Handler::Write(moving::swapdb), ..ROW },
    Command { name: "expire", summary: "Sets after how many seconds a key expires.",
        syntax: "key seconds [NX | XX | GT | LT]", handler: Handler::Write(expire::expire), ..EXPIRE },
    Command { name: "pexpire", since: "2.6.0", summary: "Sets after how many milliseconds a key expires.",
        syntax: "key milliseconds [NX | XX | GT | LT]", handler: Handler::Write(expire::pexpire), ..EXPIRE },
    Command { name: "expireat", since: "1.2.0", summary: "Sets at which Unix second a key expires.",
        syntax: "key unix-time-seconds [NX | XX | GT | LT]", handler: Handler::Write(expire::expireat), ..EXPIRE },
    Command { name: "pexpireat", since: "2.6.0", summary: "Sets at which Unix millisecond a key expires.",
        syntax: "key unix-time-milliseconds [NX | XX | GT | LT]", handler: Handler::Write(expire::pexpireat),
        ..EXPIRE },
    Command { name: "persist", arity: 2, flags: WRITE_FAST, keys: KEY_UPDATE, since: "2.2.0",
        summary: "Lets a key live forever.", syntax: "key", handler: Handler::Write(expire::persist), ..ROW },
    Command { name: "ttl", arity: 2, flags: READ_FAST, keys: KEY_READ,
        summary: "Tells how many seconds a key has left.", syntax: "key", tips: UNSTABLE,
        handler: Handler::Read(expire::ttl), ..ROW },
    Command { name: "pttl", arity: 2, flags: READ_FAST, keys: KEY_READ, since: "2.6.0",
        summary: "Tells how many milliseconds a key has left.", syntax: "key", tips: UNSTABLE,
        handler: Handler::Read(expire::pttl), ..ROW },
    Command { name: "expiretime", arity: 2, flags: READ_FAST, keys: KEY_READ, since: "7.0.0",
        summary: "Tells at which Unix second a key expires.", syntax: "key", handler: Handler::Read(expire::expiretime),
        ..ROW },
    Command { name: "pexpiretime", arity: 2, flags: READ_FAST, keys: KEY_READ, since: "7.0.0",
        summary: "Tells at which Unix millisecond a key expires.", syntax: "key",
        handler: Handler::Read(expire::pexpiretime), ..ROW },
    Command { name: "scan", arity: -2, flags: READONLY.with(TOUCHES_ARBITRARY_KEYS), since: "2.8.0",
        complexity: "O(1) per call, O(N) for all N keys",
        summary: "Walks through the keys of a database, some per call.",
        syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
        handler: Handler::Read(scan::scan), ..ROW },
    Command { name: "keys", arity: 2, flags: READONLY.with(SORT_FOR_SCRIPT), categories: RESTRICTED,
        complexity: "O(N) for N keys in the database", summary: "Lists all keys whose names match a pattern.",
        syntax: "pattern", tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        handler: Handler::Read(scan::keys), ..ROW },
    Command { name: "randomkey", arity: 1, flags: READONLY.with(TOUCHES_ARBITRARY_KEYS),
        summary: "Gives the name of a random key.",
        tips: &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
        handler: Handler::Read(scan::randomkey), ..ROW },
    Command { name: "dump", arity: 2, flags: READONLY, keys: KEY_READ, since: "2.6.0",
        complexity: "O(N) for N bytes of the value", summary: "Gives a value as bytes for RESTORE.", syntax: "key",
        tips: UNSTABLE, handler: Handler::Read(dump::dump), ..ROW },
    Command { name: "restore", arity: -4, flags: WRITE.with(DENYOOM), categories: RESTRICTED, keys: KEY_OVERWRITE,
        since: "2.6.0", complexity: "O(N) for N bytes of the value",
        summary: "Makes a key from the bytes that DUMP gave.",
        syntax: "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
        handler: Handler::Write(dump::restore), ..ROW },
    Command { name: "restore-asking", arity: -4, flags: WRITE.with(DENYOOM).with(ASKING), group: Group::Server,
        categories: RESTRICTED, keys: KEY_OVERWRITE, since: "3.0.0", complexity: "O(N) for N bytes of the value",
        summary: "RESTORE in a slot that is being imported.",
        syntax: "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
        handler: Handler::Write(dump::restore), ..ROW },
    Command { name: "sort", flags: WRITE.with(DENYOOM),
        keys: &[one(RO_ACCESS, 1), ELSEWHERE, KeySpec { flags: OW_UPDATE, ..ELSEWHERE }],
        key_finder: Some(sort::keys), summary: "Sorts the elements of a list, a set or a sorted set.",
        syntax: "key [BY by-pattern] [LIMIT offset count] [GET get-pattern ...] [ASC | DESC] [ALPHA] [STORE destination]",
        handler: Handler::Write(sort::sort), ..SORT },
    Command { name: "sort_ro", flags: READONLY, since: "7.0.0",
        keys: &[one(RO_ACCESS, 1), ELSEWHERE],
        key_finder: Some(sort::key_ro), summary: "Sorts the elements of a list, a set or a sorted set, and stores none.",
        syntax: "key [BY by-pattern] [LIMIT offset count] [GET get-pattern ...] [ASC | DESC] [ALPHA]",
        handler: Handler::Read(sort::sort_ro), ..SORT },
    Command { name: "object", arity: -2, since: "2.2.3", complexity: "See the subcommands.",
        summary: "Shows what lies behind a key.", handler: Handler::Container, subcommands: OBJECT, ..ROW },
    Command { name: "flushdb", arity: -1, flags: WRITE, group: Group::Server, categories: RESTRICTED,
        complexity: "O(N) for N keys in the database", summary: "Removes all keys of the selected database.",
        syntax: "[ASYNC | SYNC]", tips: ALL_SUCCEED, handler: Handler::Write(remove::flushdb), ..ROW },
    Command { name: "flushall", arity: -1, flags: WRITE, group: Group::Server, categories: RESTRICTED,
        complexity: "O(N) for N keys in all databases", summary: "Removes all keys of all databases.",
        syntax: "[ASYNC | SYNC]", tips: ALL_SUCCEED, handler: Handler::Write(remove::flushall), ..ROW },
    Command { name: "dbsize", arity: 1, flags: READ_FAST, group: Group::Server, categories: Some(category::KEYSPACE),
        summary: "Counts the keys of the selected database.",
        tips: &["request_policy:all_shards", "response_policy:agg_sum"], handler: Handler::Read(remove::dbsize),
        ..ROW },
];

#[rustfmt::skip]
const OBJECT: &[Command] = &[
    Command { name: "encoding", summary: "Names the encoding of a value.", handler: Handler::Read(object::encoding),
        ..OBJECT_SUB },
    Command { name: "freq", since: "4.0.0", summary: "Tells how often a key is used, on a logarithmic scale.",
        handler: Handler::Read(object::freq), ..OBJECT_SUB },
    Command { name: "help", arity: 2, flags: LOADING.with(STALE), since: "6.2.0", summary: "Lists these subcommands.",
        handler: Handler::Read(object::help), ..ROW },
    Command { name: "idletime", summary: "Tells how many seconds ago a key was used.",
        handler: Handler::Read(object::idletime), ..OBJECT_SUB },
    Command { name: "refcount", summary: "Counts the references to a value.", handler: Handler::Read(object::refcount),
        ..OBJECT_SUB },
];
