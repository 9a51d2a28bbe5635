//! Each step is bounded work, however much there is to move, and a snapshot can be taken between any two.

use quoris_resp::Reply;

use super::pair::{MIDDLE, Pair, dropped, numbers, propose};
use super::*;
use crate::entry::CommandMeta;
use crate::testing::{apply, command};

const RANGE: Range = Range { first: 0, last: MIDDLE - 1 };

/// Many keys of one slot.
fn filled(count: usize) -> Pair {
    let mut pair = Pair::new();
    let tag = (0..).map(|n| format!("{{k{n}}}")).find(|tag| slot(tag.as_bytes()) < MIDDLE).expect("a tag");
    let all: Vec<usize> = (0..count).collect();
    for some in all.chunks(200) {
        let set = |n: &usize| {
            let deadline = if n.is_multiple_of(3) { " PX 9000000" } else { "" };
            command(&format!("SET {tag}{n} value{n}{deadline}"))
        };
        let commands: Vec<(CommandMeta, _)> = some.iter().map(set).collect();
        apply(&mut pair.engines[0], pair.clock_ms, &commands);
    }
    pair
}

#[test]
fn a_slot_of_many_keys_changes_its_owner_in_steps() {
    let (count, limit) = (3 * STEP_KEYS as usize + 5, STEP_KEYS as usize);
    let mut pair = filled(count);
    let before = pair.keys();
    let number = pair.copy(0, RANGE);
    pair.freeze_and_seal(0, RANGE, number);
    let len = |pair: &Pair, which: usize| pair.engines[which].keyspace().len(0) as usize;
    let mut was = 0;
    for left in [3, 2, 1, 0] {
        let own = propose(&mut pair.engines[1], pair.clock_ms, step("OWN", &numbers(pair.attempt, RANGE)));
        assert_eq!(own, Reply::Int(left));
        assert!(len(&pair, 1) - was <= limit && len(&pair, 1) > was);
        was = len(&pair, 1);
        assert_eq!(pair.engines[1].keyspace().serves_slot(0), left == 0);
        if left > 0 {
            // It may be about any key; neither a clock nor a later attempt gets between.
            assert_eq!(apply(&mut pair.engines[1], 1, &[command("DBSIZE")]), [Reply::Elsewhere]);
            assert!(propose(&mut pair.engines[1], 1, step("TAKE", &numbers(pair.attempt + 1, RANGE))).is_error());
            propose(&mut pair.engines[1], 1, step("FORGET", &[pair.attempt]));
        }
        pair.restore(1);
    }
    loop {
        let was = len(&pair, 0);
        let drop = dropped(pair.attempt, RANGE);
        let reply = propose(&mut pair.engines[0], pair.clock_ms, drop);
        let left = len(&pair, 0);
        assert_eq!(reply, Reply::Int(left.div_ceil(limit) as i64));
        assert!(left < was && was - left <= limit + 16, "a bucket more at most");
        propose(&mut pair.engines[0], pair.clock_ms, step("THAW", &[pair.attempt + 1]));
        assert_eq!(pair.engines[0].frozen().is_some(), left > 0);
        pair.restore(0);
        if left == 0 {
            break;
        }
    }
    assert_eq!((pair.keys(), len(&pair, 0)), (before, 0));
}

#[test]
fn a_snapshot_that_begins_between_two_steps_is_the_state_of_its_beginning() {
    let mut pair = filled(3 * STEP_KEYS as usize);
    let number = pair.copy(0, RANGE);
    pair.freeze_and_seal(0, RANGE, number);
    let own = step("OWN", &numbers(pair.attempt, RANGE));
    propose(&mut pair.engines[1], pair.clock_ms, own);
    propose(&mut pair.engines[0], pair.clock_ms, dropped(pair.attempt, RANGE));
    let expected = pair.engines.each_mut().map(|engine| engine.snapshot(vec![]).expect("none is running"));
    let mut files = [Vec::new(), Vec::new()];
    for (engine, file) in pair.engines.iter_mut().zip(&mut files) {
        engine.begin_snapshot(vec![]).expect("none is running");
        engine.step_snapshot(file, 300);
    }
    pair.switch(0, RANGE);
    let keys: Vec<String> =
        pair.keys().into_keys().map(|(_, key)| String::from_utf8_lossy(&key).into_owned()).collect();
    for (n, key) in keys.iter().enumerate() {
        pair.run(&format!("{} {key}{}", ["DEL", "APPEND"][n % 2], ["", " more"][n % 2]));
    }
    pair.move_all_at_once(1, RANGE);
    for (engine, file) in pair.engines.iter_mut().zip(&mut files) {
        while !engine.step_snapshot(file, 300) {}
    }
    assert!(files == expected, "the files differ");
}

#[test]
fn what_a_move_gives_up_is_garbage_and_not_freed_by_an_entry() {
    let mut pair = Pair::new();
    let key = (0..).map(|n| format!("k{n}")).find(|key| slot(key.as_bytes()) < MIDDLE).expect("a key");
    pair.run(&format!("SET {key} {}", "x".repeat(1 << 20)));
    pair.copy(0, RANGE);
    while pair.engines[1].take_garbage().is_some() {}
    propose(&mut pair.engines[1], 1, step("FORGET", &[pair.attempt]));
    assert!(pair.engines[1].take_garbage().is_some(), "what had come");
    let number = pair.copy(0, RANGE);
    pair.freeze_and_seal(0, RANGE, number);
    assert!(pair.engines[0].take_garbage().is_none());
    assert_eq!(propose(&mut pair.engines[0], 1, dropped(pair.attempt, RANGE)), Reply::Int(0));
    assert!(pair.engines[0].take_garbage().is_some(), "the value");
    pair.switch(0, RANGE);
    assert_eq!(pair.run(&format!("STRLEN {key}")), Reply::Int(1 << 20));
}
