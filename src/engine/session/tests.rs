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

/// A command of a client's own session.
fn owned(client: u64, sequence: u64, first_sent_ms: u64, words: &str) -> (CommandMeta, quoris_resp::Argv) {
    let mut command = stamped(client, sequence, first_sent_ms, words);
    command.0.session.as_mut().expect("stamped").session.origin = 2;
    command
}

fn set_ttl(engine: &mut Engine, version: u64, seconds: u64) {
    let mut settings = crate::Settings { version, ..crate::Settings::default() };
    settings.set("session-ttl", &seconds.to_string()).expect("a setting");
    let clock_ms = engine.clock_ms();
    let reply = again(engine, &(CommandMeta::default(), settings.to_argv()), clock_ms);
    assert_eq!(reply, Reply::Int(version as i64));
}

/// The default of `session-ttl`.
const TTL_MS: u64 = 600_000;

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
fn a_reply_that_nests_as_deep_as_scripts_may_is_kept() {
    let mut engine = Engine::new(SEED);
    let mut eval = stamped(1, 1, 1000, "EVAL");
    eval.1 = quoris_resp::Argv::from_parts(&["EVAL", "local a = {}; a[1] = a; return a", "0"]);
    let reply = again(&mut engine, &eval, 1000);
    assert!(matches!(reply, Reply::Array(_)), "{reply:?}");
    assert_eq!(again(&mut engine, &eval, 1001), reply);
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
fn the_slots_of_a_command_take_room_too() {
    let mut engine = Engine::new(SEED);
    let keys: String = (0..10_000).map(|n| format!(" k{n}")).collect();
    for sequence in 1..=100 {
        again(&mut engine, &owned(1, sequence, 1, &format!("DEL{keys}")), 1);
    }
    let kept = (1..=100).filter(|n| !is_unknown(&again(&mut engine, &owned(1, *n, 1, "INCR n"), 1))).count();
    assert!((40..100).contains(&kept), "{kept} replies with thousands of slots each");
    assert_eq!(restored(&mut engine).stats(), engine.stats());
}

#[test]
fn a_pool_that_is_full_drops_idle_sessions_and_refuses_what_they_may_have_sent() {
    let mut engine = Engine::new(SEED);
    run(&mut engine, 1, &format!("SET n {}", "x".repeat(60_000)));
    again(&mut engine, &stamped(7, 1, 9_000, "INCR of-a-node"), 9_000);
    let clock_ms = |client| 10_000 + client * 100;
    // The first is as old as the others, but its window was made before any was dropped.
    let steady = |n: u64| owned(5_000, n, 9_000, "INCR steady");
    assert_eq!(again(&mut engine, &steady(1), 9_000), Reply::Int(1));
    for client in 0..800 {
        assert!(!again(&mut engine, &owned(client, 1, clock_ms(client), "GET n"), clock_ms(client)).is_error());
        assert_eq!(again(&mut engine, &steady(client + 2), clock_ms(client)), Reply::Int(client as i64 + 2));
    }
    assert!(engine.stats().session_bytes <= POOL_BYTES_MAX + 1000);
    assert!(engine.stats().sessions < 600);
    let now_ms = clock_ms(800);
    for (client, known) in [(0, false), (100, false), (799, true)] {
        let reply = again(&mut engine, &owned(client, 1, clock_ms(client), "GET n"), now_ms);
        assert_eq!(is_unknown(&reply), !known, "{client}: {reply:?}");
    }
    assert!(is_unknown(&again(&mut engine, &owned(9_999, 1, clock_ms(1), "INCR of-a-stranger"), now_ms)));
    assert_eq!(again(&mut engine, &owned(9_999, 2, now_ms, "INCR of-a-stranger"), now_ms), Reply::Int(1));
    // The nodes have room of their own.
    assert_eq!(again(&mut engine, &stamped(7, 1, 9_000, "INCR of-a-node"), now_ms), Reply::Int(1));
    assert_eq!(again(&mut engine, &stamped(8, 1, 9_000, "INCR of-a-node"), now_ms), Reply::Int(2));
    assert_eq!(restored(&mut engine).digest(), engine.digest(), "all of it survives a restore");
}

#[test]
fn idle_sessions_end_and_what_they_held_is_refused() {
    for first in [stamped(1, 1, 1000, "INCR n"), owned(1, 1, 1000, "INCR n")] {
        let mut engine = Engine::new(SEED);
        again(&mut engine, &first, 1000);
        assert_eq!(again(&mut engine, &first, 1000 + TTL_MS), Reply::Int(1), "known for as long as it is kept");
        apply(&mut engine, 1999 + 2 * TTL_MS, &[]);
        assert_eq!(engine.stats().sessions, 1, "used lately");
        apply(&mut engine, 2000 + 2 * TTL_MS, &[]);
        assert_eq!((engine.stats().sessions, engine.stats().session_bytes), (0, 0));
        let mut engine = restored(&mut engine);
        let now_ms = 3000 + 2 * TTL_MS;
        assert!(is_unknown(&again(&mut engine, &first, now_ms)));
        let mut later = first.clone();
        later.0.session.as_mut().expect("stamped").first_sent_ms = now_ms;
        later.0.session.as_mut().expect("stamped").sequence = 2;
        assert_eq!(again(&mut engine, &later, now_ms), Reply::Int(2), "sent first when nothing was forgotten any more");
        assert!(is_unknown(&again(&mut engine, &first, now_ms)), "also beside a new window of the session");
        assert_eq!(run(&mut engine, now_ms, "GET n"), Reply::bulk("2"));
    }
}

#[test]
fn a_change_of_the_ttl_brings_nothing_back() {
    let mut engine = Engine::new(SEED);
    let (short, long) = (owned(1, 1, 1000, "INCR n"), owned(2, 1, 1000, "INCR n"));
    again(&mut engine, &short, 1000);
    set_ttl(&mut engine, 1, 5);
    apply(&mut engine, 7000, &[]);
    assert_eq!(engine.stats().sessions, 0);
    set_ttl(&mut engine, 2, 100_000);
    for command in [&short, &long] {
        assert!(is_unknown(&again(&mut engine, command, 7000)));
    }
    let kept = owned(3, 1, 7000, "INCR n");
    assert_eq!(again(&mut engine, &kept, 7000), Reply::Int(2));
    assert_eq!(again(&mut engine, &kept, 90_000_000), Reply::Int(2));
}

#[test]
fn a_sender_whose_clock_is_ahead_is_not_executed_twice() {
    let ahead = stamped(1, 1, 1000 + AHEAD_MS_MAX, "INCR n");
    for clock_ms in (1000..1000 + 3 * TTL_MS).step_by(60_000) {
        let mut engine = Engine::new(SEED);
        assert_eq!(again(&mut engine, &ahead, 1000), Reply::Int(1));
        apply(&mut engine, clock_ms, &[]);
        let reply = again(&mut engine, &ahead, clock_ms);
        assert!(reply == Reply::Int(1) || is_unknown(&reply), "{reply:?} at {clock_ms}");
    }
    let mut engine = Engine::new(SEED);
    let too_far = stamped(2, 1, u64::MAX, "INCR m");
    assert_eq!(again(&mut engine, &too_far, 4_000_000), Reply::error(AHEAD));
    assert_eq!((engine.stats().keys, engine.stats().sessions), (0, 0));
}

#[test]
fn sessions_of_clients_and_of_nodes_never_meet() {
    for bits in [[0, 0], [u64::MAX, 1], [7, 9]] {
        let id = SessionId::of_client(bits);
        assert!(id.is_clients_own() && id.connection == bits[1]);
    }
    assert!(!SessionId { origin: 5, connection: 1 }.is_clients_own());
    let mut engine = Engine::new(SEED);
    assert_eq!(again(&mut engine, &stamped(1, 1, 1, "INCR n"), 1), Reply::Int(1));
    assert_eq!(again(&mut engine, &owned(1, 1, 1, "INCR n"), 1), Reply::Int(2));
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
            sessions.sweep(u64::MAX, 1);
        }
        assert!(Sessions::default().restore(&bytes[..at]).is_err() || at == 0);
    }
}

#[test]
fn what_a_group_has_handed_over_is_known_for_ever() {
    let mut engine = Engine::new(SEED);
    let of_group = |sequence, first_sent_ms| {
        let mut command = stamped(1, sequence, first_sent_ms, "INCR n");
        command.0.session.as_mut().expect("stamped").session = SessionId::of_group(3);
        command
    };
    assert_eq!(again(&mut engine, &of_group(1, 1000), 1000), Reply::Int(1));
    assert_eq!(again(&mut engine, &stamped(1, 1, 1000, "INCR n"), 1000), Reply::Int(2));
    let late_ms = 10 * TTL_MS;
    again(&mut engine, &stamped(2, 1, late_ms, "GET n"), late_ms);
    let mut engine = restored(&mut engine);
    assert!(is_unknown(&again(&mut engine, &stamped(1, 1, 1000, "INCR n"), late_ms + 1)), "a node's window is gone");
    assert_eq!(again(&mut engine, &of_group(1, late_ms), late_ms + 2), Reply::Int(1), "sent again long after");
    assert_eq!(again(&mut engine, &of_group(2, late_ms), late_ms + 3), Reply::Int(3));
}
