//! A hash beside a naive twin, and the guarantees of HSCAN and HRANDFIELD.

use std::collections::{BTreeMap, BTreeSet};

use quoris_resp::Reply;

use super::value::Hash;
use crate::command::lookup;
use crate::rdb::{dump_value, restore_value};
use crate::testing::{SEED, apply, command, for_seeds, run};
use crate::types::collection::{Collection, Typed};
use crate::{Engine, ReadContext, Rng, Settings, payload};

/// Field, value and deadline.
type Twin = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

fn settings(entries: i64) -> Settings {
    Settings { hash_max_listpack_entries: entries, hash_max_listpack_value: 40, ..Settings::default() }
}

fn check(hash: &Hash, twin: &Twin, now_ms: u64) {
    let live: Twin = twin
        .iter()
        .filter(|(_, (_, at))| at.is_none_or(|at| at > now_ms))
        .map(|(f, v)| (f.clone(), v.clone()))
        .collect();
    assert_eq!((hash.len(), hash.live_len(now_ms)), (twin.len() as u64, live.len() as u64));
    let seen: Twin =
        hash.live(now_ms).map(|(field, value)| (field.to_vec(), (value.to_vec(), hash.deadline(field)))).collect();
    assert_eq!(seen, live);
    assert_eq!(hash.is_gone(now_ms), live.is_empty() && !twin.is_empty());
    assert_eq!(hash.next_deadline(), twin.values().filter_map(|(_, at)| *at).min());
    if twin.is_empty() {
        return;
    }
    let value = hash.clone().into_value();
    let again = restore_value(&dump_value(&value), &payload::encodings(hash.origin())).expect("own payload");
    let again = payload::with_origin(again, hash.origin()).expect("own origin");
    assert_eq!((&again, payload::hash(&again, true)), (&value, payload::hash(&value, false)));
    assert_eq!((payload::size(&again), again.encoding()), (payload::size(&value), value.encoding()));
}

fn step(hash: &mut Hash, twin: &mut Twin, rng: &mut Rng, now_ms: u64, settings: &Settings) {
    let field = format!("f{}", rng.below(60)).into_bytes();
    let longest = [8, 8, 8, 60][rng.below(4) as usize];
    let value = vec![b'v'; rng.below(longest) as usize];
    let live = twin.get(&field).filter(|(_, at)| at.is_none_or(|at| at > now_ms)).cloned();
    assert_eq!(hash.get(&field, now_ms), live.as_ref().map(|(value, _)| &value[..]));
    match rng.below(10) {
        0..4 => {
            let keep = rng.below(2) == 0;
            assert_eq!(hash.set(&field, &value, keep, now_ms, settings), live.is_none());
            twin.insert(field, (value, live.filter(|_| keep).and_then(|(_, at)| at)));
        }
        4..6 => assert_eq!(hash.remove(&field), twin.remove(&field).is_some()),
        6..8 if live.is_some() => {
            let at = now_ms + rng.below(300);
            hash.set_deadline(&field, at);
            twin.entry(field).and_modify(|(_, old)| *old = Some(at));
        }
        8 => {
            let had = twin.get_mut(&field).and_then(|(_, at)| at.take()).is_some();
            assert_eq!(hash.forget_deadline(&field), had);
        }
        _ => {
            let limit = rng.below(4) as usize;
            let mut due: Vec<_> = twin
                .iter()
                .filter_map(|(f, (_, at))| Some(((*at)?, f.clone())))
                .filter(|(at, _)| *at <= now_ms)
                .collect();
            due.sort();
            due.truncate(limit);
            assert_eq!(hash.remove_due(now_ms, limit), due.len());
            due.iter().for_each(|(_, field)| drop(twin.remove(field)));
        }
    }
}

#[test]
fn a_hash_does_what_a_map_does() {
    for_seeds(12, |rng| {
        let settings = settings([0, 10, 1000][rng.below(3) as usize]);
        let (mut hash, mut twin, mut now_ms) = (Hash::default(), Twin::new(), 1000);
        for _ in 0..400 {
            now_ms += rng.below(10);
            step(&mut hash, &mut twin, rng, now_ms, &settings);
            let copy = hash.clone();
            check(&hash, &twin, now_ms);
            assert_eq!(copy, hash, "looking changes nothing");
        }
    });
}

/// The reply to a read command.
fn read(engine: &Engine, words: &str, seed: u64) -> Reply {
    let argv = command(words).1;
    let context = ReadContext { database: 0, now_ms: engine.clock_ms(), rng: Rng::new(seed).into() };
    engine.read(lookup(&argv).expect("a command").command, &context, &argv)
}

fn bulks(reply: &Reply) -> Vec<Vec<u8>> {
    match reply {
        Reply::Array(items) | Reply::Set(items) => items.iter().flat_map(bulks).collect(),
        Reply::Bulk(text) => vec![text.to_vec()],
        other => panic!("{other:?}"),
    }
}

#[test]
fn hscan_gives_what_is_there_throughout() {
    for_seeds(6, |rng| {
        let mut engine = Engine::new(SEED);
        (0..700).for_each(|n| drop(run(&mut engine, 1000, &format!("HSET h stays{n} v goes{n} v"))));
        run(&mut engine, 1000, "HPEXPIRE h 100 FIELDS 2 goes1 goes2");
        let (mut seen, mut cursor, mut now) = (BTreeSet::new(), b"0".to_vec(), 1000);
        loop {
            let words = format!("HSCAN h {} COUNT {} NOVALUES", String::from_utf8_lossy(&cursor), rng.below(40) + 1);
            let reply = bulks(&run(&mut engine, now, &words));
            cursor = reply[0].clone();
            seen.extend(reply[1..].iter().cloned());
            if cursor == b"0" {
                break;
            }
            now += 5;
            let (one, other) = (rng.below(700), rng.below(100_000));
            run(&mut engine, now, &format!("HDEL h goes{one}"));
            run(&mut engine, now, &format!("HSET h new{other} v"));
        }
        let missing = (0..700).filter(|n| !seen.contains(format!("stays{n}").as_bytes())).count();
        assert_eq!(missing, 0);
    });
}

#[test]
fn random_fields_are_uniform_and_never_due() {
    let mut engine = Engine::new(SEED);
    (0..20).for_each(|n| drop(run(&mut engine, 1000, &format!("HSET h f{n} v"))));
    (0..10).for_each(|n| drop(run(&mut engine, 1000, &format!("HPEXPIRE h 1000 FIELDS 1 f{n}"))));
    // The clock passes the deadlines; nothing is removed yet.
    engine.keyspace.advance(3000);
    let mut counts = BTreeMap::<Vec<u8>, u64>::new();
    for seed in 0..2000 {
        for field in bulks(&read(&engine, "HRANDFIELD h 5", seed)) {
            *counts.entry(field).or_default() += 1;
        }
    }
    assert_eq!(counts.len(), 10);
    assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn due_fields_go_a_bounded_number_at_a_time_and_are_seen_by_nobody() {
    let mut engine = Engine::new(SEED);
    let names = |from: u32, to: u32| (from..to).map(|n| format!("f{n}")).collect::<Vec<_>>().join(" ");
    for database in [0, 1] {
        let pairs = names(0, 600).replace(' ', " v ");
        let mut set = command(&format!("HSET h {pairs} v stays v"));
        let mut expire = command(&format!("HPEXPIREAT h 2000 FIELDS 600 {}", names(0, 600)));
        (set.0.database, expire.0.database) = (database, database);
        apply(&mut engine, 1000, &[set, expire]);
    }
    run(&mut engine, 1000, &format!("HSETEX gone PXAT 2000 FIELDS 600 {} v", names(0, 600).replace(' ', " v ")));
    assert_eq!(engine.keyspace().next_deadline(), Some(2000));
    let (watch, before) = (engine.keyspace().version(0, b"h"), engine.keyspace().memory_bytes());
    let mut entries = 0;
    let mut physical = before;
    while engine.keyspace().next_deadline().is_some() {
        apply(&mut engine, 2000, &[]);
        entries += 1;
        assert!(engine.keyspace().memory_bytes() < physical, "every entry removes some");
        physical = engine.keyspace().memory_bytes();
        for words in ["HLEN h", "EXISTS h gone h"] {
            let expected = if words == "HLEN h" { 1 } else { 2 };
            assert_eq!(read(&engine, words, 1), Reply::Int(expected), "{words}");
        }
        assert_eq!(read(&engine, "HGETALL h", 1), Reply::Map(vec![(Reply::bulk("stays"), Reply::bulk("v"))]));
        assert_ne!(engine.keyspace().version(0, b"h"), watch, "a watched key has changed");
        assert_eq!(engine.keyspace.digest(), engine.keyspace.digest_from_scratch());
    }
    // 1200 fields and one key of 600, which goes as a whole.
    assert_eq!(entries, 1201usize.div_ceil(crate::REMOVALS_MAX));
    assert_eq!((engine.stats().keys, engine.stats().expired), (2, 1));
}

#[test]
fn a_watched_key_changes_with_every_field_that_becomes_due() {
    let mut engine = Engine::new(SEED);
    run(&mut engine, 1000, "HSET h a 1 b 2 c 3");
    run(&mut engine, 1000, "HPEXPIREAT h 2000 FIELDS 1 a");
    run(&mut engine, 1000, "HPEXPIREAT h 3000 FIELDS 1 b");
    let mut seen = BTreeSet::new();
    seen.insert(engine.keyspace().version(0, b"h"));
    for now in [2000, 3000] {
        // The clock alone: nothing is removed yet.
        engine.keyspace.advance(now);
        assert!(seen.insert(engine.keyspace().version(0, b"h")), "at {now}");
    }
    apply(&mut engine, 3000, &[]);
    assert!(seen.insert(engine.keyspace().version(0, b"h")), "after the removal");
}
