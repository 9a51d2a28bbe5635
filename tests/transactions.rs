//! MULTI, EXEC, DISCARD and WATCH over the wire.

mod support;

use quoris_resp::Reply;
use support::{Node, bulk, bulks};

const QUEUED: fn() -> Reply = || Reply::status("QUEUED");

#[test]
fn queued_commands_run_together() {
    let node = Node::start(&[]);
    let (mut c, mut other) = (node.connect(), node.connect());
    c.ok(&["MULTI"]);
    assert_eq!(c.call(&["SET", "a", "1"]), QUEUED());
    assert_eq!(c.call(&["INCR", "a"]), QUEUED());
    assert_eq!(c.call(&["LPUSH", "a", "x"]).is_error(), c.call(&["LPUSH", "a", "x"]).is_error());
    assert_eq!(other.call(&["GET", "a"]), Reply::Null);
    c.ok(&["DISCARD"]);
    c.ok(&["MULTI"]);
    assert_eq!(c.call(&["SET", "a", "x"]), QUEUED());
    assert_eq!(c.call(&["INCR", "a"]), QUEUED());
    assert_eq!(c.call(&["GET", "a"]), QUEUED());
    let not_a_number = Reply::error("ERR value is not an integer or out of range");
    assert_eq!(c.call(&["EXEC"]), Reply::Array(vec![Reply::Ok, not_a_number, bulk("x")]));
    assert_eq!(other.call(&["GET", "a"]), bulk("x"));
}

#[test]
fn a_refused_command_spoils_the_transaction() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    for wrong in [&["SET", "a"][..], &["NOSUCH"], &["SAVE"]] {
        c.ok(&["MULTI"]);
        assert_eq!(c.call(&["SET", "a", "1"]), QUEUED());
        assert!(c.call(wrong).is_error());
        assert_eq!(c.error(&["EXEC"]), "EXECABORT Transaction discarded because of previous errors.");
        assert_eq!(c.call(&["GET", "a"]), Reply::Null);
    }
    assert_eq!(c.error(&["EXEC"]), "ERR EXEC without MULTI");
    assert_eq!(c.error(&["DISCARD"]), "ERR DISCARD without MULTI");
    c.ok(&["MULTI"]);
    assert_eq!(c.error(&["MULTI"]), "ERR MULTI calls can not be nested");
    assert_eq!(c.error(&["WATCH", "a"]), "ERR WATCH inside MULTI is not allowed");
    assert_eq!(c.call(&["PING"]), QUEUED());
    assert_eq!(c.call(&["EXEC"]), Reply::Array(vec![Reply::status("PONG")]));
}

#[test]
fn a_watched_key_that_changes_ends_the_transaction() {
    let node = Node::start(&[]);
    let (mut c, mut other) = (node.connect(), node.connect());
    for (before, change) in [
        (None, &["SET", "k", "1"][..]),
        (Some("1"), &["SET", "k", "2"]),
        (Some("1"), &["DEL", "k"]),
        (Some("1"), &["EXPIRE", "k", "100"]),
        (Some("1"), &["FLUSHALL"]),
    ] {
        c.ok(&["FLUSHALL"]);
        if let Some(value) = before {
            c.ok(&["SET", "k", value]);
        }
        c.ok(&["WATCH", "k"]);
        assert!(!other.call(change).is_error());
        c.ok(&["MULTI"]);
        assert_eq!(c.call(&["SET", "mine", "1"]), QUEUED());
        assert_eq!(c.call(&["EXEC"]), Reply::NullArray, "{change:?}");
        assert_eq!(c.call(&["GET", "mine"]), Reply::Null, "{change:?}");
    }
}

#[test]
fn what_was_not_changed_or_is_no_longer_watched_does_not_matter() {
    let node = Node::start(&[]);
    let (mut c, mut other) = (node.connect(), node.connect());
    c.ok(&["SET", "k", "1"]);
    c.ok(&["WATCH", "k", "absent"]);
    other.ok(&["SET", "elsewhere", "1"]);
    assert_eq!(other.call(&["GET", "k"]), bulk("1"));
    c.ok(&["MULTI"]);
    assert_eq!(c.call(&["GET", "k"]), QUEUED());
    assert_eq!(c.call(&["EXEC"]), bulks(&["1"]));
    for forget in [&["UNWATCH"][..], &["RESET"]] {
        c.ok(&["WATCH", "k"]);
        other.ok(&["SET", "k", "2"]);
        assert!(!c.call(forget).is_error());
        c.ok(&["MULTI"]);
        assert_eq!(c.call(&["SET", "k", "1"]), QUEUED());
        assert_eq!(c.call(&["EXEC"]), Reply::Array(vec![Reply::Ok]));
    }
    // EXEC of reads only goes another way and must see the change as well.
    c.ok(&["WATCH", "k"]);
    other.ok(&["SET", "k", "3"]);
    c.ok(&["MULTI"]);
    assert_eq!(c.call(&["GET", "k"]), QUEUED());
    assert_eq!(c.call(&["EXEC"]), Reply::NullArray);
}

#[test]
fn commands_of_the_server_keep_their_places_and_select_holds() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["MULTI"]);
    for parts in [
        &["SET", "k", "zero"][..],
        &["ECHO", "hi"],
        &["SELECT", "5"],
        &["SET", "k", "five"],
        &["CLIENT", "GETNAME"],
        &["GET", "k"],
    ] {
        assert_eq!(c.call(parts), QUEUED());
    }
    assert_eq!(
        c.call(&["EXEC"]),
        Reply::Array(vec![Reply::Ok, bulk("hi"), Reply::Ok, Reply::Ok, Reply::Null, bulk("five")])
    );
    assert_eq!(c.call(&["GET", "k"]), bulk("five"), "the connection stays in the database that was selected");
    c.ok(&["SELECT", "0"]);
    assert_eq!(c.call(&["GET", "k"]), bulk("zero"));
}

#[test]
fn keys_of_several_groups_cannot_be_one_transaction() {
    let node = Node::start(&["--groups", "4"]);
    let mut c = node.connect();
    // Slots 12182 and 5061: different groups of four.
    c.ok(&["MULTI"]);
    assert_eq!([c.call(&["SET", "foo", "1"]), c.call(&["SET", "bar", "1"])], [QUEUED(), QUEUED()]);
    assert_eq!(c.error(&["EXEC"]), "CROSSSLOT Keys in request don't hash to the same slot");
    assert_eq!(c.error(&["MSET", "foo", "1", "bar", "2"]), "CROSSSLOT Keys in request don't hash to the same slot");
    // These are split.
    c.ok(&["SET", "foo", "1"]);
    c.ok(&["SET", "bar", "2"]);
    assert_eq!(c.call(&["MGET", "bar", "none", "foo"]), Reply::Array(vec![bulk("2"), Reply::Null, bulk("1")]));
    assert_eq!(c.call(&["EXISTS", "foo", "bar", "foo", "none"]), Reply::Int(3));
    assert_eq!(c.call(&["DBSIZE"]), Reply::Int(2));
    assert_eq!(c.call(&["DEL", "foo", "bar"]), Reply::Int(2));
    c.ok(&["MULTI"]);
    assert_eq!([c.call(&["SET", "{t}a", "1"]), c.call(&["SET", "{t}b", "2"])], [QUEUED(), QUEUED()]);
    assert_eq!(c.call(&["EXEC"]), Reply::Array(vec![Reply::Ok, Reply::Ok]));
}

#[test]
fn scan_walks_through_all_groups() {
    let node = Node::start(&["--groups", "3"]);
    let mut c = node.connect();
    for n in 0..500 {
        c.ok(&["SET", &format!("key:{n}"), "v"]);
    }
    let (mut cursor, mut seen) = ("0".to_string(), std::collections::BTreeSet::new());
    loop {
        let Reply::Array(parts) = c.call(&["SCAN", &cursor, "COUNT", "20"]) else { panic!("SCAN is an array") };
        let [Reply::Bulk(next), Reply::Array(keys)] = parts.as_slice() else { panic!("{parts:?}") };
        seen.extend(keys.iter().map(|key| format!("{key:?}")));
        cursor = String::from_utf8_lossy(next).into_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 500);
    assert!(matches!(c.call(&["RANDOMKEY"]), Reply::Bulk(_)));
    assert!(matches!(c.call(&["KEYS", "key:1*"]), Reply::Array(keys) if keys.len() == 111));
    c.ok(&["FLUSHALL"]);
    assert_eq!(c.call(&["DBSIZE"]), Reply::Int(0));
}
