//! Whatever a client sends, a handler answers: it never panics, and replicas agree afterwards.

mod common;

use std::cell::RefCell;

use common::generate::command;
use proptest::prelude::*;
use quoris_engine::command::{Handler, by_name, introspect, lookup};
use quoris_engine::{ApplyContext, Keyspace, ReadContext, Rng, glob, number};
use quoris_resp::{Argv, Reply};

/// Runs a command as apply does; nothing when it is not the engine's.
fn run(keyspace: &mut Keyspace, index: u64, argv: &Argv) -> Option<Reply> {
    let now_ms = 1_000_000 + index;
    keyspace.advance(now_ms);
    let command = match lookup(argv) {
        Ok(found) => found.command,
        Err(error) => return Some(error.into()),
    };
    if let Ok(keys) = command.keys(argv) {
        assert!(keys.iter().all(|at| *at < argv.len()), "{argv:?}");
    }
    let (database, rng) = ((index % 2) as u32, Rng::new(index));
    let result = match command.handler {
        Handler::Read(read) => read(keyspace, &ReadContext { database, now_ms, rng: RefCell::new(rng) }, argv),
        Handler::Write(write) => {
            write(keyspace, &mut ApplyContext { database, index, now_ms, rng, waits: false, short: false }, argv)
        }
        Handler::Server if argv[0].eq_ignore_ascii_case(b"command") => introspect::command(argv),
        Handler::Server | Handler::Container => return None,
    };
    Some(result.unwrap_or_else(Reply::from))
}

proptest! {
    #[test]
    fn commands_never_panic_and_replicas_agree(commands in proptest::collection::vec(command(|_| true), 1..60)) {
        let (mut one, mut other) = (Keyspace::new([1, 2], 3), Keyspace::new([1, 2], 3));
        for (index, argv) in commands.iter().enumerate() {
            let reply = run(&mut one, index as u64, argv);
            prop_assert_eq!(reply, run(&mut other, index as u64, argv), "{:?}", argv);
        }
        prop_assert_eq!(one.digest(), other.digest());
        prop_assert_eq!(one.digest(), one.digest_from_scratch(), "{:?}", commands);
        prop_assert_eq!(one.memory_bytes(), other.memory_bytes());
    }

    #[test]
    fn any_bytes_are_a_command_of_some_kind(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..6)) {
        let argv = Argv::from_parts(&parts);
        let mut keyspace = Keyspace::new([1, 2], 3);
        run(&mut keyspace, 1, &argv);
        by_name(&argv[0]);
    }

    #[test]
    fn numbers_and_patterns_take_any_bytes(one in proptest::collection::vec(any::<u8>(), 0..40), two in "[a-c*?\\[\\]^\\\\-]{0,12}", text in "[a-c\\-\\]]{0,8}") {
        number::integer(&one);
        number::cursor(&one);
        glob::matches(&one, &one);
        prop_assert_eq!(glob::matches(two.as_bytes(), text.as_bytes()), naive(two.as_bytes(), text.as_bytes()), "{} {}", two, text);
    }
}

/// Matching by plain recursion over the stars, one class or letter at a time.
fn naive(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
        _ => {
            // One element of the pattern and one byte of the text: the matcher itself, without a star.
            let first = (1..=pattern.len()).find(|len| is_element(&pattern[..*len], &pattern[*len..]));
            let Some((element, rest)) = first.map(|len| pattern.split_at(len)) else { return false };
            !text.is_empty() && glob::matches(element, &text[..1]) && naive(rest, &text[1..])
        }
    }
}

/// Whether the pattern's first element ends where `head` ends.
fn is_element(head: &[u8], tail: &[u8]) -> bool {
    match head {
        [b'\\'] => tail.is_empty(),
        [b'['] => tail.is_empty(),
        [b'[', class @ ..] => closes(class) || tail.is_empty(),
        [_] => true,
        [b'\\', _] => true,
        _ => false,
    }
}

/// Whether a class, from behind its bracket, ends exactly at its last byte.
fn closes(class: &[u8]) -> bool {
    let mut rest = class.strip_prefix(b"^").unwrap_or(class);
    loop {
        rest = match rest {
            [b']'] => return true,
            [] | [b']', ..] => return false,
            [b'\\', _, behind @ ..] | [_, b'-', _, behind @ ..] => behind,
            [_, behind @ ..] => behind,
        };
    }
}
