//! What the tests of this crate share: seeds, entries, and engines that are given random ones.

use bytes::Bytes;
use quoris_resp::{Argv, Reply};

use crate::entry::{CommandMeta, EntryBuilder, SessionId, SessionStamp, Transaction, Watch};
use crate::{Engine, EngineSeed, Rng};

/// Runs a test for several seeds, or for the one in `QUORIS_TEST_SEED`. A failure prints its seed.
pub(crate) fn for_seeds(count: u64, test: impl Fn(&mut Rng)) {
    struct Told(u64);
    impl Drop for Told {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with QUORIS_TEST_SEED={}", self.0);
            }
        }
    }
    let given = std::env::var("QUORIS_TEST_SEED").ok().map(|seed| seed.parse().expect("QUORIS_TEST_SEED is a number"));
    for seed in given.map_or(0..count, |seed: u64| seed..seed + 1) {
        let told = Told(seed);
        test(&mut Rng::new(seed));
        drop(told);
    }
}

/// The seed that test engines share.
pub(crate) const SEED: EngineSeed = EngineSeed { hash_seed: [1, 2], databases: 4 };

/// The body of an entry.
pub(crate) fn body(clock_ms: u64, commands: &[(CommandMeta, Argv)]) -> Bytes {
    let mut builder = EntryBuilder::default();
    commands.iter().for_each(|(meta, argv)| builder.push(meta, argv));
    builder.finish(clock_ms, clock_ms.wrapping_mul(77))
}

/// A command from words.
pub(crate) fn command(words: &str) -> (CommandMeta, Argv) {
    (CommandMeta::default(), Argv::from_parts(&words.split(' ').collect::<Vec<_>>()))
}

/// A command with a session's mark.
pub(crate) fn stamped(connection: u64, sequence: u64, first_sent_ms: u64, words: &str) -> (CommandMeta, Argv) {
    let session = SessionId { origin: 1, connection };
    let stamp = SessionStamp { session, sequence, acknowledged_below: 0, first_sent_ms };
    (CommandMeta { session: Some(stamp), ..CommandMeta::default() }, command(words).1)
}

/// A transaction.
pub(crate) fn exec(watches: Vec<Watch>, commands: &[&str]) -> (CommandMeta, Argv) {
    let transaction = Transaction { watches, commands: commands.iter().map(|words| command(words).1).collect() };
    (CommandMeta { transaction: true, ..CommandMeta::default() }, transaction.to_argv())
}

/// Applies an entry and gives the replies.
pub(crate) fn apply(engine: &mut Engine, clock_ms: u64, commands: &[(CommandMeta, Argv)]) -> Vec<Reply> {
    let mut replies = Vec::new();
    let index = engine.applied_index() + 1;
    engine.apply_entry(index, &body(clock_ms, commands), &mut |_, reply, _| replies.push(reply)).expect("own format");
    replies
}

/// Applies one command of words.
pub(crate) fn run(engine: &mut Engine, clock_ms: u64, words: &str) -> Reply {
    apply(engine, clock_ms, &[command(words)]).pop().expect("one reply")
}

/// A random entry over few keys, so that they meet: all kinds of writes, deadlines, flushes, exchanges,
/// transactions and sessions.
pub(crate) fn random_entry(rng: &mut Rng, clock_ms: &mut u64, sequence: &mut u64) -> Bytes {
    *clock_ms += rng.below(20);
    let commands: Vec<_> = (0..rng.below(6)).map(|_| random_command(rng, *clock_ms, sequence)).collect();
    body(*clock_ms, &commands)
}

fn random_command(rng: &mut Rng, clock_ms: u64, sequence: &mut u64) -> (CommandMeta, Argv) {
    let words = random_words(rng, clock_ms);
    let (mut meta, argv) = match rng.below(8) {
        0 => exec(vec![], &[&words, "SELECT 1", &random_words(rng, clock_ms)]),
        _ => command(&words),
    };
    meta.database = rng.below(3) as u32;
    if rng.below(3) == 0 {
        *sequence += 1;
        let connection = rng.below(5);
        // Some are sent again, some long ago, some with what was acknowledged.
        let again = rng.below(10) == 0;
        let session = SessionId { origin: 8 + connection % 2, connection };
        let sequence = if again { sequence.saturating_sub(rng.below(9)) } else { *sequence };
        let acknowledged_below = sequence.saturating_sub(rng.below(50));
        let first_sent_ms = clock_ms.saturating_sub(rng.below(3) * 400_000);
        meta.session = Some(SessionStamp { session, sequence, acknowledged_below, first_sent_ms });
    }
    (meta, argv)
}

/// A random command of each type of collection on a key of its own kind, so that they grow and shrink.
const FAMILIES: &[fn(&mut Rng, &str) -> String] =
    &[list_words, set_words, hash_words, stream_words, zset_words, geo_words];

fn list_words(rng: &mut Rng, key: &str) -> String {
    let element = match rng.below(12) {
        0 => "E".repeat(rng.below(3000) as usize + 1),
        _ => format!("e{}", rng.below(20)),
    };
    let (side, other) = (["LEFT", "RIGHT"][rng.below(2) as usize], ["LEFT", "RIGHT"][rng.below(2) as usize]);
    match rng.below(20) {
        0..6 => format!("RPUSH l{key} {element} {element}x {element}y"),
        6..10 => format!("LPUSH l{key} {element}"),
        10..12 => format!("LPOP l{key} {}", rng.below(4)),
        12 => format!("RPOP l{key}"),
        13 => format!("LINSERT l{key} BEFORE e{} {element}", rng.below(20)),
        14 => format!("LSET l{key} {} {element}", rng.below(30)),
        15 => format!("LREM l{key} {} {element}", rng.below(5) as i64 - 2),
        16 => format!("LMOVE l{key} l{{c}}{} {side} {other}", rng.below(6)),
        17 => format!("LTRIM l{key} {} {}", rng.below(3), 100 - rng.below(60) as i64),
        18 => format!("COPY l{key} l{{c}}{}", rng.below(6)),
        _ => format!("SET l{key} text"),
    }
}

fn stream_words(rng: &mut Rng, key: &str) -> String {
    let id = format!("{}-{}", 1_000_000 + rng.below(3000), rng.below(3));
    let (group, consumer) = (format!("g{}", rng.below(3)), format!("c{}", rng.below(4)));
    let value = if rng.below(15) == 0 { "V".repeat(rng.below(1500) as usize) } else { rng.below(100).to_string() };
    match rng.below(26) {
        0..5 => format!("XADD x{key} * field {value} n {}", rng.below(9)),
        5 => format!("XADD x{key} {id} f{} {value}", rng.below(3)),
        6 => format!("XADD x{key} MAXLEN {} ACKED * f {value}", 20 + rng.below(60)),
        7 => format!("XTRIM x{key} MAXLEN ~ {} LIMIT {}", rng.below(40), rng.below(300)),
        8 => format!("XTRIM x{key} MINID {id} DELREF"),
        9 => format!("XDEL x{key} {id} 1000000-0"),
        10 => format!("XDELEX x{key} DELREF IDS 2 {id} {}-0", 1_000_000 + rng.below(3000)),
        11..13 => format!("XGROUP CREATE x{key} {group} {} MKSTREAM", ["0", "$"][rng.below(2) as usize]),
        13..17 => {
            format!("XREADGROUP GROUP {group} {consumer} COUNT {} STREAMS x{key} >", 1 + rng.below(9))
        }
        17 => format!("XREADGROUP GROUP {group} {consumer} CLAIM {} NOACK STREAMS x{key} >", rng.below(200)),
        18 => format!("XREADGROUP GROUP {group} {consumer} COUNT 2 STREAMS x{key} 0"),
        19 => format!("XACK x{key} {group} {id} 1000001-0"),
        20 => format!("XAUTOCLAIM x{key} {group} {consumer} {} - COUNT {}", rng.below(100), 1 + rng.below(5)),
        21 => format!("XCLAIM x{key} {group} {consumer} 0 {id} FORCE TIME {}", 1_000_000 + rng.below(3000)),
        22 => format!("XGROUP DELCONSUMER x{key} {group} {consumer}"),
        23 => format!("XGROUP SETID x{key} {group} {id} ENTRIESREAD {}", rng.below(50)),
        24 if rng.below(4) == 0 => format!("XGROUP DESTROY x{key} {group}"),
        24 => format!("COPY x{key} x{{c}}{}", rng.below(6)),
        _ if rng.below(3) == 0 => format!("SET x{key} text"),
        _ => format!("XSETID x{key} {id}"),
    }
}

fn set_words(rng: &mut Rng, key: &str) -> String {
    let member = match rng.below(10) {
        0 => "M".repeat(rng.below(200) as usize + 1),
        1..4 => format!("m{}", rng.below(20)),
        _ => format!("{}", rng.below(40)),
    };
    let other = format!("s{{c}}{}", rng.below(6));
    match rng.below(20) {
        0..8 => format!("SADD s{key} {member} {}", rng.below(1000)),
        8 => {
            let many: Vec<String> = (0..rng.below(700)).map(|_| rng.below(5000).to_string()).collect();
            format!("SADD s{key} {member} {}", many.join(" "))
        }
        9..12 => format!("SREM s{key} {member} {}", rng.below(40)),
        12..14 => format!("SPOP s{key} {}", rng.below(30)),
        14 => format!("SPOP s{key}"),
        15 => format!("SMOVE s{key} {other} {member}"),
        16 => format!("SUNIONSTORE s{key} {other} s{key}"),
        17 => format!("SDIFFSTORE s{key} s{key} {other}"),
        18 => format!("SINTERSTORE {other} s{key} {other}"),
        _ => format!("COPY s{key} {other} REPLACE"),
    }
}

fn hash_words(rng: &mut Rng, key: &str) -> String {
    let fields = [900, 12, 12, 12][rng.below(4) as usize];
    let field = format!("f{}", rng.below(fields));
    let value = match rng.below(12) {
        0 => "V".repeat(rng.below(3000) as usize + 1),
        _ => rng.below(100).to_string(),
    };
    let (ms, fields) = (rng.below(60), format!("FIELDS 2 {field} f{}", rng.below(12)));
    match rng.below(24) {
        0..6 => format!("HSET h{key} {field} {value} f{} x", rng.below(12)),
        6 => {
            let many: Vec<String> = (0..rng.below(700)).map(|_| format!("f{} v", rng.below(900))).collect();
            format!("HSET h{key} {field} {value} {}", many.join(" ")).trim_end().into()
        }
        7..10 => format!("HDEL h{key} {field} f{}", rng.below(12)),
        10 => format!("HSETNX h{key} {field} {value}"),
        11 => format!("HINCRBY h{key} f{} {ms}", rng.below(12)),
        12 => format!("HINCRBYFLOAT h{key} f{} 0.1", rng.below(12)),
        13..16 => format!("HPEXPIRE h{key} {ms} {fields}"),
        16 => format!("HPEXPIRE h{key} 100000 {fields}"),
        17 => format!("HPERSIST h{key} {fields}"),
        18 => format!("HGETEX h{key} PX {ms} {fields}"),
        19 => format!("HSETEX h{key} PX {ms} FIELDS 1 {field} {value}"),
        20 => format!("HSETEX h{key} KEEPTTL FIELDS 1 {field} {value}"),
        21 => format!("HGETDEL h{key} {fields}"),
        22 => format!("HPEXPIRE h{key} {ms} GT {fields}"),
        _ => format!("COPY h{key} h{{c}}{} REPLACE", rng.below(6)),
    }
}

fn zset_words(rng: &mut Rng, key: &str) -> String {
    let member = match rng.below(30) {
        0 => "M".repeat(rng.below(100) as usize + 1),
        _ => format!("m{}", rng.below(400)),
    };
    // Few scores, so that some are equal; some with fractions.
    let score = (rng.below(40) as f64 - 10.0) / [1.0, 7.0][rng.below(2) as usize];
    let key = format!("z{key}");
    let (other, third) = (format!("z{{c}}{}", rng.below(6)), format!("z{{c}}{}", rng.below(6)));
    match rng.below(32) {
        0..8 => format!("ZADD {key} {score} {member} {} {member}x {} {member}y", rng.below(9), -score),
        8..11 => {
            let many = (0..rng.below(200)).map(|n| format!(" {} n{n}", rng.below(50)));
            format!("ZADD {key} {score} {member}{}", many.collect::<String>())
        }
        11..13 => format!("ZADD {key} GT CH {score} {member}"),
        13..16 => format!("ZINCRBY {key} {score} {member}"),
        16..18 => format!("ZREM {key} {member} m1 n5 n6"),
        18 => format!("ZPOPMIN {key} {}", rng.below(9)),
        19 => format!("ZPOPMAX {key}"),
        20 => format!("ZMPOP 2 {key} {other} MAX COUNT {}", rng.below(5)),
        21 => format!("ZREMRANGEBYRANK {key} {} {}", rng.below(20), rng.below(60)),
        22 => format!("ZREMRANGEBYSCORE {key} ({} {score}", score - 3.0),
        23 => format!("ZREMRANGEBYLEX {key} [m{} (n", rng.below(9)),
        24 => format!("ZUNIONSTORE {key} 2 {other} {third} WEIGHTS 1 {score}"),
        25 => format!("ZINTERSTORE {key} 2 {other} {third} AGGREGATE MAX"),
        26 => format!("ZDIFFSTORE {key} 2 {other} {third}"),
        27 => format!("ZRANGESTORE {key} {other} 0 {}", rng.below(200)),
        28 => format!("COPY {key} {other}"),
        29 => format!("ZRANGESTORE {key} {other} -inf ({score} BYSCORE"),
        30 => format!("ZADD {key} inf {member}"),
        _ => format!("SET {key} text"),
    }
}

fn geo_words(rng: &mut Rng, key: &str) -> String {
    let (key, other) = (format!("g{key}"), format!("g{{c}}{}", rng.below(6)));
    let (longitude, latitude) = (rng.below(360) as f64 - 180.0, rng.below(170) as f64 - 85.0);
    let place = format!("{longitude} {latitude}");
    let reach = [1, 100, 1000, 9000][rng.below(4) as usize];
    match rng.below(12) {
        0..7 => format!("GEOADD {key} {place} p{} {longitude} 1 p{}", rng.below(300), rng.below(300)),
        7 => format!("GEORADIUS {key} {place} {reach} km COUNT 9 STORE {other}"),
        8 => format!("GEOSEARCHSTORE {other} {key} FROMLONLAT {place} BYBOX {reach} {reach} km STOREDIST"),
        9 => format!("GEOSEARCHSTORE {other} {key} BYPOLYGON 3 {place} 0 0 {longitude} 0"),
        10 => format!("GEORADIUSBYMEMBER {key} p{} {reach} mi STOREDIST {other}", rng.below(300)),
        _ => format!("ZREM {key} p{}", rng.below(300)),
    }
}

fn random_words(rng: &mut Rng, clock_ms: u64) -> String {
    let key = match rng.below(4) {
        0 => format!("{{tag}}{}", rng.below(200)),
        1 => format!("a-longer-key-that-does-not-fit-inline:{}", rng.below(60)),
        _ => format!("k{}", rng.below(300)),
    };
    match rng.below(55) {
        40.. => {
            let family = FAMILIES[rng.below(FAMILIES.len() as u64) as usize];
            let key = format!("{{c}}{}", rng.below(6));
            family(rng, &key)
        }
        0..16 => format!("SET {key} {}", "v".repeat(rng.below(60) as usize)),
        16..18 => format!("SET {key} {}", "L".repeat(4000 + rng.below(300) as usize)),
        18..24 => format!("SET {key} {} PX {}", rng.below(1000), rng.below(300) + 1),
        24..28 => format!("APPEND {key} {}", rng.next_u64() % 1000),
        28..30 => format!("INCR {key}"),
        30..36 => format!("DEL {key}"),
        36..38 => format!("PEXPIREAT {key} {}", clock_ms + rng.below(100)),
        38 if rng.below(8) == 0 => "FLUSHALL".into(),
        38 if rng.below(2) == 0 => format!("SWAPDB {} {}", rng.below(3), rng.below(3)),
        38 => format!("NOSUCH {key}"),
        _ => format!("GET {key}"),
    }
}
