//! Random commands on a stream and on one of a redis-server, where one is installed: equal replies, and payloads of
//! DUMP that both understand.
//!
//! Ids are given, so nothing depends on the clock but times of delivery. Left out is what Redis changed since 7.0:
//! lag, XSETID below what was removed, and consumers that are made by an attempt; so consumers are made beforehand.
//! Trimming with `~` depends on the shape of nodes, which is not ours.

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::InProcess;
use common::events::Watched;
use common::script::remote::{Connection, RedisServer};
use common::script::{Case, Target, show};
use quoris_engine::Rng;
use quoris_resp::{Argv, Reply};

/// Cases, unless `QUORIS_DIFFER_COUNT` says how many commands they have together.
const CASES: u64 = 40;
const COMMANDS: u64 = 400;

fn pick<'a>(rng: &mut Rng, words: &[&'a str]) -> &'a str {
    words[rng.below(words.len() as u64) as usize]
}

/// An id among the last ones, in any of its spellings.
fn id(rng: &mut Rng, next: u64) -> String {
    let ms = next.saturating_sub(rng.below(40)).max(1);
    match rng.below(12) {
        0 => ms.to_string(),
        1 => pick(rng, &["-", "+", "0", "$", "0-0", "x", "18446744073709551615-18446744073709551615", "5-*"]).into(),
        2 => format!("({ms}-{}", rng.below(3)),
        _ => format!("{ms}-{}", rng.below(3)),
    }
}

fn trimming(rng: &mut Rng, next: u64) -> String {
    let sign = pick(rng, &["", "= ", ""]);
    if rng.below(2) == 0 { format!("MAXLEN {sign}{}", rng.below(40)) } else { format!("MINID {sign}{}", id(rng, next)) }
}

fn words(rng: &mut Rng, next: &mut u64) -> String {
    *next += rng.below(2);
    let (one, other, group) = (id(rng, *next), id(rng, *next), pick(rng, &["g", "h", "i"]));
    let (consumer, count) = (pick(rng, &["one", "two", "three"]), rng.below(6));
    match rng.below(44) {
        0..10 => format!("XADD s {next}-{} {} v{count} f {one}", rng.below(3), pick(rng, &["f", "g"])),
        10 => format!("XADD s {next}-* a b"),
        11 => format!("XADD s {} {next}-9 f v", trimming(rng, *next)),
        // A last id that nothing can follow ends a case.
        12 => format!("XADD s {} f v", one.replace("18446744073709551615", "0")),
        13 => format!("XTRIM s {}", trimming(rng, *next)),
        14..16 => format!("XDEL s {one} {other}"),
        16 => format!("XRANGE s {one} {other} COUNT {count}"),
        17 => format!("XREVRANGE s {one} {other}"),
        18 => format!("XREAD COUNT {count} STREAMS s s {one} {other}"),
        19 | 20 => format!("XSETID s {next}-9 ENTRIESADDED {} MAXDELETEDID {one}", rng.below(300)),
        21..23 => format!("XGROUP SETID s {group} {one}"),
        23 if rng.below(4) == 0 => format!("XGROUP DESTROY s {group}"),
        23 => format!("XGROUP CREATE s {group} {one}"),
        24..30 => format!("XREADGROUP GROUP {group} {consumer} COUNT {count} STREAMS s >"),
        30 => format!("XREADGROUP GROUP {group} {consumer} NOACK COUNT 1 STREAMS s >"),
        31..33 => format!("XREADGROUP GROUP {group} {consumer} COUNT {count} STREAMS s {one}"),
        33..35 => format!("XACK s {group} {one} {other}"),
        35 => format!("XPENDING s {group}"),
        36 => format!("XPENDING s {group} {one} {other} {count}"),
        37 => format!("XPENDING s {group} IDLE 0 - + 9 {consumer}"),
        38 => format!("XCLAIM s {group} {consumer} 0 {one} {other}"),
        39 => format!(
            "XCLAIM s {group} {consumer} {} {one} {other} {} RETRYCOUNT {count} {}",
            pick(rng, &["0", "1000000"]),
            pick(rng, &["FORCE", "JUSTID", "TIME 1000", "IDLE 100"]),
            pick(rng, &["FORCE", "JUSTID", "LASTID 5-5"]),
        ),
        40 => format!("XAUTOCLAIM s {group} {consumer} 0 {one} COUNT {}", count + 1),
        41 => format!("XAUTOCLAIM s {group} {consumer} {} {one} JUSTID", pick(rng, &["0", "1000000"])),
        42 => pick(rng, &["XINFO STREAM s", "XINFO GROUPS s", "XLEN s", "XPENDING s g - + 100"]).into(),
        _ if rng.below(3) == 0 => format!("XGROUP DELCONSUMER s {group} {consumer}"),
        _ => format!("XGROUP CREATECONSUMER s {group} {consumer}"),
    }
}

/// A field of a reply that is a list of names and values.
fn field<'a>(reply: &'a Reply, name: &str) -> Option<&'a Reply> {
    let Reply::Array(items) = reply else { return None };
    items.chunks(2).find(|pair| pair[0] == Reply::bulk(name)).map(|pair| &pair[1])
}

/// The reply without times and what Redis changed since.
fn settled(words: &str, reply: &Reply) -> String {
    let rows = |reply: &Reply| match reply {
        Reply::Array(rows) => rows.clone(),
        _ => Vec::new(),
    };
    let parts: Vec<&str> = words.split(' ').collect();
    match parts[..] {
        _ if reply.is_error() => show(reply),
        ["XINFO", "GROUPS", ..] => {
            let names = ["name", "consumers", "pending", "last-delivered-id"];
            let row = |row: &Reply| names.map(|name| field(row, name).map(show));
            format!("{:?}", rows(reply).iter().map(row).collect::<Vec<_>>())
        }
        ["XINFO", ..] => {
            let names = [
                "length",
                "last-generated-id",
                "max-deleted-entry-id",
                "entries-added",
                "first-entry",
                "last-entry",
                "recorded-first-entry-id",
                "groups",
            ];
            format!("{:?}", names.map(|name| field(reply, name).map(show)))
        }
        ["XPENDING", _, _, _, ..] => {
            let row = |row: &Reply| {
                let row = rows(row);
                [0, 1, 3].map(|at| row.get(at).map(show))
            };
            format!("{:?}", rows(reply).iter().map(row).collect::<Vec<_>>())
        }
        _ => show(reply),
    }
}

struct Pair {
    ours: InProcess,
    theirs: Connection,
    watched: Option<Watched>,
    told: Vec<String>,
}

impl Pair {
    /// Runs a command on both sides, and tells of it when something is wrong.
    fn both(&mut self, words: &str) {
        self.told.push(words.into());
        self.silently(words);
    }

    fn silently(&mut self, words: &str) {
        let argv = Argv::from_parts(&words.split(' ').collect::<Vec<_>>());
        let (ours, theirs) = (self.ours.call(&argv), self.theirs.call(&argv));
        let (one, other) = (settled(words, &ours), settled(words, &theirs));
        assert_eq!(one, other, "ours, Redis's; the last of\n{}", self.told.join("\n"));
        if let Some(watched) = &mut self.watched {
            watched.compare(&mut self.ours, &mut self.theirs, &|| self.told.join("\n"));
        }
    }

    /// Gives each side the payload of the other.
    fn exchange(&mut self) {
        let dump = Argv::from_parts(&["DUMP", "s"]);
        let (ours, theirs) = (self.ours.call(&dump), self.theirs.call(&dump));
        let (Reply::Bulk(ours), Reply::Bulk(theirs)) = (ours, theirs) else { panic!("no payload") };
        let restore = |payload: &[u8]| Argv::from_parts(&[b"RESTORE", &b"s"[..], b"0", payload, b"REPLACE"]);
        let replies = [self.theirs.call(&restore(&ours)), self.ours.call(&restore(&theirs))];
        assert_eq!(replies, [Reply::Ok, Reply::Ok], "{}", self.told.join("\n"));
        self.told.push("each has what the other dumped".into());
        for words in ["XRANGE s - +", "XINFO STREAM s", "XINFO GROUPS s"] {
            self.both(words);
        }
        for group in ["g", "h", "i"] {
            self.both(&format!("XPENDING s {group} - + 1000"));
        }
    }
}

#[test]
fn streams_answer_as_a_redis_server_does() {
    let Some(server) = RedisServer::start() else {
        return eprintln!("there is no redis-server here: nothing is compared");
    };
    let theirs = Connection::open(&server.address, Some(server.version)).expect("it listens");
    let mut pair = Pair { ours: InProcess::telling(), theirs, watched: Watched::open(&server), told: Vec::new() };
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |n| n.parse().expect("a number"));
    let first = number("QUORIS_TEST_SEED", 0) * 1_000_000;
    for seed in first..first + number("QUORIS_DIFFER_COUNT", CASES * COMMANDS).div_ceil(COMMANDS) {
        let mut rng = Rng::new(seed);
        pair.ours.reset(&Case::default());
        pair.theirs.reset(&Case::default());
        pair.told = vec![format!("seed {seed}")];
        // Times of delivery go from side to side, so both clocks show about the same.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        pair.ours.wait(now - pair.ours.keyspace.now_ms());
        let mut next = 1;
        pair.both("XGROUP CREATE s g 0 MKSTREAM");
        for at in 1..=COMMANDS {
            for group in ["g", "h", "i"] {
                for consumer in ["one", "two", "three"] {
                    pair.silently(&format!("XGROUP CREATECONSUMER s {group} {consumer}"));
                }
            }
            let mut command = words(&mut rng, &mut next);
            if command.starts_with("XREAD") {
                // What Redis 7.4 made of it.
                command = command.replace(" +", " 0");
            }
            pair.both(&command);
            if at % 100 == 0 {
                pair.exchange();
            }
        }
    }
}
