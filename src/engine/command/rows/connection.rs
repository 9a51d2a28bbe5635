//! Rows about the connection itself, and transactions.

use quoris_resp::{Argv, Reply};

use super::*;
use crate::{CommandResult, Keyspace, ReadContext};

const ROW: Command = Command { group: Group::Connection, ..super::ROW };
const ALWAYS: Flags = OWN.with(FAST).with(NO_AUTH).with(ALLOW_BUSY);

/// CLIENT, HELLO and their kin.
#[rustfmt::skip]
pub const CONNECTION: &[Command] = &[
    Command { name: "auth", arity: -2, flags: ALWAYS, complexity: "O(N) for N passwords of the user",
        summary: "Says who the client is.", syntax: "[username] password", ..ROW },
    Command { name: "hello", arity: -1, flags: ALWAYS, since: "6.0.0",
        summary: "Chooses the protocol version and tells about the server.",
        syntax: "[protover [AUTH username password] [SETNAME clientname]]", ..ROW },
    Command { name: "ping", arity: -1, flags: FAST,
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"], summary: "Answers PONG, or the message.",
        syntax: "[message]", ..ROW },
    Command { name: "echo", arity: 2, flags: ANYTIME.with(FAST), summary: "Answers the message.", syntax: "message",
        ..ROW },
    Command { name: "quit", arity: -1, flags: ALWAYS, summary: "Closes the connection.",
        deprecated: Some(("7.2.0", "just closing the connection")), ..ROW },
    Command { name: "reset", arity: 1, flags: ALWAYS, since: "6.2.0",
        summary: "Puts the connection back as it was when it was new.", ..ROW },
    Command { name: "select", arity: 2, flags: ANYTIME.with(FAST), summary: "Chooses the database.", syntax: "index",
        ..ROW },
    Command { name: "client", since: "2.4.0", group: Group::Connection, summary: "Manages connections.",
        subcommands: CLIENT, ..CONTAINER },
];

const CLIENT_OWN: Command = Command { arity: 2, flags: OWN, ..ROW };
const CLIENT_OPERATOR: Command = Command { arity: -3, flags: OPERATOR, ..ROW };

#[rustfmt::skip]
const CLIENT: &[Command] = &[
    Command { name: "caching", arity: 3, since: "6.0.0",
        summary: "Decides whether the keys of the next command are tracked.", syntax: "{YES | NO}", ..CLIENT_OWN },
    Command { name: "capa", arity: -3, flags: OWN.with(ALLOW_BUSY), since: "8.0.0",
        summary: "Tells what the client can do.", syntax: "capability ...", ..CLIENT_OWN },
    Command { name: "getname", since: "2.6.9", summary: "Gives the connection's name.", ..CLIENT_OWN },
    Command { name: "getredir", since: "6.0.0", summary: "Tells which client gets the tracking messages.",
        ..CLIENT_OWN },
    Command { group: Group::Connection, ..HELP },
    Command { name: "id", since: "5.0.0", summary: "Gives the connection's number.", ..CLIENT_OWN },
    Command { name: "import-source", arity: 3, since: "8.1.0",
        summary: "Marks the connection as the source of an import: there is no import mode.", syntax: "{ON | OFF}",
        ..CLIENT_OWN },
    Command { name: "info", since: "6.2.0", summary: "Describes this connection.", tips: &["nondeterministic_output"],
        ..CLIENT_OWN },
    Command { name: "kill", since: "2.4.0", complexity: "O(N) for N connections", summary: "Closes connections.",
        syntax: "{ip:port | {ID client-id | TYPE client-type | USER username | ADDR ip:port | LADDR ip:port | SKIPME \
            yes-no | MAXAGE maxage} ...}", ..CLIENT_OPERATOR },
    Command { name: "list", arity: -2, since: "2.4.0", complexity: "O(N) for N connections",
        summary: "Describes all connections.", syntax: "[TYPE client-type] [ID client-id ...]",
        tips: &["nondeterministic_output"], ..CLIENT_OPERATOR },
    Command { name: "no-evict", arity: 3, since: "7.0.0",
        summary: "Saves the connection from being closed to free memory.", syntax: "{ON | OFF}", ..CLIENT_OPERATOR },
    Command { name: "no-touch", arity: 3, since: "7.2.0", summary: "Decides whether reads mark keys as used.",
        syntax: "{ON | OFF}", ..CLIENT_OWN },
    Command { name: "pause", since: "3.0.0", summary: "Makes clients wait.", syntax: "timeout [WRITE | ALL]",
        ..CLIENT_OPERATOR },
    Command { name: "reply", arity: 3, since: "3.2.0", summary: "Decides whether the server answers.",
        syntax: "{ON | OFF | SKIP}", ..CLIENT_OWN },
    Command { name: "session", arity: -3, flags: OWN.with(NO_MULTI).with(SKIP_MONITOR).with(SKIP_SLOWLOG),
        summary: "Holds a session over connections, in which no command has an effect twice.",
        syntax: "{OPEN | USE ticket number [COUNT count] [ACKED number]}", ..CLIENT_OWN },
    Command { name: "setinfo", arity: 4, since: "7.2.0", summary: "Tells name or version of the client library.",
        syntax: "{LIB-NAME libname | LIB-VER libver}",
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"], ..CLIENT_OWN },
    Command { name: "setname", arity: 3, since: "2.6.9", summary: "Names the connection.", syntax: "connection-name",
        ..CLIENT_OWN },
    Command { name: "tracking", arity: -3, since: "6.0.0", summary: "Turns messages about changed keys on or off.",
        syntax: "{ON | OFF} [REDIRECT client-id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]", ..CLIENT_OWN },
    Command { name: "trackinginfo", since: "6.2.0", summary: "Tells how the connection tracks keys.", ..CLIENT_OWN },
    Command { name: "unblock", since: "5.0.0", complexity: "O(log N) for N connections",
        summary: "Ends another client's wait.", syntax: "client-id [TIMEOUT | ERROR]", ..CLIENT_OPERATOR },
    Command { name: "unpause", arity: 2, since: "6.2.0", complexity: "O(N) for N waiting clients",
        summary: "Lets clients go on after CLIENT PAUSE.", ..CLIENT_OPERATOR },
];

const TRANSACTION: Command = Command {
    arity: 1,
    flags: OWN.with(FAST).with(ALLOW_BUSY),
    group: Group::Transactions,
    since: "2.2.0",
    ..super::ROW
};

/// MULTI and its kin.
#[rustfmt::skip]
pub const TRANSACTIONS: &[Command] = &[
    Command { name: "multi", since: "1.2.0", summary: "Begins a transaction.", ..TRANSACTION },
    Command { name: "exec", flags: OWN.with(SKIP_SLOWLOG), since: "1.2.0", complexity: "That of the queued commands.",
        summary: "Executes the queued commands as one.", ..TRANSACTION },
    Command { name: "discard", since: "2.0.0", complexity: "O(N) for N queued commands",
        summary: "Drops the queued commands.", ..TRANSACTION },
    Command { name: "watch", arity: -2, keys: &[rest(key_flag::RO, 1)], complexity: "O(N) for N keys",
        summary: "Lets the next EXEC fail if one of the keys changes before.", syntax: "key ...",
        handler: Handler::Read(watch), ..TRANSACTION },
    Command { name: "unwatch", summary: "Forgets the watched keys.", ..TRANSACTION },
];

/// What a node asks a group's leader when its client watches keys: their versions. The client itself only
/// ever sees OK.
fn watch(keyspace: &Keyspace, context: &ReadContext, argv: &Argv) -> CommandResult {
    let version = |key| Reply::Int(keyspace.version(context.database, key) as i64);
    Ok(Reply::Array(argv.iter().skip(1).map(version).collect()))
}
