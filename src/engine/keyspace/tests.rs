//! The keyspace beside a naive twin, and what order, picks and cuts promise.

mod order;
mod scrub;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::testing::for_seeds;
use crate::{Rng, payload};

fn text(len: usize) -> Value {
    payload::from_bytes(vec![b'v'; len])
}

fn scan_all(keys: &Keyspace, database: u32, count: usize) -> Vec<Vec<u8>> {
    let (mut cursor, mut seen) = (0, Vec::new());
    loop {
        cursor = keys.scan(database, cursor, count, &mut |key, _| seen.push(key.to_vec()));
        assert!(cursor < 1 << 63, "a cursor is a positive number for all clients");
        if cursor == 0 {
            return seen;
        }
    }
}

/// The same keyspace, from its entries alone.
fn rebuilt(keys: &Keyspace) -> Keyspace {
    let mut other = Keyspace::new(keys.seed, keys.databases());
    other.advance(keys.now_ms);
    other.set_expired(keys.expired);
    for slot in 0..SLOTS {
        let (counter, removed) = keys.slot_versions(slot);
        other.set_slot_versions(slot, counter, removed);
    }
    for (number, database) in keys.databases.iter().enumerate() {
        other.set_exchanges(number as u32, keys.exchanges()[number]);
        let mut entries = Vec::new();
        database.for_each(&mut |e| entries.push((e.key.clone(), e.value.clone(), e.deadline(), e.version)));
        for (key, value, deadline, version) in entries.into_iter().rev() {
            let restored = Restored { value, expire_at_ms: deadline, version, print: None };
            assert!(other.restore(number as u32, key.bytes(), restored));
        }
    }
    other
}

/// What every reader would say of a key: its value and deadline when it is alive.
type Twin = Vec<BTreeMap<Vec<u8>, (Value, Option<u64>)>>;

fn step(rng: &mut Rng, keys: &mut Keyspace, twin: &mut Twin) {
    let database = rng.below(2) as u32;
    let key = format!("{}{}", if rng.below(2) == 0 { "{t}" } else { "k" }, rng.below(400)).into_bytes();
    let now = keys.now_ms();
    let twin_database = &mut twin[database as usize];
    twin_database.retain(|_, (_, deadline)| deadline.is_none_or(|at| at > now));
    let deadline = (rng.below(3) == 0).then(|| now + 1 + rng.below(200));
    let value = text(if rng.below(20) == 0 { 4090 + rng.below(20) as usize } else { rng.below(100) as usize });
    match rng.below(22) {
        0..8 => {
            keys.set(database, &key, value.clone(), deadline);
            twin_database.insert(key, (value, deadline));
        }
        8..12 => assert_eq!(keys.remove(database, &key), twin_database.remove(&key)),
        12 => assert_eq!(keys.delete(database, &key), twin_database.remove(&key).is_some()),
        13..15 => {
            let known = twin_database.get_mut(&key);
            assert_eq!(keys.set_expire(database, &key, deadline), known.is_some());
            known.into_iter().for_each(|(_, at)| *at = deadline);
        }
        15..18 => {
            let (edit, known) = (keys.edit(database, &key), twin_database.get_mut(&key));
            assert_eq!(edit.as_deref(), known.as_ref().map(|(v, _)| v));
            if let (Some(mut edit), Some(known)) = (edit, known) {
                *edit = value.clone();
                known.0 = value;
            }
        }
        18 => keys.advance(now + rng.below(60)),
        19 => {
            let limit = rng.below(30) as usize;
            assert!(keys.remove_due(limit) <= limit);
        }
        20 if rng.below(30) == 0 => {
            keys.clear(database);
            twin_database.clear();
        }
        20 if rng.below(10) == 0 => {
            keys.swap(0, 1);
            twin.swap(0, 1);
        }
        20 => keys.collect_garbage(50),
        _ => assert_eq!(keys.value(database, &key), twin_database.get(&key).map(|(v, _)| v)),
    }
}

fn compare(keys: &mut Keyspace, twin: &Twin) {
    let now = keys.now_ms();
    for (number, twin) in twin.iter().enumerate() {
        let database = number as u32;
        let alive: BTreeSet<_> =
            twin.iter().filter(|(_, (_, at))| at.is_none_or(|at| at > now)).map(|(k, _)| k.clone()).collect();
        let mut seen = scan_all(keys, database, 7);
        let order = seen.clone();
        seen.sort_unstable();
        assert_eq!(seen, alive.iter().cloned().collect::<Vec<_>>(), "each live key is visited once");
        for (key, (value, deadline)) in twin.iter().filter(|(key, _)| alive.contains(*key)) {
            let entry = keys.entry(database, key).expect("the twin has it");
            assert_eq!((entry.value, entry.expire_at_ms), (value, *deadline));
        }
        assert!(keys.len(database) >= alive.len() as u64);
        assert_eq!(order, scan_all(&rebuilt(keys), database, 3), "the order is a function of the keys");
    }
    assert_eq!(keys.digest(), keys.digest_from_scratch());
    assert!(scrub::is_sound(keys, 1 + now % 50_000));
    let mut other = rebuilt(keys);
    assert_eq!(other.digest(), keys.digest(), "the digest is a function of the state");
    assert_eq!(other.memory_bytes(), keys.memory_bytes());
    assert_eq!(other.next_deadline(), keys.next_deadline());
    let picks = |keys: &Keyspace| {
        (0..20).map(|seed| keys.random(0, &mut Rng::new(seed)).map(<[u8]>::to_vec)).collect::<Vec<_>>()
    };
    assert_eq!(picks(&other), picks(keys), "a pick is a function of the keys");
    // What is removed next, and in which order, does not depend on the history.
    other.advance(now + 50);
    let mut mine = rebuilt(keys);
    mine.advance(now + 50);
    for _ in 0..5 {
        assert_eq!(mine.remove_due(3), other.remove_due(3));
        assert_eq!(mine.digest(), other.digest());
    }
}

#[test]
fn random_operations_match_a_naive_twin() {
    for_seeds(20, |rng| {
        let (mut keys, mut twin) = (Keyspace::new([3, 4], 2), vec![BTreeMap::new(); 2]);
        for round in 0..2000 {
            step(rng, &mut keys, &mut twin);
            if round % 250 == 0 {
                compare(&mut keys, &twin);
            }
        }
        compare(&mut keys, &twin);
    });
}

#[test]
fn removing_all_leaves_nothing_behind() {
    for_seeds(4, |rng| {
        let mut keys = Keyspace::new([5, 6], 1);
        for i in 0..3000 {
            keys.set(0, format!("{{x}}{i}").as_bytes(), text(5), (rng.below(2) == 0).then_some(1000 + i));
        }
        for i in 0..3000 {
            assert!(keys.delete(0, format!("{{x}}{i}").as_bytes()), "{i}");
        }
        assert_eq!((keys.len(0), keys.expires_len(0), keys.memory_bytes(), keys.next_deadline()), (0, 0, 0, None));
    });
}

#[test]
fn a_due_key_is_gone_for_readers_at_once_and_removed_before_a_write() {
    let mut keys = Keyspace::new([1, 1], 1);
    keys.set(0, b"k", text(3), Some(100));
    let alive = keys.version(0, b"k");
    keys.advance(100);
    assert!(keys.entry(0, b"k").is_none() && keys.memory_of(0, b"k").is_none());
    assert_eq!((keys.len(0), keys.next_deadline(), keys.expired()), (1, Some(100), 0));
    let due = keys.version(0, b"k");
    assert_ne!(alive, due);
    assert!(keys.edit(0, b"k").is_none(), "a write finds it absent");
    assert_eq!((keys.len(0), keys.next_deadline(), keys.expired()), (0, None, 1));
    assert_ne!(keys.version(0, b"k"), alive);
}

#[test]
fn moving_a_deadline_does_not_grow_the_index() {
    let mut keys = Keyspace::new([1, 1], 1);
    (0..1000).for_each(|i| keys.set(0, b"k", text(3), Some(1000 + i)));
    keys.advance(1500);
    assert_eq!(keys.remove_due(10), 0, "nothing stale is left");
    assert_eq!(keys.next_deadline(), Some(1999));
    keys.set(0, b"k", text(3), None);
    assert_eq!((keys.next_deadline(), keys.expires_len(0)), (None, 0));
}

#[test]
fn due_keys_go_in_order_a_bounded_number_at_a_time() {
    let mut keys = Keyspace::new([1, 1], 2);
    for i in 0..1000u64 {
        keys.set((i % 2) as u32, format!("k{i}").as_bytes(), text(1), Some(100 + i % 3));
    }
    keys.advance(102);
    assert_eq!(keys.next_deadline(), Some(100));
    assert_eq!(keys.remove_due(256), 256);
    assert_eq!(keys.len(0) + keys.len(1), 744);
    assert_eq!(keys.remove_due(10_000), 744);
    assert_eq!((keys.next_deadline(), keys.expired()), (None, 1000));
}

#[test]
fn due_keys_go_by_deadline_database_slot_hash_and_key() {
    let mut keys = Keyspace::new([1, 1], 3);
    let mut expected = Vec::new();
    for i in 0..600u64 {
        let (database, deadline) = ((i % 3) as u32, 100 + i % 7);
        let key = format!("{}{i}", if i % 2 == 0 { "{t}" } else { "" }).into_bytes();
        keys.set(database, &key, text(1), Some(deadline));
        expected.push((deadline, database, keys.place(&key), key));
    }
    expected.sort();
    keys.advance(104);
    let due = expected.partition_point(|(deadline, ..)| *deadline <= 104);
    for (removed, (_, database, place, key)) in expected[..due].iter().enumerate() {
        assert!(keys.databases[*database as usize].find(*place, key).is_some(), "key {removed} is next");
        assert_eq!(keys.remove_due(1), 1);
        assert!(keys.databases[*database as usize].find(*place, key).is_none(), "key {removed} went");
    }
    assert_eq!((keys.remove_due(1), keys.next_deadline()), (0, Some(105)));
}

#[test]
fn watched_versions_never_miss_a_change() {
    let mut keys = Keyspace::new([1, 1], 2);
    let absent = keys.version(0, b"k");
    keys.set(0, b"k", text(1), None);
    let one = keys.version(0, b"k");
    keys.set(0, b"k", text(1), None);
    let two = keys.version(0, b"k");
    keys.delete(0, b"k");
    let gone = keys.version(0, b"k");
    keys.set(0, b"k", text(1), None);
    let again = keys.version(0, b"k");
    keys.swap(0, 1);
    let swapped = keys.version(0, b"k");
    keys.swap(0, 1);
    let back = keys.version(0, b"k");
    keys.clear(0);
    let cleared = keys.version(0, b"k");
    let all = [absent, one, two, gone, again, swapped, back, cleared];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
    assert_eq!(keys.version(0, b"elsewhere"), keys.version(0, b"elsewhere"));
}

#[test]
fn memory_is_counted_by_length_and_follows_every_change() {
    let mut keys = Keyspace::new([1, 1], 1);
    keys.set(0, b"k", text(100), None);
    let plain = keys.memory_of(0, b"k").expect("there");
    assert_eq!(keys.memory_bytes(), plain);
    keys.set_expire(0, b"k", Some(5));
    assert!(keys.memory_bytes() > plain);
    *keys.edit(0, b"k").expect("there") = text(1000);
    assert!(keys.memory_bytes() > plain + 850);
    keys.clear(0);
    assert_eq!(keys.memory_bytes(), 0);
}

#[test]
fn an_empty_database_takes_no_memory_worth_mentioning() {
    assert!(size_of::<Database>() < 400);
}

#[test]
fn what_a_flush_leaves_is_freed_bit_by_bit() {
    let mut keys = Keyspace::new([1, 1], 1);
    (0..5000).for_each(|i| keys.set(0, format!("k{i}").as_bytes(), text(1), Some(9)));
    assert_eq!(keys.clear(0), 5000);
    let mut turns = 0;
    while !keys.garbage.is_empty() {
        keys.collect_garbage(1000);
        turns += 1;
    }
    assert!((5..60).contains(&turns), "{turns} turns");
    keys.set(0, b"k", text(1), None);
    keys.clear(0);
    assert!(keys.take_garbage().is_some() && keys.take_garbage().is_none());
}
