//! Parcels that nobody honest sends: they are refused, without a panic, and never become anybody's own.

use quoris_resp::{Argv, Reply};

use super::pair::{MIDDLE, Pair, must, numbers, propose};
use super::*;
use crate::entry::CommandMeta;
use crate::testing::for_seeds;
use crate::{Rng, codec};

const RANGE: Range = Range { first: 0, last: MIDDLE - 1 };

fn key() -> String {
    (0..).map(|n| format!("k{n}")).find(|key| slot(key.as_bytes()) < MIDDLE).expect("a key")
}

/// Commands that make a large value of each type.
fn commands() -> Vec<Vec<String>> {
    let words = |name: &str, elements: Vec<String>| [vec![name.to_string(), key()], elements].concat();
    let pad = "p".repeat(60);
    let many = |parts: fn(usize, &str) -> Vec<String>| (0..1500).flat_map(|n| parts(n, &pad)).collect::<Vec<_>>();
    let mut all = vec![
        words("SET", vec!["x".repeat(700_000)]),
        words("RPUSH", many(|n, pad| vec![format!("{n}{pad}")])),
        words("SADD", many(|n, pad| vec![format!("{n}{pad}")])),
        words("HSET", many(|n, pad| vec![n.to_string(), pad.to_string()])),
        words("ZADD", many(|n, pad| vec![n.to_string(), format!("{n}{pad}")])),
    ];
    all.push([words("XADD", vec!["7-7".into()]), many(|n, pad| vec![n.to_string(), pad.to_string()])].concat());
    all
}

/// The parcels of one key.
fn parcels_of(command: &[String], more: &[&str]) -> Vec<Vec<u8>> {
    let mut pair = Pair::new();
    let reply = pair.send(&(CommandMeta::default(), Argv::from_parts(command)));
    assert!(!reply.is_error(), "{reply:?}");
    more.iter().for_each(|words| drop(pair.run(words)));
    let picks = pair.engines[0].pick_next(&mut Walk::new(RANGE));
    let mut all = parcels(picks.small);
    for mut sending in picks.large {
        while let Some(parcel) = pair.engines[0].next_parcel(&mut sending) {
            all.push(parcel);
        }
    }
    all
}

fn streams() -> Vec<Vec<u8>> {
    let key = key();
    let more = [
        format!("XGROUP CREATE {key} g 0"),
        format!("XADD {key} IDMP producer message 9-9 a b"),
        format!("XREADGROUP GROUP g c STREAMS {key} >"),
        format!("XNACK {key} g FAIL IDS 1 7-7"),
        format!("XADD {key} 10-1 a {}", "b".repeat(70_000)),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    parcels_of(commands().last().expect("a stream"), &more)
}

fn damaged(rng: &mut Rng, parcels: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut all = parcels.to_vec();
    for _ in 0..1 + rng.below(3) {
        let at = rng.below(all.len() as u64) as usize;
        let len = all[at].len().max(1) as u64;
        match rng.below(7) {
            0 => all[at].truncate(rng.below(len) as usize),
            1 => drop(all.remove(at)),
            2 => all.insert(rng.below(at as u64 + 1) as usize, all[at].clone()),
            3 => all.swap(at, 0),
            4 => all[at].extend_from_slice(&rng.next_u64().to_le_bytes()),
            // Mostly near the front, where lengths, kinds and counts are.
            5 => {
                let place = rng.below(len.min(100)) as usize;
                all[at].get_mut(place).into_iter().for_each(|byte| *byte = rng.next_u64() as u8);
            }
            _ => {
                let place = rng.below(len) as usize;
                all[at].get_mut(place).into_iter().for_each(|byte| *byte ^= 1 << rng.below(8));
            }
        }
        if all.is_empty() {
            all.push(vec![]);
        }
    }
    all
}

#[test]
fn damaged_parcels_never_panic_and_never_become_owned() {
    let sets: Vec<Vec<Vec<u8>>> = commands().iter().map(|c| parcels_of(c, &[])).chain([streams()]).collect();
    for_seeds(12, |rng| {
        for parcels in &sets {
            for _ in 0..6 {
                let mut pair = Pair::new();
                pair.attempt = 5;
                must(&mut pair.engines[1], 1, step("TAKE", &numbers(5, RANGE)));
                let owned = pair.keys();
                let damaged = damaged(rng, parcels);
                for (number, parcel) in damaged.iter().enumerate() {
                    propose(&mut pair.engines[1], 1, load(5, number as u64, parcel));
                }
                pair.restore(1);
                // A seal with a digest that the source never gave.
                let versions = "A".repeat(2 * usize::from(MIDDLE));
                let seal = ["QUORIS.MOVE", "SEAL", "5", "1", "1", "1", &versions, ""];
                assert!(propose(&mut pair.engines[1], 1, Argv::from_parts(&seal)).is_error());
                assert!(propose(&mut pair.engines[1], 1, step("OWN", &numbers(5, RANGE))).is_error());
                propose(&mut pair.engines[1], 1, step("FORGET", &[5]));
                assert_eq!(pair.keys(), owned);
            }
        }
    });
}

fn take() -> Pair {
    let mut pair = Pair::new();
    must(&mut pair.engines[1], 1, step("TAKE", &numbers(5, RANGE)));
    pair
}

fn is_refused(parcels: &[Vec<u8>]) -> bool {
    let mut pair = take();
    let replies: Vec<Reply> =
        (0..).zip(parcels).map(|(number, parcel)| propose(&mut pair.engines[1], 1, load(5, number, parcel))).collect();
    replies.iter().any(Reply::is_error)
}

/// A parcel with a part, as it stands on the wire.
fn part(kind: u8, flags: u8, units: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0xf2, flags];
    if flags & 2 > 0 {
        let origin = if kind == 6 {
            1u8
        } else if kind < 2 {
            0
        } else {
            2
        };
        codec::put(&(0u32, key().into_bytes(), kind, origin, None::<u64>, 1u64), &mut out);
    }
    for unit in units {
        assert!(unit.len() < 0x80, "one byte of length");
        out.push(unit.len() as u8);
        out.extend_from_slice(unit);
    }
    out
}

fn sorted_item(score: f64, member: &[u8]) -> Vec<u8> {
    let bits = score.to_bits();
    let order = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    [&order.to_be_bytes(), member].concat()
}

fn set_item(member: &[u8]) -> Vec<u8> {
    let hash = (xxhash_rust::xxh3::xxh3_64(member) >> 32) as u32;
    [&hash.to_be_bytes(), member].concat()
}

fn hash_item(field: &[u8], value: &[u8]) -> Vec<u8> {
    let hash = (xxhash_rust::xxh3::xxh3_64(field) >> 32) as u32;
    [&hash.to_be_bytes(), &[field.len() as u8][..], field, value].concat()
}

#[test]
fn units_that_make_no_value_are_refused() {
    let (whole, begun) = (1 | 2 | 4, 1 | 2);
    let counts = |fields: u64, times: u64| codec::bytes(&(fields, times));
    let deadline = |field: &[u8], at: u64| hash_item(field, &at.to_be_bytes());
    // What is right is taken.
    for (kind, units) in [
        (1, vec![b"text".to_vec()]),
        (2, vec![b"a".to_vec(), b"a".to_vec()]),
        (3, vec![set_item(b"m")]),
        (4, vec![counts(1, 1), hash_item(b"f", b"v"), deadline(b"f", 7)]),
        (5, vec![sorted_item(1.0, b"b"), sorted_item(2.0, b"a")]),
    ] {
        let units: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
        assert!(!is_refused(&[part(kind, whole, &units)]), "kind {kind}");
    }
    let nan = sorted_item(f64::NAN, b"m");
    let minus_zero = [&(!(-0.0f64).to_bits()).to_be_bytes()[..], b"m"].concat();
    for (kind, units) in [
        // Nothing, too much, no such kind.
        (0, vec![b"no payload".to_vec()]),
        (1, vec![]),
        (1, vec![b"one".to_vec(), b"two".to_vec()]),
        (2, vec![]),
        (7, vec![b"what".to_vec()]),
        // A member twice, out of order, under another hash, without one.
        (3, vec![set_item(b"m"), set_item(b"m")]),
        (3, vec![[0; 4].to_vec()]),
        (3, vec![b"mmmmm".to_vec()]),
        (3, vec![b"m".to_vec()]),
        // Fewer fields than announced, more of them, a field twice, a deadline of none, twice, never.
        (4, vec![counts(2, 0), hash_item(b"f", b"v")]),
        (4, vec![counts(1, 0), hash_item(b"f", b"v"), hash_item(b"g", b"v")]),
        (4, vec![counts(2, 0), hash_item(b"f", b"1"), hash_item(b"f", b"2")]),
        (4, vec![counts(u64::MAX, u64::MAX), hash_item(b"f", b"v")]),
        (4, vec![counts(1, 1), hash_item(b"f", b"v"), deadline(b"g", 7)]),
        (4, vec![counts(1, 2), hash_item(b"f", b"v"), deadline(b"f", 7), deadline(b"f", 8)]),
        (4, vec![counts(1, 1), hash_item(b"f", b"v"), deadline(b"f", 0)]),
        (4, vec![counts(1, 1), hash_item(b"f", b"v"), deadline(b"f", u64::MAX)]),
        (4, vec![counts(0, 0)]),
        (4, vec![b"head".to_vec()]),
        // A member twice, out of order, no score, none at all.
        (5, vec![sorted_item(1.0, b"m"), sorted_item(2.0, b"m")]),
        (5, vec![sorted_item(2.0, b"m"), sorted_item(1.0, b"n")]),
        (5, vec![nan]),
        (5, vec![minus_zero]),
        (5, vec![b"m".to_vec()]),
        (6, vec![b"head".to_vec()]),
        (6, vec![]),
    ] {
        let list: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
        assert!(is_refused(&[part(kind, whole, &list)]), "kind {kind}: {units:?}");
    }
    // Parts of nothing, flags that mean nothing, a value of another database or slot.
    for parcel in [part(2, 1, &[b"a"]), part(2, 1 | 4, &[]), vec![0xf2, 2], vec![0xf2, 8], vec![0xf2], vec![]] {
        assert!(is_refused(&[parcel]));
    }
    assert!(is_refused(&[part(1, whole, &[b"text"]), part(1, 1, &[b"more"])]), "behind its end");
    assert!(is_refused(&[part(2, begun, &[b"a"]), part(1, 1 | 4, &[&[0; 9]]), part(1, 1 | 4, &[b"b"])]), "twice");
}

#[test]
fn heads_of_streams_are_not_believed() {
    type Head = (u64, [u8; 16], [u8; 16], u64, u64, Option<(u64, u64, u64, u64, u64)>);
    let last = |n: u8| [0, 0, 0, 0, 0, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, 0];
    let head = |head: Head| codec::bytes(&head);
    let group = |name: &str, consumers: u64, released: u64, next: u64| {
        codec::bytes(&(name.as_bytes().to_vec(), last(1), 0i64, consumers, released, next))
    };
    let consumer =
        |name: &str, seen: u64, pending: u64| codec::bytes(&(name.as_bytes().to_vec(), seen, None::<u64>, pending));
    let pending = |n: u8, time: u64| codec::bytes(&(last(n), time, 1u64));
    let entry = |n: u8, rest: &[u8]| [&last(n)[..], rest].concat();
    let fields = b"\x01f\x01v";
    let streams = |units: Vec<Vec<u8>>| {
        let units: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
        is_refused(&[part(6, 7, &units)])
    };
    assert!(!streams(vec![head((0, last(0), last(0), 0, 0, None))]));
    assert!(!streams(vec![head((1, last(1), last(0), 1, 0, None)), entry(1, fields)]));
    assert!(!streams(vec![
        head((0, last(9), last(0), 0, 1, Some((10, 10, 0, 0, 0)))),
        group("g", 1, 1, 5),
        consumer("c", 3, 1),
        pending(1, 3),
        pending(2, 4),
    ]));
    for units in [
        vec![head((1, last(1), last(0), 1, 0, None))],
        vec![head((0, last(0), last(0), 0, 0, None)), entry(1, fields)],
        vec![head((1, last(0), last(0), 1, 0, None)), entry(1, fields)],
        vec![head((1, last(1), last(0), 1, 0, None)), entry(0, fields)],
        vec![head((1, last(1), last(0), 1, 0, None)), entry(1, b"\x01f")],
        vec![head((1, last(1), last(0), 1, 0, None)), entry(1, b"\x05f\x01v")],
        vec![head((1, last(1), last(0), 1, 0, None)), entry(1, b"\xff\xff\xff\xff\xff\xff\xff")],
        vec![head((1, last(1), last(0), 1, 0, None)), entry(1, b"\x81\x00f\x01v")],
        vec![head((2, last(1), last(0), 1, 0, None)), entry(1, fields), entry(1, fields)],
        vec![head((0, last(1), last(0), 0, 1, None))],
        vec![head((0, last(1), last(0), 0, 2, None)), group("g", 0, 0, 0), group("g", 0, 0, 0)],
        vec![head((0, last(1), last(0), 0, 1, None)), group("g", u64::MAX, 0, 0), consumer("c", 1, 0)],
        vec![head((0, last(1), last(0), 0, 1, None)), group("g", 1, 0, 0), consumer("c", u64::MAX, 0)],
        vec![head((0, last(1), last(0), 0, 1, None)), group("g", 2, 0, 0), consumer("c", 1, 0), consumer("c", 1, 0)],
        vec![head((0, last(1), last(0), 0, 1, None)), group("g", 1, 0, 0), consumer("c", 1, u64::MAX), pending(1, 1)],
        vec![
            head((0, last(1), last(0), 0, 1, None)),
            group("g", 1, 0, 0),
            consumer("c", 1, 2),
            pending(1, 1),
            pending(1, 1),
        ],
        vec![head((0, last(1), last(0), 0, 1, None)), group("g", 0, 1, 5), pending(1, 5)],
        vec![head((0, last(1), last(0), 0, 1, None)), group("g", 0, 1, u64::MAX), pending(1, 5)],
        vec![head((0, last(1), last(0), 0, 0, Some((u64::MAX, 10, 0, 0, 0))))],
        vec![head((0, last(1), last(0), 0, 0, Some((10, 10, 0, 0, 1))))],
        vec![head((0, last(1), last(0), 0, 0, Some((10, 10, 0, 0, 1)))), vec![0xff; 40]],
    ] {
        assert!(streams(units.clone()), "{units:?}");
    }
}
