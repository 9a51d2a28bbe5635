//! The structure beside a naive twin, loading, scanning, picking.

use std::collections::BTreeMap;

use super::range::{LexRange, ScoreRange};
use super::value::{Scored, SortedSet, order_of};
use crate::rdb::{RdbError, dump_value, restore_value, write};
use crate::testing::{SEED, for_seeds, run};
use crate::types::collection::{Collection, Typed};
use crate::{Engine, Rng, Settings, Value};
use quoris_resp::Reply;

/// Members with their scores, in no order of scores.
type Twin = BTreeMap<Vec<u8>, f64>;

fn in_order(twin: &Twin) -> Vec<(f64, &[u8])> {
    let mut all: Vec<_> = twin.iter().map(|(member, score)| (*score, member.as_slice())).collect();
    all.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    all
}

fn random_score(rng: &mut Rng) -> f64 {
    match rng.below(12) {
        0 => [f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX, f64::MIN_POSITIVE][rng.below(5) as usize],
        1..4 => f64::from_bits(rng.next_u64() & !(1 << 62)),
        _ => rng.below(20) as f64 - 10.0,
    }
}

fn check(set: &SortedSet, twin: &Twin, rng: &mut Rng) {
    let wanted = in_order(twin);
    let all: Vec<_> = set.iter_from(0).map(|one| (one.score, one.member)).collect();
    assert_eq!(all, wanted);
    assert!(all.iter().all(|(score, _)| *score != 0.0 || score.is_sign_positive()));
    let mut back: Vec<_> = set.iter_back_from(set.len()).map(|one| (one.score, one.member)).collect();
    back.reverse();
    assert_eq!(back, wanted);
    let (min, max) = (random_score(rng), random_score(rng));
    let range = ScoreRange::parse(format!("{min:e}").as_bytes(), format!("({max:e}").as_bytes()).expect("numbers");
    let inside = wanted.iter().filter(|(score, _)| *score >= min && *score < max).count() as u64;
    let span = range.span(set);
    assert_eq!(span.end - span.start, inside, "{min} {max}");
    for (rank, (score, member)) in wanted.iter().enumerate().step_by(7) {
        assert_eq!(set.rank(member), Some((rank as u64, *score)));
        assert_eq!(set.at(rank as u64), Some(Scored { score: *score, member }));
        assert_eq!(set.count_below(order_of(*score)), wanted.iter().filter(|(other, _)| other < score).count() as u64);
    }
    assert_eq!((set.at(set.len()), set.score(b"nosuch"), set.rank(b"nosuch")), (None, None, None));
    assert_eq!(set.hash(false), set.hash(true));
}

#[test]
fn a_set_is_as_its_naive_twin() {
    for_seeds(if cfg!(miri) { 1 } else { 12 }, |rng| {
        let settings = Settings { zset_max_listpack_entries: rng.below(80) as i64, ..Settings::default() };
        let (mut set, mut twin) = (SortedSet::default(), Twin::new());
        for step in 0..if cfg!(miri) { 60 } else { 1500 } {
            let member = match rng.below(30) {
                0 => vec![b'x'; rng.below(200) as usize],
                _ => format!("m{}", rng.below(300)).into_bytes(),
            };
            match rng.below(12) {
                0..7 => {
                    let score = random_score(rng);
                    set.put(&member, score, &settings);
                    twin.insert(member, score + 0.0);
                }
                7..11 => assert_eq!(set.remove(&member), twin.remove(&member).is_some()),
                _ if set.len() > 0 && rng.below(4) == 0 => {
                    let begin = rng.below(set.len());
                    let span = begin..begin + rng.below(set.len() - begin + 1).min(20);
                    let gone: Vec<Vec<u8>> = in_order(&twin)[span.start as usize..span.end as usize]
                        .iter()
                        .map(|(_, m)| m.to_vec())
                        .collect();
                    twin.retain(|member, _| !gone.contains(member));
                    set.remove_span(&span);
                }
                _ => {}
            }
            assert!(set.is_small() || set.len() > 0 || twin.is_empty());
            if step % 25 == 0 {
                check(&set, &twin, rng);
            }
        }
    });
}

/// A set of numbered members, large when there are more than 128.
fn numbered(count: u64) -> SortedSet {
    let mut set = SortedSet::default();
    (0..count).for_each(|n| set.put(format!("m{n}").as_bytes(), n as f64 / 3.0, &Settings::default()));
    set
}

#[test]
fn equal_elements_are_equal_values_whatever_their_history_was() {
    let one = numbered(1000);
    let mut other = numbered(2000);
    (1000..2000).rev().for_each(|n| assert!(other.remove(format!("m{n}").as_bytes())));
    let elements: Vec<_> = one.iter_from(0).collect();
    let third = SortedSet::fitting(&elements, &Settings::default());
    for same in [&other, &third] {
        assert_eq!((&one, one.hash(true), one.bytes()), (same, same.hash(true), same.bytes()));
    }
    let mut small = one.clone();
    assert!(small.restore_origin(1) && small != one);
}

#[test]
fn origins_change_the_kind_and_nothing_else() {
    for count in [1, 100, 300] {
        let set = numbered(count);
        let mut other = set.clone();
        assert!(other.restore_origin(3 - set.origin()));
        assert_ne!(other.encoding(), set.encoding());
        assert_eq!(other.score(b"m0"), Some(0.0));
        assert!(other.restore_origin(set.origin()) && !other.restore_origin(0) && !other.restore_origin(3));
        assert_eq!((&other, other.hash(true)), (&set, set.hash(true)));
    }
}

#[test]
fn ranges_of_members_go_by_bytes() {
    for count in [20, 300] {
        let mut set = SortedSet::default();
        (0..count).for_each(|n| set.put(format!("m{n:03}").as_bytes(), 1.0, &Settings::default()));
        for (min, max, span) in [
            ("-", "+", 0..count),
            ("[m003", "(m007", 3..7),
            ("(m003", "[m007", 4..8),
            ("[m0035", "+", 4..count),
            ("-", "(m", 0..0),
            ("[n", "+", count..count),
        ] {
            let range = LexRange::parse(min.as_bytes(), max.as_bytes()).expect("bounds");
            for found in [range.span(&set, false), range.span(&set, true)] {
                assert!(found == span || found.is_empty() && span.is_empty(), "{min} {max}: {found:?}");
            }
        }
    }
}

#[test]
fn scanning_gives_all_that_stays() {
    for_seeds(4, |rng| {
        let settings = Settings::default();
        let mut set = numbered(700);
        let (mut seen, mut cursor, mut pages) = (std::collections::BTreeSet::new(), 0, 0);
        loop {
            cursor = set.scan(cursor, 10, &mut |one| seen.extend([one.member.to_vec()]));
            pages += 1;
            if cursor == 0 {
                break;
            }
            // What is odd comes, goes and moves meanwhile.
            for _ in 0..40 {
                let member = format!("m{}", rng.below(800) | 1);
                if rng.below(2) == 0 {
                    set.put(member.as_bytes(), rng.below(1000) as f64, &settings);
                } else {
                    set.remove(member.as_bytes());
                }
            }
        }
        assert!((40..200).contains(&pages), "{pages}");
        for n in (0..700).step_by(2) {
            assert!(seen.contains(format!("m{n}").as_bytes()), "m{n}");
        }
        let mut none = 0;
        assert_eq!(set.scan(u64::MAX, 10, &mut |_| none += 1), 0);
        assert_eq!(none, 0);
        let mut all = 0;
        assert_eq!(set.scan(0, usize::MAX, &mut |_| all += 1), 0);
        assert_eq!(all, set.len());
    });
}

#[test]
fn random_members_are_equally_likely() {
    let mut engine = Engine::new(SEED);
    let pairs = |count: u64| (0..count).map(|n| format!(" {n} {n}")).collect::<String>();
    run(&mut engine, 1, &format!("ZADD small{}", pairs(20)));
    run(&mut engine, 1, &format!("ZADD large{}", pairs(200)));
    for (key, size) in [("small", 20), ("large", 200)] {
        for count in [3, 15, -15] {
            let mut counts = vec![0u64; size];
            let rounds = 6000 / 15;
            for round in 0..rounds {
                // Each entry has its own seed.
                let Reply::Array(members) = run(&mut engine, 2 + round, &format!("ZRANDMEMBER {key} {count}")) else {
                    panic!("a list")
                };
                assert_eq!(members.len() as i64, i64::abs(count));
                for member in members {
                    let Reply::Bulk(text) = member else { panic!("a member") };
                    counts[String::from_utf8_lossy(&text).parse::<usize>().expect("a number")] += 1;
                }
            }
            // Chi-squared; its mean is the degrees of freedom, and twice that plus 40 is far out.
            let expected = (rounds * count.unsigned_abs()) as f64 / size as f64;
            let chi: f64 = counts.iter().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
            assert!(chi < 2.0 * size as f64 + 40.0, "{key} {count}: {chi}");
        }
    }
}

fn restored(kind: u8, body: &[u8]) -> Result<Value, RdbError> {
    let mut payload = vec![kind];
    payload.extend_from_slice(body);
    payload.extend_from_slice(&10u16.to_le_bytes());
    let sum = crate::rdb::crc64(&payload);
    payload.extend_from_slice(&sum.to_le_bytes());
    restore_value(&payload, &Settings::default())
}

fn elements(value: &Value) -> Vec<(String, f64)> {
    let set = SortedSet::of(value).expect("a sorted set");
    set.iter_from(0).map(|one| (String::from_utf8_lossy(one.member).into_owned(), one.score)).collect()
}

#[test]
fn every_form_of_rdb_is_read() {
    let wanted = [("a".to_string(), -1.5), ("b".into(), 3.0), ("c".into(), f64::INFINITY)];
    let text = restored(3, b"\x03\x01c\xfe\x01b\x013\x01a\x04-1.5").expect("scores as text");
    assert_eq!(elements(&text), wanted);
    let mut binary = vec![3];
    for (member, score) in &wanted {
        write::string(member.as_bytes(), &mut binary);
        binary.extend_from_slice(&score.to_le_bytes());
    }
    assert_eq!(elements(&restored(5, &binary).expect("scores as bytes")), wanted);
    let mut pack = crate::rdb::packed::ListpackWriter::new();
    ["a", "-1.5", "b", "3", "c", "inf"].iter().for_each(|text| pack.push(text.as_bytes()));
    let mut packed = Vec::new();
    write::string(&pack.finish(), &mut packed);
    let packed = restored(17, &packed).expect("a listpack");
    assert_eq!((elements(&packed), packed.encoding()), (wanted.to_vec(), "listpack"));
}

#[test]
fn damaged_forms_are_refused() {
    let nan = [&b"\x01\x01a"[..], &f64::NAN.to_le_bytes()].concat();
    let one = 1f64.to_le_bytes();
    let twice = [&b"\x02\x01a"[..], &one, b"\x01a", &2f64.to_le_bytes()].concat();
    for (kind, body) in
        [(3, &b"\x01\x01a\xfd"[..]), (3, b"\x01\x01a\x01x"), (3, b"\x00"), (5, &nan), (5, &twice), (5, b"\x01\x01a\0")]
    {
        assert!(matches!(restored(kind, body), Err(RdbError::Malformed { .. })), "{kind} {body:?}");
    }
    let odd = {
        let mut pack = crate::rdb::packed::ListpackWriter::new();
        pack.push(b"a");
        let mut body = Vec::new();
        write::string(&pack.finish(), &mut body);
        body
    };
    assert!(matches!(restored(17, &odd), Err(RdbError::Malformed { .. })));
}

#[test]
fn a_set_is_written_in_parts_as_in_one() {
    for count in [1, 100, 5000] {
        let set = numbered(count);
        let mut whole = Vec::new();
        set.write_head(&mut whole);
        assert_eq!(set.write_part(0, usize::MAX, &mut whole), None);
        let (mut parts, mut from) = (Vec::new(), Some(0));
        set.write_head(&mut parts);
        while let Some(at) = from {
            let end = parts.len() + 100;
            from = set.write_part(at, end, &mut parts);
        }
        assert_eq!(parts, whole);
        let value = set.into_value();
        assert_eq!(restore_value(&dump_value(&value), &Settings::default()).expect("own payload"), value);
    }
}
