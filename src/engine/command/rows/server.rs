//! Rows of administration and introspection.

use quoris_resp::{Argv, Reply};

use super::*;
use crate::{CommandResult, Error, Keyspace, ReadContext, number};

const ROW: Command = Command { group: Group::Server, ..super::ROW };
const OPERATOR_ROW: Command = Command { flags: OPERATOR, ..ROW };
const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];
const EACH_NODE: &[&str] = &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];
const EACH_GROUP: &[&str] = &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
const SAVING: Flags = NO_ASYNC_LOADING.with(ADMIN).with(NOSCRIPT);

/// CONFIG, INFO, SHUTDOWN and their kin.
#[rustfmt::skip]
pub const SERVER: &[Command] = &[
    Command { name: "command", arity: -1, flags: ANYTIME, categories: Some(category::CONNECTION), since: "2.8.13",
        complexity: "O(N) for N commands", summary: "Describes all commands.", tips: &["nondeterministic_output_order"],
        subcommands: COMMAND, ..ROW },
    Command { name: "config", since: "2.0.0", summary: "Shows and changes settings.", subcommands: CONFIG,
        ..CONTAINER },
    Command { name: "info", arity: -1, flags: ANYTIME, categories: Some(category::DANGEROUS),
        summary: "Describes the server in sections of text.", syntax: "[section ...]", tips: EACH_GROUP, ..ROW },
    Command { name: "slowlog", since: "2.2.12", summary: "Shows the slowest commands.", subcommands: SLOWLOG,
        ..CONTAINER },
    Command { name: "commandlog", since: "8.1.0", summary: "Shows commands that were slow or large.",
        subcommands: COMMANDLOG, ..CONTAINER },
    Command { name: "hotkeys", since: "8.6.0", summary: "Finds the keys that take most.", subcommands: HOTKEYS,
        ..CONTAINER },
    Command { name: "latency", since: "2.8.13", summary: "Shows where time goes.", subcommands: LATENCY, ..CONTAINER },
    Command { name: "memory", since: "4.0.0", summary: "Shows where memory goes.", subcommands: MEMORY, ..CONTAINER },
    Command { name: "module", since: "4.0.0", summary: "Tells about modules, of which there are none.",
        subcommands: MODULE, ..CONTAINER },
    Command { name: "bgsave", arity: -1, flags: SAVING, summary: "Writes an RDB file in the background.",
        syntax: "[SCHEDULE]", ..ROW },
    Command { name: "save", arity: 1, flags: SAVING.with(NO_MULTI), complexity: "O(N) for N keys",
        summary: "Writes an RDB file and waits for it.", ..ROW },
    Command { name: "lastsave", arity: 1, flags: ANYTIME.with(FAST),
        categories: Some(category::ADMIN.with(category::DANGEROUS)),
        summary: "Tells when the last RDB file was written.", tips: &["nondeterministic_output"], ..ROW },
    Command { name: "bgrewriteaof", arity: 1, flags: SAVING, summary: "Takes snapshots and purges the log behind them.",
        ..ROW },
    Command { name: "shutdown", arity: -1, flags: OPERATOR.with(NO_MULTI).with(ALLOW_BUSY),
        complexity: "O(N) for N keys to save", summary: "Stops the node.",
        syntax: "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]", ..ROW },
    Command { name: "debug", arity: -2, flags: OPERATOR, complexity: "See the subcommands.",
        summary: "Helps with tests.", syntax: "subcommand [arg ...]", ..ROW },
    Command { name: "time", arity: 1, flags: ANYTIME.with(FAST), since: "2.6.0",
        summary: "Gives the time in seconds and microseconds.", tips: &["nondeterministic_output"], ..ROW },
    Command { name: "role", arity: 1, flags: OWN.with(FAST),
        categories: Some(category::ADMIN.with(category::DANGEROUS)), since: "2.8.12",
        summary: "Tells the node's role and its peers.", ..ROW },
    Command { name: "lolwut", arity: -1, flags: READONLY.with(FAST), since: "5.0.0",
        summary: "Draws something and tells the version.", syntax: "[VERSION version]", ..ROW },
    Command { name: "monitor", arity: 1, flags: OPERATOR, complexity: "O(1) per command",
        summary: "Shows every command that the node executes.", ..ROW },
    Command { name: "replicaof", arity: 3, flags: NO_ASYNC_LOADING.with(ADMIN).with(NOSCRIPT).with(STALE),
        since: "5.0.0", summary: "Refused: the group decides who replicates whom.", syntax: "{host port | NO ONE}",
        ..ROW },
    Command { name: "slaveof", arity: 3, flags: NO_ASYNC_LOADING.with(ADMIN).with(NOSCRIPT).with(STALE),
        summary: "Refused: the group decides who replicates whom.", syntax: "{host port | NO ONE}",
        deprecated: Some(("5.0.0", "`REPLICAOF`")), ..ROW },
    Command { name: "failover", arity: -1, flags: ADMIN.with(NOSCRIPT).with(STALE), since: "6.2.0",
        summary: "Hands leadership to another node.", syntax: "[TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]",
        ..ROW },
    Command { name: "sync", arity: 1, flags: SAVING.with(NO_MULTI),
        summary: "Refused: replication goes through the log.", ..ROW },
    Command { name: "psync", arity: -3, flags: SAVING.with(NO_MULTI), since: "2.8.0",
        summary: "Refused: replication goes through the log.", syntax: "replicationid offset", ..ROW },
    Command { name: "replconf", arity: -1, flags: OPERATOR.with(ALLOW_BUSY), since: "3.0.0",
        summary: "Refused: replication goes through the log.", syntax: "[arg ...]", ..ROW },
    Command { name: "wait", arity: 3, flags: BLOCKING, group: Group::Generic, categories: Some(category::CONNECTION),
        since: "3.0.0", summary: "Waits until so many replicas have the connection's writes.",
        syntax: "numreplicas timeout", tips: &["request_policy:all_shards", "response_policy:agg_min"], ..ROW },
    Command { name: "waitaof", arity: 4, flags: BLOCKING, group: Group::Generic, categories: Some(category::CONNECTION),
        since: "7.2.0", summary: "Waits until so many disks have the connection's writes.",
        syntax: "numlocal numreplicas timeout", tips: &["request_policy:all_shards", "response_policy:agg_min"],
        ..ROW },
];

const COMMAND_SUB: Command =
    Command { arity: -2, flags: ANYTIME, categories: Some(category::CONNECTION), since: "2.8.13", ..ROW };

#[rustfmt::skip]
const COMMAND: &[Command] = &[
    Command { name: "count", arity: 2, summary: "Counts the commands.", ..COMMAND_SUB },
    Command { name: "docs", since: "7.0.0", complexity: "O(N) for N commands", summary: "Documents commands.",
        syntax: "[command-name ...]", tips: &["nondeterministic_output_order"], ..COMMAND_SUB },
    Command { name: "getkeys", arity: -3, complexity: "O(N) for N arguments", summary: "Finds the keys of a command.",
        syntax: "command [arg ...]", ..COMMAND_SUB },
    Command { name: "getkeysandflags", arity: -3, since: "7.0.0", complexity: "O(N) for N arguments",
        summary: "Finds the keys of a command and what happens to them.", syntax: "command [arg ...]", ..COMMAND_SUB },
    Command { categories: Some(category::CONNECTION), ..HELP },
    Command { name: "info", complexity: "O(N) for N commands", summary: "Describes commands.",
        syntax: "[command-name ...]", tips: &["nondeterministic_output_order"], ..COMMAND_SUB },
    Command { name: "list", since: "7.0.0", complexity: "O(N) for N commands",
        summary: "Lists the names of the commands.",
        syntax: "[FILTERBY {MODULE module-name | ACLCAT category | PATTERN pattern}]",
        tips: &["nondeterministic_output_order"], ..COMMAND_SUB },
];

#[rustfmt::skip]
const CONFIG: &[Command] = &[
    Command { name: "get", arity: -3, since: "2.0.0", complexity: "O(N) for N settings",
        summary: "Shows the settings whose names match.", syntax: "parameter ...", ..OPERATOR_ROW },
    HELP,
    Command { name: "resetstat", arity: 2, since: "2.0.0", summary: "Sets the counters of INFO to zero.",
        tips: ALL_NODES, ..OPERATOR_ROW },
    Command { name: "rewrite", arity: 2, since: "2.8.0", summary: "Writes the settings to the config file.",
        tips: ALL_NODES, ..OPERATOR_ROW },
    Command { name: "set", arity: -4, since: "2.0.0", complexity: "O(N) for N settings",
        summary: "Changes settings, all or none.", syntax: "{parameter value} ...", tips: ALL_NODES, ..OPERATOR_ROW },
];

const SLOWLOG_SUB: Command = Command { arity: 2, flags: ADMIN.with(ANYTIME), since: "2.2.12", ..ROW };

#[rustfmt::skip]
const SLOWLOG: &[Command] = &[
    Command { name: "get", arity: -2, complexity: "O(N) for N entries", summary: "Shows the latest slow commands.",
        syntax: "[count]", tips: &["request_policy:all_nodes", "nondeterministic_output"], ..SLOWLOG_SUB },
    Command { since: "6.2.0", ..HELP },
    Command { name: "len", summary: "Counts the entries.",
        tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"], ..SLOWLOG_SUB },
    Command { name: "reset", complexity: "O(N) for N entries", summary: "Forgets all entries.", tips: ALL_NODES,
        ..SLOWLOG_SUB },
];

const COMMANDLOG_SUB: Command =
    Command { arity: 3, since: "8.1.0", syntax: "{slow | large-request | large-reply}", ..SLOWLOG_SUB };

#[rustfmt::skip]
const COMMANDLOG: &[Command] = &[
    Command { name: "get", arity: 4, complexity: "O(N) for N entries", summary: "Shows the latest entries of a kind.",
        syntax: "count {slow | large-request | large-reply}",
        tips: &["request_policy:all_nodes", "nondeterministic_output"], ..COMMANDLOG_SUB },
    Command { since: "8.1.0", ..HELP },
    Command { name: "len", summary: "Counts the entries of a kind.",
        tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"], ..COMMANDLOG_SUB },
    Command { name: "reset", complexity: "O(N) for N entries", summary: "Forgets the entries of a kind.",
        tips: ALL_NODES, ..COMMANDLOG_SUB },
];

const HOTKEYS_SUB: Command = Command { arity: 2, flags: ADMIN.with(NOSCRIPT), since: "8.6.0", ..ROW };

#[rustfmt::skip]
const HOTKEYS: &[Command] = &[
    Command { name: "get", complexity: "O(N) for N keys", summary: "Shows what was found.",
        tips: EACH_NODE, ..HOTKEYS_SUB },
    Command { since: "8.6.1", ..HELP },
    Command { name: "reset", summary: "Forgets what was found.", tips: ALL_NODES, ..HOTKEYS_SUB },
    Command { name: "start", arity: -2, summary: "Begins to count what keys take.", tips: ALL_NODES,
        syntax: "METRICS count [CPU] [NET] [COUNT k] [DURATION seconds] [SAMPLE ratio] [SLOTS count slot ...]",
        ..HOTKEYS_SUB },
    Command { name: "stop", summary: "Ends it, and keeps what was found.", tips: ALL_NODES, ..HOTKEYS_SUB },
];

const LATENCY_SUB: Command = Command { arity: 2, since: "2.8.13", tips: EACH_NODE, ..OPERATOR_ROW };

#[rustfmt::skip]
const LATENCY: &[Command] = &[
    Command { name: "doctor", summary: "Says in words where time goes.", ..LATENCY_SUB },
    Command { name: "graph", arity: 3, summary: "Draws the latency of an event.", syntax: "event", ..LATENCY_SUB },
    Command { since: "2.8.13", ..HELP },
    Command { name: "histogram", arity: -2, since: "7.0.0", complexity: "O(N) for N commands",
        summary: "Shows how the latencies of commands are spread.", syntax: "[command ...]", ..LATENCY_SUB },
    Command { name: "history", arity: 3, summary: "Lists the latest delays of an event.", syntax: "event",
        ..LATENCY_SUB },
    Command { name: "latest", summary: "Lists the latest delay of each event.", ..LATENCY_SUB },
    Command { name: "reset", arity: -2, summary: "Forgets the delays of events.", syntax: "[event ...]",
        tips: ALL_NODES, ..LATENCY_SUB },
];

const MEMORY_SUB: Command = Command { arity: 2, since: "4.0.0", tips: EACH_GROUP, ..ROW };

#[rustfmt::skip]
const MEMORY: &[Command] = &[
    Command { name: "doctor", summary: "Says in words where memory goes.", ..MEMORY_SUB },
    Command { since: "4.0.0", ..HELP },
    Command { name: "malloc-stats", complexity: "Up to the allocator.", summary: "Shows what the allocator says.",
        ..MEMORY_SUB },
    Command { name: "purge", complexity: "Up to the allocator.", summary: "Gives unused memory back to the system.",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"], ..MEMORY_SUB },
    Command { name: "stats", summary: "Shows where memory goes in numbers.", ..MEMORY_SUB },
    Command { name: "usage", arity: -3, flags: READONLY, keys: KEY_LOOK_SUB, complexity: "O(N) for N samples",
        summary: "Counts the bytes that a key takes.", syntax: "key [SAMPLES count]", tips: &[],
        handler: Handler::Read(memory_usage), ..MEMORY_SUB },
];

const MODULE_OPERATOR: Command = Command { flags: SAVING, since: "4.0.0", ..ROW };

#[rustfmt::skip]
const MODULE: &[Command] = &[
    HELP,
    Command { name: "list", arity: 2, flags: ADMIN.with(NOSCRIPT), since: "4.0.0", summary: "Lists modules: none.",
        tips: &["nondeterministic_output_order"], ..ROW },
    Command { name: "load", arity: -3, summary: "Refused: there is no interface for modules.", syntax: "path [arg ...]",
        ..MODULE_OPERATOR },
    Command { name: "loadex", arity: -3, since: "7.0.0", summary: "Refused: there is no interface for modules.",
        syntax: "path [CONFIG name value ...] [ARGS arg ...]", ..MODULE_OPERATOR },
    Command { name: "unload", arity: 3, summary: "Refused: there is no interface for modules.", syntax: "name",
        ..MODULE_OPERATOR },
];

/// MEMORY USAGE. Sizes are counted, not sampled, so SAMPLES is only checked.
fn memory_usage(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    match (argv.get(3), argv.get(4)) {
        (None, _) => {}
        (Some(word), Some(count)) if argv.len() == 5 && word.eq_ignore_ascii_case(b"samples") => {
            if number::integer(count).ok_or(Error::NotAnInteger)? < 0 {
                return Err(Error::Syntax);
            }
        }
        _ => return Err(Error::Syntax),
    }
    let bytes = keyspace.memory_of(context.database, &argv[2]);
    Ok(bytes.map_or(Reply::Null, |n| Reply::Int(n as i64)))
}
