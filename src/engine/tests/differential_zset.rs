//! Many random commands of sorted sets and of places on the engine and on a redis-server, where one is installed.
//!
//! Numbers are compared by value: their text has changed since 7.0. Left out is what newer versions do otherwise
//! on purpose: the sign of zero, and the encoding of a set that one command gave many equal members.

mod common;

use common::differential::{Generator, compare, one_of};
use quoris_engine::Rng;
use quoris_resp::{Reply, double_text};

/// The families.
const GENERATORS: &[(&str, Generator)] =
    &[("sorted sets", sorted), ("members of equal score", lexical), ("places", mapped)];

/// Bulk strings that are numbers in one spelling.
fn settled(reply: Reply) -> Reply {
    let all = |items: Vec<Reply>| items.into_iter().map(settled).collect();
    match reply {
        Reply::Bulk(text) => {
            let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<f64>().ok());
            Reply::Bulk(number.map_or(text, |number| double_text(number + 0.0).into()))
        }
        Reply::Double(number) => Reply::Double(number + 0.0),
        Reply::Array(items) => Reply::Array(all(items)),
        reply => reply,
    }
}

fn key(rng: &mut Rng) -> String {
    format!("z{}", rng.below(6))
}

fn member(rng: &mut Rng) -> String {
    match rng.below(40) {
        0 => "long".repeat(17),
        1 => rng.below(100).to_string(),
        _ => format!("m{}", rng.below(250)),
    }
}

fn score(rng: &mut Rng) -> String {
    match rng.below(20) {
        0 => one_of(rng, &["inf", "-inf", "+inf", "1e300", "-1e300", "1e-300", "0x1p-3", "1e17", "9007199254740993"])
            .into(),
        1 => one_of(rng, &["nan", "", "x", "1e400", " 1", "1 ", "0x", "(1"]).into(),
        2..6 => format!("{}.{}", rng.below(20) as i64 - 10, rng.below(100)),
        _ => (rng.below(60) as i64 - 20).to_string(),
    }
}

fn score_bound(rng: &mut Rng) -> String {
    let bound = match rng.below(12) {
        0 => "-inf".into(),
        1 => "+inf".into(),
        _ => score(rng),
    };
    format!("{}{bound}", one_of(rng, &["", "", "("]))
}

fn lex_bound(rng: &mut Rng) -> String {
    match rng.below(12) {
        0 => "-".into(),
        1 => "+".into(),
        2 => one_of(rng, &["", "m", "[", "(", "-x"]).into(),
        _ => format!("{}m{}", one_of(rng, &["[", "("]), rng.below(250)),
    }
}

fn rank(rng: &mut Rng) -> String {
    match rng.below(20) {
        0 => one_of(rng, &["x", "9223372036854775807", "-9223372036854775808"]).into(),
        _ => (rng.below(60) as i64 - 30).to_string(),
    }
}

fn limit(rng: &mut Rng) -> String {
    match rng.below(3) {
        0 => format!(" LIMIT {} {}", rng.below(12) as i64 - 1, rng.below(12) as i64 - 2),
        _ => String::new(),
    }
}

fn adding(rng: &mut Rng) -> String {
    let (key, options) =
        (key(rng), one_of(rng, &["", "", "", " NX", " XX", " CH", " GT", " LT CH", " XX GT CH", " INCR"]));
    match rng.below(12) {
        0 => {
            let many: String = (0..rng.below(200)).map(|n| format!(" {} m{n}", rng.below(30))).collect();
            format!("ZADD {key} 1 first{many}")
        }
        1..3 => format!("ZINCRBY {key} {} {}", score(rng), member(rng)),
        _ => {
            let pairs = if options == " INCR" { 1 } else { rng.below(4) + 1 };
            let member =
                |rng: &mut Rng| if options.contains("XX") { format!("m{}", rng.below(250)) } else { member(rng) };
            let pairs: String = (0..pairs).map(|_| format!(" {} {}", score(rng), member(rng))).collect();
            format!("ZADD {key}{options}{pairs}")
        }
    }
}

fn removing(rng: &mut Rng) -> String {
    let key = key(rng);
    match rng.below(8) {
        0 => format!("ZREM {key} {} {} {}", member(rng), member(rng), member(rng)),
        1 => format!("ZPOPMIN {key} {}", rng.below(5)),
        2 => format!("ZPOPMAX {key}"),
        3 => format!("ZMPOP 2 {key} z1 {} COUNT {}", one_of(rng, &["MIN", "MAX"]), rng.below(5)),
        4 => format!("ZREMRANGEBYRANK {key} {} {}", rank(rng), rank(rng)),
        5 => format!("ZREMRANGEBYSCORE {key} {} {}", score_bound(rng), score_bound(rng)),
        6 if rng.below(8) == 0 => format!("DEL {key}"),
        _ => format!("ZREM {key} {}", member(rng)),
    }
}

fn looking(rng: &mut Rng) -> String {
    let key = key(rng);
    match rng.below(16) {
        0 => format!("ZCARD {key}"),
        1 => format!("ZSCORE {key} {}", member(rng)),
        2 => format!("ZMSCORE {key} {} {}", member(rng), member(rng)),
        3 => format!("ZRANK {key} {}", member(rng)),
        4 => format!("ZREVRANK {key} {}", member(rng)),
        5 => format!("ZCOUNT {key} {} {}", score_bound(rng), score_bound(rng)),
        6 => format!("OBJECT ENCODING {key}"),
        7 => format!("ZRANGE {key} 0 -1 WITHSCORES"),
        8..10 => format!("ZRANGE {key} {} {}{}", rank(rng), rank(rng), one_of(rng, &["", " WITHSCORES", " REV"])),
        10 => format!("ZREVRANGE {key} {} {} WITHSCORES", rank(rng), rank(rng)),
        11 => format!("ZRANGEBYSCORE {key} {} {}{}", score_bound(rng), score_bound(rng), limit(rng)),
        12 => format!("ZREVRANGEBYSCORE {key} {} {} WITHSCORES{}", score_bound(rng), score_bound(rng), limit(rng)),
        13 => format!(
            "ZRANGE {key} {} {} BYSCORE{}{}",
            score_bound(rng),
            score_bound(rng),
            one_of(rng, &["", " REV"]),
            limit(rng)
        ),
        14 => format!("ZRANGESTORE {} {key} {} {}", self::key(rng), rank(rng), rank(rng)),
        _ => format!(
            "ZRANGESTORE {} {key} {} {} BYSCORE{}",
            self::key(rng),
            score_bound(rng),
            score_bound(rng),
            limit(rng)
        ),
    }
}

/// A key of a sorted set, or of a set of some of the same members.
fn input(rng: &mut Rng) -> String {
    if rng.below(4) == 0 { format!("s{}", rng.below(3)) } else { key(rng) }
}

fn combining(rng: &mut Rng) -> String {
    let keys = format!("3 {} {} {}", input(rng), input(rng), input(rng));
    let weights = match rng.below(3) {
        0 => format!(" WEIGHTS {} {} {}", score(rng), score(rng), score(rng)),
        _ => String::new(),
    };
    let aggregate = one_of(rng, &["", "", " AGGREGATE SUM", " AGGREGATE MIN", " AGGREGATE MAX"]);
    match rng.below(10) {
        0 => format!("ZUNION {keys}{weights}{aggregate} WITHSCORES"),
        1 => format!("ZINTER {keys}{weights}{aggregate} WITHSCORES"),
        2 => format!("ZDIFF {keys} WITHSCORES"),
        3 => format!("ZUNIONSTORE {} {keys}{weights}{aggregate}", key(rng)),
        4 => format!("ZINTERSTORE {} {keys}{weights}{aggregate}", key(rng)),
        5 => format!("ZDIFFSTORE {} {keys}", key(rng)),
        6 => format!("ZINTERCARD {keys} LIMIT {}", rng.below(9)),
        7 => format!("ZINTERCARD {keys}"),
        8 => format!("SADD s{} {} {} {}", rng.below(3), member(rng), member(rng), member(rng)),
        _ => format!("SADD s{} {} {}", rng.below(3), rng.below(100), rng.below(100)),
    }
}

fn sorted(rng: &mut Rng) -> String {
    match rng.below(16) {
        0..6 => adding(rng),
        6..9 => removing(rng),
        9..13 => looking(rng),
        _ => combining(rng),
    }
}

/// Members of equal score, where ranges of members mean something.
fn lexical(rng: &mut Rng) -> String {
    let key = format!("lex{}", rng.below(3));
    let (one, other) = (lex_bound(rng), lex_bound(rng));
    match rng.below(12) {
        0..4 => {
            let members: String = (0..rng.below(30) + 1).map(|_| format!(" 0 m{}", rng.below(250))).collect();
            format!("ZADD {key}{members}")
        }
        4..6 => format!("ZRANGEBYLEX {key} {one} {other}{}", limit(rng)),
        6 => format!("ZREVRANGEBYLEX {key} {one} {other}{}", limit(rng)),
        7 => format!("ZRANGE {key} {one} {other} BYLEX{}{}", one_of(rng, &["", " REV"]), limit(rng)),
        8 => format!("ZLEXCOUNT {key} {one} {other}"),
        9 => format!("ZRANGESTORE {} {key} {one} {other} BYLEX", self::key(rng)),
        10 if rng.below(3) == 0 => format!("ZREMRANGEBYLEX {key} {one} {other}"),
        _ => format!("ZRANK {key} m{}", rng.below(250)),
    }
}

fn place(rng: &mut Rng) -> String {
    let number = |rng: &mut Rng, end: u64| (rng.below(2_000_001) as f64 / 1_000_000.0 - 1.0) * end as f64;
    match rng.below(30) {
        0 => one_of(rng, &["200 1", "1 86", "x 1", "1 nan"]).into(),
        1 => format!("{} {:.6}", one_of(rng, &["180", "-180"]), number(rng, 85)),
        // Close to each other, or anywhere. Never the same, so that no two are equally far from a third.
        2..12 => format!("{:.6} {:.6}", 12.0 + number(rng, 3), 38.0 + number(rng, 2)),
        _ => format!("{:.6} {:.6}", number(rng, 180), number(rng, 85)),
    }
}

fn unit(rng: &mut Rng) -> &'static str {
    one_of(rng, &["m", "km", "km", "KM", "mi", "ft", "yd"])
}

fn reach(rng: &mut Rng) -> String {
    match rng.below(30) {
        0 => one_of(rng, &["x", "-1", "0", "inf"]).into(),
        _ => format!("{:.2}", [10.0, 500.0, 5000.0, 30_000.0][rng.below(4) as usize] * rng.below(100) as f64 / 50.0),
    }
}

/// Words behind a search. What is left to redis-server's unstable sorting is not compared: which of several equally
/// far places a count leaves out.
fn search_words(rng: &mut Rng) -> String {
    let sort = one_of(rng, &["", " ASC", " DESC"]);
    let count = match rng.below(3) {
        0 => format!(" COUNT {}{}", rng.below(20), one_of(rng, &["", " ANY"])),
        _ => String::new(),
    };
    let with = one_of(rng, &["", " WITHHASH", " WITHCOORD", " WITHDIST"]);
    format!("{sort}{count}{with}")
}

fn mapped(rng: &mut Rng) -> String {
    let key = format!("g{}", rng.below(3));
    let member = |rng: &mut Rng| format!("p{}", rng.below(400));
    let (one, other) = (member(rng), member(rng));
    match rng.below(24) {
        0..8 => {
            let places: String = (0..rng.below(12) + 1).map(|_| format!(" {} {}", place(rng), member(rng))).collect();
            format!("GEOADD {key}{}{places}", one_of(rng, &["", "", " NX", " XX", " CH"]))
        }
        8 => format!("GEODIST {key} {one} {other} {}", unit(rng)),
        9 => format!("GEOHASH {key} {one} {other}"),
        10 => format!("GEOPOS {key} {one} {other}"),
        11..13 => format!("GEORADIUS {key} {} {} {}{}", place(rng), reach(rng), unit(rng), search_words(rng)),
        13 => format!("GEORADIUSBYMEMBER_RO {key} {one} {} {}{}", reach(rng), unit(rng), search_words(rng)),
        14 => format!("GEORADIUSBYMEMBER {key} {one} {} {} STORE g9", reach(rng), unit(rng)),
        15..17 => {
            let (place, reach, unit) = (place(rng), reach(rng), unit(rng));
            format!("GEOSEARCH {key} FROMLONLAT {place} BYRADIUS {reach} {unit}{}", search_words(rng))
        }
        17..20 => {
            let (width, height, unit) = (reach(rng), reach(rng), unit(rng));
            format!("GEOSEARCH {key} FROMMEMBER {one} BYBOX {width} {height} {unit}{}", search_words(rng))
        }
        20 => format!("GEOSEARCHSTORE g9 {key} FROMLONLAT {} BYRADIUS {} km", place(rng), reach(rng)),
        21 => "ZRANGE g9 0 -1 WITHSCORES".into(),
        22 => format!("OBJECT ENCODING {key}"),
        _ => format!("ZREM {key} {one}"),
    }
}

#[test]
fn sorted_sets_and_places_answer_as_those_of_a_redis_server() {
    compare(GENERATORS, |_, reply| settled(reply));
}
