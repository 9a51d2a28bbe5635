//! A set beside a naive twin, where it changes its encoding, and the guarantees of SSCAN and SPOP.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use quoris_resp::Reply;

use super::value::Set;
use crate::rdb::{dump_value, restore_value};
use crate::testing::{SEED, for_seeds, run};
use crate::types::collection::{Collection, Typed};
use crate::{Engine, Settings, payload};

fn settings(ints: i64, entries: i64) -> Settings {
    Settings {
        set_max_intset_entries: ints,
        set_max_listpack_entries: entries,
        set_max_listpack_value: 20,
        ..Settings::default()
    }
}

#[test]
fn a_set_does_what_a_set_does() {
    for_seeds(16, |rng| {
        let settings = settings([0, 8, 1000][rng.below(3) as usize], [0, 12, 1000][rng.below(3) as usize]);
        let (mut set, mut twin) = (Set::default(), BTreeSet::<Vec<u8>>::new());
        for _ in 0..500 {
            let member = match rng.below(40) {
                0 => vec![b'm'; rng.below(40) as usize],
                1..4 => format!("m{}", rng.below(20)).into_bytes(),
                _ => rng.below(60).to_string().into_bytes(),
            };
            assert_eq!(set.contains(&member), twin.contains(&member));
            if twin.is_empty() {
                set = Set::default();
                set.prepare(&member, 1, &settings);
            }
            if rng.below(5) < 3 {
                assert_eq!(set.add(&member, &settings), twin.insert(member));
            } else {
                assert_eq!(set.remove(&member), twin.remove(&member));
            }
            let members: BTreeSet<Vec<u8>> = set.members().map(Cow::into_owned).collect();
            assert_eq!((set.len(), &members), (twin.len() as u64, &twin));
            assert!((0..set.len()).all(|place| twin.contains(&*set.get(place).expect("a member"))));
            if twin.is_empty() {
                continue;
            }
            let value = set.clone().into_value();
            let again = restore_value(&dump_value(&value), &payload::encodings(set.origin())).expect("own payload");
            assert_eq!((&again, payload::hash(&again, true)), (&value, payload::hash(&value, false)));
        }
    });
}

#[test]
fn encodings_change_where_redis_changes_them() {
    let of = |members: &[&str], settings: &Settings| {
        let mut set = Set::default();
        for (at, member) in members.iter().enumerate() {
            if at == 0 {
                set.prepare(member.as_bytes(), 1, settings);
            }
            set.add(member.as_bytes(), settings);
        }
        set.encoding()
    };
    let small = settings(3, 5);
    assert_eq!(of(&["1", "2", "3"], &small), "intset");
    // Too many numbers never become a listpack.
    assert_eq!(of(&["1", "2", "3", "4"], &small), "hashtable");
    assert_eq!(of(&["1", "2", "3", "a"], &small), "listpack");
    assert_eq!(of(&["a", "1", "2", "3", "4"], &small), "listpack");
    assert_eq!(of(&["a", "1", "2", "3", "4", "5"], &small), "hashtable");
    assert_eq!(of(&["1", "aaaaaaaaaaaaaaaaaaaaa"], &small), "hashtable");
    assert_eq!(of(&["1", "2", "a"], &settings(3, 2)), "hashtable");
    let narrow = Settings { set_max_listpack_value: 3, ..settings(3, 5) };
    assert_eq!(of(&["1000", "1", "a"], &narrow), "hashtable");
    assert_eq!(of(&["-100", "1", "a"], &narrow), "hashtable");
    assert_eq!(of(&["100", "1", "a"], &narrow), "listpack");
    let mut set = Set::default();
    set.prepare(b"1", 4, &small);
    assert_eq!(set.encoding(), "listpack");
    let mut set = Set::default();
    set.prepare(b"1", 6, &small);
    assert_eq!(set.encoding(), "hashtable");
}

fn bulks(reply: &Reply) -> Vec<Vec<u8>> {
    match reply {
        Reply::Array(items) | Reply::Set(items) => items.iter().flat_map(bulks).collect(),
        Reply::Bulk(text) => vec![text.to_vec()],
        other => panic!("{other:?}"),
    }
}

#[test]
fn sscan_gives_what_is_there_throughout() {
    for_seeds(6, |rng| {
        let mut engine = Engine::new(SEED);
        (0..1000).for_each(|n| drop(run(&mut engine, 1000, &format!("SADD s stays{n} goes{n}"))));
        let (mut seen, mut cursor, mut restored) = (BTreeSet::new(), b"0".to_vec(), false);
        loop {
            let words = format!("SSCAN s {} COUNT {}", String::from_utf8_lossy(&cursor), rng.below(40) + 1);
            let reply = bulks(&run(&mut engine, 1000, &words));
            cursor = reply[0].clone();
            seen.extend(reply[1..].iter().cloned());
            if cursor == b"0" {
                break;
            }
            let (one, other) = (rng.below(1000), rng.below(100_000));
            run(&mut engine, 1000, &format!("SREM s goes{one}"));
            run(&mut engine, 1000, &format!("SADD s new{other}"));
            if !restored {
                // Cursors mean the same on another replica.
                let file = engine.snapshot(vec![]).expect("none is running");
                engine = Engine::load(&mut &file[..], &mut |_| {}).expect("own snapshot").engine;
                restored = true;
            }
        }
        let missing = (0..1000).filter(|n| !seen.contains(format!("stays{n}").as_bytes())).count();
        assert_eq!(missing, 0);
    });
}

#[test]
fn spop_takes_every_member_as_often_as_any_other() {
    for members in ["a b c d e f g h i j", "1 2 3 4 5 6 7 8 9 10", &"x".repeat(70)] {
        let members = if members.contains(' ') { members.into() } else { format!("{members} a b c d e f g h i") };
        let mut engine = Engine::new(SEED);
        let mut counts = BTreeMap::<Vec<u8>, u64>::new();
        for round in 0..3000 {
            run(&mut engine, 1000 + round, &format!("SADD s {members}"));
            for popped in bulks(&run(&mut engine, 1000 + round, "SPOP s 3")) {
                *counts.entry(popped).or_default() += 1;
            }
            assert_eq!(run(&mut engine, 1000 + round, "SCARD s"), Reply::Int(7));
        }
        assert_eq!(counts.len(), 10);
        assert!(counts.values().all(|count| (780..1020).contains(count)), "{counts:?}");
    }
}
