//! Entries, transactions and determinism.

use std::collections::BTreeMap;

use super::*;
use crate::AlreadyRunning;
use crate::entry::{CommandMeta, EntryBuilder, Watch};
use crate::testing::{SEED, apply, body, command, exec, for_seeds, random_entry, run};

fn snapshot(engine: &mut Engine) -> Vec<u8> {
    engine.snapshot(vec![("group".into(), b"7".to_vec())]).expect("none is running")
}

fn restored(file: &[u8]) -> Engine {
    let loaded = Engine::load(&mut &file[..], &mut |_| {}).expect("own snapshot");
    assert_eq!(loaded.aux["group"], b"7");
    loaded.engine
}

#[test]
fn the_same_entries_make_the_same_state() {
    for_seeds(12, |rng| {
        let mut plain = Engine::new(SEED);
        let mut saving = Engine::new(SEED);
        let mut restarting = Engine::new(SEED);
        let (mut clock, mut sequence) = (1_000_000, 0);
        let mut file = Vec::new();
        for index in 1..400 {
            let entry = random_entry(rng, &mut clock, &mut sequence);
            let apply = |engine: &mut Engine| {
                let mut replies = Vec::new();
                engine.apply_entry(index, &entry, &mut |_, reply, _| replies.push(reply)).expect("own format");
                replies
            };
            let replies = apply(&mut plain);
            assert_eq!(apply(&mut restarting), replies);
            assert_eq!(apply(&mut saving), replies);
            if rng.below(4) == 0 && !saving.snapshot_running() {
                saving.begin_snapshot(vec![]).expect("none is running");
            }
            if saving.snapshot_running() {
                saving.step_snapshot(&mut file, rng.below(3000) as usize);
            }
            if rng.below(30) == 0 {
                restarting = restored(&snapshot(&mut restarting));
            }
            assert_eq!(plain.digest(), restarting.digest(), "entry {index}");
            assert_eq!(plain.digest(), saving.digest(), "entry {index}");
        }
        saving.abort_snapshot();
        let file = snapshot(&mut plain);
        assert!(file == snapshot(&mut restarting) && file == snapshot(&mut saving));
        let mut again = restored(&file);
        assert_eq!((again.digest(), again.stats()), (plain.digest(), plain.stats()));
        assert!(file == snapshot(&mut again));
        assert_eq!(again.keyspace.digest(), again.keyspace.digest_from_scratch());
    });
}

#[test]
fn a_snapshot_is_the_state_at_its_beginning_whatever_is_written_meanwhile() {
    for_seeds(40, |rng| {
        let mut engine = Engine::new(SEED);
        let (mut clock, mut sequence, mut index) = (1_000_000, 0, 0);
        let mut write = |engine: &mut Engine, rng: &mut Rng| {
            index += 1;
            let entry = random_entry(rng, &mut clock, &mut sequence);
            engine.apply_entry(index, &entry, &mut |_, _, _| {}).expect("own format");
        };
        (0..300).for_each(|_| write(&mut engine, rng));
        let expected = snapshot(&mut engine);
        engine.begin_snapshot(vec![("group".into(), b"7".to_vec())]).expect("none is running");
        assert_eq!(engine.begin_snapshot(vec![]), Err(AlreadyRunning));
        let mut file = Vec::new();
        let budget = 1 + rng.below(4000) as usize;
        while !engine.step_snapshot(&mut file, budget) {
            (0..rng.below(12)).for_each(|_| write(&mut engine, rng));
        }
        assert!(file == expected, "byte for byte");
        assert_eq!(engine.keyspace.digest(), engine.keyspace.digest_from_scratch());
    });
}

#[test]
fn a_long_string_is_saved_bit_by_bit_while_it_changes() {
    for change in ["APPEND big x", "DEL big", "SET big y", "FLUSHALL", "SWAPDB 0 1", "PEXPIREAT big 9999"] {
        let mut engine = Engine::new(SEED);
        let long = "z".repeat(1 << 20);
        run(&mut engine, 1, &format!("SET big {long}"));
        (0..50).for_each(|i| drop(run(&mut engine, 1, &format!("SET k{i} v"))));
        let expected = snapshot(&mut engine);
        engine.begin_snapshot(vec![("group".into(), b"7".to_vec())]).expect("none is running");
        let mut file = Vec::new();
        let mut steps = 0;
        while !engine.step_snapshot(&mut file, 64 * 1024) {
            steps += 1;
            if steps == 5 {
                run(&mut engine, 1, change);
            }
        }
        assert!(steps > 14 && file == expected, "{change}");
    }
}

#[test]
fn a_storm_of_writes_during_a_snapshot_changes_only_the_order_of_its_keys() {
    let mut engine = Engine::new(SEED);
    let value = |i: usize| "z".repeat(if i.is_multiple_of(50) { 300_000 } else { 100_000 });
    (0..800).for_each(|i| drop(run(&mut engine, 1, &format!("SET k{i} {}", value(i)))));
    let expected = snapshot(&mut engine);
    engine.begin_snapshot(vec![("group".into(), b"7".to_vec())]).expect("none is running");
    let mut file = Vec::new();
    engine.step_snapshot(&mut file, 64 * 1024);
    for i in (0..800).filter(|i| i % 10 != 0) {
        run(&mut engine, 1, &format!("{} k{i} x", if i % 2 == 0 { "SET" } else { "APPEND" }));
    }
    while !engine.step_snapshot(&mut file, 64 * 1024) {}
    assert!(file != expected, "what lay aside came first");
    assert!(snapshot(&mut restored(&file)) == expected, "but it is the same state");
}

#[test]
fn an_aborted_snapshot_leaves_no_trace() {
    let mut engine = Engine::new(SEED);
    (0..100).for_each(|i| drop(run(&mut engine, 1, &format!("SET k{i} v"))));
    let digest = engine.digest();
    engine.begin_snapshot(vec![]).expect("none is running");
    engine.step_snapshot(&mut Vec::new(), 10);
    engine.abort_snapshot();
    assert_eq!(engine.digest(), digest);
    engine.begin_snapshot(vec![]).expect("none is running");
}

#[test]
fn replies_come_in_order_and_see_the_state_behind_their_command() {
    let mut engine = Engine::new(SEED);
    let entry = body(5, &[command("INCR n"), command("INCR n"), command("NOSUCH"), command("SET k"), command("GET n")]);
    let mut seen = Vec::new();
    engine
        .apply_entry(3, &entry, &mut |place, reply, engine| seen.push((place, reply, engine.stats().keys)))
        .expect("own format");
    assert_eq!(seen[0], (0, Reply::Int(1), 1));
    assert_eq!(seen[1], (1, Reply::Int(2), 1));
    assert!(seen[2].1.is_error());
    assert_eq!(seen[3].1, Reply::error("ERR wrong number of arguments for 'set' command"));
    assert_eq!(seen[4].1, Reply::bulk("2"));
    assert_eq!((engine.applied_index(), engine.clock_ms()), (3, 5));
    engine.note_index(4);
    assert_eq!(engine.applied_index(), 4);
}

#[test]
fn a_damaged_entry_changes_nothing() {
    let mut builder = EntryBuilder::default();
    builder.push(&CommandMeta::default(), &command("SET a b").1);
    builder.push(&CommandMeta { transaction: true, ..CommandMeta::default() }, &command("EXEC x y").1);
    let mut engine = Engine::new(SEED);
    let result = engine.apply_entry(1, &builder.finish(1, 1), &mut |_, _, _| panic!("no reply"));
    assert!(matches!(result, Err(EntryError::Malformed(_))));
    assert_eq!((engine.applied_index(), engine.stats().keys, engine.clock_ms()), (0, 0, 0));
}

#[test]
#[should_panic(expected = "entry 3 behind 3")]
fn an_entry_is_applied_once() {
    let mut engine = Engine::new(SEED);
    engine.note_index(3);
    engine.note_index(3);
}

#[test]
fn the_clock_never_goes_back_and_due_keys_go_a_bounded_number_at_a_time() {
    let mut engine = Engine::new(SEED);
    let sets: Vec<_> = (0..600).map(|i| command(&format!("SET k{i} v PX 10"))).collect();
    apply(&mut engine, 100, &sets);
    apply(&mut engine, 50, &[]);
    assert_eq!((engine.clock_ms(), engine.stats().keys), (100, 600));
    apply(&mut engine, 110, &[]);
    assert_eq!((engine.stats().keys, engine.stats().expired), (600 - REMOVALS_MAX as u64, REMOVALS_MAX as u64));
    assert_eq!(run(&mut engine, 110, "GET k599"), Reply::Null);
    apply(&mut engine, 110, &[]);
    assert_eq!(engine.stats().keys, 0);
}

#[test]
fn a_transaction_runs_whole_or_not_at_all() {
    let mut engine = Engine::new(SEED);
    run(&mut engine, 1, "SET a x");
    let watch = |engine: &Engine, key: &str| Watch {
        database: 0,
        key: key.into(),
        version: engine.keyspace().version(0, key.as_bytes()),
    };
    let watches = vec![watch(&engine, "a"), watch(&engine, "absent")];
    let commands = ["SET b 1", "INCR a", "PING", "SELECT 1", "SET c 2", "SELECT 99", "SELECT x", "GET c", "SELECT"];
    let reply = apply(&mut engine, 1, &[exec(watches.clone(), &commands)]).pop();
    let error = Reply::error;
    let expected = vec![
        Reply::Ok,
        error("ERR value is not an integer or out of range"),
        Reply::status("PONG"),
        Reply::Ok,
        Reply::Ok,
        error("ERR DB index is out of range"),
        error("ERR value is not an integer or out of range"),
        Reply::bulk("2"),
        error("ERR wrong number of arguments for 'select' command"),
    ];
    assert_eq!(reply, Some(Reply::Array(expected)));
    assert_eq!((engine.keyspace().len(0), engine.keyspace().len(1)), (2, 1));
    run(&mut engine, 1, "SET absent x");
    let aborted = apply(&mut engine, 1, &[exec(watches, &["SET d 1"])]).pop();
    assert_eq!(aborted, Some(Reply::NullArray));
    assert_eq!(run(&mut engine, 1, "GET d"), Reply::Null);
}

#[test]
fn watches_survive_a_restore() {
    let mut engine = Engine::new(SEED);
    (0..50).for_each(|i| drop(run(&mut engine, 1, &format!("SET k{i} v"))));
    run(&mut engine, 1, "DEL k3");
    run(&mut engine, 1, "SWAPDB 0 1");
    let other = restored(&snapshot(&mut engine));
    for database in 0..2 {
        for i in 0..60 {
            let key = format!("k{i}");
            let version = |engine: &Engine| engine.keyspace().version(database, key.as_bytes());
            assert_eq!(version(&engine), version(&other), "{key}");
        }
    }
}

#[test]
fn commands_that_cannot_be_here_are_answered_with_errors() {
    let mut engine = Engine::new(SEED);
    assert!(run(&mut engine, 1, "PING").is_error());
    let far = (CommandMeta { database: 77, ..CommandMeta::default() }, command("SET a b").1);
    assert_eq!(apply(&mut engine, 1, &[far]), [Reply::error("ERR DB index is out of range")]);
}

#[test]
fn a_snapshot_of_nothing_is_a_snapshot() {
    let mut engine = Engine::new(SEED);
    let file = snapshot(&mut engine);
    assert_eq!(restored(&file).digest(), engine.digest());
}

#[test]
fn fields_of_the_caller_come_back_joined() {
    let mut engine = Engine::new(SEED);
    let part = |text: &str| ("big".to_string(), text.as_bytes().to_vec());
    let file = engine.snapshot(vec![part("one"), part("two")]).expect("none is running");
    let loaded = Engine::load(&mut &file[..], &mut |_| {}).expect("own snapshot");
    let expected: BTreeMap<_, _> = [("big", "onetwo")].map(|(k, v)| (k.to_string(), v.as_bytes().to_vec())).into();
    let mut aux = loaded.aux;
    aux.retain(|name, _| name == "big");
    assert_eq!(aux, expected);
}
