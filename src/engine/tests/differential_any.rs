//! Commands of any row that redis-server 7.0 has, with arguments that may or may not fit, on the engine and on a
//! redis-server where one is installed: equal replies and equal events.
//!
//! Keys are few and of all types. What is not compared stands in [`LEFT_OUT`] with a reason.

mod common;

use std::sync::LazyLock;

use common::differential::{compare, one_of};
use quoris_engine::Rng;
use quoris_engine::command::{BLOCKING, Group, Handler, walk};
use quoris_resp::{Argv, Reply};

/// Rows that are not compared, a star standing for the rest of a name, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("spop", "random"),
    ("srandmember", "random"),
    ("hrandfield", "random"),
    ("zrandmember", "random"),
    ("randomkey", "random"),
    ("scan", "cursors"),
    ("sscan", "cursors"),
    ("hscan", "cursors"),
    ("zscan", "cursors"),
    ("keys", "its order"),
    ("cluster*", "a redis-server alone has no cluster"),
    ("dump", "the form is not the same byte by byte"),
    ("restore*", "needs a payload"),
    ("object*", "use, and names of encodings"),
    ("memory*", "our own count"),
    ("pfdebug", "shapes"),
    ("pfselftest", "takes long"),
    ("expire", "short times pass: the family of keys has it"),
    ("pexpire", "the same"),
    ("setex", "the same"),
    ("psetex", "the same"),
    ("getex", "the same"),
    ("time", "time"),
    ("lolwut", "a picture"),
    ("watch", "no command of the engine alone"),
    ("xadd", "ids by the clock: streams have a test of their own"),
    ("xread", "the text of an error since 7.2: the same"),
    ("xinfo*", "fields that came later"),
    ("xreadgroup", "consumers are made otherwise since 7.2"),
    ("xclaim", "the same"),
    ("xautoclaim", "the same"),
    ("xsetid", "changed since 7.0"),
    ("bitcount", "since 7.2 arguments are looked at in front of the key: the family of bits has it"),
    ("bitpos", "the same"),
    ("pfcount", "stores its estimate in Redis: its family has it"),
    ("zrank", "WITHSCORE since 7.2"),
    ("zrevrank", "the same"),
    ("xgroup*", "changed since 7.0"),
    ("sinter", "order of members"),
    ("sunion", "order of members"),
    ("sdiff", "order of members"),
    ("smembers", "order of members"),
    ("hgetall", "order of fields"),
    ("hkeys", "order of fields"),
    ("hvals", "order of fields"),
    ("function*", "the state of libraries"),
];

fn rows() -> &'static [(String, i32)] {
    static ROWS: LazyLock<Vec<(String, i32)>> = LazyLock::new(|| {
        let is_old = |since: &str| {
            let numbers: Vec<u32> = since.split('.').filter_map(|n| n.parse().ok()).collect();
            numbers[..2] <= [7, 0][..]
        };
        let rows = walk().filter(|found| {
            let (row, name) = (found.command, found.full_name());
            matches!(row.handler, Handler::Read(_) | Handler::Write(_))
                && !matches!(row.group, Group::Scripting | Group::PubSub | Group::Server | Group::Connection)
                && (!row.flags.has(BLOCKING) || name == "xread")
                && is_old(row.since)
                && row.name != "help"
                && !LEFT_OUT.iter().any(|(left, _)| match left.strip_suffix('*') {
                    Some(begin) => name.starts_with(begin),
                    None => name == *left,
                })
        });
        rows.map(|found| (found.full_name().replace('|', " "), found.command.arity)).collect()
    });
    &ROWS
}

/// Words that mean something to some command of version 7.0.
const WORDS: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "0",
    "1",
    "-1",
    "2",
    "3",
    "10",
    "100",
    "1.5",
    "-0",
    "+1",
    "007",
    "1e400",
    "inf",
    "-inf",
    "nan",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "NX",
    "XX",
    "GT",
    "LT",
    "GET",
    "KEEPTTL",
    "LEN",
    "IDX",
    "MINMATCHLEN",
    "(1",
    "[b",
    "(c",
    "+",
    "-",
    "BYSCORE",
    "BYLEX",
    "REV",
    "LIMIT",
    "WITHSCORES",
    "WEIGHTS",
    "AGGREGATE",
    "MIN",
    "MAX",
    "SUM",
    "INCR",
    "CH",
    "km",
    "m",
    "ASC",
    "DESC",
    "COUNT",
    "ANY",
    "WITHDIST",
    "WITHCOORD",
    "BYRADIUS",
    "BYBOX",
    "FROMMEMBER",
    "FROMLONLAT",
    "STOREDIST",
    "STORE",
    "*",
    "BEFORE",
    "AFTER",
    "LEFT",
    "RIGHT",
    "RANK",
    "MAXLEN",
    "BIT",
    "BYTE",
    "AND",
    "OR",
    "XOR",
    "NOT",
    "SET",
    "INCRBY",
    "OVERFLOW",
    "SAT",
    "FAIL",
    "u8",
    "i5",
    "#1",
    "ALPHA",
    "BY",
    "STREAMS",
    "1-1",
    "2-*",
    "MINID",
    "NOMKSTREAM",
    "~",
    "=",
    "REPLACE",
    "DB",
    "ASYNC",
    "SYNC",
    "PERSIST",
    "EXAT",
    "PXAT",
    "4102444800",
];

fn any(rng: &mut Rng) -> String {
    let words = random(rng);
    // `src/docs/events.md` says what SET tells of a deadline in the past.
    let is_known = words.starts_with("SET ") && words.split(' ').any(|word| word.ends_with("XAT"));
    if is_known { any(rng) } else { words }
}

fn random(rng: &mut Rng) -> String {
    let (name, arity) = &rows()[rng.below(rows().len() as u64) as usize];
    let given = name.split(' ').count();
    let least = (arity.unsigned_abs() as usize).saturating_sub(given);
    let more = match rng.below(10) {
        0 => rng.below(6) as usize,
        1..4 if *arity < 0 => rng.below(5) as usize,
        _ => 0,
    };
    let mut words = vec![name.to_uppercase()];
    for at in 0..least + more {
        let is_first = at == 0 && rng.below(8) > 0;
        words.push(if is_first {
            format!("{}", ['a', 'b', 'c', 'd'][rng.below(4) as usize])
        } else {
            one_of(rng, WORDS).into()
        });
    }
    words.join(" ")
}

/// What is compared of a reply.
fn settled(argv: &Argv, reply: Reply) -> Reply {
    let is = |name: &str| argv[0].eq_ignore_ascii_case(name.as_bytes());
    match reply {
        Reply::Int(1..) if ["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"].into_iter().any(is) => Reply::Int(1),
        other if argv[0].first().is_some_and(|c| c.eq_ignore_ascii_case(&b'Z')) => scores(other),
        other => other,
    }
}

/// Scores by what they are: Redis 7.0 prints more digits of large ones.
fn scores(reply: Reply) -> Reply {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok().filter(|n| n.abs() > 1e15);
    match reply {
        Reply::Bulk(text) => number(&text).map_or(Reply::Bulk(text), Reply::Double),
        Reply::Array(items) => Reply::Array(items.into_iter().map(scores).collect()),
        other => other,
    }
}

#[test]
fn commands_of_any_row_answer_as_those_of_a_redis_server() {
    compare(&[("any", any)], settled);
}
