//! What holds for every row.

use std::collections::BTreeSet;

use quoris_resp::Argv;

use super::*;
use crate::Error;

#[test]
fn names_are_unique_and_lower_case() {
    let mut seen = BTreeSet::new();
    for found in walk() {
        let name = found.full_name();
        let plain =
            found.command.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        assert!(plain && !found.command.name.is_empty(), "{name}");
        assert!(seen.insert(name.clone()), "{name} is there twice");
        assert_eq!(by_name(name.to_ascii_uppercase().as_bytes()).map(|f| f.id), Some(found.id), "{name}");
    }
    assert_eq!(seen.len(), count());
}

#[test]
fn every_row_is_complete() {
    for Found { command, container, .. } in walk() {
        let name = command.name;
        assert!(!command.summary.is_empty() && command.summary.ends_with('.'), "{name}: a summary is a sentence");
        assert!(!command.complexity.is_empty(), "{name}: no complexity");
        assert_eq!(command.since.split('.').filter(|n| n.parse::<u32>().is_ok()).count(), 3, "{name}: since");
        assert_ne!(command.arity, 0, "{name}: arity");
        let words = if container.is_some() { 2 } else { 1 };
        assert!(command.arity.unsigned_abs() >= words, "{name}: the arity counts the names");
        assert_eq!(command.is_container(), command.arity == -2 && !command.subcommands.is_empty(), "{name}");
        assert!(command.subcommands.is_empty() || container.is_none(), "{name}: only two levels");
        let (read, write) = (command.flags.has(READONLY), command.flags.has(WRITE));
        match command.handler {
            Handler::Read(_) => assert!(!write, "{name}: reads"),
            // Scripts do what they do; that they are known, or that something is published, is no write to a client.
            Handler::Write(_) if matches!(command.group, Group::Scripting | Group::PubSub) && !write => {
                assert!(!read, "{name}: runs")
            }
            Handler::Write(_) => assert!(write && !read, "{name}: writes"),
            Handler::Server | Handler::Container => assert!(!write, "{name}: belongs to the server"),
        }
        assert!(
            command.key_finder.is_none() || !command.keys.is_empty(),
            "{name}: a finder beside the specs, not instead"
        );
    }
}

/// The shortest argv that fits a row; a number of keys is 1, keywords that must be there are.
fn shortest(found: &Found) -> Argv {
    let name = found.full_name();
    let mut parts: Vec<&str> = name.split('|').collect();
    parts.resize(found.command.arity.unsigned_abs() as usize, "1");
    for spec in found.command.keys {
        if let Begin::Keyword { word, start } = spec.begin
            && let Some(part) = parts.get_mut(start as usize)
        {
            *part = word;
        }
    }
    Argv::from_parts(&parts)
}

#[test]
fn keys_fit_the_shortest_call() {
    // Who names no channel listens to none.
    let may_have_none =
        |found: &Found| found.command.flags.has(NO_MANDATORY_KEYS) || found.command.name == "sunsubscribe";
    for found in walk().filter(|found| !may_have_none(found)) {
        let argv = shortest(&found);
        if !found.command.is_container() {
            assert_eq!(lookup(&argv).map(|f| f.id).ok(), Some(found.id), "{argv:?}");
        }
        let keys = found.command.keys(&argv).unwrap_or_else(|e| panic!("{argv:?}: {e}"));
        let uses = found.command.key_uses(&argv).unwrap_or_else(|e| panic!("{argv:?}: {e}"));
        assert_eq!(keys.to_vec(), uses.iter().map(|key| key.position).collect::<Vec<_>>(), "{argv:?}");
        assert_eq!(keys.is_empty(), found.command.keys.is_empty(), "{argv:?}");
        assert!(keys.iter().all(|at| *at > 0 && *at < argv.len()), "{argv:?}");
    }
}

#[test]
fn key_specs_find_keys_in_every_place() {
    let find = |spec: KeySpec, parts: &[&str]| {
        let keys: &'static [KeySpec] = Box::leak(Box::new([spec]));
        Command { keys, ..ROW }.keys(&Argv::from_parts(parts)).map(|keys| keys.to_vec())
    };
    let keyword = |start| KeySpec {
        flags: RO_ACCESS,
        begin: Begin::Keyword { word: "STREAMS", start },
        find: Find::Range { last: -1, step: 1, limit: 2 },
    };
    let invalid = || Err(Error::text("ERR Invalid arguments specified for command"));
    assert_eq!(find(keyword(1), &["XREAD", "COUNT", "2", "streams", "a", "b", "0", "0"]), Ok(vec![4, 5]));
    assert_eq!(find(keyword(1), &["XREAD", "a"]), Ok(vec![]));
    assert_eq!(find(keyword(1), &["XREAD", "STREAMS"]), invalid());
    let last = KeySpec { find: Find::Range { last: -1, step: 1, limit: 0 }, ..keyword(-2) };
    assert_eq!(find(last, &["MIGRATE", "h", "p", "", "STREAMS", "a", "b"]), Ok(vec![5, 6]));
    assert_eq!(find(last, &["X"]), Ok(vec![]));
    let eval = counted(RW_ACCESS_UPDATE, 2, 1);
    assert_eq!(find(eval, &["EVAL", "s", "2", "a", "b", "c"]), Ok(vec![3, 4]));
    assert_eq!(find(eval, &["EVAL", "s", "0"]), Ok(vec![]));
    for wrong in ["3", "-1", "x", "9223372036854775807"] {
        assert_eq!(find(eval, &["EVAL", "s", wrong, "a", "b"]), invalid(), "{wrong}");
    }
    let blocking = range(RW_ACCESS_DELETE, 1, -2, 1);
    assert_eq!(find(blocking, &["BLPOP", "a", "b", "0"]), Ok(vec![1, 2]));
    assert_eq!(find(blocking, &["BLPOP", "0"]), invalid());
    assert_eq!(find(pairs(OW_UPDATE, 1), &["MSET", "a", "1", "b"]), Ok(vec![1, 3]));
}

#[test]
fn errors_are_those_of_redis() {
    let error = |parts: &[&str]| lookup(&Argv::from_parts(parts)).expect_err("no such call").to_string();
    assert_eq!(error(&["nosuch", "a", "b"]), "ERR unknown command 'nosuch', with args beginning with: 'a' 'b' ");
    assert_eq!(error(&["CLIENT", "x"]), "ERR unknown subcommand 'x'. Try CLIENT HELP.");
    assert_eq!(error(&["client", "LIST", "TYPE"][..1]), "ERR wrong number of arguments for 'client' command");
    assert_eq!(error(&["client", "SETNAME"]), "ERR wrong number of arguments for 'client|setname' command");
}
