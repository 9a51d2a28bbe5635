//! Commands that wait for an element, on one node.

mod support;

use std::time::{Duration, Instant};

use quoris_resp::{Argv, Reply};
use support::{Connection, Node, bulk, bulks, until};

/// Waits until so many clients wait.
fn until_blocked(c: &mut Connection, count: usize) {
    until("clients wait", || c.info("blocked_clients") == count.to_string());
}

/// A connection on which a command waits by now; so many do.
fn waiting<T: AsRef<[u8]>>(node: &Node, parts: &[T], count: usize) -> Connection {
    let mut c = node.connect();
    c.send(parts);
    until_blocked(&mut node.connect(), count);
    c
}

fn int(n: i64) -> Reply {
    Reply::Int(n)
}

/// What somebody who feeds does, on two connections.
type Feed<'a> = &'a dyn Fn(&mut Connection, &mut Connection);

#[test]
fn who_came_first_is_served_first() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    let mut one = waiting(&node, &["BLPOP", "nosuch", "q", "0"], 1);
    let mut two = waiting(&node, &["BRPOP", "q", "0"], 2);
    let mut three = waiting(&node, &["BLMPOP", "0", "1", "q", "LEFT", "COUNT", "10"], 3);
    assert_eq!(c.call(&["RPUSH", "q", "a", "b", "c", "d"]), int(4));
    assert_eq!(one.reply(), bulks(&["q", "a"]));
    assert_eq!(two.reply(), bulks(&["q", "d"]));
    assert_eq!(three.reply(), Reply::Array(vec![bulk("q"), bulks(&["b", "c"])]));
    assert_eq!(c.call(&["EXISTS", "q"]), int(0));
    // The command that stands behind a push finds what those who wait have left.
    let mut one = waiting(&node, &["BLPOP", "q", "0"], 1);
    let pipeline = [&["RPUSH", "q", "x"][..], &["LLEN", "q"], &["LPOP", "q"]].map(Argv::from_parts);
    c.raw(&pipeline.map(|argv| argv.frame().clone()).concat());
    assert_eq!([c.reply(), c.reply(), c.reply()], [int(1), int(0), Reply::Null]);
    assert_eq!(one.reply(), bulks(&["q", "x"]));
    until_blocked(&mut c, 0);
}

#[test]
fn a_transaction_is_seen_only_as_a_whole() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    let mut one = waiting(&node, &["BLPOP", "q", "0"], 1);
    for parts in [&["MULTI"][..], &["RPUSH", "q", "a"], &["DEL", "q"], &["SET", "q", "x"]] {
        c.call(parts);
    }
    assert_eq!(c.call(&["EXEC"]), Reply::Array(vec![int(1), int(1), Reply::Ok]));
    // Another type is as good as no key for one who waits, and an error for one who comes.
    assert!(node.connect().error(&["BLPOP", "q", "0"]).starts_with("WRONGTYPE "));
    assert_eq!(c.call(&["DEL", "q"]), int(1));
    for parts in [&["MULTI"][..], &["LPUSH", "q", "a"], &["LPUSH", "q", "b"], &["LPUSH", "q", "c"]] {
        c.call(parts);
    }
    assert_eq!(c.call(&["EXEC"]), Reply::Array(vec![int(1), int(2), int(3)]));
    assert_eq!(one.reply(), bulks(&["q", "c"]));
    assert_eq!(c.call(&["LRANGE", "q", "0", "-1"]), bulks(&["b", "a"]));
}

#[test]
fn elements_wander_over_several_who_wait() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    let mut first = waiting(&node, &["BLMOVE", "a", "b", "LEFT", "RIGHT", "0"], 1);
    let mut second = waiting(&node, &["BRPOPLPUSH", "b", "c", "0"], 2);
    let mut third = waiting(&node, &["BLPOP", "c", "0"], 3);
    let mut failing = waiting(&node, &["BLMOVE", "d", "text", "LEFT", "LEFT", "0"], 4);
    assert_eq!(c.call(&["RPUSH", "a", "x"]), int(1));
    assert_eq!([first.reply(), second.reply(), third.reply()], [bulk("x"), bulk("x"), bulks(&["c", "x"])]);
    // Where it cannot be put it is not taken, and whoever comes next gets it.
    c.ok(&["SET", "text", "t"]);
    let mut next = waiting(&node, &["BLPOP", "d", "0"], 2);
    assert_eq!(c.call(&["RPUSH", "d", "y", "z"]), int(2));
    assert!(matches!(failing.reply(), Reply::Error(text) if text.starts_with(b"WRONGTYPE ")));
    assert_eq!(next.reply(), bulks(&["d", "y"]));
    assert_eq!(c.call(&["LRANGE", "d", "0", "-1"]), bulks(&["z"]));
    // In a circle.
    let mut one = waiting(&node, &["BLMOVE", "e", "f", "LEFT", "LEFT", "0"], 1);
    let mut two = waiting(&node, &["BLMOVE", "f", "e", "LEFT", "LEFT", "0"], 2);
    assert_eq!(c.call(&["RPUSH", "e", "x"]), int(1));
    assert_eq!([one.reply(), two.reply()], [bulk("x"), bulk("x")]);
    assert_eq!(c.call(&["LRANGE", "e", "0", "-1"]), bulks(&["x"]));
}

#[test]
fn a_list_may_come_in_any_way() {
    let node = Node::start(&[]);
    let (mut c, mut other) = (node.connect(), node.connect());
    other.ok(&["SELECT", "1"]);
    assert_eq!(c.call(&["RPUSH", "l", "a"]), int(1));
    let Reply::Bulk(dump) = c.call(&["DUMP", "l"]) else { panic!("no dump") };
    let feed: [Feed; 6] = [
        &|c, _| c.ok(&["RENAME", "l", "q"]),
        &|c, _| c.ok(&[&b"RESTORE"[..], b"q", b"0", &dump]),
        &|c, _| {
            c.call(&["RPUSH", "l", "a"]);
            assert_eq!(c.call(&["COPY", "l", "q"]), int(1));
        },
        &|_, other| {
            other.call(&["RPUSH", "q", "a"]);
            assert_eq!(other.call(&["MOVE", "q", "0"]), int(1));
        },
        &|_, other| {
            other.call(&["RPUSH", "q", "a"]);
            other.ok(&["SWAPDB", "0", "1"]);
        },
        &|c, _| {
            let script = "redis.call('RPUSH', KEYS[1], 'x') redis.call('LSET', KEYS[1], 0, 'a') return 7";
            assert_eq!(c.call(&["EVAL", script, "1", "q"]), int(7));
        },
    ];
    for (at, feed) in feed.iter().enumerate() {
        let mut one = waiting(&node, &["BLPOP", "q", "0"], 1);
        feed(&mut c, &mut other);
        assert_eq!(one.reply(), bulks(&["q", "a"]), "way {at}");
        until_blocked(&mut c, 0);
    }
    // Three elements at once serve three.
    let waiters: Vec<Connection> = (1..=4).map(|n| waiting(&node, &["BLPOP", "q", "0"], n)).collect();
    c.call(&["RPUSH", "k", "a", "b", "c"]);
    c.ok(&["RENAME", "k", "q"]);
    let mut waiters = waiters.into_iter();
    for element in ["a", "b", "c"] {
        assert_eq!(waiters.next().expect("one of four").reply(), bulks(&["q", element]));
    }
    until_blocked(&mut c, 1);
}

#[test]
fn waiting_ends_in_time_or_when_it_is_told_to() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    for command in
        [&["BLPOP", "q", "0.3"][..], &["BLMOVE", "q", "k", "LEFT", "LEFT", "0.3"], &["BLMPOP", "0.3", "1", "q", "LEFT"]]
    {
        let began = Instant::now();
        assert_eq!(c.call(command), Reply::NullArray);
        let took = began.elapsed();
        assert!((Duration::from_millis(300)..Duration::from_millis(1300)).contains(&took), "{took:?}");
    }
    c.call(&["RPUSH", "q", "a"]);
    assert_eq!(c.call(&["BLPOP", "q", "0.001"]), bulks(&["q", "a"]), "what is there needs no time");
    for (how, reply) in [
        (&["TIMEOUT"][..], Reply::NullArray),
        (&[], Reply::NullArray),
        (&["ERROR"], Reply::error("UNBLOCKED client unblocked via CLIENT UNBLOCK")),
    ] {
        let mut one = node.connect();
        let Reply::Int(id) = one.call(&["CLIENT", "ID"]) else { panic!("no id") };
        let id = id.to_string();
        let unblock = [&["CLIENT", "UNBLOCK", &id][..], how].concat();
        assert_eq!(c.call(&unblock), int(0), "it does not wait yet");
        one.send(&["BRPOP", "q", "0"]);
        until_blocked(&mut c, 1);
        let line = c.text(&["CLIENT", "LIST", "ID", &id]);
        assert!(line.contains(" flags=b ") && line.contains(" cmd=brpop "), "{line}");
        assert_eq!(c.call(&unblock), int(1));
        assert_eq!(one.reply(), reply);
        assert_eq!(c.call(&unblock), int(0));
        assert_eq!(one.call(&["PING"]), Reply::status("PONG"));
    }
    c.call(&["RPUSH", "q", "left"]);
    assert_eq!(c.call(&["LLEN", "q"]), int(1), "nobody waits any more");
}

#[test]
fn what_stands_in_front_is_answered_and_what_stands_behind_waits() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    let mut one = node.connect();
    let pipeline = [&["SET", "k", "1"][..], &["PING"], &["BLPOP", "q", "0"], &["INCR", "k"]].map(Argv::from_parts);
    one.raw(&pipeline.map(|argv| argv.frame().clone()).concat());
    assert_eq!([one.reply(), one.reply()], [Reply::Ok, Reply::status("PONG")]);
    until_blocked(&mut c, 1);
    assert_eq!(c.call(&["GET", "k"]), bulk("1"));
    // What is sent later waits as well.
    one.send(&["GET", "k"]);
    c.call(&["RPUSH", "q", "a"]);
    assert_eq!([one.reply(), one.reply(), one.reply()], [bulks(&["q", "a"]), int(2), bulk("2")]);
    assert!(c.text(&["INFO", "commandstats"]).contains("cmdstat_blpop:calls=1,"));
}

#[test]
fn who_leaves_takes_nothing() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    for way in 0..3 {
        let one = waiting(&node, &["BLPOP", "q", "k", "0"], 1);
        match way {
            0 => drop(one),
            1 => one.stream.shutdown(std::net::Shutdown::Write).expect("a socket"),
            _ => {
                let line = c.text(&["CLIENT", "LIST"]);
                let line = line.lines().find(|line| line.contains("cmd=blpop")).expect("it waits");
                let id = line.strip_prefix("id=").and_then(|rest| rest.split(' ').next()).expect("an id");
                assert_eq!(c.call(&["CLIENT", "KILL", "ID", id]), int(1));
            }
        }
        until_blocked(&mut c, 0);
        assert_eq!(c.call(&["RPUSH", "q", "a"]), int(1));
        assert_eq!(c.call(&["LPOP", "q"]), bulk("a"), "way {way}");
    }
}

#[test]
fn a_pause_holds_back_and_the_timeout_begins_behind_it() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["CLIENT", "PAUSE", "1000000", "WRITE"]);
    let mut one = waiting(&node, &["BLPOP", "q", "0.05"], 1);
    c.ok(&["CLIENT", "UNPAUSE"]);
    assert_eq!(one.reply(), Reply::NullArray);
    let mut one = waiting(&node, &["BLPOP", "q", "0"], 1);
    c.ok(&["CLIENT", "PAUSE", "1000000", "WRITE"]);
    let mut two = node.connect();
    two.send(&["RPUSH", "q", "a"]);
    until_blocked(&mut c, 2);
    c.ok(&["CLIENT", "UNPAUSE"]);
    assert_eq!([one.reply(), two.reply()], [bulks(&["q", "a"]), int(1)]);
}

#[test]
fn readers_of_streams_wait_beside_each_other_and_consumers_in_a_line() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.call(&["XADD", "s", "1-1", "f", "v"]);
    let entry = |id: &str| Reply::Array(vec![bulk(id), bulks(&["f", "v"])]);
    let of = |entries: Vec<Reply>| Reply::Array(vec![Reply::Array(vec![bulk("s"), Reply::Array(entries)])]);
    assert_eq!(c.call(&["XREAD", "BLOCK", "0", "STREAMS", "s", "0"]), of(vec![entry("1-1")]));
    assert_eq!(c.call(&["XREAD", "BLOCK", "20", "STREAMS", "s", "$"]), Reply::NullArray);
    let mut readers: Vec<Connection> =
        (1..=3).map(|n| waiting(&node, &["XREAD", "BLOCK", "0", "STREAMS", "nosuch", "s", "$", "$"], n)).collect();
    c.ok(&["SET", "nosuch", "x"]);
    assert_eq!(c.call(&["DEL", "nosuch"]), int(1));
    c.call(&["XADD", "s", "2-1", "f", "v"]);
    readers.iter_mut().for_each(|reader| assert_eq!(reader.reply(), of(vec![entry("2-1")])));
    c.ok(&["XGROUP", "CREATE", "s", "g", "$"]);
    c.ok(&["XGROUP", "CREATE", "s", "h", "$"]);
    let take = |group, consumer| ["XREADGROUP", "GROUP", group, consumer, "BLOCK", "0", "STREAMS", "s", ">"];
    let mut first = waiting(&node, &take("g", "one"), 1);
    let mut second = waiting(&node, &take("g", "two"), 2);
    let mut beside = waiting(&node, &take("h", "one"), 3);
    c.call(&["XADD", "s", "3-1", "f", "v"]);
    assert_eq!([first.reply(), beside.reply()], [of(vec![entry("3-1")]), of(vec![entry("3-1")])]);
    until_blocked(&mut c, 1);
    c.call(&["XADD", "s", "4-1", "f", "v"]);
    assert_eq!(second.reply(), of(vec![entry("4-1")]));
    let mut lost = waiting(&node, &take("g", "one"), 1);
    assert_eq!(c.call(&["XGROUP", "DESTROY", "s", "g"]), int(1));
    assert!(matches!(lost.reply(), Reply::Error(text) if text.starts_with(b"NOGROUP ")));
    until_blocked(&mut c, 0);
}

#[test]
fn elements_of_sorted_sets_come_by_score() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    let mut min = waiting(&node, &["BZPOPMIN", "nosuch", "z", "0"], 1);
    let mut max = waiting(&node, &["BZPOPMAX", "z", "0"], 2);
    let mut many = waiting(&node, &["BZMPOP", "0", "1", "z", "MIN", "COUNT", "10"], 3);
    // A list is not what they wait for, and who waits for a list does not stand in their way.
    let mut list = waiting(&node, &["BLPOP", "z", "0"], 4);
    assert_eq!(c.call(&["RPUSH", "z", "a"]), int(1));
    assert_eq!(list.reply(), bulks(&["z", "a"]));
    assert_eq!(c.call(&["ZADD", "z", "1", "a", "2", "b", "3", "c", "4", "d"]), int(4));
    assert_eq!([min.reply(), max.reply()], [bulks(&["z", "a", "1"]), bulks(&["z", "d", "4"])]);
    let rest = Reply::Array(vec![bulks(&["b", "2"]), bulks(&["c", "3"])]);
    assert_eq!(many.reply(), Reply::Array(vec![bulk("z"), rest]));
    let mut stored = waiting(&node, &["BZPOPMIN", "z", "0"], 1);
    c.call(&["ZADD", "k", "5", "m"]);
    assert_eq!(c.call(&["ZUNIONSTORE", "z", "1", "k"]), int(1));
    assert_eq!(stored.reply(), bulks(&["z", "m", "5"]));
}

#[test]
fn who_waits_for_many_does_not_hold_up_who_waits_for_one() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    let mut many = waiting(&node, &["BLMOVEM", "q", "to", "LEFT", "RIGHT", "0", "EXACTLY", "3", "BULK"], 1);
    let mut one = waiting(&node, &["BLPOP", "q", "0"], 2);
    assert_eq!(c.call(&["RPUSH", "q", "a", "b", "c"]), int(3));
    assert_eq!(many.reply(), bulks(&["a", "b", "c"]));
    assert_eq!(c.call(&["RPUSH", "q", "d"]), int(1));
    assert_eq!(one.reply(), bulks(&["q", "d"]));
    let mut many = waiting(&node, &["BLMOVEM", "q", "to", "LEFT", "LEFT", "0", "EXACTLY", "2", "OBO"], 1);
    let mut one = waiting(&node, &["BLPOP", "q", "0"], 2);
    assert_eq!(c.call(&["RPUSH", "q", "x"]), int(1));
    assert_eq!(one.reply(), bulks(&["q", "x"]));
    assert_eq!([c.call(&["RPUSH", "q", "y"]), c.call(&["RPUSH", "q", "z"])], [int(1), int(2)]);
    assert_eq!(many.reply(), bulks(&["z", "y"]));
    until_blocked(&mut c, 0);
}
