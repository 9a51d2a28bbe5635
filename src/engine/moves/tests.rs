//! Two groups as their logs make them: keys, versions and sessions go from one to the other, and back.

mod hostile;
mod large;
mod pair;
mod steps;

use quoris_resp::Reply;

use super::*;
use crate::entry::{CommandMeta, Watch};
use crate::testing::{SEED, apply, command, exec, for_seeds, run, stamped};
use crate::{Rng, slot};
use pair::{MIDDLE, Pair, dropped, must, numbers, propose, summed};

fn range_of(key: &str) -> Range {
    Range { first: slot(key.as_bytes()), last: slot(key.as_bytes()) }
}

#[test]
fn ranges_join_and_part() {
    let range = |first, last| Range { first, last };
    assert_eq!(with_range(&[(0, 9), (20, 29)], range(10, 19)), [(0, 29)]);
    assert_eq!(with_range(&[(5, 9)], range(0, 3)), [(0, 3), (5, 9)]);
    assert_eq!(without_range(&[(0, 29)], range(10, 19)), [(0, 9), (20, 29)]);
    assert_eq!(without_range(&[(0, 9)], range(0, 9)), []);
    assert_eq!(without_range(&[(0, SLOTS - 1)], range(0, 0)), [(1, SLOTS - 1)]);
    assert_eq!(without_range(&[(0, SLOTS - 1)], range(SLOTS - 1, SLOTS - 1)), [(0, SLOTS - 2)]);
}

#[test]
fn a_group_that_never_moved_a_slot_asks_for_none() {
    let mut engine = Engine::new(SEED).owning(&[(0, 0)]);
    assert_eq!(run(&mut engine, 1, "SET far away"), Reply::Ok);
    assert!(!engine.keyspace().is_guarded());
    must(&mut engine, 1, step("THAW", &[0]));
    assert_eq!(run(&mut engine, 1, "SET far away"), Reply::Elsewhere);
    assert_eq!(run(&mut engine, 1, "DBSIZE"), Reply::Int(1));
}

#[test]
fn only_one_of_both_serves_a_slot_at_any_step() {
    let mut pair = Pair::new();
    let key = low_key();
    let (from, range) = (0, range_of(&key));
    let incr = command(&format!("INCR {key}"));
    let get = command(&format!("GET {key}")).1;
    let row = crate::command::lookup(&get).expect("GET").command;
    let served = |pair: &Pair| pair.engines.each_ref().map(|engine| engine.keyspace().serves_command(row, &get));
    assert_eq!(pair.send(&incr), Reply::Int(1));
    let number = pair.copy(from, range);
    assert_eq!(pair.send(&incr), Reply::Int(2));
    let number = pair.follow(from, number);
    assert_eq!((pair.send(&incr), served(&pair)), (Reply::Int(3), [true, false]));
    pair.freeze_and_seal(from, range, number);
    assert_eq!(served(&pair), [false, false]);
    for engine in &mut pair.engines {
        assert_eq!(apply(engine, 1, std::slice::from_ref(&incr)), [Reply::Elsewhere]);
    }
    assert_eq!(run(&mut pair.engines[from], 1, "DBSIZE"), Reply::Elsewhere, "it may be about any key");
    pair.switch(from, range);
    assert_eq!((pair.send(&incr), served(&pair)), (Reply::Int(4), [false, true]));
}

#[test]
fn what_was_frozen_thaws_for_a_later_attempt_alone() {
    let mut pair = Pair::new();
    let (from, range) = (0, Range { first: 0, last: MIDDLE - 1 });
    let number = pair.copy(from, range);
    pair.freeze_and_seal(from, range, number);
    let first = pair.attempt;
    must(&mut pair.engines[from], 1, step("THAW", &[first]));
    assert!(pair.engines[from].frozen().is_some(), "its own attempt may have been decided");
    must(&mut pair.engines[from], 1, step("THAW", &[first + 1]));
    assert!(pair.engines[from].frozen().is_none());
    for late in [step("FREEZE", &numbers(first, range)), dropped(first, range)] {
        assert!(propose(&mut pair.engines[from], 1, late).is_error());
    }
    pair.attempt = first + 1;
    pair.move_all_at_once(from, range);
    for late in [step("TAKE", &numbers(first, range)), load(first, 0, &[])] {
        assert!(propose(&mut pair.engines[1], 1, late).is_error());
    }
}

#[test]
fn a_repeated_command_is_known_to_the_new_owner() {
    let mut pair = Pair::new();
    let key = low_key();
    let incr = |sequence| stamped(5, sequence, 1_000_000, &format!("INCR {key}"));
    assert_eq!(pair.send(&incr(1)), Reply::Int(1));
    let (from, range) = (0, range_of(&key));
    let number = pair.copy(from, range);
    assert_eq!(pair.send(&incr(2)), Reply::Int(2));
    pair.freeze_and_seal(from, range, number);
    // Known, and known not to be: the answer of a frozen slot.
    assert_eq!(apply(&mut pair.engines[from], 1, &[incr(2), incr(3)]), [Reply::Int(2), Reply::Elsewhere]);
    pair.switch(from, range);
    let to = &mut pair.engines[1];
    assert_eq!(apply(to, 1_000_000, &[incr(1), incr(2), incr(3)]), [1, 2, 3].map(Reply::Int));
    assert_eq!(apply(to, 1_000_000, &[incr(3)]), [Reply::Int(3)]);
    assert_eq!(apply(&mut pair.engines[from], 1_000_000, &[incr(2), incr(4)]), [Reply::Int(2), Reply::Elsewhere]);
}

#[test]
fn what_the_old_owner_forgot_is_not_new_to_the_new_one() {
    let mut pair = Pair::new();
    let key = low_key();
    let incr = stamped(5, 1, 1_000_000, &format!("INCR {key}"));
    let ttl_ms = 601_000;
    assert_eq!(apply(&mut pair.engines[0], 1_000_000, std::slice::from_ref(&incr)), [Reply::Int(1)]);
    // The target knows the session and would take its word.
    let other = (0..).map(|n| format!("k{n}")).find(|key| slot(key.as_bytes()) >= MIDDLE).expect("a key");
    pair.clock_ms += ttl_ms * 2;
    apply(&mut pair.engines[1], pair.clock_ms, &[stamped(5, 2, pair.clock_ms, &format!("INCR {other}"))]);
    pair.move_all_at_once(0, range_of(&key));
    let reply = apply(&mut pair.engines[1], pair.clock_ms, &[incr]).remove(0);
    assert!(matches!(&reply, Reply::Error(text) if text.starts_with(b"UNKNOWN")), "{reply:?}");
}

#[test]
fn watches_see_changes_on_both_sides() {
    let mut pair = Pair::new();
    let key = low_key();
    pair.run(&format!("SET {key} 1"));
    let version = pair.engines[0].keyspace().version(0, key.as_bytes());
    let watch = || vec![Watch { database: 0, key: key.clone().into_bytes(), version }];
    pair.move_all_at_once(0, range_of(&key));
    assert_eq!(pair.engines[1].keyspace().version(0, key.as_bytes()), version);
    let set = format!("SET {key} 2");
    assert_eq!(pair.send(&exec(watch(), &[&set])), Reply::Array(vec![Reply::Ok]));
    assert_eq!(pair.send(&exec(watch(), &[&set])), Reply::NullArray);
}

#[test]
fn what_a_transaction_publishes_goes_along_wherever_its_channel_is() {
    let mut pair = Pair::new();
    let key = low_key();
    let channel = (0..).map(|n| format!("c{n}")).find(|name| slot(name.as_bytes()) >= MIDDLE).expect("a channel");
    let commands = [format!("INCR {key}"), format!("PUBLISH {channel} text")];
    let both = exec(vec![], &commands.each_ref().map(String::as_str));
    assert_eq!(pair.send(&both), Reply::Array(vec![Reply::Int(1), Reply::Int(0)]));
    assert_eq!(pair.engines[0].outbox().iter().count(), 1);
    pair.move_all_at_once(0, range_of(&key));
    assert_eq!(pair.send(&both), Reply::Array(vec![Reply::Int(2), Reply::Int(0)]));
    assert_eq!(pair.engines[1].take_events().len(), 1);
}

#[test]
fn deadlines_pass_by_the_later_clock_and_end_once() {
    let mut pair = Pair::new();
    let mut keys = (0..).map(|n| format!("k{n}")).filter(|key| slot(key.as_bytes()) < MIDDLE);
    let [short, long] = [keys.next().expect("a key"), keys.next().expect("a key")];
    pair.run(&format!("SET {short} v PX 100"));
    pair.run(&format!("SET {long} v PX 5000"));
    let (from, range) = (0, Range { first: 0, last: MIDDLE - 1 });
    let number = pair.copy(from, range);
    // The source's clock is ahead.
    pair.clock_ms += 1000;
    apply(&mut pair.engines[from], pair.clock_ms, &[]);
    assert_eq!(pair.engines[from].stats().expired, 1);
    let number = pair.follow(from, number);
    must(&mut pair.engines[from], pair.clock_ms, step("FREEZE", &numbers(pair.attempt, range)));
    apply(&mut pair.engines[from], pair.clock_ms + 10_000, &[]);
    assert_eq!(pair.engines[from].stats().expired, 1, "what is frozen stays");
    pair.follow(from, number);
    let sum = summed(&pair.engines[from]);
    let seal = pair.engines[from].seal_of(pair.attempt, 1, &sum).expect("it is frozen");
    must(&mut pair.engines[1], 1_000_000, seal);
    pair.switch(from, range);
    assert_eq!(pair.engines[1].clock_ms(), pair.clock_ms + 10_000);
    assert_eq!(pair.run(&format!("EXISTS {long}")), Reply::Int(0));
    assert_eq!(pair.engines.each_ref().map(|engine| engine.stats().expired), [1, 1]);
}

#[test]
fn what_did_not_come_as_a_whole_is_not_owned() {
    let mut pair = Pair::new();
    let (from, range) = (0, Range { first: 0, last: MIDDLE - 1 });
    let tag = low_key();
    (0..50).for_each(|n| drop(pair.run(&format!("SET {{{tag}}}{n} v"))));
    pair.copy(from, range);
    run(&mut pair.engines[from], 1, &format!("SET {{{tag}}}1 changed"));
    must(&mut pair.engines[from], 1, step("FREEZE", &numbers(pair.attempt, range)));
    let sum = summed(&pair.engines[from]);
    let seal = pair.engines[from].seal_of(pair.attempt, 1, &sum).expect("it is frozen");
    assert!(propose(&mut pair.engines[1], 1, seal).is_error());
    assert!(propose(&mut pair.engines[1], 1, step("OWN", &numbers(pair.attempt, range))).is_error());
    assert!(propose(&mut pair.engines[1], 1, load(pair.attempt, 99, &[])).is_error(), "a gap");
}

#[test]
fn a_value_longer_than_a_parcel_comes_in_pieces() {
    let mut pair = Pair::new();
    let key = low_key();
    let text = "x".repeat(20 << 20);
    pair.run(&format!("SET {key} {text}"));
    let before = pair.keys();
    pair.move_all_at_once(0, range_of(&key));
    assert_eq!(pair.keys(), before);
    assert_eq!(pair.run(&format!("STRLEN {key}")), Reply::Int(20 << 20));
}

/// A key of the first half.
fn low_key() -> String {
    (0..).map(|n| format!("k{n}")).find(|key| slot(key.as_bytes()) < MIDDLE).expect("a key")
}

/// Words of all types, with deadlines and transactions, where they belong.
fn random_write(rng: &mut Rng, pair: &mut Pair) {
    let (mut clock_ms, mut sequence) = (pair.clock_ms, 0);
    let entry = crate::testing::random_entry(rng, &mut clock_ms, &mut sequence);
    let mut reader = crate::entry::EntryReader::new(&entry).expect("own format");
    while let Some(logged) = reader.next_command().expect("own format") {
        let name = logged.argv[0].to_ascii_uppercase();
        let whole = matches!(&name[..], b"FLUSHALL" | b"SWAPDB");
        if logged.meta.transaction || whole || logged.meta.database > 2 {
            continue;
        }
        let meta = CommandMeta { session: None, ..logged.meta };
        for engine in &mut pair.engines {
            apply(engine, clock_ms, &[(meta, logged.argv.clone())]);
        }
    }
    pair.clock_ms = clock_ms;
}

#[test]
fn slots_go_back_and_forth_and_nothing_is_lost_or_doubled() {
    for_seeds(12, |rng| {
        let mut pair = Pair::new();
        let (low, high) = (Range { first: 0, last: MIDDLE - 1 }, Range { first: MIDDLE, last: SLOTS - 1 });
        let mut owner = [0, 1];
        for round in 0..8 {
            let (at, range) = if rng.below(2) == 0 { (0, low) } else { (1, high) };
            let from = owner[at];
            (0..60).for_each(|_| random_write(rng, &mut pair));
            let mut number = pair.copy(from, range);
            for _ in 0..rng.below(4) {
                (0..10).for_each(|_| random_write(rng, &mut pair));
                number = pair.follow(from, number);
            }
            (0..3).for_each(|_| random_write(rng, &mut pair));
            let before = pair.keys();
            pair.freeze_and_seal(from, range, number);
            if rng.below(3) == 0 {
                pair.attempt += 1;
                must(&mut pair.engines[from], pair.clock_ms, step("THAW", &[pair.attempt]));
            } else {
                // A replica that is restored in between is the same.
                pair.restore(1 - from);
                pair.switch(from, range);
                owner[at] = 1 - from;
            }
            let after = pair.keys();
            let differ = before
                .iter()
                .chain(&after)
                .find(|(at, print)| before.get(at) != Some(print) || after.get(at) != Some(print));
            assert_eq!(differ, None, "round {round}");
            for engine in &mut pair.engines {
                let digest = engine.keyspace.digest();
                assert_eq!(digest, engine.keyspace.digest_from_scratch());
            }
        }
    });
}

#[test]
fn a_snapshot_that_is_being_taken_is_the_state_of_its_beginning() {
    for_seeds(6, |rng| {
        let mut pair = Pair::new();
        (0..80).for_each(|_| random_write(rng, &mut pair));
        let range = Range { first: 0, last: MIDDLE - 1 };
        let number = pair.copy(0, range);
        pair.freeze_and_seal(0, range, number);
        let expected = pair.engines.each_mut().map(|engine| engine.snapshot(vec![]).expect("none is running"));
        pair.engines.iter_mut().for_each(|engine| engine.begin_snapshot(vec![]).expect("none is running"));
        let mut files = [Vec::new(), Vec::new()];
        for (engine, file) in pair.engines.iter_mut().zip(&mut files) {
            engine.step_snapshot(file, 300);
        }
        pair.switch(0, range);
        pair.move_all_at_once(1, range);
        (0..20).for_each(|_| random_write(rng, &mut pair));
        for (engine, file) in pair.engines.iter_mut().zip(&mut files) {
            while !engine.step_snapshot(file, 300) {}
        }
        assert!(files == expected, "the files differ");
    });
}
