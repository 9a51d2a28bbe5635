//! Events read from a position, on one node: as streams, and by subscriptions that begin there.

mod support;

use std::thread;

use quoris_resp::Reply;
use support::{Connection, Node, bulk, bulks, until};

const NEWS: &str = "quoris:events:channel:news";

/// The entries of an XRANGE, or of the only stream of an XREAD: ids, and what stands behind the given field.
fn entries(reply: Reply, field: &str) -> Vec<(String, String)> {
    let Reply::Array(mut list) = reply else { panic!("{reply:?}") };
    if let [Reply::Array(stream)] = &list[..]
        && let [Reply::Bulk(name), Reply::Array(entries)] = &stream[..]
        && name.starts_with(b"quoris:events:")
    {
        list = entries.clone();
    }
    let text = |reply: &Reply| match reply {
        Reply::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("{other:?}"),
    };
    let entry = |entry: Reply| {
        let Reply::Array(parts) = entry else { panic!("{entry:?}") };
        let Reply::Array(fields) = &parts[1] else { panic!("{parts:?}") };
        let at = fields.iter().position(|name| *name == bulk(field)).expect("the field");
        (text(&parts[0]), text(&fields[at + 1]))
    };
    list.into_iter().map(entry).collect()
}

fn texts(entries: &[(String, String)]) -> Vec<&str> {
    entries.iter().map(|(_, text)| &text[..]).collect()
}

fn range(c: &mut Connection, name: &str, from: &str, to: &str) -> Vec<(String, String)> {
    let field = if name.contains(":keys:") { "event" } else { "message" };
    entries(c.call(&["XRANGE", name, from, to]), field)
}

fn end(c: &mut Connection, name: &str) -> String {
    let Reply::Array(parts) = c.call(&["XINFO", "STREAM", name]) else { panic!("an array") };
    let Reply::Bulk(id) = &parts[1] else { panic!("{parts:?}") };
    String::from_utf8_lossy(id).into_owned()
}

#[test]
fn messages_of_a_channel_are_a_stream() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    assert_eq!(c.call(&["XREAD", "STREAMS", NEWS, "0"]), Reply::NullArray);
    for text in ["a", "b", "c"] {
        c.call(&["PUBLISH", "news", text]);
        c.call(&["PUBLISH", "other", text]);
        c.call(&["SPUBLISH", "news", "sharded"]);
    }
    // One entry of the log, two places in it.
    assert_eq!(c.call(&["MULTI"]), Reply::Ok);
    c.call(&["PUBLISH", "news", "d"]);
    c.call(&["PUBLISH", "news", "e"]);
    c.call(&["EXEC"]);
    let all = range(&mut c, NEWS, "-", "+");
    assert_eq!(texts(&all), ["a", "b", "c", "d", "e"]);
    let ids: Vec<&str> = all.iter().map(|(id, _)| &id[..]).collect();
    assert!(ids.iter().all(|id| id.starts_with("1:")), "{ids:?}");
    assert!(ids[3].ends_with("-1") && ids[4].ends_with("-2"), "{ids:?}");
    assert_eq!(range(&mut c, NEWS, ids[1], ids[3]), all[1..4]);
    assert_eq!(range(&mut c, NEWS, &format!("({}", ids[1]), &format!("({}", ids[3])), all[2..3]);
    assert_eq!(range(&mut c, NEWS, &ids[1][2..], "+"), all[1..], "the one group may be left out");
    assert_eq!(range(&mut c, NEWS, "$", "+"), []);
    assert_eq!(entries(c.call(&["XRANGE", NEWS, "-", "+", "COUNT", "2"]), "message"), all[..2]);
    assert_eq!(c.call(&["XRANGE", NEWS, "-", "+", "COUNT", "0"]), Reply::NullArray);
    for (at, id) in ids.iter().enumerate() {
        let behind = c.call(&["XREAD", "COUNT", "10", "STREAMS", NEWS, id]);
        match at {
            4 => assert_eq!(behind, Reply::NullArray),
            _ => assert_eq!(entries(behind, "message"), all[at + 1..]),
        }
    }
    assert_eq!(texts(&range(&mut c, "quoris:events:shard:news", "-", "+")), ["sharded"; 3]);
    assert_eq!(texts(&range(&mut c, "quoris:events:channels:?the?", "-", "+")), ["a", "b", "c"]);
    assert_eq!(range(&mut c, "quoris:events:channels:*", "-", "+").len(), 8);
    let several =
        ["XREAD", "STREAMS", "quoris:events:shard:news", "quoris:events:channel:none", NEWS, "0", "0", ids[3]];
    let Reply::Array(streams) = c.call(&several) else { panic!("an array") };
    assert_eq!(streams.len(), 2);
    // What is no stream of events is as before.
    c.call(&["XADD", "quoris:other", "1-1", "f", "v"]);
    assert_eq!(
        c.call(&["XRANGE", "quoris:other", "-", "+"]),
        Reply::Array(vec![Reply::Array(vec![bulk("1-1"), bulks(&["f", "v"])])])
    );
}

#[test]
fn what_is_wrong_is_said() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.call(&["PUBLISH", "news", "a"]);
    for (line, error) in [
        (vec!["XRANGE", NEWS, "x", "+"], "ERR Invalid stream ID"),
        (vec!["XRANGE", NEWS, "9:1-1", "+"], "ERR 9:1-1 is no position of these events"),
        (vec!["XRANGE", NEWS, "1:999999-1", "+"], "ERR group 1 has not reached the position 1:999999"),
        (vec!["XRANGE", NEWS, "-", "+", "COUNT"], "ERR syntax error"),
        (vec!["XREVRANGE", NEWS, "+", "-"], "ERR events are read in the order"),
        (vec!["XRANGE", "quoris:events:what:news", "-", "+"], "ERR there are channel:NAME"),
        (vec!["XRANGE", "quoris:events:", "-", "+"], "ERR there are channel:NAME"),
        (vec!["XREAD", "STREAMS", NEWS, "k", "0", "0"], "ERR events and other streams"),
        (vec!["XREAD", "COUNT", "1", "STREAMS", NEWS], "ERR Unbalanced 'xread' list"),
        (vec!["PSUBSCRIBE", "quoris:events:from:1:999999:channel:news"], "ERR group 1 has not reached"),
        (vec!["PSUBSCRIBE", "quoris:events:from:channel:news"], "ERR Invalid stream ID"),
    ] {
        let said = c.error(&line);
        assert!(said.starts_with(error), "{line:?}: {said}");
    }
    c.ok(&["MULTI"]);
    assert!(c.error(&["XRANGE", NEWS, "-", "+"]).starts_with("ERR events cannot be read inside"));
    assert!(c.error(&["EXEC"]).starts_with("EXECABORT"));
}

#[test]
fn keys_are_told_as_streams_of_their_database() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["CONFIG", "SET", "notify-keyspace-events", "KEA"]);
    c.ok(&["SET", "user:1", "v"]);
    c.ok(&["SELECT", "2"]);
    c.ok(&["SET", "user:2", "v", "PX", "20"]);
    let keys = "quoris:events:keys:user:*";
    let mut told = Vec::new();
    until("it expires", || {
        told = range(&mut c, keys, "-", "+");
        told.len() >= 3
    });
    assert_eq!(texts(&told), ["set", "expire", "expired"]);
    c.ok(&["SELECT", "0"]);
    c.call(&["LPUSH", "list", "a"]);
    let reply = c.call(&["XRANGE", "quoris:events:keys:*", "-", "+"]);
    let names = entries(reply.clone(), "event");
    assert_eq!(texts(&names), ["set", "lpush"]);
    assert_eq!(texts(&entries(reply.clone(), "key")), ["user:1", "list"]);
    assert_eq!(texts(&entries(reply, "database")), ["0", "0"]);
    assert_eq!(c.info("events_string"), "2");
    assert_eq!([c.info("events_expired"), c.info("events_list"), c.info("events_message")], ["1", "1", "0"]);
}

#[test]
fn who_waits_is_woken_by_what_comes_next() {
    let node = Node::start(&[]);
    let (mut c, mut reader) = (node.connect(), node.connect());
    let mut publish = |channel: &str, text: &str| drop(c.call(&["PUBLISH", channel, text]));
    reader.send(&["XREAD", "BLOCK", "0", "STREAMS", NEWS, "$"]);
    let mut other = node.connect();
    until("it waits", || other.info("blocked_clients") == "1");
    publish("other", "nothing");
    publish("news", "first");
    let first = entries(reader.reply(), "message");
    assert_eq!(texts(&first), ["first"]);
    publish("news", "second");
    reader.send(&["XREAD", "BLOCK", "0", "STREAMS", NEWS, &first[0].0]);
    let second = entries(reader.reply(), "message");
    assert_eq!(texts(&second), ["second"]);
    assert_eq!(reader.call(&["XREAD", "BLOCK", "20", "STREAMS", NEWS, &second[0].0]), Reply::NullArray);
    // It may be ended, and the one behind it in the pipeline runs.
    reader.send(&["CLIENT", "ID"]);
    let Reply::Int(id) = reader.reply() else { panic!("a number") };
    reader.send(&["XREAD", "BLOCK", "0", "STREAMS", NEWS, "$"]);
    reader.send(&["PING"]);
    until("it waits", || other.call(&["CLIENT", "UNBLOCK", &id.to_string()]) == Reply::Int(1));
    assert_eq!([reader.reply(), reader.reply()], [Reply::NullArray, Reply::status("PONG")]);
    // RESP3 has a map.
    reader.call(&["HELLO", "3"]);
    publish("news", "third");
    match reader.call(&["XREAD", "STREAMS", NEWS, &second[0].0]) {
        Reply::Map(pairs) => assert_eq!(pairs[0].0, bulk(NEWS)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn below_the_floor_is_an_error_and_shows_where_to_go_on() {
    let node = Node::start(&["--event-retention-bytes", "1mb"]);
    let mut c = node.connect();
    c.call(&["PUBLISH", "news", "first"]);
    let first = range(&mut c, NEWS, "0", "+");
    assert_eq!(texts(&first), ["first"]);
    // Somebody who waits without getting anything does not fall behind.
    let mut quiet = node.connect();
    let nothing = ["XREAD", "STREAMS", "quoris:events:channel:quiet", &first[0].0];
    let large = "x".repeat(64 << 10);
    for round in 0..200 {
        c.call(&["PUBLISH", "news", &large]);
        if round % 10 == 0 {
            assert_eq!(quiet.call(&nothing), Reply::NullArray);
        }
    }
    assert_eq!(quiet.call(&nothing), Reply::NullArray);
    until("the floor rises", || matches!(c.call(&["XREAD", "STREAMS", NEWS, &first[0].0]), Reply::Error(_)));
    for from in ["0", &first[0].0] {
        let said = c.error(&["XREAD", "STREAMS", NEWS, from]);
        let floor = said.strip_prefix("BELOWFLOOR ").and_then(|text| text.rsplit(' ').next()).expect("a floor");
        assert!(floor.starts_with("1:"), "{said}");
        let rest = entries(c.call(&["XREAD", "STREAMS", NEWS, floor]), "message");
        // The latest events are in memory, 8 MiB of them.
        assert!(!rest.is_empty() && rest.len() < 150, "{}", rest.len());
        assert_eq!(rest, range(&mut c, NEWS, "-", "+"));
        let subscribe = format!("quoris:events:from:{from}:channel:news");
        assert!(c.error(&["PSUBSCRIBE", &subscribe]).starts_with("BELOWFLOOR "));
    }
    let now = end(&mut c, NEWS);
    c.call(&["PUBLISH", "news", "behind"]);
    assert_eq!(texts(&entries(c.call(&["XREAD", "STREAMS", NEWS, &now]), "message")), ["behind"]);
}

#[test]
fn a_subscription_begins_at_a_position() {
    let node = Node::start(&[]);
    let (mut c, mut listener) = (node.connect(), node.connect());
    c.ok(&["CONFIG", "SET", "notify-keyspace-events", "KEA"]);
    for n in 0..1000 {
        c.call(&["PUBLISH", "news", &n.to_string()]);
    }
    listener.call(&["HELLO", "3"]);
    let all = range(&mut c, NEWS, "-", "+");
    let name = format!("quoris:events:from:{}:channel:news", all[499].0);
    let confirmed = Reply::Push(vec![bulk("psubscribe"), bulk(&name), Reply::Int(1)]);
    assert_eq!(listener.call(&["PSUBSCRIBE", &name]), confirmed);
    let publisher = thread::spawn(move || {
        for n in 1000..2000 {
            c.call(&["PUBLISH", "news", &n.to_string()]);
        }
        c
    });
    let mut last = String::new();
    for n in 500..2000 {
        let Reply::Push(parts) = listener.reply() else { panic!("a push") };
        let [kind, pattern, place, payload] = &parts[..] else { panic!("{parts:?}") };
        assert_eq!([kind, pattern, payload], [&bulk("pmessage"), &bulk(&name), &bulk(&n.to_string())]);
        let Reply::Bulk(place) = place else { panic!("{place:?}") };
        let place = String::from_utf8_lossy(place).into_owned();
        last = place.strip_suffix(" news").expect("cursor and channel").to_string();
    }
    let mut c = publisher.join().expect("it publishes");
    assert_eq!(listener.call(&["XREAD", "STREAMS", NEWS, &last]), Reply::Null);
    // It ends, and beside it others begin.
    let left = Reply::Push(vec![bulk("punsubscribe"), bulk(&name), Reply::Int(0)]);
    assert_eq!(listener.call(&["PUNSUBSCRIBE", &name]), left);
    c.call(&["PUBLISH", "news", "nobody"]);
    let keys = format!("quoris:events:from:{last}:keys:k*");
    c.ok(&["SET", "k", "v"]);
    listener.call(&["PSUBSCRIBE", &keys]);
    let Reply::Push(parts) = listener.reply() else { panic!("a push") };
    let Reply::Bulk(place) = &parts[2] else { panic!("{parts:?}") };
    assert!(place.ends_with(b" __keyspace@0__:k"), "{parts:?}");
    assert_eq!(parts[3], bulk("set"));
}
