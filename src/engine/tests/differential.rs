//! Random commands of each family on the engine and on a redis-server, where one is installed: equal replies.
//!
//! Commands come from generators that know what a family's arguments mean, over few keys, so that values grow,
//! shrink, change their encoding and meet. A family adds itself to [`GENERATORS`]. What has no one right answer
//! is left out: random picks, cursors, times that pass. `QUORIS_TEST_SEED` repeats one seed.

mod common;

use common::differential::{Generator, compare, one_of};
use common::script;
use quoris_engine::Rng;
use quoris_resp::{Argv, Reply};

/// The families.
const GENERATORS: &[(&str, Generator)] = &[("list", list), ("set", set), ("hash", hash)];

/// Words that are numbers, or nearly.
fn number(rng: &mut Rng) -> String {
    match rng.below(8) {
        0 => one_of(
            rng,
            &["x", "1.5", "+1", "007", "-0", "9223372036854775807", "-9223372036854775808", "1e3", "inf", "0x10"],
        )
        .into(),
        _ => (rng.below(12) as i64 - 4).to_string(),
    }
}

/// A member, field or element: often a number, sometimes long.
fn text(rng: &mut Rng) -> String {
    match rng.below(30) {
        0 => "L".repeat(65 + rng.below(3) as usize),
        1..5 => number(rng),
        5..18 => rng.below(30).to_string(),
        _ => format!("t{}", rng.below(40)),
    }
}

fn texts(rng: &mut Rng, max: u64) -> String {
    let count = rng.below(max) + 1;
    (0..count).map(|_| text(rng)).collect::<Vec<_>>().join(" ")
}

/// A key of one kind, now and then one of another.
fn key(rng: &mut Rng, kind: &str) -> String {
    if rng.below(60) == 0 { "string".into() } else { format!("{kind}{}", rng.below(5)) }
}

fn keys(rng: &mut Rng, kind: &str) -> String {
    let count = rng.below(3) + 1;
    (0..count).map(|_| key(rng, kind)).collect::<Vec<_>>().join(" ")
}

fn list(rng: &mut Rng) -> String {
    let (k, other, t) = (key(rng, "l"), key(rng, "l"), text(rng));
    let (n, m) = (number(rng), number(rng));
    let (side, to) = (one_of(rng, &["LEFT", "RIGHT", "left"]), one_of(rng, &["LEFT", "RIGHT", "UP"]));
    match rng.below(20) {
        0..4 => format!("{} {k} {}", one_of(rng, &["RPUSH", "LPUSH", "RPUSHX", "LPUSHX"]), texts(rng, 8)),
        4 => format!("{} {k}", one_of(rng, &["LPOP", "RPOP", "LLEN"])),
        5 => format!("{} {k} {n}", one_of(rng, &["LPOP", "RPOP", "LINDEX"])),
        6..9 => format!("LRANGE {k} {n} {m}"),
        9 => format!("LTRIM {k} {n} {m}"),
        10 => format!("LSET {k} {n} {t}"),
        11 => format!("LREM {k} {n} {t}"),
        12 => format!("LINSERT {k} {} {t} {}", one_of(rng, &["BEFORE", "AFTER"]), text(rng)),
        13 => format!("LPOS {k} {t} RANK {} COUNT {m}", rng.below(9) as i64 - 4),
        14 => format!("LMOVE {k} {other} {side} {to}"),
        15 => format!("LMPOP 2 {k} {other} {side} COUNT {n}"),
        16 => format!("DEL {k}"),
        17 => "SET string v".into(),
        _ => format!("LRANGE {k} 0 -1"),
    }
}

fn set(rng: &mut Rng) -> String {
    let (k, t) = (key(rng, "s"), text(rng));
    match rng.below(24) {
        0..5 => format!("SADD {k} {}", texts(rng, 8)),
        5 => {
            let count = rng.below(560) + 1;
            let many: Vec<String> = (0..count).map(|_| rng.below(2000).to_string()).collect();
            format!("SADD {k} {}", many.join(" "))
        }
        6..8 => format!("SREM {k} {}", texts(rng, 12)),
        8 => format!("SISMEMBER {k} {t}"),
        9 => format!("SMISMEMBER {k} {}", texts(rng, 5)),
        10 => format!("SMOVE {k} {} {t}", key(rng, "s")),
        11..15 => format!("{} {}", one_of(rng, &["SINTER", "SUNION", "SDIFF"]), keys(rng, "s")),
        15..18 => format!("{} {k} {}", one_of(rng, &["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]), keys(rng, "s")),
        18 => format!("SINTERCARD {} {} LIMIT {}", rng.below(4), keys(rng, "s"), number(rng)),
        19 => format!("SPOP {k} {}", one_of(rng, &["0", "100000", "-1", "x", "1 2"])),
        20 => format!("DEL {k}"),
        21 => format!("SCARD {k}"),
        22 => "SET string v".into(),
        _ => format!("SMEMBERS {k}"),
    }
}

fn hash(rng: &mut Rng) -> String {
    let (k, f, v) = (key(rng, "h"), text(rng), text(rng));
    match rng.below(24) {
        0..5 => format!("{} {k} {f} {v} {} {}", one_of(rng, &["HSET", "HMSET"]), text(rng), text(rng)),
        5 => {
            let count = rng.below(560) + 1;
            let many: Vec<String> = (0..count).map(|_| format!("f{} v", rng.below(900))).collect();
            format!("HSET {k} {}", many.join(" "))
        }
        6 => format!("HSET {k} {f} {v} {f}"),
        7..9 => format!("HSETNX {k} {f} {v}"),
        9..11 => format!("HDEL {k} {}", texts(rng, 8)),
        11..13 => format!("{} {k} {f}", one_of(rng, &["HGET", "HEXISTS", "HSTRLEN"])),
        13 => format!("HMGET {k} {}", texts(rng, 5)),
        14..16 => format!("{} {k}", one_of(rng, &["HKEYS", "HVALS", "HLEN"])),
        16..18 => format!("HINCRBY {k} {f} {}", number(rng)),
        18..20 => format!("HINCRBYFLOAT {k} {f} {}", number(rng)),
        20 => format!("HRANDFIELD {k} {}", one_of(rng, &["100000", "0", "x", "1 x", "100000 WITHVALUES"])),
        21 => format!("DEL {k}"),
        22 => "SET string v".into(),
        _ => format!("HGETALL {k}"),
    }
}

/// The reply, in some order where the command promises none.
fn settled(argv: &Argv, reply: Reply) -> Reply {
    const UNORDERED: &[&str] =
        &["SMEMBERS", "SINTER", "SUNION", "SDIFF", "SPOP", "HGETALL", "HKEYS", "HVALS", "HRANDFIELD"];
    let is_unordered = UNORDERED.iter().any(|name| argv[0].eq_ignore_ascii_case(name.as_bytes()));
    let Reply::Array(mut items) = reply else { return reply };
    if !is_unordered {
        return Reply::Array(items);
    }
    let with_values = argv[0].eq_ignore_ascii_case(b"hrandfield") && argv.len() == 4;
    if with_values || argv[0].eq_ignore_ascii_case(b"hgetall") {
        let mut pairs: Vec<Reply> = items.chunks(2).map(|pair| Reply::Array(pair.to_vec())).collect();
        pairs.sort_by_cached_key(script::show);
        return Reply::Array(pairs);
    }
    items.sort_by_cached_key(script::show);
    Reply::Array(items)
}

#[test]
fn random_commands_of_each_family_answer_as_a_redis_server_does() {
    compare(GENERATORS, settled);
}
