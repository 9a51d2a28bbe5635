//! Channels, patterns and notifications of keys, on one node.

mod support;

use std::time::Instant;

use quoris_resp::{Argv, Reply};
use support::{Connection, Node, WITHIN, bulk, bulks, until};

fn int(n: i64) -> Reply {
    Reply::Int(n)
}

fn said(word: &str, name: &str, count: i64) -> Reply {
    Reply::Array(vec![bulk(word), bulk(name), int(count)])
}

fn message(channel: &str, payload: &str) -> Reply {
    bulks(&["message", channel, payload])
}

/// The same as a push of RESP3.
fn pushed(reply: Reply) -> Reply {
    let Reply::Array(parts) = reply else { panic!("an array") };
    Reply::Push(parts)
}

#[test]
fn channels_and_patterns_get_their_messages_in_order() {
    let node = Node::start(&[]);
    let (mut a, mut b, mut c) = (node.connect(), node.connect(), node.connect());
    assert_eq!(c.call(&["PUBLISH", "x", "nobody"]), int(0));
    a.send(&["SUBSCRIBE", "x", "y", "x"]);
    assert_eq!([a.reply(), a.reply()], [said("subscribe", "x", 1), said("subscribe", "y", 2)]);
    assert_eq!(a.reply(), said("subscribe", "x", 2));
    assert_eq!(b.call(&["PSUBSCRIBE", "?"]), said("psubscribe", "?", 1));
    assert_eq!(b.call(&["PSUBSCRIBE", "x*"]), said("psubscribe", "x*", 2));
    assert_eq!(b.call(&["SUBSCRIBE", "x"]), said("subscribe", "x", 3));
    assert_eq!(c.call(&["PUBLISH", "x", "1"]), int(4));
    assert_eq!(c.call(&["PUBLISH", "xx", "2"]), int(1));
    assert_eq!(c.call(&["PUBLISH", "y", "3"]), int(2));
    assert_eq!([a.reply(), a.reply()], [message("x", "1"), message("y", "3")]);
    let mut got: Vec<Reply> = (0..5).map(|_| b.reply()).collect();
    assert_eq!(got.pop(), Some(bulks(&["pmessage", "?", "y", "3"])));
    assert_eq!(got.pop(), Some(bulks(&["pmessage", "x*", "xx", "2"])));
    for expected in [message("x", "1"), bulks(&["pmessage", "?", "x", "1"]), bulks(&["pmessage", "x*", "x", "1"])] {
        assert!(got.contains(&expected), "{got:?}");
    }
    assert_eq!(c.call(&["PUBSUB", "CHANNELS"]), bulks(&["x", "y"]));
    assert_eq!(c.call(&["PUBSUB", "CHANNELS", "y*"]), bulks(&["y"]));
    let counts = Reply::Array(vec![bulk("x"), int(2), bulk("z"), int(0)]);
    assert_eq!(c.call(&["PUBSUB", "NUMSUB", "x", "z"]), counts);
    assert_eq!(c.call(&["PUBSUB", "NUMPAT"]), int(2));
    assert_eq!([c.info("pubsub_channels"), c.info("pubsub_patterns")], ["2", "2"]);
    assert_eq!([c.info("pubsub_messages_published"), c.info("pubsub_messages_delivered")], ["4", "7"]);
    // One pipeline, one entry: the order stays.
    let pipeline: Vec<u8> =
        (0..500).flat_map(|n| Argv::from_parts(&["PUBLISH", "y", &n.to_string()]).frame().to_vec()).collect();
    c.raw(&pipeline);
    for n in 0..500 {
        assert_eq!(c.reply(), int(2));
        assert_eq!(a.reply(), message("y", &n.to_string()));
    }
}

#[test]
fn who_leaves_gets_no_more() {
    let node = Node::start(&[]);
    let (mut a, mut c) = (node.connect(), node.connect());
    assert_eq!(a.call(&["UNSUBSCRIBE"]), Reply::Array(vec![bulk("unsubscribe"), Reply::Null, int(0)]));
    assert_eq!(a.call(&["PUNSUBSCRIBE", "p"]), said("punsubscribe", "p", 0));
    assert_eq!(a.call(&["SUBSCRIBE", "x"]), said("subscribe", "x", 1));
    assert_eq!(a.call(&["PSUBSCRIBE", "x*"]), said("psubscribe", "x*", 2));
    for round in 0..50 {
        assert_eq!(c.call(&["PUBLISH", "x", "m"]), int(2), "round {round}");
        assert_eq!([a.reply(), a.reply()], [message("x", "m"), bulks(&["pmessage", "x*", "x", "m"])]);
        a.send(&["UNSUBSCRIBE"]);
        assert_eq!(a.reply(), said("unsubscribe", "x", 1));
        assert_eq!(c.call(&["PUBLISH", "x", "n"]), int(1));
        assert_eq!(a.reply(), bulks(&["pmessage", "x*", "x", "n"]));
        assert_eq!(a.call(&["SUBSCRIBE", "x"]), said("subscribe", "x", 2));
    }
    // Whose connection ends is not counted any more; RESET leaves all at once.
    let mut b = node.connect();
    assert_eq!(b.call(&["SUBSCRIBE", "x"]), said("subscribe", "x", 1));
    drop(b);
    until("it is forgotten", || c.call(&["PUBLISH", "x", "gone"]) == int(2));
    a.send(&["RESET"]);
    while a.reply() != Reply::status("RESET") {}
    assert_eq!(c.call(&["PUBLISH", "x", "gone"]), int(0));
    a.ok(&["SET", "k", "v"]);
    assert_eq!(c.call(&["PUBSUB", "NUMPAT"]), int(0));
}

#[test]
fn the_protocol_decides_what_a_subscriber_may_do() {
    let node = Node::start(&[]);
    let (mut two, mut three, mut c) = (node.connect(), node.connect(), node.connect());
    assert_eq!(two.call(&["SUBSCRIBE", "x"]), said("subscribe", "x", 1));
    let error = two.error(&["GET", "k"]);
    let expected = "ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
    assert_eq!(error, expected);
    assert!(two.error(&["CLIENT", "ID"]).starts_with("ERR Can't execute 'client|id': only "));
    assert_eq!(two.call(&["PING", "hi"]), bulks(&["pong", "hi"]));
    assert!(matches!(three.call(&["HELLO", "3"]), Reply::Map(_)));
    assert_eq!(three.call(&["SUBSCRIBE", "x"]), pushed(said("subscribe", "x", 1)));
    assert_eq!(three.call(&["SSUBSCRIBE", "x"]), pushed(said("ssubscribe", "x", 1)));
    assert_eq!(three.call(&["PING"]), Reply::status("PONG"));
    assert_eq!(c.call(&["PUBLISH", "x", "m"]), int(2));
    assert_eq!(two.reply(), message("x", "m"));
    assert_eq!(three.reply(), pushed(message("x", "m")));
    assert_eq!(c.call(&["SPUBLISH", "x", "s"]), int(1));
    assert_eq!(three.reply(), pushed(bulks(&["smessage", "x", "s"])));
    assert_eq!(c.call(&["PUBSUB", "SHARDCHANNELS"]), bulks(&["x"]));
    assert_eq!(c.call(&["PUBSUB", "SHARDNUMSUB", "x"]), Reply::Array(vec![bulk("x"), int(1)]));
    assert_eq!(three.call(&["SUNSUBSCRIBE"]), pushed(said("sunsubscribe", "x", 0)));
    // Its own message comes beside its reply.
    three.send(&["PUBLISH", "x", "own"]);
    let replies = [three.reply(), three.reply()];
    assert!(replies.contains(&int(2)) && replies.contains(&pushed(message("x", "own"))), "{replies:?}");
    let line = c.text(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    assert_eq!(line.matches(" sub=1 psub=0 ssub=0 ").count(), 2, "{line}");
}

#[test]
fn transactions_and_scripts_publish() {
    let node = Node::start(&[]);
    let (mut a, mut c) = (node.connect(), node.connect());
    assert_eq!(a.call(&["SUBSCRIBE", "x"]), said("subscribe", "x", 1));
    for parts in [&["MULTI"][..], &["INCR", "n"], &["PUBLISH", "x", "1"], &["PUBLISH", "y", "1"]] {
        c.call(parts);
    }
    assert_eq!(c.call(&["EXEC"]), Reply::Array(vec![int(1), int(1), int(0)]));
    assert_eq!(a.reply(), message("x", "1"));
    assert_eq!(c.call(&["EVAL", "return redis.call('publish', 'x', '2')", "0"]), int(0));
    assert_eq!(a.reply(), message("x", "2"));
}

#[test]
fn keys_tell_what_happens_to_them() {
    let node = Node::start(&[]);
    let (mut a, mut c) = (node.connect(), node.connect());
    assert_eq!(a.call(&["PSUBSCRIBE", "__key*@0__:*"]), said("psubscribe", "__key*@0__:*", 1));
    c.ok(&["SET", "k", "quiet"]);
    c.ok(&["CONFIG", "SET", "notify-keyspace-events", "KEA"]);
    let mut told = |name: &str, key: &str| {
        let keyspace = format!("__keyspace@0__:{key}");
        let keyevent = format!("__keyevent@0__:{name}");
        assert_eq!(a.reply(), bulks(&["pmessage", "__key*@0__:*", &keyspace, name]));
        assert_eq!(a.reply(), bulks(&["pmessage", "__key*@0__:*", &keyevent, key]));
    };
    c.ok(&["SET", "k", "v"]);
    told("set", "k");
    c.ok(&["SET", "k", "v", "PX", "30"]);
    told("set", "k");
    told("expire", "k");
    told("expired", "k");
}

#[test]
fn who_does_not_read_is_cut_and_slows_nobody() {
    let node = Node::start(&["--client-output-buffer-limit", "pubsub 1mb 0 0"]);
    let (mut slow, mut fast, mut c) = (node.connect(), node.connect(), node.connect());
    assert_eq!(slow.call(&["SUBSCRIBE", "x"]), said("subscribe", "x", 1));
    assert_eq!(fast.call(&["SUBSCRIBE", "x"]), said("subscribe", "x", 1));
    let payload = "p".repeat(64 << 10);
    let began = Instant::now();
    let mut sent = 0;
    while c.call(&["PUBLISH", "x", &payload]) == int(2) {
        assert_eq!(fast.reply(), message("x", &payload));
        sent += 1;
        assert!(began.elapsed() < WITHIN, "{sent} messages and nobody is cut");
    }
    assert_eq!(fast.reply(), message("x", &payload));
    assert_eq!(c.info("client_output_buffer_limit_disconnections"), "1");
    let mut count = |field: &str| c.info(field).parse::<usize>().expect("a number");
    let (delivered, dropped) = (count("pubsub_messages_delivered"), count("pubsub_messages_dropped"));
    assert!(dropped >= 1, "{dropped} dropped");
    assert_eq!(delivered + dropped, 2 * sent + 1);
    // What it was sent before is still there, and then the end.
    let read = std::iter::from_fn(|| slow.next()).count();
    assert!(read < sent, "{read} of {sent}");
}

/// The scripts of two clients that know nothing of each other see the same.
#[test]
fn every_subscriber_gets_the_product() {
    const PUBLISHERS: usize = 4;
    const SUBSCRIBERS: usize = 6;
    const MESSAGES: usize = 300;
    let node = Node::start(&[]);
    let mut listening: Vec<Connection> = (0..SUBSCRIBERS).map(|_| node.connect()).collect();
    for c in &mut listening {
        assert_eq!(c.call(&["SUBSCRIBE", "c"]), said("subscribe", "c", 1));
    }
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|name| {
            let mut c = node.connect();
            std::thread::spawn(move || {
                for n in 0..MESSAGES {
                    assert_eq!(c.call(&["PUBLISH", "c", &format!("{name}:{n}")]), int(SUBSCRIBERS as i64));
                }
            })
        })
        .collect();
    publishers.into_iter().for_each(|p| p.join().expect("every message was counted"));
    let read = |c: &mut Connection| (0..PUBLISHERS * MESSAGES).map(|_| c.reply()).collect::<Vec<_>>();
    let first = read(&mut listening[0]);
    for c in &mut listening[1..] {
        assert_eq!(read(c), first, "one order");
    }
    let delivered = node.connect().info("pubsub_messages_delivered");
    assert_eq!(delivered.parse(), Ok(PUBLISHERS * SUBSCRIBERS * MESSAGES));
}

#[test]
fn a_confirmation_in_a_transaction_is_its_reply() {
    let scene = |node: &Node| {
        let (mut a, mut c) = (node.connect(), node.connect());
        for parts in [&["MULTI"][..], &["INCR", "n"], &["SUBSCRIBE", "m"], &["UNSUBSCRIBE", "none"]] {
            a.call(parts);
        }
        let reply = a.call(&["EXEC"]);
        c.call(&["PUBLISH", "m", "heard"]);
        [reply, a.reply()]
    };
    let ours = scene(&Node::start(&[]));
    assert_eq!(ours[0], Reply::Array(vec![int(1), said("subscribe", "m", 1), said("unsubscribe", "none", 1)]));
    assert_eq!(ours, scene(&Node::redis(&[])));
}
