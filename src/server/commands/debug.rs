//! DEBUG, as far as tests need it, and only where `enable-debug-command` allows it.
//!
//! What Redis's own tests switch on and off and has no counterpart here is taken and answered with OK.

mod populate;

use std::time::Duration;

use bytes::BytesMut;
use quoris_engine::{Engine, Keyspace, number};
use quoris_resp::{Argv, Protocol, Reply};

use super::{Served, word};
use crate::{client::Client, server::Server};

/// A nap of DEBUG SLEEP is at most this long, in seconds.
const SLEEP_SECONDS_MAX: f64 = 3600.0;

/// What there is only where data is.
const OF_DATA: &[&str] =
    &["object", "digest", "digest-value", "flip-bit", "fail-apply", "fail-fsync", "reload", "loadaof"];

fn is_allowed(client: &Client) -> bool {
    match client.server.config.text("enable-debug-command").as_str() {
        "yes" => true,
        "local" => client.info.link.peer.ip().to_canonical().is_loopback(),
        _ => false,
    }
}

pub(super) async fn run(client: &mut Client, argv: &Argv, output: &mut BytesMut) -> Served {
    if !is_allowed(client) {
        return Served::error(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        );
    }
    let server = &client.server;
    if server.node.is_guest() && OF_DATA.contains(&word(argv, 1).as_str()) {
        return Served::error(super::admin::NO_DATA);
    }
    match (word(argv, 1).as_str(), argv.len()) {
        ("sleep", 3) => sleep(argv).await,
        ("log", 3) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(&argv[2]));
            Reply::Ok.into()
        }
        ("object", 3) => object(client, &argv[2]),
        ("digest", 2) => Reply::Status(format!("{:040x}", digest(server)).into()).into(),
        ("digest", 3) if word(argv, 2) == "groups" => group_digests(server),
        ("digest-value", _) => digest_values(client, argv),
        ("flip-bit", 3) => flip_bit(client, &argv[2], false),
        ("die-at", 4) => die_at(client, argv),
        ("hold-at", 3) => {
            server.node.hold_at_step_of_move(&word(argv, 2));
            Reply::Ok.into()
        }
        ("fail-apply", 3) => fail_apply(client, &argv[2]),
        ("flip-bit", 4) if word(argv, 3) == "counted" => flip_bit(client, &argv[2], true),
        ("stringmatch-len", 4) => {
            // The pattern of this many stars must not take for ever; the answer is what counts.
            let stars = number::integer(&argv[2]).and_then(|n| usize::try_from(n).ok()).unwrap_or(0).min(1 << 20);
            let pattern = "*".repeat(stars) + "b";
            Reply::Int(i64::from(quoris_engine::glob::matches(pattern.as_bytes(), &argv[3]))).into()
        }
        ("change-repl-id", 2) | ("replybuffer", 4) => Reply::Ok.into(),
        (
            "set-active-expire"
            | "quicklist-packed-threshold"
            | "set-disable-deny-scripts"
            | "pause-cron"
            | "dict-resizing",
            3,
        ) => Reply::Ok.into(),
        ("help", 2) => help(),
        ("reload" | "loadaof", _) => reload(server).await,
        ("protocol", 3) => protocol(client.protocol, &word(argv, 2), output),
        ("fail-fsync", 2) => {
            server.node.fail_next_flush();
            Reply::Ok.into()
        }
        ("error", 3) => Served::error(String::from_utf8_lossy(&argv[2]).into_owned()),
        ("populate", 3..=5) => populate::run(client, argv).await,
        _ => Served::error(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
            String::from_utf8_lossy(&argv[1])
        )),
    }
}

const HELP: &[&str] = &[
    "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DIGEST [GROUPS]",
    "    Gives the digest of all keys that this node holds, or of each group: its number, the index, the digest.",
    "DIGEST-VALUE key ...",
    "    Gives a digest of each value.",
    "ERROR text",
    "    Answers with an error.",
    "LOADAOF",
    "    As RELOAD.",
    "LOG text",
    "    Writes to the log.",
    "OBJECT key",
    "    Shows what lies behind a key.",
    "POPULATE count [prefix] [size]",
    "    Makes keys.",
    "PROTOCOL kind",
    "    Answers with a reply of some kind.",
    "RELOAD",
    "    Writes an RDB file; the state is not read back.",
    "SLEEP seconds",
    "    Makes this connection wait.",
    "STRINGMATCH-LEN count text",
    "    Matches a text against a pattern of so many stars.",
    "CHANGE-REPL-ID, DICT-RESIZING, PAUSE-CRON, QUICKLIST-PACKED-THRESHOLD, REPLYBUFFER, SET-ACTIVE-EXPIRE,",
    "SET-DISABLE-DENY-SCRIPTS",
    "    Taken for the sake of Redis's tests; nothing changes.",
    "DIE-AT step times, HOLD-AT step, FAIL-APPLY key, FAIL-FSYNC, FLIP-BIT key [COUNTED]",
    "    Break this node on purpose.",
    "HELP",
    "    Lists these subcommands.",
];

fn help() -> Served {
    Reply::Array(HELP.iter().map(|line| Reply::status(line)).collect()).into()
}

/// Redis's whole process sleeps; here only this connection does, as nothing waits for it.
async fn sleep(argv: &Argv) -> Served {
    let seconds = std::str::from_utf8(&argv[2])
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .filter(|s| s.is_finite() && *s >= 0.0);
    tokio::time::sleep(Duration::from_secs_f64(seconds.unwrap_or(0.0).min(SLEEP_SECONDS_MAX))).await;
    Reply::Ok.into()
}

/// A restart would bring the same state back; what can be checked here is that it can be written.
async fn reload(server: &Server) -> Served {
    if server.saves.claim() {
        return match server.save_claimed().await {
            Ok(()) => Reply::Ok.into(),
            Err(error) => Served::error(format!("ERR Error trying to load the RDB dump: {error}")),
        };
    }
    Served::error("ERR a save is in progress")
}

fn object(client: &Client, key: &[u8]) -> Served {
    let server = &client.server;
    let group = server.node.group_of(quoris_engine::slot(key));
    let seen = group.and_then(|group| server.peek(group, |engine| describe(engine.keyspace(), client.database, key)));
    match seen {
        None => Served::error("ERR the key's group has no replica on this node"),
        Some(None) => Served::Reply(quoris_engine::Error::NoSuchKey.into()),
        Some(Some(text)) => Reply::Status(text.into()).into(),
    }
}

fn describe(keyspace: &Keyspace, database: u32, key: &[u8]) -> Option<String> {
    let value = keyspace.entry(database, key)?.value;
    let encoding = keyspace.settings().encoding_name(value.type_name(), value.encoding());
    let bytes = keyspace.memory_of(database, key).unwrap_or(0);
    Some(format!("Value at:0x0 refcount:1 encoding:{encoding} serializedlength:{bytes} lru:0 lru_seconds_idle:0"))
}

/// Damages a value in this node's replica alone, beside the log: as failing memory does, or with COUNTED as a
/// program does that computes something else than the others.
fn flip_bit(client: &Client, key: &[u8], counted: bool) -> Served {
    let group = client.server.node.group_of(quoris_engine::slot(key));
    let Some(local) = group.and_then(|group| client.server.node.group(group)) else {
        return Served::error("ERR the key's group has no replica on this node");
    };
    match local.replica.engine.write().flip_bit(client.database, key, counted) {
        true => Reply::Ok.into(),
        false => Served::Reply(quoris_engine::Error::NoSuchKey.into()),
    }
}

/// The process ends when it reaches a step of a move of slots so often.
fn die_at(client: &Client, argv: &Argv) -> Served {
    let Some(times) = number::integer(&argv[3]).and_then(|n| u32::try_from(n).ok()) else {
        return Served::error("ERR value is not an integer or out of range");
    };
    client.server.node.die_at_step_of_move(&word(argv, 2), times);
    Reply::Ok.into()
}

/// The Raft core of the key's group fails here at the next write that it applies.
fn fail_apply(client: &Client, key: &[u8]) -> Served {
    let group = client.server.node.group_of(quoris_engine::slot(key));
    let Some(local) = group.and_then(|group| client.server.node.group(group)) else {
        return Served::error("ERR the key's group has no replica on this node");
    };
    local.replica.fail_apply.store(true, std::sync::atomic::Ordering::Relaxed);
    Reply::Ok.into()
}

/// The digests of the groups that live here, together.
fn digest(server: &Server) -> u64 {
    let digests = server
        .groups()
        .iter()
        .filter_map(|group| server.node.group(*group))
        .map(|local| local.replica.engine.write().digest())
        .collect::<Vec<_>>();
    digests.into_iter().fold(0, |all, digest| all ^ digest)
}

/// What stands where in each group of this node: equal indexes have equal digests on all nodes.
fn group_digests(server: &Server) -> Served {
    let digest = |group: &quoris_raft::GroupId| {
        let (index, digest) = server.node.digest(*group)?;
        Some(Reply::Status(format!("{} {index} {digest:016x}", group.0).into()))
    };
    Reply::Array(server.groups().iter().filter_map(digest).collect()).into()
}

fn digest_values(client: &Client, argv: &Argv) -> Served {
    use sha2::{Digest, Sha256};
    let server = &client.server;
    let digests = argv.iter().skip(2).map(|key| {
        let group = server.node.group_of(quoris_engine::slot(key));
        let show = |engine: &Engine| engine.keyspace().value(client.database, key).map(|value| format!("{value:?}"));
        let shown = group.and_then(|group| server.peek(group, show)).flatten();
        let digits = shown.map_or_else(
            || "0".repeat(40),
            |text| Sha256::digest(text.as_bytes()).iter().take(20).map(|b| format!("{b:02x}")).collect(),
        );
        Reply::Status(digits.into())
    });
    Reply::Array(digests.collect()).into()
}

/// DEBUG PROTOCOL: one reply of each kind, for tests of clients.
fn protocol(protocol: Protocol, kind: &str, output: &mut BytesMut) -> Served {
    match (kind, protocol) {
        ("push", Protocol::Resp2) => return Served::error("ERR RESP2 is not supported by this command"),
        // No other reply has attributes, so they are no kind of reply; RESP2 does without.
        ("attrib", Protocol::Resp3) => {
            output.extend_from_slice(b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n");
        }
        _ => {}
    }
    match quoris_engine::debug::reply_of_kind(kind) {
        Some(reply) => reply.into(),
        None => Served::error(
            "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
        ),
    }
}
