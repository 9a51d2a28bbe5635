//! Random commands on strings, bits, HyperLogLogs and keys of any type, on the engine and on a redis-server where one
//! is installed: equal replies and equal events.
//!
//! Left out is what has no one right answer, as times that pass, and where later versions look at arguments first.

mod common;

use common::differential::{Generator, compare, one_of};
use common::script;
use quoris_engine::Rng;
use quoris_resp::{Argv, Reply};

const GENERATORS: &[(&str, Generator)] =
    &[("strings", strings), ("keys", generic), ("bits", bits), ("hyperloglogs", hyperloglogs)];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "5",
    "10",
    "100",
    "-100",
    "+1",
    "007",
    "1.5",
    "-0",
    "1e3",
    "x",
    "inf",
    "nan",
    "0x10",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "4294967296",
    "1e308",
    "3.0e3",
    "1.17",
];
const TEXTS: &[&str] = &["a", "b", "hello", "world", "ohmytext", "mynewtext", "", "0", "12", "-7", "3.25"];
/// Far enough that nothing expires while a test runs, or in the past.
const DEADLINES: &[&str] = &["4102444800", "99999999999", "1", "-1", "0", "x"];
const LATER: &[&str] = &["100000", "900000", "0", "-1", "x", "9223372036854775807"];

fn key(rng: &mut Rng, kind: &str) -> String {
    match rng.below(40) {
        0 => "list".into(),
        1 => "zset".into(),
        _ => format!("{kind}{}", rng.below(4)),
    }
}

fn text(rng: &mut Rng) -> String {
    match rng.below(12) {
        0 => "v".repeat(rng.below(90) as usize + 1),
        1..4 => one_of(rng, NUMBERS).into(),
        _ => one_of(rng, TEXTS).into(),
    }
}

fn option(rng: &mut Rng) -> String {
    match rng.below(12) {
        0 => format!("EX {}", one_of(rng, LATER)),
        // In the past SET removes the key at once, as later versions do.
        1 => format!("PXAT {}000", one_of(rng, &DEADLINES[..2])),
        2 => format!("EXAT {}", one_of(rng, &["4102444800", "0", "x"])),
        _ => one_of(rng, &["NX", "XX", "GET", "KEEPTTL", "nx", "EX", "PERSIST"]).into(),
    }
}

fn strings(rng: &mut Rng) -> String {
    let (k, other, v, w) = (key(rng, "s"), key(rng, "s"), text(rng), text(rng));
    let (n, m) = (one_of(rng, NUMBERS), one_of(rng, NUMBERS));
    match rng.below(34) {
        0..4 => format!("SET {k} {v}"),
        4 => format!("SET {k} {v} {}", option(rng)),
        5 => format!("SET {k} {v} {} {}", option(rng), option(rng)),
        6 => format!("{} {k} {v}", one_of(rng, &["SETNX", "GETSET"])),
        7 => format!("SETEX {k} {} {v}", one_of(rng, LATER)),
        8 => format!("{} {k}", one_of(rng, &["GET", "GETDEL", "STRLEN", "GETEX", "TYPE"])),
        9 => format!("GETEX {k} {}", option(rng)),
        10..13 => format!("APPEND {k} {v}"),
        13 => format!("SETRANGE {k} {} {v}", one_of(rng, &["0", "1", "5", "40", "-1", "x"])),
        14..17 => format!("{} {k} {n} {m}", one_of(rng, &["GETRANGE", "SUBSTR"])),
        17..19 => format!("{} {k}", one_of(rng, &["INCR", "DECR"])),
        19..21 => format!("{} {k} {n}", one_of(rng, &["INCRBY", "DECRBY"])),
        21..23 => format!("INCRBYFLOAT {k} {n}"),
        23 => format!("MGET {k} {other} nosuch"),
        24 => format!("MSET {k} {v} {other} {w}"),
        25 => format!("MSETNX {k} {v} {other} {w} {k} {w}"),
        26 => format!("LCS {k} {other}"),
        27 => format!("LCS {k} {other} {}", one_of(rng, &["LEN", "IDX", "IDX WITHMATCHLEN", "IDX MINMATCHLEN 2", "X"])),
        28 => format!("DEL {k}"),
        29 => format!("RPUSH list {v}"),
        30 => format!("ZADD zset {n} {v}"),
        _ => format!("GET {k}"),
    }
}

fn generic(rng: &mut Rng) -> String {
    let (k, other) = (key(rng, "k"), key(rng, "k"));
    let condition = one_of(rng, &["", " NX", " XX", " GT", " LT", " NX GT", " X"]);
    let n = one_of(rng, NUMBERS);
    match rng.below(36) {
        0..3 => format!("SET {k} {}", text(rng)),
        3 => format!("RPUSH {k} {n} {} 3 1 2", text(rng)),
        4 => format!("SADD {k} {} 10 9 8", text(rng)),
        5 => format!("ZADD {k} 1 one 2 two 3 {}", text(rng)),
        6 => format!("HSET {k} f {} g h", text(rng)),
        7 => format!("XADD {k} {}-1 f v", rng.below(1000)),
        8..10 => format!("{} {k} {other}", one_of(rng, &["DEL", "UNLINK", "EXISTS", "TOUCH"])),
        10 => format!("TYPE {k}"),
        11..13 => format!("{} {k} {other}", one_of(rng, &["RENAME", "RENAMENX"])),
        13 => format!("COPY {k} {other}{}", one_of(rng, &["", " REPLACE", " DB 1", " DB 1 REPLACE", " DB x", " X"])),
        14 => format!("MOVE {k} {}", one_of(rng, &["0", "1", "99", "x"])),
        // Which of two deadlines from now on is later, the clock decides.
        15..17 => format!("EXPIRE {k} {}{}", one_of(rng, LATER), one_of(rng, &["", " NX", " XX", " NX GT", " X"])),
        17..19 => format!("EXPIREAT {k} {}{condition}", one_of(rng, DEADLINES)),
        19 => format!("PEXPIREAT {k} {}000{condition}", one_of(rng, DEADLINES)),
        20 => format!("PEXPIRE {k} {}000{}", one_of(rng, LATER), one_of(rng, &["", " NX", " XX"])),
        21..23 => format!("PERSIST {k}"),
        23..26 => format!("{} {k}", one_of(rng, &["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"])),
        26 => format!("KEYS {}", one_of(rng, &["*", "k*", "k?", "[k-l]*", "nosuch", "k[^1]", "\\k1"])),
        27..31 => {
            let how = one_of(rng, &["", " ALPHA", " DESC", " ALPHA DESC LIMIT 1 2", " LIMIT 0 x", " ALPHA LIMIT 2 -1"]);
            let get = one_of(rng, &["", " GET #", " GET k*", " GET k*->f GET #", " STORE k3"]);
            format!("{} {k}{how}{get}", one_of(rng, &["SORT", "SORT_RO"]))
        }
        31 => "DBSIZE".into(),
        32 => format!("SWAPDB 0 {}", one_of(rng, &["0", "1", "99", "x"])),
        33 => one_of(rng, &["FLUSHDB", "FLUSHALL ASYNC", "FLUSHDB x"]).into(),
        _ => format!("EXISTS {k} {k} {other}"),
    }
}

fn bits(rng: &mut Rng) -> String {
    let (k, other) = (key(rng, "b"), key(rng, "b"));
    let (n, m) = (rng.below(90) as i64 - 20, rng.below(90) as i64 - 20);
    let unit = one_of(rng, &["", " BIT", " BYTE"]);
    let kind = one_of(rng, &["u8", "i8", "i5", "u63", "i64", "u1", "u64", "i0", "x8", "i13"]);
    let place = one_of(rng, &["0", "1", "7", "#0", "#3", "100", "-1", "#x"]);
    let operation = |rng: &mut Rng, kind: &str, place: &str| match rng.below(5) {
        0 => format!(" GET {kind} {place}"),
        1 => format!(" SET {kind} {place} {}", one_of(rng, NUMBERS)),
        2 => format!(" OVERFLOW {}", one_of(rng, &["SAT", "FAIL", "WRAP", "x"])),
        _ => format!(" INCRBY {kind} {place} {}", one_of(rng, NUMBERS)),
    };
    match rng.below(20) {
        0..5 => format!("SETBIT {k} {} {}", rng.below(200), one_of(rng, &["0", "1", "1", "2", "x"])),
        5 => format!("GETBIT {k} {n}"),
        6 => format!("BITCOUNT {k}"),
        7..9 => format!("BITCOUNT {k} {n} {m}{unit}"),
        // With arguments that do not fit, later versions do not look for the key first.
        9 | 10 => format!("BITPOS {k} {}", one_of(rng, &["0", "1"])),
        11 => format!("BITPOS {k} {} {n}", one_of(rng, &["0", "1"])),
        12 => format!("BITPOS {k} {} {n} {m}{unit}", one_of(rng, &["0", "1"])),
        13 => format!("BITOP {} {k} {other} {}", one_of(rng, &["AND", "OR", "XOR", "NOT", "x"]), key(rng, "b")),
        14 => format!("BITOP NOT {k} {other}"),
        15..18 => {
            let count = rng.below(3) + 1;
            let all: String = (0..count).map(|_| operation(rng, kind, place)).collect();
            format!("BITFIELD {k}{all}")
        }
        18 => format!("BITFIELD_RO {k} GET {kind} {place}"),
        _ => one_of(rng, &["DEL b1", "GET b1", "STRLEN b2", "SET b0 abc", "APPEND b3 xyz"]).into(),
    }
}

fn hyperloglogs(rng: &mut Rng) -> String {
    let (k, other) = (key(rng, "h"), key(rng, "h"));
    let (from, count) = (rng.below(3000), rng.below(200));
    match rng.below(12) {
        0 => format!("PFADD {k}"),
        1..6 => {
            let all: String = (from..from + count).map(|n| format!(" e{n}")).collect();
            format!("PFADD {k}{all}")
        }
        6..9 => format!("PFCOUNT {k}"),
        9 => format!("PFCOUNT {k} {other}"),
        10 => format!("PFMERGE {k} {other} {}", key(rng, "h")),
        _ => one_of(rng, &["DEL h1", "SET h2 x", "RPUSH list a", "TYPE h0", "PFDEBUG ENCODING h0"]).into(),
    }
}

/// What is compared of a reply: of times that pass only whether there is one.
fn settled(argv: &Argv, reply: Reply) -> Reply {
    let is = |name: &str| argv[0].eq_ignore_ascii_case(name.as_bytes());
    match reply {
        Reply::Int(1..) if ["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"].into_iter().any(is) => Reply::Int(1),
        Reply::Array(mut items) if is("KEYS") => {
            items.sort_by_cached_key(script::show);
            Reply::Array(items)
        }
        other => other,
    }
}

#[test]
fn strings_bits_and_keys_answer_as_those_of_a_redis_server() {
    compare(GENERATORS, settled);
}
