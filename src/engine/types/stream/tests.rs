//! Streams beside a naive twin, trimming by nodes, and what RDB makes of them.

use quoris_resp::{Argv, Reply};

use super::Stream;
use super::read::again;
use crate::rdb::{dump_value, restore_value};
use crate::testing::{SEED, apply, command, for_seeds, run};
use crate::types::collection::{Collection, Typed};
use crate::{Engine, Rng, Settings, Value};

fn value<'a>(engine: &'a Engine, key: &str) -> &'a Value {
    engine.keyspace().value(0, key.as_bytes()).expect("it is there")
}

fn stream<'a>(engine: &'a Engine, key: &str) -> &'a Stream {
    Stream::of(value(engine, key)).expect("a stream")
}

fn length(engine: &mut Engine, words: &str) -> u64 {
    run(engine, 1000, words);
    stream(engine, "s").len()
}

fn set(engine: &mut Engine, name: &str, value: &str) {
    let mut settings = *engine.keyspace().settings();
    settings.version += 1;
    settings.set(name, value).expect("a setting");
    apply(engine, 1000, &[(Default::default(), settings.to_argv())]);
}

fn fill(engine: &mut Engine, count: u64) {
    let commands: Vec<_> = (0..count).map(|i| command(&format!("XADD s * item {i}"))).collect();
    apply(engine, 1000, &commands);
}

#[test]
fn approximate_trimming_removes_as_many_as_redis_would() {
    // The figures of Redis's own tests.
    let mut engine = Engine::new(SEED);
    for i in 0..1000 {
        run(&mut engine, 1000, &format!("XADD s MAXLEN ~ 555 * item {i}"));
    }
    assert_eq!(length(&mut engine, "PING"), 600);
    let mut engine = Engine::new(SEED);
    fill(&mut engine, 1000);
    assert_eq!(length(&mut engine, "XTRIM s MAXLEN 555"), 555);
    assert_eq!(length(&mut engine, "XTRIM s MAXLEN ~ 444"), 500);
    assert_eq!(length(&mut engine, "XTRIM s MAXLEN ~ 400"), 400);
    let mut engine = Engine::new(SEED);
    set(&mut engine, "stream-node-max-entries", "10");
    fill(&mut engine, 100);
    assert_eq!(length(&mut engine, "XADD s MAXLEN ~ 55 LIMIT 30 * item v"), 71);
    let mut engine = Engine::new(SEED);
    set(&mut engine, "stream-node-max-entries", "1");
    fill(&mut engine, 102);
    assert_eq!(length(&mut engine, "XTRIM s MAXLEN ~ 1"), 2);
    fill(&mut engine, 100);
    assert_eq!(length(&mut engine, "XTRIM s MAXLEN ~ 1 LIMIT 30"), 72);
    assert_eq!(length(&mut engine, "XTRIM s MAXLEN ~ 1 LIMIT 0"), 1);
    set(&mut engine, "stream-node-max-entries", "0");
    set(&mut engine, "stream-node-max-bytes", "0");
    fill(&mut engine, 500);
    assert_eq!(length(&mut engine, "XTRIM s MAXLEN ~ 1"), 501);
}

/// Many random commands on one stream, ids given.
fn random(rng: &mut Rng, count: u64) -> Engine {
    let mut engine = Engine::new(SEED);
    for i in 1..count {
        let (id, group) = (1 + rng.below(count), rng.below(3));
        let words = match rng.below(14) {
            0..5 => format!(
                "XADD s {i}-{} f{} {} g {}",
                rng.below(2),
                rng.below(2),
                rng.below(1000),
                "x".repeat(id as usize % 50)
            ),
            5 => format!("XDEL s {id}-0 {id}-1"),
            6 => format!("XGROUP CREATE s g{group} 0 MKSTREAM"),
            7 | 8 => format!("XREADGROUP GROUP g{group} c{} COUNT 4 STREAMS s >", rng.below(3)),
            9 => format!("XACK s g{group} {id}-0"),
            10 => format!("XCLAIM s g{group} c{} 0 {id}-0 {id}-1", rng.below(5)),
            11 => format!("XNACK s g{group} FAIL IDS 2 {id}-0 {id}-1 FORCE"),
            12 => format!("XIDMPRECORD s p{} m{} {id}-0", rng.below(3), rng.below(200)),
            _ => format!("XTRIM s MINID {}", id / 2),
        };
        run(&mut engine, 1000 + i, &words);
    }
    engine
}

#[test]
fn a_stream_survives_dump_and_restore_and_parts_of_any_size() {
    for_seeds(30, |rng| {
        let engine = random(rng, 600);
        let before = value(&engine, "s");
        let dumped = dump_value(before);
        let after = restore_value(&dumped, &Settings::default()).expect("own payload");
        assert_eq!(dump_value(&after), dumped);
        let collection = before.collection().expect("a stream");
        let (mut out, mut at) = (vec![collection.rdb_type()], Some(0));
        collection.write_head(&mut out);
        let step = 1 + rng.below(3000) as usize;
        while let Some(from) = at {
            at = collection.write_part(from, out.len() + step, &mut out);
        }
        assert_eq!(out, dumped[..dumped.len() - 10], "steps of {step} bytes");
        // What the form in RDB does not hold.
        let mut after = after;
        let restored = after.collection_mut().expect("a stream");
        if let Some(beside) = collection.beside() {
            let mut other = restore_value(&dumped, &Settings::default()).expect("own payload");
            let other = other.collection_mut().expect("a stream");
            assert!(!other.restore_beside(&beside[..beside.len() - 1]) && restored.restore_beside(&beside));
        }
        assert_eq!(&after, before);
        let (one, other) = (before.collection().expect("a stream"), after.collection().expect("a stream"));
        assert_eq!((one.hash(false), one.bytes()), (other.hash(true), other.bytes()));
    });
}

#[test]
fn damaged_payloads_are_refused_or_sound() {
    for_seeds(20, |rng| {
        let engine = random(rng, 120);
        let dumped = dump_value(value(&engine, "s"));
        for _ in 0..300 {
            let mut damaged = dumped[..dumped.len() - 8].to_vec();
            let at = rng.below(damaged.len() as u64 - 2) as usize;
            damaged[at] = rng.below(256) as u8;
            damaged.extend_from_slice(&crate::rdb::crc64(&damaged).to_le_bytes());
            let Ok(value) = restore_value(&damaged, &Settings::default()) else { continue };
            let again = restore_value(&dump_value(&value), &Settings::default());
            assert!(again.is_ok_and(|again| again == value));
        }
    });
}

#[test]
fn fields_that_entries_share_cannot_fill_the_memory() {
    // One name of 4000 bytes for 600 entries of seven bytes each.
    let mut node = crate::rdb::packed::ListpackWriter::new();
    let name = [b'n'; 4000];
    ["600", "0", "1"].iter().for_each(|n| node.push(n.as_bytes()));
    node.push(&name);
    node.push(b"0");
    for i in 0..600 {
        ["2", "0", &i.to_string(), "v", "4"].iter().for_each(|n| node.push(n.as_bytes()));
    }
    let mut body = vec![15, 1];
    crate::rdb::write::string(&[[0; 15].as_slice(), &[1]].concat(), &mut body);
    crate::rdb::write::string(&node.finish(), &mut body);
    body.extend_from_slice(&[0x42, 0x58, 0, 0x42, 0x58, 0]);
    body.extend_from_slice(&10u16.to_le_bytes());
    body.extend_from_slice(&crate::rdb::crc64(&body).to_le_bytes());
    let refused = restore_value(&body, &Settings::default()).expect_err("too much");
    assert!(refused.to_string().contains("too often"), "{refused}");
}

#[test]
fn a_copy_stays_as_it_was() {
    for_seeds(10, |rng| {
        let mut engine = random(rng, 300);
        run(&mut engine, 2000, "COPY s t REPLACE");
        let (copy, hash) = (value(&engine, "t").clone(), stream(&engine, "t").hash(true));
        for words in ["XTRIM s MAXLEN 1", "XGROUP DESTROY s g0", "XGROUP DELCONSUMER s g1 c1", "XADD s 9999-1 f v"] {
            run(&mut engine, 2001, words);
        }
        run(&mut engine, 2001, "XREADGROUP GROUP g2 c0 STREAMS s >");
        assert_eq!((value(&engine, "t"), stream(&engine, "t").hash(true)), (&copy, hash));
    });
}

#[test]
fn counts_follow_what_groups_hold() {
    for_seeds(20, |rng| {
        let mut engine = random(rng, 400);
        for group in 0..3 {
            let info = run(&mut engine, 5000, &format!("XGROUP DESTROY s g{group}"));
            assert!(matches!(info, Reply::Int(0 | 1)), "{info:?}");
        }
        run(&mut engine, 5000, "XTRIM s MAXLEN 0");
        let empty = Stream::default().bytes();
        let known = stream(&engine, "s").produced().map_or(0, |produced| produced.bytes());
        assert_eq!(stream(&engine, "s").bytes(), empty + known);
    });
}

#[test]
fn whoever_waits_asks_again_for_what_came_since() {
    let mut engine = Engine::new(SEED);
    run(&mut engine, 1000, "XADD s 5-1 f v");
    let arm = |words: &str| {
        let argv = again(engine.keyspace(), 0, &command(words).1)?;
        Some(argv.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(
        arm("XREAD BLOCK 0 STREAMS s nosuch s $ $ 1-1").as_deref(),
        Some("XREAD BLOCK 0 STREAMS s nosuch s 5-1 0-0 1-1")
    );
    assert_eq!(arm("XREAD BLOCK 0 STREAMS s $ $"), None);
    assert_eq!(again(engine.keyspace(), 0, &Argv::from_parts(&["XREAD"])), None);
}
