//! What a session may count on, and what it costs.

use quoris_resp::Reply;

use super::*;
use crate::entry::CommandMeta;
use crate::testing::{SEED, apply, command, exec, run, stamped};
use crate::{Engine, slot};

fn again(engine: &mut Engine, command: &(CommandMeta, quoris_resp::Argv), clock_ms: u64) -> Reply {
    apply(engine, clock_ms, std::slice::from_ref(command)).pop().expect("one reply")
}

fn is_unknown(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with(b"UNKNOWN "))
}

fn restored(engine: &mut Engine) -> Engine {
    let file = engine.snapshot(vec![]).expect("none is running");
    Engine::load(&mut &file[..], &mut |_| {}).expect("own snapshot").engine
}

#[test]
fn a_repeated_command_gets_the_same_reply_and_has_no_second_effect() {
    let mut engine = Engine::new(SEED);
    let incr = stamped(1, 1, 1000, "INCR n");
    assert_eq!(again(&mut engine, &incr, 1000), Reply::Int(1));
    assert_eq!(again(&mut engine, &incr, 1001), Reply::Int(1));
    let mut engine = restored(&mut engine);
    assert_eq!(again(&mut engine, &incr, 1002), Reply::Int(1), "also after a restore");
    assert_eq!(run(&mut engine, 1002, "GET n"), Reply::bulk("1"));
    let same_entry = apply(&mut engine, 1003, &[stamped(1, 2, 1000, "INCR n"), stamped(1, 2, 1000, "INCR n")]);
    assert_eq!(same_entry, [Reply::Int(2), Reply::Int(2)]);
}

#[test]
fn sessions_and_numbers_are_told_apart() {
    let mut engine = Engine::new(SEED);
    let commands = [
        stamped(1, 1, 1, "INCR n"),
        stamped(2, 1, 1, "INCR n"),
        stamped(1, 5, 1, "INCR n"),
        stamped(1, 3, 1, "INCR n"),
    ];
    let first = apply(&mut engine, 1, &commands);
    assert_eq!(first, [1, 2, 3, 4].map(Reply::Int), "a gap is no repetition");
    assert_eq!(apply(&mut engine, 1, &commands), first);
}

#[test]
fn errors_nulls_and_aborts_are_replies_too() {
    let mut engine = Engine::new(SEED);
    run(&mut engine, 1, "SET text abc");
    let mut aborted = exec(vec![crate::entry::Watch { database: 0, key: b"text".to_vec(), version: 99 }], &["INCR n"]);
    aborted.0.session = stamped(1, 3, 1, "x").0.session;
    let mut done = exec(vec![], &["INCR n", "GET n", "GET none"]);
    done.0.session = stamped(1, 4, 1, "x").0.session;
    for command in [stamped(1, 1, 1, "INCR text"), stamped(1, 2, 1, "GET none"), aborted, done] {
        let first = again(&mut engine, &command, 1);
        assert_eq!(again(&mut engine, &command, 1), first);
    }
    assert_eq!(run(&mut engine, 1, "GET n"), Reply::bulk("1"));
}

#[test]
fn a_command_over_several_slots_is_found_in_any_of_them() {
    let mut engine = Engine::new(SEED);
    assert_ne!(slot(b"a"), slot(b"b"));
    apply(&mut engine, 1, &[command("SET a x"), command("SET b x"), stamped(1, 1, 1, "DEL a b")]);
    run(&mut engine, 1, "SET a y");
    // The same command, of which only one slot is still here.
    assert_eq!(again(&mut engine, &stamped(1, 1, 1, "DEL b"), 1), Reply::Int(2));
    assert_eq!(again(&mut engine, &stamped(1, 1, 1, "DEL a"), 1), Reply::Int(2));
    assert_eq!(run(&mut engine, 1, "GET a"), Reply::bulk("y"));
}

#[test]
fn commands_without_keys_are_known_in_the_whole_group() {
    let mut engine = Engine::new(SEED);
    run(&mut engine, 1, "SET a 1");
    let flush = stamped(1, 1, 1, "FLUSHALL");
    assert_eq!(again(&mut engine, &flush, 1), Reply::Ok);
    run(&mut engine, 1, "SET a 2");
    assert_eq!(again(&mut engine, &flush, 1), Reply::Ok);
    assert_eq!(run(&mut engine, 1, "GET a"), Reply::bulk("2"));
}

#[test]
fn acknowledged_replies_are_dropped_and_never_executed_again() {
    let mut engine = Engine::new(SEED);
    let first = stamped(1, 1, 1, "INCR n");
    again(&mut engine, &first, 1);
    let held = engine.stats().session_bytes;
    let mut second = stamped(1, 2, 1, "INCR n");
    second.0.session.as_mut().expect("stamped").acknowledged_below = 2;
    assert_eq!(again(&mut engine, &second, 1), Reply::Int(2));
    assert_eq!(engine.stats().session_bytes, held, "one reply went, one came");
    assert!(is_unknown(&again(&mut engine, &first, 1)));
    assert_eq!(again(&mut engine, &second, 1), Reply::Int(2));
    // What acknowledges itself, against the rules, does not lose its own reply.
    let mut third = stamped(1, 3, 1, "INCR n");
    third.0.session.as_mut().expect("stamped").acknowledged_below = 1000;
    assert_eq!(again(&mut engine, &third, 1), Reply::Int(3));
    assert_eq!(again(&mut engine, &third, 1), Reply::Int(3));
}

#[test]
fn a_reply_that_is_too_large_is_remembered_without_its_bytes() {
    let mut engine = Engine::new(SEED);
    run(&mut engine, 1, &format!("SET big {}", "x".repeat(REPLY_BYTES_MAX + 1)));
    let mut transaction = exec(vec![], &["INCR n", "GET big"]);
    transaction.0.session = stamped(1, 1, 1, "x").0.session;
    assert!(!again(&mut engine, &transaction, 1).is_error());
    let reply = again(&mut engine, &transaction, 1);
    assert_eq!(reply, Reply::error("UNKNOWN executed, but its reply was too large to keep"));
    assert_eq!(run(&mut engine, 1, "GET n"), Reply::bulk("1"));
}

#[test]
fn a_window_that_is_full_forgets_the_oldest_and_refuses_it() {
    let mut engine = Engine::new(SEED);
    run(&mut engine, 1, &format!("SET n {}", "x".repeat(60_000)));
    for sequence in 1..=30 {
        again(&mut engine, &stamped(1, sequence, 1, "GET n"), 1);
    }
    assert!(engine.stats().session_bytes < 1_100_000);
    assert!(is_unknown(&again(&mut engine, &stamped(1, 1, 1, "GET n"), 1)));
    assert!(!again(&mut engine, &stamped(1, 30, 1, "GET n"), 1).is_error());
    assert!(is_unknown(&again(&mut engine, &stamped(1, 13, 1, "GET n"), 1)));
}

#[test]
fn a_group_that_is_full_drops_idle_sessions_and_refuses_what_they_may_have_sent() {
    let mut engine = Engine::new(SEED);
    run(&mut engine, 1, &format!("SET n {}", "x".repeat(60_000)));
    for connection in 0..1200 {
        let clock_ms = 10_000 + connection * 100;
        assert!(!again(&mut engine, &stamped(connection, 1, clock_ms, "GET n"), clock_ms).is_error());
    }
    assert!(engine.stats().session_bytes <= GROUP_BYTES_MAX);
    assert!(engine.stats().sessions < 1150);
    assert!(is_unknown(&again(&mut engine, &stamped(0, 1, 10_000, "GET n"), 131_000)));
    assert!(!again(&mut engine, &stamped(1199, 1, 129_900, "GET n"), 131_000).is_error());
    assert_eq!(restored(&mut engine).digest(), engine.digest(), "the refusal survives a restore");
}

#[test]
fn old_commands_are_refused_and_idle_sessions_end() {
    let mut engine = Engine::new(SEED);
    let incr = stamped(1, 1, 1000, "INCR n");
    again(&mut engine, &incr, 1000);
    assert_eq!(engine.stats().sessions, 1);
    assert_eq!(again(&mut engine, &incr, 1000 + SESSION_TTL_MS - 1), Reply::Int(1));
    assert!(is_unknown(&again(&mut engine, &incr, 1000 + SESSION_TTL_MS)));
    assert_eq!(engine.stats().sessions, 1, "used lately");
    apply(&mut engine, 3000 + 2 * SESSION_TTL_MS, &[]);
    assert_eq!((engine.stats().sessions, engine.stats().session_bytes), (0, 0));
    assert_eq!(engine.sessions.digest(), Sessions::default().digest());
    assert!(is_unknown(&again(&mut engine, &incr, 3000 + 2 * SESSION_TTL_MS)));
    assert_eq!(run(&mut engine, 3000 + 2 * SESSION_TTL_MS, "GET n"), Reply::bulk("1"));
}

#[test]
fn a_sender_whose_clock_is_ahead_is_not_executed_twice() {
    let ahead = stamped(1, 1, 1000 + SESSION_TTL_MS, "INCR n");
    let mut engine = Engine::new(SEED);
    for clock_ms in (1000..1000 + 3 * SESSION_TTL_MS).step_by(60_000) {
        engine = Engine::new(SEED);
        assert_eq!(again(&mut engine, &ahead, 1000), Reply::Int(1));
        apply(&mut engine, clock_ms, &[]);
        let reply = again(&mut engine, &ahead, clock_ms);
        assert!(reply == Reply::Int(1) || is_unknown(&reply), "{reply:?} at {clock_ms}");
    }
    let too_far = stamped(2, 1, u64::MAX, "INCR m");
    assert!(again(&mut engine, &too_far, 4_000_000).is_error());
    assert_eq!(engine.stats().keys, 1);
}

#[test]
fn numbers_at_their_ends_do_not_overflow() {
    let mut engine = Engine::new(SEED);
    for sequence in [u64::MAX, 0, u64::MAX - 1] {
        let mut command = stamped(1, sequence, 0, "INCR n");
        command.0.session.as_mut().expect("stamped").acknowledged_below = u64::MAX;
        again(&mut engine, &command, 1);
    }
    assert_eq!(restored(&mut engine).digest(), engine.digest());
}

#[test]
fn restoring_damaged_sessions_is_an_error_not_a_panic() {
    let mut engine = Engine::new(SEED);
    (1..20).for_each(|n| drop(again(&mut engine, &stamped(n % 3, n, 1, "INCR n"), 1)));
    let bytes = engine.sessions.capture().next(1 << 20).expect("there are some");
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        let mut sessions = Sessions::default();
        // Some damage reads as other sessions; none may panic, now or later.
        if sessions.restore(&damaged).is_ok() {
            sessions.sweep(u64::MAX);
        }
        assert!(Sessions::default().restore(&bytes[..at]).is_err() || at == 0);
    }
}
