//! Random bitmap and HyperLogLog commands on the engine and on a redis-server, where one is installed:
//! equal replies, and equal bytes at every key that was written.
//!
//! `QUORIS_BITS_ROUNDS` makes the runs longer than the few hundred rounds of every day.

mod common;

use common::InProcess;
use common::script::remote::{Connection, RedisServer};
use common::script::{Case, Target, show};
use quoris_engine::command::{Handler, logged};
use quoris_engine::{ApplyContext, Rng, Settings};
use quoris_resp::{Argv, Reply};

type Parts = Vec<Vec<u8>>;

fn parts(words: &[&str]) -> Parts {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn pick<'a>(rng: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[rng.below(choices.len() as u64) as usize]
}

/// The engine and a redis-server beside it.
struct Both {
    ours: InProcess,
    theirs: Connection,
    history: Vec<Argv>,
    _server: RedisServer,
}

impl Both {
    fn start() -> Option<Both> {
        let Some(server) = RedisServer::start() else {
            eprintln!("there is no redis-server here: nothing is compared");
            return None;
        };
        let theirs = Connection::open(&server.address, Some(server.version)).expect("it listens");
        Some(Both { ours: InProcess::new(), theirs, history: Vec::new(), _server: server })
    }

    fn reset(&mut self) {
        self.ours.reset(&Case::default());
        self.theirs.reset(&Case::default());
        self.history.clear();
    }

    /// Runs a command on both sides; equal replies, unless `excused` holds for ours and Redis's.
    fn run(&mut self, parts: &[Vec<u8>], excused: impl Fn(&Reply, &Reply) -> bool) -> Reply {
        let argv = Argv::from_parts(parts);
        self.history.push(argv.clone());
        let (ours, theirs) = (self.ours.call(&argv), self.theirs.call(&argv));
        let history = || &self.history[self.history.len().saturating_sub(30)..];
        assert!(
            ours == theirs || excused(&ours, &theirs),
            "ours    {}\nRedis's {}\n{:#?}",
            show(&ours),
            show(&theirs),
            history()
        );
        ours
    }

    fn equal(&mut self, words: &[&str]) -> Reply {
        self.run(&parts(words), |_, _| false)
    }
}

fn rounds(everyday: u64) -> u64 {
    std::env::var("QUORIS_BITS_ROUNDS").map_or(everyday, |n| n.parse().expect("a number"))
}

/// Mostly small, now and then at an edge.
fn number(rng: &mut Rng) -> String {
    match rng.below(8) {
        0 => pick(rng, &["9223372036854775807", "-9223372036854775808", "4294967295", "-1", "0"]).into(),
        1 => (rng.next_u64() as i64).to_string(),
        2 => ((rng.next_u64() >> rng.below(64)) as i64).to_string(),
        _ => (rng.below(600) as i64 - 300).to_string(),
    }
}

fn offset(rng: &mut Rng, width: u64) -> String {
    match rng.below(20) {
        0 => pick(rng, &["-1", "x", "4294967296", "#-1", "#", "9223372036854775807", ""]).into(),
        1..8 => format!("#{}", rng.below(330 / width + 1)),
        _ => rng.below(330).to_string(),
    }
}

fn bitfield(rng: &mut Rng, command: &mut Vec<String>, reads_only: bool) {
    for _ in 0..rng.below(5) {
        if rng.below(3) == 0 {
            command.extend(["OVERFLOW".into(), pick(rng, &["WRAP", "SAT", "FAIL", "sat", "FAIL", "X"]).into()]);
        }
        let signed = rng.below(2) == 0;
        let bits =
            if rng.below(3) == 0 { pick(rng, &["1", "8", "63", "64"]).into() } else { rng.below(66).to_string() };
        let word = if reads_only { "GET" } else { pick(rng, &["GET", "SET", "INCRBY", "incrby"]) };
        let width = bits.parse().map_or(1, |bits: u64| bits.max(1));
        command.extend([word.into(), format!("{}{bits}", if signed { 'i' } else { 'u' }), offset(rng, width)]);
        if word != "GET" {
            command.push(number(rng));
        }
    }
}

/// Words of a bitmap command and, where it writes, its key.
fn bitmap(rng: &mut Rng) -> (Vec<String>, Option<&'static str>) {
    const KEYS: &[&str] = &["a", "b", "c"];
    let key = pick(rng, KEYS);
    let unit = |rng: &mut Rng| pick(rng, &["BIT", "BYTE", "bit", "BIT", "x"]).to_string();
    let mut command: Vec<String> = vec![String::new(), key.into()];
    let name = match rng.below(16) {
        0..3 => {
            command.extend([offset(rng, 1), pick(rng, &["0", "1", "1", "1", "2"]).into()]);
            "SETBIT"
        }
        3 => {
            command.push(offset(rng, 1));
            "GETBIT"
        }
        4 | 5 => {
            command.extend((0..rng.below(3)).map(|_| number(rng)));
            if command.len() == 4 && rng.below(2) == 0 {
                command.push(unit(rng));
            }
            "BITCOUNT"
        }
        6 | 7 => {
            command.push(pick(rng, &["0", "1", "0", "1", "2"]).into());
            command.extend((0..rng.below(3)).map(|_| number(rng)));
            if command.len() == 5 && rng.below(2) == 0 {
                command.push(unit(rng));
            }
            "BITPOS"
        }
        8 | 9 => {
            command.insert(1, pick(rng, &["AND", "OR", "XOR", "NOT", "xor", "NOR"]).into());
            command.extend((0..rng.below(4) + 1).map(|_| pick(rng, &["a", "b", "c", "n", "none"]).into()));
            "BITOP"
        }
        10..13 => {
            bitfield(rng, &mut command, false);
            "BITFIELD"
        }
        13 => {
            let reads_only = rng.below(4) > 0;
            bitfield(rng, &mut command, reads_only);
            "BITFIELD_RO"
        }
        14 => {
            command.push(if rng.below(3) == 0 { number(rng) } else { "foobar".repeat(rng.below(8) as usize) });
            "SET"
        }
        _ => "DEL",
    };
    command[0] = name.into();
    (command, ["SETBIT", "BITOP", "BITFIELD", "SET"].contains(&name).then_some(key))
}

#[test]
fn bitmaps_are_those_of_a_redis_server() {
    let Some(mut both) = Both::start() else { return };
    let mut rng = Rng::new(1);
    for _ in 0..rounds(200) {
        both.reset();
        both.equal(&["SET", "n", "1234567"]);
        for _ in 0..100 {
            let (words, written) = bitmap(&mut rng);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            // Until 7.2 an absent key and one of BITCOUNT's and BITPOS's mistakes was no mistake.
            let looks = words[0] == "BITCOUNT" || words[0] == "BITPOS";
            both.run(&parts(&words), |ours, theirs| looks && ours.is_error() && matches!(theirs, Reply::Int(0 | -1)));
            if let Some(key) = written {
                both.equal(&["GET", key]);
                both.equal(&["OBJECT", "ENCODING", key]);
            }
        }
    }
}

/// Sets `hll-sparse-max-bytes` on both sides.
fn limit(both: &mut Both, version: u64, bytes: &str) {
    let mut settings = Settings { version, ..Settings::default() };
    settings.set("hll-sparse-max-bytes", bytes).expect("a setting");
    let argv = settings.to_argv();
    let Handler::Write(apply) = logged(&argv).expect("a command of the log").handler else { panic!("it writes") };
    let mut context = ApplyContext { database: 0, index: 1, now_ms: 1, rng: Rng::new(1), waits: false, short: false };
    apply(&mut both.ours.keyspace, &mut context, &argv).expect("newer settings");
    let config = Argv::from_parts(&["CONFIG", "SET", "hll-sparse-max-bytes", bytes]);
    assert_eq!(both.theirs.call(&config), Reply::Ok);
}

/// A HyperLogLog command and, where it writes, its key. `scale` is how many elements there may be.
fn hyperloglog(rng: &mut Rng, scale: u64) -> (Parts, Option<String>) {
    let key = format!("h{}", rng.below(4));
    let (name, written) = match rng.below(20) {
        0..12 => {
            let elements = (0..rng.below(40)).map(|_| match rng.below(3) {
                0 => rng.below(scale).to_string().into_bytes(),
                1 => format!("an element of some length, number {}", rng.below(scale)).into_bytes(),
                _ => rng.below(scale).to_le_bytes()[..rng.below(9) as usize].to_vec(),
            });
            return ([b"PFADD".to_vec(), key.clone().into_bytes()].into_iter().chain(elements).collect(), Some(key));
        }
        12..15 => {
            let sources: Vec<String> = (0..rng.below(4)).map(|_| format!("h{}", rng.below(5))).collect();
            let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
            return (parts(&[&["PFMERGE", &key], &sources[..]].concat()), Some(key));
        }
        15 => (&["PFDEBUG", "ENCODING"][..], false),
        16 | 17 => (&["PFDEBUG", "DECODE"][..], false),
        18 if rng.below(4) == 0 => (&["PFDEBUG", "TODENSE"][..], true),
        18 if rng.below(8) == 0 => (&["PFDEBUG", "GETREG"][..], true),
        _ if rng.below(3) == 0 => (&["DEL"][..], false),
        // Of several keys Redis stores no estimate.
        _ => (&["PFCOUNT", "nosuch"][..], false),
    };
    (parts(&[name, &[&key]].concat()), written.then_some(key))
}

#[test]
fn hyperloglogs_are_those_of_a_redis_server() {
    let Some(mut both) = Both::start() else { return };
    let mut rng = Rng::new(2);
    for round in 0..rounds(120) {
        both.reset();
        limit(&mut both, round + 1, pick(&mut rng, &["0", "18", "60", "400", "3000", "3000", "20000"]));
        let scale = [20, 1000, 1_000_000][round as usize % 3];
        for _ in 0..150 {
            let (command, written) = hyperloglog(&mut rng, scale);
            both.run(&command, |_, _| false);
            if let Some(key) = written {
                both.equal(&["GET", &key]);
                // Redis may store an estimate in the copy.
                both.equal(&["COPY", &key, "copy", "REPLACE"]);
                both.equal(&["PFCOUNT", "copy"]);
                both.equal(&["DEL", "copy"]);
            }
        }
    }
}

#[test]
fn hyperloglogs_move_both_ways() {
    let Some(mut both) = Both::start() else { return };
    let dump = |target: &mut dyn Target, key: &[u8]| match target.call(&Argv::from_parts(&[b"DUMP", key])) {
        Reply::Bulk(payload) => payload.to_vec(),
        other => panic!("{other:?}"),
    };
    for elements in [0, 1, 500, 20_000] {
        both.reset();
        for chunk in (0..elements).collect::<Vec<u32>>().chunks(500) {
            let words: Vec<String> =
                ["PFADD".into(), "h".into()].into_iter().chain(chunk.iter().map(u32::to_string)).collect();
            both.equal(&words.iter().map(String::as_str).collect::<Vec<_>>());
        }
        both.equal(&["PFADD", "h", "one more"]);
        // An estimate that Redis has stored travels along, and is used and outdated here as there.
        assert!(matches!(both.theirs.call(&Argv::from_parts(&["PFCOUNT", "h"])), Reply::Int(_)));
        let (ours, theirs) = (dump(&mut both.ours, b"h"), dump(&mut both.theirs, b"h"));
        let restore = |key: &str, payload: Vec<u8>| [parts(&["RESTORE", key, "0"]), vec![payload]].concat();
        both.run(&restore("ours", ours), |_, _| false);
        both.run(&restore("theirs", theirs), |_, _| false);
        for key in ["ours", "theirs"] {
            both.equal(&["GET", key]);
            both.equal(&["PFCOUNT", key]);
            both.equal(&["PFADD", key, "another"]);
            // In front of the registers Redis has what PFCOUNT stored, outdated by now.
            both.equal(&["GETRANGE", key, "16", "-1"]);
            both.equal(&["PFCOUNT", key]);
        }
    }
}

#[test]
fn damaged_hyperloglogs_have_the_errors_of_a_redis_server() {
    let Some(mut both) = Both::start() else { return };
    let mut rng = Rng::new(3);
    let mut errors = 0;
    for _ in 0..rounds(2000) {
        let elements: Vec<String> = (0..rng.below(60)).map(|_| rng.next_u64().to_string()).collect();
        both.equal(&["DEL", "h"]);
        both.run(&[parts(&["PFADD", "h"]), elements.into_iter().map(String::into_bytes).collect()].concat(), |_, _| {
            false
        });
        let Reply::Int(len) = both.equal(&["STRLEN", "h"]) else { panic!("a length") };
        for _ in 0..rng.below(4) + 1 {
            // A run whose second byte is missing is an error here; Redis reads the zero behind the text.
            let (at, byte) = (rng.below(len as u64), rng.below(256) as u8);
            let at = if byte >> 6 == 1 && at as i64 == len - 1 { 0 } else { at };
            both.run(&[parts(&["SETRANGE", "h", &at.to_string()]), vec![vec![byte]]].concat(), |_, _| false);
        }
        errors += u64::from(both.equal(&["PFCOUNT", "h"]).is_error());
    }
    assert!(errors > 100, "{errors} of them were damaged");
}
