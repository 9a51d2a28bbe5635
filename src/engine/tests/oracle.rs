//! Random commands on the engine and on a redis-server, where one is installed: equal replies.
//!
//! Left out is what may differ: random picks, the order of SCAN, times that pass on one side only. Streams have a
//! test of their own.

mod common;

use std::cell::RefCell;

use common::InProcess;
use common::events::Watched;
use common::generate::command;
use common::script::remote::{Connection, RedisServer};
use common::script::{self, Case, Target};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use quoris_engine::command::{Found, Group, Handler};
use quoris_engine::number;
use quoris_resp::{Argv, Reply, double_text};

/// Rows that both sides run and that have one right answer.
fn comparable(found: &Found) -> bool {
    let own = matches!(found.command.handler, Handler::Read(_) | Handler::Write(_));
    let since: Vec<u32> = found.command.since.split('.').filter_map(|n| n.parse().ok()).collect();
    // PFCOUNT stores an estimate in Redis, PFSELFTEST takes seconds there. BITCOUNT and BITPOS answer for an
    // absent key whatever their arguments are, until 7.2; tests/bits.rs compares them.
    let unlike = [
        "watch",
        "memory|usage",
        "randomkey",
        "scan",
        "dump",
        "object|help",
        "object|refcount",
        "object|idletime",
        "script|debug",
        "script|help",
        "function|help",
        "function|dump",
        "pfcount",
        "pfselftest",
        "bitcount",
        "bitpos",
        "spop",
        "srandmember",
        "sscan",
        "hrandfield",
        "hscan",
        "zrandmember",
    ];
    // A redis-server would wait.
    let waits = found.command.waits.is_some();
    own && !waits
        && !matches!(found.command.group, Group::Stream | Group::Cluster)
        && since[..2] <= [7, 0][..]
        && !unlike.contains(&found.full_name().as_str())
}

/// Whether a deadline could come while the commands run, or the command uses what came after 7.0.
fn depends_on_time_or_version(argv: &Argv) -> bool {
    let name = argv[0].to_ascii_uppercase();
    let soon = |unit: i64| {
        argv.iter().skip(2).filter_map(number::integer).any(|n| (1..=60_000).contains(&(n.saturating_mul(unit))))
    };
    let has = |word: &[u8]| argv.iter().skip(1).any(|a| a.eq_ignore_ascii_case(word));
    let newer =
        [&b"IFEQ"[..], b"IFNE", b"IFDEQ", b"IFDNE", b"DIFF", b"DIFF1", b"ANDOR", b"ONE"].iter().any(|word| has(word));
    newer
        || match &name[..] {
            b"PEXPIRE" | b"PSETEX" | b"RESTORE" => soon(1),
            b"EXPIRE" | b"SETEX" => soon(1000),
            // Redis quotes words up to a zero.
            b"FUNCTION" => argv.iter().any(|word| word.contains(&0)),
            b"ZRANK" | b"ZREVRANK" => argv.len() > 3,
            b"ZUNION" | b"ZINTER" | b"ZUNIONSTORE" | b"ZINTERSTORE" => has(b"AGGREGATE") && has(b"COUNT"),
            b"SET" | b"GETEX" => has(b"PX") && soon(1) || has(b"EX") && soon(1000),
            _ => false,
        }
}

/// What OBJECT ENCODING says of collections.
const COLLECTIONS: &[&[u8]] = &[b"listpack", b"quicklist", b"hashtable"];
/// Commands whose replies have no order.
const UNORDERED: &[&[u8]] = &[b"KEYS", b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF", b"HGETALL", b"HKEYS", b"HVALS"];

/// The reply without what the clock decides.
fn settled(argv: &Argv, reply: Reply) -> Reply {
    let clock =
        [&b"PTTL"[..], b"EXPIRETIME", b"PEXPIRETIME", b"TTL"].iter().any(|name| argv[0].eq_ignore_ascii_case(name));
    let sorted = argv[0].first().is_some_and(|first| first.eq_ignore_ascii_case(&b'z'));
    match reply {
        // Scores are printed shorter since 7.2, and small sorted sets have forgotten the sign of zero.
        Reply::Array(items) if sorted => Reply::Array(items.into_iter().map(|item| settled(argv, item)).collect()),
        Reply::Bulk(text) if sorted => {
            let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<f64>().ok());
            Reply::Bulk(number.map_or(text, |number| double_text(number + 0.0).into()))
        }
        Reply::Int(n) if clock && n > 0 => Reply::Int(1),
        // Lists, sets and hashes are listpacks in later versions.
        Reply::Bulk(text) if argv[0].eq_ignore_ascii_case(b"OBJECT") && COLLECTIONS.contains(&&text[..]) => {
            Reply::bulk("a collection")
        }
        Reply::Array(mut items) if UNORDERED.iter().any(|name| argv[0].eq_ignore_ascii_case(name)) => {
            items.sort_by_cached_key(script::show);
            Reply::Array(items)
        }
        // Our errors are text; Redis quotes whatever bytes it was given.
        Reply::Error(text) => Reply::error(String::from_utf8_lossy(&text)),
        reply => reply,
    }
}

#[test]
fn random_commands_answer_as_a_redis_server_does() {
    let Some(server) = RedisServer::start() else {
        return eprintln!("there is no redis-server here: nothing is compared");
    };
    let theirs = RefCell::new(Connection::open(&server.address, Some(server.version)).expect("it listens"));
    let ours = RefCell::new(InProcess::telling());
    let watched = RefCell::new(Watched::open(&server));
    let commands = proptest::collection::vec(command(comparable), 1..80);
    let config = Config { failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&commands, |commands| {
        let (mut theirs, mut ours) = (theirs.borrow_mut(), ours.borrow_mut());
        theirs.reset(&Case::default());
        ours.reset(&Case::default());
        for argv in commands.iter().filter(|argv| !depends_on_time_or_version(argv)) {
            let (expected, reply) = (theirs.call(argv), ours.call(argv));
            prop_assert_eq!(settled(argv, reply), settled(argv, expected), "ours, Redis's; {:?}", argv);
            if let Some(watched) = &mut *watched.borrow_mut() {
                watched.compare(&mut ours, &mut theirs, &|| format!("{argv:?}"));
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
