//! Streams, with consumer groups.
//!
//! [`Stream`] says how entries and groups are kept. The commands are in one file per kind: what changes entries,
//! what reads them, what groups do, what is pending, and what XINFO tells. Time is the group's clock. BLOCK never
//! waits here.

mod add;
mod beside;
mod claim;
mod group;
mod groups;
mod id;
mod info;
mod options;
mod produced;
mod rdb;
mod read;
#[cfg(test)]
mod tests;
mod value;

pub use read::Reading;
pub use value::Stream;
pub(crate) use value::growing;

use crate::command::*;

const STREAM: Command = Command { group: Group::Stream, since: "5.0.0", ..ROW };
const UNSTABLE: &[&str] = &["nondeterministic_output"];
const WRITE_FAST: Flags = WRITE.with(FAST);
const GROW: Flags = WRITE.with(DENYOOM);
const RANGE: Command = Command {
    arity: -4,
    flags: READONLY,
    keys: KEY_READ,
    complexity: "O(log N + M) for M entries given back of N",
    ..STREAM
};
const SUB: Command = Command { flags: WRITE, ..STREAM };
const INFO: Command = Command { arity: 3, flags: READONLY, keys: &[one(RO_ACCESS, 2)], syntax: "key", ..STREAM };
const HELP: Command = Command { arity: 2, flags: LOADING.with(STALE), summary: "Lists these subcommands.", ..STREAM };

/// Keys behind STREAMS, as many as there are ids.
const fn streams(start: i32) -> KeySpec {
    KeySpec {
        flags: RO_ACCESS,
        begin: Begin::Keyword { word: "STREAMS", start },
        find: Find::Range { last: -1, step: 1, limit: 2 },
    }
}

/// The rows of the stream commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "xadd", arity: -5, flags: GROW.with(FAST), keys: KEY_UPDATE, tips: UNSTABLE,
        complexity: "O(log N), and O(log N) for each entry trimmed",
        summary: "Adds an entry to a stream, which is made where there is none.",
        syntax: "key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [IDMPAUTO producer-id | IDMP producer-id idempotent-id] \
            [{MAXLEN | MINID} [= | ~] threshold [LIMIT count]] {* | id} {field value} ...",
        handler: Handler::Write(add::xadd), ..STREAM },
    Command { name: "xtrim", arity: -4, flags: WRITE, keys: KEY_DELETE, tips: UNSTABLE,
        complexity: "O(M log N) for M entries removed of N", summary: "Removes the oldest entries of a stream.",
        syntax: "key {MAXLEN | MINID} [= | ~] threshold [LIMIT count] [KEEPREF | DELREF | ACKED]",
        handler: Handler::Write(add::xtrim), ..STREAM },
    Command { name: "xlen", arity: 2, flags: READONLY.with(FAST), keys: KEY_LOOK,
        summary: "Counts the entries of a stream.", syntax: "key", handler: Handler::Read(add::xlen), ..STREAM },
    Command { name: "xdel", arity: -3, flags: WRITE_FAST, keys: KEY_DELETE, complexity: "O(log N) for each id",
        summary: "Removes entries from a stream.", syntax: "key id ...", handler: Handler::Write(add::xdel), ..STREAM },
    Command { name: "xdelex", arity: -5, flags: WRITE_FAST, keys: KEY_DELETE, since: "8.2.0",
        complexity: "O(log N) for each id and group",
        summary: "Removes entries from a stream, together with what groups know of them or only if they are done.",
        syntax: "key [KEEPREF | DELREF | ACKED] IDS numids id ...", handler: Handler::Write(add::xdelex), ..STREAM },
    Command { name: "xackdel", arity: -6, flags: WRITE_FAST, keys: KEY_DELETE, since: "8.2.0",
        complexity: "O(log N) for each id and group",
        summary: "Acknowledges entries for a group and removes them from the stream.",
        syntax: "key group [KEEPREF | DELREF | ACKED] IDS numids id ...", handler: Handler::Write(add::xackdel),
        ..STREAM },
    Command { name: "xsetid", arity: -3, flags: GROW.with(FAST), keys: KEY_UPDATE,
        summary: "Sets the last id of a stream.",
        syntax: "key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
        handler: Handler::Write(add::xsetid), ..STREAM },
    Command { name: "xcfgset", arity: -2, flags: WRITE_FAST, keys: KEY_UPDATE, since: "8.6.0",
        summary: "Sets how long and how many messages of producers are known, so that they are not added again.",
        syntax: "key [IDMP-DURATION seconds] [IDMP-MAXSIZE count]", handler: Handler::Write(produced::xcfgset),
        ..STREAM },
    Command { name: "xidmprecord", arity: 5, flags: GROW.with(FAST), keys: KEY_UPDATE, since: "8.6.2",
        summary: "Says that an entry is the message of a producer.", syntax: "key producer-id idempotent-id id",
        handler: Handler::Write(produced::xidmprecord), ..STREAM },
    Command { name: "xrange", summary: "Gives the entries between two ids.", syntax: "key start end [COUNT count]",
        handler: Handler::Read(read::xrange), ..RANGE },
    Command { name: "xrevrange", summary: "Gives the entries between two ids, the last one first.",
        syntax: "key end start [COUNT count]", handler: Handler::Read(read::xrevrange), ..RANGE },
    Command { name: "xread", flags: READONLY.with(BLOCKING), keys: &[streams(1)],
        summary: "Gives the entries of streams behind ids, and waits for some when there are none.",
        syntax: "[COUNT count] [BLOCK milliseconds] STREAMS key ... id ...", waits: Some(&read::WAITS),
        handler: Handler::Read(read::xread), ..RANGE },
    Command { name: "xreadgroup", arity: -7, flags: WRITE.with(BLOCKING), keys: &[streams(4)],
        complexity: "O(M log N) for M entries given back of N",
        summary: "Gives entries to a consumer of a group: new ones, and waits for some, or those it had before.",
        syntax: "GROUP group consumer [COUNT count] [BLOCK milliseconds] [CLAIM min-idle-time] [NOACK] \
            STREAMS key ... id ...",
        waits: Some(&groups::WAITS), handler: Handler::Write(groups::xreadgroup), ..STREAM },
    Command { name: "xack", arity: -4, flags: WRITE_FAST, keys: KEY_UPDATE, complexity: "O(log N) for each id",
        summary: "Acknowledges entries that were delivered by a group.", syntax: "key group id ...",
        handler: Handler::Write(groups::xack), ..STREAM },
    Command { name: "xnack", arity: -7, flags: WRITE_FAST, keys: KEY_UPDATE, since: "8.8.0",
        complexity: "O(log N) for each id", summary: "Gives delivered entries back, for whoever claims them next.",
        syntax: "key group {SILENT | FAIL | FATAL} IDS numids id ... [RETRYCOUNT count] [FORCE]",
        handler: Handler::Write(claim::xnack), ..STREAM },
    Command { name: "xpending", arity: -3, flags: READONLY, keys: KEY_READ, tips: UNSTABLE,
        complexity: "O(log N + M) for M entries given back of N",
        summary: "Tells which entries were delivered by a group and not acknowledged.",
        syntax: "key group [[IDLE min-idle-time] start end count [consumer]]",
        handler: Handler::Read(claim::xpending), ..STREAM },
    Command { name: "xclaim", arity: -6, flags: WRITE_FAST, keys: KEY_UPDATE, tips: UNSTABLE,
        complexity: "O(log N) for each id", summary: "Gives pending entries to another consumer.",
        syntax: "key group consumer min-idle-time id ... [IDLE ms] [TIME unix-time-milliseconds] \
            [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]",
        handler: Handler::Write(claim::xclaim), ..STREAM },
    Command { name: "xautoclaim", arity: -6, flags: WRITE_FAST, keys: KEY_DELETE, since: "6.2.0", tips: UNSTABLE,
        complexity: "O(M log N) for a COUNT of M", summary: "Gives to a consumer what has been pending for long.",
        syntax: "key group consumer min-idle-time start [COUNT count] [JUSTID]",
        handler: Handler::Write(claim::xautoclaim), ..STREAM },
    Command { name: "xgroup", arity: -2, summary: "Manages the groups of a stream.", handler: Handler::Container,
        subcommands: XGROUP, ..STREAM },
    Command { name: "xinfo", arity: -2, summary: "Tells about a stream.", handler: Handler::Container,
        subcommands: XINFO, ..STREAM },
];

#[rustfmt::skip]
const XGROUP: &[Command] = &[
    Command { name: "create", arity: -5, flags: GROW, keys: &[one(RW_INSERT, 2)], summary: "Makes a group.",
        syntax: "key group {id | $} [MKSTREAM] [ENTRIESREAD entries-read]", handler: Handler::Write(groups::create),
        ..SUB },
    Command { name: "setid", arity: -5, keys: &[one(RW_UPDATE, 2)], summary: "Sets how far a group has read.",
        syntax: "key group {id | $} [ENTRIESREAD entries-read]", handler: Handler::Write(groups::setid), ..SUB },
    Command { name: "destroy", arity: 4, keys: &[one(RW_DELETE, 2)], complexity: "O(N) for N pending entries",
        summary: "Removes a group.", syntax: "key group", handler: Handler::Write(groups::destroy), ..SUB },
    Command { name: "createconsumer", arity: 5, flags: GROW, keys: &[one(RW_INSERT, 2)], since: "6.2.0",
        summary: "Makes a consumer in a group.", syntax: "key group consumer",
        handler: Handler::Write(groups::createconsumer), ..SUB },
    Command { name: "delconsumer", arity: 5, keys: &[one(RW_DELETE, 2)], complexity: "O(N) for N pending entries",
        summary: "Removes a consumer from a group.", syntax: "key group consumer",
        handler: Handler::Write(groups::delconsumer), ..SUB },
    Command { name: "help", handler: Handler::Read(groups::help), ..HELP },
];

#[rustfmt::skip]
const XINFO: &[Command] = &[
    Command { name: "stream", arity: -3, complexity: "O(1), with FULL O(N) for N entries shown",
        summary: "Tells about a stream.", syntax: "key [FULL [COUNT count]]", handler: Handler::Read(info::stream),
        ..INFO },
    Command { name: "groups", complexity: "O(N) for N groups", summary: "Tells about the groups of a stream.",
        handler: Handler::Read(info::groups), ..INFO },
    Command { name: "consumers", arity: 4, tips: UNSTABLE, complexity: "O(N) for N consumers",
        summary: "Tells about the consumers of a group.", syntax: "key group",
        handler: Handler::Read(info::consumers), ..INFO },
    Command { name: "help", handler: Handler::Read(info::help), ..HELP },
];
