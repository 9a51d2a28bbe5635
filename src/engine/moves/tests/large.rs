//! Values of every type and encoding, small and large, on their way: what arrives is what was there.

use quoris_resp::{Argv, Reply};

use super::pair::{MIDDLE, Pair, must, numbers, propose};
use super::*;
use crate::entry::CommandMeta;
use crate::testing::apply;
use crate::{Rng, Settings};

/// Elements of a value that goes in many parts.
const MANY: usize = 5000;
const RANGE: Range = Range { first: 0, last: MIDDLE - 1 };

/// A command of parts that may be long, where it belongs.
fn send(pair: &mut Pair, parts: &[&[u8]]) -> Reply {
    let reply = pair.send(&(CommandMeta::default(), Argv::from_parts(parts)));
    assert!(!reply.is_error(), "{reply:?}");
    reply
}

/// Adds elements by commands of many.
fn fill(pair: &mut Pair, words: &[&str], elements: impl Iterator<Item = Vec<String>>) {
    let elements: Vec<Vec<String>> = elements.collect();
    for some in elements.chunks(500) {
        let texts = some.iter().flatten().map(String::as_bytes);
        let parts: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).chain(texts).collect();
        send(pair, &parts);
    }
}

fn numbered(count: usize, parts: fn(usize) -> Vec<String>) -> impl Iterator<Item = Vec<String>> {
    (0..count).map(parts)
}

fn word(n: usize) -> String {
    // Beyond what an embedded element or a number takes, and in no order.
    format!("{:016x}-{}", Rng::new(n as u64).next_u64(), "e".repeat(n % 70))
}

fn settings(pair: &mut Pair, name: &str, value: &str) {
    for engine in &mut pair.engines {
        let mut settings = *engine.keyspace().settings();
        settings.version += 1;
        settings.set(name, value).expect("a setting");
        apply(engine, pair.clock_ms, &[(CommandMeta::default(), settings.to_argv())]);
    }
}

fn streams(pair: &mut Pair, key: &str, count: usize) {
    for n in 0..count {
        let id = format!("{}-{}", 1000 + n / 3, n % 3);
        let (field, value) = (format!("f{}", n % 5), word(n));
        send(pair, &[b"XADD", key.as_bytes(), id.as_bytes(), b"n", b"1", field.as_bytes(), value.as_bytes()]);
    }
    for group in ["one", "two", "three"] {
        send(pair, &[b"XGROUP", b"CREATE", key.as_bytes(), group.as_bytes(), b"0"]);
        for consumer in ["alice", "bob", ""] {
            let count = (count / 4).to_string();
            let read: [&[u8]; 9] = [
                b"XREADGROUP",
                b"GROUP",
                group.as_bytes(),
                consumer.as_bytes(),
                b"COUNT",
                count.as_bytes(),
                b"STREAMS",
                key.as_bytes(),
                b">",
            ];
            send(pair, &read);
        }
        send(pair, &[b"XGROUP", b"CREATECONSUMER", key.as_bytes(), group.as_bytes(), b"idle"]);
        pair.clock_ms += 7;
    }
    for n in 0..count / 8 {
        let id = format!("{}-{}", 1000 + n / 3, n % 3);
        pair.run(&format!("XNACK {key} one FAIL IDS 1 {id}"));
    }
    pair.run(&format!("XDEL {key} 1000-0 1001-1"));
    for n in 0..40 {
        let reply = pair.run(&format!("XADD {key} IDMP producer{} message{n} * f v", n % 3));
        assert!(!reply.is_error(), "{reply:?}");
    }
}

/// One key of each kind; `count` elements, `len` bytes of a text.
fn keys(pair: &mut Pair, count: usize, len: usize) -> Vec<String> {
    let names =
        ["text", "grown", "number", "list", "set", "ints", "hash", "timed", "sorted", "scores", "stream", "hll"];
    let of = |name: &str| low(name);
    let text = "x".repeat(len);
    send(pair, &[b"SET", of("text").as_bytes(), text.as_bytes()]);
    send(pair, &[b"APPEND", of("grown").as_bytes(), text.as_bytes()]);
    pair.run(&format!("SET {} 12345", of("number")));
    fill(pair, &["RPUSH", &of("list")], numbered(count, |n| vec![word(n)]));
    fill(pair, &["SADD", &of("set")], numbered(count, |n| vec![word(n)]));
    fill(pair, &["SADD", &of("ints")], numbered(count, |n| vec![(n * 7).to_string()]));
    fill(pair, &["HSET", &of("hash")], numbered(count, |n| vec![word(n), n.to_string()]));
    fill(pair, &["HSET", &of("timed")], numbered(count, |n| vec![format!("f{n}"), word(n)]));
    for n in (0..count).step_by(3) {
        pair.run(&format!("HPEXPIRE {} {} FIELDS 1 f{n}", of("timed"), 1_000_000 + n));
    }
    fill(pair, &["ZADD", &of("sorted")], numbered(count, |n| vec![(n % 50).to_string(), word(n)]));
    let scores = ["inf", "-inf", "0.5", "-3", "0", "1e300"];
    let pairs = (0..count).map(|n| vec![scores[n % 6].to_string(), format!("m{n}")]);
    fill(pair, &["ZADD", &of("scores")], pairs);
    streams(pair, &of("stream"), count.min(1200));
    fill(pair, &["PFADD", &of("hll")], numbered(count.min(2000), |n| vec![word(n)]));
    pair.run(&format!("PEXPIRE {} 5000000", of("list")));
    names.iter().map(|name| low(name)).collect()
}

/// A key of the first half that begins with a name.
fn low(name: &str) -> String {
    (0..).map(|n| format!("{name}:{n}")).find(|key| slot(key.as_bytes()) < MIDDLE).expect("a key")
}

/// All that can be seen of a key.
fn seen(pair: &mut Pair, key: &str) -> Vec<Reply> {
    let asks = ["DUMP", "OBJECT ENCODING", "PEXPIRETIME", "TYPE", "MEMORY USAGE", "XINFO STREAM"];
    let more = ["XINFO GROUPS", "HLEN", "HGETALL", "ZCARD", "LLEN", "SCARD", "XCFGSET"];
    let full = [format!("XINFO STREAM {key} FULL COUNT 0"), format!("HPEXPIRETIME {key} FIELDS 3 f0 f1 f3")];
    let asks: Vec<String> = asks.iter().chain(&more).map(|words| format!("{words} {key}")).chain(full).collect();
    asks.iter().map(|words| pair.run(words)).collect()
}

fn check_moves(pair: &mut Pair, keys: &[String]) {
    let was: Vec<_> = keys.iter().map(|key| seen(pair, key)).collect();
    let before = pair.keys();
    for from in [0, 1] {
        pair.move_all_at_once(from, RANGE);
        assert_eq!(pair.keys(), before);
        for (key, was) in keys.iter().zip(&was) {
            assert!(seen(pair, key) == *was, "{key} is another");
        }
        for engine in &mut pair.engines {
            assert_eq!(engine.keyspace.digest(), engine.keyspace.digest_from_scratch());
        }
    }
}

#[test]
fn values_of_all_types_move_and_nothing_tells() {
    for (count, len) in [(1, 1), (40, 30), (600, 5000), (MANY, 3 << 20)] {
        let mut pair = Pair::new();
        let keys = keys(&mut pair, count, len);
        check_moves(&mut pair, &keys);
    }
}

#[test]
fn replicas_that_are_restored_between_any_two_parts_are_the_same() {
    let mut pair = Pair::new();
    let keys = keys(&mut pair, 2500, 600_000);
    pair.restores = true;
    check_moves(&mut pair, &keys);
}

#[test]
fn what_settings_keep_in_one_buffer_stays_there() {
    let mut pair = Pair::new();
    for (name, value) in [
        ("hash-max-listpack-entries", "100000"),
        ("hash-max-listpack-value", "1000000"),
        ("set-max-listpack-entries", "100000"),
        ("set-max-intset-entries", "100000"),
        ("zset-max-listpack-entries", "100000"),
        ("list-max-listpack-size", "100000"),
    ] {
        settings(&mut pair, name, value);
    }
    let mut keys = keys(&mut pair, 3000, 10);
    let long = low("long");
    fill(&mut pair, &["HSET", &long], numbered(12, |n| vec![n.to_string(), "v".repeat(200_000)]));
    keys.push(long);
    pair.restores = true;
    check_moves(&mut pair, &keys);
}

#[test]
fn elements_longer_than_a_part_move() {
    let mut pair = Pair::new();
    let [list, hash, set, sorted] = ["list", "hash", "set", "sorted"].map(low);
    for n in 0..4 {
        let text = format!("{n}").repeat(1_000_000 * n + 1);
        let (text, n) = (text.as_bytes(), n.to_string());
        send(&mut pair, &[b"RPUSH", list.as_bytes(), text, b"short"]);
        send(&mut pair, &[b"HSET", hash.as_bytes(), n.as_bytes(), text, text, n.as_bytes()]);
        send(&mut pair, &[b"SADD", set.as_bytes(), text, b"short"]);
        send(&mut pair, &[b"ZADD", sorted.as_bytes(), n.as_bytes(), text]);
    }
    let stream = low("stream");
    let text = "v".repeat(2_000_000);
    send(&mut pair, &[b"XADD", stream.as_bytes(), b"1-1", b"field", text.as_bytes()]);
    send(&mut pair, &[b"XGROUP", b"CREATE", stream.as_bytes(), text.as_bytes(), b"0"]);
    check_moves(&mut pair, &[list, hash, set, sorted, stream]);
}

#[test]
fn a_large_value_that_is_written_while_it_goes_is_given_up_and_sent_again() {
    let mut pair = Pair::new();
    let key = low("list");
    fill(&mut pair, &["RPUSH", &key], numbered(MANY, |n| vec![word(n)]));
    pair.attempt += 1;
    must(&mut pair.engines[1], pair.clock_ms, step("TAKE", &numbers(pair.attempt, RANGE)));
    pair.engines[0].track(RANGE);
    let mut number = 0;
    for round in 0..4 {
        let mut picks = match round {
            0 => pair.engines[0].pick_next(&mut Walk::new(RANGE)),
            _ => {
                let touched = pair.engines[0].take_tracked().expect("nothing was flushed");
                pair.engines[0].pick(&touched)
            }
        };
        let mut sending = picks.large.pop().expect("a large value");
        for _ in 0..2 {
            let parcel = pair.engines[0].next_parcel(&mut sending).expect("a part");
            number = pair.load_parcel(0, number, &parcel);
        }
        pair.run(&format!("LSET {key} 7 round{round}"));
        assert!(pair.engines[0].next_parcel(&mut sending).is_none() && !sending.is_done());
    }
    // It was never sent as a whole; it goes while it is frozen.
    let was = seen(&mut pair, &key);
    pair.freeze_and_seal(0, RANGE, number);
    pair.switch(0, RANGE);
    assert!(seen(&mut pair, &key) == was);
}

#[test]
fn a_large_value_that_is_gone_before_all_of_it_came_does_not_arrive() {
    let mut pair = Pair::new();
    let (key, other) = (low("list"), low("other"));
    fill(&mut pair, &["RPUSH", &key], numbered(MANY, |n| vec![word(n)]));
    pair.attempt += 1;
    must(&mut pair.engines[1], pair.clock_ms, step("TAKE", &numbers(pair.attempt, RANGE)));
    pair.engines[0].track(RANGE);
    let mut picks = pair.engines[0].pick_next(&mut Walk::new(RANGE));
    let mut sending = picks.large.pop().expect("a large value");
    let parcel = pair.engines[0].next_parcel(&mut sending).expect("a part");
    let number = pair.load_parcel(0, 0, &parcel);
    pair.run(&format!("DEL {key}"));
    pair.run(&format!("SET {other} v"));
    pair.freeze_and_seal(0, RANGE, number);
    pair.switch(0, RANGE);
    assert_eq!([&key, &other].map(|key| pair.run(&format!("EXISTS {key}"))), [Reply::Int(0), Reply::Int(1)]);
}

#[test]
fn a_deadline_passes_while_a_large_value_goes() {
    let mut pair = Pair::new();
    let key = low("list");
    fill(&mut pair, &["RPUSH", &key], numbered(MANY, |n| vec![word(n)]));
    pair.run(&format!("PEXPIRE {key} 100"));
    let number = pair.copy(0, RANGE);
    pair.clock_ms += 1000;
    must(&mut pair.engines[0], pair.clock_ms, step("FREEZE", &numbers(pair.attempt, RANGE)));
    pair.follow(0, number);
    let sum = super::pair::summed(&pair.engines[0]);
    let seal = pair.engines[0].seal_of(pair.attempt, pair.clock_ms, &sum).expect("it is frozen");
    must(&mut pair.engines[1], pair.clock_ms, seal);
    pair.switch(0, RANGE);
    assert_eq!(pair.run(&format!("EXISTS {key}")), Reply::Int(0));
    assert_eq!(pair.engines.each_ref().map(|engine| engine.stats().expired), [1, 0]);
}

#[test]
fn another_format_is_refused() {
    let mut pair = Pair::new();
    pair.attempt += 1;
    must(&mut pair.engines[1], 1, step("TAKE", &numbers(pair.attempt, RANGE)));
    // The first format: a list without records.
    assert!(propose(&mut pair.engines[1], 1, load(pair.attempt, 0, &[0; 8])).is_error());
    assert!(propose(&mut pair.engines[1], 1, load(pair.attempt, 0, &[0; 8])).is_error(), "the attempt is over");
    let _ = Settings::default();
}
