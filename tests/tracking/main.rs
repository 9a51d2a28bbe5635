//! Client-side caching on one node, beside redis-server: whoever tracks hears what he hears there, or more.

mod scenes;
#[path = "../scripts/script.rs"]
mod script;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use quoris_resp::{Argv, Reply};
use scenes::{Scene, Tracker};
use script::{Case, Target, remote, remote::RedisServer};
use support::{Node, bulk, bulks, until};

#[test]
fn what_is_heard_is_what_redis_tells() {
    let scenes: [(&str, Scene); 5] = [
        ("by key", scenes::by_key),
        ("by choice", scenes::by_choice),
        ("by beginning", scenes::by_beginning),
        ("by redirection", scenes::by_redirection),
        ("counted", scenes::counted),
    ];
    for (name, scene) in scenes {
        let redis = scene(&Node::redis(&[]));
        assert_eq!(scene(&Node::start(&[])), redis, "{name}");
    }
}

/// A target whose changes are listened to.
struct Spied {
    commands: remote::Connection,
    tracker: remote::Connection,
    /// For each command, what was heard; all keys of an emptied database are nothing.
    heard: Vec<(String, Option<BTreeSet<Vec<u8>>>)>,
}

impl Spied {
    fn open(address: &str, version: (u32, u32)) -> Spied {
        let connect = || remote::Connection::open(address, Some(version)).expect("it listens");
        let mut tracker = connect();
        tracker.call(&Argv::from_parts(&["HELLO", "3"]));
        assert_eq!(tracker.call(&Argv::from_parts(&["CLIENT", "TRACKING", "ON", "BCAST"])), Reply::Ok);
        Spied { commands: connect(), tracker, heard: Vec::new() }
    }

    fn listen(&mut self) -> Option<BTreeSet<Vec<u8>>> {
        let (mut heard, mut reply) = (Some(BTreeSet::new()), self.tracker.call(&Argv::from_parts(&["PING"])));
        loop {
            match reply {
                Reply::Push(parts) => match &parts[1] {
                    Reply::Array(keys) => keys.iter().for_each(|key| {
                        if let (Reply::Bulk(key), Some(heard)) = (key, &mut heard) {
                            heard.insert(key.to_vec());
                        }
                    }),
                    _ => heard = None,
                },
                Reply::Status(_) => return heard,
                other => panic!("{other:?}"),
            }
            reply = self.tracker.next_reply();
        }
    }
}

impl Target for Spied {
    fn reset(&mut self, case: &Case) {
        self.commands.reset(case);
        self.listen();
    }

    fn call(&mut self, argv: &Argv) -> Reply {
        let reply = self.commands.call(argv);
        let heard = self.listen();
        self.heard.push((argv.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "), heard));
        reply
    }

    fn wait(&mut self, ms: u64) {
        self.commands.wait(ms);
    }

    fn takes(&self, case: &Case) -> bool {
        // What expires is heard of when it is removed, which is not told by the command.
        self.commands.takes(case) && !case.steps.iter().any(|step| matches!(step, script::Step::Wait(_)))
    }
}

/// Beginnings of commands that Redis tells of although the keys stay as they are.
const NO_CHANGE: &[&str] = &["SET k v EXAT 1", "SET k v PXAT 1 GET", "GET k", "EXISTS k", "LTRIM l 0 -1", "PFCOUNT "];

#[test]
fn every_change_that_redis_tells_is_heard_here() {
    let server = RedisServer::start().expect("redis-server is installed");
    let node = Node::start(&["--enable-debug-command", "yes"]);
    let families = ["generic", "string", "list", "set", "hash", "zset", "geo", "stream", "bitmap", "hyperloglog"];
    let cases = script::cases(&[&families[..], &["scripting", "transactions"]].concat());
    let heard = [server.address.clone(), format!("127.0.0.1:{}", node.port)].map(|address| {
        let mut spied = Spied::open(&address, server.version);
        script::run(&mut spied, &cases);
        spied.heard
    });
    let [theirs, ours] = &heard;
    assert_eq!(theirs.len(), ours.len());
    let (mut more, mut keys, mut less) = (0, 0, Vec::new());
    for ((line, theirs), (_, ours)) in theirs.iter().zip(ours) {
        match (theirs, ours) {
            (_, None) => {}
            (None, Some(_)) => panic!("{line}: everything is gone, and nobody hears of it"),
            (Some(theirs), Some(ours)) if !theirs.is_subset(ours) => {
                if !NO_CHANGE.iter().any(|begin| line.starts_with(begin)) {
                    less.push(format!("{line}: {theirs:?}, here {ours:?}"));
                }
            }
            (Some(theirs), Some(ours)) => (more, keys) = (more + ours.len(), keys + theirs.len()),
        }
    }
    assert!(less.is_empty(), "{}", less.join("\n"));
    println!("{} commands, {keys} keys, here {more}", ours.len());
    assert!(keys > 700 && more < keys * 5 / 4, "hardly more is told than has changed");
}

#[test]
fn a_full_table_gives_up_the_oldest_key() {
    let node = Node::start(&["--tracking-table-max-keys", "2"]);
    let (mut t, mut w) = (Tracker::open(&node, "3"), node.connect());
    t.run("CLIENT TRACKING ON").run("GET a").run("GET b").run("GET a").run("GET c");
    assert_eq!(t.log.pop().expect("a line"), r#"GET c -> nil >["invalidate" ["a"]]"#);
    w.ok(&["CONFIG", "SET", "tracking-table-max-keys", "1"]);
    assert_eq!(t.heard(), [r#">["invalidate" ["b"]]"#]);
    w.ok(&["MSET", "a", "1", "b", "1", "c", "1"]);
    assert_eq!(t.heard(), [r#">["invalidate" ["c"]]"#]);
}

#[test]
fn who_wants_no_echo_still_hears_of_others() {
    let node = Node::start(&[]);
    let (mut t, mut w) = (Tracker::open(&node, "3"), node.connect());
    t.run("CLIENT TRACKING ON NOLOOP").run("GET a").run("SET a own");
    assert_eq!(t.log.pop().expect("a line"), "SET a own -> +OK");
    w.ok(&["SET", "a", "other"]);
    assert_eq!(t.heard(), [r#">["invalidate" ["a"]]"#], "what it wrote itself is kept as well");
}

#[test]
fn a_command_that_waited_is_not_to_be_kept() {
    let node = Node::start(&[]);
    let (mut t, mut w) = (Tracker::open(&node, "3"), node.connect());
    t.run("CLIENT TRACKING ON");
    t.connection.send(&["XREAD", "BLOCK", "0", "STREAMS", "s", "$"]);
    until("it waits", || w.info("blocked_clients") == "1");
    w.text(&["XADD", "s", "1-1", "f", "v"]);
    assert!(matches!(t.connection.reply(), Reply::Map(_)));
    assert_eq!(t.connection.reply(), Reply::Push(vec![bulk("invalidate"), bulks(&["s"])]));
}

/// The key's time comes while a transaction that reads it is on its way.
#[test]
fn what_another_connection_hears_it_hears_once() {
    let scene = |node: &Node| {
        let (mut t, mut r) = (Tracker::open(node, "2"), Tracker::open(node, "2"));
        let id = r.id();
        r.run("SUBSCRIBE __redis__:invalidate");
        t.run(&format!("CLIENT TRACKING ON BCAST NOLOOP REDIRECT {id}"));
        t.run_all(&["MULTI", "SET k v PX 1", "SET own v", "DEBUG SLEEP 0.1", "GET k", "EXEC"]);
        r.listen();
        t.run("SET own 2").run("GET k");
        r.listen().log.split_off(1)
    };
    let debug = ["--enable-debug-command", "yes"];
    assert_eq!(scene(&Node::start(&debug)), scene(&Node::redis(&debug)));
}

/// Some clients keep replies by command: an older reply about a key is no good, although the new one is.
#[test]
fn a_reply_that_shows_a_change_stands_behind_its_message() {
    const KEYS: usize = 60;
    let node = Node::start(&[]);
    let (mut t, mut w) = (node.connect(), node.connect());
    t.call(&["HELLO", "3"]);
    t.ok(&["CLIENT", "TRACKING", "ON"]);
    let names: Vec<String> = (0..KEYS).map(|n| format!("k{n}")).collect();
    let mut kept = BTreeSet::new();
    for (n, name) in names.iter().enumerate() {
        w.ok(&["SET", name, "v", "PX", &(200 + n * 5).to_string()]);
        assert_eq!(t.call(&["GET", name]), bulk("v"));
        kept.insert(name);
    }
    let all: Vec<&str> = ["MGET"].into_iter().chain(names.iter().map(String::as_str)).collect();
    until("all have expired", || {
        t.send(&all);
        let values = loop {
            match t.reply() {
                Reply::Push(parts) => match &parts[1] {
                    Reply::Array(keys) => kept.retain(|name| !keys.contains(&bulk(name))),
                    other => panic!("{other:?}"),
                },
                Reply::Array(values) => break values,
                other => panic!("{other:?}"),
            }
        };
        let gone = || names.iter().zip(&values).filter(|(_, value)| **value == Reply::Null);
        gone().for_each(|(name, _)| assert!(!kept.contains(name), "{name} has changed, and is kept"));
        gone().count() == KEYS
    });
}

/// The oracle is the history: a number is acknowledged before it is the floor of what may be kept.
#[test]
fn nothing_that_is_kept_is_older_than_the_last_answer() {
    const ROUNDS: usize = 3000;
    let node = Node::start(&[]);
    let acknowledged: [AtomicU64; 8] = Default::default();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut w = node.connect();
            for n in 1u64.. {
                if done.load(Ordering::Relaxed) {
                    return n;
                }
                let key = (n * 5 % 8) as usize;
                w.ok(&["SET", &format!("k{key}"), &n.to_string()]);
                acknowledged[key].store(n, Ordering::SeqCst);
            }
            0
        });
        let mut t = node.connect();
        t.call(&["HELLO", "3"]);
        t.ok(&["CLIENT", "TRACKING", "ON"]);
        let (mut kept, mut hits) = ([None; 8], 0);
        for round in 0..ROUNDS {
            let key = round % 8;
            let floors: Vec<u64> = acknowledged.iter().map(|n| n.load(Ordering::SeqCst)).collect();
            t.send(&["GET", &format!("k{key}")]);
            let value = loop {
                match t.reply() {
                    Reply::Push(parts) => match &parts[1] {
                        Reply::Array(keys) => keys.iter().for_each(|name| {
                            let at = (0..8).find(|at| *name == bulk(&format!("k{at}"))).expect("a key of ours");
                            kept[at] = None;
                        }),
                        other => panic!("{other:?}"),
                    },
                    Reply::Null => break 0,
                    Reply::Bulk(text) => break String::from_utf8_lossy(&text).parse().expect("a number"),
                    other => panic!("{other:?}"),
                }
            };
            kept[key] = Some(value);
            for (at, value) in kept.iter().enumerate() {
                let Some(value) = value else { continue };
                hits += usize::from(at != key);
                assert!(*value >= floors[at], "round {round}: k{at} is kept as {value}, {} is older", floors[at]);
            }
        }
        done.store(true, Ordering::Relaxed);
        let written = writing.join().expect("all was written");
        println!("{written} writes, {hits} values kept over a read of another key");
        assert!(hits > 0);
    });
}
