//! What SCAN and RANDOMKEY promise.

use super::*;

#[test]
fn a_scan_sees_what_is_there_throughout_over_growth_shrink_and_restore() {
    for_seeds(12, |rng| {
        let mut keys = Keyspace::new([7, 8], 1);
        let name = |i: u64| format!("{}{i}", if i.is_multiple_of(3) { "{same}" } else { "" }).into_bytes();
        let stays: BTreeSet<_> = (0..150).map(name).collect();
        stays.iter().for_each(|key| keys.set(0, key, text(3), None));
        let (mut cursor, mut seen) = (0, BTreeSet::new());
        loop {
            let count = 1 + rng.below(15) as usize;
            cursor = keys.scan(0, cursor, count, &mut |key, _| {
                seen.insert(key.to_vec());
            });
            if cursor == 0 {
                break;
            }
            let (from, change) = (200 + rng.below(2000), rng.below(3));
            for i in from..from + rng.below(1000) {
                if change == 0 { keys.set(0, &name(i), text(1), None) } else { drop(keys.remove(0, &name(i))) }
            }
            if rng.below(4) == 0 {
                keys = rebuilt(&keys);
            }
        }
        assert!(stays.is_subset(&seen));
    });
}

#[test]
fn a_scan_of_few_keys_takes_few_calls() {
    let mut keys = Keyspace::new([7, 8], 2);
    (0..20).for_each(|i| keys.set(1, format!("k{i}").as_bytes(), text(1), None));
    assert_eq!(keys.scan(0, 0, 10, &mut |_, _| panic!("no keys")), 0);
    let next = keys.scan(1, 0, 10, &mut |_, _| {});
    assert_ne!(next, 0);
    let mut left = 0;
    let next = keys.scan(1, next, 100, &mut |_, _| left += 1);
    assert_eq!((left, next), (10, 0));
    // Any number may come from a client.
    for cursor in [u64::MAX, 1 << 62, u64::from(SLOTS) << 32] {
        assert_eq!(keys.scan(1, cursor, 1, &mut |_, _| panic!("behind the end")), 0);
    }
}

#[test]
fn a_slot_with_a_whole_dataset_splits_and_merges() {
    let mut keys = Keyspace::new([7, 8], 1);
    let name = |i: u64| format!("{{tag}}{i}").into_bytes();
    (0..100_000).for_each(|i| keys.set(0, &name(i), text(1), i.is_multiple_of(9).then_some(500 + i)));
    let order = scan_all(&keys, 0, 1000);
    assert_eq!(order.len(), 100_000);
    assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 100_000);
    assert!(order.is_sorted_by_key(|key| keys.place(key)), "across all leaves");
    assert_eq!(scan_all(&rebuilt(&keys), 0, 77), order);
    assert_eq!(keys.digest(), keys.digest_from_scratch());
    (0..99_900).for_each(|i| assert!(keys.delete(0, &name(i)), "{i}"));
    let left: Vec<_> = order.into_iter().filter(|key| keys.entry(0, key).is_some()).collect();
    assert_eq!((left.len(), scan_all(&keys, 0, 7)), (100, left));
    (0..100_000).for_each(|i| keys.set(0, &name(i), text(1), None));
    keys.clear(0);
    let mut turns = 0;
    while !keys.garbage.is_empty() {
        keys.collect_garbage(10_000);
        turns += 1;
    }
    assert!((8..60).contains(&turns), "{turns} turns");
}

#[test]
fn picks_are_uniform() {
    let mut keys = Keyspace::new([9, 9], 1);
    // One large slot beside many small ones.
    let names: Vec<_> = (0..400).map(|i| format!("{}{i}", if i < 150 { "{big}" } else { "" })).collect();
    names.iter().for_each(|key| keys.set(0, key.as_bytes(), text(1), None));
    let mut rng = Rng::new(1);
    let mut counts = BTreeMap::new();
    let picks = 80_000;
    for _ in 0..picks {
        *counts.entry(keys.random(0, &mut rng).expect("not empty").to_vec()).or_insert(0u32) += 1;
    }
    let expected = f64::from(picks) / 400.0;
    let chi_square: f64 = names.iter().map(|k| (f64::from(counts[k.as_bytes()]) - expected).powi(2) / expected).sum();
    // 399 degrees of freedom: mean 399, standard deviation 28.
    assert!(chi_square < 399.0 + 5.0 * 28.3, "chi square {chi_square}");
}

#[test]
fn a_pick_among_due_keys_finds_the_live_one() {
    let mut keys = Keyspace::new([9, 9], 1);
    (0..1000).for_each(|i| keys.set(0, format!("k{i}").as_bytes(), text(1), Some(10)));
    keys.set(0, b"alive", text(1), None);
    keys.advance(10);
    for seed in 0..20 {
        assert_eq!(keys.random(0, &mut Rng::new(seed)), Some(&b"alive"[..]));
    }
    keys.delete(0, b"alive");
    assert_eq!(keys.random(0, &mut Rng::new(1)), None);
}

#[test]
fn keys_with_the_same_hash_stay_together_and_in_order() {
    // Two keys of one slot whose hashes agree, made by hand: real ones are too rare to find.
    let mut keys = Keyspace::new([1, 1], 1);
    let entry = |key: &[u8], expire_at_ms| Entry {
        key: Key::new(key),
        value: text(1),
        expire_at_ms,
        version: 1,
        print: 0,
        hash: 77,
        next: 0,
        used: Keyspace::new([1, 1], 1).access.new_stamp(),
    };
    for (key, deadline) in [(&b"b"[..], 50), (b"c", 50), (b"a", 50), (b"d", 60), (b"e", NEVER)] {
        keys.databases[0].insert(9, entry(key, deadline));
    }
    let mut seen = Vec::new();
    assert_eq!(keys.scan(0, 0, 2, &mut |key, _| seen.push(key.to_vec())), (9 << 32) + 78);
    assert_eq!(seen, [b"a", b"b", b"c", b"d", b"e"], "never split");
    keys.advance(55);
    let left = |keys: &Keyspace| {
        let mut left = Vec::new();
        keys.databases[0].for_each(&mut |e| left.extend_from_slice(e.key.bytes()));
        left.sort_unstable();
        left
    };
    assert_eq!((keys.remove_due(1), left(&keys)), (1, b"bcde".to_vec()));
    assert_eq!((keys.remove_due(9), left(&keys)), (2, b"de".to_vec()));
    assert_eq!(keys.next_deadline(), Some(60));
}
